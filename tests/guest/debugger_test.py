# SPDX-License-Identifier: Apache-2.0
"""debugger_test ENDS.elf [ACCEL...]: a debugger sees the registers of each mode, follows a variable by breakpoints, single steps and watchpoints, and
steers two CPUs as threads; so does gdb itself.

Beside ENDS.elf lie modes.elf, which visits all modes, and smp.elf with two CPUs. Under both tiers: a machine with a debugger must be the same in
either.
"""
import os
import re
import struct
import subprocess
import sys
import tempfile

from gdb_client import Debugger
from wirt_guest import WIRT, Console

ENDS = sys.argv[1]
MODES = ENDS.replace("ends.elf", "modes.elf")
SMP = ENDS.replace("ends.elf", "smp.elf")
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


def machine(accel, program, gdb, cpus=1):
    return Console([WIRT, "run", "--accel", accel, "--kernel", program, "--memory", "64M", "--cpus", str(cpus), "--gdb", gdb,
                    "--timeout", "100"], 100)


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
    debugger.socket.sendall(b"\x03")
    assert debugger.answer().startswith("T02")
    if debugger.ask("Z2,0,1") != "":  # not offered: KVM
        assert debugger.ask("z2,0,1") == "OK"
        watch_variable(debugger, guest, at)
    else:
        debugger.send("c")
    guest.type("x")
    guest.finish(43)


def watch_variable(debugger, guest, at):
    """Writes, reads and both stop behind the instruction, those beside the variable do not; the code around runs as it would."""
    before, value = at["watched"], at["watched"] + 8
    assert debugger.ask(f"Z2,{before:x},8") == debugger.ask(f"Z2,{value:x},8") == "OK"
    guest.type("d")
    for number in (0x1111, 0x2222, 0x3333):
        assert debugger.ask("c") == f"T05thread:1;watch:{value:x};"
        assert debugger.memory(value, 8) == number
        assert 0 < debugger.registers()["rip"] - at["write_watched"] < 32
    assert debugger.ask("?") == f"T05thread:1;watch:{value:x};"
    assert debugger.ask(f"z2,{value:x},8") == debugger.ask(f"Z2,{value + 3:x},1") == "OK"
    assert debugger.ask("c") == f"T05thread:1;watch:{value + 3:x};"  # one byte of the eight that are written
    assert debugger.memory(value, 8) == 0x4444
    assert debugger.ask(f"z2,{value + 3:x},1") == debugger.ask(f"Z3,{value:x},8") == "OK"
    assert debugger.ask("c") == f"T05thread:1;rwatch:{value:x};"  # not the fifth write
    assert debugger.memory(value, 8) == 0x5555 and debugger.registers()["rax"] == 0x5555
    assert debugger.ask(f"z3,{value:x},8") == debugger.ask(f"Z4,{value:x},8") == "OK"
    debugger.send("c")
    guest.wait_for("watched: 5555")
    guest.type("d")
    for number in (0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x5555):
        assert debugger.answer() == f"T05thread:1;awatch:{value:x};"
        assert debugger.memory(value, 8) == number
        debugger.send("c")
    guest.wait_for("watched: 5555")
    debugger.socket.sendall(b"\x03")
    assert debugger.answer().startswith("T02")
    assert debugger.ask(f"z4,{value:x},8") == debugger.ask(f"z2,{before:x},8") == "OK"
    guest.type("d")
    debugger.send("c")
    guest.wait_for("watched: 5555")


def steer_threads(debugger, at):
    """Two CPUs: one steps while the other stands still; both reach a breakpoint, and no stop is lost."""
    def rip_of(thread):
        assert debugger.ask(f"Hg{thread}") == "OK"
        return debugger.registers()["rip"]

    assert debugger.ask("vCont?") == "vCont;c;C;s;S"
    assert debugger.ask("qfThreadInfo") == "m1,2" and debugger.ask("T2") == "OK" and debugger.ask("T3") == "E01"
    assert debugger.ask(f"Z0,{at['ap_main']:x},1") == "OK"
    assert debugger.ask("vCont;c") == "T05thread:2;"
    assert debugger.ask("qC") == "QC2"
    first = rip_of(1)
    for _ in range(20):
        before = rip_of(2)
        assert debugger.ask("vCont;s:2") == "T05thread:2;"
        assert rip_of(2) != before and rip_of(1) == first
    assert debugger.ask("vCont;s:1") == "T05thread:1;"
    second, seen = rip_of(2), set()
    for _ in range(200):
        assert debugger.ask("vCont;s:1;c:2") == "T05thread:1;"
        seen.add(rip_of(2))
    assert seen != {second}
    assert debugger.ask(f"z0,{at['ap_main']:x},1") == debugger.ask(f"Z0,{at['count_up']:x},1") == "OK"
    stopped = {debugger.ask("vCont;c"), debugger.ask("vCont;c")}
    assert stopped == {"T05thread:1;", "T05thread:2;"}, stopped
    # Each has come to it, and neither has gone on from it: the first when the second was told of, perhaps.
    assert at["count_up"] in (rip_of(1), rip_of(2))
    assert debugger.ask("vCont;s:3").startswith("E") and debugger.ask("vCont;x").startswith("E")


def with_gdb(guest, at, path):
    """Debian's gdb takes the description, and its watchpoints are the machine's."""
    value = f"*(unsigned long *){at['watched'] + 8:#x}"
    guest.type("d")
    commands = ["set confirm off", "set remotetimeout 60", f"target remote {path}", "info threads", "break *write_watched", "continue", "p/x $rdi",
                "delete", f"watch {value}", "continue", "delete", f"rwatch {value}", "continue", "delete", "p/x $cr0 & 1", "p $xmm0.uint128",
                "p $st0", "x/2i $rip", "stepi", "detach"]
    done = subprocess.run(["gdb", "-nx", "-batch", *[word for command in commands for word in ("-ex", command)], ENDS],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=90, check=False)
    text = done.stdout
    for pattern in (r"\* 1 +Thread 1", r"Breakpoint 1, 0x\w+ in write_watched", r"\$1 = 0x1111\n", r"Hardware watchpoint 2: .*\n(.*\n)+Old value = 0\n"
                    r"New value = 4369\n", r"Hardware read watchpoint 3: .*\n(.*\n)+Value = 21845\n", r"\$2 = 0x1\n", r"\$3 = 0\n",
                    r"in read_watched", r"Inferior 1 .*detached"):
        assert re.search(pattern, text), f"{pattern}: {text}"
    assert "arning" not in text and done.returncode == 0, text
    guest.wait_for("watched: 5555")
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
    if tier == "kvm":
        continue
    with tempfile.TemporaryDirectory() as folder:
        with machine(tier, SMP, f"{folder}/gdb", 2) as vm:
            person = Debugger(f"{folder}/gdb")
            steer_threads(person, symbols(SMP))
            assert person.ask("D") == "OK"
            vm.finish(1)
    with tempfile.TemporaryDirectory() as folder:
        with machine(tier, ENDS, f"{folder}/gdb") as vm:
            with_gdb(vm, symbols(ENDS), f"{folder}/gdb")
