#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""disk_bitmaps_test.py WIRT: persistent dirty bitmaps in qcow2, made and kept up by wirt and by QEMU in turn.

Both write to the same image; each bitmap must mark exactly the parts that were written, whoever made it and whoever wrote. wirt writes by
committing an overlay; what a bitmap marks is read by wirt (`disk bitmap list`) and by qemu-nbd. A writer that is killed leaves
bitmaps that nobody takes for whole. Skipped (77) where QEMU's tools are missing.
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

WIRT = os.path.abspath(sys.argv[1])
SIZE = 64 << 20


def run(*words, status=0):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == status, f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def listed(image):
    return {b["name"]: b for b in json.loads(run(WIRT, "disk", "bitmap", "list", image, "--json"))}


def marked_by_qemu(image, name):
    """The bytes that QEMU finds marked, as a set of 64 KiB parts."""
    socket, pid = f"{image}.sock", f"{image}.pid"
    run("qemu-nbd", "-r", "-f", "qcow2", "-B", name, "--fork", "--pid-file", pid, "-k", socket, image)
    with open(pid, encoding="ascii") as file:
        server = os.pidfd_open(int(file.read()))
    extents = json.loads(run("qemu-img", "map", "--output=json", "--image-opts",
                             f"driver=nbd,server.type=unix,server.path={socket},x-dirty-bitmap=qemu:dirty-bitmap:{name}"))
    select.select([server], [], [])  # it ends with its first client, and lets go of the image
    os.close(server)
    parts = set()
    for extent in extents:
        if not extent["data"]:
            parts.update(range(extent["start"] >> 16, (extent["start"] + extent["length"] + 65535) >> 16))
    return parts


def write_by_qemu(image, parts):
    run("qemu-io", "-f", "qcow2", *[word for part in parts for word in ("-c", f"write -q -P 7 {part * 65536 + 512} 1024")], image)


def write_by_wirt(image, parts):
    overlay = f"{image}.overlay"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", overlay)
    write_by_qemu(overlay, parts)
    run(WIRT, "disk", "commit", overlay)
    os.unlink(overlay)


def check(image, marks):
    run("qemu-img", "check", "-q", image)
    run(WIRT, "disk", "check", image)
    for name, parts in marks.items():
        told = listed(image)[name]
        assert not told["inconsistent"], told
        assert told["dirty"] == len(parts) * 65536, f"{name}: wirt finds {told['dirty']} bytes, not {len(parts)} parts"
        assert marked_by_qemu(image, name) == parts, name


def in_turn(image):
    """Made by both, written by both, over several openings and sizes of clusters."""
    for cluster in (512, 4096, 65536, 2 << 20):
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", image, str(SIZE))
        run("qemu-img", "bitmap", "--add", "-g", "65536", image, "theirs")
        run(WIRT, "disk", "bitmap", "create", image, "ours")
        marks = {"theirs": set(), "ours": set()}
        check(image, marks)
        for turn in range(4):
            parts = random.sample(range(SIZE >> 16), 20)
            (write_by_wirt if turn % 2 else write_by_qemu)(image, parts)
            for name in marks:
                marks[name] |= set(parts)
            check(image, marks)
        run(WIRT, "disk", "bitmap", "clear", image, "theirs")
        run("qemu-img", "bitmap", "--disable", image, "ours")
        marks["theirs"] = set()
        parts = set(random.sample(range(SIZE >> 16), 5))
        write_by_wirt(image, parts)
        marks["theirs"] |= parts
        check(image, marks)
        run("qemu-img", "bitmap", "--remove", image, "ours")
        run(WIRT, "disk", "bitmap", "remove", image, "theirs")
        assert not listed(image) and "bitmaps" not in json.loads(run("qemu-img", "info", "--output=json", image))["format-specific"]["data"]
        os.unlink(image)


def converted(image):
    """A conversion takes bitmaps along, of an image that QEMU made, into other cluster sizes and compressed; what cannot keep them is refused first."""
    copy, raw = f"{image}.copy.qcow2", f"{image}.raw"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, str(SIZE))
    run("qemu-img", "bitmap", "--add", "-g", "65536", image, "a")
    write_by_qemu(image, {1, 7, 900})
    run("qemu-img", "bitmap", "--add", "-g", "1048576", image, "coarse")
    write_by_qemu(image, {33})
    run("qemu-img", "bitmap", "--disable", image, "a")
    for flags in ([], ["--cluster-size", "512"], ["--compress", "--cluster-size", "2M"]):
        run(WIRT, "disk", "convert", image, copy, "--bitmaps", "--force", *flags)
        check(copy, {"a": {1, 7, 33, 900}})
        told = listed(copy)
        assert (told["coarse"]["dirty"], told["coarse"]["granularity"]) == (1 << 20, 1 << 20), told
        assert not told["a"]["recording"] and told["coarse"]["recording"], told
    run(WIRT, "disk", "convert", image, copy, "--force")
    assert not listed(copy)
    for flags in ([raw], [copy, "--force", "--version", "2"]):
        run(WIRT, "disk", "convert", image, *flags, "--bitmaps", status=2)
    assert not os.path.exists(raw)
    os.unlink(copy)
    os.unlink(image)


def killed(image):
    """Whoever is killed while it writes leaves bitmaps that are known to be incomplete; they can be removed, nothing is corrupt."""
    run("qemu-img", "create", "-q", "-f", "qcow2", image, str(SIZE))
    run("qemu-img", "bitmap", "--add", "-g", "65536", image, "theirs")
    run(WIRT, "disk", "bitmap", "create", image, "ours")
    writer = subprocess.Popen([WIRT, "disk", "bench", image, "--write", "--force", "--random", "--seconds", "60"], stdout=subprocess.DEVNULL)
    empty = os.stat(image).st_blocks
    while os.stat(image).st_blocks < empty + 8192 and writer.poll() is None:
        pass
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert all(b["inconsistent"] for b in listed(image).values()), listed(image)
    told = json.loads(run("qemu-img", "info", "--output=json", image))["format-specific"]["data"]["bitmaps"]
    assert len(told) == 2 and all("in-use" in bitmap["flags"] for bitmap in told), told
    run(WIRT, "disk", "check", image, "--repair")
    assert len(listed(image)) == 2
    run(WIRT, "disk", "bitmap", "clear", image, "ours", status=2)
    run(WIRT, "disk", "bitmap", "remove", image, "theirs")
    run("qemu-img", "bitmap", "--remove", image, "ours")
    run("qemu-img", "check", "-q", image)
    os.unlink(image)


def main():
    for tool in ("qemu-img", "qemu-io", "qemu-nbd"):
        if not shutil.which(tool):
            print(f"skipped: {tool} is missing")
            sys.exit(77)
    random.seed(5)
    with tempfile.TemporaryDirectory() as folder:
        in_turn(f"{folder}/image.qcow2")
        converted(f"{folder}/image.qcow2")
        killed(f"{folder}/image.qcow2")


main()
