# SPDX-License-Identifier: Apache-2.0
""".ci/run tells what failed where only the beginning of its output is read, and again just before its last line, which counts."""
import os
import shutil
import subprocess
import tempfile
import unittest

TOP = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../..")
STEPS = ["setup", "build with gcc", "build with clang", "lint", "make test", "fast tests with sanitizers", "fuzzing"]
TESTS = "".join(f"{n}/3 wirt:unit / t{n}  OK\n" for n in range(60)) + """test: skipped wirt:unit / s: skipped: no such thing here
test: ---- wirt:guest / disk: FAIL after 3.2 s
""" + "".join(f"console line {n}\n" for n in range(40)) + """Traceback (most recent call last):
AssertionError: the guest saw no error
test: ---- wirt:guest / slow: TIMEOUT after 240.1 s
it waits for the prompt
test: ---- wirt:unit / ring: FAIL after 0.1 s
[ RUN      ] ring_wraps
[  ERROR   ] --- 0x1 != 0x2
[  FAILED  ] ring_wraps
test: FAILED wirt:guest / disk
test: 5 s, 1 skipped
60 passed, 3 failed
"""
LINT = """lint: layers    ok (0 s)
lint: tidy      FAIL (20 s)
src/os/a.c:3:4: warning: a finding of tidy's
lint: format    ok (1 s)
"""
GOOD = {"all": ("built\n", 0), "lint": ("lint: tidy ok (2 s)\n", 0), "test": ("60 passed, 0 failed\n", 0), "fuzz": ("fuzz: decode ok\n", 0)}


class Run:
    """.ci/run in a tree in which make and the tools print what they are told."""

    def __init__(self, folder, targets=None, ninja=0, **environment):
        shutil.copytree(f"{TOP}/.ci", f"{folder}/.ci")
        os.makedirs(f"{folder}/tools")
        os.makedirs(f"{folder}/bin")
        targets = {**GOOD, **(targets or {})}
        with open(f"{folder}/Makefile", "w", encoding="utf-8") as file:
            for name, (text, status) in targets.items():
                with open(f"{folder}/{name}.text", "w", encoding="utf-8") as output:
                    output.write(text)
                file.write(f"{name}:\n\t@cat {name}.text; exit {status}\n.PHONY: {name}\n")
        self.script(f"{folder}/tools/setup", "exit 0")
        self.script(f"{folder}/tools/test", "echo 9 passed, 0 failed")
        self.script(f"{folder}/bin/meson", 'mkdir -p "$2"; touch "$2/build.ninja"')
        self.script(f"{folder}/bin/ninja", f"echo 'a.c:1:2: error: no such member'; exit {ninja}" if ninja else "exit 0")
        kept = {name: value for name, value in os.environ.items() if name not in ("CI", "MAKEFLAGS", "MAKELEVEL")}
        done = subprocess.run([f"{folder}/.ci/run"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                              env={**kept, **environment, "PATH": f"{folder}/bin:{os.environ['PATH']}"})
        self.status, self.lines = done.returncode, done.stdout.splitlines()
        self.logs = sorted(os.listdir(f"{folder}/build-ci"))

    @staticmethod
    def script(path, text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)


class CiTest(unittest.TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())

    def test_nothing_failed(self):
        run = Run(self.folder, CI="true")
        self.assertEqual(run.status, 0, run.lines)
        self.assertEqual([line.split(": ")[1] for line in run.lines[:-2]], STEPS)
        self.assertTrue(all(": ok, " in line for line in run.lines[:-2]), run.lines)
        self.assertEqual(run.lines[-1], f"{60 + 9 + 5} passed, 0 failed")
        self.assertIn("make-test.log", run.logs)

    def test_failures(self):
        run = Run(self.folder, {"test": (TESTS, 1), "lint": (LINT, 1)}, CI="true")
        text = "\n".join(run.lines)
        self.assertEqual(run.status, 1)
        self.assertEqual(run.lines[-1], f"{60 + 9 + 4} passed, 4 failed")
        self.assertIn("src/os/a.c:3:4: warning: a finding of tidy's", "\n".join(run.lines[:6]))
        self.assertIn("    failed: disk slow ring", run.lines[:10])
        self.assertIn("console line 39", text)
        self.assertNotIn("console line 15\n", text)  # the last 25 lines
        self.assertNotIn("t59  OK", text)
        # make's own complaint is of the step, not of a test.
        short = [line for line in run.lines[run.lines.index(next(line for line in run.lines if line.startswith("ci: all in "))) + 1:-1]]
        self.assertEqual(short, ["ci: lint: tidy: src/os/a.c:3:4: warning: a finding of tidy's", "ci: make test: disk: AssertionError: the guest saw no error",
                                 "ci: make test: slow: it waits for the prompt", "ci: make test: ring: [  ERROR   ] --- 0x1 != 0x2"])

    def test_a_build_that_fails(self):
        run = Run(self.folder, ninja=1, CI="true")
        self.assertEqual(run.status, 1)
        self.assertEqual(run.lines[-1], "64 passed, 2 failed")
        self.assertIn("ci: build with clang: a.c:1:2: error: no such member", run.lines[-4:])

    def test_a_crash_behind_good_tests_counts(self):
        run = Run(self.folder, {"test": ("60 passed, 0 failed\n", 3)}, CI="true")
        self.assertEqual(run.lines[-1], f"{60 + 9 + 5} passed, 1 failed")

    def test_for_a_person_everything_is_shown(self):
        run = Run(self.folder, {"test": (TESTS, 1)})
        self.assertIn("console line 0", run.lines)
        self.assertIn("ci: make test: disk: AssertionError: the guest saw no error", run.lines[-5:])
        self.assertEqual(run.lines[-1], f"{60 + 9 + 5} passed, 3 failed")


if __name__ == "__main__":
    unittest.main()
