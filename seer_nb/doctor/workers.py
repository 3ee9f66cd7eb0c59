"""Whether worker processes can be made, and train together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from seer_nb.doctor.finding import Finding, brief

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_S = 24.0
FORKED, AGREED = "two workers live", "they agree"
"""What the process says as it gets on."""


def check() -> Iterator[Finding]:
    """Have another process make two workers, as a study on this machine does, and let them add something up."""
    command = [sys.executable, "-P", "-m", "seer_nb.doctor.gang"]
    pipe = subprocess.PIPE
    # A session of its own, so that all of it can be ended.
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            said, errors = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, errors = process.communicate()
            yield _late(said)
            return
    if process.returncode == 0:
        yield Finding("workers", "ok", f"two worker processes trained together on torch {said.split()[-1]}")
        return
    last = errors.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
    yield _failed(said, last[0])


def _failed(said: str, error: str) -> Finding:
    text = brief(RuntimeError(error))
    if FORKED not in said:
        advice = "if torch cannot be imported, install it anew; if no process can be made, look at ulimit -u and memory"
        return Finding("workers", "problem", f"no worker process could be made: {text}", advice)
    advice = "let processes of this machine reach each other on 127.0.0.1; unset GLOO_SOCKET_IFNAME if it is set"
    return Finding("workers", "problem", f"two workers could not train together (gloo): {text}", advice)


def _late(said: str) -> Finding:
    if FORKED in said:
        return _failed(said, f"no answer within {LIMIT_S:.0f} s")
    text = f"no worker process was there after {LIMIT_S:.0f} s: torch takes long to import"
    return Finding("workers", "warning", text, "run it again, the second time is faster; else use a faster disk")
