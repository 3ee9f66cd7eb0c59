"""Faults of processes and machines: kills, suspensions, and failures of the cloud."""

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


SUSPENDED_S = 5.0


def _gang_member(rank: int, how: int) -> Callable[[Case], None]:
    def inject(case: Case) -> None:
        case.start()
        gang, pid = case.member(rank)
        case.wait_randomly()
        case.record_fault(gang.trial)
        kill(pid, how)

    return inject


def _machine_lost(case: Case) -> None:
    case.start()
    gang, machine = case.training_machine()
    case.wait_randomly()
    case.record_fault(gang.trial)
    assert case.cloud is not None
    case.cloud.lose(machine.instance_id)


def _scheduler(how: int) -> Callable[[Case], None]:
    """Return a fault that signals the scheduler, which has its own machine on a cloud."""

    def inject(case: Case) -> None:
        case.start()
        case.training_gang()
        pid = case.scheduler()
        case.wait_randomly()
        case.record_fault()
        kill(pid, how)

    return inject


def _runner_killed(case: Case) -> None:
    case.start()
    case.training_gang()
    pid = case.runner()
    case.wait_randomly()
    case.record_fault()
    kill(pid)
    case.until(lambda: case.study.status == "interrupted", "the runner's exit")
    case.study.resume()


def _runner_killed_during_startup(case: Case) -> None:
    case.start()
    pid = case.runner()
    case.wait_randomly(3.0)
    kill(pid)
    case.until(lambda: case.study.status == "interrupted", "the runner's exit")
    case.record_fault()
    case.study.resume()


def _runner_terminated(case: Case) -> None:
    case.start()
    case.training_gang()
    pid = case.runner()
    case.wait_randomly()
    case.record_fault()
    kill(pid, signal.SIGTERM)
    case.until(lambda: case.study.status == "interrupted", "the runner's exit")
    case.study.resume()


def _runner_suspended(seconds: Callable[[Case], float]) -> Callable[[Case], None]:
    def inject(case: Case) -> None:
        case.start()
        case.training_gang()
        pid = case.runner()
        case.wait_randomly()
        kill(pid, signal.SIGSTOP)
        time.sleep(seconds(case))
        # Workers keep training until their leases expire. Measure how soon training continues afterwards.
        case.record_fault()
        kill(pid, signal.SIGCONT)

    return inject


def _all_suspended(seconds: Callable[[Case], float]) -> Callable[[Case], None]:
    """Return a fault that suspends all processes of the study, like a sleeping computer."""

    def inject(case: Case) -> None:
        case.start()
        case.training_gang()
        case.wait_randomly()
        stopped = case.processes()
        for process in stopped:
            with suppress(psutil.Error):
                process.suspend()
        time.sleep(seconds(case))
        case.record_fault()
        for process in stopped:
            with suppress(psutil.Error):
                process.resume()

    return inject


def _lease(case: Case) -> float:
    """Return a duration in seconds that is longer than the lease."""
    return case.state.settings.lease_s + SUSPENDED_S


def _worker_with_nanny_killed(case: Case) -> None:
    """Kill a worker that its nanny restarts under the same name."""
    case.start()
    gang, pid = case.member(0)
    case.wait_randomly()
    case.record_fault(gang.trial)
    workers = [child for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]
    kill(case.rng.choice(workers).pid)


def _kernel(how: int) -> Callable[[Case], None]:
    """Return a fault that signals the notebook's kernel, which started the study."""

    def inject(case: Case) -> None:
        kernel = subprocess.Popen([sys.executable, "-m", KERNEL, str(case.folder)])
        case.stack.callback(kernel.wait)
        case.stack.callback(kernel.kill)
        case.attach()
        case.training_gang()
        case.wait_randomly()
        case.record_fault()
        kernel.send_signal(how)
        if how == signal.SIGKILL:
            kernel.wait()

    return inject


GANG = {"workers": 2, "trials": 1}
NANNIES = {**GANG, "kind": "g4dn.12xlarge", "budget": 1.0, "deadline_s": 120.0}
"""A machine with four GPUs, where Dask starts the nannies of four workers in one process."""
PROCESS_FAULTS = [
    Fault("a worker is killed", _gang_member(0, signal.SIGKILL)),
    Fault("a worker is suspended", _gang_member(0, signal.SIGSTOP), within_s=None),
    Fault("rank 0 of a gang is killed", _gang_member(0, signal.SIGKILL), options=GANG),
    Fault("rank 1 of a gang is killed", _gang_member(1, signal.SIGKILL), options=GANG),
    Fault("rank 0 of a gang is suspended", _gang_member(0, signal.SIGSTOP), options=GANG, within_s=None),
    Fault("rank 1 of a gang is suspended", _gang_member(1, signal.SIGSTOP), options=GANG, within_s=None),
    Fault("a machine is lost", _machine_lost, (CLOUD,)),
    Fault("the scheduler is killed", _scheduler(signal.SIGKILL), (CLOUD,), within_s=None),
    Fault("the scheduler is suspended", _scheduler(signal.SIGSTOP), (CLOUD,), {"deadline_s": 240.0}, within_s=None),
    Fault("the runner is killed", _runner_killed, within_s=None),
    Fault("the runner is killed during start-up", _runner_killed_during_startup, within_s=None, repeats=1),
    Fault("the runner receives SIGTERM", _runner_terminated, within_s=None),
    Fault("the runner is suspended", _runner_suspended(lambda _: SUSPENDED_S), within_s=None),
    Fault(
        "the runner is suspended for longer than the lease",
        _runner_suspended(_lease),
        options={"deadline_s": 240.0},
        within_s=None,
    ),
    Fault(
        "all processes are suspended, as on a sleeping computer", _all_suspended(lambda _: 2 * SUSPENDED_S), (LOCAL,)
    ),
    Fault(
        "all processes are suspended for longer than the lease",
        _all_suspended(_lease),
        (LOCAL,),
        {"deadline_s": 240.0},
        within_s=None,
    ),
    Fault("the nannies of four workers are killed", _gang_member(0, signal.SIGKILL), (CLOUD,), NANNIES, within_s=None),
    Fault(
        "the nannies of four workers are suspended", _gang_member(0, signal.SIGSTOP), (CLOUD,), NANNIES, within_s=None
    ),
    Fault("a worker with a nanny is killed", _worker_with_nanny_killed, (CLOUD,), NANNIES, within_s=None),
    Fault("the kernel is killed", _kernel(signal.SIGKILL), (LOCAL,)),
    Fault("the kernel is suspended", _kernel(signal.SIGSTOP), (LOCAL,)),
]


DEADLINE_S = 25.0
BIG = 40_000_000
"""Bytes of a checkpoint that is slow to store."""


class AlternatingSize:
    """Policy that alternates a trial between one and two workers to resize its gang often."""

    def __init__(self, every: int = 3) -> None:
        self.every = every

    def decide(self, view: PolicyView) -> Plan:
        """Continue the trial for a few epochs with the other number of workers."""
        trial = next((trial for trial in view.trials if trial.alive), None)
        epoch = 0 if trial is None else trial.epoch
        step = epoch // self.every
        job = Job(
            trial=None if trial is None else trial.id,
            workers=1 + step % 2,
            until=min(view.max_epochs, (step + 1) * self.every),
            reason="resized",
        )
        return Plan(jobs=(job,), workers=2, reason="alternate sizes")


class KeepBest:
    """Policy that trains new trials for three epochs and keeps only the best: it often stops trials."""

    def decide(self, view: PolicyView) -> Plan:
        """Continue the best trial, stop the others at their third epoch, and start new ones."""
        from seer_nb.core import Verdict

        alive = [trial for trial in view.trials if trial.alive]
        ready = [trial for trial in alive if trial.epoch >= 3]  # noqa: PLR2004
        best = max(ready, key=lambda trial: (trial.best.value if trial.best else 0) or 0, default=None)
        out = tuple(Verdict(trial=x.id, reason="not the best") for x in ready if x is not best)
        jobs: list[Any] = [Job(trial=trial.id, until=3) for trial in alive if trial.epoch < 3]  # noqa: PLR2004
        if best is not None:
            jobs.insert(0, Job(trial=best.id, until=view.max_epochs))
        jobs += [Job(trial=None, until=3)] * (2 - len(jobs))
        return Plan(jobs=tuple(jobs), verdicts=out, workers=2, reason="keep the best")


def _while_booting(case: Case) -> None:
    case.start()
    machine = case.until(
        lambda: next((x for x in case.state.live_machines.values() if not x.runs_scheduler), None), "a machine"
    )
    case.wait_randomly(0.5)
    case.record_fault()
    if case.cloud is None:
        kill(case.worker(worker_name(machine.id, 0)))
    else:
        found = case.until(lambda: case.machine(worker_name(machine.id, 0)), "the instance")
        case.cloud.lose(found.instance_id)


def _while_saving(case: Case) -> None:
    case.start()
    gang = case.training_gang()
    pid = case.worker(gang.workers[0])
    store = case.folder / "studies" / "study" / "checkpoints"
    case.until(lambda: list(store.rglob("*.tmp")), "a checkpoint that is being stored")
    case.record_fault(gang.trial)
    kill(pid)


def _while_resizing(case: Case) -> None:
    case.start()
    case.until(lambda: len(case.trained()) >= 3, "3 epochs")  # noqa: PLR2004
    seen = case.state.n_gangs
    case.until(lambda: case.state.n_gangs > seen and case.state.gangs, "another gang")
    gang = next(iter(case.state.gangs.values()), None)
    if gang is None:
        return _while_resizing(case)
    case.record_fault(gang.trial)
    kill(case.worker(case.rng.choice(gang.workers)))
    return None


def _at_a_stop(case: Case) -> None:
    case.start()
    case.until(lambda: any(trial.state == "stopped" for trial in case.state.trials.values()), "a stopped trial")
    seen = sum(trial.state == "stopped" for trial in case.state.trials.values())
    case.until(
        lambda: sum(trial.state == "stopped" for trial in case.state.trials.values()) > seen, "another stopped trial"
    )
    gang = next(iter(case.state.gangs.values()), None)
    case.record_fault()
    if gang is not None:
        kill(case.worker(gang.workers[0]))


def _at_the_deadline(case: Case) -> None:
    started_s = time.monotonic()
    case.start()
    gang = case.training_gang()
    pid = case.worker(gang.workers[0])
    left_s = started_s + case.state.deadline_s - case.rng.uniform(0.0, 2.0) - time.monotonic()
    time.sleep(max(0.0, left_s))
    case.record_fault()
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
    Fault("a worker is killed while its gang is resized", _while_resizing, (LOCAL,), {"policy": AlternatingSize()}),
    Fault("a worker is killed when a trial is stopped", _at_a_stop, (LOCAL,), {"policy": KeepBest()}, within_s=None),
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
    """Terminate a machine while faults of the cloud delay its replacement."""
    assert case.cloud is not None
    case.start()
    gang, machine = case.training_machine()
    for name, value in faults.items():
        setattr(case.cloud.faults, name, value)
    case.record_fault(gang.trial)
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
    gang, machine = case.training_machine()
    case.record_fault(gang.trial)
    case.cloud.interrupt(machine.instance_id, case.rng.uniform(15.0, 30.0))


def _slow_store(case: Case) -> None:
    """Delay each answer of the store by some seconds, and terminate a machine."""
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
    Fault("the cloud has no capacity, twice", _without_capacity, (CLOUD,), within_s=None),
    Fault("a machine never boots", _dead_boot, (CLOUD,), {"deadline_s": 90.0}, within_s=None),
    Fault("a spot machine is preempted after a notice", _interrupted, (CLOUD,), {"spot": True}, within_s=None),
]
