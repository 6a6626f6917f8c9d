# SPDX-License-Identifier: Apache-2.0
"""refused_features_test: the cloud kernel boots where the host's kernel refuses io_uring, userfaultfd, namespaces, perf, Landlock and
membarrier, as containers and old kernels do.
"""
import ctypes
import struct
import subprocess
import sys

from wirt_guest import busybox

# unshare, perf_event_open, userfaultfd, membarrier, io_uring_*, landlock_*
REFUSED = (272, 298, 323, 324, 425, 426, 427, 444, 445, 446)
ALLOW, ENOSYS = 0x7FFF0000, 0x00050000 | 38


def refuse():
    """In the child: a system call filter that programs inherit."""
    load = struct.pack("<HBBI", 0x20, 0, 0, 0)
    tests = b"".join(struct.pack("<HBBI", 0x15, len(REFUSED) - i, 0, call) for i, call in enumerate(REFUSED))
    code = load + tests + struct.pack("<HBBI", 6, 0, 0, ALLOW) + struct.pack("<HBBI", 6, 0, 0, ENOSYS)
    program = ctypes.create_string_buffer(code, len(code))
    fprog = struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, fprog, 0, 0):
        raise OSError(ctypes.get_errno(), "the filter was not installed")


done = subprocess.run(busybox("cloud", "quiet wirt.cmd=true", "--cpus", "2"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                      stderr=subprocess.STDOUT, timeout=120, check=False, preexec_fn=refuse)
if done.returncode:
    sys.exit(f"status {done.returncode}\n{done.stdout.decode()[-2000:]}")
