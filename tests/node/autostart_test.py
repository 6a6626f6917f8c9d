#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Guests start with the node in their order and with their delays, once after each boot of the machine, and are shut down in the opposite order, each with
its time; an end or a restart of wirtd alone starts and stops nobody."""
import os
import select
import sqlite3
import subprocess
import time

from wirt_node import Node, busybox_args, console_says, finish, proxmoxer_client

# The busybox guest has neither a driver nor a daemon for the power button: it looks at the event's status bit.
BUTTON = b"(until grep -q STS /sys/firmware/acpi/interrupts/ff_pwr_btn; do sleep 0.2; done; poweroff -f) & echo heed''ing\n"


def create(node, api, vmid, **options):
    finish(api, node, api.nodes(node.name).qemu.create(vmid=vmid, memory=96, args=busybox_args(), **options))


def running(node, api):
    return {row["vmid"] for row in api.nodes(node.name).qemu.get() if row["status"] == "running"}


def tasks(node, api, kind):
    """Oldest first; those that have ended."""
    rows = api.nodes(node.name).tasks.get(typefilter=kind, limit=100)
    return sorted((row for row in rows if row.get("endtime")), key=lambda row: row["starttime"])


def boot(node):
    """As if the machine had been started: what wirtd remembers of its boot is another's."""
    node.stop()
    with sqlite3.connect(f"{node.state}/store.db") as store:
        assert store.execute("DELETE FROM kv WHERE key = '/boot'").rowcount == 1
    store.close()
    node.start()


def wait_start(node, api, count):
    deadline = time.monotonic() + 120
    while len(tasks(node, api, "startall")) < count:
        assert time.monotonic() < deadline, node.text()
        select.select([], [], [], 0.1)


def test_start(node, api):
    boot(node)
    wait_start(node, api, 2)
    assert running(node, api) == {100, 101, 103}
    starts = {int(row["id"]): row for row in tasks(node, api, "qmstart")}
    assert starts[101]["endtime"] + 3 <= starts[100]["starttime"] + 1, starts  # times are whole seconds
    assert starts[101]["starttime"] < starts[100]["starttime"] <= starts[103]["starttime"], starts
    # A restart of wirtd is no boot: who was stopped stays so.
    finish(api, node, api.nodes(node.name).qemu(103).status.stop.post())
    node.kill()
    node.start()
    assert running(node, api) == {100, 101} and len(tasks(node, api, "startall")) == 2
    finish(api, node, api.nodes(node.name).startall.post(vms="103,102", force=1))
    assert running(node, api) == {100, 101, 102, 103}


def test_stop(node, api):
    for vmid in 100, 101, 103:
        console_says(node, vmid, b"/ #")
        console_says(node, vmid, b"heeding", BUTTON)
    console_says(node, 102, b"/ #")  # this one is deaf, and has two seconds
    done = subprocess.run([os.environ["WIRTD"], "--stop-guests", "--state", node.state], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=170, check=False)
    assert done.returncode == 0, done.stdout
    assert running(node, api) == set()
    stops = {int(row["id"]): row for row in tasks(node, api, "qmshutdown")}
    assert stops[103]["endtime"] <= stops[100]["starttime"] and stops[100]["endtime"] <= stops[101]["starttime"], stops
    assert stops[101]["starttime"] - stops[102]["starttime"] in (-1, 0, 1), "guests of one order are shut down at once"
    assert stops[102]["endtime"] - stops[102]["starttime"] >= 2, stops
    log = "".join(line["t"] for line in api.nodes(node.name).tasks(tasks(node, api, "stopall")[0]["upid"]).log.get())
    assert log.count(": OK") == 4, log


def main():
    with Node() as node:
        api = proxmoxer_client(node)
        create(node, api, 100, onboot=1, startup="order=2")
        create(node, api, 101, onboot=1, startup="order=1,up=3")
        create(node, api, 102, startup="order=1,down=2")
        create(node, api, 103, onboot=1)
        wait_start(node, api, 1)  # the first start of all
        assert running(node, api) == set()
        test_start(node, api)
        test_stop(node, api)


main()
