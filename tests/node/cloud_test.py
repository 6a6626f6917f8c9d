#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The whole path of a cloud image: upload, template, clone, cloud-init, boot by firmware, and QEMU's agent in a real Debian answers, freezes it for a
backup, and shuts it down."""
import os
import select
import time
import urllib.parse

from proxmoxer import ResourceException
from wirt_node import Node, control, finish, guest_image, proxmoxer_client

SECONDS = 600  # a busy machine, twice


def wait_for(what, seconds=SECONDS):
    """Asks until it answers: a guest that starts has nobody to tell us."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = what()
            if answer:
                return answer
            error = "nothing yet"
        except ResourceException as refusal:
            error = refusal
        assert time.monotonic() < deadline, error
        select.select([], [], [], 0.5)


def run(agent, *command, **more):
    """A command in the guest: its status and what it printed."""
    pid = agent.exec.post(command=list(command), **more)["pid"]
    status = wait_for(lambda: (lambda s: s if s["exited"] else None)(agent("exec-status").get(pid=pid)), 120)
    return status["exitcode"], status.get("out-data", ""), status.get("err-data", "")


def test_agent(agent):
    assert agent.ping.post() == {"result": {}}
    assert agent("get-osinfo").get()["result"]["id"] == "debian"
    assert agent("get-host-name").get()["result"]["host-name"] == "web1"
    assert any(command["name"] == "guest-exec" for command in agent.info.get()["result"]["supported_commands"])
    for question in "get-fsinfo", "get-memory-blocks", "get-time", "get-timezone", "get-users", "get-vcpus":
        try:
            assert "result" in agent(question).get(), question
        except ResourceException as error:  # no memory blocks in a guest without memory hot plug
            assert question == "get-memory-blocks", error
    assert run(agent, "echo", "two words") == (0, "two words\n", "")
    assert run(agent, "sh", "-c", "cat; echo bad >&2; exit 3", **{"input-data": "typed"}) == (3, "typed", "bad\n")
    agent("file-write").post(file="/tmp/x", content="first\nsecond\n")
    assert agent("file-read").get(file="/tmp/x") == {"content": "first\nsecond\n", "bytes-read": 13}
    agent("set-user-password").post(username="ann", password="another one")
    code, shadow, _ = run(agent, "getent", "shadow", "ann")
    assert code == 0 and shadow.startswith("ann:$"), shadow
    assert agent("fsfreeze-status").post()["result"] == "thawed"
    assert agent("fsfreeze-freeze").post()["result"] >= 1
    assert agent("fsfreeze-status").post()["result"] == "frozen"
    assert agent("fsfreeze-thaw").post()["result"] >= 1
    assert agent("fsfreeze-status").post()["result"] == "thawed"
    assert "paths" in agent.fstrim.post()["result"]


def test_configured(agent, config):
    """What cloud-init was told is so."""
    mac = config["net0"].partition("=")[2].partition(",")[0].lower()
    cards = agent("network-get-interfaces").get()["result"]
    card = next(card for card in cards if card["hardware-address"] == mac)
    assert card["name"] == "eth0" and any(a["ip-address-type"] == "ipv4" for a in card["ip-addresses"]), card
    assert run(agent, "cat", "/home/ann/.ssh/authorized_keys")[1].strip() == "ssh-ed25519 AAAAC3Nza one@x"
    assert run(agent, "hostname", "-f")[1].strip() == "web1.example.org"
    assert "9.9.9.9" in run(agent, "resolvectl", "dns")[1]


def test_memory(node, vm):
    """What is used is what the guest says, not what its process has."""
    def used():
        told = control(node, 101, "statistics")["balloon"]
        return told["total"] - told["free"] - told["caches"] if "total" in told else 0
    status = wait_for(lambda: (lambda s, u: s if u and abs(s["mem"] - u) < 16 << 20 else None)(vm.status.current.get(), used()), 60)
    print(f"mem {status['mem'] >> 20} of {status['maxmem'] >> 20} MiB")
    assert status["mem"] < status["maxmem"] == 512 << 20


def test_backup(api, node, agent):
    """Frozen by its agent for the backup's instant: what was written before is in it, and the guest goes on."""
    here = api.nodes(node.name)
    agent("file-write").post(file="/var/told", content="before the backup\n")
    log = finish(api, node, here.vzdump.post(vmid=101, storage="local"), 600)
    assert "agent froze" in log and "thawed" in log, log
    assert agent("fsfreeze-status").post()["result"] == "thawed"
    assert run(agent, "sh", "-c", "rm /var/told && sync && echo gone") == (0, "gone\n", "")
    volid = here.storage("local").content.get(content="backup")[0]["volid"]
    finish(api, node, here.qemu.create(vmid=102, archive=volid, unique=1), 600)
    finish(api, node, here.qemu(102).status.start.post())
    restored = here.qemu(102).agent
    wait_for(restored.ping.post)
    assert restored("file-read").get(file="/var/told")["content"] == "before the backup\n"
    log = finish(api, node, here.qemu(102).status.shutdown.post(timeout=120), 180)
    assert "agent shuts it down" in log, log


def main():
    image = guest_image("cloud.qcow2")
    with Node() as node:
        api = proxmoxer_client(node)
        here = api.nodes(node.name)
        linked = f"{node.folder}/debian-12.qcow2"
        os.symlink(image, linked)
        with open(linked, "rb") as file:
            finish(api, node, here.storage("local").upload.post(content="import", filename=file), 300)
        finish(api, node, here.qemu.create(
            vmid=100, name="debian-12", memory=512, cores=2, agent="1", virtio0="local:0,import-from=local:import/debian-12.qcow2",
            ide2="local:cloudinit", net0="virtio,bridge=vmbr0", boot="order=virtio0"), 300)
        finish(api, node, here.qemu(100).template.post())
        finish(api, node, here.qemu(100).clone.post(newid=101, name="web1"))
        vm = here.qemu(101)
        vm.config.put(ciuser="ann", cipassword="secret words", sshkeys=urllib.parse.quote("ssh-ed25519 AAAAC3Nza one@x", safe=""),
                      ipconfig0="ip=dhcp", nameserver="9.9.9.9", searchdomain="example.org")
        finish(api, node, vm.resize.put(disk="virtio0", size="3G"))
        start = time.monotonic()
        finish(api, node, vm.status.start.post())
        agent = vm.agent
        wait_for(agent.ping.post)
        print(f"the agent answers after {time.monotonic() - start:.0f} s")
        wait_for(lambda: run(agent, "cloud-init", "status", "--wait")[1].strip().endswith("status: done"))
        print(f"cloud-init is done after {time.monotonic() - start:.0f} s")
        test_configured(agent, vm.config.get())
        test_agent(agent)
        test_memory(node, vm)
        test_backup(api, node, agent)
        log = finish(api, node, vm.status.shutdown.post(timeout=120), 180)
        assert "agent shuts it down" in log and "power button" not in log, log
        # Asked as soon as it runs: nobody listens yet, neither for the agent nor for the button.
        finish(api, node, vm.status.start.post())
        print(finish(api, node, vm.status.shutdown.post(timeout=300), 400))


main()
