#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each machine runs in a scope of its own, outside the daemon's, with the controls that its configuration names; where no control group can be
written it runs without, and that is said. The kind here is what this host has (version 1 or 2); systemd's scopes are in systemd_test.py."""
import os
import select
import time

import as_root
from wirt_node import Node, busybox_args, console_says, finish, proxmoxer_client, skip


def groups_of(pid):
    """{controllers: path}; those of version 2 have the name ''."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split(":", 2) for line in file]
    return {controllers: path for _, controllers, path in rows}


def folder_of(controller):
    """Where its tree is mounted; of version 2 for ''."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, right = line.split(" - ")
            kind, _, options = right.split()
            if (kind == "cgroup" and controller in options.split(",")) if controller else kind == "cgroup2":
                return left.split()[4]
    return None


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def start(node, api, **options):
    finish(api, node, api.nodes(node.name).qemu.create(vmid=100, memory=96, args=busybox_args(), **options))
    return finish(api, node, api.nodes(node.name).qemu(100).status.start.post())


def wait_gone(path):
    deadline = time.monotonic() + 20
    while os.path.exists(path):
        assert time.monotonic() < deadline, f"{path} stays"
        select.select([], [], [], 0.05)


def test_limits_at_once(api, node, vm, cpu, memory):
    """A machine that runs gets its new limits; nothing waits for its next start, and a card that is plugged does not take them away."""
    limits = ("cpu.shares", "cpu.cfs_quota_us") if os.path.exists(f"{cpu}/cpu.shares") else ("cpu.weight", "cpu.max")
    limit = f"{memory}/memory.limit_in_bytes" if os.path.exists(f"{memory}/memory.limit_in_bytes") else f"{memory}/memory.max"
    vm.config.put(cpuunits=50, cpulimit=0.5)
    wanted = {"cpu.shares": "512", "cpu.cfs_quota_us": "50000", "cpu.weight": "50", "cpu.max": "50000 100000"}
    assert all(read(f"{cpu}/{name}") == wanted[name] for name in limits), wanted
    assert not any("pending" in row for row in vm.pending.get()), vm.pending.get()
    finish(api, node, vm.config.post(net0="virtio,bridge=vmbr9"))  # no bridge of ours: a process of its own
    assert all(read(f"{cpu}/{name}") == wanted[name] for name in limits), "a card's process took them away"
    assert int(read(limit)) == (96 + 6 + 512) << 20
    vm.config.put(delete="cpuunits,cpulimit")
    wanted = {"cpu.shares": "1024", "cpu.cfs_quota_us": "-1", "cpu.weight": "100", "cpu.max": "max 100000"}
    assert all(read(f"{cpu}/{name}") == wanted[name] for name in limits), wanted


def test_scope(node, api):
    log = start(node, api, cpuunits=200, cpulimit=0.25)
    assert "its scope: control group" in log, log
    vm = api.nodes(node.name).qemu(100)
    pid = vm.status.current.get()["pid"]
    own, daemon = groups_of(pid), groups_of(node.process.pid)
    if "cpu" in own:  # version 1
        cpu, memory = folder_of("cpu") + own["cpu"], folder_of("memory") + own["memory"]
        assert own["cpu"].endswith("/100") and own["cpu"] != daemon["cpu"] and own["memory"] != daemon["memory"], own
        assert read(f"{cpu}/cpu.shares") == "2048" and read(f"{cpu}/cpu.cfs_quota_us") == "25000"
        assert int(read(f"{memory}/memory.limit_in_bytes")) == (96 + 6 + 512) << 20
    else:
        cpu = memory = folder_of("") + own[""]
        assert own[""].endswith("/100") and own[""] != daemon[""], own
        assert read(f"{cpu}/cpu.weight") == "200" and read(f"{cpu}/cpu.max") == "25000 100000"
        assert int(read(f"{memory}/memory.max")) == (96 + 6 + 512) << 20
    console_says(node, 100, b"/ #")
    console_says(node, 100, b"spinning", b"while true; do :; done & echo spin''ning\n")
    # It would take a whole CPU; it gets a quarter, and status/current says so.
    vm.status.current.get()
    started, used = time.monotonic(), None
    while time.monotonic() < started + 60:
        select.select([], [], [], 1.2)
        used = vm.status.current.get()
        if used["cpu"] > 0.02 and time.monotonic() > started + 3:
            break
    assert 0.02 < used["cpu"] < 0.35, used
    assert 20 << 20 < used["mem"] <= used["maxmem"] == 96 << 20, used
    test_limits_at_once(api, node, vm, cpu, memory)
    # Found again: the scope outlives the daemon.
    node.kill()
    node.start()
    assert vm.status.current.get()["pid"] == pid and groups_of(pid) == own
    finish(api, node, vm.status.stop.post())
    wait_gone(cpu)
    wait_gone(memory)


def test_without():
    """No control group in sight."""
    with Node(before=("unshare", "--mount", "sh", "-c", "umount -R /sys/fs/cgroup && exec \"$@\"", "sh")) as node:
        api = proxmoxer_client(node)
        log = start(node, api, cpulimit=0.5)
        assert "its scope: none" in log, log
        assert "machines run without scopes of their own" in node.text(), node.text()
        current = api.nodes(node.name).qemu(100).status.current.get()
        assert current["status"] == "running" and current["mem"] > 1 << 20, current


def main():
    if os.geteuid() != 0:
        as_root.again()
        skip("control groups are root's, and sudo asks for a password")
    if os.path.exists("/run/systemd/system"):
        skip("systemd makes the scopes here: systemd_test.py")
    with Node() as node:
        if "without scopes" in node.text():
            skip("no control group can be written here")
        test_scope(node, proxmoxer_client(node))
    test_without()


main()
