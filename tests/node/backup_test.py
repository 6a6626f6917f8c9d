#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Backups of VMs, stopped and running, and what comes back of them; strangers' and broken ones; pruning; a daemon killed in between."""
import concurrent.futures
import glob
import os
import random
import select
import shutil
import subprocess
import time

from wirt_node import Node, busybox_args, control, fails, finish, named, proxmoxer_client, refused

MIB = 1 << 20


def fill(path, seed, size=24 * MIB):
    """A raw image, half of it zeros, half of what cannot be compressed."""
    source = random.Random(seed)
    with open(path, "wb") as file:
        for at in range(0, size, 2 * MIB):
            file.seek(at)
            file.write(source.randbytes(MIB))
        file.truncate(size)


def same(node, image, volid):
    path = f"{node.state}/storage/local/images/{volid.partition(':')[2].partition(',')[0]}"
    subprocess.run(["qemu-img", "compare", "-U", image, path], check=True, stdout=subprocess.DEVNULL)


def backups(api, node):
    return sorted(row["volid"] for row in api.nodes(node.name).storage("local").content.get(content="backup"))


def test_stopped(api, node, image):
    here = api.nodes(node.name)
    finish(api, node, node.owner("POST", f"/nodes/{node.name}/qemu", {
        "vmid": 100, "name": "web", "memory": 128, "virtio0": f"local:0,import-from={image}", "scsi3": "local:0.125,format=raw",
        "ide2": "local:cloudinit", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "args": busybox_args(), "ciuser": "ann"}))
    finish(api, node, here.vzdump.post(vmid=100, storage="local", compress="zstd", **{"notes-template": "{{guestname}} {{vmid}}"}))
    (row,) = here.storage("local").content.get(content="backup")
    assert row["vmid"] == 100 and row["notes"] == "web 100" and 12 * MIB < row["size"] < 13 * MIB, row
    assert "virtio0: local:100/vm-100-disk-0.qcow2" in here.vzdump.extractconfig.get(volume=row["volid"])
    finish(api, node, here.qemu.create(vmid=101, archive=row["volid"], unique=1, name="copy"))
    old, new = here.qemu(100).config.get(), here.qemu(101).config.get()
    assert new["virtio0"] == "local:101/vm-101-disk-0.qcow2,size=24M" and new["scsi3"] == "local:101/vm-101-disk-0.raw,size=128M", new
    assert new["name"] == "copy" and new["args"] == old["args"] and new["net0"] != old["net0"], new
    assert new["ide2"] == "local:101/vm-101-cloudinit.raw,media=cdrom,size=4M" and new["ciuser"] == "ann"
    same(node, image, new["virtio0"])
    return row["volid"]


def test_replace(api, node, volid, other):
    """Over a VM that is there: only when told, never while it runs; afterwards its old volumes are gone."""
    here = api.nodes(node.name)
    finish(api, node, here.qemu(101).config.post(delete="virtio0"))
    finish(api, node, node.owner("POST", f"/nodes/{node.name}/qemu/101/config", {"virtio1": f"local:0,import-from={other}"}))
    refused(lambda: here.qemu.create(vmid=101, archive=volid), "400")
    finish(api, node, here.qemu(101).status.start.post())
    fails(api, node, here.qemu.create(vmid=101, archive=volid, force=1), "VM is running")
    finish(api, node, here.qemu(101).status.stop.post())
    finish(api, node, here.qemu.create(vmid=101, archive=volid, force=1))
    config = here.qemu(101).config.get()
    assert "virtio1" not in config and "unused0" not in config and config["name"] == "web", config
    owned = {row["volid"] for row in here.storage("local").content.get(vmid=101, content="images")}
    named_now = {config[key].partition(",")[0] for key in ("virtio0", "scsi3", "ide2")}
    assert owned == named_now, (owned, named_now)


def test_running(api, node, image):
    """The copy is made beside the guest, which goes on; a second backup waits for none."""
    here = api.nodes(node.name)
    finish(api, node, here.qemu(100).status.start.post())
    pid = here.qemu(100).status.current.get()["pid"]
    log = finish(api, node, here.vzdump.post(vmid="100", mode="snapshot"))
    status = here.qemu(100).status.current.get()
    assert status["qmpstatus"] == "running" and status["pid"] == pid, (status, log)
    newest = max(here.storage("local").content.get(content="backup"), key=lambda row: row["volid"])
    finish(api, node, here.qemu.create(vmid=102, archive=newest["volid"]))
    same(node, image, here.qemu(102).config.get()["virtio0"])
    assert os.listdir(f"{node.state}/storage/local/.incoming") == []
    finish(api, node, here.qemu(102).delete())


def wait_copying(node, copies):
    deadline = time.monotonic() + 60  # at its rate the copy would take minutes
    while any(job["state"] in ("running", "completing", "ready") for job in control(node, 100, "jobs")["jobs"]) != copies:
        assert time.monotonic() < deadline, control(node, 100, "jobs")
        select.select([], [], [], 0.1)


def test_killed(api, node, image):
    """wirtd killed in the midst of a backup and of a restore: nothing half stays, and both can be done again."""
    here = api.nodes(node.name)
    before = backups(api, node)
    for begin in (lambda: here.vzdump.post(vmid=100, bwlimit=128), lambda: here.qemu.create(vmid=103, archive=before[0])):
        upid = begin()
        wait_copying(node, ":vzdump:" in upid)
        node.kill()
        node.start()
        status = here.tasks(upid).status.get()
        assert status["status"] == "stopped", status
        left = set(backups(api, node)) - set(before)
        assert os.listdir(f"{node.state}/storage/local/.incoming") == []
        for volid in left:  # it was done before it was killed: then it is whole
            finish(api, node, here.qemu.create(vmid=104, archive=volid))
            same(node, image, here.qemu(104).config.get()["virtio0"])
            finish(api, node, here.qemu(104).delete())
            finish(api, node, here.storage("local").content(volid).delete())
        wait_copying(node, False)  # the machine copies for nobody
        vmids = {row["vmid"] for row in here.qemu.get()}
        if 103 in vmids:
            same(node, image, here.qemu(103).config.get()["virtio0"])
            finish(api, node, here.qemu(103).delete())
        assert not glob.glob(f"{node.state}/storage/local/images/103/*")
    assert here.qemu(100).status.current.get()["status"] == "running"
    finish(api, node, here.vzdump.post(vmid=100))
    finish(api, node, here.qemu(100).status.stop.post())


def test_broken(api, node, volid):
    """Cut, changed and foreign files are refused, and leave nothing."""
    here = api.nodes(node.name)
    with open(f"{node.state}/storage/local/dump/{volid.partition('/')[2]}", "rb") as file:
        good = file.read()
    changed = bytearray(good)
    changed[len(good) // 2] ^= 1
    for number, data in enumerate((good[:-1], good[:len(good) // 2], good[:100], bytes(changed), b"", b"x" * 1000)):
        name = f"vzdump-qemu-100-2020_01_01-00_00_0{number}.wirt.zst"
        finish(api, node, here.storage("local").upload.post(content="backup", filename=named(name, data)))
        fails(api, node, here.qemu.create(vmid=105, archive=f"local:backup/{name}"), "broken")
        finish(api, node, here.storage("local").content(f"local:backup/{name}").delete())
    assert 105 not in {row["vmid"] for row in here.qemu.get()} and not glob.glob(f"{node.state}/storage/local/images/105/*")


def test_rights(api, node, volid):
    """A backup's words bind nobody who may not say them: `args` of a stranger's restore are left out."""
    here = api.nodes(node.name)
    node.owner("POST", "/access/users", {"userid": "ann@wirt", "password": "long enough"})
    ann = proxmoxer_client(node, user="ann@wirt", password="long enough").nodes(node.name)
    node.owner("PUT", "/access/acl", {"path": "/vms/300", "users": "ann@wirt", "roles": "PVEVMAdmin"})
    refused(lambda: ann.qemu.create(vmid=300, archive=volid), "403", "/storage/local")
    node.owner("PUT", "/access/acl", {"path": "/storage/local", "users": "ann@wirt", "roles": "PVEDatastoreUser"})
    refused(lambda: ann.qemu.create(vmid=300, archive=volid), "403")
    refused(lambda: ann.vzdump.post(vmid=100), "403", "/vms/100", "VM.Backup")
    node.owner("PUT", "/access/acl", {"path": "/vms/100", "users": "ann@wirt", "roles": "PVEVMAdmin"})
    finish(api, node, ann.qemu.create(vmid=300, archive=volid))
    config = here.qemu(300).config.get()
    assert "args" not in config and config["memory"] == 128, config
    finish(api, node, here.qemu(300).delete())
    return ann


def test_slow_file(api, node, ann):
    """While a stranger's backup is looked into, however long its file takes, the node answers others."""
    name = f"{node.state}/storage/local/dump/vzdump-qemu-100-2021_01_01-00_00_00.wirt.zst"
    os.mkfifo(name)
    node.owner("PUT", "/access/acl", {"path": "/vms/300", "users": "ann@wirt", "roles": "PVEVMAdmin"})
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        created = pool.submit(ann.qemu.create, vmid=300, archive=f"local:backup/{os.path.basename(name)}")
        for _ in range(50):
            assert api.version.get()["version"]
        assert not created.done()
        with open(name, "r+b", buffering=0):  # and what waits for somebody who writes goes on
            fails(api, node, created.result(), "cannot be read")
    os.unlink(name)


def test_prune(api, node, volid):
    here = api.nodes(node.name)
    store = here.storage("local")
    folder = f"{node.state}/storage/local/dump"
    for day in range(1, 6):
        path = f"{folder}/vzdump-qemu-200-2020_01_0{day}-00_00_00.wirt.zst"
        shutil.copy(f"{folder}/{volid.partition('/')[2]}", path)
        os.chmod(path, 0o666)
        os.utime(path, (1577836800 + 86400 * day,) * 2)
    name = "local:backup/vzdump-qemu-200-2020_01_0%d-00_00_00.wirt.zst"
    assert store.content(name % 1).put(protected=1, notes="keep me") is None
    marks = {row["volid"][-27:-18]: row["mark"] for row in store.prunebackups.get(vmid=200, **{"prune-backups": "keep-last=1,keep-daily=2"})}
    assert sorted(marks.values()) == ["keep", "keep", "keep", "protected", "remove"], marks
    finish(api, node, store.prunebackups.delete(vmid=200, **{"prune-backups": "keep-last=1"}))
    left = [row for row in store.content.get(content="backup", vmid=200)]
    assert {row["volid"] for row in left} == {name % 1, name % 5}, left
    fails(api, node, store.content(name % 1).delete(), "protected")
    store.content(name % 1).put(protected=0)
    finish(api, node, store.content(name % 1).delete())
    bare = api.cluster("backup-info")("not-backed-up").get()
    assert [row["vmid"] for row in bare] == [101], bare


def test_bulk(api, node):
    """One task for many, with a list of results; one that fails does not keep the others."""
    here = api.nodes(node.name)
    finish(api, node, here.startall.post(vms="100,101", force=1))
    finish(api, node, here.qemu(101).status.stop.post())
    upid = here.suspendall.post()
    finish(api, node, upid)
    assert {"vmid": 100, "status": "OK"} in here.tasks(upid).status.get()["result"]
    assert here.qemu(100).status.current.get()["qmpstatus"] == "paused"
    finish(api, node, here.stopall.post(timeout=1))
    assert {row["status"] for row in here.qemu.get()} == {"stopped"}
    here.qemu(100).config.put(args="-kernel /nonexistent")
    upid = here.startall.post(vms="100,101", force=1)
    fails(api, node, upid, "1 of 2 guests failed")
    results = {row["vmid"]: row["status"] for row in here.tasks(upid).status.get()["result"]}
    assert results[101] == "OK" and "nonexistent" in results[100], results
    finish(api, node, here.qemu(101).status.stop.post())
    refused(lambda: here.suspendall.post(vms="999"), "does not exist")


def main():
    with Node() as node:
        api = proxmoxer_client(node)
        image, other = f"{node.folder}/image.raw", f"{node.folder}/other.raw"
        fill(image, 1)
        fill(other, 2, 4 * MIB)
        volid = test_stopped(api, node, image)
        test_replace(api, node, volid, other)
        test_running(api, node, image)
        test_killed(api, node, image)
        test_broken(api, node, volid)
        ann = test_rights(api, node, volid)
        test_slow_file(api, node, ann)
        test_prune(api, node, volid)
        test_bulk(api, node)


main()
