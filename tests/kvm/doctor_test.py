#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""doctor_test BACKEND: `wirt doctor` says what is true of this host: its verdict on KVM, and what this program can see itself."""
import ctypes
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import tempfile

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

# What this program sees by asking the kernel itself.
libc = ctypes.CDLL(None, use_errno=True)


def asks(number, *words):
    """A system call that opens something, or tells a number: its result, negative where it is refused."""
    result = libc.syscall(number, *words)
    return result if result >= 0 else -ctypes.get_errno()


def in_child(function):
    """True when the function's result in a child, which ends with it, is 0."""
    child = os.fork()
    if child == 0:
        os._exit(0 if function() == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def read(path, otherwise=""):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return otherwise


def state_is(name, good):
    assert (checks[name]["state"] == "good") == good, checks[name]


state_is("io_uring", asks(425, 4, ctypes.create_string_buffer(256)) >= 0)
state_is("userfaultfd", asks(323, 0x80000) >= 0 or os.access("/dev/userfaultfd", os.R_OK | os.W_OK))
landlock = asks(444, None, ctypes.c_size_t(0), 1)
state_is("Landlock", landlock > 0)
assert landlock <= 0 or checks["Landlock"]["found"] == f"ABI {landlock}", checks["Landlock"]
NEW_NET, NEW_IPC, NEW_MOUNTS, NEW_USER = 0x40000000, 0x08000000, 0x00020000, 0x10000000
wanted = NEW_NET | NEW_IPC | NEW_MOUNTS | (NEW_USER if os.geteuid() else 0)
state_is("namespaces", in_child(lambda: libc.unshare(wanted)))
thp = read("/sys/kernel/mm/transparent_hugepage/enabled", "absent")
shared = read("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "absent")
assert f"transparent: {thp}; for shared memory: {shared}; reserved: {read('/proc/sys/vm/nr_hugepages', '0')}" == checks["huge pages"]["found"]
files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
assert f"; {files} open files, " in checks["memory, limits"]["found"], checks["memory, limits"]
assert f"; {read('/proc/sys/vm/max_map_count')} mappings; overcommit {read('/proc/sys/vm/overcommit_memory')}" in checks["memory, limits"]["found"]
kinds_v1 = {word for line in read("/proc/mounts").splitlines() if line.split()[2] == "cgroup" for word in line.split()[3].split(",")}
found_v2 = set(read("/sys/fs/cgroup/cgroup.controllers", read("/sys/fs/cgroup/unified/cgroup.controllers")).split())
for controllers in (kinds_v1 & {"cpu", "memory", "pids"}, found_v2):
    assert controllers <= set(checks["cgroups"]["found"].replace(";", " ").split()), (controllers, checks["cgroups"])
state_is("cgroups", any({"cpu", "memory"} <= have for have in (kinds_v1, found_v2)))


def shares_blocks(folder):
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return False
    with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as other:
        one.write(bytes(65536))
        one.flush()
        return libc.ioctl(other.fileno(), 0x40049409, one.fileno()) == 0  # FICLONE


assert shares_blocks(".") == checks["reflink"]["found"].startswith("this folder"), checks["reflink"]
bridges = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
state_is("bridge", libc.ioctl(bridges.fileno(), 0x8940, (ctypes.c_ulong * 3)(0)) >= 0)  # SIOCGIFBR, the version
assert os.path.samefile(checks["programs"]["found"], os.path.join(os.path.dirname(WIRT), "wirt-vm")), checks["programs"]

text = subprocess.run([WIRT, "doctor"], stdout=subprocess.PIPE, check=True, text=True).stdout
for name in NAMES:
    assert f"\n{name} " in "\n" + text, name
assert text.rstrip().endswith("by KVM." if backend == "kvm" else "by the engine."), text
assert subprocess.run([WIRT, "doctor", "--colour"], stderr=subprocess.PIPE, check=False).returncode == 2
print(f"{backend} on {platform.release()}: {checks['KVM']['found']}")
