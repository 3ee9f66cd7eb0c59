"""What became of a study in which something went wrong, by its journal, its processes and what it really trained."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple

from seer_nb import core
from seer_nb.bench.faults.training import repeated
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal
from seer_nb.storage.replay import JournalView

if TYPE_CHECKING:
    from seer_nb.bench.faults.case import Case
    from seer_nb.bench.faults.fault import Fault
    from seer_nb.storage.journal import Entry


LATE_S = 2.0
"""A machine may live on for so long after the deadline."""
GONE_S = 5.0
"""Processes are gone so long after the study's end."""
MACHINE_S = 10.0
"""On a cloud a machine is rented, boots and starts Python, Dask and torch before training can go on."""
SETTLE_S = 120.0


class Verdict(NamedTuple):
    """One row of the campaign's table."""

    fault: str
    where: str
    seed: int
    resumed_s: float | None
    """From the fault until a trial that it struck had trained another epoch; None: it did not, or need not."""
    repeated: int
    """Epochs trained more than once, or that have to be."""
    lost_records: int
    """Epochs that were reported, and are missing between others in the journal."""
    over_budget: int
    """Micro-dollars."""
    over_deadline_s: float
    leftovers: int
    """Processes and machines that outlive the study."""
    wrong: str = ""
    """What is not as promised."""
    took_s: float = 0.0


def judge(case: Case, fault: Fault, where: str, seed: int) -> Verdict:
    """Wait until training has gone on, end the study, and look at what is left of it."""
    resumed_s = None if fault.ends else _resumed(case, fault)
    if not fault.ends:
        case.study.stop()
    _settle(case)
    state, gaps = case.state, _gaps(case)
    last_s = max((machine.ended_s or 0.0 for machine in state.machines.values()), default=0.0)
    found = Verdict(
        fault=fault.name,
        where=where,
        seed=seed,
        resumed_s=resumed_s,
        repeated=repeated(case.trained()),
        lost_records=gaps,
        over_budget=max(0, _real_bill(case) - state.budget, state.ledger.spent(state.now_s) - state.budget),
        over_deadline_s=max(0.0, last_s - state.deadline_s),
        leftovers=_leftovers(case),
    )
    return found._replace(wrong="; ".join(_wrong(found, case, fault)))


def _wrong(found: Verdict, case: Case, fault: Fault) -> list[str]:
    state = case.state
    hit = [trial for trial in state.trials.values() if trial.id in case.hit_trials]
    # Where storing takes long, as in a cloud's store beside epochs this short, not every epoch is stored.
    allowed = fault.repeats * max(1, case.strikes) * _every(case, fault)
    within_s = math.inf if fault.within_s is None else fault.within_s + (0.0 if case.cloud is None else MACHINE_S)
    checks = {
        f"{found.over_budget} micro-dollars over budget": found.over_budget > 0,
        f"{found.over_deadline_s:.1f} s over the deadline": found.over_deadline_s > LATE_S,
        f"{found.lost_records} records lost": found.lost_records > 0,
        f"{found.leftovers} left over": found.leftovers > 0,
        f"{found.repeated} epochs repeated": found.repeated > allowed,
        "training did not go on": found.resumed_s is None and not fault.ends,
        f"training went on after {found.resumed_s or 0:.1f} s": (found.resumed_s or 0) > within_s,
        f"its trial failed: {_why(hit)}": not fault.fails and any(trial.state == "failed" for trial in hit),
        f"the study ended: {state.reason}": not fault.ends and state.reason != "stopped by hand",
        "the journal does not give the same state again": not _replays(case),
        "the best trial's checkpoint cannot be loaded": not _best_loads(case),
    }
    return [what for what, so in checks.items() if so]


def _every(case: Case, fault: Fault) -> int:
    """Every how many epochs a checkpoint was stored, at worst, where the pace of storing may ask for that."""
    if case.cloud is None and not fault.paced:
        return 1
    most = 1
    since: dict[int, int] = {}
    for entry in _entries():
        if isinstance(entry.record, core.Reported):
            since[entry.record.gang] = 0 if entry.record.checkpoint else since.get(entry.record.gang, 0) + 1
            most = max(most, since[entry.record.gang] + 1)
    return most


def _entries() -> list[Entry]:
    journal = Journal(layout.home() / "study" / layout.JOURNAL)
    try:
        return list(journal.read())
    finally:
        journal.close()


def _why(trials: list[core.Trial]) -> str:
    """The end of what was told of the trials that failed."""
    told = [trial.error.strip().splitlines()[-1] for trial in trials if trial.error and trial.error.strip()]
    return " / ".join(told)


def _resumed(case: Case, fault: Fault) -> float | None:
    """Seconds until a struck trial has ended an epoch that began after the fault."""

    def look() -> float | None:
        after = [x for x in case.trained() if x.at_s - x.took_s > case.hit_s]
        of = [x for x in after if not case.hit_trials or x.trial in case.hit_trials or fault.fails]
        return of[0].at_s - case.hit_s if of else None

    try:
        return float(case.until(look, "another epoch"))
    except TimeoutError:
        return None


def _settle(case: Case) -> None:
    end_s = time.monotonic() + SETTLE_S
    while case.study.status not in {"ended", "failed"} and time.monotonic() < end_s:
        time.sleep(0.05)
    end_s = time.monotonic() + GONE_S
    while case.processes() and time.monotonic() < end_s:
        time.sleep(0.05)


def _leftovers(case: Case) -> int:
    lives = [] if case.cloud is None else [x for x in case.cloud.machines() if x.state in {"pending", "running"}]
    own = [] if case.cloud is None else [pid for x in case.cloud.machines() for pid in x.pids]
    return len(lives) + len(own) + len([x for x in case.processes() if case.cloud is None or _ours(x)])


def _ours(process: object) -> bool:
    """Not a process of the cloud itself, which lives as long as the campaign's."""
    return "loopback" not in " ".join(process.cmdline())  # type: ignore[attr-defined]


def _gaps(case: Case) -> int:
    """Epochs missing between those recorded, or recorded twice."""
    gaps = 0
    for trial in case.state.trials.values():
        epochs = [report.epoch for report in trial.curve]
        gaps += len(set(range(1, max(epochs, default=0) + 1)).symmetric_difference(epochs))
    return gaps


def _replays(case: Case) -> bool:
    """Whether the journal is whole, and gives the state that its readers have followed."""
    journal = Journal(layout.home() / "study" / layout.JOURNAL)
    try:
        state = JournalView(journal, resume=False).state()
    finally:
        journal.close()
    return state.trials == case.state.trials and state.machines == case.state.machines


def _best_loads(case: Case) -> bool:
    from seer_nb.errors import CheckpointError
    from seer_nb.storage import checkpoints

    best = case.state.best
    if best is None or best.best is None or not best.best.checkpoint:
        return not case.state.trials or all(trial.epoch == 0 for trial in case.state.trials.values())
    try:
        checkpoints.load(case.state.settings.store, best.best.checkpoint)
    except CheckpointError:
        return False
    return True


def _real_bill(case: Case) -> int:
    """By the cloud's own books; what is local costs nothing but what the ledger says."""
    if case.cloud is None:
        return 0
    offers = {f"{x.kind}{' spot' if x.spot else ''}": x for x in case.state.offers.values()}
    total = 0
    for machine in case.cloud.machines():
        offer = offers.get(machine.instance_type + (" spot" if machine.spot else ""))
        if offer is not None and machine.ended is not None:
            total += offer.bill(max(1.0, (machine.ended - machine.launched).total_seconds()))
    return total
