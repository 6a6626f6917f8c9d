#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What clients rely on by the byte, in raw HTTP and WebSocket; and the endpoints that clients use beside a VM's life."""
import base64
import http.client
import json
import os
import re
import socket
import struct
import time
import urllib.parse

from wirt_node import Node, Shell, busybox_args, fails, finish, proxmoxer_client, refused, unverified


class Raw:
    """Requests as they stand on the wire, with a token."""

    def __init__(self, node, token):
        self.node, self.token = node, token

    def ask(self, method, path, body=None, kind="application/x-www-form-urlencoded", **headers):
        connection = http.client.HTTPSConnection("127.0.0.1", self.node.port, context=unverified(), timeout=30)
        headers = {"Authorization": f"PVEAPIToken={self.token}", **({"Content-Type": kind} if body is not None else {}), **headers}
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer, json.loads(text) if text.startswith(b"{") else text


def test_heads(raw):
    answer, body = raw.ask("GET", "/api2/json/version")
    assert answer.version == 11 and answer.status == 200 and answer.reason == "OK"
    assert answer.getheader("Content-Type") == "application/json;charset=UTF-8" and answer.getheader("Server") == "pve-api-daemon/3.0"
    assert answer.getheader("Pragma") == "no-cache" and answer.getheader("Cache-Control") == "max-age=0"
    assert re.fullmatch(r"8\.\d+\.\d+", body["data"]["version"])
    plain = unverified()
    plain.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", raw.node.port)) as tcp, plain.wrap_socket(tcp) as tls:
        assert tls.selected_alpn_protocol() == "http/1.1"


def test_errors(raw):
    for method, path, body, status, reason in (
            ("GET", "/api2/json/nodes/testnode/qemu/999/config", None, 500,
             "Configuration file 'nodes/testnode/qemu-server/999.conf' does not exist"),
            ("GET", "/api2/json/cluster/nextid?vmid=100", None, 400, "Parameter verification failed."),
            ("PATCH", "/api2/json/version", None, 501, "Method 'PATCH /version' not implemented"),
            ("GET", "/api2/json/nothing", None, 501, "Method 'GET /nothing' not implemented"),
            ("GET", "/api2/xml/version", None, 501, "no such uri"),
            ("DELETE", "/api2/json/pools/x", "a=b", 501, None),
            ("POST", "/api2/json/nodes/testnode/qemu/100/status/umount", "", 501, None),
            ("PUT", "/api2/json/nodes/testnode/qemu/100/config", "vmid=101", 400, "Parameter verification failed.")):
        answer, answered = raw.ask(method, path, body)
        assert answer.status == status and (not reason or answer.reason == reason), (path, answer.status, answer.reason)
        assert answered["data"] is None and answered["message"], answered
    assert raw.ask("GET", "/api2/json/cluster/nextid?vmid=100")[1]["errors"]["vmid"] == "VM 100 already exists"
    answer, body = raw.ask("GET", "/api2/extjs/nodes/testnode/qemu/999/config")
    assert answer.status == 200 and body["success"] == 0 and body["status"] == 500 and "does not exist" in body["message"]


def test_parameters(raw):
    config = "/api2/json/nodes/testnode/qemu/100/config"
    for body, kind in (("vmid=100&node=testnode&description=a%2Bb+c&onboot=yes&_dc=1", "application/x-www-form-urlencoded"),
                       (json.dumps({"description": "a+b c", "onboot": True, "cores": 1}), "application/json")):
        assert raw.ask("PUT", config, body, kind)[1] == {"data": None}
        data = raw.ask("GET", config)[1]["data"]
        assert data["description"] == "a+b c" and data["onboot"] == 1, data
    for word, value in (("off", 0), ("on", 1), ("false", 0), ("true", 1), ("0", 0), ("1", 1)):
        raw.ask("PUT", config, f"onboot={word}")
        assert raw.ask("GET", config)[1]["data"]["onboot"] == value
    assert raw.ask("PUT", f"{config}?description=query", "description=body")[0].status == 200
    assert raw.ask("GET", config)[1]["data"]["description"] == "query"
    raw.ask("POST", "/api2/json/pools", "poolid=p")
    assert raw.ask("PUT", "/api2/json/pools/p", "vms=100")[0].status == 200
    assert raw.ask("PUT", "/api2/json/pools/p", "vms=100&delete=1")[0].status == 200
    raw.ask("DELETE", "/api2/json/pools/p")


def test_types(raw):
    assert isinstance(raw.ask("GET", "/api2/json/cluster/nextid")[1]["data"], str)
    (vm,) = raw.ask("GET", "/api2/json/cluster/resources?type=vm")[1]["data"]
    assert vm["vmid"] == 100 and vm["template"] == 0 and isinstance(vm["maxmem"], int) and isinstance(vm["cpu"], float), vm
    (row,) = raw.ask("GET", "/api2/json/nodes/testnode/qemu")[1]["data"]
    assert "template" not in row, row
    config = raw.ask("GET", "/api2/json/nodes/testnode/qemu/100/config")[1]["data"]
    assert isinstance(config["cores"], int) and isinstance(config["net0"], str) and isinstance(config["onboot"], int), config
    status = raw.ask("GET", "/api2/json/nodes/testnode/status")[1]["data"]
    assert all(isinstance(load, str) for load in status["loadavg"]) and status["memory"]["total"] > status["memory"]["used"], status
    entries = raw.ask("GET", "/api2/json/cluster/status")[1]["data"]
    assert [entry["type"] for entry in entries] == ["cluster", "node"], entries
    for path in ("/cluster/resources", "/nodes/testnode/qemu/100/status/current", "/nodes/testnode/storage/local/status"):
        assert b"null" not in json.dumps(raw.ask("GET", f"/api2/json{path}")[1]["data"]).encode(), path


class WebSocket:
    """As much of RFC 6455 as a console needs."""

    def __init__(self, node, path, **headers):
        self.socket = unverified().wrap_socket(socket.create_connection(("127.0.0.1", node.port), 60))
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}",
                 "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: binary", *(f"{name}: {value}" for name, value in headers.items())]
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            part = self.socket.recv(4096)
            if not part:
                break
            self.data += part
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        self.head = head.decode()

    def accepted(self):
        return self.head.startswith("HTTP/1.1 101 ") and "sec-websocket-protocol: binary" in self.head.lower()

    def send(self, data):
        mask = os.urandom(4)
        self.socket.sendall(struct.pack(">BB", 0x82, 0x80 | len(data)) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def need(self, count):
        while len(self.data) < count:
            part = self.socket.recv(65536)
            assert part, "the WebSocket ended"
            self.data += part
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def receive(self):
        length = self.need(2)[1] & 127
        if length > 125:
            length = struct.unpack(">H", self.need(2))[0] if length == 126 else struct.unpack(">Q", self.need(8))[0]
        return self.need(length)

    def wait_for(self, word):
        text = b""
        while word not in text:
            text += self.receive()
        return text


def test_console(node, vm, token):
    """Typed in the console, answered by the guest; the promise is good once, for its guest, for who has it or a right to it."""
    with Shell(node, 100) as shell:  # it is up
        shell.run("true")
    path = f"/api2/json/nodes/{node.name}/qemu/%d/vncwebsocket?port=%s&vncticket=%s"
    for headers in {}, {"Authorization": f"PVEAPIToken={token}"}:
        promise = vm.termproxy.post()
        ticket = urllib.parse.quote(promise["ticket"], safe="")
        assert not WebSocket(node, path % (101, promise["port"], ticket), **headers).accepted()
        assert not WebSocket(node, path % (100, promise["port"], "PVEVNC%3A0"), **headers).accepted()
        for origin in "https://elsewhere", "null", "https://x:1", "https://x.elsewhere":  # a page of somebody else
            assert not WebSocket(node, path % (100, promise["port"], ticket), Origin=origin, **headers).accepted(), origin
        console = WebSocket(node, path % (100, promise["port"], ticket), Origin="https://x", **headers)
        assert console.accepted(), console.head
        console.send(b"echo an''swer $((6 * 7))\n")
        console.wait_for(b"answer 42")
        console.socket.close()  # a machine's console is one person's at a time
        assert not WebSocket(node, path % (100, promise["port"], ticket), **headers).accepted()  # once
    promise = vm.termproxy.post()
    console = WebSocket(node, path % (100, promise["port"], urllib.parse.quote(promise["ticket"], safe="")))
    console.send(f"{promise['user']}:{promise['ticket']}\n".encode())  # as xterm.js speaks
    assert console.receive() == b"OK"
    typed = b"echo xt''erm\n"
    console.send(b"1:80:24:2")
    console.send(b"0:%d:%s" % (len(typed), typed))
    console.wait_for(b"xterm")


def test_beside(api, node, vm, raw):
    here = api.nodes(node.name)
    refused(lambda: vm.sendkey.put(key="ret"), "500", "no keyboard")
    assert vm.monitor.post(command="info status") == "VM status: running\r\n"
    refused(lambda: vm.monitor.post(command="quit"), "501")
    assert vm.migrate.get()["allowed_nodes"] == []
    refused(lambda: vm.migrate.post(target="elsewhere"), "400")
    refused(lambda: vm.migrate.post(target=node.name), "400")
    log = api.cluster.log.get(max=500)
    assert any(row["user"] == "root@wirt" and "POST /nodes/testnode/qemu" in row["msg"] for row in log), log
    node.owner("POST", "/access/users", {"userid": "ann@wirt", "password": "long enough"})
    ann = proxmoxer_client(node, user="ann@wirt", password="long enough")
    assert all(row["user"] == "ann@wirt" for row in ann.cluster.log.get())
    assert api.cluster.options.get()["mac_prefix"] == "BC:24:11"
    for owner, names in (here, {"cpu", "memused", "memtotal", "roottotal"}), (vm, {"cpu", "mem", "maxmem", "diskread", "netin"}), \
            (here.storage("local"), {"used", "total"}):
        deadline = time.monotonic() + 60
        while not names <= set(owner.rrddata.get(timeframe="hour")[-1]) and not names <= set(owner.rrddata.get(timeframe="hour")[-2]):
            assert time.monotonic() < deadline, owner.rrddata.get(timeframe="hour")[-2:]
        for frame in "hour", "day", "week", "month", "year":
            rows = owner.rrddata.get(timeframe=frame, cf="MAX")
            assert len(rows) == 70 and rows[0]["time"] < rows[-1]["time"] and names <= set(rows[-1]) | set(rows[-2]), rows[-2:]
    refused(lambda: vm.rrddata.get(timeframe="century"), "400")
    assert raw.ask("GET", "/api2/json/nodes/testnode/qemu/100/rrddata?timeframe=hour")[0].status == 200


def test_move(api, node, vm):
    """A disk goes to another datastore beneath the guest, and back while it is stopped."""
    folder = f"{node.folder}/more"
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    api.storage.post(storage="more", type="dir", path=folder, content="images")
    with Shell(node, 100) as shell:
        shell.run("echo before | dd of=/dev/vda bs=512 conv=sync 2>/dev/null; sync")
        finish(api, node, vm.move_disk.post(disk="virtio0", storage="more", delete=1))
        assert vm.config.get()["virtio0"] == "more:100/vm-100-disk-0.qcow2,size=64M", vm.config.get()
        assert shell.run("dd if=/dev/vda bs=6 count=1 2>/dev/null").endswith("before")
        shell.run("echo behind | dd of=/dev/vda bs=512 conv=sync 2>/dev/null; sync")
    assert api.nodes(node.name).storage("local").content.get() == []
    finish(api, node, vm.status.stop.post())
    finish(api, node, vm.move_disk.post(disk="virtio0", storage="local", format="raw"))
    config = vm.config.get()
    assert config["virtio0"] == "local:100/vm-100-disk-0.raw,size=64M" and config["unused0"] == "more:100/vm-100-disk-0.qcow2", config
    finish(api, node, vm.status.start.post())
    with Shell(node, 100) as shell:
        assert shell.run("dd if=/dev/vda bs=6 count=1 2>/dev/null").endswith("behind")
    fails(api, node, vm.move_disk.post(disk="virtio7", storage="local"), "does not exist")


def main():
    with Node() as node:
        api = proxmoxer_client(node)
        made = node.owner("POST", "/access/users/root@wirt/token/t", {"privsep": 0})
        token = f"{made['full-tokenid']}={made['value']}"
        raw = Raw(node, token)
        qemu = api.nodes(node.name).qemu
        finish(api, node, qemu.create(vmid=100, memory=128, cores=1, virtio0="local:0.0625", net0="virtio,bridge=vmbr0", args=busybox_args()))
        vm = qemu(100)
        test_heads(raw)
        test_errors(raw)
        test_parameters(raw)
        test_types(raw)
        finish(api, node, vm.status.start.post())
        test_console(node, vm, token)
        test_beside(api, node, vm, raw)
        test_move(api, node, vm)


main()
