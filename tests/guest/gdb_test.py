# SPDX-License-Identifier: Apache-2.0
"""gdb_test: a debugger on --gdb sees registers and memory, stops at a breakpoint, steps, interrupts a running machine, and lets go."""
import tempfile

from gdb_client import Debugger
from wirt_guest import Console, busybox

RIP, CS, GPR_BYTES = 16, 18, 8

with tempfile.TemporaryDirectory() as folder:
    path = f"{folder}/gdb"
    with Console(busybox("cloud", "", "--gdb", path, "--timeout", "100"), 120) as run:
        debugger = Debugger(path)
        description = debugger.ask("qXfer:features:read:target.xml:0,1000")
        assert "i386:x86-64" in description and "cr3" in description + debugger.ask("qXfer:features:read:target.xml:1000,1000")
        assert debugger.ask("?").startswith("T05")

        # Before the first instruction: registers one by one and all at once agree, and memory at RIP is the kernel's.
        start = debugger.register(RIP)
        registers = bytes.fromhex(debugger.ask("g"))
        assert int.from_bytes(registers[RIP * GPR_BYTES:][:8], "little") == start
        code = debugger.ask(f"m{start:x},10")
        assert len(code) == 32 and set(code) != {"0"}, code
        assert debugger.ask("mdeadbeef0000,4") == "E01"

        # A step, a written register, a breakpoint at the place that the step reached.
        assert debugger.ask("s").startswith("T05thread:1")
        second = debugger.register(RIP)
        assert start < second <= start + 15
        assert debugger.ask(f"P{RIP:x}=" + start.to_bytes(8, "little").hex()) == "OK"
        assert debugger.ask(f"Z0,{second:x},1") == "OK"
        assert debugger.ask("c").startswith("T05thread:1")
        assert debugger.register(RIP) == second
        assert debugger.ask(f"z0,{second:x},1") == "OK"

        # Memory is written and read back.
        assert debugger.ask("M500,4:01020304") == "OK"
        assert debugger.ask("m500,4") == "01020304"

        # A running machine is interrupted, in the kernel by then, and goes on alone when the debugger leaves.
        debugger.send("c")
        run.wait_for("Linux version")
        debugger.socket.sendall(b"\x03")
        assert debugger.answer().startswith("T02")
        assert debugger.register(RIP) != second and debugger.register(CS) != 0
        assert debugger.ask("qfThreadInfo") == "m1"
        assert debugger.ask("D") == "OK"
        run.wait_for("guest ready")
