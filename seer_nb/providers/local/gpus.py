"""The NVIDIA GPUs of this computer that training may use, found without importing torch, which takes seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

_NO_GPU = frozenset({"", "-1"})
"""Entries of CUDA_VISIBLE_DEVICES that name no GPU."""
WSL_TOOL = "/usr/lib/wsl/lib/nvidia-smi"
TOOL_TIMEOUT_S = 10.0


def usable_gpus() -> tuple[str, ...]:
    """Return the names of the GPUs, as in CUDA_VISIBLE_DEVICES; none if the installed torch cannot use GPUs.

    GPUs that CUDA_VISIBLE_DEVICES leaves out belong to somebody else and are not returned.
    """
    return visible_gpus() if built_for_cuda() else ()


def visible_gpus() -> tuple[str, ...]:
    """Return the names of the GPUs, whether or not torch can use them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return _all() if visible is None else _parse_visible(visible)


def built_for_cuda() -> bool:
    """Return whether the installed torch may use GPUs; only a CPU build has "+cpu" in its version."""
    try:
        return not metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False


def count_with_tool() -> int:
    """Return how many GPUs nvidia-smi lists; 0 if it fails."""
    tool = shutil.which("nvidia-smi") or WSL_TOOL
    try:
        # The tool is at its fixed path, or on the user's own PATH.
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _parse_visible(visible: str) -> tuple[str, ...]:
    """Return the entries (numbers, or names like GPU-3a5b) before the first that names no GPU, as CUDA reads them."""
    names = [name.strip() for name in visible.split(",")]
    end = next((place for place, name in enumerate(names) if name in _NO_GPU), len(names))
    return tuple(names[:end])


def _all() -> tuple[str, ...]:
    files = [path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()]
    # Under WSL these files do not exist.
    count = len(files) or (count_with_tool() if Path("/dev/dxg").exists() else 0)
    return tuple(map(str, range(count)))
