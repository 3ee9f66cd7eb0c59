"""A journal of millions of events, as a long study would have written it, but made in no time."""

from __future__ import annotations

import math
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import numpy as np

from seer_nb.core import model as m
from seer_nb.core.money import MICRO, Offer
from seer_nb.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Record = tuple[float, m.Event | m.Action]

BATCH = 20_000
EPOCH_S = 10.0
RUNGS = 5
"""Gangs of a trial: it is saved and goes on at so many rungs, evenly spaced."""


def make(path: Path, n_records: int, n_more: int, n_trials: int, n_workers: int) -> Iterator[Record]:
    """Write it; returns what follows, of which so many more will be wanted.

    Each of the trials trains alone, is saved at every rung, and goes on later on the next free worker; a curve rises to
    a height of its own, with noise, and each report has two metrics and a checkpoint. So about 97 of 100 records are
    reports, as in a study whose epochs are short.
    """
    epochs = max(RUNGS, (n_records + n_more) // n_trials)
    settings = _settings(epochs, n_workers)
    stream = _records(settings, n_trials, n_workers, epochs + 1)
    journal = Journal.create(path, [next(stream)])
    append(journal, stream, n_records - 1)
    journal.close()
    return stream


def append(journal: Journal, stream: Iterator[Record], count: int) -> None:
    """Write so many of them."""
    for first in range(0, count, BATCH):
        journal.append(list(islice(stream, min(BATCH, count - first))))


def _records(settings: m.Settings, n_trials: int, n_workers: int, epochs: int) -> Iterator[Record]:
    yield 0.0, m.Began(settings=settings)
    yield 0.0, m.RunnerStarted()
    for machine in range(n_workers):
        yield 0.0, m.Rent(machine=machine, offer=settings.offers[0].name, reason=f"{n_workers} workers wanted")
    for machine in range(n_workers):
        yield 30.0, m.MachineReady(machine=machine, boot_s=30.0)
    rng = np.random.default_rng(0)
    for trial in range(n_trials):
        yield 30.0, m.Drawn(trial=trial, config={"lr": float(rng.uniform()), "width": 32 << trial % 4})
    tops, now_s, gang = rng.uniform(0.3, 0.99, n_trials), 30.0, 0
    bounds = [round(epochs * k / RUNGS) for k in range(RUNGS + 1)]
    for first, last in pairwise(bounds):
        for begin in range(0, n_trials, n_workers):
            wave = np.arange(begin, min(begin + n_workers, n_trials))
            yield from _wave(wave, tops[wave], first, last, now_s, gang, rng)
            now_s, gang = now_s + (last - first) * EPOCH_S + 1.0, gang + len(wave)


def _wave(  # noqa: PLR0913, PLR0917 - what a wave is
    trials: NDArray[np.int64],
    tops: NDArray[np.float64],
    first: int,
    last: int,
    now_s: float,
    gang: int,
    rng: np.random.Generator,
) -> Iterator[Record]:
    """All of these trials train side by side from one rung to the next."""
    for place, trial in enumerate(map(int, trials)):
        yield (
            now_s,
            m.StartGang(
                gang=gang + place,
                trial=trial,
                workers=(f"{place}.0",),
                from_epoch=first,
                checkpoint=f"{trial}/{first}" if first else None,
                until=last,
                reason=f"ranked among {len(trials)} at epoch {first}: goes on to epoch {last}",
            ),
        )
    for epoch in range(first + 1, last + 1):
        at_s = now_s + (epoch - first) * EPOCH_S
        values = tops * (1 - math.exp(-epoch / 100)) + rng.normal(0, 0.003, len(trials))
        seconds = EPOCH_S * (1 + 0.01 * rng.normal(size=len(trials)))
        for place, (trial, value, took_s) in enumerate(zip(trials, values.tolist(), seconds.tolist(), strict=True)):
            yield (
                at_s,
                m.Reported(
                    gang=gang + place,
                    epoch=epoch,
                    value=value,
                    metrics={"accuracy": value, "loss": 1 - value},
                    seconds=took_s,
                    checkpoint=f"{trial}/{epoch:06d}-g{gang + place}.pt",
                ),
            )
    for place in range(len(trials)):
        yield now_s + (last - first) * EPOCH_S, m.GangEnded(gang=gang + place, outcome="target")


def _settings(epochs: int, n_workers: int) -> m.Settings:
    return m.Settings(
        name="many",
        metric="accuracy",
        mode="max",
        max_epochs=epochs,
        deadline_s=1e7,
        budget=10**9 * MICRO,
        seed=0,
        offers=(Offer(name="m", price_per_hour=100_000, boot_s=30.0, max_machines=n_workers),),
        max_workers=n_workers,
        lease_s=30.0,
        store="/nowhere",
        policy="random_search",
    )
