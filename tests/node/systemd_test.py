#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Debian guest with a real systemd becomes a node: the package that `make deb` builds is installed in it, a VM is started there, in a scope of systemd's with its
limits; wirtd is restarted, killed, stopped and upgraded, and the VM's process goes on and is found again. At the end the guest is powered off, which shuts the VM down
first.

The VM inside runs the busybox guest under the engine inside the engine; only its process matters here.
"""
import json
import os
import subprocess
import sys
import tempfile

TOP = os.environ["TOP"]
sys.path.insert(0, f"{TOP}/tests/guest")
from wirt_guest import PROMPT, Console, copy_of, debian, image  # noqa: E402  (found by the line above)

SECONDS = 900
STATE = "/var/lib/wirt"


def run(*words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}"
    return done.stdout.strip()


def make_share(folder):
    """A disk with two versions of the package, a kernel and an initrd."""
    share = f"{folder}/share"
    os.mkdir(share)
    for number in 1, 2:
        package = run(f"{TOP}/tools/deb", f"0.1.{number}").splitlines()[-1]
        os.rename(package, f"{share}/wirt-{number}.deb")
    for name in "vmlinuz-cloud", "busybox-cloud.cpio":
        run("cp", image(name), share)
    run("mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", share, f"{folder}/share.ext4", "128M")
    return f"{folder}/share.ext4"


class Guest:
    def __init__(self, console):
        self.console = console

    def sh(self, command):
        """What the command prints; it must end well."""
        text = self.console.run(f"{command} && echo went-well")
        assert text.endswith("went-well"), f"{command}: {text}"
        return text.removesuffix("went-well").strip()

    def api(self, method, path, **params):
        words = " ".join(f"--data-urlencode '{name}={value}'" for name, value in params.items())
        text = self.sh(f"curl -sS --fail-with-body --unix-socket {STATE}/wirtd.sock -X {method} {words} http://x/api2/json{path}; echo")
        return json.loads(next(line for line in text.splitlines() if line.startswith("{")))["data"]

    def finish(self, upid):
        status = {"status": "running"}
        while status["status"] == "running":
            status = self.api("GET", f"/nodes/localhost/tasks/{upid}/status")
        log = "\n".join(line["t"] for line in self.api("GET", f"/nodes/localhost/tasks/{upid}/log"))
        assert status["exitstatus"] == "OK", log
        return log

    def wait_answer(self):
        self.sh(f"until curl -sf --unix-socket {STATE}/wirtd.sock http://x/api2/json/version >/dev/null; do sleep 0.5; done")

    def pid(self):
        self.wait_answer()
        status = self.api("GET", "/nodes/localhost/qemu/100/status/current")
        assert status["status"] == "running", status
        return status["pid"]


def test_install(guest):
    guest.sh("mkdir -p /share && mount /dev/vdb /share && dpkg -i /share/wirt-1.deb >/tmp/dpkg 2>&1 || (cat /tmp/dpkg; false)")
    guest.wait_answer()
    assert guest.sh("systemctl is-active wirtd wirt-guests").split() == ["active", "active"]
    assert guest.sh("systemctl is-enabled wirtd wirt-guests").split() == ["enabled", "enabled"]
    assert guest.sh("ps -o user= -C wirtd | sort | uniq -c | tr -s ' '").split() == ["1", "root", "1", "wirt"]  # the helper and the daemon
    guest.sh("journalctl -u wirtd | grep -q 'one-time token'")
    guest.sh("echo 'a long password' | wirt init --password-stdin --admin root@wirt")
    assert "wirtd.service" in guest.sh("cat /proc/$(systemctl show -P MainPID wirtd)/cgroup")


def test_machine(guest):
    guest.finish(guest.api("POST", "/nodes/localhost/qemu", vmid=100, name="inside", memory=96, cpulimit="0.5", cpuunits=50, startup="down=3",
                           net0="virtio,bridge=vmbr0",
                           args="-kernel /share/vmlinuz-cloud -initrd /share/busybox-cloud.cpio -append console=ttyS0"))
    log = guest.finish(guest.api("POST", "/nodes/localhost/qemu/100/status/start"))
    assert "its scope: systemd" in log and "net0 is on vmbr0" in log, log
    pid = guest.pid()
    scope = guest.sh(f"cat /proc/{pid}/cgroup").rpartition("/")[2]
    assert scope.startswith("wirt-") and "-100-" in scope and scope.endswith(".scope"), scope
    shown = dict(line.split("=") for line in guest.sh(f"systemctl show {scope} -p CPUQuotaPerSecUSec -p CPUWeight -p MemoryMax -p Slice").splitlines())
    assert shown["CPUQuotaPerSecUSec"] == "500ms" and shown["CPUWeight"] == "50" and int(shown["MemoryMax"]) == (96 + 6 + 512) << 20, shown
    assert shown["Slice"].startswith("wirt-") and shown["Slice"].endswith(".slice"), shown
    # Other limits hold at once.
    guest.api("PUT", "/nodes/localhost/qemu/100/config", cpulimit="0.75", cpuunits=60)
    shown = guest.sh(f"systemctl show {scope} -p CPUQuotaPerSecUSec -p CPUWeight").split()
    assert sorted(shown) == ["CPUQuotaPerSecUSec=750ms", "CPUWeight=60"], shown
    return pid


def test_survival(guest, pid):
    guest.sh("systemctl restart wirtd")
    assert guest.pid() == pid, "systemctl restart"
    before = guest.sh("systemctl show -P MainPID wirtd")
    guest.sh(f"kill -9 {before}; until [ $(systemctl show -P MainPID wirtd) != {before} ] && systemctl is-active -q wirtd; do sleep 0.2; done")
    assert guest.pid() == pid, "kill -9"
    guest.sh(f"systemctl stop wirtd && test -d /proc/{pid} && systemctl start wirtd")
    assert guest.pid() == pid, "stop and start"
    guest.sh("dpkg -i /share/wirt-2.deb >/tmp/dpkg 2>&1 || (cat /tmp/dpkg; false)")
    assert guest.sh("dpkg-query -W -f '${Version}' wirt; echo") == "0.1.2"
    assert guest.pid() == pid, "upgrade"
    assert guest.sh("systemctl show -P MainPID wirtd") != before
    assert guest.sh("systemctl is-system-running") == "running"


def test_shutdown(disk):
    """What wirtd left when the guest was powered off: it shut the VM down."""
    tasks = [word for word in run("debugfs", "-R", f"ls -p {STATE}/tasks", disk).split("/") if ":stopall:" in word]
    assert len(tasks) == 1, tasks
    log = run("debugfs", "-R", f"cat \"{STATE}/tasks/{tasks[0]}\"", disk)
    assert "VM 100: OK" in log, log


def main():
    with tempfile.TemporaryDirectory() as folder, copy_of("node.ext4") as disk:
        share = make_share(folder)
        with Console(debian(disk.name, "--disk", share, "--memory", "2G", "--cpus", "2", name="node"), SECONDS) as console:
            console.wait_for(PROMPT)
            guest = Guest(console)
            guest.sh("dmesg -n 1; systemctl is-system-running --wait")  # the kernel's lines stay out of the answers
            test_install(guest)
            pid = test_machine(guest)
            test_survival(guest, pid)
            console.type("poweroff\n")
            console.finish(0)
        test_shutdown(disk.name)


main()
