# SPDX-License-Identifier: Apache-2.0
"""disk_unfinished_test WIRT: what fails or is interrupted leaves no image behind that looks whole; what was there is not lost by words that are wrong.

A conversion that was interrupted would leave an image of the right size with zeros where nothing came yet. `convert` and `create` remove it, and end by
the signal that came; commit and rebase leave images that read the same as before. A full file system is one where files may not grow (RLIMIT_FSIZE).
"""
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile

WIRT = os.path.abspath(sys.argv[1])
MIB = 1 << 20


def run(*words, limit=None):
    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return subprocess.run([WIRT, "disk", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, restore_signals=False,
                          preexec_fn=small_files if limit else None)


def good(*words):
    done = run(*words)
    assert done.returncode == 0, f"{words}: {done.returncode} {done.stderr}"


def refused(word, *words, limit=None):
    done = run(*words, limit=limit)
    assert done.returncode > 0 and word in done.stderr, f"{words}: {done.returncode} {done.stdout}{done.stderr}"


def stopped_by(number, *words, ignored=False):
    """Sends the signal once a byte of work is told; the work is long, so that this is in its midst."""
    leader, terminal = os.openpty()
    with subprocess.Popen([WIRT, "disk", *words], stdout=subprocess.DEVNULL, stderr=terminal, stdin=subprocess.DEVNULL, start_new_session=True,
                          preexec_fn=lambda: signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)) as work:
        os.close(terminal)
        text = os.read(leader, 4096)
        work.send_signal(number)
        try:
            while piece := os.read(leader, 4096):
                text += piece
        except OSError:  # the last one who had the terminal open is gone
            pass
        work.wait()
        return work.returncode, text.decode()


def interrupted():
    with open("long.raw", "wb") as file:
        file.write(os.urandom(32 * MIB))
    for number, target in ((signal.SIGINT, "a.qcow2"), (signal.SIGTERM, "a.vmdk"), (signal.SIGHUP, "a.qcow2")):
        status, text = stopped_by(number, "convert", "long.raw", target, "--compress", "--workers", "1")
        assert status == -number and "is removed" in text, f"{number}: {status} {text}"
        assert not os.path.exists(target)
    status, text = stopped_by(signal.SIGHUP, "convert", "long.raw", "a.qcow2", "--compress", ignored=True)
    assert status == 0, f"nohup does not help: {status} {text}"
    good("compare", "a.qcow2", "long.raw")
    # A link's file goes, not what others see by its name.
    os.symlink("behind.qcow2", "link.qcow2")
    good("create", "behind.qcow2", "1M")
    status, text = stopped_by(signal.SIGINT, "convert", "long.raw", "link.qcow2", "--compress", "--workers", "1", "--force")
    assert status == -signal.SIGINT and not os.path.exists("behind.qcow2"), f"{status} {text}"


def full():
    for words in (["convert", "long.raw", "b.qcow2"], ["convert", "long.raw", "b.raw"], ["convert", "long.raw", "b.vmdk", "--compress"],
                  ["create", "b.raw", "40M", "--preallocate", "full"], ["create", "b.raw", "40M", "--preallocate", "falloc"],
                  ["create", "b.qcow2", "40M", "--preallocate", "full"], ["create", "b.qcow2", "40M", "--preallocate", "metadata"]):
        target = words[2] if words[0] == "convert" else words[1]
        refused("is removed", *words, limit=10 * MIB)
        assert not os.path.exists(target), words
    # A commit that fails, and one that is repeated with room enough.
    good("create", "base.qcow2", "48M")
    good("create", "top.qcow2", "--backing", "base.qcow2")
    good("bench", "top.qcow2", "--write", "--force", "--block", "1M", "--count", "30")
    good("convert", "top.qcow2", "want.raw")
    refused("cannot commit", "commit", "top.qcow2", limit=12 * MIB)
    good("compare", "top.qcow2", "want.raw")
    good("check", "top.qcow2")
    good("commit", "top.qcow2")
    good("compare", "base.qcow2", "want.raw")


def wrong_words():
    """Refused before anything is made, or emptied."""
    good("create", "kept.qcow2", "3M")
    good("bench", "kept.qcow2", "--write", "--force", "--block", "64K", "--count", "20")
    good("convert", "kept.qcow2", "kept.raw")
    for words in (["--cluster-size", "513"], ["--version", "4"], ["--refcount-bits", "3"], ["--compression", "lzma"], ["--version", "2", "--compression", "zstd"],
                  ["--backing", "kept.raw", "--preallocate", "full"], ["--format", "vhdx"], ["--format", "vmdk", "--preallocate", "full"],
                  ["--format", "vmdk", "--cluster-size", "4K"], ["--format", "raw", "--compression", "zstd"], ["--format", "raw", "--backing", "kept.raw"]):
        refused("wirt disk: create", "create", "kept.qcow2", "4M", "--force", *words)
        refused("wirt disk: create", "create", "new.img", "4M", *(words if "--format" in words else [*words, "--format", "qcow2"]))
        assert not os.path.exists("new.img"), words
    refused("preallocated", "convert", "kept.raw", "kept.qcow2", "--compress", "--preallocate", "full", "--force")
    refused("what is converted", "convert", "kept.raw", "kept.raw", "--force")
    refused("what is converted", "convert", "kept.raw", "kept.raw", "--force", "--no-lock")
    good("compare", "kept.qcow2", "kept.raw")
    for words in (["check", "kept.qcow2", "--repair"], ["snapshot", "create", "kept.qcow2", "x"], ["snapshot", "delete", "kept.qcow2", "x"],
                  ["bitmap", "create", "kept.qcow2", "x"]):
        refused("for looking only", *words, "--no-lock")


def kept_space():
    """A conversion into a preallocated image leaves it so."""
    with open("sparse.raw", "wb") as file:
        file.write(os.urandom(MIB))
        file.truncate(9 * MIB)
    for mode in ("full", "falloc"):
        for target in ("p.raw", "p.qcow2"):
            good("convert", "sparse.raw", target, "--preallocate", mode, "--force")
            good("compare", "sparse.raw", target)
            assert os.stat(target).st_blocks * 512 >= 9 * MIB, f"{target}, {mode}: {os.stat(target).st_blocks}"


def damaged_counts():
    """The place of the refcount table is wrong: reading goes on, writing is refused, a repair makes it anew."""
    for at, value in ((48, struct.pack(">Q", 0)), (48, struct.pack(">Q", 1 << 40)), (48, struct.pack(">Q", 0x10200)), (56, b"\xff\xff\xff\xff")):
        good("convert", "sparse.raw", "d.qcow2", "--force")
        with open("d.qcow2", "r+b") as file:
            file.seek(at)
            file.write(value)
        good("compare", "d.qcow2", "sparse.raw")
        refused("check --repair", "resize", "d.qcow2", "10M")
        refused("", "check", "d.qcow2")
        good("check", "d.qcow2", "--repair")
        good("check", "d.qcow2")
        good("compare", "d.qcow2", "sparse.raw")
        good("bench", "d.qcow2", "--write", "--force", "--block", "64K", "--count", "20")
        good("check", "d.qcow2")


with tempfile.TemporaryDirectory(prefix="wirt-unfinished-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as where:
    os.chdir(where)
    interrupted()
    full()
    wrong_words()
    kept_space()
    damaged_counts()
