# SPDX-License-Identifier: Apache-2.0
"""transfer: a server for tests of networks, which knows the sum of what it sends beforehand.

It sends `mib` MiB to its first connection, then takes what the second one sends and keeps the sum of it.
"""
import hashlib
import socket
import threading

BLOCK = b"".join(number.to_bytes(4, "little") for number in range(1 << 18))  # 1 MiB


class Server(threading.Thread):
    """Listens from its making on; start() serves the two connections."""

    def __init__(self, host, mib):
        super().__init__(daemon=True)
        self.listener = socket.create_server((host, 0))
        self.port = self.listener.getsockname()[1]
        self.mib = mib
        self.received = hashlib.sha256()
        self.expected = hashlib.sha256()
        for _ in range(mib):
            self.expected.update(BLOCK)

    def run(self):
        down, _ = self.listener.accept()
        with down:
            for _ in range(self.mib):
                down.sendall(BLOCK)
        up, _ = self.listener.accept()
        with up:
            while piece := up.recv(1 << 16):
                self.received.update(piece)
