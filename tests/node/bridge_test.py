#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vmbr0, in a network namespace of its own: two guests get addresses that stay, by DHCP, and reach each other by name, the host and outside; a second node
has a network of its own; a node without privileges says that it has none; it is found again after kill -9 and gone at the end.

Outside is a second namespace at the other end of a veth, which knows no way to the guests' addresses: what it answers came through NAT.
"""
import os
import re
import select
import signal
import subprocess
import sys
import time

import as_root
from wirt_node import Node, Shell, busybox_args, console_says, finish, for_others, proxmoxer_client, refused, skip

OUTSIDE = "203.0.113.1"


def run(*words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}"
    return done.stdout


def make_outside():
    """The other namespace, as the process that keeps it."""
    keeper = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    keeper.stdout.readline()
    there = ["nsenter", "-t", str(keeper.pid), "-n"]
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "out0", "netns", str(keeper.pid))
    run("ip", "addr", "add", "203.0.113.2/24", "dev", "up0")
    run("ip", "link", "set", "up0", "up")
    run(*there, "ip", "addr", "add", f"{OUTSIDE}/24", "dev", "out0")
    run(*there, "ip", "link", "set", "out0", "up")
    return keeper


def create(node, api, vmid, name):
    finish(api, node, api.nodes(node.name).qemu.create(vmid=vmid, name=name, memory=96, net0="virtio,bridge=vmbr0",
                                                       args=busybox_args("wirt.net=dhcp")))


def start(node, api, vmid):
    """Its address, as the task told it."""
    log = finish(api, node, api.nodes(node.name).qemu(vmid).status.start.post())
    found = re.search(r"net0 is on vmbr0 as ([\d.]+)", log)
    assert found, log
    console_says(node, vmid, b"/ #")
    return found.group(1)


def pings(node, vmid, whom):
    """Does the guest get answers? DHCP's names come when the other has its address, so it is asked for a while."""
    text = console_says(node, vmid, b"result-", f"for i in $(seq 30); do ping -c 1 -W 1 {whom} && break; done; echo re''sult-$?\n".encode())
    return b"1 packets received" in text


def interfaces():
    return [line.split(":")[1].strip().split("@")[0] for line in run("ip", "-o", "link").splitlines()]


def wait_for(true, what):
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, what
        select.select([], [], [], 0.05)


def dnsmasqs():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            mine = os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")
        except OSError:
            continue
        if mine and words[0].endswith(b"dnsmasq"):
            found.append(int(pid))
    return found


def test_guests(node, api):
    for vmid, name in (100, "web1"), (101, "web2"):
        create(node, api, vmid, name)
    first, second = start(node, api, 100), start(node, api, 101)
    assert first != second
    assert first.encode() in console_says(node, 100, b"/ # ", b"ifconfig eth0 | grep 'inet addr'\n/bin/true\n") or pings(node, 101, first)
    assert pings(node, 101, first), "the guests do not reach each other"
    assert pings(node, 101, "web1"), "a guest is not found by its name"
    gateway = [row for row in api.nodes(node.name).network.get() if row["iface"] == "vmbr0"][0]["address"]
    assert pings(node, 100, gateway), "the host is not reached"
    assert pings(node, 100, OUTSIDE), "outside is not reached"
    run("busybox", "ping", "-c", "1", "-W", "5", first)  # from the host
    return first


def test_found_again(node, api, first):
    before, servers = interfaces(), dnsmasqs()
    assert len(servers) == 1
    node.kill()
    assert pings(node, 101, first), "the network went with wirtd"
    node.start()
    assert interfaces() == before and dnsmasqs() == servers
    finish(api, node, api.nodes(node.name).qemu(100).status.stop.post())
    wait_for(lambda: len(interfaces()) == len(before) - 1, "the TAP interface stays")
    assert start(node, api, 100) == first, "the address changed"
    assert pings(node, 101, first)


def hosts_folder():
    with open(f"/proc/{dnsmasqs()[0]}/cmdline", encoding="utf-8") as file:
        return re.search(r"--dhcp-hostsdir=([^\0]*)", file.read()).group(1)


def lease(shell, device, mac):
    """The address that the card gets by DHCP."""
    shell.wait(f"grep -qi {mac} /sys/class/net/{device}/address")
    shell.run(f"ip link set {device} up; udhcpc -i {device} -n -q -t 20 -s /bin/udhcpc-script")
    return shell.run(f"ip -o -4 addr show dev {device} | sed 's/.*inet \\([0-9.]*\\).*/\\1/'")


def reaches(shell, device, whom):
    return "1 packets received" in shell.run(f"for i in $(seq 30); do ping -I {device} -c 1 -W 1 {whom} && break; done")


def test_plugged(node, api, other):
    """A card that comes while the machine runs is on the bridge as one that was there at its start, and goes without a trace."""
    vm, before, mac = api.nodes(node.name).qemu(101), interfaces(), "bc:24:11:00:00:02"
    gateway = [row for row in api.nodes(node.name).network.get() if row["iface"] == "vmbr0"][0]["address"]
    log = finish(api, node, vm.config.post(net1=f"virtio={mac},bridge=vmbr0"))
    told = re.search(r"net1 is on vmbr0 as ([\d.]+)", log).group(1)
    assert len(interfaces()) == len(before) + 1, interfaces()
    with Shell(node, 101) as shell:
        assert lease(shell, "eth1", mac) == told
        assert reaches(shell, "eth1", other) and reaches(shell, "eth1", gateway)
        first = shell.run("ip -o -4 addr show dev eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'")
        # The cable is pulled and plugged in; the card stays.
        shell.run("mark=$(cat /sys/class/net/eth1/ifindex)")
        for down, carrier in (1, 0), (0, 1):
            vm.config.put(net1=f"virtio={mac},bridge=vmbr0,link_down={down}")
            shell.wait(f"[ $(cat /sys/class/net/eth1/carrier) = {carrier} ]")
            assert shell.run("[ $(cat /sys/class/net/eth1/ifindex) = $mark ] && echo same") == "same"
        assert [row for row in vm.pending.get() if "pending" in row or "delete" in row] == []
        vm.config.put(net1=f"virtio={mac},bridge=vmbr0,link_down=0,rate=5")  # nothing of the device: it stays, too
        assert shell.run("[ $(cat /sys/class/net/eth1/ifindex) = $mark ] && echo same") == "same"
        assert reaches(shell, "eth1", other)
        assert pings(node, 100, "web2") and f"({first})".encode() in console_says(node, 100, b"result-", b"ping -c 1 web2; echo re''sult-$?\n"), "the name went to the second card"
    node.kill()
    assert len(interfaces()) == len(before) + 1
    node.start()
    with Shell(node, 101) as shell:
        assert reaches(shell, "eth1", other), "the card's network went with wirtd"
        # Another address is another card, with an address of its own.
        mac = "bc:24:11:00:00:03"
        log = finish(api, node, vm.config.post(net1=f"virtio={mac},bridge=vmbr0"))
        moved = re.search(r"net1 is on vmbr0 as ([\d.]+)", log).group(1)
        assert moved != told and lease(shell, "eth1", mac) == moved and reaches(shell, "eth1", gateway)
        assert len(interfaces()) == len(before) + 1, interfaces()
        vm.config.put(delete="net1")
        shell.wait("[ ! -e /sys/class/net/eth1 ]")
        wait_for(lambda: interfaces() == before, "the TAP interface stays")
    refused(lambda: vm.config.put(net1="virtio=01:00:5e:00:00:01,bridge=vmbr0"), "400")
    refused(lambda: vm.config.put(net1="virtio,bridge=vmbr0,link_down=perhaps"), "400")
    # One that is there at the start with its cable pulled, and the machine's end.
    finish(api, node, vm.config.post(net1=f"virtio={mac},bridge=vmbr0,link_down=1", name="renamed"))
    finish(api, node, vm.status.stop.post())
    wait_for(lambda: len(interfaces()) == len(before) - 1, "TAP interfaces stay")
    # The address was another's once, whom the DHCP server knows still.
    folder = hosts_folder()
    os.unlink(f"{folder}/{mac.replace(':', '-')}")
    with open(f"{folder}/bc-24-11-00-00-99", "w", encoding="utf-8") as file:
        file.write(f"bc:24:11:00:00:99,{moved}\n")
    os.kill(dnsmasqs()[0], signal.SIGHUP)
    start(node, api, 101)
    with Shell(node, 101) as shell:
        shell.run("ip link set eth1 up")
        assert shell.run("cat /sys/class/net/eth1/carrier") == "0"
        vm.config.put(net1=f"virtio={mac},bridge=vmbr0")
        shell.wait("[ $(cat /sys/class/net/eth1/carrier) = 1 ]")
        assert lease(shell, "eth1", mac) == moved
    assert pings(node, 100, "renamed"), "a new name is not known"
    finish(api, node, vm.config.post(delete="net1"))


def serving(pid_file):
    """The dnsmasq that serves, or None. While one starts, there is also its parent, whose end is a failed start; it makes the file anew."""
    try:
        with open(pid_file, encoding="ascii") as file:
            text = file.read().strip()
    except FileNotFoundError:
        return None
    return int(text) if text and int(text) in dnsmasqs() else None


def test_server_dies(node, api, first):
    """DHCP and DNS come again by themselves; where they die soon again, with the next card."""
    pid_file = f"{os.path.dirname(hosts_folder())}/dnsmasq.pid"
    os.kill(serving(pid_file), signal.SIGKILL)
    wait_for(lambda: "has ended" in node.text() and serving(pid_file), "dnsmasq is not started again")
    os.kill(serving(pid_file), signal.SIGKILL)
    wait_for(lambda: "has ended soon" in node.text(), "its end is not seen")
    assert dnsmasqs() == []
    finish(api, node, api.nodes(node.name).qemu(100).status.stop.post())
    assert start(node, api, 100) == first and len(dnsmasqs()) == 1
    assert pings(node, 101, "web1"), "a guest is not found by its name"


def test_second_node(node, api):
    """Beside the first on the same machine."""
    with Node(name="second") as other:
        client = proxmoxer_client(other)
        create(other, client, 100, "web1")
        start(other, client, 100)
        ours, theirs = ([row for row in c.nodes(n.name).network.get() if row["iface"] == "vmbr0"][0] for c, n in ((api, node), (client, other)))
        assert ours["address"] != theirs["address"] and ours["comments"] != theirs["comments"], (ours, theirs)
        assert len(dnsmasqs()) == 2
        tables = run("nft", "list", "tables")
        assert tables.count("table ip wirt_") == 2, tables
    assert len(dnsmasqs()) == 1 and run("nft", "list", "tables").count("table ip wirt_") == 1


def test_without_privileges():
    os.environ["WIRTD"] = f"{for_others(os.path.dirname(os.environ['WIRTD']))}/wirtd"
    with Node(before=("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"), owner="nobody") as node:
        api = proxmoxer_client(node)
        assert "vmbr0 cannot be made" in node.text() and "user-mode networks instead" in node.text(), node.text()
        create(node, api, 100, "alone")
        log = finish(api, node, api.nodes(node.name).qemu(100).status.start.post())
        assert "net0 has a user-mode network" in log, log
        console_says(node, 100, b"/ #")
        console_says(node, 100, b"addr:10.0.2.", b"ifconfig eth0\n")
        log = finish(api, node, api.nodes(node.name).qemu(100).config.post(net1="virtio=BC:24:11:00:00:02,bridge=vmbr0"))
        assert "net1 has a user-mode network" in log, log
        with Shell(node, 100) as shell:
            assert lease(shell, "eth1", "bc:24:11:00:00:02").startswith("10.0.2.")


def main():
    if os.geteuid() != 0:
        as_root.again()
        skip("a bridge is root's, and sudo asks for a password")
    if "inside" not in sys.argv:
        if subprocess.run(["unshare", "--net", "true"], check=False).returncode != 0:
            skip("no network namespace can be made here")
        os.execvp("unshare", ["unshare", "--net", sys.executable, __file__, "inside"])
    for program in "nft", "dnsmasq":
        if not os.path.exists(f"/usr/sbin/{program}"):
            skip(f"no {program}")
    keeper = make_outside()
    with Node() as node:
        api = proxmoxer_client(node)
        first = test_guests(node, api)
        test_found_again(node, api, first)
        test_plugged(node, api, first)
        test_server_dies(node, api, first)
        test_second_node(node, api)
    assert not [name for name in interfaces() if name.startswith("w")], interfaces()
    assert dnsmasqs() == [] and "wirt_" not in run("nft", "list", "tables")
    test_without_privileges()
    keeper.stdin.close()
    keeper.wait()


main()
