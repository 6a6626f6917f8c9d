#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A machine that runs: disks and networks come and go, disks grow, snapshots are taken and dropped beneath it; what waits is shown as pending."""
import glob
import re
import select
import subprocess
import time

from wirt_node import Node, Shell, busybox_args, control, fails, finish, proxmoxer_client, refused


def sector(shell, disk):
    return shell.run(f"dd if=/dev/{disk} bs=16 count=1 2>/dev/null | tr -d '\\0'")


def write(shell, disk, text):
    shell.run(f"printf %-512s {text} | tr ' ' '\\0' | dd of=/dev/{disk} bs=512 count=1 conv=notrunc 2>/dev/null; sync")


def test_disks(api, node, vm, shell):
    finish(api, node, vm.config.post(virtio1="local:0.0625,serial=extra"))
    shell.wait("[ -b /dev/vdb ]")
    assert shell.run("cat /sys/block/vdb/size") == str(64 * 2048) and shell.run("cat /sys/block/vdb/serial") == "extra"
    assert [row for row in vm.pending.get() if "pending" in row or "delete" in row] == []
    finish(api, node, vm.resize.put(disk="virtio1", size="+64M"))
    shell.wait(f"[ $(cat /sys/block/vdb/size) = {128 * 2048} ]")
    assert "size=128M" in vm.config.get()["virtio1"]
    write(shell, "vdb", "kept")
    assert vm.unlink.put(idlist="virtio1") is None
    shell.wait("[ ! -e /dev/vdb ]")
    volume = vm.config.get()["unused0"]
    vm.config.put(virtio1=volume)
    shell.wait("[ -b /dev/vdb ]")
    assert sector(shell, "vdb") == "kept" and "unused0" not in vm.config.get()
    assert vm.unlink.put(idlist="virtio1", force=1) is None
    assert volume not in {row["volid"] for row in api.nodes(node.name).storage("local").content.get()}


def test_networks(node, vm, shell):
    before = shell.run("ls /sys/class/net")
    vm.config.put(net1="virtio=BC:24:11:00:00:02,bridge=vmbr0")
    shell.wait("grep -qi bc:24:11:00:00:02 /sys/class/net/*/address")
    vm.config.put(delete="net1")
    shell.wait("! grep -qi bc:24:11:00:00:02 /sys/class/net/*/address")
    assert shell.run("ls /sys/class/net") == before
    # The guest lets go of a card while nobody sees it: as when wirtd is killed in the midst of a change.
    vm.config.put(net1="virtio=BC:24:11:00:00:02,bridge=vmbr0")
    shell.wait("grep -qi bc:24:11:00:00:02 /sys/class/net/*/address")
    control(node, 100, "unplug", device="net1")
    shell.wait("! grep -qi bc:24:11:00:00:02 /sys/class/net/*/address")
    node.kill()
    node.start()
    assert [row["key"] for row in vm.pending.get() if "pending" in row] == ["net1"]
    vm.config.put(net1="virtio=BC:24:11:00:00:02,bridge=vmbr0")
    shell.wait("grep -qi bc:24:11:00:00:02 /sys/class/net/*/address")
    assert [row["key"] for row in vm.pending.get() if "pending" in row] == []
    vm.config.put(delete="net1")


def test_kept(vm, shell):
    """What a disk's text says beside the disk itself does not take it from the guest."""
    volume, number = vm.config.get()["virtio0"].partition(",")[0], shell.run("cat /sys/block/vda/diskseq")
    vm.config.put(virtio0=f"{volume},backup=0,cache=writeback")
    assert shell.run("cat /sys/block/vda/diskseq") == number and "backup=0" in vm.config.get()["virtio0"]
    assert [row for row in vm.pending.get() if "pending" in row] == []


def test_revert(api, node, vm):
    """What waits is taken back: a change, a key that came, a key that goes; not what the same request changes."""
    def waiting():
        return sorted(row["key"] for row in vm.pending.get() if "pending" in row or "delete" in row)

    before = vm.config.get()
    vm.config.put(cores=2, serial1="socket", delete="shares")
    assert waiting() == ["cores", "memory", "serial1", "shares"], waiting()
    vm.config.put(revert="cores")
    assert waiting() == ["memory", "serial1", "shares"], waiting()
    finish(api, node, vm.config.post(revert="shares,serial1,name", description="note"))
    assert waiting() == ["memory"], waiting()
    after = vm.config.get()
    assert after.pop("description") == "note" and {**after, "digest": 0} == {**before, "digest": 0}, after
    refused(lambda: vm.config.put(revert="memory", memory=200), "400", "Parameter verification")
    refused(lambda: vm.config.put(revert="memory", delete="memory"), "400", "Parameter verification")
    refused(lambda: vm.config.put(revert="nonsense"), "400", "Parameter verification")
    vm.config.put(revert="memory,memory")
    assert waiting() == [] and vm.config.get()["memory"] == 128
    vm.config.put(memory=160)
    node.owner("POST", "/access/users", {"userid": "mem@wirt", "password": "long enough"})
    node.owner("POST", "/access/roles", {"roleid": "Cpu", "privs": "VM.Audit,VM.Config.CPU"})
    node.owner("PUT", "/access/acl", {"path": "/vms/100", "users": "mem@wirt", "roles": "Cpu"})
    other = proxmoxer_client(node, user="mem@wirt", password="long enough").nodes(node.name).qemu(100)
    other.config.put(revert="cores")
    refused(lambda: other.config.put(revert="memory"), "403", "VM.Config.Memory")


def test_pending(api, node, vm):
    """Memory waits for the next start, a name does not."""
    vm.config.put(memory=160, name="other")
    rows = {row["key"]: row for row in vm.pending.get()}
    assert rows["memory"] == {"key": "memory", "value": 128, "pending": 160} and "pending" not in rows["name"], rows
    assert vm.config.get(current=1)["memory"] == 128 and vm.config.get()["memory"] == 160
    test_revert(api, node, vm)
    finish(api, node, vm.status.stop.post())
    assert {row["key"]: row for row in vm.pending.get()}["memory"] == {"key": "memory", "value": 160}
    finish(api, node, vm.status.start.post())
    with Shell(node, 100) as shell:
        assert int(shell.run("grep MemTotal /proc/meminfo").split()[1]) > 120 * 1024


def test_snapshots(api, node, vm):
    here = api.nodes(node.name)
    pid = vm.status.current.get()["pid"]
    with Shell(node, 100) as shell:
        for number in 1, 2, 3:
            write(shell, "vda", f"state{number}")
            finish(api, node, vm.snapshot.post(snapname=f"s{number}", description=f"number {number}"))
        write(shell, "vda", "now")
        assert vm.status.current.get()["pid"] == pid and vm.status.current.get()["qmpstatus"] == "running"
        assert [row["name"] for row in vm.snapshot.get()] == ["s1", "s2", "s3", "current"]
        # A clone of the second, made beside the running machine, starts with what was there then.
        finish(api, node, vm.clone.post(newid=200, snapname="s2", full=1))
        finish(api, node, here.qemu(200).status.start.post())
        with Shell(node, 200) as other:
            assert sector(other, "vda") == "state2"
        # The newest goes while the machine writes above it.
        finish(api, node, vm.snapshot("s3").delete())
        assert sector(shell, "vda") == "now"
        write(shell, "vda", "later")
    fails(api, node, vm.snapshot.post(snapname="s1"), "already used")
    finish(api, node, vm.snapshot("s1").rollback.post(start=1))
    with Shell(node, 100) as shell:
        assert sector(shell, "vda") == "state1"
        write(shell, "vda", "branch")
        finish(api, node, vm.snapshot("s2").delete())
        finish(api, node, vm.snapshot("s1").delete())
        assert sector(shell, "vda") == "branch"
    finish(api, node, vm.status.stop.post())
    finish(api, node, vm.snapshot.post(snapname="s4"))  # what could not go while it ran goes now
    finish(api, node, vm.snapshot("s4").delete())
    volumes = [row["volid"] for row in here.storage("local").content.get(vmid=100)]
    assert volumes == ["local:100/vm-100-disk-0.qcow2"], volumes
    finish(api, node, vm.status.start.post())
    with Shell(node, 100) as shell:
        assert sector(shell, "vda") == "branch"


def test_killed(api, node, vm):
    """wirtd killed while it takes snapshots: the machine goes on, and none is half taken."""
    with Shell(node, 100) as shell:
        for number in range(6):
            write(shell, "vda", f"round{number}")
            upid = vm.snapshot.post(snapname=f"k{number}")
            node.kill()
            node.start()
            assert api.nodes(node.name).tasks(upid).status.get()["status"] == "stopped"
            assert "lock" not in vm.config.get()
            assert sector(shell, "vda") == f"round{number}"
    finish(api, node, vm.status.stop.post())
    for row in vm.snapshot.get()[:-1]:
        finish(api, node, vm.snapshot(row["name"]).delete())
    finish(api, node, vm.status.start.post())
    with Shell(node, 100) as shell:
        assert sector(shell, "vda") == "round5"


def test_options(api, node):
    """Options that have an effect, by running: at the start, and changed while it runs; those that have none are told."""
    qemu = api.nodes(node.name).qemu
    finish(api, node, qemu.create(vmid=210, memory=128, balloon=96, cores=2, sockets=2, vcpus=2, kvm=0, reboot=0, protection=1, hotplug="network", cpu="kvm64",
                                  virtio0="local:0.0625,iops=10", net0="virtio,bridge=vmbr0,tag=7", args=busybox_args()))
    vm = qemu(210)
    finish(api, node, vm.move_disk.post(disk="virtio0", storage="local", delete=1))  # it never ran yet
    log = finish(api, node, vm.status.start.post())
    told = re.search("without effect here: (.*)", log).group(1).split(", ")
    assert set(told) == {"cpu", "net0 tag"} and "by engine" in log, log
    volume = vm.config.get()["virtio0"].partition(",")[0]
    refused(lambda: vm.config.put(virtio0=f"{volume},iops=many"), "400", "iops")
    refused(lambda: vm.config.put(delete="virtio0"), "500", "hot plug of disks is off")
    with Shell(node, 210) as shell:
        assert shell.run("nproc") == "2"
        shell.run("modprobe virtio_balloon")
        for balloon, kept in (96, 96), (64, 64), (0, 128):
            vm.config.put(balloon=balloon)
            wait_for(lambda kept=kept: control(node, 210, "statistics")["balloon"]["actual"] == kept << 20)
        seconds = timed_reads(shell)
        assert seconds >= 2, seconds  # 30 requests, ten a second
        vm.config.put(virtio0=volume)
        assert timed_reads(shell) < seconds / 2
        vm.config.put(virtio1="local:0.0625")
        assert [row["key"] for row in vm.pending.get() if "pending" in row] == ["virtio1"], "disks are not plugged in"
        shell.socket.sendall(b"reboot -f\n")
        wait_for(lambda: vm.status.current.get()["status"] == "stopped")
    refused(lambda: vm.config.put(delete="virtio1"), "500", "protection mode enabled")
    fails(api, node, vm.delete(), "protection mode enabled")
    vm.config.put(protection=0)
    finish(api, node, vm.delete())


def wait_for(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.05)


def timed_reads(shell):
    return float(shell.run("read a _ </proc/uptime; dd if=/dev/vda of=/dev/null bs=4k count=30 iflag=direct 2>/dev/null; read b _ </proc/uptime; "
                           "echo $a $b | awk '{ print $2 - $1 }'"))


# It fills the file system on a disk and says on another how far it is: after each file, which is on the disk by then.
WRITER = ("{ (i=0; while :; do i=$((i + 1)); seq $i $((i + 900)) | dd of=/mnt/f$i bs=64k conv=fsync 2>/dev/null; rm -f /mnt/f$((i - 40)); "
          "printf '%-511s\\n' $i | dd of=/dev/vdc bs=512 count=1 conv=notrunc,fsync 2>/dev/null; done) & }")


def file_system(folder):
    path = f"{folder}/work.raw"
    with open(path, "wb") as file:
        file.truncate(48 << 20)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", path], check=True)
    return path


def wait_copying(node, vmid, copies):
    deadline = time.monotonic() + 120
    while any(job["state"] in ("running", "completing") for job in control(node, vmid, "jobs")["jobs"]) != copies:
        assert time.monotonic() < deadline, control(node, vmid, "jobs")
        select.select([], [], [], 0.05)


def check_instant(told, names):
    there = {int(name[1:]) for name in names if re.fullmatch(r"f\d+", name)}
    assert told >= 50 and told in there and max(there) <= told + 1 and min(there) >= told - 40, (told, sorted(there))


def check_as_guest(node, vmid):
    """The clone's two disks are of one instant, as its guest finds them."""
    with Shell(node, vmid) as shell:
        assert "mounted" in shell.run("mkdir -p /mnt; mount -t ext4 /dev/vdb /mnt && echo mounted"), shell.run("dmesg | tail")
        told = int(shell.run("head -c 512 /dev/vdc"))
        check_instant(told, shell.run("ls /mnt").split())
        assert shell.run(f"seq {told} {told + 900} | cmp - /mnt/f{told} && echo equal") == "equal"
        shell.run("umount /mnt")


def check_from_outside(node, config):
    """The same of raw volumes; the file system is sound, too."""
    files, state = ([f"{node.state}/storage/local/images/{config[key].partition(',')[0].partition(':')[2]}" for key in ("virtio2", "virtio3")])
    with open(state, "rb") as file:
        told = int(file.read(512))
    assert subprocess.run(["/sbin/e2fsck", "-p", files], stdout=subprocess.DEVNULL, check=False).returncode in (0, 1)  # 1: the journal was replayed
    subprocess.run(["/sbin/e2fsck", "-fn", files], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    listed = subprocess.run(["/sbin/debugfs", "-R", "ls -p /", files], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
    check_instant(told, [line.split("/")[5] for line in listed.splitlines() if line.count("/") > 5])


def test_clone(api, node, vm):
    """A machine that writes all the time, cloned as it is: the clone has both disks of one instant. Cancelled and killed in the midst: nothing is left."""
    qemu = api.nodes(node.name).qemu
    node.owner("PUT", f"/nodes/{node.name}/qemu/100/config", {"virtio2": f"local:0,import-from={file_system(node.folder)}", "virtio3": "local:0.015625,format=raw"})
    volumes = {row["volid"] for row in api.nodes(node.name).storage("local").content.get()}
    with Shell(node, 100) as shell:
        shell.wait("[ -b /dev/vdc ]")
        assert "mounted" in shell.run("mkdir -p /mnt; mount -t ext4 /dev/vdb /mnt && echo mounted")
        shell.run(WRITER)
        shell.wait("[ -e /mnt/f51 ]")
        vm.config.put(memory=192)  # pending: not what runs
        log = finish(api, node, vm.clone.post(newid=301, full=1, name="copy"))
        assert "create full clone of drive virtio3" in log, log
        old, new = vm.config.get(), qemu(301).config.get()
        assert new["name"] == "copy" and new["memory"] == 160 and old["net0"] != new["net0"] and "running" not in new, new
        assert all(new[key].startswith("local:301/vm-301-disk-") for key in ("virtio0", "virtio2", "virtio3")), new
        finish(api, node, qemu(301).status.start.post())
        check_as_guest(node, 301)
        finish(api, node, qemu(301).status.stop.post())
        finish(api, node, qemu(301).delete())
        # Cancelled, and killed. At this rate it would take minutes.
        upid = vm.clone.post(newid=302, full=1, bwlimit=64)
        wait_copying(node, 100, True)
        api.nodes(node.name).tasks(upid).delete()
        fails(api, node, upid, "")
        upid = vm.clone.post(newid=303, full=1, bwlimit=64)
        wait_copying(node, 100, True)
        node.kill()
        node.start()
        assert api.nodes(node.name).tasks(upid).status.get()["status"] == "stopped"
        wait_copying(node, 100, False)
        assert {row["vmid"] for row in qemu.get()} == {100, 200} and "lock" not in vm.config.get()
        assert {row["volid"] for row in api.nodes(node.name).storage("local").content.get()} == volumes
        for vmid in 302, 303:
            assert glob.glob(f"{node.state}/storage/local/images/{vmid}/*") == []
    finish(api, node, vm.clone.post(newid=303, full=1, format="raw"))
    check_from_outside(node, qemu(303).config.get())
    finish(api, node, qemu(303).delete())


def main():
    with Node() as node:
        api = proxmoxer_client(node)
        qemu = api.nodes(node.name).qemu
        finish(api, node, qemu.create(vmid=100, name="web", memory=128, shares=500, virtio0="local:0.0625", net0="virtio,bridge=vmbr0", args=busybox_args()))
        vm = qemu(100)
        finish(api, node, vm.status.start.post())
        with Shell(node, 100) as shell:
            test_disks(api, node, vm, shell)
            test_networks(node, vm, shell)
            test_kept(vm, shell)
            refused(lambda: vm.config.put(virtio2="local:100/none.qcow2"), "500", "does not exist")
        test_pending(api, node, vm)
        test_snapshots(api, node, vm)
        test_killed(api, node, vm)
        test_clone(api, node, vm)
        test_options(api, node)
        for vmid in 100, 200:
            finish(api, node, qemu(vmid).status.stop.post())
            finish(api, node, qemu(vmid).delete())
        assert api.nodes(node.name).storage("local").content.get() == []


main()
