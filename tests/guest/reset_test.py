# SPDX-License-Identifier: Apache-2.0
"""reset_test: a guest that triple-faults with its first instructions is reset some hundred times and wirt-vm does not grow; when its
kernel is cut shorter meanwhile, the machine ends with a message, not by a signal.
"""
import json
import os
import struct
import subprocess
import tempfile

from wirt_guest import WIRT, connect, wirt

RESETS = 200
GROWTH = 256 << 10
FAILURE = 36


def crashing_kernel():
    """A PVH ELF: an IDT without entries, and INT3."""
    at, code = 0x100000, b"\x0f\x01\x1d\x00\x00\x00\x00\xcc"
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", at)
    start = 64 + 2 * 56
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, at, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, start, at, at, len(code), len(code), 1)
    notes = struct.pack("<IIQQQQQQ", 4, 4, start + len(code), 0, 0, len(note), len(note), 1)
    return header + load + notes + code + note


def memory(socket):
    done = subprocess.run([WIRT, "ctl", socket, "statistics", "--json"], stdout=subprocess.PIPE, text=True, check=True, timeout=30)
    told = json.loads(done.stdout)
    return told["host_memory_bytes"]


def wait_for_resets(lines, count):
    for line in lines:
        count -= json.loads(line).get("event") == "reset"
        if not count:
            return
    raise AssertionError("the machine ended")


with tempfile.TemporaryDirectory() as folder:
    control, kernel = f"{folder}/control", f"{folder}/kernel"
    with open(kernel, "wb") as file:
        file.write(crashing_kernel())
    with subprocess.Popen(wirt("--kernel", kernel, "--control", control, "--timeout", "60"), stdin=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True) as machine:
        events = connect(control)
        lines = events.makefile()
        wait_for_resets(lines, RESETS // 4)
        before = memory(control)
        wait_for_resets(lines, RESETS)
        grown = memory(control) - before
        assert grown < GROWTH, f"{grown} bytes more after {RESETS} resets"
        os.truncate(kernel, 100)
        message = machine.stderr.read()
        status = machine.wait(timeout=60)
    assert status == FAILURE, (status, message)
print(f"{grown} bytes more after {RESETS} resets")
