"""Processes that are killed, or stand still."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil

from seer_nb.bench.faults.case import KERNEL, kill
from seer_nb.bench.faults.fault import CLOUD, LOCAL, Fault
from seer_nb.core import Job, Plan
from seer_nb.core.model import worker_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.bench.faults.case import Case
    from seer_nb.core import PolicyView


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
PROCESS_FAULTS = [
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


DEADLINE_S = 25.0
BIG = 40_000_000
"""Bytes of a checkpoint that takes a while to be stored."""


class Growing:
    """Trains a trial on one worker, then on two, and so on in turns: something is always being resized."""

    def __init__(self, every: int = 3) -> None:
        self.every = every

    def decide(self, snapshot: PolicyView) -> Plan:
        """A leg after the other."""
        trial = next((trial for trial in snapshot.trials if trial.alive), None)
        epoch = 0 if trial is None else trial.epoch
        leg = epoch // self.every
        job = Job(
            trial=None if trial is None else trial.id,
            workers=1 + leg % 2,
            until=min(snapshot.max_epochs, (leg + 1) * self.every),
            reason="its next leg",
        )
        return Plan(jobs=(job,), workers=2, reason="legs")


class Sieving:
    """Trains four trials at a time to the third epoch, and goes on with the best of them: verdicts all the time."""

    def decide(self, snapshot: PolicyView) -> Plan:
        """Four at a time."""
        from seer_nb.core import Verdict

        alive = [trial for trial in snapshot.trials if trial.alive]
        ready = [trial for trial in alive if trial.epoch >= 3]  # noqa: PLR2004
        best = max(ready, key=lambda trial: (trial.best.value if trial.best else 0) or 0, default=None)
        out = tuple(Verdict(trial=x.id, reason="not the best") for x in ready if x is not best)
        jobs: list[Any] = [Job(trial=trial.id, until=3) for trial in alive if trial.epoch < 3]  # noqa: PLR2004
        if best is not None:
            jobs.insert(0, Job(trial=best.id, until=snapshot.max_epochs))
        jobs += [Job(trial=None, until=3)] * (2 - len(jobs))
        return Plan(jobs=tuple(jobs), verdicts=out, workers=2, reason="sieving")


def _while_booting(case: Case) -> None:
    case.start()
    machine = case.until(lambda: next((x for x in case.state.live.values() if not x.runs_scheduler), None), "a machine")
    case.later(0.5)
    case.hit()
    if case.cloud is None:
        kill(case.worker(worker_name(machine.id, 0)))
    else:
        found = case.until(lambda: case.machine(worker_name(machine.id, 0)), "the instance")
        case.cloud.lose(found.instance_id)


def _while_saving(case: Case) -> None:
    case.start()
    gang = case.underway()
    pid = case.worker(gang.workers[0])
    store = case.folder / "studies" / "study" / "checkpoints"
    case.until(lambda: list(store.rglob("*.tmp")), "a checkpoint that is being stored")
    case.hit(gang.trial)
    kill(pid)


def _while_resizing(case: Case) -> None:
    case.start()
    case.until(lambda: len(case.trained()) >= 3, "3 epochs")  # noqa: PLR2004
    seen = case.state.n_gangs
    case.until(lambda: case.state.n_gangs > seen and case.state.gangs, "another gang")
    gang = next(iter(case.state.gangs.values()), None)
    if gang is None:
        return _while_resizing(case)
    case.hit(gang.trial)
    kill(case.worker(case.rng.choice(gang.workers)))
    return None


def _at_a_verdict(case: Case) -> None:
    case.start()
    case.until(lambda: any(trial.state == "stopped" for trial in case.state.trials.values()), "a verdict")
    seen = sum(trial.state == "stopped" for trial in case.state.trials.values())
    case.until(lambda: sum(trial.state == "stopped" for trial in case.state.trials.values()) > seen, "the next verdict")
    gang = next(iter(case.state.gangs.values()), None)
    case.hit()
    if gang is not None:
        kill(case.worker(gang.workers[0]))


def _at_the_deadline(case: Case) -> None:
    started_s = time.monotonic()
    case.start()
    gang = case.underway()
    pid = case.worker(gang.workers[0])
    left_s = started_s + case.state.deadline_s - case.rng.uniform(0.0, 2.0) - time.monotonic()
    time.sleep(max(0.0, left_s))
    case.hit()
    kill(pid)


MOMENT_FAULTS = [
    Fault("a machine is lost while it boots", _while_booting, within_s=None),
    Fault(
        "a worker is killed while it stores a checkpoint",
        _while_saving,
        (LOCAL,),
        {"padding": BIG, "seconds": 2.0},
        paced=True,
    ),
    Fault("a worker is killed while its gang is resized", _while_resizing, (LOCAL,), {"policy": Growing()}),
    Fault("a worker is killed at a verdict", _at_a_verdict, (LOCAL,), {"policy": Sieving()}, within_s=None),
    Fault("a worker is killed at the deadline", _at_the_deadline, (LOCAL,), {"deadline_s": DEADLINE_S}, ends=True),
    Fault(
        "a machine is killed at the deadline",
        _at_the_deadline,
        (CLOUD,),
        {"deadline_s": DEADLINE_S + 20},
        ends=True,
    ),
]


def _then_lose(case: Case, **faults: Any) -> None:
    """A machine is lost while the cloud has something against another one."""
    assert case.cloud is not None
    case.start()
    gang, machine = case.rented()
    for name, value in faults.items():
        setattr(case.cloud.faults, name, value)
    case.hit(gang.trial)
    case.cloud.lose(machine.instance_id)


def _throttled(case: Case) -> None:
    _then_lose(case, throttle=case.rng.randrange(5, 30))


def _without_capacity(case: Case) -> None:
    _then_lose(case, capacity={"*": 2})


def _dead_boot(case: Case) -> None:
    _then_lose(case, dead_boots=1)


def _interrupted(case: Case) -> None:
    assert case.cloud is not None
    case.start()
    gang, machine = case.rented()
    case.hit(gang.trial)
    case.cloud.interrupt(machine.instance_id, case.rng.uniform(15.0, 30.0))


def _slow_store(case: Case) -> None:
    """Each of its answers takes some seconds."""
    _then_lose(case, slow_store_s=case.rng.uniform(1.0, 3.0))


CLOUD_FAULTS = [
    Fault(
        "the store is slow, and a machine is lost",
        _slow_store,
        (CLOUD,),
        {"deadline_s": 180.0, "report_timeout": 60.0},
        within_s=None,
    ),
    Fault("requests to the cloud are throttled", _throttled, (CLOUD,), within_s=None),
    Fault("the cloud has no machine to give, twice", _without_capacity, (CLOUD,), within_s=None),
    Fault("a machine never boots", _dead_boot, (CLOUD,), {"deadline_s": 90.0}, within_s=None),
    Fault("a spot machine is taken away after a notice", _interrupted, (CLOUD,), {"spot": True}, within_s=None),
]
