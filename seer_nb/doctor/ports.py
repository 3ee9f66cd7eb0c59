"""Whether processes of this machine can speak with each other, as runner, scheduler and workers do."""

from __future__ import annotations

import resource
import socket
from typing import TYPE_CHECKING

from seer_nb.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 5.0
FEW_FILES = 1024
"""Each worker needs some: connections, its log, its pipes."""
_WORD = b"seer"


def check() -> Iterator[Finding]:
    """Listen on a free port of the loopback interface, and connect to it."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.settimeout(TIMEOUT_S)
            with socket.create_connection(listening.getsockname(), TIMEOUT_S) as near, listening.accept()[0] as far:
                near.sendall(_WORD)
                far.settimeout(TIMEOUT_S)
                arrived = far.recv(len(_WORD)) == _WORD
    except OSError as error:
        advice = "let programs of this machine connect to 127.0.0.1: a firewall or sandbox may forbid it"
        yield Finding("ports", "problem", f"nothing can be reached on 127.0.0.1 ({error})", advice)
        return
    if arrived:
        yield Finding("ports", "ok", "programs here can listen and connect on 127.0.0.1, on any free port")
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < FEW_FILES:
        text = f"a process may open only {files} files and connections"
        yield Finding("ports", "warning", text, f"ulimit -n {FEW_FILES} or more, before Jupyter starts")
