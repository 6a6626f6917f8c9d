# SPDX-License-Identifier: Apache-2.0
"""The real servers of Debian's packages, started on loopback for tests of remote disks: nbdkit, tgt, nfs-ganesha.

Each is an object with `url` and the file behind it; kill() ends it at once, start() brings it back to the same port. A server that is not
installed, or needs root where neither the test nor sudo without a password is root, raises Missing with the reason.
"""
import os
import shutil
import signal
import socket
import subprocess
import time

import as_root


class Missing(Exception):
    pass


def need(program):
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if not found:
        raise Missing(f"{program} is not installed")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processes_before(url):
    """Of wirt-io, for this URL: the first, which starts the second, and the second."""
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
                words = file.read().split("\0")
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                parent = file.read().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "/wirt-io-" in words[0] and url in words:
            parents[int(pid)] = int(parent)
    pairs = [(parent, pid) for pid, parent in parents.items() if parent in parents]
    assert len(pairs) == 1, f"not two processes stand before {url}: {parents}"
    return pairs[0]


class Server:
    process = None
    before = ()  # what makes root of an ordinary user

    def __init__(self, folder, file):
        self.folder, self.file, self.port = folder, file, free_port()

    def command(self):
        raise NotImplementedError

    def set_up(self):
        """What remains to be done once the process listens."""

    def start(self):
        with open(f"{self.folder}/server.log", "ab") as log:
            self.process = subprocess.Popen(self.whole_command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 30
        while not self.listens():  # nobody tells when a server listens; that it has ended, its process does
            try:
                self.process.wait(0.05)
                raise AssertionError(self.log())
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, self.log()
        self.set_up()

    def whole_command(self):
        """Behind sudo it is in a session of its own, whose leader's number is kept: neither sudo nor what it started takes our signals."""
        if not self.before:
            return self.command()
        return [*self.before, "setsid", "--wait", "sh", "-c", 'echo $$ >"$0"; exec "$@"', f"{self.folder}/server.pid", *self.command()]

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def log(self):
        with open(f"{self.folder}/server.log", encoding="utf-8", errors="replace") as log:
            return f"{self.command()[0]}: {log.read()[-3000:]}"

    def kill(self):
        if self.process and self.process.poll() is None:
            if self.before:
                with open(f"{self.folder}/server.pid", encoding="ascii") as file:
                    subprocess.run([*self.before, "kill", "-KILL", "--", f"-{int(file.read())}"], check=True)
            else:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()
        if self.before:  # what root made there is the user's to remove
            subprocess.run([*self.before, "chown", "-R", f"{os.getuid()}:{os.getgid()}", self.folder], check=True)


class RootServer(Server):
    def __init__(self, folder, file):
        super().__init__(folder, file)
        self.before = as_root.words()
        if self.before is None:
            raise Missing(f"{type(self).__name__}'s server needs root, and sudo asks for a password")


class Nbd(Server):
    scheme = "nbd"

    def command(self):
        return [need("nbdkit"), "-f", "-p", str(self.port), "-i", "127.0.0.1", "file", self.file]

    @property
    def url(self):
        return f"nbd://127.0.0.1:{self.port}/"


class Iscsi(RootServer):
    scheme = "iscsi"
    target = "iqn.2026-11.org.wirt:test"

    def command(self):
        return [need("tgtd"), "-f", "-C", self.number, "--iscsi", f"portal=127.0.0.1:{self.port}"]

    @property
    def number(self):
        return str(self.port % 32768)  # its control socket's

    def admin(self, *words):
        subprocess.run([*self.before, need("tgtadm"), "-C", self.number, "--lld", "iscsi", *words], check=True, timeout=30)

    def set_up(self):
        self.admin("--mode", "target", "--op", "new", "--tid", "1", "-T", self.target)
        self.admin("--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", "1", "-b", self.file)
        self.admin("--mode", "target", "--op", "bind", "--tid", "1", "-I", "ALL")

    @property
    def url(self):
        return f"iscsi://127.0.0.1:{self.port}/{self.target}/1"


class Nfs(RootServer):
    scheme = "nfs"

    def command(self):
        directory = os.path.dirname(self.file)
        os.makedirs(f"{self.folder}/recovery", exist_ok=True)
        with open(f"{self.folder}/ganesha.conf", "w", encoding="ascii") as conf:
            conf.write(f"""
NFS_CORE_PARAM {{ NFS_Port = {self.port}; MNT_Port = {free_port()}; Rquota_Port = {free_port()}; NLM_Port = {free_port()}; Protocols = 4;
  Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false; }}
NFSv4 {{ Graceless = true; Minor_Versions = 0; RecoveryBackend = fs; RecoveryRoot = {self.folder}/recovery; Only_Numeric_Owners = true; }}
EXPORT {{ Export_Id = 1; Path = {directory}; Pseudo = /export; Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 4;
  Transports = TCP; FSAL {{ Name = VFS; }} }}
""")
        subprocess.run([*self.before, "mkdir", "-p", "/run/ganesha"], check=True)
        return [need("ganesha.nfsd"), "-F", "-f", f"{self.folder}/ganesha.conf", "-L", f"{self.folder}/ganesha.log", "-p", f"{self.folder}/ganesha.pid",
                "-N", "NIV_WARN"]

    @property
    def url(self):
        return f"nfs://127.0.0.1/export/{os.path.basename(self.file)}?version=4&nfsport={self.port}&uid=0&gid=0"


SERVERS = {server.scheme: server for server in (Nbd, Iscsi, Nfs)}
