#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs one small guest under a tier of wirt's engine and under QEMU's TCG, and compares what it prints.

The engine translates all code, as it would not do by itself with code that runs once.

Usage: tiny_test.py WIRT GUEST.elf TIER

The guest's text must equal GUEST.expected beside the sources, which every tier shares. QEMU's text may differ from it
in the lines listed in differences.txt only, each with its reason; so may the text under KVM in the bed, whose CPU is QEMU's TCG. Without QEMU
that half is left out and said so.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = 60
EXIT_STATUS = 1  # debug exit of 0
GROWTH_BYTES = 16 << 20  # what wirt-vm may have beyond guest memory and code under a hostile guest, however long it goes on


# QEMU 7.2's TCG with several CPUs: an interrupt that is gone when a CPU comes for it is delivered as number -1, in long mode a #GP with the code -1 * 16 + 2.
QEMU_NO_INTERRUPT = "uncaught: #d(fffffffffffffff2)"


class QemuError(Exception):
    """QEMU shows a fault of its own."""


def run(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=SECONDS + 30, check=False)
    text = done.stdout.decode("latin-1").replace("\r", "")
    if command[0].startswith("qemu") and QEMU_NO_INTERRUPT in text:
        raise QemuError("it delivered interrupt -1")
    if done.returncode != EXIT_STATUS:
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{text[-2000:]}\n{done.stderr.decode()[-2000:]}")
    check_growth(command, done.stderr.decode())
    return text.splitlines()


def check_growth(command, said):
    """Of a hostile guest, whose command asks for statistics: they are the JSON object behind what the log says."""
    if "--stats" not in command:
        return
    used = json.loads(said[said.index("\n{\n" if not said.startswith("{") else "{"):])["host_memory_bytes"]
    if used > GROWTH_BYTES:
        sys.exit(f"wirt-vm has grown to {used} bytes beyond guest memory and code")


# CPU models beside the default under which a guest must print the same.
MODELS = {"offered": ["x86-64", "x86-64-v2", "x86-64-v3"]}


def run_wirt(wirt, guest, tier, cpus, model=None):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
        json.dump({"cold_runs": 0}, config)
        config.flush()
        return run([wirt, "run", "--config", config.name, "--kernel", guest, "--accel", tier, "--cpus", str(cpus), "--memory", "512M",
                    "--timeout", str(SECONDS), *(["--cpu", model] if model else []), *(["--stats", "--json"] if "hostile" in guest else [])])


def run_qemu(guest, cpus):
    lines = run(["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-M", "q35", "-m", "512", "-smp", str(cpus),
                 "-display", "none", "-serial", "stdio", "-monitor", "none", "-nodefaults", "-no-reboot",
                 "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel", guest])
    # The firmware may have written to the serial port first; the guest's own text begins with its name.
    return lines


def read_differences(name):
    """{(expected line, QEMU's line)} of this guest; lines of the file: guest | ours | QEMU's | reason. Both "*": not compared."""
    pairs = set()
    with open(os.path.join(HERE, "differences.txt"), encoding="utf-8") as file:
        for line in file:
            if line.startswith("#") or not line.strip():
                continue
            guest, ours, theirs, reason = [part.strip() for part in line.split("|", 3)]
            if not reason:
                sys.exit(f"differences.txt: no reason: {line}")
            if guest == name:
                pairs.add((ours, theirs))
    return pairs


def compare(title, expected, got, allowed=frozenset()):
    wrong = []
    for number in range(max(len(expected), len(got))):
        ours = expected[number] if number < len(expected) else "(nothing)"
        theirs = got[number] if number < len(got) else "(nothing)"
        if ours != theirs and (ours.strip(), theirs.strip()) not in allowed:
            wrong.append(f"  line {number + 1}: expected \"{ours}\", got \"{theirs}\"")
    if wrong:
        sys.exit(f"{title}:\n" + "\n".join(wrong[:20]))


def main():
    wirt, guest, tier = sys.argv[1:4]
    cpus = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    name = os.path.splitext(os.path.basename(guest))[0]
    with open(os.path.join(HERE, name + ".expected"), encoding="utf-8") as file:
        expected = file.read().splitlines()
    differences = read_differences(name)
    # In the bed of tests/kvm the CPU is QEMU's TCG: what that gets wrong, KVM shows.
    bed = tier == "kvm" and "WIRT_BED" in os.environ and ("*", "*") not in differences
    compare(f"{name} under {tier}", expected, run_wirt(wirt, guest, tier, cpus), differences if bed else frozenset())
    for model in MODELS.get(name, []) if not bed else []:
        compare(f"{name} under {tier}, --cpu {model}", expected, run_wirt(wirt, guest, tier, cpus, model))
    if tier != "interpreter":
        return
    if ("*", "*") in differences:
        print("not compared with QEMU: see differences.txt")
    elif shutil.which("qemu-system-x86_64"):
        try:
            compare(f"{name} under QEMU", expected, run_qemu(guest, cpus), differences)
        except QemuError as error:
            print(f"not compared with QEMU: {error}")
    else:
        print("no qemu-system-x86_64: not compared with it")


main()
