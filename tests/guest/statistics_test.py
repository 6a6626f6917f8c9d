# SPDX-License-Identifier: Apache-2.0
"""statistics_test ENDS.elf: what `--stats` prints at the end, for people and as JSON, and that the numbers can be true."""
import json
import re
import subprocess
import sys
import tempfile

from wirt_guest import WIRT, Console, busybox

ENDS = sys.argv[1]
NUMBERS = ("wall_ns", "first_instruction_ns", "first_output_ns", "instructions", "instructions_interpreted", "instructions_translated",
           "main_wakeups", "host_memory_bytes")
EXITS = ("port", "mmio", "halt", "interrupt", "exception", "msr", "control", "smc")


def said(command, typed=b""):
    done = subprocess.run(command, input=typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=100, check=False)
    return done.stdout.decode(), done.stderr.decode()


def tiny(accel, *words):
    command = [WIRT, "run", "--accel", accel, "--kernel", ENDS, "--memory", "64M", "--timeout", "60", *words]
    return json.loads(said([*command, "--stats", "--json"], b"wx")[1])


for tier in ("interpreter", "engine"):
    found = tiny(tier)
    assert all(isinstance(found[name], int) for name in NUMBERS), found
    assert all(isinstance(found["exits"][name], int) for name in EXITS), found
    assert 0 < found["first_instruction_ns"] <= found["first_output_ns"] <= found["wall_ns"] < 60e9
    assert found["instructions"] == found["instructions_interpreted"] + found["instructions_translated"] > 3000
    assert (found["instructions_translated"] == 0) == (tier == "interpreter"), found
    # The guest writes at least a byte a character, has two faults and an interrupt.
    assert found["exits"]["port"] > 40 and found["exits"]["exception"] == 2 and found["exits"]["interrupt"] == 1, found
    assert 1 << 20 < found["host_memory_bytes"] < 64 << 20, found

# For people: a line for each, with the same names. A kernel's boot is translated, nearly all of it; a sleeping guest halts.
text = said(busybox("cloud", 'wirt.cmd="sleep 1"', "--stats"))[1]
lines = dict(re.findall(r"^  (\S+(?: \S+)*) +(\d+)$", text, re.MULTILINE))
assert text.startswith("statistics:\n") and all(name in lines for name in NUMBERS), text
assert all(f"exits {name}" in lines for name in EXITS), text
assert int(lines["instructions_translated"]) > 10 * int(lines["instructions_interpreted"]), text
assert int(lines["exits interrupt"]) > 100 and int(lines["exits halt"]) > 0, text
# The main thread wakes when a timer has expired, once for each, and not when the guest arms one, which would be as often again.
assert int(lines["main_wakeups"]) < 1.5 * int(lines["exits interrupt"]), text

# Who asks a machine that was started without the flag is not told that nothing was translated; tier 0 counts anyway.
for tier, counted in (("interpreter", True), ("engine", False)):
    with tempfile.TemporaryDirectory() as folder:
        command = [WIRT, "run", "--accel", tier, "--kernel", ENDS, "--memory", "64M", "--timeout", "60", "--control", f"{folder}/ctl"]
        with Console(command, 60) as vm:
            vm.wait_for("what now")
            told = said([WIRT, "ctl", f"{folder}/ctl", "statistics"])[0]
            names = set(re.findall(r"\binstructions\w*", told))
            assert names == {"instructions_interpreted", *(["instructions", "instructions_translated"] if counted else [])}, told
            vm.type("x")
            vm.finish(43)

# Without the flag nothing is printed.
assert said([WIRT, "run", "--kernel", ENDS, "--memory", "64M"], b"x") == ("what now?\n", "")
