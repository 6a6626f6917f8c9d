# SPDX-License-Identifier: Apache-2.0
"""mitigations_test: the guest's kernel picks no mitigation that is useless in translated code (doc/security.md): all it has is Automatic IBRS,
which is a bit in a register, and what is compiled into it.
"""
import re

from wirt_guest import BUSYBOX_PROMPT, Console, busybox

with Console(busybox("cloud", "quiet"), 120) as vm:
    vm.wait_for(BUSYBOX_PROMPT)
    text = vm.run("(cd /sys/devices/system/cpu/vulnerabilities; grep . *)", BUSYBOX_PROMPT)
    vm.type("poweroff\n")
    vm.finish(0)
told = dict(line.strip().split(":", 1) for line in text.splitlines() if ":" in line)
assert len(told) >= 12, text
for name, state in told.items():
    if name == "spectre_v1":
        assert state.startswith("Mitigation: usercopy/swapgs barriers"), state
    elif name == "spectre_v2":
        assert re.match(r"Mitigation: Enhanced / Automatic IBRS", state) and "Retpolines" not in state and "IBPB" not in state, state
    else:
        assert state == "Not affected", f"{name}: {state}"
print("\n".join(f"{name}: {state}" for name, state in told.items()))
