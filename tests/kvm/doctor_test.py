#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""doctor_test BACKEND: `wirt doctor` says what is true of this host: its verdict on KVM, and what this program can see itself."""
import json
import os
import platform
import subprocess
import sys

WIRT, backend = os.environ["WIRT"], sys.argv[1]
NAMES = ["KVM", "CPU features", "memory, limits", "huge pages", "userfaultfd", "io_uring", "seccomp", "Landlock", "namespaces", "cgroups", "TUN",
         "bridge", "nftables", "reflink", "programs"]

done = subprocess.run([WIRT, "doctor", "--json"], stdout=subprocess.PIPE, check=False)
assert done.returncode == 0, done
answer = json.loads(done.stdout)
checks = {check["name"]: check for check in answer["checks"]}
assert list(checks) == NAMES, list(checks)
assert answer["runs"] is True
assert answer["accel"] == backend, checks["KVM"]
assert (checks["KVM"]["state"] == "good") == (backend == "kvm"), checks["KVM"]
assert checks["KVM"]["found"].startswith("usable" if backend == "kvm" else "not usable: "), checks["KVM"]
for check in checks.values():
    assert check["found"] and check["use"] and check["state"] in ("good", "partly", "no"), check
    assert check["state"] == "good" or "lost" in check or check["name"] == "nftables", check
    assert check["state"] != "good" or "lost" not in check, check
# What can be seen from here.
assert (checks["TUN"]["state"] == "good") == os.access("/dev/net/tun", os.R_OK | os.W_OK)
assert checks["seccomp"]["state"] == "good"
with open("/proc/meminfo", encoding="ascii") as meminfo:
    total = int(meminfo.readline().split()[1]) // 1024
assert checks["memory, limits"]["found"].startswith(f"{total} MiB"), checks["memory, limits"]
with open("/proc/cpuinfo", encoding="ascii") as cpuinfo:
    flags = set(next(line for line in cpuinfo if line.startswith("flags")).split())
words = set(checks["CPU features"]["found"].split())
for feature in ("cx16", "avx2", "fsgsbase", "bmi2", "svm"):
    assert (feature in words) == (feature in flags), (feature, checks["CPU features"])
with open("/proc/mounts", encoding="utf-8") as mounts:
    kinds = {line.split()[2] for line in mounts}
assert ("version 2" in checks["cgroups"]["found"]) == ("cgroup2" in kinds), checks["cgroups"]

text = subprocess.run([WIRT, "doctor"], stdout=subprocess.PIPE, check=True, text=True).stdout
for name in NAMES:
    assert f"\n{name} " in "\n" + text, name
assert text.rstrip().endswith("by KVM." if backend == "kvm" else "by the engine."), text
assert subprocess.run([WIRT, "doctor", "--colour"], stderr=subprocess.PIPE, check=False).returncode == 2
print(f"{backend} on {platform.release()}: {checks['KVM']['found']}")
