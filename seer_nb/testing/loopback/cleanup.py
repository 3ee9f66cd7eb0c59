"""Clears up what is left of a cloud when the process that held it is gone, however that ended.

Runs by itself, without seer_nb, until something comes or its standard input ends: the cloud's process has the other end
of that pipe.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

MARK = "SEER_LOOPBACK_MACHINE"
"""Environment variable, inherited by all that runs on a machine: its cloud, a slash, the machine, a slash."""
PATIENCE_S = 10.0


def marked(mark: str) -> set[int]:
    """Living processes whose mark begins so. Zombies have no environment any more and are not among them."""
    needle = f"\0{MARK}={mark}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        # Gone meanwhile, or another user's.
        with suppress(OSError):
            if needle in b"\0" + (folder / "environ").read_bytes():
                found.add(int(folder.name))
    return found


def main(cloud: str, scratch: str) -> None:
    """Wait for the end of the cloud, then kill its machines' processes and remove its temporary files."""
    sys.stdin.buffer.read(1)
    end = time.monotonic() + PATIENCE_S
    while (left := marked(f"{cloud}/")) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
