"""What is sent to machines on which seer_nb is not installed: functions by value, and seer_nb itself as an archive.

Unpickling there needs Dask and cloudpickle, nothing else; seer_nb's own code comes along, so that it is the version of
the notebook.
"""

from __future__ import annotations

import io
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

from seer_nb._utils.by_value import ByValue, by_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler, Worker


LEFT_OUT = frozenset({"bench", "simulate", "testing", "ui"})
"""Parts of seer_nb that no worker needs."""


class Bringer(WorkerPlugin):
    """Brings an agent to a worker, and seer_nb if it is not there.

    Args:
        agent: ``seer_nb.worker.agent.Agent``, pickled.
        archive: seer_nb as a zip archive; empty where it is installed.
    """

    name = "seer_nb"
    idempotent = True

    def __init__(self, agent: bytes, archive: bytes = b"") -> None:
        self.agent_bytes = agent
        self.archive = archive

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return cloudpickle.loads, (by_value(_Brought(self.agent_bytes, self.archive)),)


class _Brought(WorkerPlugin):
    """The same where it has arrived: it may use nothing of seer_nb until that is there."""

    name = "seer_nb"
    idempotent = True

    def __init__(self, agent: bytes, archive: bytes) -> None:
        self.agent_bytes = agent
        self.archive = archive

    def setup(self, worker: Worker) -> None:
        import hashlib
        import importlib
        import os
        import sys

        import cloudpickle

        if self.archive and "seer_nb" not in sys.modules:
            # In front of one that is installed: that may be another version.
            path = os.path.join(worker.local_directory, f"seer_nb-{hashlib.sha256(self.archive).hexdigest()[:16]}.zip")  # noqa: PTH118
            with open(path, "wb") as file:  # noqa: PTH123
                file.write(self.archive)
            sys.path.insert(0, path)
            importlib.invalidate_caches()
        self.agent = cloudpickle.loads(self.agent_bytes)
        self.agent.setup(worker)


class Departures(SchedulerPlugin):
    """Has the scheduler tell which workers have left it."""

    name = "seer_nb-departures"
    idempotent = True

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return cloudpickle.loads, (by_value(_Departures()),)


class _Departures(SchedulerPlugin):
    name = "seer_nb-departures"
    idempotent = True

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        import json

        scheduler.log_event("seer_nb", json.dumps({"type": "WorkerLeft", "address": worker}))


@lru_cache(maxsize=1)
def archive() -> bytes:
    """seer_nb's modules as a zip archive: the same bytes for the same code."""
    root = Path(__file__).parents[1]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(root.rglob("*.py")):
            inner = path.relative_to(root)
            if inner.parts[0] not in LEFT_OUT:
                file.writestr(zipfile.ZipInfo(str(Path("seer_nb") / inner)), path.read_bytes())
    return buffer.getvalue()


def _train(order: bytes) -> None:
    from seer_nb.worker import agent as worker_agent

    worker_agent.train(order)


def _said(before: int, dask_scheduler: Scheduler) -> tuple[int, tuple[tuple[float, str], ...]]:
    """How many messages there were ever on the study's topic, and those since there were ``before``, if still kept."""
    topic = dask_scheduler._broker._topics["seer_nb"]  # noqa: SLF001 - get_events() does not tell how many there were
    new = topic.count - before
    return topic.count, tuple(topic.events)[-new:] if new > 0 else ()


def _used(dask_scheduler: Scheduler) -> dict[str, tuple[float, int]]:
    """By the address of each worker: per cent of a core, and bytes of memory, as it last told."""
    metrics = {address: worker.metrics for address, worker in dask_scheduler.workers.items()}
    return {address: (float(x.get("cpu", 0.0)), int(x.get("memory", 0))) for address, x in metrics.items()}


def _addresses(dask_scheduler: Scheduler) -> list[str]:
    return list(dask_scheduler.workers)


addresses = ByValue(_addresses)
"""Of all workers; to be run on the scheduler."""
train = ByValue(_train)
"""The Dask task of one gang member."""
said = ByValue(_said)
"""What was said on the study's topic; to be run on the scheduler."""
used = ByValue(_used)
"""What the workers use of their machines; to be run on the scheduler."""
