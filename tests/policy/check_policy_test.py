# SPDX-License-Identifier: Apache-2.0
"""tools/check-policy finds each thing that it forbids where it is forbidden, and leaves the rest alone."""
import os
import subprocess
import sys
import tempfile
import unittest

TOOL = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../tools/check-policy")
LICENCE = "// SPDX-License-Identifier: Apache-2.0\n"
# Rule, file, a line that breaks it there. Words are split where this file would break a rule itself.
BAD = [
    ("system-call", "src/machine/chip/a.c", "fd = open(path, O_RDONLY);"),
    ("system-call", "src/base/a.c", "if (clock_gettime(CLOCK_MONOTONIC, &ts))"),
    ("system-call", "src/machine/engine/a.h", "    mmap(NULL, 4096, 0, 0, -1, 0);"),
    ("system-header", "src/wire/a.c", "#include <sys/mman.h>"),
    ("system-header", "src/machine/block/a.c", "#include <linux/fs.h>"),
    ("guest-pointer", "src/machine/virtio/a.c", "p = (uint8_t *)(uintptr_t)desc.gpa.at;"),
    ("guest-pointer", "src/machine/engine/a.c", "x = *(const struct foo *)address.at;"),
    ("unsafe-function", "src/cli/a.c", "strcpy(a, b);"),
    ("unsafe-function", "src/os/a.c", "n = atoi(text);"),
    ("shell", "src/os/a.c", "system(command);"),
    ("unsafe-function", "tests/unit/os/a.c", "strcpy(a, b);"),
    ("unsafe-function", "src/cli/a.c", "sprintf(a, b);"),
    ("sleep-in-test", "tests/unit/os/a.c", "usleep(1000);"),
    ("sleep-in-test", "tests/guest/a.py", "time.sleep(1)"),
    ("sleep-in-test", "tests/guest/a.sh", "  sleep 2"),
    ("print", "src/machine/vm/a.c", 'printf("x");'),
    ("print", "src/os/a.c", 'fprintf(stderr, "x");'),
    ("constructor", "src/os/a.c", "__attribute__((constructor)) static void f(void)"),
    ("machine-path", "doc/a.md", "see .." + "/shared/notes"),
    ("machine-path", "tools/a", "cd /" + "work/main"),
    ("registry-host", "tools/a", "mirror=deb" + ".debian.org"),
    ("roadmap", "src/os/a.c", "// TO" + "DO: later"),
    ("roadmap", "src/os/a.c", "// TO" + "DO(unheard-of): later"),
]
GOOD = [
    ("src/os/a.c", "fd = open(path, O_RDONLY);"),
    ("src/os/a.c", "#include <sys/mman.h>"),
    ("src/machine/net/a.c", "static int send(struct end *end, int n)\n{\n}\nint f(void) { return send(e, 1); }"),
    ("src/machine/block/a.c", "n = disk->ops->read(disk, at); queue.close(x); block_open(b);"),
    ("src/machine/block/a.c", "// as open(2) and mmap(2) do: strcpy(a, b)"),
    ("src/machine/block/a.c", 'err_set(err, ERR_IO, "read(%d) of /proc", 1);'),
    ("src/machine/memory/a.c", "p = (uint8_t *)(uintptr_t)x.gpa.at;"),
    ("src/machine/virtio/a.c", "uint64_t at = (uint64_t)desc.gpa.at;"),
    ("src/cli/a.c", 'printf("x"); fprintf(stderr, "y");'),
    ("src/machine/vm/a.c", "snprintf(a, sizeof a, b); fprintf(file, c);"),
    ("tests/unit/os/a.c", "system(command);"),
    ("src/os/a.c", "// TO" + "DO(known): later"),
]


class CheckPolicy(unittest.TestCase):
    def run_on(self, path, line, licence=LICENCE):
        with tempfile.TemporaryDirectory() as root:
            for name, text in {"doc/roadmap.md": "- `known`: later\n", path: licence + line + "\n"}.items():
                os.makedirs(os.path.dirname(f"{root}/{name}"), exist_ok=True)
                with open(f"{root}/{name}", "w", encoding="utf-8") as file:
                    file.write(text)
            done = subprocess.run([sys.executable, TOOL, "--root", root], stdout=subprocess.PIPE, text=True, check=False)
            self.assertEqual(done.returncode, 1 if done.stdout else 0)
            return done.stdout

    def test_each_forbidden_thing_is_told_once_with_its_place(self):
        for rule, path, line in BAD:
            with self.subTest(rule=rule, path=path, line=line):
                told = self.run_on(path, line)
                self.assertTrue(told.startswith(f"{path}:2: {rule}: "), told)
                self.assertEqual(told.count("\n"), 1, told)

    def test_permitted_things_pass(self):
        for path, line in GOOD:
            with self.subTest(path=path, line=line):
                self.assertEqual(self.run_on(path, line), "")

    def test_missing_licence_is_told(self):
        self.assertIn("src/os/a.c:1: licence:", self.run_on("src/os/a.c", "int x;", licence="\n"))
        self.assertIn("tools/a:1: licence:", self.run_on("tools/a", "true", licence="#!/bin/sh\n"))

    def test_every_rule_has_a_bad_example(self):
        rules = subprocess.run([sys.executable, TOOL, "--rules"], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.assertEqual({line.split()[0] for line in rules.splitlines()} - {rule for rule, _, _ in BAD}, set())


unittest.main()
