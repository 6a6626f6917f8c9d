#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The bed: a Debian with a genuine /dev/kvm on a machine that has none, because QEMU's TCG emulates AMD-V.

    bed.py NAME=COMMAND...       run the commands in the bed, one after another, and tell how each ended

The bed boots the images bed.ext4 and bed.cpio of tools/guest-image in about six seconds. A disk that is made for the occasion brings what this tree
built, the tests, the tools and some guest images, and they stand in the bed under the same names as here, so that a command that works here
works there. Each command's output is shown with its status and seconds; the bed's status is 1 when one failed.

Meson gives TOP and BUILD in the environment; by hand they follow from where this file stands and from ./build. BED_IMAGES names the guest images to take
along, BED_SECONDS limits each command (180).

QEMU's TCG sometimes (once in a dozen boots) hangs before the bed is up: it is started once more then. Nothing is repeated once the bed is up.
"""
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.realpath(os.environ.get("TOP") or os.path.dirname(os.path.dirname(HERE)))
BUILD = os.path.realpath(os.environ.get("BUILD") or os.path.join(TOP, "build"))
IMAGES = os.path.realpath(os.environ.get("WIRT_GUEST_IMAGES") or os.path.join(TOP, "build/guest"))
DEFAULT_IMAGES = "vmlinuz-cloud busybox-cloud.cpio"
UP_SECONDS = 90
BEDS = 3
SKIPPED = 77


class BedError(Exception):
    """The bed itself did not work."""


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise BedError(f"{' '.join(command)}: {done.stdout}")


def image(name):
    path = os.path.join(IMAGES, name)
    if not os.path.exists(path):
        print(f"skipped: the guest image {name} is not made; tools/guest-image make {name}")
        sys.exit(SKIPPED)
    return path


def link(source, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)


def programs(folder):
    """What the build made that runs: programs and the tests' guests, by their paths below the build folder."""
    for place in ("src/bin", "bench", "tests"):
        for base, _, names in os.walk(os.path.join(folder, place)):
            for name in names:
                path = os.path.join(base, name)
                if name.endswith(".elf") or (os.access(path, os.X_OK) and not base.endswith(".p") and (place == "src/bin" or "/kvm" in base)):
                    yield os.path.relpath(path, folder)


def libraries(paths):
    """The shared libraries that the programs want, by what ldd says."""
    found = set()
    for path in paths:
        done = subprocess.run(["ldd", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        found |= {line.split()[2] for line in done.stdout.splitlines() if "=> /" in line}
    return found


def fill(share, commands, seconds):
    """The share disk's tree."""
    taken = list(programs(BUILD))
    for path in taken:
        link(os.path.join(BUILD, path), f"{share}/build/{path}")
    for path in libraries(os.path.join(BUILD, path) for path in taken if path.startswith("src/bin")):
        link(path, f"{share}/lib/{os.path.basename(path)}")
    for place in ("tests/guest", "tests/kvm", "tools"):
        shutil.copytree(os.path.join(TOP, place), f"{share}/top/{place}")
    for name in os.environ.get("BED_IMAGES", DEFAULT_IMAGES).split():
        link(image(name), f"{share}/images/{name}")
        if os.path.exists(image(name) + ".stamp"):
            link(image(name) + ".stamp", f"{share}/images/{name}.stamp")
    for place in (BUILD, IMAGES):  # mount points in what will be read-only; the images' folder may be the build's
        for outer, name in (TOP, "top"), (BUILD, "build"):
            if place.startswith(outer + "/"):
                os.makedirs(f"{share}/{name}/{os.path.relpath(place, outer)}", exist_ok=True)
    os.makedirs(f"{share}/images/modules-cloud", exist_ok=True)  # belongs to the kernel, but is not wanted here
    shutil.copy(f"{HERE}/bed_init", f"{share}/init")
    with open(f"{share}/plan.json", "w", encoding="utf-8") as file:
        json.dump({"top": TOP, "build": BUILD, "images": IMAGES, "seconds": seconds, "commands": commands}, file)


def qemu(share):
    # Without SMAP: TCG 7.2 reads the stack of an IRET in user mode, which wirt's tier 0 executes, with the kernel's rights, and faults.
    return ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,-smap", "-M", "q35", "-smp", "2", "-m", "2048",
            "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{share}.log",
            "-kernel", image("vmlinuz-cloud"), "-initrd", image("bed.cpio"),
            "-append", "console=ttyS0 quiet mitigations=off panic=-1",
            "-drive", f"file={image('bed.ext4')},format=raw,if=virtio,snapshot=on,cache=unsafe",
            "-drive", f"file={share}.disk,format=raw,if=virtio,readonly=on,cache=unsafe",
            "-device", "virtio-serial", "-chardev", "file,id=report,path=/proc/self/fd/1",
            "-device", "virtserialport,chardev=report,name=report"]


def lines_of(pipe, deadline):
    """The report's lines as they come, until the deadline that the caller moves."""
    buffer = b""
    while True:
        left = deadline[0] - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            raise TimeoutError
        data = os.read(pipe.fileno(), 65536)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        yield from (line.decode("utf-8", "replace").rstrip("\r") for line in lines)


def follow(share, count, seconds, tell):
    """One boot of the bed: ({name: (status, seconds)} or None when it did not come up, whether it stood still).

    What takes too long in the bed is ended there, and told. When nothing is told for longer than that, the bed itself stands still: QEMU 7.2's TCG, whose
    processors run KVM in there, does so now and then, with an idle host too."""
    results, up, still = {}, False, False
    deadline = [time.monotonic() + UP_SECONDS]
    with subprocess.Popen(qemu(share), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as bed:
        try:
            for line in lines_of(bed.stdout, deadline):
                word, _, rest = line.partition(" ")
                if word == "@up":
                    up = True
                    tell(f"bed: up after {rest} s")
                elif word == "@begin":
                    tell(f"bed: ---- {rest}")
                elif word == "@end":
                    name, status, took = rest.split()
                    results[name] = (int(status), float(took))
                    tell(f"bed: {name}: {'ok' if status == '0' else 'skipped' if status == '77' else 'FAILED, status ' + status}, {took} s")
                else:
                    tell(line)
                if word[:1] == "@":
                    deadline[0] = time.monotonic() + seconds + 30
        except TimeoutError:
            bed.kill()
            still = up
        status = bed.wait()
    if up and len(results) < count:
        with open(f"{share}.log", encoding="utf-8", errors="replace") as log:
            tell(f"bed: it ended early, QEMU with status {status}; its console:\n{log.read()[-3000:]}")
    return (results if up else None), still


def boot(commands, seconds, tell):
    with tempfile.TemporaryDirectory(prefix="wirt-bed-") as here:
        share = f"{here}/share"
        os.mkdir(share)
        fill(share, commands, seconds)
        mebibytes = sum(os.path.getsize(os.path.join(base, name)) for base, _, names in os.walk(share) for name in names) // 2**20
        run("/sbin/mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", share, f"{share}.disk", f"{mebibytes * 5 // 4 + 16}M")
        results, still = follow(share, len(commands), seconds, tell)
        with open(f"{share}.log", encoding="utf-8", errors="replace") as log:
            return results, still, log.read()[-2000:]


def run_in_bed(commands, tell=print):
    """Runs [[name, [word...]]...] in the bed. {name: (status, seconds)}; missing names did not come to their end. After a bed that stood still another one
    goes on with what is left."""
    seconds = int(os.environ.get("BED_SECONDS", "120"))
    done, log = {}, ""
    for _ in range(BEDS):
        results, still, log = boot([command for command in commands if command[0] not in done], seconds, tell)
        done.update(results or {})
        if results is not None and not still:
            return done
        tell("bed: it stood still" if still else "bed: it did not come up")
    if not done:
        raise BedError(f"the bed does not come up:\n{log}")
    return done



def main(words):
    if not words or any("=" not in word for word in words):
        print(__doc__, file=sys.stderr)
        return 2
    commands = [[word.partition("=")[0], ["bash", "-c", word.partition("=")[2]]] for word in words]
    results = run_in_bed(commands, lambda line: print(line, flush=True))
    return 0 if len(results) == len(commands) and not any(status for status, _ in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
