# SPDX-License-Identifier: Apache-2.0
"""work_test PROGRAM[:WORDS]...: Debian with two vCPUs does real work: each program of tests/guest/work runs to status 0.

The programs go into the guest as a tar archive on a second disk.
"""
import os
import sys
import tarfile
import tempfile
import time

from wirt_guest import PROMPT, TOP, Console, check_quiet, copy_of, image, wirt

SECONDS = 3000
PROGRAMS = os.path.join(TOP, "tests/guest/work")

with copy_of("work.ext4") as disk, tempfile.NamedTemporaryFile(prefix="wirt-work-") as programs:
    folder = os.path.dirname(image("work.ext4"))
    with tarfile.open(programs.name, "w") as archive:
        archive.add(PROGRAMS, "work")
    command = wirt("--kernel", f"{folder}/work.vmlinuz", "--initrd", f"{folder}/work.initrd", "--append",
                   "console=ttyS0 root=/dev/vda ro", "--memory", "2G", "--cpus", "2", "--disk", disk.name, "--disk", f"{programs.name},readonly")
    with Console(command, SECONDS) as guest:
        guest.wait_for("debian login:")
        guest.wait_for(PROMPT)
        guest.run("tar -xf /dev/vdb")
        assert guest.run("nproc") == "2"
        for word in sys.argv[1:]:
            name, _, words = word.partition(":")
            start = time.monotonic()
            said = guest.run(f"sh work/{name}.sh {words}; echo status $?")
            print(f"---- {word}: {time.monotonic() - start:.0f} s\n{said}", flush=True)
            if not said.endswith("status 0"):
                guest.fail(f"{word} failed")
        guest.type("poweroff\n")
        guest.finish(0)
        check_quiet(guest)
