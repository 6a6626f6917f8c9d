# SPDX-License-Identifier: Apache-2.0
"""status_test ENDS.elf: the exit status of `wirt run` for each way in which a machine can end, under both tiers."""
import os
import signal
import subprocess
import sys
import tempfile

from wirt_guest import WIRT, Console, busybox, connect

ENDS = sys.argv[1]


def run(accel, *words):
    return [WIRT, "run", "--accel", accel, "--kernel", ENDS, "--memory", "64M", *words]


def ends(letters, status, *words):
    """What the guest does when it reads the last letter ends the machine with this status; those before it start it again."""
    for accel in ("interpreter", "engine"):
        with Console(run(accel, *words), 60) as guest:
            guest.wait_for("what now")
            for letter in letters[:-1]:
                guest.type(letter)
                guest.wait_for("what now")
            guest.type(letters[-1:])
            guest.finish(status)


def machine_of(launcher):
    with open(f"/proc/{launcher}/task/{launcher}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()][0]


ends("o", 0)                                                        # power-off
ends("x", 21 << 1 | 1)                                              # the debug exit device
ends("p", 30)                                                       # pvpanic
ends("r", 32, "--on-reboot", "exit")                                # reset by port 0xcf9
ends("k", 32, "--on-reboot", "exit")                                # reset by the keyboard controller
ends("t", 34, "--on-reboot", "exit")                                # triple fault
ends("ro", 0)                                              # a reset restarts
ends("ko", 0, "--on-reboot", "restart")
ends("to", 0)
ends("", 124, "--timeout", "1")                                     # nobody ends it
ends("o", 0, "--memory", "16M")                                      # the least

# A kernel's own panic, through the driver that Debian's has.
with Console(busybox("cloud", 'wirt.end=panic wirt.cmd="modprobe pvpanic-mmio"'), 60) as vm:
    vm.finish(30)

with tempfile.TemporaryDirectory() as folder:
    control = f"{folder}/control"
    # Stopped by the control protocol: as asked, so 0.
    with Console(run("engine", "--control", control), 60) as vm:
        vm.wait_for("what now")
        connect(control).close()
        assert subprocess.run([WIRT, "ctl", control, "stop"], check=False).returncode == 0
        vm.finish(0)
    # wirt-vm is killed: the host failed.
    with Console(run("engine", "--control", control), 60) as vm:
        vm.wait_for("what now")
        os.kill(machine_of(vm.vm.pid), signal.SIGKILL)
        assert "wirt-vm was killed by signal 9" in vm.finish(36)
        assert not os.path.exists(control)
    # The launcher is told to end: it ends the machine, tidies up, and dies of the signal.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with Console(run("engine", "--control", control), 60) as vm:
            vm.wait_for("what now")
            machine = machine_of(vm.vm.pid)
            vm.vm.send_signal(number)
            vm.finish(-number)
            assert not os.path.exists(control) and not os.path.exists(f"/proc/{machine}"), number
    # No machine at all: bad words, a bad file.
    for words in (["--cpus", "0"], ["--kernel", f"{folder}/none"]):
        assert subprocess.run([WIRT, "run", *words], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 2

# Nobody reads the console any more: the guest goes on to its end.
reading, writing = os.pipe()
launcher = subprocess.Popen(busybox("cloud", 'wirt.cmd="seq 5000"'), stdin=subprocess.DEVNULL, stdout=writing)
os.close(writing)
assert os.read(reading, 1)
os.close(reading)
assert launcher.wait(60) == 0
