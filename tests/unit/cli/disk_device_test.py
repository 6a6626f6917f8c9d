# SPDX-License-Identifier: Apache-2.0
"""disk_device_test WIRT: images on a block device (a loop device) that held something else before.

Nothing of what stood there may be read afterwards, in whatever format and however preallocated; damaged refcounts are made anew although the device cannot
grow; its size is what it is, and a disk follows when it has grown. With and without O_DIRECT.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

WIRT = os.path.abspath(sys.argv[1])
MIB = 1 << 20


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def run(*words, status=0):
    done = subprocess.run([*words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == status, f"{words}: status {done.returncode}\n{done.stdout}"
    return done.stdout


def wirt(*words, status=0):
    return run(WIRT, "disk", *words, status=status)


def litter(device, size=16 * MIB):
    with open(device, "r+b") as file:
        file.write(os.urandom(size))


def over_something_else(device):
    with open("zeros.raw", "wb") as file:
        file.truncate(8 * MIB)
    with open("want.raw", "wb") as file:
        file.write(os.urandom(MIB))
        file.seek(5 * MIB)
        file.write(os.urandom(MIB))
        file.truncate(16 * MIB)
    for direct in ([], ["--direct"]):
        litter(device)
        wirt("convert", "want.raw", device, "--format", "raw", "--force", *direct)
        run("cmp", "want.raw", device)
    with open("want.raw", "r+b") as file:
        file.truncate(8 * MIB)
    for mode in ("off", "metadata", "falloc", "full"):
        litter(device)
        wirt("create", device, "8M", "--format", "qcow2", "--preallocate", mode, "--force")
        wirt("compare", device, "zeros.raw")
        litter(device)
        wirt("convert", "want.raw", device, "--format", "qcow2", "--preallocate", mode, "--force")
        wirt("compare", device, "want.raw")
        wirt("check", device)
        wirt("create", device, "8M", "--format", "raw", "--preallocate", mode, "--force")
        assert json.loads(wirt("info", device, "--json"))["format"] == "raw", "the old header is still there"


def repair(device):
    wirt("convert", "want.raw", device, "--format", "qcow2", "--force")
    with open(device, "r+b") as file:
        file.seek(48)
        table = int.from_bytes(file.read(8), "big")
        file.seek(table)
        file.write(bytes(65536))
    wirt("check", device, status=2)
    wirt("check", device, "--repair")
    wirt("check", device)
    wirt("compare", device, "want.raw")
    wirt("bench", device, "--write", "--force", "--block", "64K", "--step", "256K", "--count", "32")
    wirt("check", device)


def sizes(device):
    assert "holds 16777216 bytes only" in wirt("create", device, "17M", "--format", "raw", "--force", status=12)
    wirt("create", device, "16M", "--format", "raw", "--force")
    for size in ("8M", "32M"):
        assert "change that first" in wirt("resize", device, size, "--shrink", "--format", "raw", status=12)
    wirt("create", device, "8M", "--format", "qcow2", "--force")
    wirt("resize", device, "12M")  # the disk's size, not the device's


def main():
    if os.geteuid():
        skip("block devices are made by root only")
    if not shutil.which("losetup") or not os.path.exists("/dev/loop-control"):
        skip("there are no loop devices here")
    with tempfile.TemporaryDirectory(prefix="wirt-device-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as where:
        os.chdir(where)
        with open("storage", "wb") as file:
            file.truncate(16 * MIB)
        device = run("losetup", "-f", "--show", "storage").strip()
        try:
            over_something_else(device)
            repair(device)
            sizes(device)
        finally:
            run("losetup", "-d", device)
        os.chdir("/")


main()
