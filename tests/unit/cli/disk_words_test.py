# SPDX-License-Identifier: Apache-2.0
"""disk_words_test WIRT: `wirt disk` as a person and a program meet it.

Every command prints JSON when asked to; nothing is overwritten without --force; long work tells its progress, rate and time left on a terminal; what is
wrong is said in one sentence that names the file.
"""
import json
import os
import pty
import re
import subprocess
import sys
import tempfile

WIRT = os.path.abspath(sys.argv[1])
MIB = 1 << 20


def run(*words):
    return subprocess.run([WIRT, "disk", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)


def told(*words):
    done = run(*words, "--json")
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return json.loads(done.stdout)


def refused(pattern, *words):
    done = run(*words)
    assert done.returncode not in (0, -6, -11) and re.search(pattern, done.stderr), f"{words}: {done.returncode} {done.stderr}"
    assert done.stderr.count("\n") == 1, f"more than a sentence: {done.stderr}"


def every_command():
    assert told("create", "base.qcow2", "64M")["size"] == 64 * MIB
    assert told("create", "top.qcow2", "--backing", "base.qcow2")["size"] == 64 * MIB
    assert told("info", "top.qcow2")["chain"][0]["file"].endswith("base.qcow2")
    assert told("bench", "top.qcow2", "--write", "--force", "--count", "20", "--block", "64K")["write"]
    assert told("check", "top.qcow2")["corruptions"] == 0
    assert any(row["depth"] == 0 for row in told("map", "top.qcow2"))
    assert told("commit", "top.qcow2")["committed to"].endswith("base.qcow2")
    assert told("resize", "top.qcow2", "65M") == {"file": "top.qcow2", "size": 65 * MIB, "was": 64 * MIB}
    assert told("rebase", "top.qcow2", "--backing", "")["backing"] == ""
    assert told("convert", "top.qcow2", "copy.raw")["data"] == 20 * 65536
    assert told("compare", "top.qcow2", "copy.raw")["equal"]
    assert told("snapshot", "create", "top.qcow2", "one")["created"] == "one"
    assert [row["name"] for row in told("snapshot", "list", "top.qcow2")] == ["one"]
    assert told("snapshot", "apply", "top.qcow2", "one")["applied"] == "one"
    assert told("snapshot", "delete", "top.qcow2", "one")["deleted"] == "one"


def bitmaps():
    assert told("bitmap", "create", "top.qcow2", "a", "--granularity", "64K")["created"] == "a"
    assert run("bench", "top.qcow2", "--write", "--force", "--count", "3", "--block", "64K").returncode == 0
    assert told("bitmap", "disable", "top.qcow2", "a")["disabled"] == "a"
    assert told("bitmap", "create", "top.qcow2", "b")["created"] == "b"
    assert run("bench", "top.qcow2", "--write", "--force", "--count", "1", "--block", "64K", "--step", "1M", "--one-buffer").returncode == 0
    assert told("bitmap", "merge", "top.qcow2", "b", "a")["merged"] == "b"
    dirty = {row["name"]: row["dirty"] for row in told("bitmap", "list", "top.qcow2")}
    assert dirty == {"a": 3 * 65536, "b": 3 * 65536}, dirty
    refused("no bitmap 'c'", "bitmap", "merge", "top.qcow2", "b", "c")
    refused("merge FILE INTO FROM", "bitmap", "merge", "top.qcow2", "b")


def refusals():
    refused("copy.raw.*--force", "convert", "top.qcow2", "copy.raw")
    refused("top.qcow2.*--force", "create", "top.qcow2", "1M")
    refused("--shrink", "resize", "top.qcow2", "1M")
    refused("nothing.qcow2", "info", "nothing.qcow2")
    refused("no flag|no such flag", "info", "top.qcow2", "--workers", "3")
    refused("'1Q'", "create", "new.qcow2", "1Q")
    assert not os.path.exists("new.qcow2")


def progress():
    """On a terminal, which only standard error is."""
    with open("full.raw", "wb") as file:
        file.write(os.urandom(64 * MIB))
    leader, terminal = pty.openpty()
    with subprocess.Popen([WIRT, "disk", "convert", "full.raw", "packed.qcow2", "--compress"], stdout=subprocess.DEVNULL, stderr=terminal) as work:
        os.close(terminal)
        text = b""
        try:
            while piece := os.read(leader, 4096):
                text += piece
        except OSError:  # the last one who had the terminal open is gone
            pass
    assert work.returncode == 0
    assert re.search(rb"converting +[\d.]+ %  [\d.]+ ?\w+/s  \d+:\d\d left", text), text


with tempfile.TemporaryDirectory(prefix="wirt-words-") as where:
    os.chdir(where)
    every_command()
    bitmaps()
    refusals()
    progress()
