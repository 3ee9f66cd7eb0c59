"""The commands of ``shims.py``, as files that a machine's shell finds."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from seer_nb.loopback import shims

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = (
    "docker",
    "halt",
    "poweroff",
    "python",
    "python3",
    "reboot",
    "shutdown",
    "sudo",
    "systemctl",
    # They would set up this computer instead of a machine, and so do nothing.
    "add-apt-repository",
    "apt",
    "apt-get",
    "apt-key",
    "dpkg",
    "modprobe",
    "mount",
    "snap",
    "ubuntu-drivers",
)

DOCKER = f"docker() {{ {{ printf '%s\\0' \"$@\" | command docker {shims.HANDED_OVER} 3<&0 <&4 4<&-; }} 4<&0; }}"
"""For a machine's shell. What a container is told may be seen on a machine of its own, but here every user of this
computer sees the arguments of all processes. So they go through a pipe: a shell's own printf is no process."""


def write_tools(folder: Path) -> None:
    """Write the commands into a folder, for the PATH of machines."""
    folder.mkdir()
    program = shlex.join([sys.executable, "-I", "-S", shims.__file__])
    for name in _NAMES:
        tool = folder / name
        tool.write_text(f'#!/bin/sh\nexec {program} {name} "$@"\n')
        tool.chmod(0o755)
