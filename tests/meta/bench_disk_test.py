# SPDX-License-Identifier: Apache-2.0
"""bench_disk_test: the parts of `bench/disk --slice` are all of its cases, each once and in order, and of about the same cost."""
import os
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def listed(*words):
    text = subprocess.run([f"{TOP}/bench/disk", "--list", "--folder", os.environ.get("TMPDIR", "/tmp"), *words], stdout=subprocess.PIPE, text=True, check=True)
    return text.stdout.splitlines()


def main():
    cases = listed()
    assert len(set(cases)) == len(cases) > 50, cases
    for parts in (1, 4, 7):
        slices = [listed("--slice", f"{k}/{parts}") for k in range(1, parts + 1)]
        assert sum(slices, []) == cases, parts
        assert min(map(len, slices)) * 2 > len(cases) // parts, [len(part) for part in slices]
    assert listed("--only", "depth 1", "raw-direct") == [case for case in listed("raw-direct") if "depth 1" in case]
    return 0


if __name__ == "__main__":
    sys.exit(main())
