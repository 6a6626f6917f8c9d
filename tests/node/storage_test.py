#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Datastores: files come by upload and from the net, whole or not at all; disks are made of them; what is in use stays."""
import hashlib
import http.client
import http.server
import os
import ssl
import subprocess
import threading

from wirt_node import Node, fails, finish, named, proxmoxer_client, refused

BYTES = b"wirt" * 300000 + b"\r\n--not the boundary\r\n" + bytes(range(256)) * 100


def test_upload(api, node):
    store = api.nodes(node.name).storage("local")
    good, path = hashlib.sha256(BYTES).hexdigest(), f"{node.state}/storage/local/template/iso/a.iso"
    finish(api, node, store.upload.post(content="iso", filename=named("a.iso", BYTES), checksum=good, **{"checksum-algorithm": "sha256"}))
    with open(path, "rb") as file:
        assert file.read() == BYTES
    fails(api, node, store.upload.post(content="iso", filename=named("a.iso", b"other"), checksum=good, **{"checksum-algorithm": "sha256"}),
         "checksum mismatch")
    assert os.path.getsize(path) == len(BYTES)  # what was there stays
    finish(api, node, store.upload.post(content="snippets", filename=named("user.yaml", b"#cloud-config\n")))
    for name in ".hidden.iso", "a.exe", "a b.iso":
        refused(lambda name=name: store.upload.post(content="iso", filename=named(name, b"x")), "400")
    assert os.listdir(f"{node.state}/storage/local/.incoming") == []
    rows = {row["volid"]: row for row in store.content.get()}
    assert rows["local:iso/a.iso"]["size"] == len(BYTES) and rows["local:snippets/user.yaml"]["content"] == "snippets", rows
    assert [row["volid"] for row in store.content.get(content="iso")] == ["local:iso/a.iso"]
    status = store.status.get()
    assert status["active"] == 1 and status["total"] >= status["used"] > 0 and status["avail"] > 0, status


def send(node, body, length=None, **headers):
    """A raw upload: status and reason. What is refused by its head is refused before the body is sent."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", node.port, context=context, timeout=30)
    connection.putrequest("POST", f"/api2/json/nodes/{node.name}/storage/local/upload")
    connection.putheader("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.reason


def test_bad_uploads(node, token):
    form = "multipart/form-data; boundary=xyz"
    part = b'--xyz\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    content, file = part % (b"content", b"", b"iso"), part % (b"filename", b'; filename="b.iso"', b"data")
    good = content + file + b"--xyz--\r\n"
    assert send(node, b"", 1 << 40, Content_Type=form)[0] == 401  # nothing is kept of what nobody sends
    assert send(node, b"", 1 << 60, Content_Type=form, Authorization=token)[0] == 500  # no room
    assert send(node, good, Content_Type="multipart/form-data", Authorization=token)[0] == 400
    assert send(node, content + file, Content_Type=form, Authorization=token)[0] == 400  # ends too early
    assert send(node, content + file + file + b"--xyz--\r\n", Content_Type=form, Authorization=token)[0] == 400
    assert send(node, content + b"--xyz--\r\n", Content_Type=form, Authorization=token)[0] == 400
    assert send(node, part % (b"x", b"", b"y" * 100000) + b"--xyz--", Content_Type=form, Authorization=token)[0] == 400
    outside = content + part % (b"filename", b'; filename="../b.iso"', b"data") + b"--xyz--\r\n"
    assert send(node, outside, Content_Type=form, Authorization=token)[0] == 400
    assert send(node, good, Content_Type=form, Authorization=token)[0] == 200
    assert not [name for name in os.listdir(f"{node.state}/storage/local/.incoming") if not name.endswith(".task")]


class Site(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200 if self.path == "/b.iso" else 404)
        self.send_header("Content-Type", "application/x-iso")
        self.send_header("Content-Length", str(len(BYTES)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        if self.path == "/b.iso":
            self.wfile.write(BYTES)

    def log_message(self, *_):
        pass


def test_download(api, node):
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{site.server_port}/b.iso"
    facts = api.nodes(node.name)("query-url-metadata").get(url=url)
    assert facts == {"filename": "b.iso", "size": len(BYTES), "mimetype": "application/x-iso"}, facts
    fetch = api.nodes(node.name).storage("local")("download-url")
    sums = {"checksum": hashlib.md5(BYTES).hexdigest(), "checksum-algorithm": "md5"}
    finish(api, node, fetch.post(url=url, content="iso", filename="c.iso", **sums))
    fails(api, node, fetch.post(url=url, content="iso", filename="d.iso", checksum="00", **{"checksum-algorithm": "md5"}), "mismatch")
    fails(api, node, fetch.post(url=url + "x", content="iso", filename="d.iso"), "404")
    refused(lambda: fetch.post(url="file:///etc/passwd", content="iso", filename="d.iso"), "400")
    names = [row["volid"] for row in api.nodes(node.name).storage("local").content.get(content="iso")]
    assert "local:iso/c.iso" in names and "local:iso/d.iso" not in names, names
    site.shutdown()


def test_import(api, node):
    """A disk of an uploaded image, and of a file of the node's for root; an image that names others is refused."""
    image, outer = f"{node.folder}/image.qcow2", f"{node.folder}/outer.qcow2"
    raw = f"{node.folder}/image.raw"
    with open(raw, "wb") as file:
        file.write(BYTES.ljust(4 << 20, b"\0"))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, image], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", outer], check=True)
    store = api.nodes(node.name).storage("local")
    for path in image, outer:
        with open(path, "rb") as file:
            finish(api, node, store.upload.post(content="import", filename=file))
    qemu = api.nodes(node.name).qemu
    finish(api, node, qemu.create(vmid=100, virtio0="local:0,import-from=local:import/image.qcow2", ide2="local:iso/a.iso,media=cdrom"))
    refused(lambda: qemu(100).config.put(scsi1=f"local:0,import-from={raw}"), "403", "must be root")
    node.owner("PUT", f"/nodes/{node.name}/qemu/100/config", {"scsi1": f"local:0,import-from={raw},format=raw"})
    config = qemu(100).config.get()
    assert config["virtio0"] == "local:100/vm-100-disk-0.qcow2,size=4M" and config["scsi1"] == "local:100/vm-100-disk-0.raw,size=4M", config
    subprocess.run(["qemu-img", "compare", raw, f"{node.state}/storage/local/images/100/vm-100-disk-0.qcow2"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["qemu-img", "compare", raw, f"{node.state}/storage/local/images/100/vm-100-disk-0.raw"], check=True, stdout=subprocess.DEVNULL)
    fails(api, node, qemu.create(vmid=101, virtio0="local:0,import-from=local:import/outer.qcow2"), "backing file")
    assert [row["vmid"] for row in qemu.get()] == [100]
    # In use: neither removed nor replaced.
    refused(lambda: store.content("local:iso/a.iso").delete(), "in use")
    refused(lambda: store.content("local:100/vm-100-disk-0.qcow2").delete(), "in use")
    refused(lambda: store.upload.post(content="iso", filename=named("a.iso", b"x")), "in use")
    finish(api, node, qemu(100).delete())
    finish(api, node, store.content("local:iso/a.iso").delete())
    assert not os.path.exists(f"{node.state}/storage/local/template/iso/a.iso")


def test_permissions(api, node):
    """Whose file it is decides who may import it: a user with a place for disks is not root."""
    node.owner("POST", "/access/users", {"userid": "ann@wirt", "password": "long enough"})
    for path, role in ("/vms/300", "PVEVMAdmin"), ("/storage/local", "PVEDatastoreUser"):
        node.owner("PUT", "/access/acl", {"path": path, "users": "ann@wirt", "roles": role})
    ann = proxmoxer_client(node, user="ann@wirt", password="long enough")
    refused(lambda: ann.nodes(node.name).qemu.create(vmid=300, virtio0="local:0,import-from=/etc/passwd"), "403", "root")
    refused(lambda: ann.nodes(node.name).qemu.create(vmid=300, virtio0="local:0,import-from=local:100/vm-100-disk-0.qcow2"), "403", "/vms/100", "VM.Clone")
    refused(lambda: ann.nodes(node.name).storage("local").upload.post(content="iso", filename=named("a.iso", b"x")), "403", "Datastore.AllocateTemplate")
    finish(api, node, ann.nodes(node.name).qemu.create(vmid=300, virtio0="local:0,import-from=local:import/image.qcow2"))


def test_datastores(api, node):
    folder = f"{node.folder}/more"
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    assert api.storage.post(storage="more", type="dir", path=folder, content="images,backup") == {"storage": "more", "type": "dir"}
    refused(lambda: api.storage.post(storage="more", type="dir", path=folder), "already defined")
    refused(lambda: api.storage.post(storage="other", type="dir", path="relative"), "absolute")
    refused(lambda: api.storage.post(storage="other", type="dir", path=folder, content="colours"), "colours")
    api.storage("more").put(content="images", comment="spare")
    assert api.storage("more").get()["content"] == "images" and api.storage("more").get()["comment"] == "spare"
    refused(lambda: api.nodes(node.name).storage("more").upload.post(content="backup", filename=named("a.wirt.zst", b"x")), "400")
    finish(api, node, api.nodes(node.name).qemu.create(vmid=100, virtio0="more:0.125"))
    refused(lambda: api.storage("more").delete(), "in use")
    finish(api, node, api.nodes(node.name).qemu(100).delete())
    assert api.storage("more").delete() is None
    assert [row["storage"] for row in api.storage.get()] == ["local"]


def main():
    with Node() as node:
        api = proxmoxer_client(node)
        made = node.owner("POST", "/access/users/root@wirt/token/t", {"privsep": 0})
        test_upload(api, node)
        test_bad_uploads(node, f"PVEAPIToken={made['full-tokenid']}={made['value']}")
        test_download(api, node)
        test_import(api, node)
        test_permissions(api, node)
        test_datastores(api, node)


main()
