# SPDX-License-Identifier: Apache-2.0
"""kill_test KILLS [SEED]: wirt-vm is killed while a guest writes; the journal replays, and nothing that was synced is lost.

The guest writes numbered files, syncs, and then says so on the console. After each kill the file system is repaired by its journal
alone (e2fsck -p), must then be clean, and holds every file that the guest had said to be synced, with its content.
"""
import os
import random
import re
import signal
import subprocess
import sys
import tempfile

from wirt_guest import Console, busybox

kills, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
print(f"seed {seed}", flush=True)
choose = random.Random(seed)
TOOLS = {**os.environ, "PATH": os.environ["PATH"] + ":/sbin:/usr/sbin"}
# Each file is its number a hundred times, so that a lost block shows. The order of the words is the order of the promises.
WRITER = ("mount -t ext4 /dev/vda /mnt; i=$(cat /mnt/last 2>/dev/null || echo 0); while true; do i=$((i + 1)); "
          "yes $i | head -n 100 >/mnt/$i; echo $i >/mnt/last; rm -f /mnt/$((i - 40)); sync; echo synced $i; done")


def host(*command, good=(0,)):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=TOOLS, check=False)
    assert done.returncode in good, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def words(path):
    with open(path, encoding="ascii") as file:
        return file.read().split()


def kill_machine(launcher):
    """Kills wirt-vm as nothing in it can expect; the launcher then ends by itself."""
    for pid in words(f"/proc/{launcher}/task/{launcher}/children"):
        if words(f"/proc/{pid}/comm") == ["wirt-vm"]:
            os.kill(int(pid), signal.SIGKILL)
            return
    raise AssertionError("the launcher has no wirt-vm")


def written(disk):
    """Where the guest will go on: it may have come further than it could say, and the last number may be cut off (it was not synced)."""
    text = host("debugfs", "-R", "cat /last", disk).split("\n")[-2:-1]
    return int(text[0]) if text and text[0].isdigit() else 0


with tempfile.TemporaryDirectory() as folder:
    disk, promised = f"{folder}/disk", 0
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    host("mke2fs", "-q", "-t", "ext4", disk)
    for kill in range(kills):
        with Console(busybox("cloud", f'quiet wirt.cmd="{WRITER}"', "--disk", disk), 120) as guest:
            last = written(disk) + choose.randrange(1, 25)
            guest.wait_for(f"synced {last}\n")
            kill_machine(guest.vm.pid)
            while guest.more():
                pass
            promised = max(int(number) for number in re.findall(r"^synced (\d+)$", guest.text, re.MULTILINE))
        host("e2fsck", "-p", disk, good=(0, 1))
        host("e2fsck", "-fn", disk)
        for number in range(max(1, promised - 38), promised + 1):
            content = host("debugfs", "-R", f"cat /{number}", disk).split("\n")
            assert content.count(str(number)) == 100, f"file {number} of {promised}: {content[:3]}"
        print(f"kill {kill + 1} of {kills}: {promised} files", flush=True)
