# SPDX-License-Identifier: Apache-2.0
"""tools/test counts what Meson's log says, and Meson itself as a failure when it ended early."""
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import unittest

PATH = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../tools/test")


def load():
    loader = importlib.machinery.SourceFileLoader("tools_test", PATH)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("tools_test", loader))
    loader.exec_module(module)
    return module


def result(name, kind, output=""):
    return {"name": name, "result": kind, "duration": 1.5, "stdout": output}


class TestTest(unittest.TestCase):
    def tell(self, tests, status):
        with contextlib.redirect_stdout(io.StringIO()) as output:
            told = load().tell(tests, 2, status)
        return told, output.getvalue().splitlines()

    def test_good_and_skipped(self):
        status, lines = self.tell([result("a", "OK"), result("b", "SKIP", "skipped: no such thing\n1 SKIPPED TEST")], 0)
        self.assertEqual((status, lines), (0, ["test: skipped b: no such thing", "test: 2 s, 1 skipped", "1 passed, 0 failed"]))

    def test_failed(self):
        status, lines = self.tell([result("a", "OK"), result("b", "FAIL", "why\n"), result("c", "TIMEOUT")], 2)
        self.assertEqual(status, 1)
        self.assertEqual(lines[:2], ["test: ---- b: FAIL after 1.5 s", "why"])
        self.assertEqual(lines[-4:], ["test: FAILED b", "test: FAILED c", "test: 2 s, 0 skipped", "1 passed, 2 failed"])

    def test_meson_ended_early(self):
        status, lines = self.tell([result("a", "OK")], 1)
        self.assertEqual((status, lines[-1]), (1, "1 passed, 1 failed"))

    def test_nothing_ran(self):
        self.assertEqual(self.tell([], 0)[0], 1)


if __name__ == "__main__":
    unittest.main()
