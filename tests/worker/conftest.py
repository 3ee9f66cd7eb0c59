"""Gangs as on real machines: one member in this process, or two worker processes connected by gloo."""

import gc
import subprocess
import sys
from multiprocessing.connection import Listener
from pathlib import Path
from typing import NamedTuple

import cloudpickle
import pytest

from seer_nb.core import Reported
from seer_nb.worker.agent import GangSignals
from seer_nb.worker.member import run_member
from seer_nb.worker.messages import MemberEnded, MemberTask

WORKER = Path(__file__).with_name("worker_process.py")


class Sent(NamedTuple):
    """The records that one member sent."""

    reports: list[Reported]
    end: MemberEnded


def sent(records) -> Sent:
    *reports, end = records
    assert all(isinstance(report, Reported) for report in reports)
    assert isinstance(end, MemberEnded)
    return Sent(reports, end)


class Workers:
    """Worker processes that take one task after the other, as Dask's do."""

    def __init__(self, count: int) -> None:
        listener = Listener(authkey=b"seer")
        self.processes = [subprocess.Popen([sys.executable, str(WORKER), str(listener.address)]) for _ in range(count)]
        self.connections = [listener.accept() for _ in range(count)]
        self.ports = [connection.recv() for connection in self.connections]
        listener.close()

    def train(self, function, orders, hook=None) -> list[Sent]:
        for connection, order in zip(self.connections, orders, strict=True):
            connection.send_bytes(cloudpickle.dumps((function, order, hook)))
        return [sent(connection.recv()) for connection in self.connections]

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        for process in self.processes:
            assert process.wait(20) == 0


@pytest.fixture(scope="session")
def workers():
    pool = Workers(2)
    yield pool
    pool.close()


@pytest.fixture(autouse=True, scope="package")
def frozen_heap():
    """Exclude what pytest has imported from garbage collection, as a worker does: members collect after each gang."""
    import torch._dynamo  # noqa: F401 - the first optimizer would import it

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Gangs:
    """Trains a function in one gang after the other."""

    def __init__(self, store: Path, request: pytest.FixtureRequest) -> None:
        self.store = store
        self._request = request
        cloudpickle.register_pickle_by_value(request.module)
        self._gang = 0

    def order(self, rank: int = 0, size: int = 1, port: int = 0, **changes) -> MemberTask:
        fields = {
            "gang": self._gang,
            "trial": 7,
            "config": {},
            "rank": rank,
            "world_size": size,
            "store_host": "127.0.0.1",
            "store_port": port,
            "from_epoch": 0,
            "checkpoint": None,
            "until": 3,
            "max_epochs": 27,
            "metric": "accuracy",
            "seed": 0,
            "store": str(self.store),
            "logs": None,
            "timeout_s": 5.0,
            "store_retry_s": 1.0,
        }
        return MemberTask(**(fields | changes))

    def alone(self, function, signals=None, hook=None, **changes) -> Sent:
        """Train one member, in this process."""
        self._gang += 1
        signals = signals or GangSignals()
        records = []

        def send(record):
            records.append(record)
            if hook:
                hook(record, signals)

        run_member(function, self.order(**changes), send, signals)
        return sent(records)

    def pair(self, function, hook=None, second=None, **changes) -> list[Sent]:
        """Train two members, each in its own process; ``second`` changes the order of rank 1 only."""
        pool = self._request.getfixturevalue("workers")
        # Gang numbers differ over all tests, as they do within a study.
        pool.gang = getattr(pool, "gang", 1000) + 1
        self._gang = pool.gang
        each = (changes, {**changes, **(second or {})})
        orders = [self.order(rank, 2, pool.ports[0], **given) for rank, given in enumerate(each)]
        return pool.train(function, orders, hook)

    def train(self, function, size: int = 1, **changes) -> Sent:
        """Train one member or two; returns what rank 0 sent."""
        return self.alone(function, **changes) if size == 1 else self.pair(function, **changes)[0]


@pytest.fixture
def gangs(tmp_path, request):
    made = Gangs(tmp_path / "store", request)
    yield made
    cloudpickle.unregister_pickle_by_value(request.module)
