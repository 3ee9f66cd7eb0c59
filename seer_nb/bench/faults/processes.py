"""Processes that are killed, or stand still."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from seer_nb.bench.faults.case import KERNEL, kill
from seer_nb.bench.faults.fault import CLOUD, LOCAL, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.bench.faults.case import Case

STILL_S = 5.0


def _gang_member(rank: int, how: int) -> Callable[[Case], None]:
    def strike(case: Case) -> None:
        case.start()
        gang, pid = case.member(rank)
        case.later()
        case.hit(gang.trial)
        kill(pid, how)

    return strike


def _machine_lost(case: Case) -> None:
    case.start()
    gang, machine = case.rented()
    case.later()
    case.hit(gang.trial)
    assert case.cloud is not None
    case.cloud.lose(machine.instance_id)


def _scheduler(how: int) -> Callable[[Case], None]:
    """On a cloud it has a machine of its own; here it is in the runner."""

    def strike(case: Case) -> None:
        case.start()
        case.underway()
        pid = case.scheduler()
        case.later()
        case.hit()
        kill(pid, how)

    return strike


def _runner_killed(case: Case) -> None:
    case.start()
    case.underway()
    pid = case.runner()
    case.later()
    case.hit()
    kill(pid)
    case.until(lambda: case.study.status == "interrupted", "the runner's death")
    case.study.resume()


def _runner_killed_at_once(case: Case) -> None:
    case.start()
    pid = case.runner()
    case.later(3.0)
    kill(pid)
    case.until(lambda: case.study.status == "interrupted", "the runner's death")
    case.hit()
    case.study.resume()


def _runner_told_to_end(case: Case) -> None:
    case.start()
    case.underway()
    pid = case.runner()
    case.later()
    case.hit()
    kill(pid, signal.SIGTERM)
    case.until(lambda: case.study.status == "interrupted", "the runner's end")
    case.study.resume()


def _runner_stands_still(seconds: Callable[[Case], float]) -> Callable[[Case], None]:
    def strike(case: Case) -> None:
        case.start()
        case.underway()
        pid = case.runner()
        case.later()
        kill(pid, signal.SIGSTOP)
        time.sleep(seconds(case))
        # Workers train on without it, until their leases end: what counts is that it goes on afterwards.
        case.hit()
        kill(pid, signal.SIGCONT)

    return strike


def _all_stand_still(seconds: Callable[[Case], float]) -> Callable[[Case], None]:
    """As on a computer that was suspended: all of the study's processes for a while."""

    def strike(case: Case) -> None:
        case.start()
        case.underway()
        case.later()
        stopped = case.processes()
        for process in stopped:
            with suppress(psutil.Error):
                process.suspend()
        time.sleep(seconds(case))
        case.hit()
        for process in stopped:
            with suppress(psutil.Error):
                process.resume()

    return strike


def _lease(case: Case) -> float:
    """Longer than workers live without a word from their runner."""
    return case.state.settings.lease_s + STILL_S


def _worker_with_nanny_killed(case: Case) -> None:
    """Its nanny starts it anew, by the same name."""
    case.start()
    gang, pid = case.member(0)
    case.later()
    case.hit(gang.trial)
    workers = [child for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]
    kill(case.rng.choice(workers).pid)


def _kernel(how: int) -> Callable[[Case], None]:
    """The notebook's process, which has started the study."""

    def strike(case: Case) -> None:
        kernel = subprocess.Popen([sys.executable, "-m", KERNEL, str(case.folder)])
        case.stack.callback(kernel.wait)
        case.stack.callback(kernel.kill)
        case.attach()
        case.underway()
        case.later()
        case.hit()
        kernel.send_signal(how)
        if how == signal.SIGKILL:
            kernel.wait()

    return strike


GANG = {"workers": 2, "trials": 1}
NANNIES = {**GANG, "kind": "g4dn.12xlarge", "budget": 1.0, "deadline_s": 120.0}
"""Four GPUs, so Dask starts nannies for four workers, in one process."""
FAULTS = [
    Fault("a worker is killed", _gang_member(0, signal.SIGKILL)),
    Fault("a worker stands still", _gang_member(0, signal.SIGSTOP), within_s=None),
    Fault("rank 0 of a gang is killed", _gang_member(0, signal.SIGKILL), options=GANG),
    Fault("rank 1 of a gang is killed", _gang_member(1, signal.SIGKILL), options=GANG),
    Fault("rank 0 of a gang stands still", _gang_member(0, signal.SIGSTOP), options=GANG, within_s=None),
    Fault("rank 1 of a gang stands still", _gang_member(1, signal.SIGSTOP), options=GANG, within_s=None),
    Fault("a machine is lost", _machine_lost, (CLOUD,)),
    Fault("the scheduler is killed", _scheduler(signal.SIGKILL), (CLOUD,), within_s=None),
    Fault("the scheduler stands still", _scheduler(signal.SIGSTOP), (CLOUD,), {"deadline_s": 240.0}, within_s=None),
    Fault("the runner is killed", _runner_killed, within_s=None),
    Fault("the runner is killed while it begins", _runner_killed_at_once, within_s=None, repeats=1),
    Fault("the runner is told to end", _runner_told_to_end, within_s=None),
    Fault("the runner stands still", _runner_stands_still(lambda _: STILL_S), within_s=None),
    Fault(
        "the runner stands still for longer than leases last",
        _runner_stands_still(_lease),
        options={"deadline_s": 240.0},
        within_s=None,
    ),
    Fault("all stand still, as on a suspended computer", _all_stand_still(lambda _: 2 * STILL_S), (LOCAL,)),
    Fault(
        "all stand still for longer than leases last",
        _all_stand_still(_lease),
        (LOCAL,),
        {"deadline_s": 240.0},
        within_s=None,
    ),
    Fault("the nannies of four workers are killed", _gang_member(0, signal.SIGKILL), (CLOUD,), NANNIES, within_s=None),
    Fault("the nannies of four workers stand still", _gang_member(0, signal.SIGSTOP), (CLOUD,), NANNIES, within_s=None),
    Fault("a worker with a nanny is killed", _worker_with_nanny_killed, (CLOUD,), NANNIES, within_s=None),
    Fault("the kernel is killed", _kernel(signal.SIGKILL), (LOCAL,)),
    Fault("the kernel stands still", _kernel(signal.SIGSTOP), (LOCAL,)),
]
