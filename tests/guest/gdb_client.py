# SPDX-License-Identifier: Apache-2.0
"""A client of gdb's remote protocol, so that every packet is seen; gdb is not needed."""
import re

from wirt_guest import connect


class Debugger:
    def __init__(self, path):
        self.socket = connect(path)
        self.socket.settimeout(60)
        self.file = self.socket.makefile("rb")
        self.names = []
        assert self.ask("QStartNoAckMode") == "OK"

    def send(self, text):
        self.socket.sendall(b"$%s#%02x" % (text.encode(), sum(text.encode()) & 255))

    def answer(self):
        byte = self.file.read(1)
        while byte != b"$":
            assert byte in (b"+", b"-"), byte
            byte = self.file.read(1)
        text = b""
        while not text.endswith(b"#"):
            text += self.file.read(1)
        assert int(self.file.read(2), 16) == sum(text[:-1]) & 255
        return text[:-1].decode()

    def ask(self, text):
        self.send(text)
        return self.answer()

    def register(self, number):
        return int.from_bytes(bytes.fromhex(self.ask(f"p{number:x}")), "little")

    def registers(self):
        """All registers by name, as the machine describes them."""
        if not self.names:
            description, more = "", "m"
            while more == "m":
                piece = self.ask(f"qXfer:features:read:target.xml:{len(description):x},800")
                more, description = piece[0], description + piece[1:]
            self.names = re.findall(r'<reg name="(\w+)" bitsize="(\d+)"', description)
        raw, found = bytes.fromhex(self.ask("g")), {}
        for name, bits in self.names:
            size = int(bits) // 8
            found[name], raw = int.from_bytes(raw[:size], "little"), raw[size:]
        assert not raw
        return found

    def memory(self, address, length):
        return int.from_bytes(bytes.fromhex(self.ask(f"m{address:x},{length:x}")), "little")

    def run_to(self, address):
        """Goes on to a breakpoint, which is taken away again."""
        assert self.ask(f"Z0,{address:x},1") == "OK"
        assert self.ask("c") == "T05thread:1;"
        assert self.ask(f"z0,{address:x},1") == "OK"
        return self.registers()
