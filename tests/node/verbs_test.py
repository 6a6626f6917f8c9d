#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every verb of the command line that talks to a node, against a wirtd, as a person and as a script use it."""
import http.server
import json
import os
import pty
import re
import select
import signal
import socket
import socketserver
import subprocess
import tempfile
import termios
import threading
import time

from wirt_node import PASSWORD, Node, busybox_args, own_network

WIRT = os.environ["WIRT"]
PATIENCE_SECONDS = 120


class Person:
    """Somebody who types commands: with a home of one's own, and a node that is meant where none is named."""

    def __init__(self, node, home):
        self.node = node
        self.used = set()
        self.environment = {**os.environ, "HOME": home, "XDG_CONFIG_HOME": f"{home}/.config", "WIRT_SOCKET": f"{node.state}/wirtd.sock",
                            "PATH": f"{os.path.dirname(WIRT)}:{os.environ['PATH']}", "TERM": "xterm"}

    def words(self, line):
        words = line if isinstance(line, list) else line.split()
        self.used.add(" ".join(words[:2]))
        self.used.add(words[0])
        return [WIRT, *words]

    def run(self, line, typed="", status=0, **environment):
        done = subprocess.run(self.words(line), input=typed, env={**self.environment, **environment}, timeout=PATIENCE_SECONDS, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        assert done.returncode == status, f"wirt {line}: status {done.returncode}\n{done.stdout}{done.stderr}\n{self.node.text()}"
        return done.stdout

    def json(self, line):
        words = line if isinstance(line, list) else line.split()
        return json.loads(self.run([*words, "--json"]))

    def refused(self, line, *words, typed="", **environment):
        """What it says on standard error has these words; nothing goes to standard output."""
        done = subprocess.run(self.words(line), input=typed, env={**self.environment, **environment}, timeout=PATIENCE_SECONDS, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        assert done.returncode != 0 and all(word in done.stderr for word in words), f"wirt {line}: {done.stdout}{done.stderr} lacks {words}"
        assert done.stdout == "", done.stdout


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, person, line, columns=80, editor="false"):
        self.leader, follower = pty.openpty()
        termios.tcsetwinsize(follower, (24, columns))
        words = ["bash", "--norc", "-i"] if line == "bash" else person.words(line)
        self.process = subprocess.Popen(words, stdin=follower, stdout=follower, stderr=follower, env={**person.environment, "EDITOR": editor},
                                        start_new_session=True, preexec_fn=lambda: os.close(self.leader))
        os.close(follower)
        self.text = ""

    def type(self, text):
        os.write(self.leader, text.encode())

    def waits_for(self, pattern):
        """What came until the pattern, which is taken away with it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := re.search(pattern, self.text)):
            assert select.select([self.leader], [], [], max(0, deadline - time.monotonic()))[0], f"no {pattern} in {self.text[-2000:]}"
            try:
                self.text += os.read(self.leader, 65536).decode(errors="replace")
            except OSError as error:
                raise AssertionError(f"it ended without {pattern}: {self.text[-2000:]}") from error
        before, self.text = self.text[:found.end()], self.text[found.end():]
        return before

    def ends(self, status=0):
        try:
            while data := os.read(self.leader, 65536):
                self.text += data.decode(errors="replace")
        except OSError:  # as a terminal tells that nobody has the other end any more
            pass
        os.close(self.leader)
        assert self.process.wait(PATIENCE_SECONDS) == status, self.text
        return self.text


def verbs(person):
    """All verbs, as the help lists them: those of a node stand in its second part."""
    listed = re.findall(r"^  wirt ([a-z]+(?: [a-z]+)?)  ", person.run("help").partition("A node (wirtd)")[2], re.M)
    assert len(listed) >= 50, listed
    return listed


def test_help(person, listed):
    for verb in listed:
        text = person.run([*verb.split(), "--help"])
        assert text.startswith(f"Usage: wirt {verb}"), text
        assert f"\nExample: wirt {verb}" in text, text
        assert person.run(["help", *verb.split()]) == text, verb
    person.refused("frobnicate", "there is no command", "wirt help")
    person.refused("strat web1", 'did you mean "start"')
    person.refused("user lst", '"user lst"', "wirt user list")
    person.refused("ls --colour", "colour")
    person.refused("show", "wirt show VM", "wirt show web1")


def test_manual(person, listed):
    """The manual page has every verb and option that the help has."""
    with open(f"{os.environ['TOP']}/doc/man/wirt-remote.1", encoding="utf-8") as file:
        page = file.read()
    parts = {" ".join(re.findall(r"Cm (\S+)", head)): body for head, body in re.findall(r"^\.It Nm wirt ((?:Cm \S+ ?)+).*\n((?:(?!\.It Nm).*\n)*)", page, re.M)}
    common = {"host", "context", "json"}
    assert all(f".Fl -{option}" in page or f"Fl -{option} " in page for option in common)
    for verb in listed:
        told = set(re.findall(r"^  --(\S+)", person.run([*verb.split(), "--help"]), re.M)) - common
        assert verb in parts and told == set(re.findall(r"^\.It Fl -(\S+)", parts[verb], re.M)), f"{verb}: {told}, in the manual: {parts.get(verb)}"


# What these begin does not end, asks, takes minutes, or makes a folder; the others' examples are pasted.
NOT_PASTED = {"events", "images build", "storage add", "context add", "user add", "user password"}


def test_examples(person, listed):
    """Each example of the help is taken as it stands: it fails for lack of the things that it names, not for its words."""
    for verb in listed:
        example = re.search(r"^Example: (.*)$", person.run([*verb.split(), "--help"]), re.M).group(1)
        if verb in NOT_PASTED:
            continue
        done = subprocess.run(["bash", "-c", f"mkdir -p ~/.local/share/bash-completion/completions; cd; {example}"], env=person.environment, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE_SECONDS, check=False)
        assert done.returncode != 2 or re.search("nobody can be asked|does not exist", done.stderr), f"{example}: {done.stderr}"


def test_init(person):
    """On an empty state directory before wirtd first starts; the trailing newline is no part of the password."""
    with tempfile.TemporaryDirectory() as state:
        assert person.run(f"init --state {state}/new --admin root@wirt --password-stdin", typed="a first password\n") == "root@wirt may log in now\n"
        person.refused(f"init --state {state}/new --password-stdin", "less than 8", typed="short\n")
        person.refused(f"init --state {state}/new", "--password-stdin")
    # While it runs, too.
    person.run(f"init --state {person.node.state} --admin root@wirt --password-stdin", typed=PASSWORD + "\n")


def test_lists(person, api):
    assert person.run("ls") == "no VMs yet: `wirt launch TEMPLATE NAME` makes one\n"
    assert person.json("ls") == []
    for vmid, name, tags in (101, "web1", "front"), (102, "web2", "front"), (103, "db1", "back"):
        api(f"/nodes/testnode/qemu", {"vmid": vmid, "name": name, "memory": 128, "virtio0": "local:0.125", "net0": "virtio,bridge=vmbr0",
                                      "serial0": "socket", "tags": tags, "args": busybox_args()})
    assert [row["vmid"] for row in person.json("ls")] == [101, 102, 103]
    table = person.run("ls").splitlines()
    assert table[0].split()[:3] == ["ID", "NAME", "STATE"] and table[1].split() == ["101", "web1", "stopped", "testnode", "1", "-", "-", "128M", "-", "front"], table
    assert "\033" not in "".join(table)  # colours are for terminals
    for words, found in ("web", [101, 102]), ("tags=front web2", [102]), ("103", [103]), ("status=running", []), ("back status=stopped", [103]):
        assert [row["vmid"] for row in person.json(f"ls {words}")] == found, words
    assert person.run("ls nobody") == "no VM matches\n"
    wide, narrow = Terminal(person, "ls", 200).ends(), Terminal(person, "ls", 44).ends()
    assert "\033[2mstopped\033[0m" in wide
    lines = [re.sub(r"\033\[\d*m", "", line) for line in narrow.splitlines()]
    assert "web1" in narrow and max(map(len, lines)) <= 44, lines
    assert "web1 (101) on testnode: stopped" in person.run("show web1")
    assert person.json("show 101")["config"]["name"] == "web1"
    person.refused("show nobody", 'there is no VM "nobody"', "wirt ls")
    assert "web1" in person.run("top")
    assert person.json("net list") and "local" in person.run("storage list")


def test_networks(person):
    """A card comes and goes, by its VM's name and number; its address is shown once the network has given it one."""
    assert {(row["name"], row["card"]) for row in person.json("net cards")} == {("web1", "net0"), ("web2", "net0"), ("db1", "net0")}
    person.run("net attach web1 --mac 02:00:00:00:00:07 --unplugged")
    assert person.json("show web1")["config"]["net1"] == "virtio=02:00:00:00:00:07,bridge=vmbr0,link_down=1"
    person.run("net attach 101 --bridge nowhere --model e1000")
    cards = person.json("net cards 101")
    assert [(row["card"], row["bridge"]) for row in cards] == [("net0", "vmbr0"), ("net1", "vmbr0"), ("net2", "nowhere")], cards
    assert cards[1]["mac"] == "02:00:00:00:00:07" and "address" not in cards[2], cards
    person.refused("net detach web1 net7", "net7", "net0, net1, net2")
    person.refused("net detach web1 memory", "no card")
    person.refused("net attach web1 --mac nonsense", "net3", "MAC")
    person.run("net detach web1 net1")
    person.run("net detach 101 net2")
    assert [row["card"] for row in person.json("net cards web1")] == ["net0"]


def test_datastores(person):
    folder = f"{person.node.folder}/big"
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    person.run(["storage", "add", "big", folder, "--content", "images,backup", "--comment", "the big one"])
    assert person.json("storage show big") == {"type": "dir", "path": folder, "content": "images,backup", "comment": "the big one", "storage": "big"}
    person.run("storage set big content=iso prune-backups=keep-last=3 --delete comment")
    store = person.json("storage show big")
    assert store["content"] == "iso" and store["prune-backups"] == "keep-last=3" and "comment" not in store, store
    assert folder in person.run("storage show big")
    assert {row["storage"] for row in person.json("storage list")} == {"local", "big"}
    person.refused(["storage", "add", "big", folder], "big", "already")
    person.refused("storage set big", "KEY=VALUE")
    person.refused("storage set big colour=red", "colour")
    person.refused("storage rm big", "Its files stay", "--yes")
    person.run("storage rm big --yes")
    assert {row["storage"] for row in person.json("storage list")} == {"local"}


def test_groups(person):
    """Groups, roles and pools, and what comes of them for a user."""
    person.run(["user", "add", "bob@wirt", "--password-stdin"], typed=PASSWORD + "\n")
    person.run(["group", "add", "night", "--comment", "when others sleep"])
    person.run("group join night bob@wirt")
    assert {"groupid": "night", "users": "bob@wirt", "comment": "when others sleep"} in person.json("group list")
    person.run("role add Watcher VM.Audit VM.PowerMgmt")
    person.run("role set Watcher VM.Console --append")
    assert {"roleid": "Watcher", "privs": "VM.Audit,VM.Console,VM.PowerMgmt"} in [{k: row[k] for k in ("roleid", "privs")} for row in person.json("role list")]
    person.run("acl add /vms/web1 Watcher --group night")
    assert person.json("user rights bob@wirt") == [{"path": "/vms/101", "privileges": "VM.Audit,VM.Console,VM.PowerMgmt"}]
    person.refused("role set Watcher VM.Fly", "VM.Fly")
    person.refused("role add Watcher VM.Audit", "Watcher", "exists")
    person.run("pool add fleet")
    person.run("pool join fleet web1 102 --storage local")
    assert [row["id"] for row in person.json("pool show fleet")] == ["qemu/101", "qemu/102", "storage/testnode/local"]
    assert [row["name"] for row in person.json("ls fleet")] == ["web1", "web2"]
    person.refused("pool rm fleet", "fleet", "not empty")
    person.refused("pool join fleet", "--storage")
    person.run("pool leave fleet web1 web2 --storage local")
    assert "fleet" in [row["poolid"] for row in person.json("pool list")]
    person.run("pool rm fleet")
    person.run("group leave night bob@wirt")
    person.refused("group leave night bob@wirt", "not in the group", "wirt group list")
    assert person.json("user rights bob@wirt") == []
    person.refused("group rm night", "--yes")
    person.run("group rm night --yes")
    person.run("role rm Watcher --yes")
    assert not [row for row in person.json("acl list") if row["path"] == "/vms/101"]
    person.run(["user", "set", "bob@wirt", "enable=0", "comment=on holiday"])
    assert [(row["enable"], row["comment"]) for row in person.json("user list") if row["userid"] == "bob@wirt"] == [(0, "on holiday")]
    person.refused("user set bob@wirt colour=red", "colour")
    assert person.json("factor list bob@wirt") == []
    person.refused("factor rm bob@wirt none --yes", "none", "does not exist")
    person.run("user rm bob@wirt --yes")


def console_of(person, name):
    terminal = Terminal(person, f"console {name}")
    terminal.waits_for(r"Connected to \w+\. Ctrl-\] ends the connection, not the VM\.")
    terminal.type("\n")
    terminal.waits_for("/ # ")
    return terminal


def test_running(person):
    events = subprocess.Popen(person.words("events"), env=person.environment, stdout=subprocess.PIPE, text=True)
    person.run("start web1 102")
    assert [row["vmid"] for row in person.json("ls status=running")] == [101, 102]
    terminal = console_of(person, "web1")
    terminal.type("echo answer=$((6*7))\n")
    terminal.waits_for("answer=42")
    terminal.type("\x1d")
    terminal.ends()
    person.run("pause web1")
    assert person.json("show web1")["status"]["qmpstatus"] == "paused"
    assert [row["vmid"] for row in person.json("ls status=paused")] == [101] and [row["vmid"] for row in person.json("ls status=running")] == [102]
    assert "paused" in person.run("show web1").partition("\n")[0]
    person.run("resume web1")
    assert person.json("show web1")["status"]["qmpstatus"] == "running"
    before = person.json("show web1")["config"]
    person.run("set web1 memory=288 cores=2")
    assert person.json("show web1")["config"]["memory"] == 288
    person.run("set web1 --revert memory,cores")  # neither has begun to hold
    assert person.json("show web1")["config"] == before
    # The busybox guest does not hear the button: somebody has to press it inside.
    restart = subprocess.Popen(person.words("restart web1"), env=person.environment, stderr=subprocess.PIPE, text=True)
    pid = person.json("show web1")["status"]["pid"]
    terminal = console_of(person, "web1")
    terminal.type("poweroff -f\n")
    terminal.waits_for("Power down")
    terminal.type("\x1d")
    assert restart.wait(PATIENCE_SECONDS) == 0 and "restart web1: done" in restart.stderr.read()
    assert person.json("show web1")["status"]["pid"] != pid
    person.refused("stop web1 --timeout 1", "--force pulls the plug")
    person.run("stop web1 web2 --force")
    assert person.json("ls status=running") == []
    person.refused("console web1", "VM 101 is not running")
    for line in events.stdout:
        if "qmstop 102" in line and "OK" in line:
            break
    events.terminate()
    events.wait()
    person.refused("console web1", "`wirt start VM` starts it")
    started = person.json("start web1")  # for programs: what was done, by which task
    assert [row["done"] for row in started] == ["start web1"] and started[0]["task"].startswith("UPID:"), started
    assert "qmstart" in started[0]["task"] and person.json("stop web1 --force")[0]["done"] == "stop web1"


def test_configuration(person):
    person.run("set web1 memory=192 description=first")
    assert person.json("show web1")["config"]["memory"] == 192
    person.run("set 101 --delete description")
    assert "description" not in person.json("show web1")["config"]
    assert person.json("ls tags=edge") == []
    person.run("set web1 tags=edge")
    assert [row["vmid"] for row in person.json("ls tags=edge")] == [101]
    person.run("set web1 tags=front")
    person.refused("set web1 memory=much", "memory")
    person.refused("set web1 memory", "KEY=VALUE")
    # The editor is what the user says; here one that changes a line.
    person.run("edit web1", EDITOR="sed -i s/^memory:.*/memory:\\ 160/")
    assert person.json("show web1")["config"]["memory"] == 160
    # What is refused stays, to be mended and handed in again.
    refused = subprocess.run(person.words("edit web1"), env={**person.environment, "EDITOR": "sed -i s/^memory:.*/memory:\\ lots/"}, text=True,
                             stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    kept = re.search(r"wirt edit web1 --file (/tmp/wirt-edit-\w+\.conf)$", refused.stderr.strip())
    assert refused.returncode != 0 and "memory" in refused.stderr and kept, refused.stderr
    with open(kept.group(1), encoding="utf-8") as file:
        text = file.read()
    assert "memory: lots\n" in text and "name: web1\n" in text, text
    with open(kept.group(1), "w", encoding="utf-8") as file:
        file.write(text.replace("lots", "160").replace("name: web1\n", ""))
    person.run(["edit", "web1", "--file", kept.group(1)])
    assert "name" not in person.json("show 101")["config"]
    person.run("set 101 name=web1")
    os.unlink(kept.group(1))
    terminal = Terminal(person, "edit web1", editor="sed -i s/^memory:.*/memory:\\ plenty/")
    terminal.waits_for(r"Edit it again\? \[Y/n\] ")
    terminal.type("n\n")
    os.unlink(re.search(r"--file (\S+\.conf)", terminal.ends(status=2)).group(1))
    person.refused("edit web1", "nothing is changed", EDITOR="false")
    assert person.json("show web1")["config"]["memory"] == 160


def test_disks(person):
    person.run("disk attach web1 1G")
    assert person.json("show web1")["config"]["virtio1"].endswith("size=1G")
    person.run("disk grow web1 virtio1 +1G")
    assert person.json("show web1")["config"]["virtio1"].endswith("size=2G")
    volumes = person.json("storage content --content images")
    assert len([row for row in volumes if row["vmid"] == 101]) == 2, volumes
    person.run("disk detach web1 virtio1")
    volume = person.json("show web1")["config"]["unused0"]
    person.run(f"disk attach web1 --volume {volume}")
    assert person.json("show web1")["config"]["virtio1"].startswith(volume)
    person.refused(f"storage rm {volume} --yes", "use")
    person.refused("disk detach web1 virtio1 --destroy", "--yes")
    person.run("disk detach web1 virtio1 --destroy --yes")
    assert len([row for row in person.json("storage content") if row["vmid"] == 101]) == 1
    person.refused("disk attach web1", "20G")
    person.refused("storage rm nothing", "STORAGE:NAME")


def test_snapshots(person):
    person.run(["snapshot", "create", "web1", "clean", "--notes", "before all"])
    assert [row["name"] for row in person.json("snapshot list web1")] == ["clean"]
    person.run("set web1 memory=256")
    person.refused("restore web1 clean", "--yes")
    person.run("restore web1 clean --yes")
    assert person.json("show web1")["config"]["memory"] == 160
    person.refused("restore web1 other --yes", "other")
    person.run("snapshot rm web1 clean --yes")
    assert person.json("snapshot list web1") == []


def test_copies(person):
    assert person.json("clone web1 copy --full --id 201") == {"vmid": 201, "name": "copy"}
    person.run("template web1 --yes")
    assert [row["name"] for row in person.json("images list")] == ["web1"]
    with tempfile.NamedTemporaryFile("w", suffix=".pub") as key:
        key.write("ssh-ed25519 AAAA anna@example\n")
        key.flush()
        person.run(["launch", "web1", "app1", "--memory", "192M", "--cores", "2", "--user", "anna", "--ssh-key", key.name, "--disk", "1G", "--id", "202"])
    show = person.json("show app1")
    assert show["status"]["status"] == "running" and show["config"]["memory"] == 192 and show["config"]["ciuser"] == "anna", show
    assert "ssh-ed25519%20AAAA" in show["config"]["sshkeys"] and show["config"]["virtio0"].endswith("size=1G"), show
    person.refused("launch copy other", "no template", "wirt clone")
    person.refused("rm app1 --yes", "running")
    person.refused("rm app1", "--yes")
    person.run("rm app1 --force --yes")
    person.refused("show app1", "there is no VM")


def test_files(person):
    """A file to a datastore, a VM to one and back, an image to a template."""
    with tempfile.TemporaryDirectory() as folder:
        for name in "tools.iso", "disk.raw":
            with open(f"{folder}/{name}", "wb") as file:
                file.write(b"\7" * (1 << 20))
        person.run(["storage", "upload", f"{folder}/tools.iso"])
        assert [row["volid"] for row in person.json("storage content --content iso")] == ["local:iso/tools.iso"]
        person.run("storage rm local:iso/tools.iso --yes")
        assert "wirt launch small NAME" in person.run(["images", "import", f"{folder}/disk.raw", "small"])
        person.refused(["images", "import", f"{folder}/disk", "small"], "suffix")
    assert person.json("storage content --content import") == []
    assert {row["name"] for row in person.json("images list")} >= {"small"}
    person.run("backup create web2")
    volume = person.json("backup list 102")[0]["volid"]
    assert volume in person.run("backup list")
    person.run("set web2 memory=144")
    person.run(["backup", "restore", volume, "--id", "web2", "--force", "--yes"])
    assert person.json("show web2")["config"]["memory"] == 128
    person.run(["backup", "restore", volume, "--id", "140"])
    assert len(person.json("ls web2")) == 2
    person.refused("show web2", "2 VMs are called", "wirt ls web2")
    person.run("rm small 140 --yes")
    person.run(["storage", "rm", volume, "--yes"])


def test_widths(person, listed):
    """Every list fits a terminal of 80 columns, and says the same and more on a wide one."""
    for verb in [verb for verb in listed if verb == "ls" or verb.endswith((" list", " content", " cards"))]:
        words = f"{verb} anna@wirt" if verb in ("token list", "factor list") else f"{verb} web1" if verb == "snapshot list" else verb
        narrow = re.sub(r"\033\[\d*m", "", Terminal(person, words).ends()).splitlines()
        wide = re.sub(r"\033\[\d*m", "", Terminal(person, words, 250).ends()).splitlines()
        assert narrow and max(map(len, narrow)) <= 80, (verb, narrow)
        assert len(narrow) == len(wide) and wide[0].split()[0] == narrow[0].split()[0], (narrow, wide)


def test_inside(person):
    """Without an agent in the guest each says so; what the words must be is told before."""
    person.run("start db1")
    person.refused("exec db1 -- uname -a", "QEMU guest agent is not running")
    person.refused("exec db1", "wirt exec VM -- uname -a")
    person.refused("cp /etc/hostname db1:/tmp/x", "QEMU guest agent is not running")
    person.refused("cp db1:/etc/hostname /tmp/x", "QEMU guest agent is not running")
    person.refused("cp one two", "VM:PATH")
    person.refused("shell db1", "QEMU guest agent is not running")
    person.run("stop db1 --force")


def test_access(person):
    person.run("user add anna@wirt --password-stdin --email anna@example.org", typed=PASSWORD + "\n")
    assert {row["userid"] for row in person.json("user list")} == {"root@wirt", "anna@wirt"}
    person.refused("user add anna@wirt --password-stdin", "anna@wirt", "exists", typed=PASSWORD + "\n")
    person.run("user password anna@wirt --password-stdin", typed="another password\n")
    token = person.run(["token", "add", "anna@wirt", "ci"]).strip()
    assert re.fullmatch(r"anna@wirt!ci=[0-9a-f-]{36}", token), token
    table = person.run("token list anna@wirt").splitlines()
    assert table[1].split() == ["ci", "yes", "-", "-"], table  # ends never
    person.run("token add anna@wirt old --expire 1")
    assert "1970-01-01" in person.run("token list anna@wirt")
    person.run("token rm anna@wirt old --yes")
    for who in ["--user", "anna@wirt"], ["--token", "anna@wirt!ci"]:
        person.run(["acl", "add", "/vms/102", "PVEVMUser", *who])
    assert {(row["path"], row["ugid"]) for row in person.json("acl list")} >= {("/vms/102", "anna@wirt"), ("/vms/102", "anna@wirt!ci")}
    person.run("acl add /vms/db1 PVEAuditor --user anna@wirt")  # by name
    assert ("/vms/103", "PVEAuditor") in {(row["path"], row["roleid"]) for row in person.json("acl list")}
    person.run("acl rm /vms/db1 PVEAuditor --user anna@wirt")
    person.refused("acl add /vms/102 PVEVMUser", "--user")
    return token


def test_contexts(person, token):
    """The node over the network, with a token, known by its certificate."""
    address = f"127.0.0.1:{person.node.port}"
    fingerprint = re.search(r"certificate ((?:[0-9A-F]{2}:){31}[0-9A-F]{2})", person.node.text()).group(1)
    person.refused(["context", "add", "far", address, "--token", token, "--fingerprint", fingerprint.replace("A", "B", 1)], "fingerprint")
    person.refused(["context", "add", "far", address, "--token", token], fingerprint, "--yes")
    person.run(["context", "add", "far", address, "--token", token, "--fingerprint", fingerprint])
    listed = person.json("context list")
    assert listed == [{"name": "far", "url": f"https://{address}", "token": "anna@wirt!ci", "current": "*"}], listed
    assert len(person.json("ls")) == 4  # WIRT_SOCKET names the node before a context does
    here = person.environment.pop("WIRT_SOCKET")
    seen = person.json("ls")  # a token with few rights
    assert [row["name"] for row in seen] == ["web2"], seen
    person.refused("start web1", "there is no VM")
    person.refused("user add eve@wirt --password-stdin", "anna@wirt!ci", "/access", "wirt acl add", typed=PASSWORD + "\n")
    person.run("start web2")
    terminal = console_of(person, "102")  # a WebSocket with a token
    terminal.type("\x1d")
    terminal.ends()
    person.run("stop web2 --force")
    person.environment["WIRT_SOCKET"] = here
    person.run("context rm far")
    person.run(["context", "add", "far", address, "--token", token, "--yes"])
    person.run("context use far")
    person.refused("context use near", "near", "wirt context list")
    person.run("context rm far")
    person.refused(["ls", "--host", "127.0.0.1:1"], "WIRT_TOKEN", "wirt context add")
    person.refused(["ls", "--host", "127.0.0.1:1"], "127.0.0.1:1", "does wirtd run there", WIRT_TOKEN=token)
    person.refused(["ls", "--host", "nowhere.invalid"], "nowhere.invalid", "name", WIRT_TOKEN=token)
    person.refused(["ls", "--host", address], "certificate", "wirt context add", WIRT_TOKEN=token)
    person.refused(["ls", "--context", "none"], "none")
    person.refused("ls", "wirtd", WIRT_SOCKET=f"{person.node.folder}/none.sock")
    person.run(["acl", "rm", "/vms/102", "PVEVMUser", "--user", "anna@wirt"])
    person.run("token rm anna@wirt ci --yes")
    person.refused("user rm anna@wirt", "--yes")
    person.run("user rm anna@wirt --yes")


def test_tasks(person):
    tasks = person.json("task list --vm web2")
    assert tasks and all(row["id"] == "102" for row in tasks), tasks
    upid = tasks[0]["upid"]
    assert person.run(["task", "log", upid]).strip()
    assert person.run(["task", "log", upid, "--follow"]).strip()
    assert "qmstart" in person.run("task list")
    assert len(person.json("task list --limit 1")) == 1
    assert person.run("task log web2") == person.run(["task", "log", upid])  # its last one
    assert person.json("task log web2")[-1]["t"] == "TASK OK"
    person.refused("task log nothing", "UPID:", "nothing")
    person.refused("task stop web2", "no task that runs")
    # A long task is stopped by its id: a shutdown that the guest does not hear.
    person.run("start web2")
    console_of(person, "web2").type("\x1d")  # it has begun
    stop = subprocess.Popen(person.words("stop web2 --timeout 300"), env=person.environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (running := [row["upid"] for row in person.json("task list --vm web2") if row["type"] == "qmshutdown" and "endtime" not in row]):
        assert stop.poll() is None and time.monotonic() < deadline
    person.run("task stop web2")
    assert stop.wait(PATIENCE_SECONDS) != 0 and stop.stderr.read()
    person.run("stop web2 --force")


class SlowNode(http.server.BaseHTTPRequestHandler):
    """A node with one VM, whose start stands at a quarter until `seen`."""
    seen = threading.Event()

    def do_GET(self):
        if self.path.startswith("/api2/json/cluster/resources"):
            data = [{"id": "qemu/100", "type": "qemu", "vmid": 100, "name": "slow", "node": "n", "status": "stopped"}]
        elif self.path.partition("?")[0].endswith("/status"):
            data = {"status": "stopped", "exitstatus": "OK"} if self.seen.is_set() else {"status": "running", "progress": 0.25}
        else:
            data = [] if "start=1" in self.path else [{"n": 1, "t": "copying \033[2J" + "x" * 200}]
        self.answer(data)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.answer("UPID:n:00000001:00000001:00000001:qmstart:100:root@pam:")

    def answer(self, data):
        body = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return ""

    def log_message(self, *_):
        pass


def test_progress(person):
    """On a terminal one line tells how far a task is, and what its log said last, without what could steer the terminal; elsewhere nothing does."""
    path = f"{person.node.folder}/slow.sock"
    server = socketserver.ThreadingUnixStreamServer(path, SlowNode)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here, person.environment["WIRT_SOCKET"] = person.environment["WIRT_SOCKET"], path
    terminal = Terminal(person, "start slow", 60)
    line = terminal.waits_for(r"\rstart slow: \d+ s, 25 %  copying  \[2Jx+\x1b\[K")
    assert max(len(part) for part in line.replace("\x1b[K", "").split("\r")) < 60, line
    SlowNode.seen.set()
    assert "start slow: done" in terminal.ends()
    done = subprocess.run(person.words("start slow"), env=person.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
    assert done.stderr == "start slow: done\n" and done.stdout == "", done
    person.environment["WIRT_SOCKET"] = here
    server.shutdown()
    server.server_close()


def test_requests(person):
    """`wirt api`: any request, as JSON; what is a task is waited for."""
    assert {row["name"] for row in person.json("api get /cluster/resources type=vm")} >= {"web1"}
    where = next(row for row in person.json("api get /cluster/resources type=vm") if row["name"] == "web1")
    config = f"/nodes/{where['node']}/qemu/{where['vmid']}/config"
    assert person.run(f"api PUT {config} description=asked") == ""
    assert person.json(f"api get {config}")["description"] == "asked"
    person.refused("api get nodes", "slash")
    person.refused("api fetch /nodes", "get, post, put or delete")
    person.refused("api get /nodes x", "NAME=VALUE")
    person.refused("api get /nowhere", "/nowhere")


def test_completion(person, listed):
    """bash asks the function that `wirt completion bash` prints."""
    script = person.run("completion bash")

    def completed(*words):
        ask = script + '\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _wirt; printf "%s\\n" "${COMPREPLY[@]}"\n'
        done = subprocess.run(["bash", "-c", ask, "bash", *words], env=person.environment, text=True, stdout=subprocess.PIPE, check=True)
        return set(done.stdout.split())

    first = completed("wirt", "")
    assert {verb.split()[0] for verb in listed} | {"run", "disk", "doctor"} <= first, first
    assert completed("wirt", "sn") == {"snapshot"}
    assert completed("wirt", "snapshot", "") == {"list", "create", "rm"}
    assert completed("wirt", "start", "we") == {"web1", "web2"}
    assert completed("wirt", "snapshot", "create", "we") == {"web1", "web2"}
    assert {"--timeout", "--force", "--json"} <= completed("wirt", "stop", "web1", "--")
    assert {"attach", "grow", "create", "convert"} <= completed("wirt", "disk", "")
    assert {"snapshot", "run"} <= completed("wirt", "help", "")
    # Requests and keys come from the table of the node's interface.
    home = f"/nodes/{person.node.name}/qemu/"
    assert completed("wirt", "api", "") == {"get", "post", "put", "delete"}
    assert completed("wirt", "api", "get", "/clu") == {"/cluster/"}
    assert {f"{home}100/config", f"{home}100/snapshot", f"{home}100/snapshot/"} <= completed("wirt", "api", "get", f"{home}100/")
    assert completed("wirt", "api", "get", home) == {f"{home}{row['vmid']}/" for row in person.json("api get /cluster/resources type=vm")}
    assert completed("wirt", "api", "put", f"{home}100/resize", "") == {"disk=", "size=", "digest=", "skiplock="}
    assert completed("wirt", "set", "web1", "mem") == {"memory="}
    # And a bash with a person at it: the line becomes longer by the Tab key.
    terminal = Terminal(person, "bash")
    terminal.type("PS1='ready> '; source <(wirt completion bash)\n")
    terminal.waits_for(r"(?<!')ready> ")
    terminal.type("wirt snap\tcr\tdb\t")
    terminal.waits_for("wirt snapshot create db1 ")
    terminal.type("\x15wirt api ge\t/clu\tres\t ty\t")
    terminal.waits_for("wirt api get /cluster/resources  type=")
    terminal.type("\x15exit\n")
    terminal.ends()
    person.refused("completion fish", "bash")


# It takes minutes: tests/node/path_test.py sees it at work.
ELSEWHERE = {"images build"}


def main():
    own_network()  # `wirt net list` tells the machine's interfaces, too: those of other tests come and go
    with tempfile.TemporaryDirectory() as home, Node() as node:
        person = Person(node, home)

        def api(path, body):
            upid = node.owner("POST", path, body)
            person.run(["task", "log", upid, "--follow"])

        listed = verbs(person)
        test_help(person, listed)
        test_manual(person, listed)
        test_examples(person, listed)
        person.used.clear()
        test_init(person)
        test_lists(person, api)
        test_networks(person)
        test_datastores(person)
        test_groups(person)
        test_running(person)
        test_configuration(person)
        test_disks(person)
        test_snapshots(person)
        test_copies(person)
        test_inside(person)
        test_files(person)
        token = test_access(person)
        test_widths(person, listed)
        test_contexts(person, token)
        test_tasks(person)
        test_progress(person)
        test_requests(person)
        test_completion(person, listed)
        left = set(listed) - person.used
        assert left == ELSEWHERE, f"verbs that no test has used: {left ^ ELSEWHERE}"


main()
