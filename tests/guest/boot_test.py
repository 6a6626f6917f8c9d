# SPDX-License-Identifier: Apache-2.0
"""boot_test FLAVOUR CPUS [GIB]: the kernel comes up with all its CPUs and all its memory, its console takes input, and poweroff ends with status 0."""
import hashlib
import sys

from wirt_guest import BUSYBOX_PROMPT, Console, busybox, check_quiet

flavour, cpus, *rest = sys.argv[1:]
gib = int(rest[0]) if rest else 0
with Console(busybox(flavour, "", "--cpus", cpus, *(["--memory", f"{gib}G"] if gib else [])), 300) as guest:
    ready = guest.wait_for(r"wirt: guest ready, kernel (\S+), (\d+) cpus").groups()
    guest.wait_for(BUSYBOX_PROMPT)
    assert ready[1] == cpus, ready
    assert guest.run("cat /sys/devices/system/cpu/online", BUSYBOX_PROMPT) == ("0" if cpus == "1" else f"0-{int(cpus) - 1}")
    # Each CPU does work of its own: a process bound to it sees itself there.
    for cpu in range(int(cpus)):
        assert guest.run(f"taskset -c {cpu} awk '{{print $39}}' /proc/self/stat", BUSYBOX_PROMPT) == str(cpu)
    if gib:
        total = int(guest.run("awk '/MemTotal/ {print $2}' /proc/meminfo", BUSYBOX_PROMPT)) / (1 << 20)
        assert gib * 0.97 < total <= gib, f"{total} GiB of {gib}"
        # The hole for devices stands below 4 GiB; what does not fit below it follows above.
        above = guest.run("grep '^1.*System RAM' /proc/iomem", BUSYBOX_PROMPT)
        assert above == f"100000000-{(gib << 30) + (1 << 30) - 1:x} : System RAM", above
        # Kernels give programs what lies highest first.
        sum_there = guest.run("head -c 67108864 /dev/zero | tr '\\0' w >/tmp/lines; md5sum </tmp/lines", BUSYBOX_PROMPT).split()[0]
        assert sum_there == hashlib.md5(b"w" * (64 << 20)).hexdigest(), sum_there
    guest.type("poweroff\n")
    guest.finish(0)
    check_quiet(guest)
