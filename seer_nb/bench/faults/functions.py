"""Training functions that misbehave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb.bench.faults.fault import LOCAL, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.bench.faults.case import Case


def _failing(case: Case) -> None:
    """The first trial fails; another one follows it."""
    case.start()
    case.until(lambda: any(trial.state == "failed" for trial in case.state.trials.values()), "the trial's failure")
    case.hit()


def _going_on(case: Case) -> None:
    """It trains on whatever the function does beside."""
    case.start()
    case.until(lambda: max((x.epoch for x in case.trained()), default=0) > 3, "more epochs")  # noqa: PLR2004
    case.hit()


def _one(bad: str, strike: Callable[[Case], None] = _failing, **more: Any) -> Fault:
    return Fault(
        f"a training function {bad}",
        strike,
        (LOCAL,),
        {"bad": bad, "trials": 1, **more},
        within_s=None,
        fails=strike is _failing,
    )


FAULTS = [
    _one("raises"),
    _one("raises on one rank", workers=2),
    _one("hangs"),
    _one("hangs in a collective", workers=2),
    _one("leaks memory"),
    _one("exits"),
    _one("forks", _going_on),
    _one("changes directory", _going_on),
    _one("prints a lot", _going_on, at=4),
]
