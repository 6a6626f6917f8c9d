#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The authorization matrix: every endpoint as every kind of caller, generated from the table that wirtd describes.

For each endpoint: nobody, a wrong token, a user without rights, a user with the needed privileges on another path, a user with them on the right
one, and that user's token with separated privileges and none of its own. Who may not is told 401 or 403 and nothing else; who may gets past the
check of permissions, whatever the handler says then.
"""
import http.client
import json
import re
import ssl
import urllib.parse

from wirt_node import PASSWORD, Node

# What stands for the variables of paths; objects need not exist: permissions are looked at first.
VALUES = {"node": "testnode", "vmid": "100", "newid": "101", "storage": "local", "userid": "other@wirt", "tokenid": "t1", "groupid": "g1",
          "roleid": "r1", "realm": "pam", "poolid": "p1", "snapname": "s1", "upid": "UPID:testnode:00000001:00000001:00000001:x:1:root@pam:",
          "volume*": "iso/x.iso", "id": "x", "path": "/vms/100"}
# By the type of a parameter, when the table names no better.
PLAIN = {"string": "x1234567", "integer": "100", "number": "1", "boolean": "1", "list": "x", "words": "x"}
SPECIAL = {"userid": "other@wirt", "path": "/vms/100", "vmid": "100", "newid": "101", "size": "1G", "disk": "virtio0", "password": "long enough",
           "roles": "NoAccess", "users": "nobody@wirt", "type": None, "file": "/x", "totp": "GEZDGNBV", "value": "000000"}


class Caller:
    def __init__(self, node, authorization=None):
        self.node, self.authorization = node, authorization

    def call(self, method, path, params):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", self.node.port, context=context, timeout=30)
        headers = {"Authorization": self.authorization} if self.authorization else {}
        text, body = urllib.parse.urlencode(params), None
        if method in ("GET", "DELETE"):
            path += "?" + text if text else ""
        else:
            headers["Content-Type"], body = "application/x-www-form-urlencoded", text
        connection.request(method, "/api2/json" + path, body=body, headers=headers)
        answer = connection.getresponse()
        reason = answer.reason
        assert json.loads(answer.read()).keys() >= {"data"}
        connection.close()
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


def conjunction(expression):
    """The first alternative that is made of privileges alone, as [(path, privilege)]; None when there is none."""
    for alternative in expression.split(" | "):
        terms = alternative.split(" & ")
        if all(" " in term for term in terms):
            expanded = []
            for term in terms:
                path, names = term.split(" ")
                expanded.append((re.sub(r"\{([^}]+)\}", lambda match: VALUES[match.group(1)], path), names.split("|")[0]))
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
            self.expect("a user", self.callers["nobody"], endpoint, passed)
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

    @staticmethod
    def past(endpoint, passed):
        """Required parameters may need more than the endpoint; then the refusal must be about that."""
        extra = [param["permission"] for param in endpoint["parameters"] if not param.get("optional") and "permission" in param]
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
        print(f"{len(table)} endpoints, {matrix.cells} cells")


main()
