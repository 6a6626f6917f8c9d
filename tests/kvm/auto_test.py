#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""auto_test BACKEND: without --accel the machine runs on this backend, and has its disk and its network.

The guest writes to its disk through a flush, reads it back past its cache, and gets an address by DHCP. The backend is told by the control socket.
"""
import json
import os
import subprocess
import sys
import tempfile

from wirt_guest import BUSYBOX_PROMPT, CPU, Console, WIRT, check_quiet, image

backend = sys.argv[1]
with tempfile.TemporaryDirectory(prefix="wirt-auto-") as here:
    disk, control = f"{here}/disk", f"{here}/control"
    with open(disk, "wb") as file:
        file.truncate(16 << 20)
    command = [WIRT, "run", "--kernel", image("vmlinuz-cloud"), "--initrd", image("busybox-cloud.cpio"), "--append",
               "console=ttyS0 quiet panic=-1 wirt.net=dhcp", "--cpus", "2", "--cpu", CPU, "--disk", disk, "--net", "user", "--control", control]
    with Console(command, 110) as guest:
        guest.wait_for(BUSYBOX_PROMPT)
        status = json.loads(subprocess.run([WIRT, "ctl", control, "status", "--json"], stdout=subprocess.PIPE, check=True).stdout)
        assert status["accel"] == backend, status
        guest.run("yes wirt | head -c 1048576 >/tmp/w && dd if=/tmp/w of=/dev/vda bs=64k conv=fsync && echo 3 >/proc/sys/vm/drop_caches",
                  BUSYBOX_PROMPT)
        assert guest.run("dd if=/dev/vda bs=64k count=16 2>/dev/null | cmp - /tmp/w && echo same", BUSYBOX_PROMPT) == "same"
        assert "10.0.2.15" in guest.run("ifconfig eth0", BUSYBOX_PROMPT)
        guest.type("poweroff\n")
        guest.finish(0)
        check_quiet(guest)
    with open(disk, "rb") as file:
        assert file.read(1 << 20) == b"wirt\n" * ((1 << 20) // 5) + b"w"
    print(f"ran on {backend}, {os.cpu_count()} CPUs of the host")
