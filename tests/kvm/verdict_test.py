#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""verdict_test BACKEND: whether KVM is usable is found out once for this boot, kernel and CPU, and remembered where nobody else can write.

What is remembered is changed here: a run that repeats the change has believed it, one that does not has asked KVM anew.
"""
import os
import platform
import re
import subprocess
import sys
import tempfile
import time

LIMIT_MS = 200
TOLD = "as the test says"
backend = sys.argv[1]
# Root's place is in /run: a private one.
if os.geteuid() == 0 and sys.argv[-1] != "inside":
    os.execvp("unshare", ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$0" "$@"', sys.executable, *sys.argv, "inside"])
with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot_id:
    BOOT = boot_id.read().strip()


def run(where):
    """(seconds, what it said) of a run that insists on KVM, and has nothing to boot if it gets it."""
    while True:
        start = time.monotonic()
        done = subprocess.run([os.environ["WIRT"], "run", "--accel", "kvm", "--kernel", "/dev/null"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, text=True, env={**os.environ, "XDG_RUNTIME_DIR": where})
        # The bed's processor time runs on while its host does something else. What was no answer is not remembered: the next run asks again.
        if backend != "kvm" or "did not come to its end" not in done.stderr:
            break
    refused = "KVM is not usable" in done.stderr
    assert done.returncode == 2 and (refused or "/dev/null: cannot be read" in done.stderr), done
    assert refused == (backend != "kvm" or TOLD in done.stderr), done
    return time.monotonic() - start, done.stderr


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().split("\n")


def remembered(path, lines, mode=0o600):
    """Is this what a run goes by?"""
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    os.chmod(path, mode)
    return TOLD in run(os.path.dirname(os.path.dirname(path)))[1]


with tempfile.TemporaryDirectory(prefix="wirt-verdict-") as here:
    place = "/run" if os.geteuid() == 0 else here
    verdict = f"{place}/wirt/kvm-verdict"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        assert "/dev/kvm" in run(place)[1] and not os.path.exists(verdict)
        print("no /dev/kvm, or not for this user: nothing to remember")
        sys.exit(0)
    first, said = run(place)
    made = read(verdict)
    form, identity, answer, text = made[:4]
    assert identity.startswith(f"{BOOT} {platform.release()} "), made
    assert answer == ("yes" if backend == "kvm" else "no") and (backend == "kvm" or text in said), made
    assert os.stat(verdict).st_mode & 0o777 == 0o600
    if backend == "kvm":
        assert float(re.search(r"in ([0-9.]+) ms", text).group(1)) <= LIMIT_MS, text
    again, _ = run(place)
    assert read(verdict) == made
    # Believed: for this boot, kernel and CPU, in a file that is ours alone.
    assert remembered(verdict, [form, identity, "no", TOLD, ""])
    boot, kernel, *cpu = identity.split(" ")
    for other in (["0" * len(boot), kernel, *cpu], [boot, kernel + "x", *cpu], [boot, kernel, *cpu[:-1], "00000000"]):
        assert not remembered(verdict, [form, " ".join(other), "no", TOLD, ""]), other
        assert read(verdict)[1] == identity
    assert not remembered(verdict, [form, identity, "no", TOLD, ""], 0o666)
    os.unlink(verdict)
    assert not remembered(verdict, [form + "0", identity, "no", TOLD, ""])
    assert not remembered(verdict, [form, identity, "perhaps", TOLD, ""])
    print(f"{backend}: the first run took {first:.3f} s, the next {again:.3f} s: {text}")
