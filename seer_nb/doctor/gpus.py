"""Whether torch can use the GPUs that this computer has. Says nothing where there is none."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from seer_nb.doctor.finding import Finding, brief
from seer_nb.providers import gpus

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_S = 20.0
_COUNT = "import torch; print(torch.cuda.device_count())"
DRIVER = "the driver may be too old for this build: compare what nvidia-smi and torch.version.cuda say"


def check() -> Iterator[Finding]:
    """Compare what the system shows with what torch finds, in a process of its own."""
    there = len(gpus.present())
    if not there:
        return
    have = "a GPU" if there == 1 else f"{there} GPUs"
    if not gpus.built_for_cuda():
        text = f"this computer has {have}, but torch {metadata.version('torch')} is a build for CPUs only"
        yield Finding("gpus", "warning", text, "install a build of torch for CUDA to train on it")
        return
    try:
        asked = subprocess.run(
            [sys.executable, "-P", "-c", _COUNT], capture_output=True, text=True, timeout=LIMIT_S, check=True
        )
    except subprocess.TimeoutExpired:
        yield Finding("gpus", "warning", f"torch has not told within {LIMIT_S:.0f} s how many GPUs it finds", DRIVER)
        return
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
        yield Finding("gpus", "problem", f"torch cannot look for GPUs: {brief(RuntimeError(last[0]))}", DRIVER)
        return
    found = int(asked.stdout)
    if found < there:
        yield Finding("gpus", "problem", f"this computer has {have}, but torch finds {found}", DRIVER)
        return
    yield Finding("gpus", "ok", f"torch finds {have}: seer_nb.Local() has a worker for each")
