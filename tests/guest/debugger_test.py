# SPDX-License-Identifier: Apache-2.0
"""debugger_test ENDS.elf [ACCEL...]: a debugger sees the registers of each mode, and follows a variable by breakpoints and single steps.

Beside ENDS.elf lies modes.elf, which visits all modes. Under both tiers: a machine with a debugger must be the same in either.
"""
import os
import struct
import sys
import tempfile

from gdb_client import Debugger
from wirt_guest import WIRT, Console

ENDS = sys.argv[1]
MODES = ENDS.replace("ends.elf", "modes.elf")
REAL_SEGMENT = 0x800  # where modes.elf puts its 16-bit code
STEPS = 20000
RIP = 16  # the register's number
PE, PG, VM, LONG_ACTIVE = 1, 1 << 31, 1 << 17, 1 << 10


def symbols(program):
    """{name: address} of an ELF file's symbol table."""
    with open(program, "rb") as file:
        elf = file.read()
    start, = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    sections = [struct.unpack_from("<IIQQQQI", elf, start + i * size) for i in range(count)]
    table = next(section for section in sections if section[1] == 2)
    names, found = sections[table[6]][4], {}
    for at in range(table[4], table[4] + table[5], 24):
        name, _, _, address = struct.unpack_from("<IBxHQ", elf, at)
        found[elf[names + name:elf.index(b"\0", names + name)].decode()] = address
    return found


def machine(accel, program, gdb):
    return Console([WIRT, "run", "--accel", accel, "--kernel", program, "--memory", "64M", "--gdb", gdb, "--timeout", "100"], 100)


def go_to(debugger, address):
    """On to a breakpoint that is set there; in the bed of tests/kvm, where none is reached (kvm_test.py), by steps."""
    if "WIRT_BED" not in os.environ:
        assert debugger.ask("c") == "T05thread:1;"
        return
    for _ in range(STEPS):
        assert debugger.ask("s") == "T05thread:1;"
        if debugger.register(RIP) == address:
            return
    raise AssertionError(f"{address:x} is not reached in {STEPS} steps")


def follow_variable(debugger, guest, at):
    """Breakpoint by breakpoint, then by steps: who writes the variable, and what."""
    debugger.send("c")
    guest.wait_for("what now")
    debugger.socket.sendall(b"\x03")
    assert debugger.answer().startswith("T02")
    assert debugger.ask(f"Z0,{at['write_watched']:x},1") == "OK"
    guest.type("d")
    for value in (0x1111, 0x2222, 0x3333):
        go_to(debugger, at["write_watched"])
        seen = debugger.registers()
        assert (seen["rip"], seen["rdi"]) == (at["write_watched"], value), seen
        assert debugger.memory(at["watched"] + 8, 8) == value - 0x1111
        steps = 0
        while debugger.memory(at["watched"] + 8, 8) != value:
            before = debugger.registers()["rip"]
            assert debugger.ask("s") == "T05thread:1;"
            assert 0 < debugger.registers()["rip"] - before <= 15
            steps += 1
            assert steps < 10
    # Written by the debugger: the guest goes on with it.
    assert debugger.ask(f"z0,{at['write_watched']:x},1") == "OK"
    assert debugger.ask(f"Z0,{at['read_watched']:x},1") == "OK"
    go_to(debugger, at["read_watched"])
    assert debugger.ask(f"z0,{at['read_watched']:x},1") == "OK"
    assert debugger.ask(f"M{at['watched'] + 8:x},8:efbeadde00000000") == "OK"
    debugger.send("c")
    guest.wait_for("watched: deadbeef")
    guest.type("x")
    guest.finish(43)


def visit_modes(debugger, at):
    first = debugger.registers()
    assert (first["rip"], first["cr0"] & (PE | PG), first["efer"], first["eflags"] & VM) == (at["start32"], PE, 0, 0), first
    long = debugger.run_to(at["start64"])
    assert long["cr0"] & (PE | PG) == PE | PG and long["efer"] & LONG_ACTIVE and long["cs"] == 8, long
    assert long["cr3"] == at["page_map"] and long["gdt_base"] == at["gdt"]
    protected = debugger.run_to(at["protected_tests"])
    assert protected["cr0"] & (PE | PG) == PE and not protected["efer"] & LONG_ACTIVE, protected
    virtual = debugger.run_to((REAL_SEGMENT << 4) + at["vm86_int"] - at["real_code"])
    assert virtual["eflags"] & VM and virtual["cr0"] & PE and virtual["cs"] == REAL_SEGMENT and virtual["gs"] == 0x1111, virtual
    # 16-bit code, still protected; then real mode, where addresses are segment and offset.
    sixteen = debugger.run_to((REAL_SEGMENT << 4) + at["real_entry"] - at["real_code"])
    assert sixteen["cr0"] & PE and sixteen["cs_base"] == REAL_SEGMENT << 4, sixteen
    real = debugger.run_to((REAL_SEGMENT << 4) + at["after21"] - at["real_code"])
    assert (real["cr0"] & PE, real["cs"], real["rip"], real["ss"]) == (0, REAL_SEGMENT, at["after21"] - at["real_code"], 0x900), real
    assert debugger.ask("s") == "T05thread:1;"
    assert debugger.registers()["rip"] == real["rip"] + 2  # XOR AX, AX


for tier in sys.argv[2:] or ("interpreter", "engine"):
    with tempfile.TemporaryDirectory() as folder:
        with machine(tier, ENDS, f"{folder}/gdb") as vm:
            follow_variable(Debugger(f"{folder}/gdb"), vm, symbols(ENDS))
    if "WIRT_BED" in os.environ:
        continue  # the modes are too far apart for steps
    with tempfile.TemporaryDirectory() as folder:
        with machine(tier, MODES, f"{folder}/gdb") as vm:
            person = Debugger(f"{folder}/gdb")
            visit_modes(person, symbols(MODES))
            assert person.ask("D") == "OK"
            vm.finish(1)
