# SPDX-License-Identifier: Apache-2.0
"""disk_reflink_test WIRT: on a file system that shares blocks (btrfs in a file), a conversion moves no data; onto another one it does.

Raw and qcow2 become raw, of any size and with holes; what is read afterwards is the same, and writing to one side does not change the other.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import as_root

WIRT = sys.argv[1]
MIB = 1 << 20
DATA = 48 * MIB


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def shell(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: status {done.returncode}\n{done.stdout}"
    return done.stdout


def own_namespace():
    if os.environ.get("WIRT_TEST_UNSHARED"):
        return
    if not shutil.which("mkfs.btrfs", path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
        skip("mkfs.btrfs is not installed")
    os.environ["WIRT_TEST_UNSHARED"] = "yes"
    as_root.again("unshare", "-m")
    skip("a file system is mounted by root only, and sudo asks for a password")


def used(folder):
    os.sync()
    told = os.statvfs(folder)
    return (told.f_blocks - told.f_bfree) * told.f_frsize


def convert(source, target, *words):
    return json.loads(shell(WIRT, "disk", "convert", source, target, "--json", *words))


def test(here, folder):
    raw, qcow2, copy = f"{folder}/a.raw", f"{folder}/a.qcow2", f"{folder}/copy.raw"
    with open(raw, "wb") as file:
        for at in range(0, 2 * DATA, 2 * MIB):  # every other MiB is a hole
            file.seek(at)
            file.write(os.urandom(MIB))
        file.truncate(2 * DATA + 4096 * 3)
    told = convert(raw, qcow2)
    assert told["shared"] == 0 and told["data"] == DATA, told
    for source in (raw, qcow2):
        before = used(folder)
        told = convert(source, copy)
        assert told["shared"] == DATA and told["data"] == 0, told
        assert used(folder) - before < 4 * MIB, f"{source}: {used(folder) - before} bytes more are in use"
        assert "equal" in shell(WIRT, "disk", "compare", source, copy)
        with open(copy, "r+b") as file:
            file.write(b"another" * 1000)
        assert "differ" in subprocess.run([WIRT, "disk", "compare", source, copy], stdout=subprocess.PIPE, text=True, check=False).stdout
        assert "equal" in shell(WIRT, "disk", "compare", raw, qcow2), "a write to the copy changed the source"
        os.unlink(copy)
    told = convert(raw, copy, "--preallocate", "full")
    assert told["shared"] == 0, "a preallocated image has blocks of its own"
    elsewhere = f"{here}/elsewhere.raw"  # another file system: refused once, then copied
    told = convert(qcow2, elsewhere)
    assert told["shared"] == 0 and told["data"] == DATA, told
    assert "equal" in shell(WIRT, "disk", "compare", raw, elsewhere)


def main():
    own_namespace()
    with tempfile.TemporaryDirectory(prefix="wirt-reflink-") as here:
        folder = f"{here}/mounted"
        os.mkdir(folder)
        with open(f"{here}/btrfs", "wb") as file:
            file.truncate(512 * MIB)
        shell("mkfs.btrfs", "-q", f"{here}/btrfs")
        done = subprocess.run(["mount", "-o", "loop", f"{here}/btrfs", folder], stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            skip(f"no btrfs can be mounted: {done.stderr.strip()}")
        try:
            test(here, folder)
        finally:
            shell("umount", folder)


main()
