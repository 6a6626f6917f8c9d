# SPDX-License-Identifier: Apache-2.0
"""plug_debian_test: Debian gets an image chain as a second disk while it runs, keeps a file system there, and survives that the disk is
taken away while it is being written; what had been synced is there when it comes back.
"""
import json
import subprocess
import tempfile

from wirt_guest import PROMPT, WIRT, Console, copy_of, debian

MIB = 64


def control(socket, *words):
    done = subprocess.run([WIRT, "ctl", socket, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}"


def plug(guest, socket, image):
    control(socket, "plug", "disk=" + json.dumps({"id": "extra", "file": image}))
    guest.run("until [ -b /dev/vdb ]; do sleep 0.1; done")


def unplug(guest, socket):
    control(socket, "unplug", "device=extra")
    guest.run("until [ ! -e /dev/vdb ]; do sleep 0.1; done")


with copy_of("debian.ext4") as root, tempfile.TemporaryDirectory() as folder:
    control_socket, base, overlay = f"{folder}/control", f"{folder}/base.qcow2", f"{folder}/overlay.qcow2"
    subprocess.run([WIRT, "disk", "create", base, f"{MIB}M"], stdout=subprocess.DEVNULL, check=True)
    subprocess.run([WIRT, "disk", "create", overlay, "--backing", base], stdout=subprocess.DEVNULL, check=True)
    with Console(debian(root.name, "--control", control_socket), 300) as vm:
        vm.wait_for("debian login:")
        vm.wait_for(PROMPT)
        plug(vm, control_socket, overlay)
        vm.run("mkfs.ext4 -q /dev/vdb && mkdir -p /extra && mount /dev/vdb /extra")
        vm.run("dd if=/dev/urandom of=/extra/data bs=1M count=16 conv=fsync status=none")
        digest = vm.run("sha256sum < /extra/data")
        assert len(digest.split()[0]) == 64, digest
        # Away in the middle of a write, with the file system mounted.
        vm.run("(while cat /dev/zero > /extra/more; do rm -f /extra/more; done) > /dev/null 2>&1 &")
        unplug(vm, control_socket)
        vm.run("kill %1; wait; umount -l /extra; true")
        plug(vm, control_socket, overlay)
        assert vm.run("fsck.ext4 -p /dev/vdb > /dev/null; [ $? -le 1 ] && echo repaired") == "repaired"
        vm.run("mount /dev/vdb /extra")
        again = vm.run("sha256sum < /extra/data")
        assert again == digest, (digest, again)
        vm.run("umount /extra")
        unplug(vm, control_socket)
        assert vm.run("systemctl is-system-running") == "running"
        vm.type("poweroff\n")
        vm.finish(0)
    subprocess.run([WIRT, "disk", "check", overlay], stdout=subprocess.DEVNULL, check=True)
