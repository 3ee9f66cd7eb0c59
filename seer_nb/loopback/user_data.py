"""From an instance's user data to one shell script, as cloud-init makes it."""

from __future__ import annotations

import gzip
import importlib
import re
import shlex
from dataclasses import dataclass
from typing import Any

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
    text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()
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


def _cloud_config(text: str) -> Boot:
    yaml: Any = importlib.import_module("yaml")  # it has no types
    try:
        config = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"user data is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"user data is a {type(config).__name__}: a #cloud-config is a mapping")  # noqa: TRY004
    lines = [_line(item) for item in config.get("runcmd") or []]
    ignored = tuple(name for name in config if name != "runcmd")
    return Boot("\n".join(["#!/bin/sh", *lines, ""]), ignored)


def _line(item: object) -> str:
    """A text is a line of shell, a list the words of one command."""
    if isinstance(item, str):
        return item
    if isinstance(item, list):
        return shlex.join(str(word) for word in item)
    raise ValueError(f"runcmd has the item {item!r}: give a text or a list of words")
