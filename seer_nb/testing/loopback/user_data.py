"""Convert an instance's user data to one shell script, as cloud-init does."""

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
    # These would install software on this computer, so they do nothing.
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

DOCKER = f"docker() {{ {{ printf '%s\\0' \"$@\" | command docker {shims.ARGUMENTS_FROM_PIPE} 3<&0 <&4 4<&-; }} 4<&0; }}"
"""Shell function that passes the arguments of ``docker`` through a pipe.

On this computer every user can see the arguments of all processes, which may hold secrets. The shell's builtin printf
starts no process.
"""


def write_shims(folder: Path) -> None:
    """Write the replaced commands into a new folder for the PATH of machines."""
    folder.mkdir()
    program = shlex.join([sys.executable, "-I", "-S", shims.__file__])
    for name in _NAMES:
        tool = folder / name
        tool.write_text(f'#!/bin/sh\nexec {program} {name} "$@"\n')
        tool.chmod(0o755)


MAX_BYTES = 2**20
"""Maximum size of user data in bytes, far above the limit of any cloud."""
_POWER_COMMAND = re.compile(r"/s?bin/(?:shutdown|poweroff|halt|reboot)\b")


@dataclass(frozen=True, slots=True)
class Boot:
    """The script that a machine runs, and the sections of its cloud-config that are ignored."""

    script: str
    ignored: tuple[str, ...] = ()


def parse(data: bytes) -> Boot:
    """Parse user data: empty, a script, or a cloud-config, of which only ``runcmd`` is used; gzipped or not.

    Raises:
        ValueError: The data is neither, or would shut down this computer.
    """
    text = _text(data)
    if text.startswith("#cloud-config"):
        boot = _cloud_config(text)
    elif text.startswith("#!"):
        boot = Boot(text)
    elif not text.strip():
        boot = Boot("#!/bin/sh\n")
    else:
        raise ValueError(
            f"user data begins with {text[:20]!r}; expected a #cloud-config or a script that begins with #!"
        )
    if fatal := _POWER_COMMAND.search(boot.script):
        # Without a path, the machine's PATH leads to the harmless shim.
        raise ValueError(
            f"user data calls {fatal.group()}, which would shut down this computer; expected it without a path"
        )
    return boot


def _text(data: bytes) -> str:
    try:
        if data.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"user data is too long; expected at most {MAX_BYTES} bytes")
        return data.decode()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"user data cannot be decompressed: {error}") from None
    except UnicodeDecodeError:
        raise ValueError("user data is not UTF-8 text") from None


def _cloud_config(text: str) -> Boot:
    yaml: Any = importlib.import_module("yaml")  # it has no types
    try:
        config = yaml.safe_load(text) or {}
    # An invalid date raises ValueError.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"user data is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ValueError("user data is not YAML: it is nested too deeply") from None
    if not isinstance(config, dict):
        raise ValueError(f"user data is a {type(config).__name__}; expected a mapping in a #cloud-config")  # noqa: TRY004
    given = config.get("runcmd") or []
    if not isinstance(given, list):
        raise ValueError(f"runcmd={short_repr(given)}: expected a list of strings or of lists of words")  # noqa: TRY004
    ignored = tuple(str(name) for name in config if name != "runcmd")
    return Boot("\n".join(["#!/bin/sh", DOCKER, *map(_line, given), ""]), ignored)


def _line(item: object) -> str:
    """Return one line of shell: a string as it is, a list as the quoted words of a command."""
    if isinstance(item, str):
        return item
    if isinstance(item, list):
        return shlex.join(str(word) for word in item)
    raise ValueError(f"runcmd has the item {short_repr(item)}; expected a string or a list of words")
