# SPDX-License-Identifier: Apache-2.0
"""agent_test: Debian's qemu-guest-agent, untouched, finds its port by the name and answers at the socket of `--agent`."""
import base64
import json
import tempfile

from wirt_guest import PROMPT, Console, check_quiet, connect, copy_of, debian

SECONDS = 300


class Agent:
    """The agent's protocol: a JSON object a line. It is asked before the guest is up; the answer comes when the agent is there."""

    def __init__(self, path):
        self.socket = connect(path)
        self.socket.settimeout(SECONDS)
        self.lines = self.socket.makefile()

    def ask(self, command, **arguments):
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(self.lines.readline())
        assert "return" in answer, (command, answer)
        return answer["return"]

    def run(self, path, *words):
        """A program to its end: the status and what it wrote."""
        pid = self.ask("guest-exec", path=path, arg=words, **{"capture-output": True})["pid"]
        while True:
            told = self.ask("guest-exec-status", pid=pid)
            if told["exited"]:
                return told["exitcode"], base64.b64decode(told.get("out-data", "")).decode()


with tempfile.TemporaryDirectory() as folder, copy_of("agent.ext4") as disk:
    with Console(debian(disk.name, "--agent", f"{folder}/agent", "--port", f"org.wirt.other={folder}/other", name="agent"), SECONDS) as vm:
        agent = Agent(f"{folder}/agent")
        number = 20261121
        assert agent.ask("guest-sync", id=number) == number
        assert agent.ask("guest-ping") == {}
        assert agent.ask("guest-get-osinfo")["id"] == "debian"
        assert agent.run("/bin/cat", "/etc/hostname") == (0, "debian\n")
        assert agent.run("/bin/sh", "-c", "exit 7")[0] == 7
        handle = agent.ask("guest-file-open", path="/root/told", mode="w")
        agent.ask("guest-file-write", handle=handle, **{"buf-b64": base64.b64encode(b"by the agent\n").decode()})
        agent.ask("guest-file-close", handle=handle)
        assert agent.ask("guest-fsfreeze-freeze") == 1
        assert agent.ask("guest-fsfreeze-status") == "frozen"
        assert agent.ask("guest-fsfreeze-thaw") == 1
        vm.wait_for(PROMPT)
        assert vm.run("cat /root/told") == "by the agent"
        assert vm.run("systemctl is-system-running --wait") == "running"
        assert vm.run("systemctl is-active qemu-guest-agent") == "active"
        # The next connection, as every command of a tool makes one.
        agent.lines.close()
        agent.socket.close()
        agent = Agent(f"{folder}/agent")
        assert agent.ask("guest-ping") == {}
        agent.socket.sendall(b'{"execute": "guest-shutdown"}\n')
        vm.finish(0)
        check_quiet(vm)
