#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""disk_interop_test.py WIRT [SEED]: images of qemu-img read by wirt, images of wirt read by qemu-img.

Over cluster sizes, versions, refcount widths, compression, backing files and preallocation: the contents must be equal
and `qemu-img check` must find nothing. Then each command of `wirt disk` that changes an image, and the locks against a
running qemu-nbd, both ways. Skipped (77) where qemu-img is missing.
"""
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

WIRT = os.path.abspath(sys.argv[1])
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
MIB = 1 << 20


def run(*words, status=0):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != status:
        sys.exit(f"seed {SEED}: {' '.join(words)}: status {done.returncode}, not {status}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def wirt(*words, status=0):
    return run(WIRT, "disk", *words, status=status)


def qemu(*words, status=0):
    return run("qemu-img", *words, status=status)


def content(size):
    """Bytes with data, zeros and repetitions, sparse as a disk is."""
    parts, left = [], size
    while left:
        n = min(left, random.choice([512, 4096, 30000, 65536, 300000]))
        kind = random.randrange(4)
        parts.append(bytes(n) if kind < 2 else random.randbytes(n) if kind == 2 else bytes([random.randrange(256)]) * n)
        left -= n
    return b"".join(parts)


def write_raw(path, data):
    with open(path, "wb") as file:
        for at in range(0, len(data), 4096):
            piece = data[at:at + 4096]
            if piece.strip(b"\0"):
                file.seek(at)
                file.write(piece)
        file.truncate(len(data))


def shapes():
    """Options of a qcow2 image as (wirt's flags, qemu-img's -o, is it compressed?)."""
    for cluster in (512, 1024, 4096, 16384, 65536, 524288, 2097152):
        for version in (2, 3):
            for compress in (False, True):
                flags = ["--cluster-size", str(cluster), "--version", str(version)]
                options = f"cluster_size={cluster},compat={'0.10' if version == 2 else '1.1'}"
                if version == 3:
                    bits = random.choice([1, 2, 4, 8, 16, 32, 64])
                    kind = random.choice(["zlib", "zstd"])
                    lazy = random.choice([False, True])
                    flags += ["--refcount-bits", str(bits), "--compression", kind] + ["--lazy-refcounts"] * lazy
                    options += f",refcount_bits={bits},compression_type={kind},lazy_refcounts={'on' if lazy else 'off'}"
                yield flags, options, compress


def both_ways():
    count = 0
    for flags, options, compress in shapes():
        data = content(random.randrange(1, 4 * MIB // 512) * 512)
        write_raw("want.raw", data)
        wirt("convert", "want.raw", "w.qcow2", "--force", *flags, *["--compress"] * compress)
        qemu("check", "-q", "w.qcow2")
        qemu("compare", "-q", "-f", "raw", "-F", "qcow2", "want.raw", "w.qcow2")
        wirt("check", "w.qcow2")
        qemu("convert", "-f", "raw", "-O", "qcow2", "-o", options, *["-c"] * compress, "want.raw", "q.qcow2")
        wirt("check", "q.qcow2")
        wirt("compare", "q.qcow2", "want.raw")
        wirt("convert", "q.qcow2", "back.raw", "--force")
        with open("back.raw", "rb") as file:
            if file.read() != data:
                sys.exit(f"seed {SEED}: {options}: another content came back")
        count += 2
    for mode in ("metadata", "falloc", "full"):
        for cluster in (512, 65536):
            wirt("create", "p.qcow2", "3M", "--preallocate", mode, "--cluster-size", str(cluster), "--force")
            qemu("check", "-q", "p.qcow2")
            qemu("create", "-q", "-f", "qcow2", "-o", f"preallocation={mode},cluster_size={cluster}", "q.qcow2", "3M")
            wirt("check", "q.qcow2")
            wirt("compare", "p.qcow2", "q.qcow2")
            count += 2
    # Extended L2 entries can be read.
    qemu("create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=65536", "x.qcow2", "2M")
    run("qemu-io", "-c", "write -P 5 3k 100k", "-c", "write -z 40k 4k", "x.qcow2")
    qemu("convert", "-O", "raw", "x.qcow2", "want.raw")
    wirt("compare", "x.qcow2", "want.raw")
    return count + 1


def other_formats():
    """VMDK both ways; VDI and VHDX as qemu-img makes them."""
    count = 0
    for _ in range(3):
        size = random.randrange(1, 6 * MIB // 512) * 512
        write_raw("want.raw", content(size))
        for kind in ("monolithicSparse", "streamOptimized", "monolithicFlat"):
            qemu("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={kind}", "want.raw", "q.vmdk")
            wirt("compare", "want.raw", "q.vmdk")
            count += 1
            os.unlink("q.vmdk")
        for compress in ([], ["--compress"]):
            wirt("convert", "want.raw", "w.vmdk", "--force", *compress)
            qemu("check", "-q", "w.vmdk")
            qemu("compare", "-q", "-f", "raw", "-F", "vmdk", "want.raw", "w.vmdk")
            count += 1
        qemu("convert", "-f", "raw", "-O", "vdi", "want.raw", "q.vdi")
        wirt("compare", "want.raw", "q.vdi")
        qemu("convert", "-f", "raw", "-O", "vhdx", "-o", f"block_size={random.choice([1, 2, 8, 32]) * MIB}", "want.raw", "q.vhdx")
        wirt("compare", "want.raw", "q.vhdx")
        wirt("convert", "q.vhdx", "back.qcow2", "--force")
        qemu("compare", "-q", "-f", "raw", "-F", "qcow2", "want.raw", "back.qcow2")
        count += 2
    return count


def chain(depth):
    """A chain whose every image overwrites a part, made in turns by both; returns its top."""
    write_raw("c0.raw", content(2 * MIB))
    below, kind = "c0.raw", "raw"
    for n in range(1, depth + 1):
        name = f"c{n}.qcow2"
        if n % 2:
            wirt("create", name, "--backing", below, "--backing-format", kind, "--force")
        else:
            qemu("create", "-q", "-f", "qcow2", "-b", below, "-F", kind, name)
        at = random.randrange(0, 1900) * 1024
        run("qemu-io", "-c", f"write -P {n} {at} {random.randrange(1, 100) * 1024}", "-c", f"write -z {at} 1024", name)
        below, kind = name, "qcow2"
    return below


def snapshots_of_other_sizes():
    """A snapshot has its disk's size then; one whose table cannot hold that size is refused, and does no harm."""
    wirt("create", "s.qcow2", "40M", "--cluster-size", "512", "--force")
    run("qemu-io", "-c", "write -P 5 39M 512k", "s.qcow2")
    wirt("snapshot", "create", "s.qcow2", "large")
    wirt("convert", "s.qcow2", "large.raw", "--force")
    wirt("resize", "s.qcow2", "1M", "--shrink")
    wirt("convert", "s.qcow2", "small.raw", "--snapshot", "large", "--force")
    wirt("compare", "small.raw", "large.raw")
    assert os.stat("small.raw").st_size == 40 * MIB
    with open("s.qcow2", "r+b") as file:
        file.seek(60)
        file.seek(int.from_bytes(file.read(12)[4:], "big") + 48)
        file.write((1 << 50).to_bytes(8, "big"))
    wirt("snapshot", "apply", "s.qcow2", "large", status=14)
    wirt("convert", "s.qcow2", "small.raw", "--snapshot", "large", "--force", status=14)
    wirt("check", "s.qcow2", status=2)
    assert json.loads(wirt("info", "s.qcow2", "--json"))["size"] == MIB


def changes():
    top = chain(6)
    qemu("convert", "-O", "raw", top, "want.raw")
    wirt("compare", top, "want.raw")
    assert len(json.loads(wirt("info", top, "--json"))["chain"]) == 6

    wirt("rebase", top, "--backing", "c2.qcow2")
    wirt("compare", top, "want.raw")
    qemu("check", "-q", top)
    wirt("commit", top)
    wirt("compare", top, "want.raw")
    wirt("compare", "c2.qcow2", "want.raw")
    wirt("rebase", "c2.qcow2", "--backing", "")
    wirt("compare", "c2.qcow2", "want.raw")
    assert json.loads(wirt("info", "c2.qcow2", "--json"))["chain"] == []

    wirt("snapshot", "create", "c2.qcow2", "before")
    run("qemu-io", "-c", "write -P 77 0 1M", "c2.qcow2")
    qemu("snapshot", "-a", "before", "c2.qcow2")
    wirt("compare", "c2.qcow2", "want.raw")
    qemu("snapshot", "-c", "second", "c2.qcow2")
    run("qemu-io", "-c", "write -P 78 0 1M", "c2.qcow2")
    wirt("snapshot", "apply", "c2.qcow2", "second")
    wirt("compare", "c2.qcow2", "want.raw")
    assert [s["name"] for s in json.loads(wirt("snapshot", "list", "c2.qcow2", "--json"))] == ["before", "second"]
    run("qemu-io", "-c", "write -P 79 64k 1M", "c2.qcow2")
    wirt("convert", "c2.qcow2", "then.raw", "--snapshot", "before", "--force")
    wirt("compare", "then.raw", "want.raw")
    wirt("compare", "c2.qcow2", "want.raw", status=2)
    wirt("convert", "c2.qcow2", "then.raw", "--snapshot", "nothing", "--force", status=4)
    wirt("compare", "then.raw", "want.raw")
    wirt("snapshot", "apply", "c2.qcow2", "second")
    snapshots_of_other_sizes()
    wirt("snapshot", "delete", "c2.qcow2", "before")
    wirt("snapshot", "delete", "c2.qcow2", "nothing", status=4)
    qemu("check", "-q", "c2.qcow2")

    wirt("resize", "c2.qcow2", "8M")
    wirt("resize", "c2.qcow2", "1M", status=2)
    wirt("resize", "c2.qcow2", "1M", "--shrink")
    qemu("check", "-q", "c2.qcow2")
    qemu("resize", "-q", "c2.qcow2", "3M")
    wirt("check", "c2.qcow2")

    # Refcounts of zero where data lies, and leaks: repaired.
    wirt("convert", "want.raw", "broken.qcow2", "--force")
    with open("broken.qcow2", "r+b") as file:
        file.seek(0x20000 + 8)
        file.write(bytes(16) + b"\0\1" * 2000)
    wirt("check", "broken.qcow2", status=2)
    wirt("check", "broken.qcow2", "--repair")
    qemu("check", "-q", "broken.qcow2")
    wirt("compare", "broken.qcow2", "want.raw")


def refusals():
    wirt("create", "new.qcow2", "1M")
    if "--force" not in wirt("create", "new.qcow2", "1M", status=6):
        sys.exit("an overwriting is refused without saying how to force it")
    wirt("create", "new.unknown", "1M", status=2)
    wirt("create", "other.qcow2", status=2)
    wirt("create", "other.qcow2", "1X", status=2)
    wirt("convert", "want.raw", "new.qcow2", status=6)
    # Said by hand: to make one, qemu-img must measure the CPU's time, which does not succeed on every host.
    qemu("create", "-q", "-f", "qcow2", "secret.qcow2", "1M")
    with open("secret.qcow2", "r+b") as file:
        file.seek(32)  # crypt_method, by docs/interop/qcow2
        file.write((2).to_bytes(4, "big"))
    if "encrypted" not in wirt("info", "secret.qcow2", status=16):
        sys.exit("an encrypted image is not called so")
    # Where a suffix names one format, that is it: nothing is copied as another one. Elsewhere the header tells, and what nobody here reads is named.
    for name, format in (("guest.raw", "raw"), ("guest.img", "qcow2"), ("guest", "qcow2")):
        shutil.copy("new.qcow2", name)
        assert json.loads(wirt("info", name, "--json"))["format"] == format, name
    for name in ("no.qcow2", "no.vmdk", "no.vhdx", "no.vdi"):
        with open(name, "wb") as file:
            file.write(b"x" * 65536)
        wirt("info", name, status=2)
        wirt("convert", name, "never.raw", status=2)
    for begin, word in ((b"LUKS\xba\xbe\0\1", "encrypted"), (b"QED\0", "QED"), (b"QFI\xfb\0\0\0\1", "version 1"), (b"conectix", "VHD"), (b"WithoutFreeSpace", "Parallels")):
        with open("foreign.img", "wb") as file:
            file.write(begin + bytes(1 << 20))
        assert word in wirt("info", "foreign.img", status=16), word
        wirt("convert", "foreign.img", "never.raw", status=16)
        wirt("info", "foreign.img", "--format", "raw")
    assert not os.path.exists("never.raw")
    # A backing file outside the image's directory is not followed.
    os.mkdir("elsewhere")
    qemu("create", "-q", "-f", "qcow2", "-b", "../new.qcow2", "-F", "qcow2", "elsewhere/top.qcow2")
    wirt("info", "elsewhere/top.qcow2", status=10)
    wirt("info", "elsewhere/top.qcow2", "--backing-folder", "elsewhere", status=10)
    assert json.loads(wirt("info", "elsewhere/top.qcow2", "--backing-folder", ".", "--json"))["chain"]
    top = ["run", "--kernel", "/dev/null", "--disk", "elsewhere/top.qcow2"]
    assert "in a backing folder" in run(WIRT, *top, status=2)
    assert "--kernel" in run(WIRT, *top[:-1], top[-1] + ",backing-folder=.", status=2)  # it is the kernel that is wrong now
    # Nor by a link, an absolute name, or a name that means more than a file to QEMU.
    os.symlink("../new.qcow2", "elsewhere/link.qcow2")
    for name, status in (("link.qcow2", 10), (os.path.abspath("new.qcow2"), 10), ('json:{"driver":"qcow2","file.filename":"../new.qcow2"}', 4), ("nbd://localhost/x", 4)):
        qemu("create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "qcow2", "elsewhere/top.qcow2", "1M")
        wirt("info", "elsewhere/top.qcow2", status=status)
        wirt("map", "elsewhere/top.qcow2", status=status)
    # Nobody waits for what is no image.
    os.mkfifo("elsewhere/fifo")
    run("timeout", "20", WIRT, "disk", "info", "elsewhere/fifo", status=14)
    qemu("create", "-q", "-u", "-f", "qcow2", "-b", "fifo", "-F", "raw", "elsewhere/top.qcow2", "1M")
    run("timeout", "20", WIRT, "disk", "info", "elsewhere/top.qcow2", status=14)
    # A circle ends.
    qemu("create", "-q", "-f", "qcow2", "circle.qcow2", "1M")
    qemu("rebase", "-u", "-b", "circle.qcow2", "-F", "qcow2", "circle.qcow2")
    wirt("info", "circle.qcow2", status=2)


def locks():
    wirt("create", "locked.qcow2", "1M")
    # With --fork it returns when it serves.
    subprocess.run(["qemu-nbd", "-t", "-x", "e", "--fork", "--pid-file=pid", f"--socket={os.getcwd()}/s", "-f", "qcow2", "locked.qcow2"],
                   check=True)
    with open("pid") as file:
        server = int(file.read())
    try:
        told = wirt("info", "locked.qcow2", status=8)
        if f"{server}" not in told:
            sys.exit(f"the holder is not named: {told}")
        wirt("resize", "locked.qcow2", "2M", status=8)
        wirt("info", "locked.qcow2", "--no-lock")
    finally:
        gone = os.pidfd_open(server)
        os.kill(server, signal.SIGKILL)
        select.select([gone], [], [])
        os.close(gone)
    before = os.stat("locked.qcow2").st_mtime_ns
    ours = subprocess.Popen([WIRT, "disk", "bench", "locked.qcow2", "--write", "--force", "--seconds", "30"],
                            stdout=subprocess.DEVNULL)
    try:
        # It writes once it has its lock. (To ask by qemu-img would take a lock, and could keep it out.)
        while os.stat("locked.qcow2").st_mtime_ns == before:
            if ours.poll() is not None:
                sys.exit("our writer ended before it wrote")
        if "lock" not in qemu("info", "locked.qcow2", status=1):
            sys.exit("qemu-img fails for another reason than the lock")
    finally:
        ours.kill()
        ours.wait()


def main():
    if not shutil.which("qemu-img") or not shutil.which("qemu-nbd"):
        print("qemu-img or qemu-nbd is missing")
        sys.exit(77)
    random.seed(SEED)
    print(f"seed {SEED}", flush=True)
    with tempfile.TemporaryDirectory(prefix="wirt-interop-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as where:
        os.chdir(where)
        print(f"{both_ways()} qcow2 images both ways")
        print(f"{other_formats()} of other formats")
        changes()
        refusals()
        locks()
        os.chdir("/")


main()
