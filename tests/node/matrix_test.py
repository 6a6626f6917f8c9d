#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The authorization matrix: every endpoint as every kind of caller, generated from the table that wirtd describes.

For each endpoint: nobody, a wrong token, a user without rights, a user with the needed privileges on another path, a user with them on the right
one, and that user's token with separated privileges and none of its own. Who may not is told 401 or 403 and nothing else; who may gets past the
check of permissions, whatever the handler says then.

Then each parameter that needs more than its endpoint: with what the endpoint needs, but each of the parameter's own privileges missing in turn;
and with all of them. A parameter that the table says something of and this test has no value for is an error.
"""
import http.client
import json
import re
import urllib.parse

from wirt_node import PASSWORD, Node, unverified

# What stands for the variables of paths; objects need not exist: permissions are looked at first.
VALUES = {"node": "testnode", "vmid": "100", "newid": "101", "storage": "local", "userid": "other@wirt", "tokenid": "t1", "groupid": "g1",
          "roleid": "r1", "realm": "pam", "poolid": "p1", "snapname": "s1", "upid": "UPID:testnode:00000001:00000001:00000001:x:1:root@pam:",
          "volume*": "iso/x.iso", "id": "x", "sid": "vm:100", "path": "/vms/100"}
# By the type of a parameter, when the table names no better.
PLAIN = {"string": "x1234567", "integer": "100", "number": "1", "boolean": "1", "list": "x", "words": "x"}
SPECIAL = {"idlist": "virtio0", "userid": "other@wirt", "path": "/vms/100", "vmid": "100", "newid": "101", "size": "1G", "disk": "virtio0", "password": "long enough",
           "roles": "NoAccess", "users": "nobody@wirt", "type": None, "file": "/x", "totp": "GEZDGNBV", "value": "000000",
           "unused[256]": "local:100/vm-100-disk-9.raw", "ipconfig[32]": "ip=dhcp", "prune-backups": "keep-last=1"}


DISK = [("/vms/100", "VM.Config.Disk"), ("/storage/local", "Datastore.AllocateSpace")]
BACKUP = [("/storage/local", "Datastore.AllocateSpace"), ("/vms/100", "VM.Backup")]
# What needs a permission by its value: such a value, and what it needs. By the path and the name, or the name.
BY_VALUE = {
    "virtio[16]": ("local:1", DISK), "scsi[31]": ("local:1", DISK), "sata[6]": ("local:1", DISK), "ide[4]": ("local:1", DISK),
    "efidisk0": ("local:1", DISK), "tpmstate0": ("local:1", DISK),
    "net[32]": ("virtio,bridge=vmbr0", [("/vms/100", "VM.Config.Network"), ("/sdn/zones/localnetwork/vmbr0", "SDN.Use")]),
    "cicustom": ("user=local:snippets/x.yaml", [("/vms/100", "VM.Config.Cloudinit"), ("/storage/local", "Datastore.Audit")]),
    "archive": ("local:backup/vzdump-qemu-100-2026_01_01-00_00_00.wirt", BACKUP),
    "start": ("1", [("/vms/100", "VM.PowerMgmt")]),
    "force": ("1", [("/vms/100", "VM.Backup")]),
    "delete": ("name", [("/vms/100", "VM.Config.Options")]),
    "revert": ("name", [("/vms/100", "VM.Config.Options")]),
    "idlist": ("name", [("/vms/100", "VM.Config.Options")]),
    "groups": ("g1", [("/access/groups/g1", "User.Modify")]),
    "vms": ("100", [("/vms/100", "VM.Allocate")]),
    "storage": ("local", [("/storage/local", "Datastore.Allocate")]),
    "/nodes/{node}/startall vms": ("100", [("/vms/100", "VM.PowerMgmt")]),
    "/nodes/{node}/stopall vms": ("100", [("/vms/100", "VM.PowerMgmt")]),
    "/nodes/{node}/suspendall vms": ("100", [("/vms/100", "VM.PowerMgmt")]),
    "/nodes/{node}/vzdump vmid": ("100", [("/vms/100", "VM.Backup"), ("/storage/local", "Datastore.AllocateSpace")]),
    "volume": ("local:backup/vzdump-qemu-100-2026_01_01-00_00_00.wirt", BACKUP),
    "volume*": None,  # its endpoints need a part of that themselves: node-rights
    "allow-move": None,  # what the pool needs that is left: node-rights
}


class Caller:
    def __init__(self, node, authorization=None):
        self.authorization = authorization
        self.connection = http.client.HTTPSConnection("127.0.0.1", node.port, context=unverified(), timeout=30)

    def call(self, method, path, params):
        headers = {"Authorization": self.authorization} if self.authorization else {}
        text, body = urllib.parse.urlencode(params), None
        if method in ("GET", "DELETE"):
            path += "?" + text if text else ""
        else:
            headers["Content-Type"], body = "application/x-www-form-urlencoded", text
        self.connection.request(method, "/api2/json" + path, body=body, headers=headers)
        answer = self.connection.getresponse()
        reason = answer.reason
        assert json.loads(answer.read()).keys() >= {"data"}
        return answer.status, reason


def fill(endpoint):
    """The path with its variables, and every parameter that must be given."""
    path = re.sub(r"\{([^}]+)\}", lambda match: VALUES[match.group(1)], endpoint["path"])
    params = {}
    for param in endpoint["parameters"]:
        name = param["name"]
        if param.get("optional") or f"{{{name}}}" in endpoint["path"] or f"{{{name}*}}" in endpoint["path"]:
            continue
        given = SPECIAL.get(name, VALUES.get(name))
        params[name] = given or (param["enum"].split("|")[0] if "enum" in param else PLAIN[param["type"]])
    return path, params


def always(param):
    """Is it there in every request, given or by its default?"""
    return not param.get("optional") or "default" in param


def plain_value(param):
    name = param["name"]
    if SPECIAL.get(name) or name in VALUES:
        return SPECIAL.get(name) or VALUES[name]
    if "enum" in param:
        return param["enum"].split("|")[0]
    if param["type"] == "integer" and "minimum" in param:
        return str(min(max(100, param["minimum"]), param["maximum"]))
    return PLAIN[param["type"]]


def conjunction(expression):
    """The first alternative that is made of privileges alone, as [(path, privilege)]; None when there is none."""
    for alternative in expression.split(" | "):
        terms = [term for term in alternative.split(" & ") if not term.startswith("below(")]
        if all(" " in term for term in terms):
            expanded = []
            for term in terms:
                path, names = term.split(" ")
                if "{pool}" in path:
                    break
                expanded.append((re.sub(r"\{([^}]+)\}", lambda match: VALUES[match.group(1)], path), names.split("|")[0]))
            else:
                return expanded
    return None


class Matrix:
    def __init__(self, node):
        self.node = node
        self.cells = 0
        self.roles = set()
        for name in "nobody", "elsewhere", "allowed":
            node.owner("POST", "/access/users", {"userid": f"{name}@wirt", "password": PASSWORD})
        self.token = {name: self.make_token(name, 0) for name in ("nobody", "elsewhere", "allowed")}
        self.separated = self.make_token("allowed", 1, "separated")
        self.callers = {name: Caller(node, f"PVEAPIToken={token}") for name, token in self.token.items()}

    def make_token(self, name, privsep, tokenid="t"):
        made = self.node.owner("POST", f"/access/users/{name}@wirt/token/{tokenid}", {"privsep": privsep})
        return f"{made['full-tokenid']}={made['value']}"

    def grant(self, user, path, privilege, delete=0):
        role = "only-" + privilege.replace(".", "-")
        if role not in self.roles:
            self.node.owner("POST", "/access/roles", {"roleid": role, "privs": privilege})
            self.roles.add(role)
        self.node.owner("PUT", "/access/acl", {"path": path, "users": f"{user}@wirt", "roles": role, "propagate": 0, "delete": delete})

    def expect(self, who, caller, endpoint, statuses):
        path, params = fill(endpoint)
        status, reason = caller.call(endpoint["method"], path, params)
        self.cells += 1
        wanted = statuses(status, reason)
        assert wanted, f"{endpoint['method']} {endpoint['path']} as {who}: {status} {reason}"

    def try_endpoint(self, endpoint):
        permission = endpoint["permission"]
        open_to_all = permission == "world"
        denied = (lambda status, reason: status == 401) if not open_to_all else (lambda status, reason: status != 403)
        self.expect("nobody known", Caller(self.node), endpoint, denied)
        self.expect("a wrong token", Caller(self.node, "PVEAPIToken=allowed@wirt!t=00000000-0000-4000-8000-000000000000"), endpoint, denied)
        refused = lambda status, reason: status == 403 and reason.startswith("Permission check failed (")  # noqa: E731
        passed = lambda status, reason: status not in (401, 403) or (open_to_all and status == 401)  # noqa: E731
        if permission in ("world", "user"):
            self.expect("a user", self.callers["nobody"], endpoint, self.past(endpoint, passed))
            return
        self.expect("a user without the right", self.callers["nobody"], endpoint, refused)
        needed = conjunction(permission)
        if not needed:
            return
        for path, privilege in needed:
            self.grant("elsewhere", "/vms/999" if path != "/vms/999" else "/vms/998", privilege)
            self.grant("allowed", path, privilege)
        self.expect("a user with it elsewhere", self.callers["elsewhere"], endpoint, refused)
        self.expect("a token with separated privileges", Caller(self.node, f"PVEAPIToken={self.separated}"), endpoint, refused)
        self.expect("a user with the right", self.callers["allowed"], endpoint, self.past(endpoint, passed))
        for path, privilege in needed:
            self.grant("elsewhere", "/vms/999" if path != "/vms/999" else "/vms/998", privilege, 1)
            self.grant("allowed", path, privilege, 1)

    # ---- Parameters.

    def try_params(self, endpoint):
        """Parameters that need the same are tried together, so that rights are given and taken seldom."""
        base = [] if endpoint["permission"] in ("world", "user") else conjunction(endpoint["permission"])
        if base is None:
            return
        groups = {}
        for param in endpoint["parameters"]:
            name = param["name"]
            if "permission_by_value" in param:
                key = name + "*" if f"{{{name}*}}" in endpoint["path"] else name
                sample = BY_VALUE.get(f"{endpoint['path']} {key}", BY_VALUE.get(key, ""))
                assert sample != "", f"{endpoint['path']}: no value for {name}"
            elif "permission" in param and conjunction(param["permission"]):
                sample = (plain_value(param), conjunction(param["permission"]))
            else:
                continue
            if sample:
                groups.setdefault(tuple(sample[1]), []).append((name, sample[0]))
        for needed, params in groups.items():
            names = [name for name, _ in params]
            for other in endpoint["parameters"]:  # what must be given needs what it needs
                if other["name"] not in names and always(other) and "permission" in other:
                    base = base + (conjunction(other["permission"]) or [])
            self.try_group(endpoint, params, set(base), set(needed))

    def try_group(self, endpoint, params, base, needed):
        for missing in [*sorted(needed - base), None]:
            granted = (base | needed) - {missing}
            for one in granted:
                self.grant("allowed", *one)
            for name, value in params:
                path, given = fill(endpoint)
                if f"{{{name}*}}" in endpoint["path"]:
                    path = path.replace(VALUES["volume*"], value)
                elif f"{{{name}}}" not in endpoint["path"]:
                    given[re.sub(r"\[.*", "0", name)] = value
                status, reason = self.callers["allowed"].call(endpoint["method"], path, given)
                self.cells += 1
                refused = status == 403 and reason.startswith("Permission check failed (allowed@wirt!t, /")
                told = f"{endpoint['method']} {endpoint['path']} {name}={value} without {missing}: {status} {reason}"
                assert refused if missing else status != 401 and not reason.startswith("Permission check failed"), told
            for one in granted:
                self.grant("allowed", *one, 1)

    def try_deletions(self, endpoint):
        """Each key that is deleted needs what setting it needs: without it, nobody gets past."""
        path, _ = fill(endpoint)
        self.grant("allowed", "/vms/100", "VM.Config.Cloudinit")  # enough for the endpoint
        for param in endpoint["parameters"]:
            needed = conjunction(param.get("permission", ""))
            if not needed or needed[0][1] == "VM.Config.Cloudinit":
                continue
            key = re.sub(r"\[.*", "0", param["name"])
            for word in "delete", "revert":
                status, reason = self.callers["allowed"].call("PUT", path, {word: key})
                self.cells += 1
                assert status == 403 and needed[0][1] in reason, f"{word}={key}: {status} {reason}"
        self.grant("allowed", "/vms/100", "VM.Config.Cloudinit", 1)

    @staticmethod
    def past(endpoint, passed):
        """Required parameters may need more than the endpoint; then the refusal must be about that."""
        extra = [param["permission"] for param in endpoint["parameters"] if always(param) and "permission" in param]
        if "also" in endpoint:  # what is stored decides: node-rights
            extra.append("/storage/local Datastore.AllocateSpace")
        if not extra:
            return passed
        return lambda status, reason: passed(status, reason) or any(term.split(" ")[1].split("|")[0] in reason for term in extra)


def main():
    with Node() as node:
        table = node.owner("GET", "/describe")
        assert len(table) > 80, len(table)
        matrix = Matrix(node)
        for endpoint in table:
            if endpoint["path"] != "/access/ticket":  # logging in is tested elsewhere: failures would lock out
                matrix.try_endpoint(endpoint)
                matrix.try_params(endpoint)
            if endpoint["method"] == "PUT" and endpoint["path"].endswith("/{vmid}/config"):
                matrix.try_deletions(endpoint)
        print(f"{len(table)} endpoints, {matrix.cells} cells")


main()
