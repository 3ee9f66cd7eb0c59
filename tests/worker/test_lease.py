"""The lease of a worker's process."""

import contextlib
import ctypes
import threading
import time
import types

import pytest

from seer_nb.worker import lease as leases


class EndedError(Exception):
    """Raised where the worker's process would exit."""


@pytest.fixture
def lease(monkeypatch):
    """A lease of a second, the thread that watches it, and whether it has expired."""
    monkeypatch.setattr(leases, "LATE_TIMER_S", 0.3)
    monkeypatch.setattr(leases, "SETTLE_S", 0.5)
    ended = threading.Event()

    def end(code):
        ended.set()
        raise EndedError

    monkeypatch.setattr(leases, "exit_process", end)
    made = leases.Lease(1.0)

    def watch():
        with contextlib.suppress(EndedError):
            made.exit_when_expired()

    thread = threading.Thread(target=watch, daemon=True)
    yield types.SimpleNamespace(lease=made, ended=ended, thread=thread)
    made.lease_s = -1e9
    thread.join(10)


def test_the_worker_exits_when_no_runner_renews_the_lease(lease):
    lease.thread.start()
    assert lease.ended.wait(10)


def test_a_renewed_lease_does_not_expire(lease):
    lease.thread.start()
    end_s = time.monotonic() + 2.0
    while time.monotonic() < end_s:
        lease.lease.renew()
        time.sleep(0.02)
    assert not lease.ended.is_set()


def test_a_suspended_process_receives_renewals_before_it_exits(lease):
    """A library holds the interpreter lock for longer than the lease: renewals came, and lie in the socket."""
    stop = threading.Event()

    def renew():
        while not stop.wait(0.02):
            lease.lease.renew()

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    lease.thread.start()
    time.sleep(0.1)
    ctypes.PyDLL(None).usleep(2_000_000)
    time.sleep(0.3)
    assert not lease.ended.is_set()
    stop.set()
    renewing.join()
