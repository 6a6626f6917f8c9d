# SPDX-License-Identifier: Apache-2.0
"""network_test: user-mode networking: DHCP, a name, 256 MiB down and up again intact, a forwarded port to sshd.

The server is this program, on the loopback interface only; the guest reaches it at the gateway's address.
"""
import os
import re
import socket
import subprocess
import tempfile

from transfer import Server
from wirt_guest import PROMPT, Console, check_quiet, copy_of, debian, image


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def forwarded(port):
    with tempfile.TemporaryDirectory() as folder:
        key = f"{folder}/key"  # a copy with the permissions that ssh insists on
        with open(image("ssh-key"), "rb") as source, open(os.open(key, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as target:
            target.write(source.read())
        return subprocess.run(["ssh", "-q", "-i", key, "-p", str(port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                               "-o", "BatchMode=yes", "root@127.0.0.1", "cat /etc/hostname"],
                              stdout=subprocess.PIPE, text=True, timeout=120, check=True).stdout


server, port = Server("127.0.0.1", 256), free_port()
server.start()
with copy_of("debian.ext4") as disk:
    with Console(debian(disk.name, "--net", f"user,forward=tcp:{port}:22"), 600) as guest:
        guest.wait_for(PROMPT)
        assert guest.run("systemctl is-system-running --wait") == "running"
        card = guest.run("ls /sys/class/net | grep -v lo")
        address = guest.run(f"ip -4 -brief address show {card}")
        assert "10.0.2." in address, address
        name = guest.run("resolvectl --legend=no query localhost; networkctl --no-legend status | grep -c DNS")
        assert "127.0.0.1" in name or "::1" in name, name
        # bash's own TCP, kept in memory, so that nothing but the network is tested.
        total = guest.run(f"cat </dev/tcp/10.0.2.2/{server.port} >/dev/shm/down; sha256sum </dev/shm/down")
        assert re.search(f"^{server.expected.hexdigest()}  -$", total, re.MULTILINE), total  # the kernel may have said something, too
        words = guest.run(f"grep {card} /proc/net/dev").split(":")[-1].split()
        assert int(words[0]) / int(words[1]) > 4000, f"segments were not joined: {words}"
        guest.run(f"cat /dev/shm/down >/dev/tcp/10.0.2.2/{server.port}; rm /dev/shm/down")
        server.join(300)
        assert server.received.hexdigest() == server.expected.hexdigest(), "what came up differs"
        assert forwarded(port) == "debian\n"
        guest.type("poweroff\n")
        guest.finish(0)
        check_quiet(guest)
