#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""layout_test: all of wirt-vm stands in the slot that src/os/layout.h promises, but the initial stack and the page that
blocks the heap."""
import json
import os
import subprocess
import sys
import tempfile
import time

from wirt_guest import WIRT, skip

SLOT_SHIFT, SLOT = 41, 0x15
OUTSIDE = ("[stack]", "[vsyscall]")


def start(folder):
    socket = os.path.join(folder, "control")
    machine = subprocess.Popen([WIRT, "run", "--console", "none", "--control", socket, "--timeout", "40"])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and machine.poll() is None:
        asked = subprocess.run([WIRT, "ctl", socket, "status", "--json"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            return machine, socket, json.loads(asked.stdout)["pid"]
    sys.exit(f"the machine did not answer; it ended with {machine.poll()}")


def outside(pid):
    """Mappings that are not in the slot, as (start, permissions, name)."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
        for line in maps:
            words = line.split()
            begin = int(words[0].split("-")[0], 16)
            if begin >> SLOT_SHIFT != SLOT:
                yield begin, words[1], words[5] if len(words) > 5 else ""


def main():
    if not os.path.exists("/usr/share/seabios/bios-256k.bin"):
        skip("there is no firmware to start")
    with tempfile.TemporaryDirectory() as folder:
        machine, socket, pid = start(folder)
        found = [m for m in outside(pid) if m[2] not in OUTSIDE and m[1] != "---p"]
        sanitized = any("asan" in m[2] for m in found)
        subprocess.run([WIRT, "ctl", socket, "stop"], check=True)
        assert machine.wait(timeout=30) == 0
    if sanitized:
        skip("a sanitizer has its own layout")
    assert not found, found
    print("layout: everything is in its slot")


main()
