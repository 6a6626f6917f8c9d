# SPDX-License-Identifier: Apache-2.0
"""ports_test: named ports of the virtio console lead from sockets on the host to /dev/virtio-ports in the guest, both ways and whole."""
import hashlib
import json
import os
import socket
import tempfile

from wirt_guest import ACCEL, BUSYBOX_PROMPT, WIRT, Console, check_quiet, image

AGENT, OTHER = "org.qemu.guest_agent.0", "org.wirt.test"
BYTES = 4 << 20


def connect(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(path)
    return connection


def receive(connection, length):
    got = bytearray()
    while len(got) < length:
        piece = connection.recv(1 << 16)
        assert piece, f"the connection ended after {len(got)} bytes"
        got += piece
    return bytes(got)


with tempfile.TemporaryDirectory() as folder:
    config = {
        "boot": {"kernel": {"file": image("vmlinuz-cloud")}, "initrds": [{"file": image("busybox-cloud.cpio")}], "append": "console=ttyS0 panic=-1"},
        "accel": ACCEL,
        "ports": [{"name": AGENT, "path": f"{folder}/agent"}, {"name": OTHER, "path": f"{folder}/other"}],
    }
    with open(f"{folder}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    with Console([WIRT, "run", "--config", f"{folder}/config.json"], 120) as vm:
        vm.wait_for(BUSYBOX_PROMPT)
        vm.run("modprobe virtio_console", BUSYBOX_PROMPT)
        names = vm.run("cat /sys/class/virtio-ports/*/name", BUSYBOX_PROMPT).split()
        assert names == [AGENT, OTHER], names
        port = vm.run(f"grep -l {AGENT} /sys/class/virtio-ports/*/name", BUSYBOX_PROMPT).split("/")[4]

        # A word each way; the host speaks before anybody listens in the guest.
        agent = connect(f"{folder}/agent")
        agent.sendall(b"are you there\n")
        assert vm.run(f"head -n 1 /dev/{port}", BUSYBOX_PROMPT) == "are you there"
        vm.run(f"echo here I am > /dev/{port}", BUSYBOX_PROMPT)
        assert receive(agent, 10) == b"here I am\n"

        # Many bytes out while the reader on the host takes its time, then in.
        data = os.urandom(BYTES)
        vm.type(f"head -c {BYTES} /dev/urandom > /tmp/out; sha256sum < /tmp/out; cat /tmp/out > /dev/{port}\n")
        total = vm.wait_for(r"\n([0-9a-f]{64})  -").group(1)
        assert hashlib.sha256(receive(agent, BYTES)).hexdigest() == total
        vm.wait_for(BUSYBOX_PROMPT)
        vm.type(f"head -c {BYTES} /dev/{port} | sha256sum\n")
        agent.sendall(data)
        assert vm.wait_for(r"\n([0-9a-f]{64})  -").group(1) == hashlib.sha256(data).hexdigest()
        vm.wait_for(BUSYBOX_PROMPT)

        # The next connection finds a working port.
        agent.close()
        agent = connect(f"{folder}/agent")
        agent.sendall(b"again\n")
        assert vm.run(f"head -n 1 /dev/{port}", BUSYBOX_PROMPT) == "again"

        # One that leaves what nobody in the guest takes does not keep the port.
        for _ in range(3):
            agent.sendall(b"lost\n")
            agent.close()
            agent = connect(f"{folder}/agent")
        agent.sendall(b"at last\n")
        assert vm.run(f"head -n 1 /dev/{port}", BUSYBOX_PROMPT) == "at last"
        vm.run(f"echo heard > /dev/{port}", BUSYBOX_PROMPT)
        assert receive(agent, 6) == b"heard\n"
        vm.type("poweroff\n")
        vm.finish(0)
        check_quiet(vm)
    assert not os.path.exists(f"{folder}/agent"), "the socket is left behind"
