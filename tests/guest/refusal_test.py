#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""refusal_test.py WIRT: every flag and file of `wirt run` that is wrong is refused with status 2 and a message that
names the flag, the value, and what would be right."""
import json
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
    (["--trace", "states=9-3"], ["--trace states=9-3", "states=FIRST-LAST"]),
    (["--cpu", "x86-64,+"], ["--cpu x86-64,+", "+NAME or -NAME"]),
    (["--cpu", "host,+pku"], ["--cpu host,+pku", "not supported"]),
    (["--disk", "a,format=iso"], ["--disk a,format=iso", "qcow2|vmdk"]),
    (["--disk", "a,bandwidth=0"], ["--disk a,bandwidth=0", "100M"]),
    (["--disk", "a,bandwidth-burst=much"], ["--disk a,bandwidth-burst=much", "100M"]),
    (["--disk", "a,iops=x"], ["--disk a,iops=x", "1 to 1000000000"]),
    (["--disk", "a,iops-burst=0"], ["--disk a,iops-burst=0", "1 to 1000000000"]),
    (["--disk", "a,on-error=panic"], ["--disk a,on-error=panic", "report|stop"]),
    (["--disk", "nbd://host.invalid/x"], ["--disk nbd://host.invalid/x", "cannot use"]),
    (["--memory", "-1"], ["--memory -1", "16M to 64G"]),
    (["--memory", "512X"], ["--memory 512X", "16M to 64G"]),
    (["--timeout", "99999999999"], ["--timeout 99999999999", "31536000"]),
    (["--json=1"], ["--json", "no value"]),
    (["--deterministic=1"], ["--deterministic", "no value"]),
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
    kinds = {"qcow2": "not a qcow2 image", "vmdk": "VMDK", "vhdx": "VHDX", "vdi": "not a VDI image"}
    disks = []
    for kind, text in kinds.items():
        for name, contents in (("empty", b""), ("noise", bytes(range(256)) * 64)):
            path = make(f"{name}.{kind}", contents)
            disks.append((["--disk", path + ",readonly"], ["--disk " + path, text]))
    return [
        *disks,
        (["--disk", noise + ",format=qcow2"], ["--disk " + noise, "not a qcow2 image"]),
        (["--disk", os.path.join(folder, "noise.vhdx")], ["--disk", "noise.vhdx", "only be read"]),
        (["--disk", folder], ["--disk " + folder, "directory"]),
        (["--firmware", empty], ["firmware", empty, "128 KiB"]),
        (["--firmware", folder], ["firmware", folder]),
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


with open(f"{os.path.dirname(__file__)}/../../src/wire/protocol.json", encoding="utf-8") as schema_file:
    OBJECTS = json.load(schema_file)["objects"]
# A valid value of each object, in which one member at a time is made wrong.
VALID = {"net": {"kind": "none"}, "port": {"name": "a", "path": "/x"}, "console": {"kind": "none"}, "forward": {"host_port": 1, "guest_port": 1}}
BY_WIRT = ("fd", "status_fd", "backing", "kvm", "launched_ns", "launched_tsc")
KINDS = {"string": "a string", "integer": "a whole number", "boolean": "true or false", "array": "a list"}


# What the schema cannot express.
RELATIONS = [
    ({"console": {"kind": "attached"}}, ["console.kind", "set by wirt"]),
    ({"console": {"kind": "file"}}, ["console.path", "is missing"]),
    ({"console": {"kind": "socket", "path": ""}}, ["console.path", "is missing"]),
    ({"control": {}}, ["control.file", "is missing"]),
    ({"gdb": {"file": ""}}, ["gdb.file", "is missing"]),
    ({"boot": {"kernel": {}}}, ["boot.kernel.file", "is missing"]),
    ({"boot": {"firmware": {}}}, ["boot.firmware.file", "is missing"]),
    ({"boot": {"kernel": {"file": "x"}, "initrds": [{}]}}, ["boot.initrds[0].file", "is missing"]),
    ({"boot": {"initrds": [{"file": "x"}]}}, ["--initrd needs --kernel"]),
    ({"disks": [{}]}, ["disks[0].file", "is missing"]),
    ({"nets": [{"kind": "tap"}]}, ["nets.interface", "is missing"]),
    ({"nets": [{"kind": "none", "mac": "52:54:00:12:34:5x"}]}, ["mac", "52:54:00:12:34:5x", "52:54:00:12:34:56"]),
    ({"nets": [{"kind": "none", "mac": "01:00:5e:00:00:01"}]}, ["mac", "01:00:5e:00:00:01", "multicast"]),
    ({"nets": [{"kind": "none", "id": "a"}, {"kind": "none", "id": "a"}]}, ["a device a already"]),
    ({"ports": [{"name": "a", "path": "/x"}, {"name": "a", "path": "/y"}]}, ["ports[1].name", '"a" already']),
    ({"cpu": "pentium"}, ["--cpu pentium", "x86-64-v3"]),
    ({"trace": ["states=9-3"]}, ["--trace states=9-3", "states=FIRST-LAST"]),
    ({"deterministic": True, "cpus": 2}, ["--deterministic needs --cpus 1"]),
    ([], ["[] is not an object"]),
]


def wrong_number(member):
    for value in (member["min"] - 1, member["max"] + 1):
        if -(1 << 63) <= value < 1 << 63:
            yield value, [f"{value} is not in {member['min']} to {member['max']}"]


def wrong_string(member):
    if "enum" in member:
        yield "no-such", ['"no-such" is none of', *member["enum"]]
        return
    most, least = member["max"], member.get("min", 0)
    yield "x" * (most + 1), [f"has {most + 1} bytes", f"to {most}"]
    if least:
        yield "x" * (least - 1), [f"has {least - 1} bytes", f"not {least} to"]


def wrong_list(member):
    yield [None] * (member["max"] + 1), [f"has {member['max'] + 1} entries", f"{member['max']} at most"]
    yield [[]], ["[0]: [] is not"]


def wrong_values(member):
    """Values of a member that the schema forbids, each with what the message must say of it."""
    right = KINDS.get(member["type"], "an object")
    yield None, [f": null is not {right}"]
    yield from {"integer": wrong_number, "string": wrong_string, "array": wrong_list}.get(member["type"], lambda _: ())(member)


def wrong_configs(name="config", path="", wrap=lambda value: value):
    """Every member of every object of a configuration made wrong: (configuration, what the message must say)."""
    def whole(key, value):
        return wrap({**VALID.get(name, {}), key: value})
    for key, member in OBJECTS[name]["members"].items():
        here = path + key
        if key in BY_WIRT:
            yield whole(key, {"integer": 3, "array": []}.get(member["type"], {})), [here, "set by wirt"]
            continue
        for value, texts in wrong_values(member):
            yield whole(key, value), [here, *texts]
        if member.get("of") in OBJECTS:
            yield from wrong_configs(member["of"], f"{here}[0].", lambda value, key=key: whole(key, [value]))
        elif member["type"] in OBJECTS:
            yield from wrong_configs(member["type"], f"{here}.", lambda value, key=key: whole(key, value))
    yield whole("no-such-member", 1), [f"{path}no-such-member", f"no such member in {name}"]


def configurations(folder):
    for number, (value, texts) in enumerate([*wrong_configs(), *RELATIONS]):
        path = os.path.join(folder, f"wrong-{number}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(value, file)
        yield ["--config", path], texts


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = [(["--net", f"user,forward=tcp:{port}:22"], ["--net user", f"127.0.0.1:{port}", "in use"])]
        for words, texts in FLAGS + ports + files(folder) + list(configurations(folder)):
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
