# SPDX-License-Identifier: Apache-2.0
"""repeat_test TIMES CPUS: boot after boot of the cloud kernel ends the same way, without an oops and without a hang."""
import sys

from wirt_guest import Console, busybox, check_quiet

times, cpus = map(int, sys.argv[1:])
for turn in range(times):
    with Console(busybox("cloud", 'wirt.cmd="echo two words"', "--cpus", str(cpus)), 120) as guest:
        guest.wait_for(f" {cpus} cpus")
        guest.wait_for("two words\nwirt: status 0\n")
        guest.finish(0)
        check_quiet(guest)
    print(f"boot {turn + 1} of {times}", flush=True)
