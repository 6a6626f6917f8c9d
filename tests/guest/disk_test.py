# SPDX-License-Identifier: Apache-2.0
"""disk_test device | cache | full stop|report | error stop|report | gone stop|report | lost | clones NUMBER: a disk as the guest sees it.

device: a running guest sees queues, discard, write zeroes, cache mode and a new size; limits slow it down; statistics count.

full: the image lies on a file system that becomes full while the guest writes. With "stop" the machine pauses and tells, and after room was
made it goes on as if nothing had been; with "report" the guest sees the error. What was synced is there, the image is sound.

cache: once the guest has switched its disk to write-through, the storage sees a sync behind every write, and before that it does not.

error: the storage answers EIO to writes while the guest writes, a real server behind NBD. With "stop" the machine pauses and tells, and goes on
when the storage is well again, as if nothing had been; with "report" the guest sees the error. What was synced is there.

gone: both processes that stand between the machine and a remote disk are killed while the guest writes: the one that would begin another, then the other.
The machine tells that they have ended; then the disk's policy applies, and what was synced is on the server.

lost: the server of a remote disk is killed while the guest writes and does not come back. The machine can be stopped all the same; it says that something
may be lost, and what was synced is on the server.

clones: so many linked clones of a template, with the time and disk use of each.
"""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import as_root
import storage_servers
from wirt_guest import BUSYBOX_PROMPT, WIRT, Console, busybox, check_quiet, connect, image, skip
from write_log import FLUSH, WRITE, records


PIECE = "y\n" * (1 << 15)


def shell(*command, good=(0,)):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode in good, f"{' '.join(command)}: status {done.returncode}\n{done.stdout}"
    return done.stdout


class Control:
    """A connection to the control socket: requests, and the events between."""

    def __init__(self, path):
        self.socket = connect(path)
        self.socket.settimeout(120)
        self.lines = self.socket.makefile()
        self.events = []

    def do(self, command, **members):
        self.socket.sendall((json.dumps({"id": 1, "do": command, **members}) + "\n").encode())
        for line in self.lines:
            told = json.loads(line)
            if "event" in told:
                self.events.append(told)
            else:
                assert "ok" in told, told
                return told["ok"]
        raise AssertionError("the machine closed the connection")

    def wait_for(self, event):
        while True:
            for told in self.events:
                if told["event"] == event:
                    self.events.remove(told)
                    return told
            line = self.lines.readline()
            assert line, f"the machine closed the connection before it told of {event}"
            self.events.append(json.loads(line))

    def disk(self):
        return self.do("statistics")["disks"][0]


# ---- device

def test_device(folder):
    disk, config = f"{folder}/disk.qcow2", f"{folder}/config.json"
    shell(WIRT, "disk", "create", disk, "64M")
    with open(config, "w", encoding="utf-8") as file:
        json.dump({"disks": [{"file": disk, "format": "qcow2", "serial": "S1"}]}, file)
    with Console(busybox("cloud", "", "--config", config, "--cpus", "2", "--control", f"{folder}/control"), 120) as guest:
        guest.wait_for(BUSYBOX_PROMPT)
        control = Control(f"{folder}/control")

        def run(command):
            return guest.run(command, BUSYBOX_PROMPT)

        def queue(name):
            return run(f"cat /sys/block/vda/queue/{name}")

        assert run("ls /sys/block/vda/mq | wc -l") == "2", "a queue each vCPU"
        assert int(queue("discard_max_bytes")) > 0 and int(queue("write_zeroes_max_bytes")) > 0
        assert queue("optimal_io_size") == "65536" and queue("physical_block_size") == "4096", "topology"
        # The cache mode: "write through" makes each write durable, which shows as flushes of its own.
        assert run("cat /sys/block/vda/cache_type") == "write back"
        run("yes one | dd of=/dev/vda bs=4096 count=4 oflag=direct iflag=fullblock 2>/dev/null")
        run("echo write through > /sys/block/vda/cache_type")
        assert run("cat /sys/block/vda/cache_type") == "write through"
        run("echo write back > /sys/block/vda/cache_type")
        # A new size, and something at its end.
        assert control.do("disk-resize", device="disk0", size=96 << 20)["size"] == 96 << 20
        run("until [ $(cat /sys/block/vda/size) = 196608 ]; do sleep 0.1; done")
        run("echo the end | dd of=/dev/vda bs=512 seek=196607 conv=sync,fsync 2>/dev/null")
        # Discard gives the space back.
        run("yes two | dd of=/dev/vda bs=1M seek=8 count=16 iflag=fullblock conv=fsync 2>/dev/null")
        full = os.stat(disk).st_blocks
        run("blkdiscard -o 8388608 -l 16777216 /dev/vda && sync /dev/vda")
        assert os.stat(disk).st_blocks < full - (15 << 11), "a discard gives space back"
        # Limits: 40 requests at 20 a second take at least 1.9 s, however slow the guest is.
        before = control.disk()
        control.do("disk-limits", device="disk0", iops=20, iops_burst=1)
        start = time.monotonic()
        run("dd if=/dev/vda of=/dev/null bs=4096 count=40 iflag=direct 2>/dev/null")
        assert time.monotonic() - start >= 1.9
        control.do("disk-limits", device="disk0")
        after = control.disk()
        reads = after["read"]["requests"] - before["read"]["requests"]
        assert reads == 40 and after["delayed"] - before["delayed"] > 20, (before, after)
        assert sum(after["read"]["latency_us"].values()) == after["read"]["requests"]
        assert after["write"]["bytes"] > 16 << 20 and after["flush"]["requests"] > 0 and after["discard"]["requests"] > 0, after
        guest.type("poweroff -f\n")
        guest.finish(0)
        check_quiet(guest)
    shell(WIRT, "disk", "check", disk)
    raw = f"{folder}/raw"
    shell(WIRT, "disk", "convert", disk, raw, "--format", "raw")
    with open(raw, "rb") as file:
        file.seek(-512, os.SEEK_END)
        assert file.read(7) == b"the end"


# ---- cache

def test_cache(folder):
    disk, log, config = f"{folder}/disk.raw", f"{folder}/log", f"{folder}/config.json"
    with open(disk, "wb") as file:
        file.truncate(16 << 20)
    with open(config, "w", encoding="utf-8") as file:
        json.dump({"disks": [{"file": disk, "format": "raw", "log": {"file": log}}]}, file)

    def seen():
        return "".join({WRITE: "w", FLUSH: "f"}.get(operation, "") for operation, _, _ in records(log))

    with Console(busybox("cloud", "", "--config", config), 120) as guest:
        guest.wait_for(BUSYBOX_PROMPT)

        def write(mode):
            guest.run(f"echo {mode} > /sys/block/vda/cache_type", BUSYBOX_PROMPT)
            before = len(seen())
            guest.run("yes | dd of=/dev/vda bs=4096 count=20 oflag=direct iflag=fullblock 2>/dev/null", BUSYBOX_PROMPT)
            return seen()[before:]

        assert "w" * 20 in write("write back"), "a guest that flushes by itself needs no sync behind its writes"
        through = write("write through")
        assert "wf" * 20 in through, f"the storage saw {through}"
        back = write("write back")
        assert "w" * 20 in back, f"the storage saw {back}"
        guest.type("poweroff -f\n")
        guest.finish(0)
        check_quiet(guest)


# ---- error

class FailingNbd(storage_servers.Nbd):
    """Answers EIO to every write while the file `trigger` is there."""
    trigger = None

    def command(self):
        self.trigger = f"{self.folder}/fail"
        return [storage_servers.need("nbdkit"), "-f", "-p", str(self.port), "-i", "127.0.0.1", "--filter=error", "file", self.file,
                "error=EIO", "error-pwrite-rate=1", f"error-pwrite-file={self.trigger}"]


def needs_nbd(folder):
    """An empty file system for a server to offer."""
    if not os.path.exists(f"{os.path.dirname(WIRT)}/wirt-io-nbd"):
        skip("this build has no wirt-io-nbd: its library is missing")
    raw = f"{folder}/raw"
    with open(raw, "wb") as file:
        file.truncate(64 << 20)
    shell("/sbin/mke2fs", "-q", "-t", "ext4", raw)
    return raw


def start_writing(guest, count, pieces):
    """So many files, each its name and so many pieces; a line for each that is synced."""
    guest.run("mkdir -p /mnt; mount -t ext4 /dev/vda /mnt", BUSYBOX_PROMPT)
    guest.run(f"yes | dd of=/piece bs={len(PIECE)} count=1 iflag=fullblock 2>/dev/null", BUSYBOX_PROMPT)
    guest.type(f"for n in $(seq 1 {count}); do (echo file $n; cat{' /piece' * pieces}) | dd of=/mnt/f$n bs=64k iflag=fullblock conv=fsync 2>/dev/null && "
               "echo synced=$n; done; echo all $((1 + 1))\n")


def test_error(folder, policy):
    raw = needs_nbd(folder)
    with FailingNbd(folder, raw) as server:
        words = ["--disk", f"{server.url},format=raw,on-error={policy}", "--control", f"{folder}/control"]
        with Console(busybox("cloud", "", *words), 200) as guest:
            guest.wait_for(BUSYBOX_PROMPT)
            control = Control(f"{folder}/control")
            start_writing(guest, 20, 4)
            guest.wait_for("synced=5\r?\n")
            with open(server.trigger, "wb"):
                pass
            if policy == "stop":
                told = control.wait_for("disk-error")
                assert told["operation"] == "write" and "nput/output error" in told["reason"], told
                assert control.do("status")["state"] == "paused" and control.disk()["held"] > 0
                os.unlink(server.trigger)
                control.do("resume")
            guest.wait_for("all 2\r?\n")
            synced = synced_files(guest, 20)
            if policy == "stop":
                assert synced == list(range(1, 21)), "the guest noticed something"
                guest.wait_for(BUSYBOX_PROMPT)
                guest.run("umount /mnt", BUSYBOX_PROMPT)
                assert not re.search("I/O error|EXT4-fs error|Call Trace", guest.text)
            else:
                assert 5 <= len(synced) < 20 and "I/O error" in guest.text, "the guest saw no error"
                os.unlink(server.trigger)
            guest.type("poweroff -f\n")
            guest.finish(0)
    check_files(raw, synced, 4)
    print(f"{policy}: {len(synced)} files synced, none lost")


def test_gone(folder, policy):
    raw = needs_nbd(folder)
    with storage_servers.Nbd(folder, raw) as server:
        words = ["--disk", f"{server.url},format=raw,on-error={policy}", "--control", f"{folder}/control"]
        with Console(busybox("cloud", "", *words), 200) as guest:
            guest.wait_for(BUSYBOX_PROMPT)
            control = Control(f"{folder}/control")
            start_writing(guest, 20, 4)
            guest.wait_for("synced=5\r?\n")
            for pid in storage_servers.processes_before(server.url):
                os.kill(pid, signal.SIGKILL)
            told = control.wait_for("disk-connection")
            assert told["state"] == "lost" and "its process has ended" in told["reason"], told
            if policy == "stop":
                told = control.wait_for("disk-error")
                assert told["operation"] in ("write", "flush") and control.do("status")["state"] == "paused", told
                synced = synced_files(guest, 20)
                control.do("stop")
            else:
                guest.wait_for("all 2\r?\n")
                synced = synced_files(guest, 20)
                assert 5 <= len(synced) < 20 and "I/O error" in guest.text, "the guest saw no error"
                guest.type("poweroff -f\n")
            guest.finish(0)
    check_files(raw, synced, 4)
    print(f"{policy}: {len(synced)} files synced, none lost")


def test_lost(folder):
    raw = needs_nbd(folder)
    with storage_servers.Nbd(folder, raw) as server:
        with Console(busybox("cloud", "", "--disk", f"{server.url},format=raw", "--control", f"{folder}/control"), 200) as guest:
            guest.wait_for(BUSYBOX_PROMPT)
            control = Control(f"{folder}/control")
            start_writing(guest, 20, 4)
            guest.wait_for("synced=5\r?\n")
            server.kill()
            assert control.wait_for("disk-connection")["state"] == "lost"
            while not control.disk()["in_flight"]:  # the guest goes on until it has to wait
                pass
            synced = synced_files(guest, 20)
            control.do("stop")
            guest.finish(0)
            assert "could not be made durable" in guest.text, "nothing was told of what is lost"
    check_files(raw, synced, 4)
    print(f"{len(synced)} files synced, none lost")


def synced_files(guest, count):
    return [n for n in range(1, count + 1) if f"synced={n}\r\n" in guest.text or f"synced={n}\n" in guest.text]


def check_files(raw, synced, pieces):
    shell("/sbin/e2fsck", "-fy", raw, good=(0, 1))
    for n in synced:
        wanted = f"file {n}\n" + PIECE * pieces
        assert shell("/sbin/debugfs", "-R", f"cat /f{n}", raw).endswith(wanted), f"file {n}, which was synced, is lost or damaged"


# ---- full

def own_mounts():
    """This program moves into a mount namespace of its own: root's, or that of a user namespace, for which no right is needed."""
    if os.environ.get("WIRT_TEST_UNSHARED"):
        return
    os.environ["WIRT_TEST_UNSHARED"] = "yes"
    if os.geteuid() == 0:
        as_root.again("unshare", "-m")
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "small", "/tmp"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    as_root.again("unshare", "-m")
    skip("no small file system: the kernel refuses it in a user namespace, and sudo without a password")


def make_room(small):
    # The source is told, too: without it mount adds the options that it finds, among them an owner who has no number in a user namespace.
    shell("mount", "-o", "remount,size=200m", "small", small)


def test_full(folder, policy):
    small = f"{folder}/small"
    os.mkdir(small)
    shell("mount", "-t", "tmpfs", "-o", "size=24m,mode=777", "small", small)
    try:
        fill(folder, small, policy)
    finally:
        shell("umount", "--lazy", small)


def fill(folder, small, policy):
    disk, raw = f"{small}/disk.qcow2", f"{folder}/raw"
    with open(raw, "wb") as file:
        file.truncate(64 << 20)
    shell("/sbin/mke2fs", "-q", "-t", "ext4", raw)
    shell(WIRT, "disk", "convert", raw, disk)
    words = ["--disk", f"{disk},format=qcow2,on-error={policy}", "--control", f"{folder}/control"]
    with Console(busybox("cloud", "", *words), 200) as guest:
        guest.wait_for(BUSYBOX_PROMPT)
        control = Control(f"{folder}/control")
        start_writing(guest, 30, 16)
        if policy == "stop":
            told = control.wait_for("disk-error")
            assert told["operation"] in ("write", "flush", "write-zeroes") and "space" in told["reason"], told
            assert control.do("status")["state"] == "paused" and control.disk()["held"] > 0
            make_room(small)
            control.do("resume")
        guest.wait_for("all 2\r?\n")
        synced = synced_files(guest, 30)
        if policy == "stop":
            assert synced == list(range(1, 31)), "the guest noticed something"
            guest.wait_for(BUSYBOX_PROMPT)
            guest.run("umount /mnt", BUSYBOX_PROMPT)
            assert not re.search("I/O error|EXT4-fs error|Call Trace", guest.text)  # the clock has stood still, and the guest says so
        else:
            assert 0 < len(synced) < 30 and "rror" in guest.text, "the guest saw no error"
            make_room(small)
        guest.type("poweroff -f\n")
        guest.finish(0)
    shell(WIRT, "disk", "check", disk)
    shell(WIRT, "disk", "convert", disk, raw, "--force", "--format", "raw")
    check_files(raw, synced, 16)
    print(f"{policy}: {len(synced)} files synced, none lost")


# ---- clones

def test_clones(folder, number):
    template = f"{folder}/template.qcow2"
    shell(WIRT, "disk", "convert", image("debian.ext4"), template, "--source-format", "raw")
    took, used = [], []
    begin = time.monotonic()
    for n in range(number):
        start = time.monotonic()
        shell(WIRT, "disk", "create", f"{folder}/clone{n}.qcow2", "--backing", "template.qcow2", "--backing-format", "qcow2")
        took.append(time.monotonic() - start)
        used.append(os.stat(f"{folder}/clone{n}.qcow2").st_blocks * 512)
    whole = time.monotonic() - begin
    assert max(used) <= 64 << 10, f"a clone takes {max(used)} bytes"
    for n in (0, number - 1):
        assert "equal" in shell(WIRT, "disk", "compare", template, f"{folder}/clone{n}.qcow2")
        shell(WIRT, "disk", "check", f"{folder}/clone{n}.qcow2")
    took.sort()
    print(f"{number} clones in {whole:.1f} s: each {1000 * sum(took) / number:.1f} ms (median {1000 * took[number // 2]:.1f}, "
          f"slowest {1000 * took[-1]:.1f}) and {sum(used) / number / 1024:.0f} KiB on the disk")


if sys.argv[1] == "full":
    own_mounts()
with tempfile.TemporaryDirectory(prefix="wirt-disk-") as where:
    os.chmod(where, 0o755)
    if sys.argv[1] == "device":
        test_device(where)
    elif sys.argv[1] == "cache":
        test_cache(where)
    elif sys.argv[1] in ("error", "gone"):
        try:
            (test_error if sys.argv[1] == "error" else test_gone)(where, sys.argv[2])
        except storage_servers.Missing as missing:
            skip(str(missing))
    elif sys.argv[1] == "lost":
        try:
            test_lost(where)
        except storage_servers.Missing as missing:
            skip(str(missing))
    elif sys.argv[1] == "full":
        test_full(where, sys.argv[2])
    else:
        test_clones(where, int(sys.argv[2]))
