"""Starts a runner as a separate process, which outlives the notebook's kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from seer_nb._utils.log_context import expand_tracebacks
from seer_nb._utils.text import printable
from seer_nb.storage import layout

TAIL_BYTES = 65_536
"""Bytes at the end of a log in which its last lines are searched."""


def launch(folder: Path, start_s: float | None = None) -> subprocess.Popen[bytes]:
    """Start a runner for a study; returns at once.

    Args:
        folder: Folder of the study.
        start_s: Reading of `steady_s` at which the study started; only for its first runner.

    Raises:
        UntrustedError: A file in the folder is not the one that the user stored.
    """
    layout.check_signatures(folder)
    # -P: a file such as random.py beside the notebook must not hide a module of the standard library.
    command = [sys.executable, "-P", "-m", "seer_nb.runner", str(folder)]
    if start_s is not None:
        command += ["--start-s", repr(start_s)]
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    log = os.open(folder / layout.LOGS / "runner.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            command,
            cwd=_working_directory(folder, log),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A session of its own: a kernel restart ends the kernel's process group, not the runner.
            start_new_session=True,
        )
    finally:
        os.close(log)


def _working_directory(folder: Path, log: int) -> Path:
    """Return the directory in which the study was created; if it is gone, because it was moved, the current one."""
    created_in = Path((folder / layout.CWD).read_text())
    if created_in.is_dir():
        return created_in
    os.write(log, f"{created_in}, where the study was created, is gone: running in {Path.cwd()}\n".encode())
    return Path.cwd()


def log_tail(folder: Path, lines: int = 12) -> str:
    """Return the last lines that a runner logged, without control characters."""
    path = folder / layout.LOGS / "runner.log"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        text = file.read(TAIL_BYTES).decode(errors="replace")
    return printable("\n".join(expand_tracebacks(text).splitlines()[-lines:]))
