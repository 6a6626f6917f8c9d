#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""layout_test ELSEWHERE.so: all of wirt-vm stands in the slot that src/os/layout.h promises, but the initial stack and the page that
blocks the heap. Where the kernel's randomization puts it elsewhere it starts again without; where that does not help it runs where it is.
The library plays such kernels.
"""
import json
import os
import subprocess
import sys
import tempfile

from wirt_guest import WIRT, connect, skip

SLOT_SHIFT, SLOT = 41, 0x15
OUTSIDE = ("[stack]", "[vsyscall]")
NO_RANDOMIZE, COMPAT_LAYOUT = 0x0040000, 0x0200000


def outside(pid):
    """Mappings that are not in the slot, as (start, permissions, name)."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
        for line in maps:
            words = line.split()
            begin = int(words[0].split("-")[0], 16)
            name = words[5] if len(words) > 5 else ""
            if begin >> SLOT_SHIFT != SLOT and name not in OUTSIDE and words[1] != "---p":
                yield begin, words[1], name


def look(folder, kernel):
    """A machine on such a kernel ("": this one): what it has outside the slot, and its personality."""
    socket = os.path.join(folder, "control")
    elsewhere = {"LD_PRELOAD": os.path.realpath(sys.argv[1]), "WIRT_LAYOUT": kernel} if kernel else {}
    machine = subprocess.Popen([WIRT, "run", "--console", "none", "--control", socket, "--timeout", "40"], env={**os.environ, **elsewhere})
    connect(socket).close()
    asked = subprocess.run([WIRT, "ctl", socket, "status", "--json"], stdout=subprocess.PIPE, text=True, check=True, timeout=30)
    status = json.loads(asked.stdout)
    assert status["state"] == "running", status
    found = list(outside(status["pid"]))
    with open(f"/proc/{status['pid']}/personality", encoding="ascii") as file:
        personality = int(file.read(), 16)
    subprocess.run([WIRT, "ctl", socket, "stop"], check=True)
    assert machine.wait(timeout=30) == 0
    return found, personality


def main():
    if not os.path.exists("/usr/share/seabios/bios-256k.bin"):
        skip("there is no firmware to start")
    with tempfile.TemporaryDirectory() as folder:
        found, personality = look(folder, "")
        if any("asan" in name for _, _, name in found):
            skip("a sanitizer has its own layout")
        assert not found, found
        assert personality & COMPAT_LAYOUT and not personality & NO_RANDOMIZE, hex(personality)
        found, personality = look(folder, "random")
        assert not found and personality & NO_RANDOMIZE, (hex(personality), found)
        found, personality = look(folder, "always")
        assert found and personality & NO_RANDOMIZE, hex(personality)
    print("layout: everything is in its slot, by a start without randomization where need be")


main()
