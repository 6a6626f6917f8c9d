#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""chaos_test [OPERATIONS [CLIENTS [SEED]]]: wirtd is killed at random moments while clients do mixed operations. Then: no machine has died, no task is left
running, no lock stays, no volume is orphaned, the store is consistent.

The machines boot firmware without a disk to boot from: they run and do nothing. Each client works on guests of its own, on those of the others now and then,
and all clone one template. What fails because wirtd is away is not tried again; what wirtd then is to have done is judged by the checks at the end.
"""
import http.client
import json
import os
import random
import select
import socket
import sqlite3
import subprocess
import sys
import threading
import time

from wirt_node import Node

OPERATIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 64
CLIENTS = int(sys.argv[2]) if len(sys.argv) > 2 else 8
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else int(os.environ.get("WIRT_SEED", str(time.time_ns() % 1000000)))
TEMPLATE, LASTING = 100, (101, 102)
AWAY = (OSError, http.client.HTTPException)


class Refused(Exception):
    """wirtd's answer was no."""


class OwnerConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


class Client:
    def __init__(self, node):
        self.node, self.prefix = node, f"/api2/json/nodes/{node.name}"

    def ask(self, method, path, **body):
        connection = OwnerConnection(f"{self.node.state}/wirtd.sock")
        try:
            if method in ("GET", "DELETE"):
                connection.request(method, self.prefix + path)
            else:
                connection.request(method, self.prefix + path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise Refused(f"{method} {path}: {answer.reason}")
        return json.loads(text)["data"]

    def status(self, upid):
        """Of a task that has ended; asked again while wirtd is away."""
        while True:
            try:
                status = self.ask("GET", f"/tasks/{upid}/status")
                if status["status"] == "stopped":
                    return status["exitstatus"]
            except AWAY:
                pass
            select.select([], [], [], 0.05)

    def do(self, method, path, **body):
        """To the end of its task. "OK", how it failed, or that wirtd was away."""
        try:
            upid = self.ask(method, path, **body)
            return self.status(upid) if isinstance(upid, str) and upid.startswith("UPID") else "OK"
        except AWAY as error:
            return f"away: {error}"
        except Refused as error:
            return f"refused: {error}"


class Worker(threading.Thread):
    def __init__(self, node, number, counter):
        super().__init__(daemon=True)
        self.client, self.counter = Client(node), counter
        self.random = random.Random(f"{SEED}-{number}")
        self.own = [1000 + number * 10 + i for i in range(3)]
        self.results = []
        self.fault = None

    def run(self):
        try:
            while self.counter.take():
                self.results.append(self.step())
        except BaseException as error:  # pylint: disable=broad-except
            self.fault = error

    def exists(self, vmid):
        while True:
            try:
                self.client.ask("GET", f"/qemu/{vmid}/config")
                return True
            except Refused:
                return False
            except AWAY:
                select.select([], [], [], 0.02)

    def step(self):
        vmid = self.random.choice(self.own if self.random.random() < 0.85 else [1000 + self.random.randrange(CLIENTS) * 10])
        vm = f"/qemu/{vmid}"
        kind = self.random.choice(["create", "clone"] if not self.exists(vmid) and self.random.random() < 0.9 else
                                  ["start", "start", "stop", "stop", "snapshot", "snapshot", "rollback", "drop", "config", "disk", "resize",
                                   "pause", "resume", "delete", "clone"])
        number = self.random.randrange(1000)
        do = self.client.do
        result = {
            "create": lambda: do("POST", "/qemu", vmid=vmid, memory=32, virtio0="local:0.01", net0="virtio,bridge=vmbr0"),
            "clone": lambda: do("POST", f"/qemu/{TEMPLATE}/clone", newid=vmid, full=number % 2),
            "start": lambda: do("POST", f"{vm}/status/start"),
            "stop": lambda: do("POST", f"{vm}/status/stop"),
            "snapshot": lambda: do("POST", f"{vm}/snapshot", snapname=f"s{number % 3}"),
            "rollback": lambda: do("POST", f"{vm}/snapshot/s{number % 3}/rollback"),
            "drop": lambda: do("DELETE", f"{vm}/snapshot/s{number % 3}"),
            "config": lambda: do("PUT", f"{vm}/config", description=f"note {number}"),
            "disk": lambda: do("POST", f"{vm}/config", scsi1="local:0.01"),
            "resize": lambda: do("PUT", f"{vm}/resize", disk="virtio0", size="+1M"),
            "pause": lambda: do("POST", f"{vm}/status/suspend"),
            "resume": lambda: do("POST", f"{vm}/status/resume"),
            "delete": lambda: do("DELETE", vm),
        }[kind]()
        return kind, vmid, result


class Counter:
    """Of operations: at least so many, and more of them until wirtd has been killed so often."""

    def __init__(self, left, kills):
        self.left, self.kills, self.lock = left, kills, threading.Lock()

    def take(self):
        with self.lock:
            self.left -= 1
            return self.left >= 0 or self.kills > 0


def machines_of(node):
    """{number: [process]} of all machines whose log is one of this node's, whoever knows of them."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            log = os.readlink(f"/proc/{pid}/fd/1")
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if log.startswith(f"{node.state}/run/") and any(os.path.basename(word) == b"wirt-vm" for word in words):
            found.setdefault(int(log.split("/")[-2]), []).append(int(pid))
    return found


def prepare(node):
    client = Client(node)
    assert client.do("POST", "/qemu", vmid=TEMPLATE, memory=32, virtio0="local:0.02") == "OK"
    assert client.do("POST", f"/qemu/{TEMPLATE}/template") == "OK"
    for vmid in LASTING:
        assert client.do("POST", "/qemu", vmid=vmid, memory=32, virtio0="local:0.01", net0="virtio,bridge=vmbr0") == "OK"
        assert client.do("POST", f"/qemu/{vmid}/status/start") == "OK"
    return {vmid: client.ask("GET", f"/qemu/{vmid}/status/current")["pid"] for vmid in LASTING}


def torment(node, workers, counter):
    """Kills at random moments, some soon after a start, until the clients are done."""
    chance, kills = random.Random(SEED), 0
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        select.select([], [], [], chance.choice([0.02, 0.1, 0.3, 0.8]) * (0.5 + chance.random()))
        assert node.process.poll() is None, f"wirtd ended by itself: {node.text()[-3000:]}"
        node.kill()
        kills += 1
        counter.kills -= 1
        node.start()
    for worker in workers:
        if worker.fault:
            raise worker.fault
    return kills


def check_running(node, pids):
    client = Client(node)
    for vmid, pid in pids.items():
        status = client.ask("GET", f"/qemu/{vmid}/status/current")
        assert status["status"] == "running" and status["pid"] == pid, f"VM {vmid} died: {status}, it was process {pid}"
    rows = client.ask("GET", "/qemu")
    known = {row["vmid"]: [row["pid"]] for row in rows if row["status"] == "running"}
    assert machines_of(node) == known, f"processes {machines_of(node)}, known {known}"
    return rows


def wait_for_tasks(node):
    """Until none runs: what wirtd itself began at its start may."""
    deadline = time.monotonic() + 120
    while running := [task for task in Client(node).ask("GET", "/tasks?limit=5000&source=all") if "endtime" not in task]:
        assert time.monotonic() < deadline, f"left running: {running}"
        select.select([], [], [], 0.1)


def check_tasks_and_locks(node, rows):
    client = Client(node)
    wait_for_tasks(node)
    assert not [row for row in rows if "lock" in row], rows
    for row in rows:  # no lock in memory either: each can be changed, and loses what snapshots are left
        assert client.do("PUT", f"/qemu/{row['vmid']}/config", description="checked") == "OK", row


def volumes_in(value):
    """Volume ids in a configuration or a record of a guest, with its snapshots."""
    if isinstance(value, dict):
        return set().union(*map(volumes_in, value.values()))
    return {value.split(",")[0]} if isinstance(value, str) and value.startswith("local:") and "/vm-" in value else set()


def check_store(node):
    """wirtd has ended: what it has left."""
    with sqlite3.connect(f"{node.state}/store.db") as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        records = {key: json.loads(value) for key, value in store.execute("SELECT key, value FROM kv")}
    store.close()
    guests = {key: value for key, value in records.items() if key.startswith("/guest/")}
    used = set().union(*map(volumes_in, guests.values()))
    kept = {key.removeprefix("/volume/"): value for key, value in records.items() if key.startswith("/volume/")}
    stand = [volume.get("parent") for volume in kept.values()]  # a layer on which several stand can be merged into none of them
    used |= {volume for volume in kept if "-snap-" in volume and stand.count(volume) > 1}
    left = {volume: kept[volume] for volume in set(kept) - used}
    assert used == set(kept), f"used but gone: {used - set(kept)}; kept but not used: {left}; guests: {guests}"
    assert all(volume["state"] == "ready" for volume in kept.values()), kept
    images = f"{node.state}/storage/local/images"
    files = {f"{folder}/{name}" for folder in os.listdir(images) for name in os.listdir(f"{images}/{folder}")}
    recorded = {volume: record.get("file", volume.partition(":")[2]) for volume, record in kept.items()}  # after a snapshot it is another file's
    assert files == set(recorded.values()), f"files without a record: {files - set(recorded.values())}; records: {recorded}"
    assert len(files) == len(recorded), f"one file for two volumes: {recorded}"
    for volume, file in recorded.items():
        done = subprocess.run(["qemu-img", "check", "-q", f"{images}/{file}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode in (0, 3), f"{volume}: {done.stdout}"  # 3: leaked clusters, no corruption
    return len(guests), len(kept)


def main():
    print(f"{OPERATIONS} operations by {CLIENTS} clients, seed {SEED}", flush=True)
    with Node() as node:
        pids = prepare(node)
        counter = Counter(OPERATIONS, OPERATIONS // 12)
        workers = [Worker(node, number, counter) for number in range(CLIENTS)]
        kills = torment(node, workers, counter)
        rows = check_running(node, pids)
        check_tasks_and_locks(node, rows)
        results = [result for worker in workers for _, _, result in worker.results]
        node.end_machines()
        node.stop()
        node.start()  # merges what dropped snapshots have kept, and a machine or a kill did not let it merge
        wait_for_tasks(node)
        node.stop()
        guests, volumes = check_store(node)
        print(f"{kills} kills; {results.count('OK')} operations well, {len(results)} in all; {guests} guests, {volumes} volumes are left")
        assert results.count("OK") >= OPERATIONS // 8, results


main()
