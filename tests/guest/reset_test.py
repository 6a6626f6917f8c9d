# SPDX-License-Identifier: Apache-2.0
"""reset_test: a guest that triple-faults whenever somebody types is reset some hundred times and wirt-vm does not grow; when its
kernel is cut shorter meanwhile, the machine ends with a message, not by a signal.
"""
import json
import os
import struct
import subprocess
import tempfile

from wirt_guest import WIRT, connect, wirt

RESETS = 200
GROWTH = 64 << 10
FAILURE = 36


def crashing_kernel():
    """A PVH ELF: it waits for a character on the serial port, then an IDT without entries, and INT3."""
    at, code = 0x100000, b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xfb" + b"\x0f\x01\x1d\x00\x00\x00\x00\xcc"
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", at)
    start = 64 + 2 * 56
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, at, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, start, at, at, len(code), len(code), 1)
    notes = struct.pack("<IIQQQQQQ", 4, 4, start + len(code), 0, 0, len(note), len(note), 1)
    return header + load + notes + code + note


def memory(socket):
    """What is this machine's alone: of the program's pages each process has its share, which changes whenever another machine comes or goes."""
    done = subprocess.run([WIRT, "ctl", socket, "statistics", "--json"], stdout=subprocess.PIPE, text=True, check=True, timeout=30)
    told = json.loads(done.stdout)["host_memory"]
    return sum(told[use] for use in told if use not in ("program", "wirt-guest-ram"))


def crash(machine):
    machine.stdin.write(b"x")
    machine.stdin.flush()


def resets(machine, lines, count):
    """One after the other: the events of a guest that crashes at its own pace would come faster than a busy host takes them."""
    for _ in range(count):
        crash(machine)
        while json.loads(next(lines)).get("event") != "reset":
            pass


with tempfile.TemporaryDirectory() as folder:
    control, kernel = f"{folder}/control", f"{folder}/kernel"
    with open(kernel, "wb") as file:
        file.write(crashing_kernel())
    with subprocess.Popen(wirt("--kernel", kernel, "--control", control, "--timeout", "60"), stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as machine:
        events = connect(control)
        lines = events.makefile()
        resets(machine, lines, RESETS // 4)
        before = memory(control)
        resets(machine, lines, RESETS)
        grown = memory(control) - before
        assert grown < GROWTH, f"{grown} bytes more after {RESETS} resets"
        os.truncate(kernel, 100)
        crash(machine)
        message = machine.stderr.read().decode()
        status = machine.wait(timeout=60)
    assert status == FAILURE, (status, message)
print(f"{grown} bytes more after {RESETS} resets")
