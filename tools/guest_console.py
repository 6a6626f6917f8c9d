# SPDX-License-Identifier: Apache-2.0
"""A guest's serial console, driven by a program: waits for what the guest prints, types what it should read.

Every wait ends: by what it waits for, by the end of the VM's process, or by a deadline that starts with the
process. What the guest printed is kept whole for messages, and can be shown to a person while it comes.
"""
import codecs
import os
import re
import select
import subprocess
import time

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()][A-Z0-9]|\x1bc|\r|\x00")
HALF_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*|[()])?$")
PROMPT = r"root@debian:~# $"


class ConsoleError(Exception):
    """The guest did not do what was waited for; the text ends with what it printed last."""


class Console:
    """`command` runs with its standard input and output as the console. `show` gets each piece of text as it comes."""

    def __init__(self, command, seconds, show=None):
        self.command, self.deadline, self.show = command, time.monotonic() + seconds, show
        self.text, self.seen, self.half = "", 0, ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.vm = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.vm.poll() is None:
            self.vm.kill()
        self.vm.wait()
        self.vm.stdin.close()
        self.vm.stdout.close()

    def fail(self, why):
        raise ConsoleError(f"{self.text[-4000:]}\n---- {why}: {' '.join(self.command)}")

    def more(self):
        """Takes in what the guest prints next; False at the end of its output."""
        left = self.deadline - time.monotonic()
        if left <= 0 or not select.select([self.vm.stdout], [], [], left)[0]:
            self.fail("too late")
        data = os.read(self.vm.stdout.fileno(), 65536)
        # A sequence or a character may be cut in two by the end of a read.
        raw = self.half + self.decoder.decode(data)
        cut = HALF_ESCAPE.search(raw)
        self.half = cut.group(0) if cut else ""
        piece = ESCAPES.sub("", raw.removesuffix(self.half))
        self.text += piece
        if self.show and piece:
            self.show(piece)
        return data != b""

    def wait_for(self, pattern):
        """Waits until what came since the last wait matches, and returns the match."""
        while True:
            match = re.search(pattern, self.text[self.seen:])
            if match:
                self.seen += match.end()
                return match
            if not self.more():
                self.fail(f"ended before it printed '{pattern}'")

    def type(self, text):
        try:
            self.vm.stdin.write(text.encode())
            self.vm.stdin.flush()
        except BrokenPipeError:
            self.fail("ended while it was typed at")

    def run(self, line, prompt=PROMPT):
        """Types a line at the shell's prompt and returns what the command printed."""
        start = self.seen
        self.type(line + "\n")
        self.wait_for(prompt)
        return self.text[start:self.seen].partition("\n")[2].rpartition("\n")[0]

    def finish(self, status=0):
        """Waits for the end of the VM; its status must be the one given."""
        while self.more():
            pass
        if self.vm.wait() != status:
            self.fail(f"ended with status {self.vm.returncode} instead of {status}")
        return self.text
