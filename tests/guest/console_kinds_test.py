# SPDX-License-Identifier: Apache-2.0
"""console_kinds_test ENDS.elf: where --console leads: a file is appended to, a socket takes and gives and goes with the machine, none is silent."""
import ctypes
import os
import select
import subprocess
import sys
import tempfile
import time

from wirt_guest import WIRT, connect, wirt

ENDS = sys.argv[1]
SECONDS = 60


def start(*words):
    return subprocess.Popen(wirt("--kernel", ENDS, "--memory", "64M", "--timeout", str(SECONDS), *words), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(machine, status=0):
    said, _ = machine.communicate(timeout=SECONDS)
    assert machine.returncode == status, (machine.returncode, said)
    return said


def wait_for_texts(path, count):
    """Each write of the machine wakes us."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_CLOEXEC)
    libc.inotify_add_watch(watch, path.encode(), 2)  # IN_MODIFY
    deadline = time.monotonic() + SECONDS
    while True:
        with open(path, "rb") as file:
            said = file.read()
        if said.count(b"what now") >= count:
            os.close(watch)
            return said
        assert select.select([watch], [], [], max(0, deadline - time.monotonic()))[0], said
        os.read(watch, 4096)


def stop(control):
    assert subprocess.run([WIRT, "ctl", control, "stop"], check=False, timeout=SECONDS).returncode == 0


with tempfile.TemporaryDirectory() as folder:
    path, control = f"{folder}/console", f"{folder}/control"
    with open(path, "wb") as before:
        before.write(b"kept\n")
    for turn in (1, 2):
        vm = start("--console", f"file={path}", "--control", control)
        connect(control).close()
        wait_for_texts(path, turn)
        stop(control)
        assert b"what now" not in finish(vm)
    text = wait_for_texts(path, 2)
    assert text.startswith(b"kept\n") and text.count(b"what now") == 2, text

    socket = f"{folder}/socket"
    vm = start("--console", f"socket={socket}")
    console = connect(socket)
    console.settimeout(SECONDS)
    text = b""
    console.sendall(b"d")  # it shows what it counted; what it printed before we came is lost
    while b"watched: 5555" not in text:
        piece = console.recv(4096)
        assert piece, text
        text += piece
    console.sendall(b"o")
    assert b"what now" not in finish(vm)
    assert not os.path.exists(socket), "the socket is left behind"

    vm = start("--console", "none", "--control", control)
    connect(control).close()
    stop(control)
    assert b"what now" not in finish(vm)
