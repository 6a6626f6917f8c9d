#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rights that depend on what is stored, and ways around them: other datastores by a volume's id, other people's volumes and backups, copies where one
may put nothing, disks by way of CD-ROMs, administrators by way of passwords, tokens and groups, tickets of who is gone; and what the audit log tells."""
import http.client
import json
import os
import urllib.parse

from wirt_node import PASSWORD, Node, finish, proxmoxer_client, unverified


class Person:
    """A user with a token that may what the user may."""

    def __init__(self, node, name, *rights, privsep=0, tokenid="t"):
        self.node, self.user = node, f"{name}@wirt"
        if not any(row["userid"] == self.user for row in node.owner("GET", "/access/users")):
            node.owner("POST", "/access/users", {"userid": self.user, "password": PASSWORD})
        made = node.owner("POST", f"/access/users/{self.user}/token/{tokenid}", {"privsep": privsep})
        self.headers = {"Authorization": f"PVEAPIToken={made['full-tokenid']}={made['value']}"}
        for path, role in rights:
            self.grant(path, role)

    def grant(self, path, role, **more):
        self.node.owner("PUT", "/access/acl", {"path": path, "users": self.user, "roles": role, **more})

    def log_in(self):
        """With a ticket, as a person does; what only oneself may is not for tokens."""
        data = self.ask("POST", "/access/ticket", {"username": self.user, "password": PASSWORD})[2]
        self.headers = {"Cookie": f"PVEAuthCookie={data['ticket']}", "CSRFPreventionToken": data["CSRFPreventionToken"]}
        return self

    def ask(self, method, path, params=None):
        connection = http.client.HTTPSConnection("127.0.0.1", self.node.port, context=unverified(), timeout=30)
        text = urllib.parse.urlencode(params or {}, doseq=True)
        headers, body = dict(self.headers), None
        if method in ("GET", "DELETE"):
            path += f"?{text}" if text else ""
        else:
            headers["Content-Type"], body = "application/x-www-form-urlencoded", text
        connection.request(method, f"/api2/json{path}", body=body, headers=headers)
        answer = connection.getresponse()
        reason, data = answer.reason, json.loads(answer.read())["data"]
        connection.close()
        return answer.status, reason, data

    def may(self, method, path, params=None):
        status, reason, data = self.ask(method, path, params)
        assert status == 200, f"{method} {path} {params}: {status} {reason}"
        return data

    def may_not(self, method, path, params=None, word="Permission check failed"):
        status, reason, _ = self.ask(method, path, params)
        assert status in (400, 403) and (status == 400 or word in reason), f"{method} {path} {params}: {status} {reason}"


def test_other_datastore(node, api):
    folder = f"{node.folder}/other"
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    api.storage.post(storage="other", type="dir", path=folder)
    ann = Person(node, "ann", ("/storage/local", "PVEDatastoreAdmin"))
    here = "/nodes/testnode/storage/local/content/"
    for method, params in ("PUT", {"notes": "mine"}), ("GET", None), ("DELETE", None):
        for volume in "other:backup/vzdump-qemu-100-2026_01_01-00_00_00.wirt", "other:iso/x.iso":
            status, reason, _ = ann.ask(method, here + volume, params)
            assert status == 400, f"{method} {volume}: {status} {reason}"
    with open(f"{node.state}/storage/local/images/100/vm-100-disk-0.qcow2", "rb"):
        pass
    bob = Person(node, "bob", ("/storage/local", "PVEDatastoreUser"))
    bob.grant("/vms/101", "PVEVMAdmin")
    bob.may_not("DELETE", here + "local:100/vm-100-disk-0.qcow2")
    role = {"roleid": "Templates_only", "privs": "Datastore.AllocateTemplate"}
    node.owner("POST", "/access/roles", role)
    cat = Person(node, "cat", ("/storage/local", role["roleid"]))
    cat.may_not("DELETE", here + "local:100/vm-100-disk-0.qcow2")
    cat.may_not("DELETE", here + "local:backup/vzdump-qemu-100-2026_01_01-00_00_00.wirt")
    status, reason, _ = cat.ask("DELETE", here + "local:iso/none.iso")
    assert status == 500 and "does not exist" in reason, reason
    bob.may_not("PUT", here + "backup/vzdump-qemu-100-2026_01_01-00_00_00.wirt", {"notes": "mine"})
    bob.may_not("GET", "/nodes/testnode/vzdump/extractconfig", {"volume": "local:backup/vzdump-qemu-100-2026_01_01-00_00_00.wirt"})


def test_backups(node):
    dan = Person(node, "dan", ("/vms/100", "PVEVMAdmin"))
    dan.may_not("POST", "/nodes/testnode/vzdump", {"vmid": "100"}, "/storage/local, Datastore.AllocateSpace")
    dan.grant("/storage/local", "PVEDatastoreUser")
    dan.may_not("POST", "/nodes/testnode/vzdump", {"vmid": "100", "prune-backups": "keep-last=1"}, "Datastore.Allocate")
    dan.may_not("POST", "/nodes/testnode/vzdump", {"vmid": "100,101"}, "/vms/101, VM.Backup")


def test_copies(node, api):
    eve = Person(node, "eve", ("/vms/100", "PVETemplateUser"), ("/vms/110", "PVEVMAdmin"))
    eve.may_not("POST", "/nodes/testnode/qemu/100/clone", {"newid": 110}, "/storage/local, Datastore.AllocateSpace")
    eve.grant("/storage/local", "PVEDatastoreUser")
    finish(api, node, eve.may("POST", "/nodes/testnode/qemu/100/clone", {"newid": 110}))
    eve.may_not("PUT", "/nodes/testnode/qemu/110/config", {"net0": "virtio,bridge=vmbr0"}, "SDN.Use")
    eve.may_not("PUT", "/nodes/testnode/qemu/110/config", {"net0": "virtio,bridge=x SDN.Use | /vms/110 VM.Audit"})
    eve.may("PUT", "/nodes/testnode/qemu/110/config", {"net0": "virtio"})
    eve.may_not("PUT", "/nodes/testnode/qemu/110/config", {"virtio5": "local:100/vm-100-disk-0.qcow2"}, "another guest")
    eve.may_not("POST", "/nodes/testnode/qemu/100/snapshot/x/rollback", {"start": 1})


def test_media(node):
    fay = Person(node, "fay", ("/vms/100", "PVEVMUser"), ("/storage/local", "PVEDatastoreUser"))
    config = "/nodes/testnode/qemu/100/config"
    fay.may("PUT", config, {"ide2": "none,media=cdrom"})
    for method in "PUT", "POST":
        fay.may_not(method, config, {"virtio0": "none,media=cdrom"}, "VM.Config.Disk")
        fay.may_not(method, config, {"delete": "virtio0"}, "VM.Config.Disk")
        fay.may_not(method, config, {"scsi3": "local:1"}, "VM.Config.Disk")
        fay.may_not(method, config, {"delete": "ide2", "cores": 2}, "VM.Config.CPU")
    fay.may("PUT", config, {"delete": "ide2"})
    assert "virtio0" in fay.may("GET", config)


def test_restored_media(node, api):
    """A backup comes from anybody: its media and networks become a guest's when they may be used by whoever restores it."""
    folder = f"{node.folder}/other/template/iso"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/x.iso", "wb") as file:
        file.write(bytes(2048))
    here = api.nodes(node.name)
    here.qemu(100).config.put(ide2="other:iso/x.iso,media=cdrom", net0="virtio,bridge=vmbr0")
    finish(api, node, here.vzdump.post(vmid=100, storage="local"))
    backup = here.storage("local").content.get(content="backup")[0]["volid"]
    ida = Person(node, "ida", ("/vms/130", "PVEVMAdmin"), ("/vms/100", "PVEVMAdmin"), ("/storage/local", "PVEDatastoreUser"))

    def restored():
        finish(api, node, ida.may("POST", f"/nodes/{node.name}/qemu", {"vmid": 130, "archive": backup, "force": 1}))
        return here.qemu(130).config.get()

    config = restored()
    assert config["ide2"] == "none,media=cdrom" and "net0" not in config and "virtio0" in config, config
    ida.grant("/storage/other", "PVEDatastoreUser")
    ida.grant("/sdn/zones/localnetwork/vmbr0", "PVESDNUser")
    config = restored()
    assert config["ide2"].startswith("other:iso/x.iso") and "bridge=vmbr0" in config["net0"], config
    for vmid, gone in (130, None), (100, "ide2,net0"):
        if gone:
            here.qemu(vmid).config.put(delete=gone)
        else:
            finish(api, node, here.qemu(vmid).delete())
    finish(api, node, here.storage("local").content(backup).delete())


def test_pools(node, api):
    """Who has rights on a pool alone makes guests in it, and in no other place."""
    api.pools.post(poolid="teams/red_1")
    api.pools.post(poolid="blue")
    gus = Person(node, "gus", ("/pool/teams/red_1", "PVEVMAdmin"), ("/storage/local", "PVEDatastoreUser"))
    new = {"vmid": 120, "memory": 64, "virtio0": "local:0.01"}
    gus.may_not("POST", "/nodes/testnode/qemu", new, "VM.Allocate")
    gus.may_not("POST", "/nodes/testnode/qemu", {**new, "pool": "blue"}, "VM.Allocate")
    finish(api, node, gus.may("POST", "/nodes/testnode/qemu", {**new, "pool": "teams/red_1"}))
    gus.may("PUT", "/nodes/testnode/qemu/120/config", {"cores": 2})
    gus.may_not("PUT", "/pools", {"poolid": "blue", "vms": "120", "allow-move": 1})
    gus.grant("/pool/blue", "PVEPoolAdmin")
    gus.may_not("PUT", "/pools", {"poolid": "blue", "vms": "120", "allow-move": 1}, "/pool/teams/red_1, Pool.Allocate")
    gus.may_not("PUT", "/pools", {"poolid": "blue", "vms": "100"}, "/vms/100, VM.Allocate")
    members = api.get("pools", poolid="teams/red_1")[0]["members"]
    assert [row["vmid"] for row in members] == [120], members


def test_administrators(node):
    """User.Modify makes nobody an administrator."""
    hal = Person(node, "hal", ("/access", "PVEUserAdmin"))
    ordinary = Person(node, "ivy")
    hal.may("PUT", "/access/password", {"userid": ordinary.user, "password": "another password"})
    hal.may("POST", f"/access/users/{ordinary.user}/token/by-hal")
    for user in "root@pam", "root@wirt":
        hal.may_not("PUT", "/access/password", {"userid": user, "password": "another password"}, "below")
        hal.may_not("POST", f"/access/users/{user}/token/by-hal", {"privsep": 0}, "below")
        hal.may_not("DELETE", f"/access/tfa/{user}/x", None, "below")
        hal.may_not("PUT", f"/access/users/{user}", {"enable": 0}, "below")
        hal.may_not("DELETE", f"/access/users/{user}", None, "below")
    node.owner("POST", "/access/groups", {"groupid": "chiefs"})
    node.owner("POST", "/access/groups", {"groupid": "plain_people"})
    node.owner("PUT", "/access/acl", {"path": "/", "groups": "chiefs", "roles": "Administrator"})
    hal.may("PUT", f"/access/users/{hal.user}", {"groups": "plain_people"})
    hal.may_not("PUT", f"/access/users/{hal.user}", {"groups": "chiefs"}, "Permissions.Modify")
    hal.may_not("POST", "/access/users", {"userid": "new@wirt", "groups": "chiefs"}, "Permissions.Modify")
    hal.may_not("GET", "/access/permissions", {"userid": "root@wirt"}, "Sys.Audit")
    hal.may("GET", "/access/permissions", {"userid": f"{hal.user}!t"})
    hal.may_not("PUT", "/access/acl", {"path": "/", "users": hal.user, "roles": "Administrator"})
    for params in {"users": "nobody@wirt"}, {"groups": "nobodies"}, {"tokens": "hal@wirt!none"}, {"users": "hal@wirt", "path": "/vms/"}:
        status, reason, _ = Person(node, "root", tokenid=f"t{len(str(params))}").ask("PUT", "/access/acl", {"path": "/vms", "roles": "NoAccess", **params})
        assert status == 400, (params, status, reason)


def test_names_used_again(node):
    """Who is gone leaves nothing to whoever gets the name later; the members of a group lose what it gave."""
    folder = f"{node.folder}/again"
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    lea = Person(node, "lea", privsep=1)
    token = f"{lea.user}!t"
    made = {"group": ("/access/groups", "/access/groups/brief", {"groupid": "brief"}), "role": ("/access/roles", "/access/roles/Brief", {"roleid": "Brief"}),
            "pool": ("/pools", "/pools/brief", {"poolid": "brief"}), "store": ("/storage", "/storage/brief", {"storage": "brief", "type": "dir", "path": folder}),
            "token": (f"/access/users/{lea.user}/token/t",) * 2 + ({},)}
    for name, (where, _, params) in made.items():
        if name != "token":
            node.owner("POST", where, {**params, **({"privs": "VM.Audit"} if name == "role" else {})})
    node.owner("PUT", f"/access/users/{lea.user}", {"groups": "brief"})
    may = lambda path, who=lea.user: node.owner("GET", f"/access/permissions?userid={who}&path={path}").get(path, {})
    for path, params in (("/vms/101", {"groups": "brief", "roles": "PVEVMUser"}), ("/pool/brief", {"users": lea.user, "roles": "PVEPoolUser"}),
                         ("/storage/brief", {"users": lea.user, "roles": "PVEDatastoreUser"}), ("/vms", {"users": lea.user, "roles": "Brief"}),
                         ("/vms", {"tokens": token, "roles": "PVEAuditor"})):
        node.owner("PUT", "/access/acl", {"path": path, **params})
    assert "VM.PowerMgmt" in may("/vms/101") and "VM.Audit" in may("/vms", token)
    for _, gone, _ in made.values():
        node.owner("DELETE", gone)
    assert not may("/vms/101") and not may("/vms"), may("/vms/101")
    for where, _, params in made.values():
        node.owner("POST", where, params)
    assert node.owner("GET", "/access/groups/brief")["members"] == []
    assert not [row for row in node.owner("GET", "/access/acl") if "brief" in row["path"] or row["roleid"] == "Brief" or row["ugid"] in ("brief", token)]


def test_passwords(node, api):
    jan = Person(node, "jan").log_in()
    jan.may_not("PUT", "/access/password", {"userid": jan.user, "password": "another password"})
    ticket = urllib.parse.unquote(jan.headers["Cookie"].partition("=")[2])
    status, _, _ = jan.ask("PUT", "/access/password", {"userid": jan.user, "password": "another password", "confirmation-password": ticket[:64]})
    assert status in (400, 403), status
    jan.may("PUT", "/access/password", {"userid": jan.user, "password": PASSWORD, "confirmation-password": PASSWORD})
    assert jan.ask("GET", "/version")[0] == 401  # the old ticket
    jan.headers = {}
    jan.log_in()
    other = Person(node, "jan", tokenid="u")
    jan.may("DELETE", "/access/ticket")  # out, everywhere
    assert jan.ask("GET", "/version")[:2] == (401, "permission denied - invalid PVE ticket")
    other.may("GET", "/version")
    # A ticket of somebody who is gone is not one of somebody new with that name.
    jan.headers = {}
    jan.log_in()
    api.access.users(jan.user).delete()
    assert jan.ask("GET", "/version")[0] == 401
    node.owner("POST", "/access/users", {"userid": jan.user, "password": PASSWORD})
    assert jan.ask("GET", "/version")[0] == 401


def test_tokens(node, api):
    """A token sees its own tasks, not those of one whose name begins with its name."""
    longer = Person(node, "kim", ("/vms/100", "PVEVMAdmin"), tokenid="t2")
    upid = longer.may("POST", "/nodes/testnode/qemu/100/config", {"description": "by t2"})
    finish(api, node, upid)
    longer.may("GET", f"/nodes/testnode/tasks/{upid}/status")
    shorter = Person(node, "kim", tokenid="t")
    shorter.may_not("GET", f"/nodes/testnode/tasks/{upid}/status")
    for path in "/nodes/testnode/tasks", "/cluster/tasks":
        assert [row["upid"] for row in longer.may("GET", path)] == [upid]
        assert shorter.may("GET", path) == []
    Person(node, "kim", tokenid="x").log_in().may("GET", f"/nodes/testnode/tasks/{upid}/status")  # the user sees all of them


def test_audit(node):
    node.owner("PUT", "/access/password", {"userid": "ann@wirt", "password": "a secret of ann's"})
    node.owner("PUT", "/nodes/testnode/qemu/100/config", {"cipassword": "a secret of the guest's", "cores": 1, "description": "x" * 5000})
    path = f"{node.state}/audit.log"
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert "a secret of" not in text and PASSWORD not in text
    lines = [json.loads(line) for line in text.splitlines()]
    granted = [line for line in lines if line["act"] == "PUT /access/acl" and line["user"] == "root@pam"]
    assert any(line["params"].get("users") == '["ann@wirt"]' and line["params"]["roles"] == '["PVEDatastoreAdmin"]' for line in granted), granted
    changed = [line for line in lines if line.get("params", {}).get("cipassword")]
    assert changed[-1]["params"]["cipassword"] == "***" and len(changed[-1]["params"]["description"]) == 200, changed[-1]
    refused = [line for line in lines if line["user"] == "hal@wirt!t" and "below" in line["result"]]
    assert refused and all(line["from"] == "127.0.0.1" for line in refused), lines[-20:]
    assert os.stat(path).st_mode & 0o777 == 0o600 and os.stat(node.state).st_mode & 0o007 == 0


def main():
    with Node() as node:
        api = proxmoxer_client(node)
        qemu = api.nodes(node.name).qemu
        for vmid in 100, 101:
            finish(api, node, qemu.create(vmid=vmid, memory=64, virtio0="local:0.01"))
        for test in test_other_datastore, test_backups, test_media, test_restored_media, test_pools, test_administrators, test_names_used_again, test_passwords, test_audit:
            test(node, api) if test.__code__.co_argcount == 2 else test(node)
        test_tokens(node, api)
        test_copies(node, api)


main()
