"""A worker is killed at a moment at which much is under way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from seer_nb.bench.faults.case import kill
from seer_nb.bench.faults.fault import CLOUD, LOCAL, Fault
from seer_nb.core.model import Job, Plan

if TYPE_CHECKING:
    from seer_nb.bench.faults.case import Case
    from seer_nb.core.model import Snapshot

DEADLINE_S = 25.0
BIG = 40_000_000
"""Bytes of a checkpoint that takes a while to be stored."""


class Growing:
    """Trains a trial on one worker, then on two, and so on in turns: something is always being resized."""

    def __init__(self, every: int = 3) -> None:
        self.every = every

    def decide(self, snapshot: Snapshot) -> Plan:
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

    def decide(self, snapshot: Snapshot) -> Plan:
        """Four at a time."""
        from seer_nb.core.model import Verdict

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
    machine = case.until(lambda: next((x for x in case.state.live.values() if not x.hosts), None), "a machine")
    case.later(0.5)
    case.hit()
    if case.cloud is None:
        kill(case.worker(f"{machine.id}.0"))
    else:
        found = case.until(lambda: case.machine(f"{machine.id}.0"), "the instance")
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


FAULTS = [
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
