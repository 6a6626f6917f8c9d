# SPDX-License-Identifier: Apache-2.0
"""What a disk with `"log": {"file": …}` recorded (block/filter.h): what the storage saw, in order."""
import struct

WRITE, FLUSH = 1, 2  # enum block_op
HEADER = struct.Struct("<8sIIQQ")


def records(path):
    """(operation, offset, bytes) of each record."""
    with open(path, "rb") as file:
        data = file.read()
    at = 0
    while at + HEADER.size <= len(data):
        magic, operation, _, offset, length = HEADER.unpack_from(data, at)
        assert magic == b"wBlkLog1", f"no record at {at}"
        at += HEADER.size
        content = b""
        if operation == WRITE:
            content = data[at:at + length]
            at += length
        yield operation, offset, content
