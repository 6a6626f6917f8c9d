# SPDX-License-Identifier: Apache-2.0
"""How a test that an ordinary user runs comes to what only root may do: by sudo, where that asks for no password.

Only what needs root is run so, wherever the two can be told apart: a server as root, wirt before it as the user. As root nothing changes.
"""
import functools
import os
import shutil
import subprocess
import sys


@functools.lru_cache(maxsize=None)
def words():
    """What stands before a command of root's: nothing for root, None where root is not to be had."""
    if os.geteuid() == 0:
        return ()
    sudo = ("sudo", "-n")
    if not shutil.which("sudo") or subprocess.run([*sudo, "true"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
        return None
    return sudo


def again(*before, words_after=()):
    """Runs this program again as root, behind the words `before`, with its own words and `words_after`. Returns where root is not to be had, or may not do
    what `before` does, as in many containers."""
    if words() is None or subprocess.run([*words(), *before, "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        return
    # What root leaves behind in the user's home or tree, the user cannot remove.
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME") and not name.startswith("XDG_")}
    kept["PATH"] += ":/usr/sbin:/sbin"  # where an ordinary user of Debian does not look
    command = [*words(), "env", *(f"{name}={value}" for name, value in kept.items()), "PYTHONDONTWRITEBYTECODE=1", *before, sys.executable, *sys.argv, *words_after]
    os.execvp(command[0], command)
