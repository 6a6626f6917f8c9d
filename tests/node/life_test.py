#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The whole life of a VM, as a program written for Proxmox VE lives it: Debian's python3-proxmoxer, unmodified."""
import os

from wirt_node import Node, busybox_args, console_says, finish, proxmoxer_client, refused


def create(node, api):
    vmid = api.cluster.nextid.get()
    assert vmid == "100", vmid
    assert api.cluster.nextid.get() == "101"  # the first is promised
    upid = node.qemu.create(vmid=vmid, name="web1", memory=128, cores=1, virtio0="local:0.125", net0="virtio,bridge=vmbr0",
                            tags="b;a", onboot=0, args=busybox_args())
    return int(vmid), upid


def test_configuration(vm):
    config = vm.config.get()
    assert config["name"] == "web1" and config["memory"] == 128 and config["tags"] == "a;b", config
    assert config["virtio0"] == "local:100/vm-100-disk-0.qcow2,size=128M", config
    assert config["net0"].startswith("virtio=BC:24:11:") and config["net0"].endswith(",bridge=vmbr0"), config
    mac = config["net0"][7:24]
    assert vm.config.put(description="first", net0="virtio,bridge=vmbr0,firewall=1", delete="onboot") is None
    changed = vm.config.get()
    assert changed["net0"] == f"virtio={mac},bridge=vmbr0,firewall=1", changed
    assert "onboot" not in changed and changed["digest"] != config["digest"]
    refused(lambda: vm.config.put(memory=64, digest=config["digest"]), "modified")
    refused(lambda: vm.config.put(colour="red"), "400")
    refused(lambda: vm.config.put(memory="much"), "400")


def test_disks(api, node, vm):
    finish(api, node, vm.config.post(scsi1="local:1"))
    finish(api, node, vm.resize.put(disk="scsi1", size="+1G"))
    assert vm.config.get()["scsi1"].endswith("size=2G")
    assert vm.unlink.put(idlist="scsi1") is None
    volume = vm.config.get()["unused0"]
    content = api.nodes(node.name).storage("local").content.get(vmid=100)
    assert {row["volid"] for row in content} == {"local:100/vm-100-disk-0.qcow2", volume}, content
    assert vm.unlink.put(idlist="unused0", force=1) is None
    assert not os.path.exists(f"{node.state}/storage/local/images/{volume.partition(':')[2]}")


def test_snapshots(api, node, vm):
    finish(api, node, vm.snapshot.post(snapname="before", description="clean"))
    vm.config.put(description="second")
    names = [row["name"] for row in vm.snapshot.get()]
    assert names == ["before", "current"], names
    finish(api, node, vm.snapshot("before").rollback.post())
    assert vm.config.get()["description"] == "first"
    finish(api, node, vm.snapshot("before").delete())
    assert [row["name"] for row in vm.snapshot.get()] == ["current"]


def test_running(api, node, vm):
    finish(api, node, vm.status.start.post())
    status = vm.status.current.get()
    assert status["status"] == "running" and status["qmpstatus"] == "running" and status["pid"] > 1, status
    console_says(node, 100, b"/ #")
    finish(api, node, vm.status.suspend.post())
    assert vm.status.current.get()["qmpstatus"] == "paused"
    finish(api, node, vm.status.resume.post())
    refused(lambda: vm.agent("network-get-interfaces").get(), "QEMU guest agent is not running")


def test_survival(api, node, vm):
    """Neither a stop nor a kill of wirtd ends a machine; it is found again."""
    pid = vm.status.current.get()["pid"]
    node.kill()
    node.start()
    assert vm.status.current.get()["pid"] == pid
    node.stop()
    node.start()
    status = vm.status.current.get()
    assert status["pid"] == pid and status["status"] == "running", status
    console_says(node, 100, b"/ #")
    finish(api, node, vm.status.stop.post())
    assert vm.status.current.get()["status"] == "stopped"


def test_clones(api, node, vm):
    nodes = api.nodes(node.name)
    finish(api, node, vm.template.post())
    finish(api, node, vm.clone.post(newid=201, name="linked"))
    finish(api, node, vm.clone.post(newid=202, name="full", full=1))
    linked, full = nodes.qemu(201).config.get(), nodes.qemu(202).config.get()
    assert "template" not in linked and linked["name"] == "linked" and full["name"] == "full"
    assert linked["net0"] != full["net0"]
    parents = {row["vmid"]: row.get("parent") for row in nodes.storage("local").content.get()}
    assert parents == {100: None, 201: "local:100/vm-100-disk-0.qcow2", 202: None}, parents
    finish(api, node, nodes.qemu(201).status.start.post())
    console_says(node, 201, b"/ #")
    finish(api, node, nodes.qemu(201).status.stop.post())
    status = nodes.tasks(vm.delete()).status  # the template's disk is in use
    while status.get()["status"] == "running":
        pass
    assert "still in use by linked clones" in status.get()["exitstatus"]
    for vmid in 201, 202, 100:
        finish(api, node, nodes.qemu(vmid).delete())
    assert nodes.qemu.get() == [] and nodes.storage("local").content.get() == []


def main():
    with Node() as node:
        api = proxmoxer_client(node)
        assert api.version.get()["version"].startswith("8.")
        vmid, upid = create(api.nodes(node.name), api)
        finish(api, node, upid)
        vm = api.nodes(node.name).qemu(vmid)
        refused(lambda: api.nodes(node.name).qemu.create(vmid=vmid), "400", "verification failed")
        refused(lambda: api.nodes(node.name).qemu(999).config.get(), "500", "does not exist")
        resource = api.cluster.resources.get(type="vm")[0]
        assert resource["vmid"] == 100 and resource["template"] == 0 and resource["node"] == node.name, resource
        test_configuration(vm)
        test_disks(api, node, vm)
        test_snapshots(api, node, vm)
        test_running(api, node, vm)
        test_survival(api, node, vm)
        test_clones(api, node, vm)


main()
