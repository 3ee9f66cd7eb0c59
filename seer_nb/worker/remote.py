"""Code that is sent to machines without seer_nb: Dask plugins and functions, pickled by value, and seer_nb as a zip.

Unpickling on such a machine needs only Dask and cloudpickle. The zip archive brings seer_nb in the notebook's version.
"""

from __future__ import annotations

import io
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

from seer_nb._utils.by_value import ByValue, pickle_by_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler, Worker


OPTIONAL = frozenset({"bench", "simulate", "testing"})
"""Subpackages of seer_nb that workers need only if the training function uses them."""
KEPT_RECORDS = 20_000
"""Records that the scheduler keeps at most while no runner fetches them."""
EVENT_LOG = "seer_nb-events"
"""Name of the scheduler plugin `EventLogPlugin`."""


class AgentPlugin(WorkerPlugin):
    """Worker plugin that installs the agent on a worker, and seer_nb itself where it is missing.

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
        return cloudpickle.loads, (pickle_by_value(_AgentPlugin(self.agent_bytes, self.archive)),)


class _AgentPlugin(WorkerPlugin):
    """`AgentPlugin` as unpickled on a worker: it must not use seer_nb before the archive is on sys.path."""

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
            # In front of an installed seer_nb, which may be another version.
            path = os.path.join(worker.local_directory, f"seer_nb-{hashlib.sha256(self.archive).hexdigest()[:16]}.zip")  # noqa: PTH118 - pickled by value
            with open(path, "wb") as file:  # noqa: PTH123 - likewise
                file.write(self.archive)
            sys.path.insert(0, path)
            importlib.invalidate_caches()
        self.agent = cloudpickle.loads(self.agent_bytes)
        self.agent.setup(worker)

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's signature
        self.agent.close()


class EventLogPlugin(SchedulerPlugin):
    """Scheduler plugin that numbers the study's records and keeps each until the runner has acknowledged it.

    It keeps records of workers that have died since, and those sent while the runner was disconnected. It also adds a
    `WorkerLeft` record for each worker that leaves the scheduler.

    Args:
        kept: Records to keep at most while no runner fetches them; the oldest are dropped.
    """

    name = EVENT_LOG
    idempotent = True

    def __init__(self, kept: int = KEPT_RECORDS) -> None:
        self.kept = kept

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return cloudpickle.loads, (pickle_by_value(_EventLogPlugin(self.kept)),)


class _EventLogPlugin(SchedulerPlugin):
    name = EVENT_LOG
    idempotent = True

    def __init__(self, kept: int) -> None:
        from collections import deque

        self._last = 0
        """Number of the last record."""
        self._records: deque[str] = deque(maxlen=kept)
        """Newest records; ``_last`` is the number of the last one."""

    def log_event(self, topic: str, msg: Any) -> None:
        if topic == "seer_nb":
            self._last += 1
            self._records.append(msg)

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        import json

        scheduler.log_event("seer_nb", json.dumps({"type": "WorkerLeft", "address": worker}))

    def records_since(self, acknowledged: int) -> tuple[int, tuple[str, ...]]:
        """Drop the records up to an acknowledged number; return the last number and the records after it."""
        while self._records and self._last - len(self._records) < acknowledged:
            self._records.popleft()
        return self._last, tuple(self._records)


def archive(function: bytes) -> bytes:
    """Return seer_nb's modules as a zip archive: the same bytes for the same code.

    Args:
        function: The pickled training function, whose references to `OPTIONAL` subpackages add these.
    """
    return _archive(frozenset(name for name in OPTIONAL if f"seer_nb.{name}".encode() not in function))


@lru_cache(maxsize=1)
def _archive(left_out: frozenset[str]) -> bytes:
    root = Path(__file__).parents[1]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for path in sorted(root.rglob("*.py")):
            inner = path.relative_to(root)
            if inner.parts[0] not in left_out:
                info = zipfile.ZipInfo(str(Path("seer_nb") / inner))  # without a time of modification
                file.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _train(task: bytes) -> None:
    from seer_nb.worker import agent

    agent.train(task)


def _records_since(acknowledged: int, dask_scheduler: Scheduler) -> tuple[int, tuple[str, ...]]:
    plugin: Any = dask_scheduler.plugins.get(EVENT_LOG)
    return (0, ()) if plugin is None else plugin.records_since(acknowledged)


def _resource_use(dask_scheduler: Scheduler) -> dict[str, tuple[float, int]]:
    metrics = {address: worker.metrics for address, worker in dask_scheduler.workers.items()}
    return {address: (float(x.get("cpu", 0.0)), int(x.get("memory", 0))) for address, x in metrics.items()}


def _addresses(dask_scheduler: Scheduler) -> list[str]:
    return list(dask_scheduler.workers)


train = ByValue(_train)
"""The Dask task of one gang member; its argument is a `MemberTask` as JSON."""
addresses = ByValue(_addresses)
"""Returns the addresses of all workers; runs on the scheduler."""
records_since = ByValue(_records_since)
"""Acknowledges the study's records up to a number and returns the last number and the later ones; on the scheduler."""
resource_use = ByValue(_resource_use)
"""Returns per worker address the use of one core in per cent and of memory in bytes; runs on the scheduler."""
