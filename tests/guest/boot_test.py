# SPDX-License-Identifier: Apache-2.0
"""boot_test FLAVOUR CPUS: the kernel comes up with all its CPUs, its console takes input, and poweroff ends with status 0."""
import sys

from wirt_guest import BUSYBOX_PROMPT, Console, busybox, check_quiet

flavour, cpus = sys.argv[1:]
with Console(busybox(flavour, "", "--cpus", cpus), 120) as guest:
    ready = guest.wait_for(r"wirt: guest ready, kernel (\S+), (\d+) cpus").groups()
    guest.wait_for(BUSYBOX_PROMPT)
    assert ready[1] == cpus, ready
    assert guest.run("cat /sys/devices/system/cpu/online", BUSYBOX_PROMPT) == ("0" if cpus == "1" else f"0-{int(cpus) - 1}")
    # Each CPU does work of its own: a process bound to it sees itself there.
    for cpu in range(int(cpus)):
        assert guest.run(f"taskset -c {cpu} awk '{{print $39}}' /proc/self/stat", BUSYBOX_PROMPT) == str(cpu)
    guest.type("poweroff\n")
    guest.finish(0)
    check_quiet(guest)
