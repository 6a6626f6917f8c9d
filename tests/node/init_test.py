#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The first administrator: `wirt init` before wirtd's first start, while it runs, with questions on a terminal; the one-time token of the log. And who may use
the Unix socket."""
import http.client
import json
import os
import pty
import re
import select
import ssl
import stat
import subprocess
import sys
import tempfile
import urllib.parse

from wirt_node import Node

WIRT = os.environ["WIRT"]


def init(node, *words, password=None, good=True):
    done = subprocess.run([WIRT, "init", "--state", node.state, *words], input=password, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=60, check=False)
    assert (done.returncode == 0) == good, done.stdout
    return done.stdout.decode()


def post(node, path, **params):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", node.port, context=context, timeout=30)
    connection.request("POST", f"/api2/json{path}", urllib.parse.urlencode(params), {"Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def may_log_in(node, user, password):
    return post(node, "/access/ticket", username=user, password=password) == 200


def ask_on_terminal(node, answers):
    """Runs `wirt init` on a terminal and answers each question; what it showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(WIRT, [WIRT, "init", "--state", node.state, "--admin", "root@wirt"])
    shown = b""
    for question, answer in answers:
        while question not in shown:
            assert select.select([terminal], [], [], 60)[0], shown
            shown += os.read(terminal, 1024)
        shown = shown.rpartition(question)[2]
        os.write(terminal, answer + b"\r")
    while True:
        try:
            part = os.read(terminal, 1024)
        except OSError:  # closed
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    return shown


def test_before_first_start(node):
    init(node, "--admin", "root@wirt", "--password-stdin", password=b"before the start\n")
    node.start()
    assert may_log_in(node, "root@wirt", "before the start")
    assert "there is no administrator" not in node.text()


def test_while_it_runs(node):
    init(node, "--admin", "root@pve", "--password-stdin", password=b"two newlines\n\n")
    assert may_log_in(node, "root@wirt", "two newlines\n") and not may_log_in(node, "root@wirt", "two newlines")
    assert not may_log_in(node, "root@wirt", "before the start")
    assert "8 characters" in init(node, "--admin", "root@wirt", "--password-stdin", password=b"short\n", good=False)
    assert "realm wirt" in init(node, "--admin", "root@pam", "--password-stdin", password=b"long enough\n", good=False)


def test_questions(node):
    shown = ask_on_terminal(node, [(b"assword", b"typed on a terminal"), (b"Once more", b"typed on a terminal")])
    assert b"typed" not in shown, "the password was shown"
    assert may_log_in(node, "root@wirt", "typed on a terminal")


def test_socket(node):
    path = f"{node.state}/wirtd.sock"
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0, oct(os.stat(path).st_mode)
    assert node.owner("GET", "/version")["release"]
    if os.geteuid() != 0:
        return
    # Its folder is open to let others through, as a test's own; the socket itself refuses them.
    os.chmod(node.state, 0o755)
    other = [sys.executable, "-c", f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"]
    refused = subprocess.run(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", *other], stderr=subprocess.PIPE, text=True, check=False)
    assert "PermissionError" in refused.stderr, refused.stderr


def test_token():
    node = Node()
    try:
        node.start()
        (token,) = re.findall(r"one-time token ([0-9a-f-]{36})", node.text())
        assert post(node, "/access/setup", onetime="0" * 36, userid="root@wirt", password="by the token") == 400
        assert post(node, "/access/setup", onetime=token, userid="root@pam", password="by the token") == 400
        assert post(node, "/access/setup", onetime=token, userid="root@wirt", password="by the token") == 200
        assert may_log_in(node, "root@wirt", "by the token")
        assert post(node, "/access/setup", onetime=token, userid="eve@wirt", password="by the token") == 400, "it was good twice"
        node.kill()
        node.start()
        assert node.text().count("one-time token") == 1, "another token, though there is an administrator"
        with open(f"{node.state}/audit.log", encoding="utf-8") as file:
            assert all(json.loads(line) for line in file)
    finally:
        node.__exit__()


def test_closed_folder():
    """What root can reach and wirtd without root cannot is told with what to do."""
    if os.geteuid() != 0:
        return
    with tempfile.TemporaryDirectory() as folder:  # closed to others
        done = subprocess.run([os.environ["WIRTD"], "--state", f"{folder}/state", "--listen", "127.0.0.1:8006"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        assert done.returncode and f"{folder}/state cannot be reached" in done.stdout and "chmod o+x" in done.stdout, done.stdout


def main():
    test_closed_folder()
    node = Node()
    try:
        test_before_first_start(node)
        test_while_it_runs(node)
        test_questions(node)
        test_socket(node)
    finally:
        node.__exit__()
    test_token()


main()
