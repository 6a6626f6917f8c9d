# SPDX-License-Identifier: Apache-2.0
"""ordinary_user_test: a machine with disk, network and control socket is a matter for a user without any right. Where the tests run as root, the programs
and the guest are copied to where nobody's user may read them, and run as that user.
"""
import os
import shutil
import socket
import subprocess
import tempfile

from wirt_guest import ACCEL, BUSYBOX_PROMPT, WIRT, Console, check_quiet, connect, image

NOBODY = 65534
MIB = 1 << 20


def rights(pid):
    """What the kernel says of a process: name to value."""
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def check_rights(launcher):
    found = {rights(pid)["Name"]: rights(pid) for pid in children(launcher)}
    assert set(found) == {"wirt-vm", "wirt-net"}, found
    user = str(NOBODY if root else os.getuid())
    for name, told in found.items():
        assert told["Uid"].split() == [user] * 4, (name, told["Uid"])
        assert int(told["CapEff"], 16) == 0 and told["NoNewPrivs"] == "1" and told["Seccomp"] == "2", (name, told)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


root = os.geteuid() == 0
with tempfile.TemporaryDirectory() as folder:
    program, files = WIRT, {name: image(name) for name in ("vmlinuz-cloud", "busybox-cloud.cpio")}
    if root:
        os.chmod(folder, 0o755)
        for name in ("wirt", "wirt-vm", "wirt-net"):
            shutil.copy(os.path.join(os.path.dirname(WIRT), name), folder)
        program = f"{folder}/wirt"
        for name, path in files.items():
            files[name] = shutil.copy(path, folder)
    home = f"{folder}/home"
    os.mkdir(home)
    with open(f"{home}/disk", "wb") as disk:
        disk.truncate(16 * MIB)
    if root:
        for path in (home, f"{home}/disk"):
            os.chown(path, NOBODY, NOBODY)
    port = free_port()
    command = [program, "run", "--accel", ACCEL, "--kernel", files["vmlinuz-cloud"], "--initrd", files["busybox-cloud.cpio"], "--append",
               "console=ttyS0 panic=-1 wirt.net=dhcp", "--cpus", "2", "--disk", f"{home}/disk", "--net", f"user,forward=tcp:{port}:7",
               "--control", f"{home}/control"]
    if root:
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
    with Console(command, 120) as vm:
        connect(f"{home}/control").close()
        vm.wait_for(BUSYBOX_PROMPT)
        check_rights(vm.vm.pid)
        assert "10.0.2.15" in vm.run("ifconfig eth0", BUSYBOX_PROMPT)
        vm.run("yes ordinary | dd of=/dev/vda bs=64k count=16 iflag=fullblock conv=fsync", BUSYBOX_PROMPT)
        vm.run("(echo here I am | nc -l -p 7) & until grep -q ':0007 .* 0A' /proc/net/tcp*; do sleep 0.1; done", BUSYBOX_PROMPT)
        with socket.create_connection(("127.0.0.1", port), 60) as guest:
            assert guest.makefile().readline() == "here I am\n"
        vm.type("poweroff\n")
        vm.finish(0)
        check_quiet(vm)
    # Root of a user namespace in which there is nobody else, as in a rootless container.
    alone = [*command[:command.index(program)], "unshare", "--map-root-user"]
    if subprocess.run([*alone, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        with Console([*alone, program, "run", "--accel", ACCEL, "--kernel", files["vmlinuz-cloud"], "--initrd", files["busybox-cloud.cpio"],
                      "--append", "console=ttyS0 wirt.cmd=true", "--net", "user"], 120) as vm:
            vm.finish(0)
    with open(f"{home}/disk", "rb") as disk:
        assert disk.read(MIB) == (b"ordinary\n" * MIB)[:MIB]
    assert not os.path.exists(f"{home}/control"), "the socket is left behind"
    if root:
        assert subprocess.run(["find", home, "!", "-user", str(NOBODY)], stdout=subprocess.PIPE, text=True, check=True).stdout == ""
