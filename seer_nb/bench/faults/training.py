"""What is trained while things go wrong: it writes down each epoch that it trains, where no fault reaches."""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seer_nb._utils.clock import steady_s
from seer_nb.bench.faults.fault import LOCAL, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from seer_nb.bench.faults.case import Case
    from seer_nb.core import Config
    from seer_nb.worker.run import Run


class Trained(NamedTuple):
    """An epoch that was trained to its end."""

    at_s: float
    """Reading of steady_s() when it ended: the time of day may be set."""
    trial: int
    epoch: int
    took_s: float
    """Since it began, or since the function did."""


def train(config: Config, run: Run) -> None:
    """Sleep through epochs; refuse to go on elsewhere than where the state says.

    Args:
        config: "truth", the file of epochs that were trained; "seconds" of one; "padding", bytes of its state; "bad",
            what the function does wrong, and "at", in which epoch.
        run: Of seer_nb.
    """
    run.state.setdefault("padding", bytes(config["padding"]))
    for epoch in run.epochs():
        began_s = steady_s()
        if run.state.get("epochs", 0) != epoch - 1:
            raise AssertionError(f"epoch {epoch} was to be trained on a state of epoch {run.state.get('epochs', 0)}")
        time.sleep(config["seconds"])
        if config["bad"] and epoch >= config["at"]:
            _misbehave(config["bad"], run)
        run.mean(float(epoch))
        run.state["epochs"] = epoch
        if run.rank == 0:
            _write(config["truth"], Trained(steady_s(), run.trial, epoch, steady_s() - began_s))
        run.report(accuracy=epoch + run.trial / 10)


def read(path: Path) -> list[Trained]:
    """What was trained, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Trained(float(a), int(b), int(c), float(d)) for a, b, c, d in (line.split() for line in lines)]


def repeated(trained: Iterable[Trained]) -> int:
    """Epochs that were trained more than once, or would have to be if the trials went on from where they are."""
    of: dict[int, list[int]] = defaultdict(list)
    for x in trained:
        of[x.trial].append(x.epoch)
    return sum(len(epochs) - len(set(epochs)) + max(epochs) - epochs[-1] for epochs in of.values())


def _write(path: str, trained: Trained) -> None:
    line = " ".join(map(str, trained)) + "\n"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, line.encode())
    os.close(file)


def _misbehave(how: str, run: Run) -> None:
    if how == "raises":
        raise RuntimeError("the training function fails")
    if how == "raises on one rank" and run.rank == 1:
        raise RuntimeError("rank 1 fails")
    if how == "hangs in a collective" and run.rank == 1:
        time.sleep(3600)
    if how == "hangs":
        time.sleep(3600)
    if how == "leaks memory":
        _leak()
    if how == "exits":
        os._exit(3)
    if how == "forks":
        _fork()
    elif how == "changes directory":
        os.chdir("/")
    elif how == "prints a lot":
        _print()


def _leak() -> None:
    # As the kernel would: it kills the process that has asked for too much.
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    held = []
    while True:
        held.append(np.ones(1 << 25))


def _fork() -> None:
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)


def _print() -> None:
    line = "x" * 1023
    for _ in range(1 << 14):
        print(line)
    sys.stdout.flush()


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
