# SPDX-License-Identifier: Apache-2.0
"""What the tests of the node share: a wirtd of their own, on a free port, in a folder that goes with it.

Meson gives the programs in the environment: WIRTD, and TOP (the source). WIRT_ACCEL chooses how machines execute.
"""
import atexit
import io
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

PASSWORD = "correct horse battery"
ACCEL = os.environ.get("WIRT_ACCEL", "engine")


def unverified():
    """TLS to a node whose certificate nobody signed. Made by hand: the default one reads the system's certificates, each time."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def guest_image(name):
    """A path of tools/guest-image, or the test is skipped."""
    done = subprocess.run([f"{os.environ['TOP']}/tools/guest-image", "path", name], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=False)
    if done.returncode != 0:
        skip(f"the guest image {name} is not made; tools/guest-image make {name}")
    return for_others(done.stdout.strip())


def for_others(path):
    """The same, or a copy where others find it: wirtd gives up root, and the tree may stand in a home that is closed to them."""
    above = [os.path.join("/", *path.split("/")[1:n]) for n in range(1, len(path.split("/")))]
    if os.geteuid() or all(os.stat(folder).st_mode & 0o001 for folder in above):
        return path
    place = tempfile.mkdtemp(prefix="wirt-copies-")
    atexit.register(shutil.rmtree, place)
    os.chmod(place, 0o755)
    target = f"{place}/{os.path.basename(path)}"
    return shutil.copytree(path, target) if os.path.isdir(path) else shutil.copyfile(path, target)


def own_network():
    """The rest of the test in a network namespace of its own, where there are no addresses but those that its node makes at its start: a
    browser drops its connections whenever an address of the machine comes or goes, as with the bridges and cards of other tests."""
    if "WIRT_OWN_NETWORK" not in os.environ and subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        os.environ["WIRT_OWN_NETWORK"] = "1"
        begin = "ip link set lo up; for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 >$file; done; exec \"$@\""
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", begin, "sh", sys.executable, *sys.argv])


def busybox_args(append=""):
    """The `args` of a VM that boots the busybox guest."""
    return (f"-kernel {guest_image('vmlinuz-cloud')} -initrd {guest_image('busybox-cloud.cpio')} "
            f"-append 'console=ttyS0 panic=-1 {append}'")


class Node:
    """A wirtd. Used with `with`; all its machines end with it."""

    def __init__(self, *words, name="testnode", before=(), owner=None, check_replies=True):
        """`before`: words before wirtd's own, as of a program that starts it elsewhere, or as `owner`."""
        self.name, self.before = name, before
        self.check = ["--check-replies"] if check_replies else []
        self.folder = tempfile.mkdtemp(prefix="wirt-node-")
        os.chmod(self.folder, 0o755)  # wirtd gives up root and must still find its way in
        if owner:
            shutil.chown(self.folder, owner)
        self.state = f"{self.folder}/state"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.words = words
        self.process = None
        self.log = open(f"{self.folder}/log", "w+", encoding="utf-8")

    def __enter__(self):
        try:
            self.start()
            self.init()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.end_machines()  # first: the network goes with wirtd when no machine is on it
        if self.process:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        self.process = subprocess.Popen(
            [*self.before, os.environ["WIRTD"], "--state", self.state, "--listen", f"127.0.0.1:{self.port}", "--node", self.name,
             "--accel", ACCEL, *self.check, *self.words], stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 120
        while True:
            assert self.process.poll() is None, f"wirtd ended: {self.text()}"
            assert time.monotonic() < deadline, f"wirtd does not listen: {self.text()}"
            try:
                with socket.socket(socket.AF_UNIX) as probe:  # opened last
                    probe.connect(f"{self.state}/wirtd.sock")
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                select.select([], [], [], 0.05)

    def init(self, password=PASSWORD):
        """The first administrator, as the owner on the Unix socket makes it."""
        return self.owner("POST", "/access/init", {"userid": "root@wirt", "password": password})

    def owner(self, method, path, body=None):
        """A request on the Unix socket: its `data`."""
        head, rest = self.exchange(method, path, body)
        assert head.startswith(b"HTTP/1.1 200 "), head.decode()
        return json.loads(rest)["data"]

    def refusal(self, method, path, body=None):
        """The same where it is refused: status and reason."""
        _, status, reason = self.exchange(method, path, body)[0].split(b"\r\n")[0].decode().split(" ", 2)
        return status, reason

    def exchange(self, method, path, body):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{self.state}/wirtd.sock")
        text = json.dumps(body or {})
        connection.sendall((f"{method} /api2/json{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}").encode())
        answer = b""
        while True:
            part = connection.recv(65536)
            if not part:
                break
            answer += part
        head, _, rest = answer.partition(b"\r\n\r\n")
        return head, rest

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)
        self.process = None

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def end_machines(self):
        for pid in self.machines():
            try:
                watch = os.pidfd_open(pid)
                signal.pidfd_send_signal(watch, signal.SIGKILL)
                select.select([watch], [], [], 30)
                os.close(watch)
            except ProcessLookupError:
                pass

    def machines(self):
        """Processes of machines, as their files in run/ tell."""
        found = []
        run = f"{self.state}/run"
        for vmid in os.listdir(run) if os.path.isdir(run) else []:
            try:
                with open(f"{run}/{vmid}/machine", encoding="utf-8") as file:
                    found.append(json.load(file)["pid"])
            except (OSError, ValueError):
                pass
        return found

    def text(self):
        self.log.flush()
        with open(self.log.name, encoding="utf-8", errors="replace") as file:
            return file.read()


def proxmoxer_client(node, **credentials):
    """Debian's python3-proxmoxer, unmodified."""
    try:
        import urllib3  # pylint: disable=import-outside-toplevel
        from proxmoxer import ProxmoxAPI  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        skip(f"no python3-proxmoxer: {error}")
    urllib3.disable_warnings()
    if not credentials:
        credentials = {"user": "root@pve", "password": PASSWORD}
    return ProxmoxAPI("127.0.0.1", port=node.port, verify_ssl=False, **credentials)


def finish(client, node, upid, seconds=120):
    """Waits for a task; it must end well."""
    assert re.fullmatch(r"UPID:[^:]+:[0-9A-F]{8}:[0-9A-F]{8}:[0-9A-F]{8}:\w+:[^:\s]*:[^:]+:", upid), upid
    deadline = time.monotonic() + seconds
    while True:
        status = client.nodes(node.name).tasks(upid).status.get()
        if status["status"] == "stopped":
            break
        assert time.monotonic() < deadline, f"{upid} does not end"
    log = "\n".join(line["t"] for line in client.nodes(node.name).tasks(upid).log.get())
    assert status["exitstatus"] == "OK", f"{upid}: {status['exitstatus']}\n{log}\n{node.text()}"
    return log


def console_says(node, vmid, word, typed=b"\n"):
    """What the guest prints on its console until `word` comes, once this is typed."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(120)
    connection.connect(f"{node.state}/run/{vmid}/console.sock")
    connection.sendall(typed)
    text = b""
    while word not in text:
        part = connection.recv(4096)
        assert part, f"the console ended without {word}: {text[-500:]}"
        text += part
    connection.close()
    return text


def control(node, vmid, command, **members):
    """A command of the machine's own control protocol."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(f"{node.state}/run/{vmid}/control.sock")
        connection.sendall(json.dumps({"id": 1, "do": command, **members}).encode() + b"\n")
        for line in connection.makefile():
            answer = json.loads(line)
            if answer.get("id") == 1:
                return answer["ok"]
    raise AssertionError("the machine did not answer")


def refused(call, *words):
    """The call must be refused, with these words in what it says."""
    from proxmoxer import ResourceException  # pylint: disable=import-outside-toplevel
    try:
        call()
    except ResourceException as error:
        text = f"{error} {getattr(error, 'errors', '')}"
        assert all(word in text for word in words), f"{text} lacks {words}"
        return
    raise AssertionError(f"that was not refused: {words}")


def fails(client, node, upid, word, seconds=60):
    """Waits for a task; it must fail and say why."""
    deadline = time.monotonic() + seconds
    status = client.nodes(node.name).tasks(upid).status
    while status.get()["status"] == "running":
        assert time.monotonic() < deadline, f"{upid} does not end"
    assert word in status.get()["exitstatus"], status.get()["exitstatus"]


def named(name, data):
    """Bytes as a file with a name, for uploads."""
    file = io.BytesIO(data)
    file.name = name
    return file


class Shell:
    """The busybox guest's shell on the machine's console."""

    def __init__(self, node, vmid):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(120)
        self.socket.connect(f"{node.state}/run/{vmid}/console.sock")
        self.number = 0
        self.socket.sendall(b"\n")  # answered by a prompt once there is a shell
        self.read_until(b"/ #")
        self.run("dmesg -n 1")  # what the kernel says would stand between answers

    def read_until(self, pattern):
        text = b""
        while not re.search(pattern, text):
            part = self.socket.recv(4096)
            assert part, f"the console ended: {text[-500:]}"
            text += part
        return text

    def run(self, command):
        """What the command prints, between a mark and one with its status; prompts and the echo of what is typed stand before them."""
        self.number += 1
        begin, end = f"begin{self.number}", f"end{self.number}"
        self.socket.sendall(f"echo be''{begin[2:]}; {command}; echo e''{end[1:]} $?\n".encode())
        text = self.read_until(rf"{end} (\d+)\r?\n".encode()).decode(errors="replace").replace("\r", "")
        return text.partition(f"{begin}\n")[2].partition(f"{end} ")[0].strip()

    def wait(self, condition):
        self.run(f"until {condition}; do sleep 0.1; done")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
