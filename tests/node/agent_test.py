#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Guests end when they are asked to, also when they did not listen yet: by their agent, which is told when it comes; by the power button, which is pressed again. A
shutdown that nobody hears can be overruled. A backup freezes the guest for its instant only.

The agent is a shell script in the busybox guest that speaks QEMU's agent's protocol on its port.
"""
import os

from wirt_node import Node, Shell, busybox_args, control, fails, finish, proxmoxer_client

AGENT = r"""modprobe virtio_console
name=$(grep -l org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name)
port=$(basename $(dirname $name))
exec 3<>/dev/$port
answer() {
    id=${1##*\"id\":}
    case $1 in
    *guest-sync*) echo "{\"return\":${id%%\}*}}" ;;
    *guest-fsfreeze-*) said=${1#*guest-fsfreeze-}; echo ${said%%\"*} >>/tmp/did; test -e /tmp/hang || echo '{"return":1}' ;;
    *guest-shutdown*) poweroff -f ;;
    *) echo '{"error":{"class":"CommandNotFound","desc":"no such command"}}' ;;
    esac >&3
}
# The port has an end whenever nobody is there on the host.
while sleep 0.1; do while read -r line <&3; do answer "$line"; done; done
"""
# The first press is lost, as before there is a logind.
LISTEN = "cd /sys/firmware/acpi/interrupts; for i in 1 2; do until grep -q STS ff_pwr_btn; do sleep 0.1; done; echo clear >ff_pwr_btn; done; poweroff -f"


def begin_agent(shell):
    shell.run("sh /tmp/agent </dev/null >/dev/null 2>&1 & true")


def put_agent(shell):
    lines = AGENT.replace("'", "'\\''")
    shell.run(f"echo '{lines}' >/tmp/agent")


def test_backup(api, node, vm, shell):
    here = api.nodes(node.name)
    log = finish(api, node, here.vzdump.post(vmid=100, storage="local"))
    assert "froze" in log and "thawed" in log, log
    assert shell.run("cat /tmp/did").split() == ["freeze", "thaw"]
    vm.config.put(agent="enabled=1,freeze-fs-on-backup=0")
    log = finish(api, node, here.vzdump.post(vmid=100, storage="local"))
    assert "froze" not in log and shell.run("cat /tmp/did").split() == ["freeze", "thaw"], log


def test_left_frozen(api, node, vm, shell):
    """wirtd is killed between freeze and thaw: the next one thaws the guest."""
    vm.config.put(agent="1")
    shell.run("rm /tmp/did; touch /tmp/hang")
    api.nodes(node.name).vzdump.post(vmid=100, storage="local")
    shell.wait("test -e /tmp/did")
    node.kill()
    shell.run("rm /tmp/hang")
    node.start()
    assert shell.run("cat /tmp/did").split() == ["freeze", "thaw"]
    assert "left frozen, and is thawed" in node.text()
    assert not os.path.exists(f"{node.state}/run/100/rest")


def test_left_paused(node, vm):
    """The same of a guest that stood still for its instant. One that somebody paused stays so."""
    for left, state in (True, "running"), (False, "paused"):
        node.kill()
        control(node, 100, "pause")
        if left:
            with open(f"{node.state}/run/100/rest", "w", encoding="utf-8") as file:
                file.write("paused")
        node.start()
        assert vm.status.current.get()["qmpstatus"] == state
        assert not os.path.exists(f"{node.state}/run/100/rest")
    control(node, 100, "resume")
    node.kill()
    node.start()


def test_late_agent(api, node, vm, shell):
    """A guest that is asked before its agent is there: the agent is told when it comes."""
    shell.run("killall sh; rm -f /tmp/did")
    upid = vm.status.shutdown.post(timeout=200)
    status = api.nodes(node.name).tasks(upid).status
    shell.wait("grep -q STS /sys/firmware/acpi/interrupts/ff_pwr_btn")  # nobody answered at the port: the button was tried
    assert status.get()["status"] == "running"
    shell.socket.sendall(b"sh /tmp/agent &\n")
    log = finish(api, node, upid, 240)
    assert "agent shuts it down" in log and "power button is pressed" in log, log


def test_overruled(api, node, vm):
    finish(api, node, vm.status.start.post())
    Shell(node, 100).socket.close()  # it runs, and is deaf
    upid = vm.status.shutdown.post(timeout=600)
    finish(api, node, vm.status.stop.post(**{"overrule-shutdown": 1}), 30)
    fails(api, node, upid, "overruled")
    assert vm.status.current.get()["status"] == "stopped"
    finish(api, node, vm.status.start.post())
    finish(api, node, vm.status.suspend.post())
    fails(api, node, vm.status.shutdown.post(timeout=600), "paused")
    finish(api, node, vm.status.shutdown.post(timeout=600, forceStop=1))


def main():
    with Node() as node:
        api = proxmoxer_client(node)
        here = api.nodes(node.name)
        finish(api, node, here.qemu.create(vmid=100, memory=96, agent="1", virtio0="local:0.0625", args=busybox_args()))
        finish(api, node, here.qemu.create(vmid=101, memory=96, args=busybox_args()))
        for vmid in 100, 101:
            finish(api, node, here.qemu(vmid).status.start.post())
        vm = here.qemu(100)
        with Shell(node, 100) as shell, Shell(node, 101) as other:
            other.run(f"({LISTEN}) & true")
            listening = here.qemu(101).status.shutdown.post(timeout=120)
            put_agent(shell)
            begin_agent(shell)
            test_backup(api, node, vm, shell)
            test_left_frozen(api, node, vm, shell)
            test_left_paused(node, vm)
            test_late_agent(api, node, vm, shell)
            finish(api, node, listening)
        test_overruled(api, node, vm)


main()
