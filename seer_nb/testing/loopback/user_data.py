"""From an instance's user data to one shell script, as cloud-init makes it."""

from __future__ import annotations

import gzip
import importlib
import io
import re
import shlex
import sys
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import short_repr
from seer_nb.testing.loopback import shims

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


LONGEST = 2**20
"""Bytes; no cloud takes so many."""
_FATAL = re.compile(r"/s?bin/(?:shutdown|poweroff|halt|reboot)\b")


@dataclass(frozen=True, slots=True)
class Boot:
    """What a machine runs, and which sections of its cloud-config it leaves undone."""

    script: str
    ignored: tuple[str, ...] = ()


def read(data: bytes) -> Boot:
    """Read user data: nothing, a script, or a cloud-config, of which only ``runcmd`` is done; gzipped or not.

    Raises:
        ValueError: If it is neither, or would shut down this very computer.
    """
    text = _text(data)
    if text.startswith("#cloud-config"):
        boot = _cloud_config(text)
    elif text.startswith("#!"):
        boot = Boot(text)
    elif not text.strip():
        boot = Boot("#!/bin/sh\n")
    else:
        raise ValueError(f"user data begins with {text[:20]!r}: give a #cloud-config or a script that begins with #!")
    if fatal := _FATAL.search(boot.script):
        # By its bare name it is found among the machine's own tools.
        raise ValueError(f"user data calls {fatal.group()}, which would end this very computer: call it by its name")
    return boot


def _text(data: bytes) -> str:
    try:
        if data.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(LONGEST + 1)
        if len(data) > LONGEST:
            raise ValueError(f"user data has more than {LONGEST} bytes: give a shorter one")
        return data.decode()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"user data cannot be unpacked: {error}") from None
    except UnicodeDecodeError:
        raise ValueError("user data is not text in UTF-8") from None


def _cloud_config(text: str) -> Boot:
    yaml: Any = importlib.import_module("yaml")  # it has no types
    try:
        config = yaml.safe_load(text) or {}
    # A date that is none is a ValueError of the date's.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"user data is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ValueError("user data is not YAML: it is nested too deeply") from None
    if not isinstance(config, dict):
        raise ValueError(f"user data is a {type(config).__name__}: a #cloud-config is a mapping")  # noqa: TRY004
    given = config.get("runcmd") or []
    if not isinstance(given, list):
        raise ValueError(f"runcmd is {short_repr(given)}: give a list of texts or of lists of words")  # noqa: TRY004
    ignored = tuple(str(name) for name in config if name != "runcmd")
    return Boot("\n".join(["#!/bin/sh", DOCKER, *map(_line, given), ""]), ignored)


def _line(item: object) -> str:
    """A text is a line of shell, a list the words of one command."""
    if isinstance(item, str):
        return item
    if isinstance(item, list):
        return shlex.join(str(word) for word in item)
    raise ValueError(f"runcmd has the item {short_repr(item)}: give a text or a list of words")
