#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What clients of Proxmox VE read: endpoint by endpoint the fields that they take out of answers, and the JSON type that strict decoders want.

A field marked with ? may be missing, but is of its type when it is there. Nothing may be null anywhere. Flags are 0 or 1; sizes are integers."""
from wirt_node import Node, finish, proxmoxer_client

# What stands behind a field: s string, i integer, f number, b 0 or 1, l list, o object, S non-empty string, n string of digits.
USER = "enable:b expire:i firstname:s lastname:s email:s comment:s"
TASK = "upid:S node:S pid:i pstart:i starttime:i type:S id:s user:S"
GUEST = "name:S status:S cpu:f maxmem:i mem:i disk:i maxdisk:i netin:i netout:i diskread:i diskwrite:i uptime:i"
STORAGE = "storage:S type:S content:S shared:b"
USAGE = "active:b enabled:b avail:i used:i total:i"

FIELDS = {
    "/version": "version:S release:S repoid:S",
    "/access/users?full=1": f"userid:S {USER} groups:s tokens:l realm-type:S",
    "/access/users/ann@wirt": f"{USER} groups:l tokens:o !userid",
    "/access/users/ann@wirt/token": "tokenid:S privsep:b expire:i",
    "/access/users/ann@wirt/token/t_1": "privsep:b expire:i",
    "/access/groups": "groupid:S users:s comment:s",
    "/access/groups/my_group": "members:l comment:s",
    "/access/domains": "realm:S type:S comment:S default?:b",
    "/access/domains/pam": "type:S comment:S",
    "/access/permissions?path=/": "/:o",
    "/access/acl": "path:S roleid:S ugid:S type:S propagate:b",
    "/access/roles": "roleid:S privs:s special?:b",
    "/access/roles/PVEVMUser": "VM.Audit:b",
    "/cluster/resources?type=vm": f"id:S type:S vmid:i node:S {GUEST} template:b maxcpu:i tags?:s pool?:s lock?:s hastate?:s",
    "/cluster/resources?type=storage": "id:S type:S storage:S node:S plugintype:S content:S shared:b status:S disk:i maxdisk:i",
    "/cluster/resources?type=node": "id:S type:S node:S status:S level:s cpu:f maxcpu:i mem:i maxmem:i disk:i maxdisk:i uptime:i",
    "/cluster/status": "type:S id:S name:S",
    "/cluster/tasks": f"{TASK} endtime?:i status?:S",
    "/cluster/log": "time:i node:S user:S msg:S tag:S pri:i uid:i pid:i",
    "/cluster/options": "keyboard:S",
    "/cluster/backup-info/not-backed-up": "type:S vmid:i name:S",
    "/pools": "poolid:S comment:s",
    "/pools/my_pool": "comment:s members:l !poolid",
    "/nodes": "node:S status:S type:S id:S cpu:f maxcpu:i mem:i maxmem:i disk:i maxdisk:i uptime:i level:s ssl_fingerprint:S",
    "/nodes/testnode/status": "memory:o cpuinfo:o cpu:f loadavg:l uptime:i kversion:S pveversion:S rootfs:o swap:o ksm:o wait:f idle:f",
    "/nodes/testnode/version": "version:S",
    "/nodes/testnode/time": "time:i localtime:i timezone:S",
    "/nodes/testnode/network": "iface:S type:S active:b autostart:b method:S address?:S netmask?:S cidr?:S comments?:s",
    "/nodes/testnode/subscription": "level:s status:S",
    "/nodes/testnode/tasks": f"{TASK} endtime?:i status?:S",
    "/nodes/testnode/tasks/{upid}/status": f"{TASK} status:S exitstatus:S",
    "/nodes/testnode/tasks/{upid}/log": "n:i t:s",
    "/nodes/testnode/qemu?full=1": f"vmid:i {GUEST} cpus:i qmpstatus:S pid?:i tags?:s lock?:S template?:b",
    "/nodes/testnode/qemu/100/status/current": f"vmid:i {GUEST} cpus:i qmpstatus:S ha:o agent:b pid:i tags:S running-qemu:S running-machine:S !template",
    "/nodes/testnode/qemu/100/config": "digest:S name:S net0:S virtio0:S ide2:S boot:S agent:S tags:S description:S onboot:b cores:i sockets:i memory:i "
                                       "cpu:S balloon:i cpuunits:i tablet:b kvm:b acpi:b protection:b numa:b bios:S machine:S scsihw:S startup:S hotplug:S "
                                       "ipconfig0:S ciuser:S cpulimit:f ostype:S vga:S serial0:S !template !cipassword",
    "/nodes/testnode/qemu/101/config": "digest:S template:b",
    "/nodes/testnode/qemu/100/pending": "key:S",
    "/nodes/testnode/qemu/100/snapshot": "name:S description:s snaptime?:i parent?:S vmstate?:b running?:b digest?:S",
    "/nodes/testnode/qemu/100/snapshot/one/config": "snaptime:i description:s virtio0:S",
    "/nodes/testnode/qemu/100/cloudinit": "key:S value:s",
    "/nodes/testnode/qemu/100/migrate": "running:b local_disks:l allowed_nodes:l",
    "/nodes/testnode/qemu/100/rrddata?timeframe=hour": "time:i",
    "/nodes/testnode/storage": f"{STORAGE} {USAGE} used_fraction:f",
    "/nodes/testnode/storage/local/status": f"type:S content:S shared:b {USAGE}",
    "/nodes/testnode/storage/local/content": "volid:S content:S format:S size:i used?:i ctime:i vmid?:i notes?:s parent?:S",
    "/storage": "storage:S type:S content:S shared:b path:S",
    "/storage/local": "storage:S type:S content:S shared:b path:S",
}
INSIDE = {
    "/nodes/testnode/status": {"memory": "total:i used:i free:i", "rootfs": "avail:i total:i used:i free:i", "swap": "total:i used:i free:i",
                               "cpuinfo": "cpus:i cores:i sockets:i model:S mhz:S flags:s hvm:S user_hz:i", "ksm": "shared:i"},
    "/pools/my_pool": {"members": "id:S type:S node:S status:S vmid?:i name?:S storage?:S"},
    "/access/users/ann@wirt": {"tokens": "t_1:o"},
    "/nodes/testnode/qemu/100/status/current": {"ha": "managed:b"},
}
# What there is none of must be an empty list, not an error.
EMPTY = ("/cluster/ha/resources", "/cluster/ha/groups", "/cluster/ha/rules", "/cluster/replication", "/cluster/backup", "/cluster/sdn/zones",
         "/cluster/sdn/vnets", "/cluster/firewall/groups", "/cluster/mapping/pci", "/cluster/metrics/server", "/cluster/acme/account",
         "/nodes/testnode/lxc", "/nodes/testnode/replication", "/nodes/testnode/aplinfo", "/nodes/testnode/qemu/100/firewall/rules")
# What is refused, with words that clients look for.
REFUSED = (("GET", "/cluster/ha/resources/vm:100", None, "500 no such resource 'vm:100'"),
           ("GET", "/nodes/testnode/qemu/999/status/current", None, "500 Configuration file 'nodes/testnode/qemu-server/999.conf' does not exist"),
           ("GET", "/nodes/testnode/qemu/100/agent/get-osinfo", None, "500 QEMU guest agent is not running"),
           ("POST", "/nodes/testnode/qemu/100/vncproxy", {"websocket": 1}, "501 VM 100 has no display"),
           ("POST", "/nodes/testnode/aplinfo", {"storage": "local", "template": "x"}, "400 Parameter verification failed."),
           ("GET", "/nodes/testnode/qemu/100/vncwebsocket?port=5900&vncticket=x", None, "400 "),
           ("POST", "/nodes/testnode/lxc", {"vmid": 200}, "501 Method 'POST /nodes/testnode/lxc' not implemented"),
           ("GET", "/storage/none", None, "500 storage 'none' does not exist"))

TYPES = {"s": lambda v: isinstance(v, str), "S": lambda v: isinstance(v, str) and v != "", "i": lambda v: type(v) is int and v >= 0,
         "f": lambda v: type(v) in (int, float) and v >= 0, "b": lambda v: type(v) is int and v in (0, 1),
         "l": lambda v: isinstance(v, list), "o": lambda v: isinstance(v, dict)}


def check(path, row, fields):
    for field in fields.split():
        if field[0] == "!":
            assert field[1:] not in row, f"{path}: {field[1:]} must not be there: {row}"
            continue
        name, _, kind = field.partition(":")
        optional = name.endswith("?")
        name = name.rstrip("?")
        assert optional or name in row, f"{path} lacks {name}: {row}"
        if name in row:
            assert TYPES[kind](row[name]), f"{path}: {name} is {row[name]!r}"


def no_null(path, value):
    assert value is not None, f"{path}: null in an answer"
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        no_null(path, inner)


def make_things(node, api):
    """One of each, so that no list is empty."""
    qemu = api.nodes(node.name).qemu
    finish(api, node, qemu.create(
        vmid=100, name="web", memory=64, cores=1, sockets=1, balloon=0, cpu="kvm64", cpuunits=1000, virtio0="local:0.01", ide2="none,media=cdrom",
        net0="virtio,bridge=vmbr0", boot="cnd", agent="1", tags="b,a", description="notes", onboot=0, tablet=1, kvm=1, acpi=1, protection=0, numa=0,
        bios="seabios", machine="q35", scsihw="virtio-scsi-pci", startup="order=1", hotplug="disk", ipconfig0="ip=dhcp", ciuser="me", cpulimit=1,
        ostype="l26", vga="std", serial0="socket", format="qcow2"))
    finish(api, node, qemu.create(vmid=101, memory=64, virtio0="local:0.01"))
    finish(api, node, qemu(101).template.post())
    finish(api, node, qemu(100).snapshot.post(snapname="one", description="first"))
    finish(api, node, qemu(100).status.start.post())
    api.access.groups.post(groupid="my_group", comment="all of us")
    api.access.users.post(userid="ann@wirt", firstname="Ann", lastname="A", email="ann@example.org", comment="x", groups="my_group")
    api.access.users("ann@wirt").token("t_1").post(privsep=0)
    api.access.users("root@wirt").put(firstname="", lastname="", email="", comment="")
    api.access.acl.put(path="/vms", users="ann@wirt", roles="PVEVMUser")
    api.pools.post(poolid="my_pool", comment="ours")
    api.pools("my_pool").put(vms="100,101", storage="local")
    api.cluster.options.put(description="here", language="de")
    assert api.cluster.options.get()["language"] == "de"
    api.cluster.options.put(delete="language")
    assert "language" not in api.cluster.options.get()
    return qemu(100).config.post(description="as a task")


def main():
    with Node() as node:
        api = proxmoxer_client(node)
        upid = make_things(node, api)
        finish(api, node, upid)
        for path, fields in FIELDS.items():
            data = node.owner("GET", path.replace("{upid}", upid))
            no_null(path, data)
            rows = data if isinstance(data, list) else [data]
            assert rows, f"{path} is empty"
            for row in rows:
                check(path, row, fields)
                for name, inner in INSIDE.get(path, {}).items():
                    for one in row[name] if isinstance(row[name], list) else [row[name]]:
                        check(f"{path} {name}", one, inner)
        for path in EMPTY:
            assert node.owner("GET", path) == [], path
        cluster, this = node.owner("GET", "/cluster/status")
        check("cluster", cluster, "name:S version:i quorate:b nodes:i")
        check("node", this, "nodeid:i online:b local:b ip:S level:s")
        assert cluster["type"] == "cluster" and this["type"] == "node" and this["id"] == "node/testnode"
        assert all(isinstance(load, str) for load in node.owner("GET", "/nodes/testnode/status")["loadavg"])
        next_id = node.owner("GET", "/cluster/nextid")
        assert isinstance(next_id, str) and next_id.isdigit()
        assert node.owner("GET", "/nodes/testnode/qemu/100/snapshot")[-1]["name"] == "current"
        config = node.owner("GET", "/nodes/testnode/qemu/100/config")
        assert config["tags"] == "a;b" and "size=" in config["virtio0"] and config["net0"].split(",")[1] == "bridge=vmbr0", config
        for method, path, params, answer in REFUSED:
            status, reason = node.refusal(method, path, params)
            assert f"{status} {reason}".startswith(answer), f"{method} {path}: {status} {reason}"
        print(f"{len(FIELDS)} endpoints, {sum(len(fields.split()) for fields in FIELDS.values())} fields; {len(EMPTY)} empty lists")


main()
