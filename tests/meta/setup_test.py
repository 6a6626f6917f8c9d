# SPDX-License-Identifier: Apache-2.0
"""tools/setup says what is missing and what to do about it: without sudo, with one that asks, without network, on another system."""
import os
import subprocess
import tempfile
import unittest

SETUP = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../tools/setup")
TOOLS = ["sh", "sed", "cat", "mktemp", "rm", "env", "id", "grep"]


class SetupTest(unittest.TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        for name in TOOLS:
            path = next(path for folder in ("/usr/bin", "/bin") if os.path.exists(path := f"{folder}/{name}"))
            os.symlink(path, f"{self.folder}/{name}")
        self.names = subprocess.run([SETUP, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()

    def have(self, name, text):
        path = f"{self.folder}/{name}"
        if os.path.lexists(path):
            os.unlink(path)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)

    def installed(self, *lacking, after=None):
        """What dpkg-query knows: all packages but these, and none of `lacking` any more once the file `after` is there."""
        whole = " ".join(f"installed:{name}" for name in self.names)
        some = " ".join(f"installed:{name}" for name in self.names if name not in lacking)
        self.have("dpkg-query", f"if [ -e '{after}' ]; then echo '{whole} '; else echo '{some} '; exit 1; fi")

    def run_setup(self, *words, user=1000):
        self.have("id", f"echo {user}")
        done = subprocess.run([SETUP, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, check=False,
                              env={"PATH": self.folder})
        return done.returncode, done.stdout

    def test_nothing_is_missing(self):
        self.installed()
        self.assertEqual(self.run_setup(), (0, ""))

    def test_it_installs_and_says_what_for(self):
        self.installed("gdb", "sudo", after=f"{self.folder}/done")
        self.have("apt-get", f"""echo "$*" >>'{self.folder}/log'; case "$1" in install) echo >'{self.folder}/done' ;; esac""")
        status, text = self.run_setup(user=0)
        self.assertEqual(status, 0, text)
        self.assertIn("setup:   to test it: gdb\n", text)
        self.assertTrue(text.endswith("setup: done\n"), text)
        with open(f"{self.folder}/log", encoding="utf-8") as file:
            update, install = file.read().splitlines()
        self.assertTrue(update.startswith("update") and install.endswith(" gdb"), (update, install))

    def test_check_only_tells(self):
        self.installed("gdb")
        status, text = self.run_setup("--check")
        self.assertEqual((status, text), (1, "setup: missing:\nsetup:   to test it: gdb\n"))

    def test_no_sudo(self):
        self.installed("gdb")
        status, text = self.run_setup()
        self.assertEqual(status, 1)
        self.assertIn("there is no sudo", text)
        self.assertIn("apt-get install --no-install-recommends gdb\n", text)

    def test_sudo_asks_and_gets_no_answer(self):
        self.installed("gdb")
        self.have("sudo", "echo 'sudo: a password is required' >&2; exit 1")
        status, text = self.run_setup()
        self.assertEqual(status, 1)
        self.assertIn("setup: sudo may ask for your password\n", text)
        self.assertIn("sudo: a password is required\nsetup: that failed: sudo apt-get update", text)
        self.assertIn("as root: apt-get update && apt-get install --no-install-recommends gdb\n", text)

    def test_sudo_that_asks_nothing(self):
        self.installed("gdb", after=f"{self.folder}/done")
        self.have("sudo", 'if [ "$1" = -n ]; then shift; fi; exec "$@"')
        self.have("true", "exit 0")
        self.have("apt-get", f"""case "$1" in install) echo >'{self.folder}/done' ;; esac""")
        status, text = self.run_setup()
        self.assertEqual(status, 0, text)
        self.assertNotIn("password", text)

    def test_no_network(self):
        self.installed("gdb")
        # apt-get update is content with lists that it could not fetch; the installation is not.
        self.have("apt-get", 'case "$1" in update) echo "W: Failed to fetch" ;; *) echo "E: Unable to locate package gdb" >&2; exit 100 ;; esac')
        status, text = self.run_setup(user=0)
        self.assertEqual(status, 1)
        self.assertIn("E: Unable to locate package gdb\nsetup: that failed: ", text)
        self.assertIn("mostly the network", text)

    def test_another_system(self):
        status, text = self.run_setup()
        self.assertEqual(status, 1)
        self.assertIn("not a Debian machine", text)


if __name__ == "__main__":
    unittest.main()
