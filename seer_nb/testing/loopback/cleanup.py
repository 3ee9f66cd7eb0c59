"""Clean up after a loopback cloud, even if its process was killed.

This script runs as a separate process and imports nothing of seer_nb. It blocks on its standard input, whose other end
the cloud's process holds, and cleans up on the first byte or at end of file.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

MARK = "SEER_LOOPBACK_MACHINE"
"""Environment variable that every process of a machine inherits; its value is ``<cloud>/<machine>/``."""
KILL_TIMEOUT_S = 10.0


def marked_processes(mark: str) -> set[int]:
    """Return the processes whose mark starts with ``mark``. Zombies have no environment, so they are excluded."""
    needle = f"\0{MARK}={mark}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        # The process has exited, or belongs to another user.
        with suppress(OSError):
            if needle in b"\0" + (folder / "environ").read_bytes():
                found.add(int(folder.name))
    return found


def main(cloud: str, scratch: str) -> None:
    """Wait until the cloud closes, then kill its machines' processes and remove its temporary files."""
    sys.stdin.buffer.read(1)
    end = time.monotonic() + KILL_TIMEOUT_S
    while (left := marked_processes(f"{cloud}/")) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
