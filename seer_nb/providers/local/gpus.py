"""The NVIDIA GPUs of this machine that training may use, found without importing torch, which takes seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

_HIDDEN = frozenset({"", "-1"})
WSL_TOOL = "/usr/lib/wsl/lib/nvidia-smi"
ANSWER_S = 10.0


def usable() -> tuple[str, ...]:
    """Names of the GPUs, as CUDA_VISIBLE_DEVICES takes them; none if the installed torch can use none.

    What CUDA_VISIBLE_DEVICES says already is kept to: the GPUs that it leaves out are somebody else's.
    """
    return present() if built_for_cuda() else ()


def present() -> tuple[str, ...]:
    """The same, whatever torch is installed."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return _all() if visible is None else _named(visible)


def built_for_cuda() -> bool:
    """Whether the installed torch may use GPUs: a build for CPUs only says so in its version."""
    try:
        return not metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False


def _named(visible: str) -> tuple[str, ...]:
    """What a list names up to the first entry that is no GPU, as CUDA reads it: numbers, or names like GPU-3a5b."""
    names = [name.strip() for name in visible.split(",")]
    end = next((place for place, name in enumerate(names) if name in _HIDDEN), len(names))
    return tuple(names[:end])


def _all() -> tuple[str, ...]:
    files = [path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()]
    # Under Windows' Linux there are no such files.
    count = len(files) or (_told() if Path("/dev/dxg").exists() else 0)
    return tuple(map(str, range(count)))


def _told() -> int:
    """How many GPUs NVIDIA's own tool lists; 0 if it does not answer."""
    tool = shutil.which("nvidia-smi") or WSL_TOOL
    try:
        # The tool is named by its whole path or found on the user's own.
        said = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=ANSWER_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in said.stdout.splitlines())
