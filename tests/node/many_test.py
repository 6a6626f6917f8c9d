#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node with 10,000 stopped VMs: what its lists take, and the page over them.

Times are printed, not judged: a machine that runs tests is a busy one. What is judged is that the page draws what is in sight only, and
finds one of the many. For figures run it alone: `meson test -C build --verbose node-many`.
"""
import http.client
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import time

from wirt_node import PASSWORD, Node, for_others, own_network

TOP = os.environ["TOP"]
BUILD = os.environ["BUILD"]
COUNT = 10_000
FIRST = 1000


def multiply(node):
    """The one VM that was made, COUNT times over, into the store of a wirtd that does not run."""
    store = sqlite3.connect(f"{node.state}/store.db")
    value, revision = store.execute("SELECT value, revision FROM kv WHERE key = '/guest/100'").fetchone()
    rows = []
    for vmid in range(FIRST, FIRST + COUNT):
        record = json.loads(value)
        record["config"]["name"] = f"vm-{vmid}"
        record["config"]["tags"] = "even" if vmid % 2 == 0 else "odd"
        rows.append((f"/guest/{vmid}", json.dumps(record), revision))
    store.executemany("INSERT INTO kv VALUES (?, ?, ?)", rows)
    store.commit()
    store.close()


class Local(http.client.HTTPConnection):
    """HTTP on the owner's socket, one connection for all requests."""

    def __init__(self, node):
        super().__init__("localhost")
        self.path = f"{node.state}/wirtd.sock"

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        words = file.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def milliseconds(node, connection, path, times=40):
    """Times as a client sees them, and what wirtd computed for each, which other work on the machine does not change."""
    took = []
    before = cpu_seconds(node.process.pid)
    for _ in range(times):
        begun = time.perf_counter()
        connection.request("GET", f"/api2/json{path}")
        body = connection.getresponse().read()
        took.append((time.perf_counter() - begun) * 1000)
    cpu = (cpu_seconds(node.process.pid) - before) * 1000 / times
    print(f"GET {path}: median {statistics.median(took):.2f} ms, worst {max(took):.2f} ms, CPU {cpu:.1f} ms, {len(body)} bytes", flush=True)
    return body


def memory_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def main():
    subprocess.run([f"{TOP}/tools/web"], check=True)
    own_network()
    with Node("--web", for_others(f"{BUILD}/web"), name="pico", check_replies=False) as node:  # checking takes longer than answering
        upid = node.owner("POST", "/nodes/pico/qemu", {"vmid": 100, "name": "first", "memory": 128, "net0": "virtio,bridge=vmbr0", "serial0": "socket"})
        while node.owner("GET", f"/nodes/pico/tasks/{upid}/status")["status"] != "stopped":
            pass
        node.stop()
        multiply(node)
        begun = time.monotonic()
        node.start()
        print(f"wirtd answers {time.monotonic() - begun:.2f} s after its start", flush=True)
        connection = Local(node)
        assert len(json.loads(milliseconds(node, connection, "/cluster/resources?type=vm"))["data"]) == COUNT + 1
        milliseconds(node, connection, "/nodes/pico/qemu/5000/config")
        print(f"wirtd has {memory_mib(node.process.pid):.0f} MiB", flush=True)
        environment = {**os.environ, "ADDRESS": f"https://127.0.0.1:{node.port}", "PASSWORD": PASSWORD, "COUNT": str(COUNT + 1),
                       "SCREENSHOTS": f"{BUILD}/screenshots", "NODE_TLS_REJECT_UNAUTHORIZED": "0", "NODE_NO_WARNINGS": "1"}
        done = subprocess.run(["node", f"{TOP}/tests/web/many_test.mjs"], env=environment, check=False)
        assert done.returncode == 0, node.text()


if __name__ == "__main__":
    main()
