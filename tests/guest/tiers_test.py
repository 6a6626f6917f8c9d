# SPDX-License-Identifier: Apache-2.0
"""tiers_test A,B [COUNT]: a deterministic machine's hashes, of the CPU's state and of RAM, are equal under two tiers (or twice under one), over the
boot of the cloud kernel to power-off, or over the first COUNT instructions."""
import subprocess
import sys

from wirt_guest import TOP, WIRT, image

tiers, *count = sys.argv[1:]
words = ["--kernel", image("vmlinuz-cloud"), "--initrd", image("busybox-cloud.cpio"), "--memory", "128M",
         "--append", "console=ttyS0 panic=-1 wirt.cmd=true"]
limit = ["--to", count[0]] if count else []
sys.exit(subprocess.run([f"{TOP}/tools/compare-tiers", "--wirt", WIRT, "--tiers", tiers, *limit, "--", *words], check=False).returncode)
