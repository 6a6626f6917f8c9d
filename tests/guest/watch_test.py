# SPDX-License-Identifier: Apache-2.0
"""watch_test ENDS.elf: the lines of `--trace`, each kind by itself, under both tiers; and that nothing else is printed."""
import re
import subprocess
import sys

from wirt_guest import WIRT

ENDS = sys.argv[1]
HEAD = r"cpu0 (\d+) ([0-9a-f]+)  "
UNMAPPED = "7f0000000000"


def lines(accel, *kinds, guest=ENDS, typed="wx"):
    words = [word for kind in kinds for word in ("--trace", kind)]
    # The letters come one by one: the guest takes what waits.
    done = subprocess.run([WIRT, "run", "--accel", accel, "--kernel", guest, "--memory", "64M", "--timeout", "60", *words],
                          input=typed.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=90, check=False)
    assert done.returncode & 1, (done.returncode, done.stderr)
    return done.stderr.decode().splitlines()


def texts(found, accel):
    """What the lines say behind their heads; their instruction counts never go back, and are exact under the interpreter."""
    heads = [re.match(HEAD, line) for line in found]
    assert all(heads), [line for line, head in zip(found, heads) if not head]
    counts = [int(head.group(1)) for head in heads]
    assert counts == sorted(counts), counts
    assert accel != "interpreter" or counts[-1] > 0
    return [line[head.end():] for line, head in zip(found, heads)]


def has(wanted, found):
    assert any(re.fullmatch(wanted, line) for line in found), (wanted, found)


for tier in ("interpreter", "engine"):
    said = texts(lines(tier, "exits"), tier)
    for pattern in (r"port debug-console e9 <- 77 \(1\)", r"port uart0 3f8 -> 77 \(1\)", r"port uart0 3f8 <- 77 \(1\)", r"port debug-exit f4 <- 15 \(1\)",
                    r"cr3 <- [0-9a-f]+", r"cr0 <- 80010033", r"msr c0000080 <- 901", r"msr 80f <- 1ff"):
        has(pattern, said)
    assert not [line for line in said if re.match("interrupt|page fault|invalid|64-bit", line)]

    said = texts(lines(tier, "faults"), tier)
    assert said == [f"page fault at {UNMAPPED}, error 2 (write, supervisor)", "invalid opcode"], said

    said = texts(lines(tier, "interrupts"), tier)
    assert said == ["interrupt 61"], said

    said = texts(lines(tier, "modes"), tier)
    assert said == ["32-bit protected mode, paging off", "compatibility mode, paging 4-level", "64-bit mode, paging 4-level"], said

    # Several kinds together: in the order in which they happen.
    said = texts(lines(tier, "faults", "interrupts"), tier)
    assert [line.split()[0] for line in said] == ["page", "invalid", "interrupt"], said

# All modes that there are, through the guest that visits them.
said = texts(lines("interpreter", "modes", guest=ENDS.replace("ends.elf", "modes.elf"), typed=""), "interpreter")
for mode in ("real mode, paging off", "16-bit protected mode, paging off", "32-bit protected mode, paging off", "virtual-8086 mode, paging off",
             "compatibility mode, paging 4-level", "64-bit mode, paging 4-level"):
    assert mode in said, (mode, sorted(set(said)))

# Guest code beside its translation: the first block that writes the watched variable, with its bytes and the host's.
found = lines("engine", "translate")
blocks = "\n".join(found).split("\ntranslate ")[1:]
for block in blocks:
    head, *rest = block.split("\n")
    assert re.fullmatch(r"[0-9a-f]+ \(physical [0-9a-f]+, mode [0-9a-f]+\): \d+ instructions, \d+ bytes become \d+", head), head
    at = rest.index("  host:")
    count, size, become = (int(word) for word in re.findall(r"(\d+) instructions, (\d+) bytes become (\d+)", head)[0])
    code = [re.fullmatch(r"  [0-9a-f]{12}  ((?:[0-9a-f]{2})+) +\S.*", line) for line in rest[:at]]
    host = [re.fullmatch(r"    [0-9a-f]{12}  ((?:[0-9a-f]{2})+) +\S.*", line) for line in rest[at + 1:]]
    assert all(code) and all(host), block
    assert len(code) == count and sum(len(line.group(1)) // 2 for line in code) == size, block
    assert sum(len(line.group(1)) // 2 for line in host) == become, block
assert len(blocks) > 3 and any("in al, dx" in block or "outsb" in block or "add " in block for block in blocks)
assert lines("interpreter", "translate") == []
