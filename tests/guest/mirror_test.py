# SPDX-License-Identifier: Apache-2.0
"""mirror_test: a disk of Debian moves from a local chain of five images to an NBD server while files are written to it, and nothing is lost.

First a mirror under load that is let go when the disk stands still: both sides are compared byte by byte. Then one that takes the disk's place under
load: the guest goes on, its files are what it wrote, and the file system on the server is clean.
"""
import base64
import json
import os
import subprocess
import tempfile

import storage_servers
from wirt_guest import PROMPT, WIRT, Console, check_clean, check_quiet, copy_of, debian, skip

DISK_BYTES = 256 << 20
LOAD = r"""i=0; cd /mnt; while [ ! -e /run/stop ]; do
dd if=/dev/urandom of=f$((i % 40)) bs=64k count=$((RANDOM % 24 + 1)) conv=fsync status=none && sha256sum f$((i % 40)) > s$((i % 40)); sync s$((i % 40))
i=$((i+1)); echo $i > /run/now.new; mv /run/now.new /run/now; done; cd /; touch /run/stopped"""


def ctl(socket, *words):
    done = subprocess.run([WIRT, "ctl", socket, *words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}"
    return json.loads(done.stdout)


def mirror(socket, url):
    told = ctl(socket, "disk-mirror", "disk=disk1", f"file={url}", "--wait")
    assert told["state"] == "ready", told
    return told["id"]


def complete(socket, job, *words):
    ctl(socket, "job-complete", f"job={job}", *words)
    told = ctl(socket, "job-wait", f"job={job}")
    assert told["state"] == "done", told


def make_chain(folder):
    """Five images, each on the one before."""
    name = f"{folder}/0.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", name, str(DISK_BYTES)], check=True)
    for number in range(1, 5):
        below, name = name, f"{folder}/{number}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", name], check=True)
    return name


def move(guest, folder, server, top):
    socket = f"{folder}/control"
    guest.run(f"echo {base64.b64encode(LOAD.encode()).decode()} | base64 -d > /run/load")
    guest.run("mkfs.ext4 -q /dev/vdb && mount /dev/vdb /mnt; bash /run/load & until [ -e /run/now ]; do sleep 0.1; done")
    job = mirror(socket, server.url)
    guest.run("touch /run/stop; until [ -e /run/stopped ]; do sleep 0.1; done; umount /mnt")
    complete(socket, job, "pivot=false")
    done = subprocess.run(["qemu-img", "compare", "-U", top, server.file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    guest.run("mount /dev/vdb /mnt; rm /run/stop /run/stopped /run/now; bash /run/load & until [ -e /run/now ]; do sleep 0.1; done")
    job = mirror(socket, server.url)
    complete(socket, job)
    assert ctl(socket, "disks")["disks"][1]["layers"][0]["file"] == server.url
    guest.run("a=$(cat /run/now); until [ $(cat /run/now) -ge $((a+10)) ]; do sleep 0.1; done")
    guest.run("touch /run/stop; until [ -e /run/stopped ]; do sleep 0.1; done; umount /mnt; mount /dev/vdb /mnt")
    assert guest.run("(cd /mnt; cat s* | sha256sum --check --quiet && echo well)") == "well"
    guest.run("umount /mnt")


def main():
    with tempfile.TemporaryDirectory() as folder:
        top = make_chain(folder)
        with open(f"{folder}/disk.raw", "wb") as file:
            file.truncate(DISK_BYTES)
        try:
            with storage_servers.Nbd(folder, f"{folder}/disk.raw") as server, copy_of("debian.ext4") as root:
                with Console(debian(root.name, "--disk", top, "--control", f"{folder}/control"), 250) as guest:
                    guest.wait_for("debian login:")
                    guest.wait_for(PROMPT)
                    move(guest, folder, server, top)
                    guest.type("poweroff\n")
                    guest.finish(0)
                    check_quiet(guest)
        except storage_servers.Missing as reason:
            skip(str(reason))
        check_clean(f"{folder}/disk.raw")


main()
