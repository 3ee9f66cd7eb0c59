"""The verdict on a study with a fault: its journal, processes and trained epochs against the promises."""

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
"""Seconds that a machine may run past the deadline."""
GONE_S = 5.0
"""Seconds after the study's end within which all processes must exit."""
MACHINE_S = 10.0
"""Additional recovery time on a cloud in seconds: a machine is rented, boots and starts Python, Dask and torch."""
SETTLE_S = 120.0


class Verdict(NamedTuple):
    """One row of the campaign's table."""

    fault: str
    where: str
    seed: int
    resumed_s: float | None
    """Seconds from the fault to the next complete epoch of an affected trial; None if there was none."""
    repeated: int
    """Epochs trained more than once, or still to be repeated."""
    lost_records: int
    """Epochs that are missing, or stored twice, in the journal."""
    over_budget: int
    """Micro-dollars over budget."""
    over_deadline_s: float
    leftovers: int
    """Processes and machines still running after the study."""
    wrong: str = ""
    """The broken promises; empty if all were kept."""
    took_s: float = 0.0


def judge(case: Case, fault: Fault, where: str, seed: int) -> Verdict:
    """Wait until training continues, stop the study, and compare the outcome with the promises."""
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
        over_budget=max(
            0, _real_bill(case) - state.budget_micro, state.ledger.spent_micro(state.now_s) - state.budget_micro
        ),
        over_deadline_s=max(0.0, last_s - state.deadline_s),
        leftovers=_leftovers(case),
    )
    return found._replace(wrong="; ".join(_wrong(found, case, fault)))


def _wrong(found: Verdict, case: Case, fault: Fault) -> list[str]:
    state = case.state
    affected = [trial for trial in state.trials.values() if trial.id in case.affected_trials]
    # If storing takes longer than an epoch, not every epoch is stored, and more may be repeated.
    allowed = fault.repeats * max(1, case.n_affected_gangs) * _every(case, fault)
    within_s = math.inf if fault.within_s is None else fault.within_s + (0.0 if case.cloud is None else MACHINE_S)
    checks = {
        f"{found.over_budget} micro-dollars over budget": found.over_budget > 0,
        f"{found.over_deadline_s:.1f} s over the deadline": found.over_deadline_s > LATE_S,
        f"{found.lost_records} records lost": found.lost_records > 0,
        f"{found.leftovers} processes or machines left over": found.leftovers > 0,
        f"{found.repeated} epochs repeated": found.repeated > allowed,
        "training did not continue": found.resumed_s is None and not fault.ends,
        f"training continued after {found.resumed_s or 0:.1f} s": (found.resumed_s or 0) > within_s,
        f"its trial failed: {_why(affected)}": not fault.fails and any(trial.state == "failed" for trial in affected),
        f"the study ended: {state.reason}": not fault.ends and state.reason != "stopped by hand",
        "the journal does not replay to the same state": not _replays(case),
        "the best trial's checkpoint cannot be loaded": not _best_loads(case),
    }
    return [what for what, so in checks.items() if so]


def _every(case: Case, fault: Fault) -> int:
    """Return the largest number of epochs between two checkpoints; 1 if every epoch must be stored."""
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
    """Return the last line of each trial's error."""
    errors = [trial.error.strip().splitlines()[-1] for trial in trials if trial.error and trial.error.strip()]
    return " / ".join(errors)


def _resumed(case: Case, fault: Fault) -> float | None:
    """Return the seconds until an affected trial has completed an epoch that started after the fault."""

    def look() -> float | None:
        after = [x for x in case.trained() if x.at_s - x.took_s > case.fault_s]
        of = [x for x in after if not case.affected_trials or x.trial in case.affected_trials or fault.fails]
        return of[0].at_s - case.fault_s if of else None

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
    machines = [] if case.cloud is None else [x for x in case.cloud.machines() if x.state in {"pending", "running"}]
    pids = [] if case.cloud is None else [pid for x in case.cloud.machines() for pid in x.pids]
    return len(machines) + len(pids) + len([x for x in case.processes() if case.cloud is None or _ours(x)])


def _ours(process: object) -> bool:
    """Return whether a process belongs to the study, not to the loopback cloud itself."""
    return "loopback" not in " ".join(process.cmdline())  # type: ignore[attr-defined]


def _gaps(case: Case) -> int:
    """Return the number of epochs that are missing or stored twice."""
    gaps = 0
    for trial in case.state.trials.values():
        epochs = [report.epoch for report in trial.curve]
        gaps += len(set(range(1, max(epochs, default=0) + 1)).symmetric_difference(epochs))
    return gaps


def _replays(case: Case) -> bool:
    """Return whether the journal replays to the state that its reader has."""
    journal = Journal(layout.home() / "study" / layout.JOURNAL)
    try:
        state = JournalView(journal, use_snapshot=False).state()
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
    """Return the cloud's bill in micro-dollars; 0 for local studies."""
    if case.cloud is None:
        return 0
    offers = {f"{x.kind}{' spot' if x.spot else ''}": x for x in case.state.offers.values()}
    total = 0
    for machine in case.cloud.machines():
        offer = offers.get(machine.instance_type + (" spot" if machine.spot else ""))
        if offer is not None and machine.ended is not None:
            total += offer.bill(max(1.0, (machine.ended - machine.launched).total_seconds()))
    return total
