#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kvm_test [NAME...]: the guest tests that run in the bed (bed.py) under --accel kvm; by default all.

Each is a command that works outside of the bed, too, with another --accel. The last line counts them; status 1 when one failed.
"""
import os
import sys

from bed import BUILD, SKIPPED, TOP, BedError, run_in_bed

GUEST, TINY = f"{TOP}/tests/guest", f"{BUILD}/tests/guest/tiny"


def guest(program, *words):
    return ["python3", f"{GUEST}/{program}", *words]


def tiny(name, cpus):
    return ["python3", f"{GUEST}/tiny/tiny_test.py", f"{BUILD}/src/bin/wirt", f"{TINY}/{name}.elf", "kvm", str(cpus)]


TESTS = {
    "doctor": ["python3", f"{TOP}/tests/kvm/doctor_test.py", "kvm"],
    "verdict": ["python3", f"{TOP}/tests/kvm/verdict_test.py", "kvm"],
    "boot-1": guest("boot_test.py", "cloud", "1"),
    "boot-2": guest("boot_test.py", "cloud", "2"),
}
# The own guests; those called -bed leave out what QEMU's TCG cannot do as a processor with virtualization (their sources say what and why), and are not so
# long: each access to a device costs a tenth of a millisecond.
for name, cpus in (("canonical", 1), ("control-bed", 1), ("events-bed", 1), ("hostile-bed", 2), ("interrupts", 1), ("mmio", 1), ("modes", 1),
                   ("msrs", 1), ("paging", 1), ("privilege", 1), ("smp", 2)):
    TESTS[f"tiny-{name}"] = tiny(name, cpus)
for path in (("kvm", "engine"), ("engine", "kvm"), ("kvm", "kvm"), ("engine", "kvm", "engine")):
    TESTS["switch-" + "-".join(path)] = [f"{BUILD}/tests/kvm/switch_test", f"{TINY}/compute.elf", *path]
# Without --accel: KVM is found by itself; network by DHCP and a disk that is written and read back.
TESTS["auto"] = ["python3", f"{TOP}/tests/kvm/auto_test.py", "kvm"]
# By interrupts and single steps: QEMU's TCG does not arm debug registers when it enters a guest.
TESTS["debugger"] = ["python3", f"{GUEST}/debugger_test.py", f"{TINY}/ends.elf", "kvm"]
TESTS["exits"] = ["python3", f"{TOP}/tests/kvm/exits_test.py"]


def main(names):
    unknown = [name for name in names if name not in TESTS]
    if unknown:
        print(f"kvm_test: no test is called '{unknown[0]}'; there are: {' '.join(TESTS)}")
        return 2
    chosen = names or list(TESTS)
    try:
        results = run_in_bed([[name, TESTS[name]] for name in chosen], lambda line: print(line, flush=True))
    except BedError as error:
        print(f"kvm_test: {error}")
        return 1
    # The bed brings all that they need: one that finds nothing to do there has failed, too.
    failed = [name for name in chosen if results.get(name, (1, 0))[0] != 0]
    for name in failed:
        why = "" if results.get(name, (0, 0))[0] != SKIPPED else " (skipped)"
        print(f"kvm_test: FAILED {name}{why if name in results else ' (the bed ended before it)'}")
    print(f"kvm_test: {len(chosen) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main(sys.argv[1:]))
