#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The README's second chapter, as it stands there: installed, a node started, an image built, a VM launched, a command run inside.

The times of each step are printed. Then what needs such a guest: files in and out, a shell's address, backup and restore, uploads, an
image imported, cloud-init's user. It builds Debian out of its packages and boots it: minutes, a soak test.
"""
import json
import os
import re
import subprocess
import tempfile
import time

import wirt_node
from wirt_node import PASSWORD, Node

TOP = os.environ["TOP"]
BUILD = os.environ["BUILD"]


class Path:
    def __init__(self, prefix):
        self.prefix = prefix
        self.begun = time.monotonic()
        self.environment = {**os.environ, "PATH": f"{prefix}/bin:{prefix}/sbin:{os.environ['PATH']}", "HOME": f"{prefix}/home"}
        os.makedirs(f"{prefix}/home")

    def step(self, line, typed=None):
        """A line of the README: its output, and the time it took."""
        begun = time.monotonic()
        done = subprocess.run(["sh", "-c", line], input=typed, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        print(f"{time.monotonic() - begun:7.1f} s  {line}", flush=True)
        assert done.returncode == 0, f"{line}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, line):
        return json.loads(self.step(f"{line} --json"))


def chapter(path, node):
    assert "may log in now" in path.step(f"wirt init --state {node.state} --admin root@wirt --password-stdin", typed=PASSWORD + "\n")
    made = path.step("wirt images build debian-12")
    assert "wirt launch debian-12 NAME" in made, made
    path.step("wirt launch debian-12 web1")
    said = path.step("wirt exec web1 -- uname -a")
    assert re.match(r"Linux web1 \S+-cloud-amd64 .* x86_64 GNU/Linux\n", said), said


def inside(path):
    """With the agent, once it is there."""
    assert path.step("wirt exec web1 -- sh -c 'exit 7' || echo $?") == "7\n"
    assert path.step("echo words | wirt exec web1 --input -- cat") == "words\n"
    path.step("echo 'what goes in' >$HOME/in && wirt cp $HOME/in web1:/root/there && wirt cp web1:/root/there $HOME/out && cmp $HOME/in $HOME/out")
    assert "web1" in path.step("wirt ls status=running")
    assert path.step("wirt exec web1 -- systemctl is-active qemu-guest-agent") == "active\n"


def keeps(path):
    """Backups: of a VM that runs; the file that was in it is there after a restore."""
    path.step("wirt exec web1 -- sync && wirt backup create web1")
    backups = path.json("wirt backup list web1")
    assert len(backups) == 1 and backups[0]["size"] > 1 << 20, backups
    path.step("wirt stop web1")
    path.step(f"wirt backup restore {backups[0]['volid']} --id 300")
    path.step("wirt set 300 name=again && wirt start again")
    assert path.step("wirt exec again -- cat /root/there") == "what goes in\n"
    path.step("wirt stop again && wirt rm again --yes")
    path.step(f"wirt storage rm {backups[0]['volid']} --yes")
    path.step("echo '#cloud-config' >$HOME/web.yaml && wirt storage upload $HOME/web.yaml")
    assert "local:snippets/web.yaml" in [row["volid"] for row in path.json("wirt storage content")]
    path.step("wirt storage rm local:snippets/web.yaml --yes")


def imports(path):
    path.step("wirt disk create $HOME/small.vmdk 64M && wirt images import $HOME/small.vmdk small")
    assert {"debian-12", "small"} == {row["name"] for row in path.json("wirt images list")}
    path.step("wirt restart web1 2>/dev/null || wirt start web1")
    assert path.step("wirt exec web1 -- hostname") == "web1\n"
    path.step("wirt stop web1 && wirt rm web1 --yes")


def main():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        begun = time.monotonic()
        subprocess.run(["make", "-C", TOP, "install", f"BUILD={BUILD}", f"DESTDIR={folder}"], check=True, stdout=subprocess.DEVNULL)
        print(f"{time.monotonic() - begun:7.1f} s  make install", flush=True)
        path = Path(f"{folder}/usr/local")
        os.environ["WIRTD"] = f"{path.prefix}/sbin/wirtd"
        with Node() as node:
            path.environment["WIRT_SOCKET"] = f"{node.state}/wirtd.sock"
            try:
                for part in chapter, lambda path, _: inside(path), lambda path, _: keeps(path), lambda path, _: imports(path):
                    part(path, node)
            except BaseException:
                print(node.text())
                raise


assert wirt_node.ACCEL
main()
