#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The realm pam: users of the machine log in with the machine's passwords, which root's helper checks by PAM. wirtd has users, passwords and a PAM service of its
own here, in a mount namespace; the service is first the one of the Debian package."""
import os
import subprocess
import time

import as_root
from proxmoxer.backends.https import AuthenticationError
from wirt_node import Node, proxmoxer_client, refused, skip

RIGHT = {"root": "the root's words", "ann": "the words of ann", "past": "words that expired", "shut": "words behind a lock", "bare": ""}
QUICK = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n"  # wrong passwords cost no seconds
FAILURES = 8  # of a name, then it is locked out


def hashed(password):
    return subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=password, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def write(path, text, mode=0o644):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def write_users(folder):
    today = int(time.time()) // 86400
    words = {name: hashed(password) if password else "" for name, password in RIGHT.items()}
    words["shut"] = "!" + words["shut"]
    shadow = {name: f"{name}:{words[name]}:{today - 9}:0:99999:7::{today - 2 if name == 'past' else ''}:\n" for name in RIGHT}
    with open("/etc/passwd", encoding="utf-8") as file:
        others = [line for line in file if line.split(":")[0] not in RIGHT]
    mine = [f"{name}:x:{0 if name == 'root' else 64000 + number}:{0 if name == 'root' else 64000}::/:/bin/sh\n" for number, name in enumerate(RIGHT)]
    write(f"{folder}/passwd", "".join(mine + others))
    write(f"{folder}/shadow", "".join(shadow.values()), 0o600)


def log_in(node, user, password):
    try:
        return proxmoxer_client(node, user=user, password=password)
    except AuthenticationError:
        return None


def test_package(node):
    """With the service file of the package, root@pam is the administrator that it is in Proxmox VE."""
    api = log_in(node, "root@pam", RIGHT["root"])
    assert api, node.text()
    assert log_in(node, "root", RIGHT["root"]), "a name without a realm"
    assert {row["realm"] for row in api.access.domains.get()} >= {"pam", "pve"}
    for name in "ann", "past", "shut", "bare":
        api.access.users.post(userid=f"{name}@pam", enable=1)
    api.access.acl.put(path="/nodes", users="ann@pam", roles="PVEAuditor")
    assert log_in(node, "root@pam", RIGHT["ann"]) is None


def test_users(node):
    ann = log_in(node, "ann@pam", RIGHT["ann"])
    assert ann.nodes(node.name).status.get()["uptime"] >= 0
    refused(lambda: ann.access.users.post(userid="more@pam"), "403")
    for name in "past", "shut", "bare":
        assert log_in(node, f"{name}@pam", RIGHT[name] or "anything") is None, name
    assert log_in(node, "daemon@pam", "x") is None  # of the machine, not of ours
    assert log_in(node, "ann@pve", RIGHT["ann"]) is None  # another realm's
    assert log_in(node, "root@pam", "x" * 1025) is None


def test_limits(node):
    for _ in range(FAILURES):
        assert log_in(node, "ann@pam", "wrong words") is None
    assert log_in(node, "ann@pam", RIGHT["ann"]) is None
    assert log_in(node, "root@pam", RIGHT["root"]), "who is not ann is heard"


def main():
    if os.geteuid() != 0:
        as_root.again()
        skip("PAM tells passwords to root, and sudo asks for one")
    node = Node(before=("unshare", "--mount", "--propagation", "private", "sh", "-c",
                        'for name in passwd shadow; do mount --bind "$0/$name" "/etc/$name"; done; mkdir "$0/pam.d"; cp /etc/pam.d/* "$0/pam.d";'
                        ' cp "$0/wirt" "$0/pam.d/wirt"; mount --bind "$0/pam.d" /etc/pam.d; exec "$@"'))
    node.before += (node.folder,)
    write_users(node.folder)
    with open(f"{os.environ['TOP']}/dist/debian/wirt.pam", encoding="utf-8") as file:
        write(f"{node.folder}/wirt", file.read())
    with node:
        test_package(node)
        write(f"{node.folder}/pam.d/wirt", QUICK)
        test_users(node)
        test_limits(node)


main()
