#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""refusal_test.py WIRT: every flag and file of `wirt run` that is wrong is refused with status 2 and a message that
names the flag, the value, and what would be right."""
import os
import socket
import subprocess
import sys
import tempfile

WIRT = sys.argv[1]
FLAGS = [
    # words, what the message must contain
    (["--cpus", "0"], ["--cpus 0", "1 to 8"]),
    (["--cpus", "9"], ["--cpus 9", "1 to 8"]),
    (["--cpus", "two"], ["--cpus two", "1 to 8"]),
    (["--memory", "15M"], ["--memory 15M", "16M to 64G"]),
    (["--memory", "lots"], ["--memory lots", "16M to 64G"]),
    (["--memory", "99999999999999999999"], ["--memory 9", "16M to 64G"]),
    (["--accel", "magic"], ["--accel magic", "engine"]),
    (["--accel", "kvm", "--deterministic"], ["--accel kvm", "engine"]),
    (["--cpu", ""], ["--cpu", "x86-64-v3"]),
    (["--cpu", "pentium"], ["--cpu pentium", "x86-64"]),
    (["--cpu", "host,+warp"], ["warp"]),
    (["--console", "tv"], ["--console tv", "stdio"]),
    (["--console", "file="], ["--console file=", "file=PATH"]),
    (["--timeout", "0"], ["--timeout 0", "seconds"]),
    (["--on-reboot", "never"], ["--on-reboot never", "restart or exit"]),
    (["--trace", "everything"], ["--trace everything", "exits"]),
    (["--disk", ""], ["--disk", "FILE"]),
    (["--disk", "a.img,writable"], ["--disk a.img,writable", "readonly"]),
    (["--disk", "a.img,serial=123456789012345678901"], ["--disk", "20"]),
    (["--net", "wifi"], ["--net wifi", "tap=IFNAME"]),
    (["--net", "user,forward=tcp:0:22"], ["--net user", "1 to 65535"]),
    (["--net", "user,forward=udp:1:2"], ["--net user", "forward=tcp"]),
    (["--net", "tap=no-such-tap0"], ["tap=no-such-tap0", "ip tuntap"]),
    (["--net", "tap=a-name-that-is-too-long"], ["--net tap=", "15"]),
    (["--initrd", "x"], ["--initrd needs --kernel"]),
    (["--append", "x"], ["--append needs --kernel"]),
    (["--deterministic", "--cpus", "2"], ["--deterministic needs --cpus 1"]),
    (["--kernel", ""], ["--kernel", "path of a file"]),
    (["--kernel", "x", "--initrd", ""], ["--initrd", "path of a file"]),
    (["--kernel", "x", "--append", b"\xff"], ["--append", "UTF-8"]),
    (["--kernel", "x", "--firmware", "y"], ["--firmware", "--kernel", "exclude"]),
    (["--firmware", ""], ["--firmware", "path of a file"]),
    (["--control", ""], ["--control", "path of a file"]),
    (["--control", "/nowhere/at/all"], ["--control", "/nowhere/at/all", "No such file"]),
    (["--gdb", ""], ["--gdb", "path of a file"]),
    (["--config", ""], ["--config"]),
    (["--console", "file=/nowhere/at/all"], ["--console file=/nowhere/at/all", "No such file"]),
    (["--console", "socket="], ["--console socket=", "socket=PATH"]),
    (["--console", "socket=/nowhere/at/all"], ["--console", "/nowhere/at/all", "No such file"]),
    (["--timeout", "soon"], ["--timeout soon", "seconds"]),
    (["--net", "user,forward=tcp:80"], ["--net user", "HOSTPORT:GUESTPORT"]),
    (["--net", "tap="], ["--net tap=", "1 to 15"]),
    (["--agent", ""], ["--agent", "path of a socket"]),
    (["--agent", "/nowhere/at/all"], ["org.qemu.guest_agent.0", "--port", "/nowhere/at/all", "No such file"]),
    (["--port", "name"], ["--port name", "NAME=SOCKET"]),
    (["--port", "=/x"], ["--port =/x", "NAME=SOCKET"]),
    (["--port", "x" * 64 + "=/x"], ["--port x", "63"]),
    (["--port", "a=/nowhere/at/all"], ["port a", "/nowhere/at/all", "No such file"]),
    (["--port", "a=/x", "--port", "a=/y"], ["--port a=/y", "already"]),
    (["--stats=yes"], ["--stats", "no value"]),
    (["--cpus"], ["--cpus", "needs a value"]),
    (["--colour", "red"], ["--colour", "no such option"]),
    (["words"], ["words", "no such option"]),
]


def files(folder):
    """Words and expected texts for files that are missing, empty, truncated or of the wrong kind."""
    def make(name, contents):
        path = os.path.join(folder, name)
        with open(path, "wb") as f:
            f.write(contents)
        return path
    empty = make("empty", b"")
    noise = make("noise", bytes(range(256)) * 64)
    header = bytearray(4096)
    header[0x1F1] = 255
    header[0x1FE:0x200] = b"\x55\xaa"
    header[0x202:0x206] = b"HdrS"
    header[0x206:0x208] = (0x20F).to_bytes(2, "little")
    header[0x211] = 1
    cut = make("cut", bytes(header))
    header[0x206:0x208] = (0x200).to_bytes(2, "little")
    old = make("old", bytes(header))
    elf = make("elf", b"\x7fELF\x02\x01\x01" + bytes(200))
    config = make("config.json", b'{"cpus": 99}')
    broken = make("broken.json", b'{"cpus": ')
    missing = os.path.join(folder, "missing")
    return [
        (["--kernel", missing], ["--kernel " + missing, "No such file"]),
        (["--kernel", folder], ["--kernel", folder]),
        (["--kernel", empty], ["kernel", empty, "bzImage"]),
        (["--kernel", noise], ["kernel", noise, "bzImage"]),
        (["--kernel", cut], ["kernel", cut, "ends after 4096 bytes"]),
        (["--kernel", old], ["kernel", old, "2.06"]),
        (["--kernel", elf], ["kernel", elf]),
        (["--kernel", noise, "--initrd", missing], ["--initrd " + missing, "No such file"]),
        (["--firmware", missing], ["--firmware " + missing, "No such file"]),
        (["--firmware", noise], ["firmware", noise, "128 KiB"]),
        (["--disk", missing], ["--disk " + missing, "No such file"]),
        (["--config", missing], ["--config " + missing]),
        (["--config", config], ["--config " + config, "99 is not in 1 to 8"]),
        (["--config", broken], ["--config " + broken, "line"]),
        (["--control", noise], ["--control", noise, "no socket"]),
        (["--gdb", noise], ["--gdb", noise, "no socket"]),
    ]


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = [(["--net", f"user,forward=tcp:{port}:22"], ["--net user", f"127.0.0.1:{port}", "in use"])]
        for words, texts in FLAGS + ports + files(folder):
            command = [WIRT, "run", "--timeout", "20"] + words
            run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
            wrong = [text for text in texts if text not in run.stderr]
            if run.returncode != 2 or wrong:
                failed += 1
                print(f"wirt run {words}: status {run.returncode}, missing {wrong}, said: {run.stderr.strip()}")
            else:
                passed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
