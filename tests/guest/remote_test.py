# SPDX-License-Identifier: Apache-2.0
"""remote_test nbd|iscsi|nfs: a guest's disk on a real server. The server, the process of ours before it, and both at once are killed while the guest
writes; the server is started again, our process comes back by itself.

The guest puts number n, flushed, into slot n % SLOTS. Meanwhile its requests are held back, and the control socket tells; afterwards
everything is there, read from the server's own file.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile

import storage_servers
from wirt_guest import BUSYBOX_PROMPT, WIRT, Console, busybox, check_quiet, connect, skip

DISK_BYTES = 16 << 20
BLOCK = 4096
SLOTS = 50
STRIDE = 61
WRITER = f"""n=0; while [ ! -e /stop ]; do
printf '%08d' $n | dd of=/dev/vda bs={BLOCK} seek=$(((n % {SLOTS}) * {STRIDE})) conv=sync,notrunc,fsync 2>/dev/null || touch /failed
n=$((n+1)); echo $n > /now.new; mv /now.new /now; done; mv /now /count"""


def wait_for_event(lines, name, state, reason=""):
    for line in lines:
        told = json.loads(line)
        if told.get("event") == name and told["state"] == state and reason in told.get("reason", ""):
            return told
    raise AssertionError(f"the connection ended before the event {name} {state}")


def let_it_write(guest, times=60):
    guest.run(f"a=$(cat /now); until [ $(cat /now) -ge $((a+{times})) ]; do sleep 0.05; done", BUSYBOX_PROMPT)


def check_file(path, writes):
    with open(path, "rb") as file:
        content = bytearray(file.read())
    for slot in range(SLOTS):
        at = slot * STRIDE * BLOCK
        expected = (writes - 1) - (writes - 1 - slot) % SLOTS
        assert content[at:at + 8] == b"%08d" % expected, f"slot {slot} holds {content[at:at + 8]}, not {expected}"
        content[at:at + 8] = bytes(8)
    assert not any(content), "what nobody wrote has changed"


def run_guest(folder, server):
    socket = f"{folder}/control"
    with Console(busybox("cloud", "", "--control", socket, "--disk", f"{server.url},format=raw"), 240) as guest:
        guest.wait_for(BUSYBOX_PROMPT)
        events = connect(socket).makefile()
        guest.run("modprobe virtio_blk; until [ -b /dev/vda ]; do sleep 0.1; done", BUSYBOX_PROMPT)
        for line in WRITER.splitlines():
            guest.run(f'echo "{line}" >> /writer'.replace("$", "\\$"), BUSYBOX_PROMPT)
        guest.run("sh /writer & until [ -e /now ]; do sleep 0.1; done", BUSYBOX_PROMPT)
        let_it_write(guest)
        for both in (False, True):
            if both:
                os.kill(storage_servers.processes_before(server.url)[1], signal.SIGKILL)
            server.kill()
            assert wait_for_event(events, "disk-connection", "lost")["id"] == "disk0"
            server.start()
            wait_for_event(events, "disk-connection", "connected")
            let_it_write(guest)
        for _ in range(2):
            os.kill(storage_servers.processes_before(server.url)[1], signal.SIGKILL)
            wait_for_event(events, "disk-connection", "lost", "signal 9")
            wait_for_event(events, "disk-connection", "connected")
            let_it_write(guest, 30)
        guest.run("touch /stop; until [ -e /count ]; do sleep 0.1; done", BUSYBOX_PROMPT)
        writes = int(guest.run("cat /count", BUSYBOX_PROMPT))
        assert guest.run("[ ! -e /failed ] && echo well", BUSYBOX_PROMPT) == "well", "a write failed"
        guest.type("poweroff\n")
        guest.finish(0)
        check_quiet(guest)
    return writes


def main():
    scheme = sys.argv[1]
    if not os.path.exists(f"{os.path.dirname(WIRT)}/wirt-io-{scheme}"):
        skip(f"this build has no wirt-io-{scheme}: its library is missing")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        os.mkdir(f"{folder}/export")
        path = f"{folder}/export/disk.raw"
        with open(path, "wb") as file:
            file.truncate(DISK_BYTES)
        try:
            with storage_servers.SERVERS[scheme](folder, path) as server:
                writes = run_guest(folder, server)
                check_file(path, writes)
                # The commands too: out, and into another file.
                for words in (("convert", server.url, f"{folder}/copy.qcow2"), ("compare", path, f"{folder}/copy.qcow2"),
                              ("convert", f"{folder}/copy.qcow2", server.url, "--force"), ("compare", f"{folder}/copy.qcow2", server.url)):
                    done = subprocess.run([WIRT, "disk", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
                    assert done.returncode == 0, f"{words}: {done.stdout}"
                check_file(path, writes)
        except storage_servers.Missing as reason:
            skip(str(reason))
        print(f"{writes} writes, none lost")


main()
