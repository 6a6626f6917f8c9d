# SPDX-License-Identifier: Apache-2.0
"""The "new ASCII" cpio archive that Linux takes as an initial RAM disk.

Written here, so that device nodes and root's ownership need no root. Linux unpacks several archives that stand one after
another, so that files can be added to an initrd by appending an archive.
"""

BLOCK = 512


class CpioArchive:
    """Writes to an open binary file that stands at its start or at a block's."""

    def __init__(self, file):
        self.file, self.serial = file, 0

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.serial += 1
        path = name.encode() + b"\0"
        numbers = [self.serial, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0]
        head = b"070701" + b"".join(b"%08X" % number for number in numbers) + path
        self.file.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))

    def directory(self, name):
        self.add(name, 0o040755)

    def copy(self, path, name, mode=0o644):
        with open(path, "rb") as file:
            self.add(name, 0o100000 | mode, file.read())

    def close(self):
        self.add("TRAILER!!!", 0)
        self.file.write(bytes(-self.file.tell() % BLOCK))
