# SPDX-License-Identifier: Apache-2.0
"""dma_test WIRT GUEST TIER: devices overwrite code that was executed; see dma.c."""
import subprocess
import sys
import tempfile

SECTORS = 64
EXPECTED = "functions read from the disk: 40\nfunctions received from the network: 40\n"

wirt, guest, tier = sys.argv[1:4]
with tempfile.NamedTemporaryFile(prefix="wirt-test-") as disk:
    for sector in range(SECTORS):
        disk.write(b"\xb8" + sector.to_bytes(4, "little") + b"\xc3" + bytes(506))
    disk.flush()
    done = subprocess.run([wirt, "run", "--kernel", guest, "--accel", tier, "--memory", "512M", "--timeout", "60", "--disk", disk.name, "--net", "user"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90, check=False)
text = done.stdout.decode("latin-1").replace("\r", "")
if done.returncode != 1 or text != EXPECTED:
    sys.exit(f"status {done.returncode}\n{text}")
