"""A script in which two worker processes, started as seer.Local starts them, compute a sum with torch.distributed."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import Any

from seer_nb.providers.local import process_context, stop_process_helpers
from seer_nb.ui.cli.doctor.local import PROBE_AGREED, PROBE_STARTED

SIZE, TIMEOUT_S = 2, 10.0


def member(rank: int, ends: Any) -> None:
    """Run one member: rank 0 sends its port; each member sends its error, or an empty text."""
    import torch
    import torch.distributed as dist

    from seer_nb.worker.rendezvous import BACKEND_CPU, host_store

    try:
        torch.set_num_threads(1)
        store, port = host_store("127.0.0.1") if rank == 0 else _joined(ends)
        if rank == 0:
            ends.send(port)
        timeout = timedelta(seconds=TIMEOUT_S)
        dist.init_process_group(BACKEND_CPU, store=store, rank=rank, world_size=SIZE, timeout=timeout)
        total = torch.tensor(float(rank + 1))
        dist.all_reduce(total)
        ends.send("" if total.item() == sum(range(1, SIZE + 1)) else f"the sum is {total.item()}")
    except Exception as error:  # noqa: BLE001 - the parent process reports any error
        ends.send(f"{type(error).__name__}: {' '.join(str(error).split())}")
    ends.close()
    # Skip torch's shutdown, which would wait for the other member.
    os._exit(0)


def _joined(ends: Any) -> tuple[Any, int]:
    import torch.distributed as dist

    port = ends.recv()
    tcp_store: Any = dist.TCPStore  # type: ignore[attr-defined]
    return tcp_store("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=TIMEOUT_S)), port


def main() -> int:
    """Start the members and report their results."""
    context: Any = process_context()
    pipes = [context.Pipe() for _ in range(SIZE)]
    members = [context.Process(target=member, args=(rank, pipes[rank][1]), daemon=True) for rank in range(SIZE)]
    try:
        for process in members:
            process.start()
        sys.stdout.write(f"{PROBE_STARTED}\n")
        sys.stdout.flush()
        pipes[1][0].send(pipes[0][0].recv())
        wrong = list(filter(None, (ours.recv() for ours, _ in pipes)))
    finally:
        for process in members:
            if process.pid is not None:
                process.kill()
        stop_process_helpers()
    from importlib.metadata import version

    sys.stderr.writelines(f"{text}\n" for text in wrong)
    sys.stdout.write(f"{PROBE_AGREED if not wrong else ''} {version('torch')}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
