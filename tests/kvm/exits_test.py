#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""exits_test: the cloud kernel from its start to power-off under KVM, with at most as many exits to user space as QEMU's microvm, and little host memory.

Both get the same kernel, initrd and command line, a serial console, and entropy source and balloon on virtio-pci. QEMU counts by its trace event kvm_run_exit. Memory is
what `wirt run --stats` says: Pss from smaps without guest RAM.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

from wirt_guest import CPU, WIRT, image

MEMORY_LIMIT = 6 << 20
APPEND = 'console=ttyS0 quiet panic=-1 reboot=t wirt.cmd="true"'
SECONDS = 100

kernel, initrd = image("vmlinuz-cloud"), image("busybox-cloud.cpio")


def run(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS, check=False, text=True,
                          errors="replace")
    if "wirt: end poweroff" not in done.stdout:
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stderr


def wirt_run():
    stderr = run([WIRT, "run", "--accel", "kvm", "--cpu", CPU, "--kernel", kernel, "--initrd", initrd, "--append", APPEND, "--stats", "--json"])
    return json.loads(stderr[stderr.index("{"):])


def qemu_exits():
    with tempfile.NamedTemporaryFile() as log:
        run(["qemu-system-x86_64", "-accel", "kvm", "-cpu", CPU, "-M", "microvm,acpi=on,pcie=on", "-m", "512", "-nodefaults", "-display", "none",
             "-no-reboot", "-serial", "stdio", "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci,free-page-reporting=on",
             "-kernel", kernel, "-initrd", initrd, "-append", APPEND, "-trace", "kvm_run_exit", "-D", log.name])
        reasons = re.findall(r"kvm_run_exit.*reason (\d+)", log.read().decode())
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


ours = wirt_run()
exits, memory = sum(ours["exits"].values()), ours["host_memory_bytes"]
print(f"wirt: {exits} exits {ours['exits']}, {memory / 2**20:.2f} MiB beside RAM", flush=True)
theirs = qemu_exits()
print(f"QEMU: {sum(theirs.values())} exits {theirs} (2: port, 6: MMIO)")
assert exits <= sum(theirs.values())
assert memory <= MEMORY_LIMIT, memory
print(f"{os.cpu_count()} CPUs")
