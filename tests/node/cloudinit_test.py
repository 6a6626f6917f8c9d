#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cloud-init's drive: what its documents say, that hostile values stay values, and what stands on the drive."""
import json
import struct
import urllib.parse

from wirt_node import Node, finish, named, proxmoxer_client, refused

KEYS = "ssh-ed25519 AAAAC3Nza one@x\nssh-ed25519 AAAAC3Nzb two@x\n"


def read_drive(path):
    """The files of an ISO 9660 image by their names, as its descriptors of the kind (1: plain, 2: Joliet) lead to them."""
    with open(path, "rb") as file:
        image = file.read()
    found = {}
    for kind, sector in ((1, 16), (2, 17)):
        descriptor = image[sector * 2048:(sector + 1) * 2048]
        assert descriptor[0] == kind and descriptor[1:6] == b"CD001"
        label = descriptor[40:72]
        assert (label.decode("utf-16-be") if kind == 2 else label.decode()).strip() == "CIDATA"
        start, length = struct.unpack("<I", descriptor[158:162])[0], struct.unpack("<I", descriptor[166:170])[0]
        folder, at, files = image[start * 2048:start * 2048 + length], 0, {}
        while at < len(folder) and folder[at]:
            record = folder[at:at + folder[at]]
            name = record[33:33 + record[32]]
            if record[25] == 0:
                extent, size = struct.unpack("<I", record[2:6])[0], struct.unpack("<I", record[10:14])[0]
                text = name.decode("utf-16-be") if kind == 2 else name.decode()
                files[text.lower()] = image[extent * 2048:extent * 2048 + size].decode()
            at += folder[at]
        found[kind] = files
    assert found[1] == found[2]
    return found[1]


def dump(vm, kind):
    text = vm.cloudinit.dump.get(type=kind)
    assert kind != "user" or text.startswith("#cloud-config\n"), text
    return json.loads(text.partition("\n")[2] if kind == "user" else text)


def test_documents(vm):
    user, network = dump(vm, "user"), dump(vm, "network")
    assert user["hostname"] == "web" and user["fqdn"] == "web.example.org" and user["user"] == "ann: {x}\n- y", user
    assert user["password"].startswith("$6$") and user["ssh_authorized_keys"] == KEYS.splitlines(), user
    card, names = network["config"]
    assert card["mac_address"] == "bc:24:11:00:00:01" and card["name"] == "eth0", card
    assert card["subnets"] == [{"type": "static", "address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"type": "ipv6_slaac"}], card
    assert names == {"type": "nameserver", "address": ["10.1.2.1", "9.9.9.9"], "search": ["example.org"]}, names
    config = vm.config.get()
    assert config["cipassword"] == "**********" and "media=cdrom" in config["ide2"], config
    assert {row["key"] for row in vm.cloudinit.get()} == {"ciuser", "cipassword", "sshkeys", "nameserver", "searchdomain", "ipconfig0"}
    assert "secret" not in json.dumps(vm.cloudinit.get())


def test_drive(node, vm):
    path = f"{node.state}/storage/local/images/100/vm-100-cloudinit.raw"
    assert vm.cloudinit.put() is None
    files = read_drive(path)
    assert set(files) == {"user-data", "meta-data", "network-config"} and files["user-data"] == vm.cloudinit.dump.get(type="user"), files
    first = json.loads(files["meta-data"])["instance-id"]
    vm.cloudinit.put()
    assert json.loads(read_drive(path)["meta-data"])["instance-id"] == first  # the guest does not begin anew
    vm.config.put(ciuser="bob")
    vm.cloudinit.put()
    assert json.loads(read_drive(path)["meta-data"])["instance-id"] != first


def test_snippets(api, node, vm):
    store = api.nodes(node.name).storage("local")
    finish(api, node, store.upload.post(content="snippets", filename=named("mine.yaml", b"#cloud-config\nruncmd: [ls]\n")))
    vm.config.put(cicustom="user=local:snippets/mine.yaml,vendor=local:snippets/mine.yaml")
    assert vm.cloudinit.dump.get(type="user") == "#cloud-config\nruncmd: [ls]\n"
    vm.cloudinit.put()
    files = read_drive(f"{node.state}/storage/local/images/100/vm-100-cloudinit.raw")
    assert files["user-data"] == files["vendor-data"] == "#cloud-config\nruncmd: [ls]\n", files
    refused(lambda: store.content("local:snippets/mine.yaml").delete(), "in use")
    for wrong in "user=local:iso/x.iso", "user=/etc/passwd", "user=local:snippets/../x", "colour=local:snippets/mine.yaml":
        refused(lambda wrong=wrong: vm.config.put(cicustom=wrong) or vm.cloudinit.put(), "00")
    vm.config.put(delete="cicustom")
    node.owner("POST", "/access/users", {"userid": "ann@wirt", "password": "long enough"})
    node.owner("PUT", "/access/acl", {"path": "/vms/100", "users": "ann@wirt", "roles": "PVEVMAdmin"})
    ann = proxmoxer_client(node, user="ann@wirt", password="long enough")
    refused(lambda: ann.nodes(node.name).qemu(100).config.put(cicustom="user=local:snippets/mine.yaml"), "403", "/storage/local")
    # What stands for a datastore's name becomes a part of the permission that is asked for, and must not widen it.
    wider = "user=a B | world | c:snippets/x,network=local:snippets/mine.yaml"
    refused(lambda: ann.nodes(node.name).qemu(100).config.put(cicustom=wider), "400", "Parameter verification")


def test_wrong_addresses(vm):
    for wrong in "ip=10.0.0.1", "ip=10.0.0.1/33", "ip=dhcp,gw=here", "ip6=10.0.0.1/24", "ip=10.0.0.1/24x", "dhcp", "ip=10.0.0.1/24,colour=red":
        refused(lambda wrong=wrong: vm.config.put(ipconfig0=wrong), "400")


def main():
    with Node() as node:
        api = proxmoxer_client(node)
        qemu = api.nodes(node.name).qemu
        finish(api, node, qemu.create(
            vmid=100, name="web", ide2="local:cloudinit", net0="virtio=BC:24:11:00:00:01,bridge=vmbr0", ciuser="ann: {x}\n- y",
            cipassword="secret", sshkeys=urllib.parse.quote(KEYS, safe=""), ipconfig0="ip=10.1.2.3/24,gw=10.1.2.1,ip6=auto",
            nameserver="10.1.2.1 9.9.9.9", searchdomain="example.org"))
        vm = qemu(100)
        test_documents(vm)
        test_drive(node, vm)
        test_snippets(api, node, vm)
        test_wrong_addresses(vm)
        finish(api, node, vm.clone.post(newid=101, name="other"))
        assert qemu(101).config.get()["ide2"] == "local:101/vm-101-cloudinit.raw,media=cdrom,size=4M"
        assert dump(qemu(101), "user")["hostname"] == "other"
        vm.config.put(delete="ide2")
        assert [key for key in vm.config.get() if key.startswith("unused")] == []
        for vmid in 100, 101:
            finish(api, node, qemu(vmid).delete())
        assert api.nodes(node.name).storage("local").content.get(content="images") == []


main()
