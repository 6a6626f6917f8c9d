# SPDX-License-Identifier: Apache-2.0
"""What the guest tests share: how `wirt run` is started on the images of tools/guest-image.

Meson gives the paths in the environment: WIRT (the program) and TOP (the source). WIRT_ACCEL chooses another
engine, WIRT_CPU another CPU. A test whose image is not made, or whose program cannot boot anything yet, ends with status 77: skipped, with the reason.
"""
import ctypes
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.environ["TOP"]
sys.path.insert(0, f"{TOP}/tools")
from guest_console import PROMPT, Console, ConsoleError  # noqa: E402,F401  (found by the line above; for the tests)

WIRT = os.environ["WIRT"]
ACCEL = os.environ.get("WIRT_ACCEL", "engine")
CPU = os.environ.get("WIRT_CPU", "host")
BUSYBOX_PROMPT = r"/ # $"
# What a Linux guest prints when something is wrong with the machine below it. In the bed of tests/kvm the host's own TSC is unstable, and guests find that out.
# A clock that was read late is no such thing: the host had other work just then.
TROUBLE = re.compile(r"Kernel panic|Oops|BUG:|Call Trace|rcu.*stall|soft lockup|hung_task|segfault|Unable to handle|"
                     r"unchecked MSR|I/O error|EXT4-fs error|nobody cared|spurious" + ("" if "WIRT_BED" in os.environ else "|clocksource:(?!.*read-back delay).*unstable"))


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def image(name):
    done = subprocess.run([f"{TOP}/tools/guest-image", "path", name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=False)
    if done.returncode != 0:
        skip(f"the guest image {name} is not made; tools/guest-image make {name}")
    return done.stdout.strip()


def wirt(*words):
    """The command line of a run; a timeout of wirt's own is the last resort behind the console's deadline."""
    return [WIRT, "run", "--accel", ACCEL, "--cpu", CPU, *words]


def busybox(flavour, append="", *words):
    """A run of the busybox guest on one of the kernels."""
    return wirt("--kernel", image(f"vmlinuz-{flavour}"), "--initrd", image(f"busybox-{flavour}.cpio"), "--append",
                f"console=ttyS0 panic=-1 {append}", *words)


def copy_of(name):
    """A copy of a disk image that a guest may write to; it lives as long as the object."""
    copy = tempfile.NamedTemporaryFile(prefix="wirt-test-")
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", image(name), copy.name], check=True)
    return copy


def debian(disk, *words, name="debian"):
    """A run of a Debian guest by --kernel, from a copy of debian.ext4 or of another `name`.ext4."""
    folder = os.path.dirname(image(f"{name}.ext4"))
    return wirt("--kernel", f"{folder}/{name}.vmlinuz", "--initrd", f"{folder}/{name}.initrd", "--append",
                "console=ttyS0 root=/dev/vda ro", "--memory", "1G", "--disk", disk, *words)


def connect(path, seconds=30):
    """A connection to a Unix socket that a program just started is about to make."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_CLOEXEC)
    libc.inotify_add_watch(watch, os.path.dirname(path).encode(), 0x100)  # IN_CREATE
    deadline = time.monotonic() + seconds
    while not os.path.exists(path):
        assert select.select([watch], [], [], max(0, deadline - time.monotonic()))[0], f"nobody makes {path}"
        os.read(watch, 4096)
    os.close(watch)
    while True:  # between bind() and listen(): a moment
        try:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            return connection
        except ConnectionRefusedError:
            connection.close()
            assert time.monotonic() < deadline, f"nobody listens on {path}"


def check_clean(disk):
    """The guest's file system (a bare one) is clean."""
    done = subprocess.run(["/sbin/e2fsck", "-fn", disk], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout


# Linux 6.1 takes its virtio devices away at power-off while free page reporting may still be at work, and then warns of itself.
LATE_REPORTING = re.compile(r"system sleep state S5(?:(?!Power down).)*virtballoon_free_page_report", re.DOTALL)


def check_quiet(guest):
    late = LATE_REPORTING.search(guest.text)
    found = TROUBLE.search(guest.text, 0, late.start() if late else len(guest.text))
    if found:
        guest.fail(f"the guest printed '{found.group(0)}'")
