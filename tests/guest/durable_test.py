# SPDX-License-Identifier: Apache-2.0
"""durable_test flush | kill KILLS: what a guest was told is safe, is safe.

flush: a guest writes marks to its disk and syncs each. When it says that a mark is synced, the record of what the storage saw
holds the mark's write and, behind it, a completed sync of the file.

kill: a guest writes files to ext4 on a qcow2 disk, syncing each, and wirt-vm is killed in the midst of it, KILLS times. Each time
the image has no corruption, the journal replays, and every file that the guest had called synced is there and whole.
"""
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

from wirt_guest import BUSYBOX_PROMPT, WIRT, Console, busybox, check_quiet
from write_log import FLUSH, WRITE, records

MARKS = 20


def synced(path, mark, offset):
    """Is the mark's write followed by a sync?"""
    written = False
    for operation, start, content in records(path):
        if operation == WRITE and start <= offset < start + len(content) and content[offset - start:].startswith(mark):
            written = True
        elif operation == FLUSH and written:
            return True
    return False


def test_flush(folder):
    disk, log, config = f"{folder}/disk.raw", f"{folder}/log", f"{folder}/config.json"
    with open(disk, "wb") as file:
        file.truncate(16 << 20)
    with open(config, "w", encoding="utf-8") as file:
        json.dump({"disks": [{"file": disk, "format": "raw", "log": {"file": log}}]}, file)
    with Console(busybox("cloud", "", "--config", config), 120) as vm:
        vm.wait_for(BUSYBOX_PROMPT)
        for n in range(1, MARKS + 1):
            mark = f"mark {n:05}"
            vm.run(f"echo '{mark}' | dd of=/dev/vda bs=4096 seek={n} conv=sync,fsync 2>/dev/null", BUSYBOX_PROMPT)
            assert synced(log, mark.encode(), n * 4096), f"the guest was told that '{mark}' is synced, the storage was not"
        check_quiet(vm)


def child_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        for child in file.read().split():
            with open(f"/proc/{child}/comm", encoding="ascii") as name:
                if name.read().strip() == "wirt-vm":
                    return int(child)
    raise AssertionError("wirt-vm is not there")


def shell(*command, good=(0,)):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode in good, f"{' '.join(command)}: status {done.returncode}\n{done.stdout}"
    return done.stdout


def write_until_killed(disk, first, after):
    """Boots, writes files from number `first` on, is killed once `after` are synced. Returns the last synced number."""
    loop = (f"mount -t ext4 /dev/vda /mnt && n={first}; while :; do seq $n $((n + 900)) | dd of=/mnt/f$n conv=fsync 2>/dev/null && echo synced=$n; "
            "n=$((n + 1)); done")
    command = busybox("cloud", "quiet", "--disk", f"{disk},format=qcow2")
    with Console(command, 120) as vm:
        vm.wait_for(BUSYBOX_PROMPT)
        vm.type("mkdir -p /mnt; " + loop + "\n")
        vm.wait_for(rf"synced={first + after}\n")
        os.kill(child_of(vm.vm.pid), signal.SIGKILL)
        while vm.more():
            pass
        return max(int(n) for n in re.findall(r"synced=(\d+)\n", vm.text))


def check_files(disk, last, folder):
    shell(WIRT, "disk", "check", disk)
    raw = f"{folder}/check.raw"
    shell(WIRT, "disk", "convert", disk, raw, "--force")
    shell("/sbin/e2fsck", "-fy", raw, good=(0, 1))  # 1: the journal was replayed
    shell("/sbin/e2fsck", "-fn", raw)
    for n in range(1, last + 1):
        is_there = shell("/sbin/debugfs", "-R", f"cat /f{n}", raw)
        wanted = "".join(f"{i}\n" for i in range(n, n + 901))
        assert is_there.endswith(wanted), f"file {n} of {last} synced ones is lost or damaged"


def test_kill(folder, kills):
    seed = int(os.environ.get("SEED", time.time()))
    print(f"seed {seed}", flush=True)
    random.seed(seed)
    raw, disk = f"{folder}/disk.raw", f"{folder}/disk.qcow2"
    with open(raw, "wb") as file:
        file.truncate(64 << 20)
    shell("/sbin/mke2fs", "-q", "-t", "ext4", raw)
    shell(WIRT, "disk", "convert", raw, disk)
    last = 0
    for _ in range(kills):
        last = write_until_killed(disk, last + 1, random.randrange(1, 12))
        check_files(disk, last, folder)
    print(f"{kills} kills, {last} files synced, none lost")


with tempfile.TemporaryDirectory(prefix="wirt-durable-") as where:
    if sys.argv[1] == "flush":
        test_flush(where)
    else:
        test_kill(where, int(sys.argv[2]))
