"""A worker's own lease."""

import contextlib
import ctypes
import threading
import time
import types

import pytest

from seer_nb.worker import agent as agents


class EndedError(Exception):
    """Where a worker's process would be ended."""


@pytest.fixture
def lease(monkeypatch):
    """An agent's lease of a second, and what came of it."""
    monkeypatch.setattr(agents, "STOOD_STILL_S", 0.3)
    monkeypatch.setattr(agents, "CATCH_UP_S", 0.5)
    agent = agents.Agent(b"", 1.0)
    agent.renewed = time.monotonic()
    ended = threading.Event()

    def end(code):
        ended.set()
        raise EndedError

    monkeypatch.setattr(agents, "end_process", end)

    def keep():
        with contextlib.suppress(EndedError):
            agent._keep_lease()

    thread = threading.Thread(target=keep, daemon=True)
    yield types.SimpleNamespace(agent=agent, ended=ended, thread=thread)
    agent.renewed = -1e9
    thread.join(10)


def test_it_ends_when_the_runner_is_silent(lease):
    lease.thread.start()
    assert lease.ended.wait(10)


def test_a_process_that_could_not_listen_does_so_before_it_ends(lease):
    """A library that keeps Python's lock for longer than the lease: renewals came, and lie in the socket."""
    stop = threading.Event()

    def renew():
        while not stop.wait(0.02):
            lease.agent.renewed = time.monotonic()

    for _ in range(3):
        lease.agent.renewed = time.monotonic()
    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    lease.thread.start()
    time.sleep(0.1)
    ctypes.PyDLL(None).usleep(2_000_000)
    time.sleep(0.3)
    assert not lease.ended.is_set()
    stop.set()
    renewing.join()
