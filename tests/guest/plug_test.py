# SPDX-License-Identifier: Apache-2.0
"""plug_test: a disk, a chain of images and a network card come and go while a guest runs, and the balloon takes memory and gives it back."""
import json
import os
import select
import socket as sockets
import subprocess
import tempfile

from wirt_guest import BUSYBOX_PROMPT, WIRT, Console, busybox, check_quiet

DISK_MIB = 64


def control(socket, *words):
    done = subprocess.run([WIRT, "ctl", socket, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}"
    return done.stdout


class Events:
    """A connection of its own to the control socket, for what the machine tells unasked."""

    def __init__(self, path):
        self.socket = sockets.socket(sockets.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.lines = self.socket.makefile()

    def wait_for(self, event, **members):
        for line in self.lines:
            told = json.loads(line)
            if told.get("event") == event:
                assert all(told.get(name) == value for name, value in members.items()), told
                return
        raise AssertionError(f"the connection ended before the event {event}")


def wait_in_guest(guest, what):
    """The shell's loop ends when the command says yes; the console's deadline bounds it."""
    guest.run(f"until {what}; do sleep 0.1; done", BUSYBOX_PROMPT)


def plug_disk(guest, socket, events, file, round_number):
    control(socket, "plug", "disk=" + json.dumps({"id": "extra", "file": file, "serial": f"S{round_number}"}))
    wait_in_guest(guest, "[ -b /dev/vda ]")
    assert guest.run("cat /sys/block/vda/size", BUSYBOX_PROMPT) == str(DISK_MIB * 2048)
    assert guest.run("echo $(cat /sys/block/vda/serial)", BUSYBOX_PROMPT) == f"S{round_number}"
    guest.run(f"yes round {round_number} | dd of=/dev/vda bs=64k count=16 iflag=fullblock conv=fsync", BUSYBOX_PROMPT)
    control(socket, "unplug", "device=extra")
    events.wait_for("unplugged", id="extra")
    wait_in_guest(guest, "[ ! -e /dev/vda ]")
    with open(file, "rb") as disk:
        assert disk.read(16 << 16) == (f"round {round_number}\n".encode() * (1 << 20))[:16 << 16]


def refused(socket, reason, **disk):
    """A disk is not plugged, and the message says why."""
    done = subprocess.run([WIRT, "ctl", socket, "plug", "disk=" + json.dumps(disk)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=30, check=False)
    assert done.returncode != 0 and reason in done.stdout, f"{disk}: {done.returncode}: {done.stdout}"


def disk_command(*words):
    subprocess.run([WIRT, "disk", *words], stdout=subprocess.DEVNULL, check=True)


def plug_chain(guest, socket, events, folder):
    """An overlay on an image on a raw file: read through all three, written to the overlay, locked as those of --disk are."""
    raw, middle, top = (f"{folder}/{name}" for name in ("base.raw", "middle.qcow2", "top.qcow2"))
    with open(raw, "wb") as file:
        file.write(b"base" * (1 << 18))
        file.truncate(DISK_MIB << 20)
    for image, below, kind in ((middle, raw, "raw"), (top, middle, "qcow2")):
        disk_command("create", "--format", "qcow2", "--backing", below, "--backing-format", kind, image)
    control(socket, "plug", "disk=" + json.dumps({"id": "chain", "file": top}))
    wait_in_guest(guest, "[ -b /dev/vda ]")
    for path in (top, middle, raw):
        refused(socket, "(wirt-vm) uses it", file=path)
    assert guest.run("dd if=/dev/vda bs=64k count=1 2>/dev/null | head -c 8; echo", BUSYBOX_PROMPT) == "basebase"
    guest.run("yes overlay | dd of=/dev/vda bs=64k count=16 iflag=fullblock conv=fsync", BUSYBOX_PROMPT)
    control(socket, "unplug", "device=chain")
    events.wait_for("unplugged", id="chain")
    wait_in_guest(guest, "[ ! -e /dev/vda ]")
    with open(raw, "rb") as file:
        assert file.read(4 << 18) == b"base" * (1 << 18)
    disk_command("convert", top, f"{folder}/out.raw")
    with open(f"{folder}/out.raw", "rb") as file:
        assert file.read(16 << 16) == (b"overlay\n" * (1 << 20))[:16 << 16]
    os.rename(middle, f"{folder}/gone")
    refused(socket, "middle.qcow2", file=top)
    refused(socket, "No such file", file=f"{folder}/nothing")


def plug_net(guest, socket, events):
    control(socket, "plug", 'net={"id": "card", "kind": "none"}')
    wait_in_guest(guest, "[ -e /sys/class/net/eth0 ]")
    assert guest.run("ifconfig eth0 10.9.9.9 up; cat /sys/class/net/eth0/carrier", BUSYBOX_PROMPT) == "1"
    control(socket, "unplug", "device=card")
    events.wait_for("unplugged", id="card")
    wait_in_guest(guest, "[ ! -e /sys/class/net/eth0 ]")


def net_process(port):
    """The wirt-net that forwards this port: nobody's child, known by its words."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if f"--forward=tcp:{port}:7".encode() in file.read().split(b"\0"):
                    return int(pid)
        except OSError:
            pass  # it has gone meanwhile
    raise AssertionError(f"no process forwards port {port}")


def wait_for_end(pid):
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([handle], [], [], 30)[0], f"process {pid} goes on"
    os.close(handle)


def plug_user_net(guest, socket, events):
    """A network of its own with a forwarded port: the process behind it outlives the command and goes with the card."""
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        card = {"id": "nat", "kind": "user", "forward": [{"host_port": port, "guest_port": 7}]}
        done = subprocess.run([WIRT, "ctl", socket, "plug", "net=" + json.dumps(card)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=30, check=False)
        assert done.returncode and f"127.0.0.1:{port}" in done.stdout, done.stdout
    for _ in range(2):
        control(socket, "plug", "net=" + json.dumps(card))
        process = net_process(port)
        wait_in_guest(guest, "[ -e /sys/class/net/eth0 ]")
        guest.run("ifconfig eth0 up; udhcpc -q -f -n -i eth0 -s /bin/udhcpc-script", BUSYBOX_PROMPT)
        assert "10.0.2.15" in guest.run("ifconfig eth0", BUSYBOX_PROMPT)
        # 0A: it listens. What the round before left behind has that port, too.
        guest.run("(echo here I am | nc -l -p 7) & until grep -q ':0007 .* 0A' /proc/net/tcp*; do sleep 0.1; done", BUSYBOX_PROMPT)
        with sockets.create_connection(("127.0.0.1", port), 30) as connection:
            assert connection.makefile().readline() == "here I am\n"
        control(socket, "unplug", "device=nat")
        events.wait_for("unplugged", id="nat")
        wait_in_guest(guest, "[ ! -e /sys/class/net/eth0 ]")
        wait_for_end(process)
    control(socket, "plug", "net=" + json.dumps(card))  # this one goes with the machine
    return net_process(port)


def available(guest):
    return int(guest.run("sed -n 's/MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo", BUSYBOX_PROMPT)) >> 10


def guest_memory(socket):
    return json.loads(control(socket, "guest-memory", "--json"))


def balloon(guest, socket, events):
    guest.run("rmmod virtio_balloon", BUSYBOX_PROMPT)
    failed = subprocess.run([WIRT, "ctl", socket, "guest-memory"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False)
    assert failed.returncode and "no driver" in failed.stdout, failed.stdout
    guest.run("modprobe virtio_balloon", BUSYBOX_PROMPT)
    told = guest_memory(socket)
    assert told["target"] == told["actual"] == 512 << 20, told
    total = int(guest.run("sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo", BUSYBOX_PROMPT))
    assert told["total"] == total << 10 and 0 < told["free"] < told["total"] and told["minor-faults"] > 1000, (told, total)
    # Each answer is new: a file in the guest's memory shows at once.
    guest.run("dd if=/dev/zero of=/tmp/file bs=1M count=64", BUSYBOX_PROMPT)
    after = guest_memory(socket)
    assert told["free"] - after["free"] > 60 << 20, (told, after)
    assert json.loads(control(socket, "statistics", "--json"))["balloon"]["caches"] == after["caches"]
    guest.run("rm /tmp/file", BUSYBOX_PROMPT)
    before = available(guest)
    control(socket, "balloon", "memory=256M")
    wait_in_guest(guest, f"[ $(sed -n 's/MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo) -lt {(before - 200) << 10} ]")
    while guest_memory(socket)["actual"] != 256 << 20:
        events.wait_for("balloon")
    control(socket, "balloon", "memory=512M")
    wait_in_guest(guest, f"[ $(sed -n 's/MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo) -gt {(before - 20) << 10} ]")


with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as disk_file:
    control_socket = f"{folder}/control"
    disk_file.truncate(DISK_MIB << 20)
    with Console(busybox("cloud", "", "--control", control_socket), 120) as vm:
        vm.wait_for(BUSYBOX_PROMPT)
        vm.run("modprobe virtio_blk; modprobe virtio_net", BUSYBOX_PROMPT)
        machine_events = Events(control_socket)
        for number in range(3):
            plug_disk(vm, control_socket, machine_events, disk_file.name, number)
        plug_chain(vm, control_socket, machine_events, folder)
        plug_net(vm, control_socket, machine_events)
        last = plug_user_net(vm, control_socket, machine_events)
        balloon(vm, control_socket, machine_events)
        vm.type("poweroff\n")
        vm.finish(0)
        check_quiet(vm)
        wait_for_end(last)
