# SPDX-License-Identifier: Apache-2.0
"""tools/check-layers tells each kind of fault, and nothing where there is none."""
import os
import subprocess
import sys
import tempfile
import unittest

TOOL = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../tools/check-layers")
TABLE = "| `base` | | |\n| `os` | `base` | |\n| `cli` | `base` | |\n"
MESON = "subdir('base')\nsubdir('os')\nsubdir('cli')\n"


class CheckLayers(unittest.TestCase):
    def run_on(self, files, table=TABLE, meson=MESON):
        with tempfile.TemporaryDirectory() as root:
            page = f"<!-- layers: begin -->\n| folder | may include from | |\n|---|---|---|\n{table}<!-- layers: end -->\n"
            for path, text in {"doc/architecture.md": page, "src/meson.build": meson, **files}.items():
                os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
                with open(f"{root}/{path}", "w", encoding="utf-8") as file:
                    file.write(text)
            done = subprocess.run([sys.executable, TOOL, "--root", root], stdout=subprocess.PIPE, text=True, check=False)
            self.assertEqual(done.returncode, 1 if done.stdout else 0)
            return done.stdout

    def test_permitted_includes_pass(self):
        self.assertEqual(self.run_on({"src/cli/a.c": '#include "base/err.h"\n#include "cli/a.h"\n', "src/cli/a.h": "",
                                      "src/base/err.h": ""}), "")

    def test_upward_include_is_told(self):
        self.assertIn("src/base/a.c:2: 'base' may not include from 'os'",
                      self.run_on({"src/base/a.c": '\n#include "os/file.h"\n'}))

    def test_include_that_the_table_lacks_is_told(self):
        self.assertIn("'cli' may not include from 'os'", self.run_on({"src/cli/a.c": '#include "os/file.h"\n'}))

    def test_include_not_named_from_src_is_told(self):
        self.assertIn("is not named from src/", self.run_on({"src/cli/a.c": '#include "../os/file.h"\n'}))

    def test_file_outside_the_table_is_told(self):
        self.assertIn("stands in no folder", self.run_on({"src/new/a.c": ""}))

    def test_upward_row_is_told(self):
        self.assertIn("'base' may include 'os', which is not below it",
                      self.run_on({}, table=TABLE.replace("| `base` | |", "| `base` | `os` |")))

    def test_folder_without_a_row_is_told(self):
        self.assertIn("'new' has no row", self.run_on({}, meson=MESON + "subdir('new')\n"))

    def test_order_that_differs_is_told(self):
        self.assertIn("differs from the table's", self.run_on({}, meson="subdir('os')\nsubdir('base')\nsubdir('cli')\n"))


unittest.main()
