"""The training function of the campaign, which logs each epoch to a file that no fault affects, and its own faults."""

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
    """A completed epoch."""

    at_s: float
    """Value of steady_s() at its end; the wall clock may be shifted by a fault."""
    trial: int
    epoch: int
    took_s: float
    """Duration in seconds."""


def train(config: Config, run: Run) -> None:
    """Sleep for each epoch; fail if the restored state does not match the epoch.

    Args:
        config: "truth", the file of trained epochs; "seconds" per epoch; "padding", bytes added to the state; "bad",
            the misbehaviour, or an empty string; "at", its first epoch.
        run: The run of the trial.
    """
    run.state.setdefault("padding", bytes(config["padding"]))
    run.loader([0.0, 1.0], batch_size=2)  # otherwise the engine would notice that gangs share no work
    for epoch in run.epochs():
        started_s = steady_s()
        if run.state.get("epochs", 0) != epoch - 1:
            raise AssertionError(f"epoch {epoch} started from the state of epoch {run.state.get('epochs', 0)}")
        time.sleep(config["seconds"])
        if config["bad"] and epoch >= config["at"]:
            _misbehave(config["bad"], run)
        run.mean(float(epoch))
        run.state["epochs"] = epoch
        if run.rank == 0:
            _write(config["truth"], Trained(steady_s(), run.trial, epoch, steady_s() - started_s))
        run.report(accuracy=epoch + run.trial / 10)


def read(path: Path) -> list[Trained]:
    """Return the completed epochs, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Trained(float(a), int(b), int(c), float(d)) for a, b, c, d in (line.split() for line in lines)]


def repeated(trained: Iterable[Trained]) -> int:
    """Return the number of epochs trained more than once, plus those to repeat if the trials resumed now."""
    epochs_by_trial: dict[int, list[int]] = defaultdict(list)
    for x in trained:
        epochs_by_trial[x.trial].append(x.epoch)
    return sum(len(epochs) - len(set(epochs)) + max(epochs) - epochs[-1] for epochs in epochs_by_trial.values())


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
    # A memory limit: allocations fail with MemoryError instead of exhausting the computer.
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
    """Wait until the first trial has failed; another trial replaces it."""
    case.start()
    case.until(lambda: any(trial.state == "failed" for trial in case.state.trials.values()), "the trial's failure")
    case.record_fault()


def _continuing(case: Case) -> None:
    """Wait for more epochs: the misbehaviour must not stop training."""
    case.start()
    case.until(lambda: max((x.epoch for x in case.trained()), default=0) > 3, "more epochs")  # noqa: PLR2004
    case.record_fault()


def _one(bad: str, inject: Callable[[Case], None] = _failing, **more: Any) -> Fault:
    return Fault(
        f"a training function {bad}",
        inject,
        (LOCAL,),
        {"bad": bad, "trials": 1, **more},
        within_s=None,
        fails=inject is _failing,
    )


FAULTS = [
    _one("raises"),
    _one("raises on one rank", workers=2),
    _one("hangs"),
    _one("hangs in a collective", workers=2),
    _one("leaks memory"),
    _one("exits"),
    _one("forks", _continuing),
    _one("changes directory", _continuing),
    _one("prints a lot", _continuing, at=4),
]
