# SPDX-License-Identifier: Apache-2.0
"""disk_vhdx_log_test WIRT: a VHDX image that was not closed is read as if its log had been applied.

Logs are made here, of one entry or several, around the end of the ring, for images whose block table was damaged where the log mends it; wirt must read
what qemu-img reads once it has applied the log to the file itself. Logs that are stale, torn or not of this image are not applied.
"""
import os
import struct
import subprocess
import sys
import tempfile

WIRT = sys.argv[1]
KIB, MIB = 1 << 10, 1 << 20
SECTOR = 4 * KIB
GUID = bytes(range(16, 32))
BAT = bytes.fromhex("6677c22d23f600429d64115e9bfd4a08")
TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
    TABLE.append(n)


def crc32c(data):
    sum_ = 0xffffffff
    for byte in data:
        sum_ = sum_ >> 8 ^ TABLE[(sum_ ^ byte) & 255]
    return sum_ ^ 0xffffffff


def shell(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: status {done.returncode}\n{done.stdout}"
    return done.stdout


def entry(number, tail, patches, zeros=(), guid=GUID, size=0):
    """An entry that puts `patches`, (offset, 4 KiB), in place and clears `zeros`, (offset, length)."""
    count = len(patches) + len(zeros)
    sectors = 1 + max(0, count - 126 + 127) // 128
    descriptors, data = b"", b""
    for offset, bytes_ in patches:
        descriptors += struct.pack("<4s4s8sQQ", b"desc", bytes_[-4:], bytes_[:8], offset, number)
        data += struct.pack("<4sI", b"data", number >> 32) + bytes_[8:-4] + struct.pack("<I", number & 0xffffffff)
    for offset, length in zeros:
        descriptors += struct.pack("<4sIQQQ", b"zero", 0, length, offset, number)
    length = sectors * SECTOR + len(data)

    def head(sum_):
        return struct.pack("<4sIIIQII16sQQ", b"loge", sum_, length, tail, number, count, 0, guid, size, size)

    rest = descriptors.ljust(sectors * SECTOR - 64, b"\0") + data
    return head(crc32c(head(0) + rest)) + rest


class Image:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = bytearray(file.read())
        heads = [at for at in (64 * KIB, 128 * KIB) if self.bytes[at:at + 4] == b"head"]
        self.head = max(heads, key=lambda at: struct.unpack_from("<Q", self.bytes, at + 8)[0])
        self.log_bytes, self.log = struct.unpack_from("<IQ", self.bytes, self.head + 68)
        count = struct.unpack_from("<I", self.bytes, 192 * KIB + 8)[0]
        for n in range(count):
            at = 192 * KIB + 16 + 32 * n
            if self.bytes[at:at + 16] == BAT:
                self.bat = struct.unpack_from("<Q", self.bytes, at + 16)[0]

    def sector(self, at):
        return bytes(self.bytes[at:at + SECTOR])

    def put_log(self, place, data):
        for n in range(0, len(data), SECTOR):
            at = self.log + (place + n) % self.log_bytes
            self.bytes[at:at + SECTOR] = data[n:n + SECTOR]

    def save(self, path):
        head = bytearray(self.sector(self.head))
        head[48:64] = GUID
        head[4:8] = bytes(4)
        head[4:8] = struct.pack("<I", crc32c(head))
        self.bytes[self.head:self.head + SECTOR] = head
        with open(path, "wb") as file:
            file.write(self.bytes)


def read(folder, path, by_qemu=False):
    raw = f"{folder}/read.raw"
    if by_qemu:
        shell("qemu-img", "check", "-q", "-r", "all", path)
        shell("qemu-img", "convert", "-f", "vhdx", "-O", "raw", path, raw)
    else:
        shell(WIRT, "disk", "convert", path, raw, "--format", "raw", "--force")
    with open(raw, "rb") as file:
        return file.read()


def test(folder):
    plain, path = f"{folder}/plain.raw", f"{folder}/image.vhdx"
    content = b"".join(os.urandom(MIB) for _ in range(6))
    with open(plain, "wb") as file:
        file.write(content)
    shell("qemu-img", "convert", "-f", "raw", "-O", "vhdx", "-o", "block_size=1M", plain, f"{folder}/whole.vhdx")

    def case(what, make, wanted, qemu=True):
        image = Image(f"{folder}/whole.vhdx")
        table = image.sector(image.bat)
        image.bytes[image.bat:image.bat + SECTOR] = bytes(SECTOR)  # nothing is allocated, it says
        make(image, table)
        image.save(path)
        before = bytes(image.bytes)
        assert read(folder, path) == wanted, what
        with open(path, "rb") as file:
            assert file.read() == before, f"{what}: the image was changed"
        if qemu:
            assert read(folder, path, by_qemu=True) == wanted, f"{what}: qemu-img reads something else"
        print(what)

    nothing = bytes(len(content))
    half = content[:3 * MIB] + nothing[3 * MIB:]

    def one(image, table):
        image.put_log(0, entry(7, 0, [(image.bat, table)], size=len(image.bytes)))

    def several(image, table):
        first = entry(7, 0, [(image.bat, os.urandom(SECTOR)), (image.bat + SECTOR, bytes(SECTOR))], size=len(image.bytes))
        second = entry(8, 0, [], [(image.bat, SECTOR)], size=len(image.bytes))
        third = entry(9, 0, [(image.bat, table[:24] + bytes(SECTOR - 24))], size=len(image.bytes))
        image.put_log(0, first + second + third)

    def around(image, table):
        tail = image.log_bytes - SECTOR
        first = entry(7, tail, [(image.bat, bytes(SECTOR))], size=len(image.bytes))
        image.put_log(tail, first + entry(8, tail, [(image.bat, table)], size=len(image.bytes)))

    def torn(image, table):
        one(image, table)
        bad = bytearray(entry(8, 0, [(image.bat, bytes(SECTOR))], size=len(image.bytes)))
        bad[5000] ^= 1
        image.put_log(2 * SECTOR, bytes(bad))

    def foreign(image, table):
        image.put_log(0, entry(7, 0, [(image.bat, table)], guid=bytes(16), size=len(image.bytes)))

    def gap(image, table):
        image.put_log(0, entry(7, 0, [(image.bat, table)]) + entry(9, 0, [(image.bat, bytes(SECTOR))]))

    case("one entry", one, content)
    case("several entries, the last one decides", several, half)
    case("around the end of the ring", around, content)
    case("a torn entry behind is not applied", torn, content)
    case("an entry of another log", foreign, nothing, qemu=False)
    case("an entry behind a gap", gap, content, qemu=False)


with tempfile.TemporaryDirectory(prefix="wirt-vhdx-") as where:
    test(where)
