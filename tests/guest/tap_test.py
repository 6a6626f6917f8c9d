# SPDX-License-Identifier: Apache-2.0
"""tap_test: a stock guest on a TAP interface: 64 MiB each way, intact, in segments far larger than the cable's (checksums and segmentation are left to
the other side both ways, large frames come in several of the guest's buffers).

The interface stands in a network namespace of the test's own, for which no right is needed. Where /dev/net/tun is root's alone, as without udev, an ordinary
user's test gets namespaces by sudo in which it is everybody's.
"""
import ctypes
import fcntl
import os
import pwd
import re
import socket
import stat
import struct
import subprocess
import sys
import tempfile

import as_root
from transfer import Server
from wirt_guest import BUSYBOX_PROMPT, Console, busybox, check_quiet, skip

NEW_USER, NEW_NET = 0x10000000, 0x40000000
TUNSETIFF, TUNSETPERSIST, TUNSETOWNER = 0x400454CA, 0x400454CB, 0x400454CC
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_UP = 2, 0x1000, 0x4000, 1
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
TUN = "/dev/net/tun"
NAME, HOST, GUEST = b"wirt0", "10.77.0.1", "10.77.0.2"
CABLE = 1514
INSIDE = "inside"


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def enter_namespace():
    """As root a network of our own; as somebody else in a user namespace, in which we stay who we are."""
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NET if user == 0 else NEW_USER | NEW_NET):
        skip(f"the kernel refuses a network namespace: {os.strerror(ctypes.get_errno())}")
    if user:
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{user} {user} 1")
        write("/proc/self/gid_map", f"{group} {group} 1")


def open_to_all(owner):
    """As root, in namespaces of our own: TUN as udev makes it, the interface for `owner`, who we are from then on."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "devices", folder], check=True)
        os.mknod(f"{folder}/tun", stat.S_IFCHR, os.stat(TUN).st_rdev)
        os.chmod(f"{folder}/tun", 0o666)
        subprocess.run(["mount", "--bind", f"{folder}/tun", TUN], check=True)
        subprocess.run(["umount", "--lazy", folder], check=True)
    make_interface(owner)
    person = pwd.getpwuid(owner)
    os.environ["HOME"] = person.pw_dir
    os.initgroups(person.pw_name, person.pw_gid)
    os.setgid(person.pw_gid)
    os.setuid(owner)


def make_interface(owner):
    with open(TUN, "r+b", buffering=0) as tun, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", NAME, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        fcntl.ioctl(tun, TUNSETOWNER, owner)
        fcntl.ioctl(tun, TUNSETPERSIST, 1)
        for request, address in ((SIOCSIFADDR, HOST), (SIOCSIFNETMASK, "255.255.255.0")):
            fcntl.ioctl(control, request, struct.pack("16sHH4s20x", NAME, socket.AF_INET, 0, socket.inet_aton(address)))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", NAME, IFF_UP))


def counters(vm):
    """Bytes and frames received, bytes and frames sent."""
    words = vm.run("grep eth0 /proc/net/dev", BUSYBOX_PROMPT).split(":")[-1].split()
    return [int(words[i]) for i in (0, 1, 8, 9)]


if INSIDE in sys.argv:
    open_to_all(int(os.environ["SUDO_UID"]))
else:
    if not os.access(TUN, os.R_OK | os.W_OK):
        as_root.again("unshare", "--mount", "--net", words_after=[INSIDE])
        skip(f"this user may not open {TUN}, which everybody may on a Debian with udev, and sudo asks for a password")
    enter_namespace()
    make_interface(os.getuid())
server = Server(HOST, 64)
server.start()
with Console(busybox("cloud", "", "--net", f"tap={NAME.decode()}", "--memory", "512M"), 200) as guest:
    guest.wait_for(BUSYBOX_PROMPT)
    guest.run(f"ifconfig eth0 {GUEST} netmask 255.255.255.0 up", BUSYBOX_PROMPT)
    total = guest.run(f"nc {HOST} {server.port} </dev/null >/tmp/down; sha256sum </tmp/down", BUSYBOX_PROMPT)
    assert re.search(f"^{server.expected.hexdigest()}  -$", total, re.MULTILINE), total
    between = counters(guest)
    guest.run(f"nc {HOST} {server.port} </tmp/down", BUSYBOX_PROMPT)
    server.join(300)
    assert server.received.hexdigest() == server.expected.hexdigest(), "what came up differs"
    end = counters(guest)
    received, sent = between[0] / between[1], (end[2] - between[2]) / (end[3] - between[3])
    print(f"mean frame: {received:.0f} bytes received, {sent:.0f} sent")
    # No frame of a cable is longer, so some were; how many, is a matter of who was faster.
    assert received > CABLE, "segments were not joined"  # how many of those sent are acknowledgements is the kernels' affair
    guest.type("poweroff\n")
    guest.finish(0)
    check_quiet(guest)
