# SPDX-License-Identifier: Apache-2.0
"""disk_jobs_test: a guest writes and flushes all the time while jobs run on its disk; every copy is what it must be.

The guest's writer puts number n, flushed, into slot n % SLOTS, one after another. So an image of the disk at one instant holds exactly the numbers of
some n writes: a copy that mixes instants does not. The rest of the disk is random bytes, which must stay. Images are read by qemu-img.
"""
import json
import os
import random
import subprocess
import tempfile

from wirt_guest import BUSYBOX_PROMPT, WIRT, Console, busybox, check_quiet

DISK_BYTES = 48 << 20
BLOCK = 4096
SLOTS = 96
STRIDE = 37  # blocks between slots: over many clusters
WRITER = f"""n=0; while [ ! -e /stop ]; do
printf '%08d' $n | dd of=/dev/vda bs={BLOCK} seek=$(((n % {SLOTS}) * {STRIDE})) conv=sync,notrunc,fsync 2>/dev/null
n=$((n+1)); echo $n > /now.new; mv /now.new /now; done; mv /now /count"""


class Machine:
    def __init__(self, folder, guest):
        self.folder, self.guest, self.socket = folder, guest, f"{folder}/control"

    def ctl(self, *words, refused=False):
        done = subprocess.run([WIRT, "ctl", self.socket, *words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=120, check=False)
        assert (done.returncode != 0) == refused, f"{words}: {done.stdout}{done.stderr}"
        return done.stderr if refused else json.loads(done.stdout)

    def job(self, *words):
        """A job until it has ended or is ready."""
        told = self.ctl(*words, "--wait")
        assert told["state"] in ("done", "ready"), told
        return told

    def complete(self, job, *words):
        self.ctl("job-complete", f"job={job['id']}", *words)
        told = self.ctl("job-wait", f"job={job['id']}")
        assert told["state"] == "done", told

    def layers(self):
        disk = self.ctl("disks")["disks"][0]
        return [os.path.basename(layer["file"]) for layer in disk["layers"]]

    def let_it_write(self):
        """Until the guest has written ten times more."""
        self.guest.run("a=$(cat /now); until [ $(cat /now) -ge $((a+10)) ]; do sleep 0.05; done", BUSYBOX_PROMPT)


def qemu_img(*words):
    return subprocess.run(["qemu-img", *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def as_raw(folder, name):
    qemu_img("convert", "-O", "raw", f"{folder}/{name}", f"{folder}/copy.raw")
    with open(f"{folder}/copy.raw", "rb") as file:
        return bytearray(file.read())


def slots_of(content):
    """The numbers in the slots, -1 for one never written; and takes them out of the content."""
    numbers = []
    for slot in range(SLOTS):
        at = slot * STRIDE * BLOCK
        text = bytes(content[at:at + 8])
        numbers.append(int(text) if text.isdigit() and not any(content[at + 8:at + BLOCK]) else -1)
        content[at:at + BLOCK] = bytes(BLOCK)
    return numbers


def check_instant(folder, name, rest, writes=None):
    """The image is the disk after some number of writes (or after exactly so many), and nothing else."""
    content = as_raw(folder, name)
    numbers = slots_of(content)
    n = max(numbers) + 1
    for slot, number in enumerate(numbers):
        expected = (n - 1) - (n - 1 - slot) % SLOTS if slot < n else -1
        # The write after the last flushed one may be there already.
        assert number == expected, f"{name}: slot {slot} holds {number}, not {expected}, with {n} writes"
    assert writes is None or n == writes, f"{name}: {n} writes, not {writes}"
    assert content == rest, f"{name}: what nobody wrote has changed"
    return n


def snapshots_and_commits(machine):
    for name in "abcd":
        machine.ctl("disk-snapshot", "disk=disk0", f"file={machine.folder}/{name}.qcow2")
        machine.let_it_write()
    assert machine.layers() == ["d.qcow2", "c.qcow2", "b.qcow2", "a.qcow2", "base.raw"]
    machine.job("disk-commit", "disk=disk0", "top=b.qcow2", "base=a.qcow2")  # inner ones, and the image above is not the active one
    assert machine.layers() == ["d.qcow2", "c.qcow2", "a.qcow2", "base.raw"]
    machine.let_it_write()
    ready = machine.job("disk-commit", "disk=disk0", "base=a.qcow2")
    machine.let_it_write()
    machine.complete(ready)
    assert machine.layers() == ["a.qcow2", "base.raw"]
    machine.job("disk-stream", "disk=disk0")
    assert machine.layers() == ["a.qcow2"]


def orders(machine, target):
    """Started slow, paused, resumed, cancelled; another one meanwhile is refused."""
    job = machine.ctl("disk-mirror", "disk=disk0", f"file={target}", "rate=256K")["job"]
    assert "another job" in machine.ctl("disk-stream", "disk=disk0", refused=True)
    machine.ctl("job-pause", f"job={job}")
    told = machine.ctl("jobs")["jobs"][-1]
    assert told["id"] == job and told["paused"] and told["state"] == "running", told
    machine.ctl("job-resume", f"job={job}")
    machine.ctl("job-rate", f"job={job}", "rate=512K")
    machine.ctl("job-cancel", f"job={job}")
    assert machine.ctl("job-wait", f"job={job}")["state"] == "cancelled"
    os.unlink(target)


def mirror(machine):
    folder = machine.folder
    orders(machine, f"{folder}/cancelled.raw")
    ready = machine.job("disk-mirror", "disk=disk0", f"file={folder}/aside.raw")
    machine.let_it_write()
    machine.complete(ready, "pivot=false")
    ready = machine.job("disk-mirror", "disk=disk0", f"file={folder}/moved.qcow2")
    machine.let_it_write()
    machine.complete(ready)
    assert machine.layers() == ["moved.qcow2"]


def backups(machine):
    folder = machine.folder
    machine.ctl("bitmap-create", "disk=disk0", "name=since", "granularity=64K")
    machine.job("disk-backup", "disk=disk0", f"file={folder}/full.qcow2", "bitmap=since")
    machine.let_it_write()
    machine.job("disk-backup", "disk=disk0", f"file={folder}/more.qcow2", "scope=dirty", "bitmap=since", f"backing={folder}/full.qcow2")
    machine.let_it_write()
    machine.ctl("disk-snapshot", "disk=disk0", f"file={folder}/last.qcow2")  # the bitmap goes on across it
    machine.let_it_write()
    machine.job("disk-backup", "disk=disk0", f"file={folder}/most.qcow2", "scope=dirty", "bitmap=since", f"backing={folder}/more.qcow2")


def main():
    with tempfile.TemporaryDirectory() as folder:
        rest = bytearray(random.Random(1).randbytes(DISK_BYTES))
        with open(f"{folder}/base.raw", "wb") as base:
            base.write(rest)
        slots_of(rest)
        disk = f"{folder}/base.raw"
        with Console(busybox("cloud", "", "--control", f"{folder}/control", "--disk", disk), 240) as guest:
            guest.wait_for(BUSYBOX_PROMPT)
            guest.run("modprobe virtio_blk; until [ -b /dev/vda ]; do sleep 0.1; done", BUSYBOX_PROMPT)
            for line in WRITER.splitlines():
                guest.run(f'echo "{line}" >> /writer'.replace("$", "\\$"), BUSYBOX_PROMPT)
            guest.run("sh /writer & until [ -e /now ]; do sleep 0.1; done", BUSYBOX_PROMPT)
            machine = Machine(folder, guest)
            snapshots_and_commits(machine)
            mirror(machine)
            backups(machine)
            guest.run("touch /stop; until [ -e /count ]; do sleep 0.1; done", BUSYBOX_PROMPT)
            writes = int(guest.run("cat /count", BUSYBOX_PROMPT))
            # The machine ends in the midst of a job that writes into the active image; it does not wait for it.
            job = machine.ctl("disk-stream", "disk=disk0", "rate=64K")["job"]
            machine.ctl("job-rate", f"job={job}", "rate=128K")
            assert machine.ctl("jobs")["jobs"][-1]["state"] == "running"
            guest.type("poweroff\n")
            guest.finish(0)
            check_quiet(guest)
        check_instant(folder, "last.qcow2", rest, writes)
        seen = [check_instant(folder, name, rest) for name in ("base.raw", "aside.raw", "full.qcow2", "more.qcow2", "most.qcow2")]
        assert seen == sorted(seen) and seen[-1] <= writes, seen
        for name in ("moved", "last", "full", "more", "most", "a"):
            qemu_img("check", f"{folder}/{name}.qcow2")
        print(f"{writes} writes; the copies hold {seen}")


main()
