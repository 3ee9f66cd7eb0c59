"""Starts a runner as a process of its own, which outlives the notebook's kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from seer_nb._utils.log_context import in_lines
from seer_nb._utils.text import printable
from seer_nb.storage import layout

TAIL_BYTES = 65_536
"""Of a log that are looked at for its last lines."""


def launch(folder: Path, since: float | None = None) -> subprocess.Popen[bytes]:
    """Start a runner for the study in ``folder``.

    Args:
        folder: The study's.
        since: Reading of steady_s() at which the study began; only for its first runner.

    Raises:
        UntrustedError: What is stored there is not what the user has stored.
    """
    layout.check(folder)
    # -P: a file called, say, random.py beside the notebook must not hide a module of the standard library.
    command = [sys.executable, "-P", "-m", "seer_nb.runner", str(folder)]
    if since is not None:
        command += ["--since", repr(since)]
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    log = os.open(folder / layout.LOGS / "runner.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            command,
            cwd=_directory(folder, log),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Its own session: a kernel restart ends the kernel's process group, not this.
            start_new_session=True,
        )
    finally:
        os.close(log)


def _directory(folder: Path, log: int) -> Path:
    """Where the study was made; if that is gone, as when all of it was moved, where this process is."""
    made = Path((folder / layout.CWD).read_text())
    if made.is_dir():
        return made
    os.write(log, f"{made}, where the study was made, is gone: it goes on in {Path.cwd()}\n".encode())
    return Path.cwd()


def log_tail(folder: Path, lines: int = 12) -> str:
    """The last lines that a runner wrote, without what would steer a terminal."""
    path = folder / layout.LOGS / "runner.log"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        text = file.read(TAIL_BYTES).decode(errors="replace")
    return printable("\n".join(in_lines(text).splitlines()[-lines:]))
