# SPDX-License-Identifier: Apache-2.0
"""debian_test kernel|firmware: Debian comes up whole from its disk, and leaves a clean file system behind.

"kernel" hands kernel and initrd to the machine; "firmware" lets SeaBIOS boot the disk by GRUB.
"""
import sys

from wirt_guest import PROMPT, Console, check_clean, check_quiet, copy_of, debian, wirt

by_kernel = sys.argv[1] == "kernel"
with copy_of("debian.ext4" if by_kernel else "debian.raw") as disk:
    command = debian(disk.name) if by_kernel else wirt("--memory", "1G", "--disk", disk.name)
    with Console(command, 300) as guest:
        if not by_kernel:
            guest.wait_for("SeaBIOS")
            guest.wait_for("GRUB|Debian GNU/Linux")
        guest.wait_for("debian login:")
        guest.wait_for(PROMPT)
        state = guest.run("systemctl is-system-running --wait")
        failed = guest.run("systemctl --failed --no-legend")
        assert (state, failed) == ("running", ""), (state, failed)
        guest.type("poweroff\n")
        guest.finish(0)
        check_quiet(guest)
    if by_kernel:
        check_clean(disk.name)
