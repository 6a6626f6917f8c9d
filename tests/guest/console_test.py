# SPDX-License-Identifier: Apache-2.0
"""console_test: `wirt run` on a real terminal under a shell with job control.

The escape key is named at the start; the menu presses the power button, resets, prints statistics, sends the escape key itself, kills, and
detaches: the shell is back while the machine goes on, and `wirt ctl SOCKET console` takes it again. The terminal's mode is put back
whatever ends: the guest, the menu, a signal to the launcher, a kill of any of the processes.
"""
import os
import re
import select
import signal
import subprocess
import tempfile
import termios
import time

from wirt_guest import BUSYBOX_PROMPT, WIRT, busybox, check_clean, copy_of, debian
from guest_console import ESCAPES, HALF_ESCAPE  # noqa: E402  (wirt_guest knows where)

ESCAPE = "\x1d"
PROMPT = r"shell:\d+> $"


class Shell:
    """An interactive bash whose controlling terminal is ours to type at."""

    def __init__(self, seconds, folder):
        self.deadline, self.text, self.half, self.seen = time.monotonic() + seconds, "", "", 0
        self.master, self.slave = os.openpty()
        environment = {**os.environ, "PS1": "shell:$?> ", "TERM": "dumb", "XDG_RUNTIME_DIR": folder}
        self.process = subprocess.Popen(["setsid", "--ctty", "bash", "--norc", "--noprofile", "-i"], stdin=self.slave, stdout=self.slave,
                                        stderr=self.slave, env=environment)
        self.wait_for(PROMPT)
        self.run("stty cols 1000; bind 'set enable-bracketed-paste off'")

    def wait_for(self, pattern):
        while True:
            match = re.search(pattern, self.text[self.seen:])
            if match:
                self.seen += match.end()
                return match
            left = min(60, self.deadline - time.monotonic())
            assert left > 0 and select.select([self.master], [], [], left)[0], f"no '{pattern}' in: {self.text[-3000:]}"
            # A sequence may be cut in two by the end of a read.
            piece = self.half + os.read(self.master, 65536).decode(errors="replace")
            cut = HALF_ESCAPE.search(piece)
            self.half = cut.group(0) if cut else ""
            self.text += ESCAPES.sub("", piece.removesuffix(self.half))

    def type(self, text):
        os.write(self.master, text.encode())

    def run(self, line, prompt=PROMPT):
        start = self.seen
        self.type(line + "\n")
        self.wait_for(prompt)
        return self.text[start:self.seen].partition("\n")[2].rpartition("\n")[0]

    def cooked(self):
        """Whether the terminal is as a shell's command expects it, seen by a command."""
        return " icanon" in self.run("stty -a") and " echo " in self.run("stty -a | tr '\\n' ' '; echo")

    def raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


def start(shell, *words):
    shell.type(" ".join(f"'{word}'" for word in [*busybox("cloud", "", *words)]) + "\n")
    shell.wait_for(r"\[wirt: Ctrl-\] opens the menu\]")
    shell.wait_for(BUSYBOX_PROMPT)
    assert shell.raw()


def menu(shell, key):
    shell.type(ESCAPE)
    shell.wait_for(r"\[wirt: p power button, r reset, k kill, s statistics, d detach, Ctrl-\] itself, other keys go back\]")
    shell.type(key)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def family(shell):
    """The process at the terminal, the keeper, the machine."""
    (terminal,) = children(shell.process.pid)
    (keeper,) = children(terminal)
    (machine,) = children(keeper)
    return terminal, keeper, machine


def gone(pid):
    """Waits for the end of a process that is not our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], 30)[0], f"process {pid} goes on"
    os.close(descriptor)


def check_menu(shell):
    start(shell)
    menu(shell, "s")
    shell.wait_for(r"wall_ns +\d+\n")
    shell.wait_for(r"instructions_interpreted +\d+\n")
    shell.wait_for(r"host_memory_bytes +\d+\n")
    menu(shell, "x")  # no key of the menu: back to the guest, which does not get it
    shell.type("echo read; head -c 1 | hexdump -C\n")
    shell.wait_for(r"\nread\n")
    menu(shell, ESCAPE)
    shell.type("\n\n")
    shell.wait_for(r"00000000  1d ")
    shell.wait_for(BUSYBOX_PROMPT)
    menu(shell, "r")
    shell.wait_for("Linux version")
    shell.wait_for(BUSYBOX_PROMPT)
    menu(shell, "k")
    shell.wait_for("shell:0> $")
    assert shell.cooked()


def check_power_button(shell, disk):
    """A Debian guest listens to the button and shuts down in order."""
    shell.type(" ".join(f"'{word}'" for word in debian(disk)) + "\n")
    shell.wait_for("root@debian:~# $")
    menu(shell, "p")
    shell.wait_for("Power down")
    shell.wait_for("shell:0> $")
    assert shell.cooked()
    check_clean(disk)


def strange(path):
    """What is missing among the numbers, and the lines that are none."""
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        lines = [line.rstrip("\r\n") for line in file]
    missing = {str(number) for number in range(1, 20001)} - set(lines)
    return f"; missing {sorted(missing)[:9]}, other lines {[line for line in lines if not line.isdigit()][:20]}"


def check_detach(shell, folder, words):
    start(shell, *words)
    terminal, keeper, machine = family(shell)
    shell.type("echo before > /tmp/word\n")
    shell.wait_for(BUSYBOX_PROMPT)
    menu(shell, "d")
    control = shell.wait_for(r"\[wirt: detached; the machine goes on. To come back: wirt ctl (\S+) console\]").group(1)
    assert os.path.dirname(control) == folder and (not words or control == f"{folder}/control")
    shell.wait_for("shell:0> $")
    assert shell.cooked()
    gone(terminal)
    assert shell.run("jobs") == "" and os.getsid(keeper) == keeper
    assert re.search(r"state +running", shell.run(f"'{WIRT}' ctl {control} status"))
    # Again at the terminal: the same guest, with the same keys.
    for _ in range(2):
        shell.type(f"'{WIRT}' ctl {control} console\n")
        shell.wait_for(r"\[wirt: Ctrl-\] opens the menu\]")
        assert "before" in shell.run("cat /tmp/word", BUSYBOX_PROMPT)
        assert shell.raw()
        menu(shell, "d")
        shell.wait_for(r"\[wirt: detached; the machine goes on\]\nshell:0> $")
        assert shell.cooked()
    # A program's way: plain input and output. All of a long output arrives though the reader is slow. stty waits until it is sent: what the kernel says while
    # it goes down is put wherever the terminal's buffer is by then, in the midst of a number.
    said = shell.run(f"(echo seq 20000; echo stty onlcr; echo poweroff) | '{WIRT}' ctl {control} console | (sleep 1; tee {folder}/said | grep -c '^[0-9]*.$')")
    assert said.split()[-1] == "20000", said[-500:] + strange(f"{folder}/said")
    gone(machine)
    gone(keeper)
    assert not os.path.exists(control), "the control socket is left behind"


def check_kills(shell):
    # Whatever ends the foreground process ends the machine, and the terminal is the shell's again.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        start(shell)
        terminal, keeper, machine = family(shell)
        os.kill(terminal, number)
        shell.wait_for(f"shell:{128 + number}> $")
        gone(machine)
        gone(keeper)
        assert shell.cooked()
    start(shell)
    terminal, keeper, machine = family(shell)
    os.kill(terminal, signal.SIGKILL)
    shell.wait_for("shell:137> $")
    gone(machine)
    gone(keeper)
    assert shell.cooked()
    # The machine or its keeper dies: a failure of the host, told as one.
    start(shell)
    os.kill(family(shell)[2], signal.SIGKILL)
    shell.wait_for("wirt-vm was killed by signal 9")
    shell.wait_for("shell:36> $")
    assert shell.cooked()
    start(shell)
    _, keeper, machine = family(shell)
    os.kill(keeper, signal.SIGKILL)
    shell.wait_for("keeps the machine was killed")
    shell.wait_for("shell:36> $")
    gone(machine)
    assert shell.cooked()


def check_stop(shell):
    # Stopped by somebody and taken to the foreground again: raw again, the same guest.
    start(shell)
    os.kill(family(shell)[0], signal.SIGTSTP)
    shell.wait_for(r"Stopped[^\n]*\n")
    shell.wait_for(PROMPT)
    assert shell.cooked()
    shell.type("fg\n")
    shell.wait_for(r"wirt")
    shell.type("\n")
    shell.wait_for(BUSYBOX_PROMPT)
    assert shell.raw()
    shell.type("poweroff\n")
    shell.wait_for("shell:0> $")
    # A refusal leaves the terminal alone.
    assert "--cpus 9" in shell.run(f"'{WIRT}' run --cpus 9")
    assert shell.run("echo $?") == "2" and shell.cooked()


with tempfile.TemporaryDirectory() as here:
    person = Shell(400, here)
    try:
        check_menu(person)
        with copy_of("debian.ext4") as image:
            check_power_button(person, image.name)
        check_detach(person, here, [])
        check_detach(person, here, ["--control", f"{here}/control"])
        check_kills(person)
        check_stop(person)
    finally:
        person.process.kill()
        person.process.wait()
        for name in os.listdir(here):  # a machine that a failed check left detached
            subprocess.run([WIRT, "ctl", f"{here}/{name}", "stop"], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
