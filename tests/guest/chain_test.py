# SPDX-License-Identifier: Apache-2.0
"""chain_test SECONDS: Debian on a chain of five qcow2 images.

The chain grows beneath the running guest, a live snapshot after each piece of work, so that every image of it holds some of the files, and parts of
files. From the whole chain the guest boots again: the files are what was written, and fio writes and verifies for SECONDS. Afterwards the
file system is clean, every image sound, to qemu-img too, and both read the same.
"""
import json
import os
import subprocess
import sys
import tempfile

from wirt_guest import PROMPT, WIRT, Console, check_clean, check_quiet, connect, debian, image

LAYERS = 5
FIO = ("fio --name=chain --directory=/var/tmp --size=48M --rw=randrw --bsrange=4k-64k --ioengine=libaio --iodepth=16 --direct=1 --fsync=64 "
       "--verify=crc32c --verify_backlog=512 --verify_fatal=1 --time_based --runtime={seconds} --output-format=json --output=/run/fio")


def shell(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: status {done.returncode}\n{done.stdout}"
    return done.stdout


def layer(folder, number):
    return f"{folder}/{number}.qcow2"


def grow(folder):
    """The guest works on one image after another."""
    socket = f"{folder}/control"
    with Console(debian(f"{layer(folder, 0)},format=qcow2", "--cpus", "2", "--control", socket, name="work"), 300) as guest:
        guest.wait_for(PROMPT)
        connect(socket).close()
        for number in range(1, LAYERS):
            guest.run(f"dd if=/dev/urandom of=/root/f{number} bs=1M count=4 status=none; for f in /root/f*; do "
                      "dd if=/dev/urandom of=$f bs=10000 count=20 seek=$((RANDOM % 300)) conv=notrunc status=none; done; sync")
            shell(WIRT, "ctl", socket, "disk-snapshot", "disk=disk0", f"file={layer(folder, number)}")
        guest.run("sha256sum /root/f* > /root/sums; sync")
        guest.type("poweroff\n")
        guest.finish(0)
        check_quiet(guest)


def use(folder, seconds):
    with Console(debian(f"{layer(folder, LAYERS - 1)},format=qcow2", "--cpus", "2", name="work"), 240 + 3 * seconds) as guest:
        guest.wait_for(PROMPT)
        state = guest.run("systemctl is-system-running --wait")
        assert state == "running", state
        assert guest.run("sha256sum --quiet -c /root/sums && echo the same") == "the same"
        assert guest.run(FIO.format(seconds=seconds) + " >/run/told 2>&1; echo status $?") == "status 0", guest.run("cat /run/told /run/fio")
        told = guest.run("python3 -c \"import json; j = json.load(open('/run/fio'))['jobs'][0]; "
                         "print(j['error'], j['write']['total_ios'], j['read']['total_ios'])\"").split()
        assert told[0] == "0" and int(told[1]) > 0 and int(told[2]) > 0, told
        guest.type("poweroff\n")
        guest.finish(0)
        check_quiet(guest)
    return told


def main():
    seconds = int(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="wirt-chain-") as folder:
        os.chmod(folder, 0o755)
        shell(WIRT, "disk", "convert", image("work.ext4"), layer(folder, 0), "--source-format", "raw")
        grow(folder)
        told = use(folder, seconds)
        for number in range(LAYERS):
            shell(WIRT, "disk", "check", layer(folder, number))
            shell("qemu-img", "check", "-q", layer(folder, number))
        chain = json.loads(shell(WIRT, "disk", "info", "--json", layer(folder, LAYERS - 1)))["chain"]
        assert len(chain) == LAYERS - 1, chain
        raw = f"{folder}/raw"
        shell(WIRT, "disk", "convert", layer(folder, LAYERS - 1), raw, "--format", "raw")
        check_clean(raw)
        shell("qemu-img", "compare", layer(folder, LAYERS - 1), raw)
    print(f"fio wrote {told[1]} times and read {told[2]} times in {seconds} s, all verified")


main()
