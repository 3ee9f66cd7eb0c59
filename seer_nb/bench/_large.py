"""Large studies without training: a live study for the dashboard, a long journal, and a wide simulated study."""

from __future__ import annotations

import math
import random
import resource
import sys
import tempfile
import time
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seer_nb import core, simulate
from seer_nb._utils import files
from seer_nb._utils.units import MICRO
from seer_nb.bench._figures import Figure
from seer_nb.core.engine import Engine
from seer_nb.core.model import worker_name
from seer_nb.core.money import Offer
from seer_nb.policies import SEER, by_name
from seer_nb.simulate.simulator import Simulator
from seer_nb.simulate.worlds import TableWorld
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal
from seer_nb.storage.lock import RunnerLock
from seer_nb.storage.replay import JournalView
from seer_nb.study.serialization import dumps_parts
from seer_nb.views.page import PageBuilder, PageData, PageOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from seer_nb.core.policy import Policy
    from seer_nb.simulate.worlds import World


Record = tuple[float, "core.Event | core.Action"]
"""A journal record with its time in study seconds."""

LIVE_TRIALS, LIVE_SURVIVORS, LIVE_EPOCHS = 256, 16, 200
"""Trials of `LiveStudy`, those still alive, and the epochs of each ended trial."""
LIVE_EPOCH_S = 0.5
LONG_RUNGS = 5
"""Rungs of a trial in a long journal; a new gang continues it after each."""
LONG_EPOCH_S = 10.0
LONG_BATCH = 20_000
"""Records per write of a long journal."""
WIDE_EPOCHS, WIDE_EPOCH_S = 9, 60.0
WIDE_BATCH = 200
"""Records per write of the wide study."""
RENDER_EVERY = 2000
"""Records between two renderings of the live view."""


class LiveStudy:
    """A journal of 256 trials, of which 240 ended after up to 200 epochs and 16 report on request.

    Args:
        home: Folder of all studies.
        name: Name of the study.
        epochs: Maximum epochs of a trial; default 200.
    """

    def __init__(self, home: Path, name: str, epochs: int = LIVE_EPOCHS) -> None:
        self._rng = random.Random(0)  # noqa: S311 - reproducible, not secret
        self._epochs = epochs
        self.folder = home / name
        layout.make_folder(self.folder)
        files.write_atomically(self.folder / layout.PARTS, dumps_parts(policy=SEER()), private=True)
        layout.sign(self.folder)
        self._lock = RunnerLock(self.folder)
        self._lock.take()
        self.now_s = 0.0
        self._started_s = 0.0
        self.reached = dict.fromkeys(range(LIVE_SURVIVORS), 0)
        """Epochs of each live trial."""
        self.journal = Journal.create(self.folder / layout.JOURNAL, list(self._history(name)))
        self._started_s = time.monotonic() - self.now_s

    def report(self, epochs: int = 1) -> None:
        """Append reports of ``epochs`` more epochs of each live trial."""
        self.now_s = time.monotonic() - self._started_s
        records: list[Record] = []
        for trial in self.reached:
            for _ in range(epochs):
                records.append((self.now_s, self._reported(trial, self.reached[trial] + 1, trial)))
                self.reached[trial] += 1
        self.journal.append(records)

    def _history(self, name: str) -> Iterator[Record]:
        offer = Offer(name="local", price_per_hour_micro=50_000, boot_s=1.0, max_machines=LIVE_SURVIVORS)
        yield (
            0.0,
            core.Began(settings=_live_settings(name, offer, self._epochs, str(self.folder / layout.CHECKPOINTS))),
        )
        for machine in range(LIVE_SURVIVORS):
            yield 0.0, core.Rent(machine=machine, offer="local", reason="16 workers wanted")
            yield 1.0, core.MachineReady(machine=machine, boot_s=1.0)
        for trial in range(LIVE_TRIALS):
            yield 1.0, core.Drawn(trial=trial, config={"lr": self._rng.uniform(1e-4, 1.0), "width": 32 << trial % 4})
        self.now_s = 1.0
        for trial in range(LIVE_SURVIVORS, LIVE_TRIALS):
            yield from self._ended(trial, trial % LIVE_SURVIVORS)
        for trial in range(LIVE_SURVIVORS):
            yield self.now_s, self._started(trial, trial, trial)
        yield self.now_s, core.Note(reason="16 survivors", workers=16, wanted=dict.fromkeys(range(LIVE_SURVIVORS), 1))

    def _ended(self, trial: int, machine: int) -> Iterator[Record]:
        gang = LIVE_TRIALS + trial
        yield self.now_s, self._started(trial, gang, machine)
        for epoch in range(1, min(LIVE_EPOCHS, self._epochs) + 1):
            self.now_s += 0.01
            yield self.now_s, self._reported(trial, epoch, gang)
        yield self.now_s, core.GangEnded(gang=gang, outcome="stopped")
        yield self.now_s, core.EndTrial(trial=trial, state="stopped", reason=f"ranked {trial} of {LIVE_TRIALS}")

    def _started(self, trial: int, gang: int, machine: int) -> core.StartGang:
        return core.StartGang(
            gang=gang,
            trial=trial,
            workers=(worker_name(machine, 0),),
            from_epoch=0,
            checkpoint=None,
            until=self._epochs,
            reason="next trial",
        )

    def _reported(self, trial: int, epoch: int, gang: int) -> core.Reported:
        top = 0.99 - 0.5 * trial / LIVE_TRIALS
        value = top * (1 - 0.97**epoch) + self._rng.gauss(0, 0.003)
        return core.Reported(
            gang=gang,
            epoch=epoch,
            value=value,
            metrics={"accuracy": value},
            seconds=LIVE_EPOCH_S,
            checkpoint=f"{trial}/{epoch}",
        )


def _live_settings(name: str, offer: Offer, epochs: int, store: str) -> core.Settings:
    return core.Settings(
        name=name,
        metric="accuracy",
        mode="max",
        max_epochs=epochs,
        deadline_s=7200.0,
        budget_micro=2_000_000,
        seed=0,
        offers=(offer,),
        max_workers=LIVE_SURVIVORS,
        lease_s=30.0,
        store=store,
        policy="seer",
    )


def write_long_journal(path: Path, n_records: int, n_more: int, n_trials: int, n_workers: int) -> Iterator[Record]:
    """Write a journal of many records, and return an iterator over the records that follow.

    Each trial trains on one worker, pauses at every rung and resumes on the next free worker. Its curve rises with
    noise to a random level. Each report has two metrics and a checkpoint. So about 97 % of the records are reports, as
    in a study with short epochs.

    Args:
        path: Path of the new journal.
        n_records: Number of records to write.
        n_more: Number of records that the caller will append.
        n_trials: Number of trials.
        n_workers: Number of workers.
    """
    epochs = max(LONG_RUNGS, (n_records + n_more) // n_trials)
    settings = _long_settings(epochs, n_workers)
    stream = _records(settings, n_trials, n_workers, epochs + 1)
    journal = Journal.create(path, [next(stream)])
    append_records(journal, stream, n_records - 1)
    journal.close()
    return stream


def append_records(journal: Journal, stream: Iterator[Record], count: int) -> None:
    """Append the next ``count`` records of a stream."""
    for first in range(0, count, LONG_BATCH):
        journal.append(list(islice(stream, min(LONG_BATCH, count - first))))


def _records(settings: core.Settings, n_trials: int, n_workers: int, epochs: int) -> Iterator[Record]:
    yield 0.0, core.Began(settings=settings)
    yield 0.0, core.RunnerStarted()
    for machine in range(n_workers):
        yield 0.0, core.Rent(machine=machine, offer=settings.offers[0].name, reason=f"{n_workers} workers wanted")
    for machine in range(n_workers):
        yield 30.0, core.MachineReady(machine=machine, boot_s=30.0)
    rng = np.random.default_rng(0)
    for trial in range(n_trials):
        yield 30.0, core.Drawn(trial=trial, config={"lr": float(rng.uniform()), "width": 32 << trial % 4})
    tops, now_s, gang = rng.uniform(0.3, 0.99, n_trials), 30.0, 0
    bounds = [round(epochs * k / LONG_RUNGS) for k in range(LONG_RUNGS + 1)]
    for first, last in pairwise(bounds):
        for begin in range(0, n_trials, n_workers):
            wave = np.arange(begin, min(begin + n_workers, n_trials))
            yield from _train_wave(wave, tops[wave], first, last, now_s, gang, rng)
            now_s, gang = now_s + (last - first) * LONG_EPOCH_S + 1.0, gang + len(wave)


def _train_wave(  # noqa: PLR0913, PLR0917 - fields of a wave
    trials: NDArray[np.int64],
    tops: NDArray[np.float64],
    first: int,
    last: int,
    now_s: float,
    gang: int,
    rng: np.random.Generator,
) -> Iterator[Record]:
    """Yield the records of trials that train in parallel from one rung to the next."""
    for place, trial in enumerate(map(int, trials)):
        yield (
            now_s,
            core.StartGang(
                gang=gang + place,
                trial=trial,
                workers=(worker_name(place, 0),),
                from_epoch=first,
                checkpoint=f"{trial}/{first}" if first else None,
                until=last,
                reason=f"ranked among {len(trials)} at epoch {first}: continues to epoch {last}",
            ),
        )
    for epoch in range(first + 1, last + 1):
        at_s = now_s + (epoch - first) * LONG_EPOCH_S
        values = tops * (1 - math.exp(-epoch / 100)) + rng.normal(0, 0.003, len(trials))
        seconds = LONG_EPOCH_S * (1 + 0.01 * rng.normal(size=len(trials)))
        for place, (trial, value, took_s) in enumerate(zip(trials, values.tolist(), seconds.tolist(), strict=True)):
            yield (
                at_s,
                core.Reported(
                    gang=gang + place,
                    epoch=epoch,
                    value=value,
                    metrics={"accuracy": value, "loss": 1 - value},
                    seconds=took_s,
                    checkpoint=f"{trial}/{epoch:06d}-g{gang + place}.pt",
                ),
            )
    for place in range(len(trials)):
        yield now_s + (last - first) * LONG_EPOCH_S, core.GangEnded(gang=gang + place, outcome="target")


def _long_settings(epochs: int, n_workers: int) -> core.Settings:
    return core.Settings(
        name="many",
        metric="accuracy",
        mode="max",
        max_epochs=epochs,
        deadline_s=1e7,
        budget_micro=10**9 * MICRO,
        seed=0,
        offers=(Offer(name="m", price_per_hour_micro=100_000, boot_s=30.0, max_machines=n_workers),),
        max_workers=n_workers,
        lease_s=30.0,
        store="/nowhere",
        policy="random_search",
    )


class TimedEngine(Engine):
    """Engine that measures the seconds of each event."""

    def __init__(self, settings: core.Settings, policy: Policy) -> None:
        super().__init__(settings, policy)
        self.took_s: list[float] = []

    def handle(self, event: core.Event, now_s: float) -> tuple[core.Action, ...]:
        """Handle an event and store its duration."""
        started_s = time.perf_counter()
        actions = super().handle(event, now_s)
        self.took_s.append(time.perf_counter() - started_s)
        return actions


class RecordedSimulator(Simulator):
    """Simulator that writes a journal and renders the dashboard from it."""

    def __init__(self, settings: core.Settings, policy: Policy, world: World, path: Path) -> None:
        super().__init__(settings, policy, world)
        self.engine = self.timed = TimedEngine(settings, policy)
        self._path = path
        self._records: list[tuple[float, core.Event | core.Action]] = []
        self._view: JournalView | None = None
        self._scene, self._since = PageBuilder(), 0
        self.read_s: list[float] = []
        self.render_s: list[float] = []

    def _on_handled(self, event: core.Event, actions: tuple[core.Action, ...]) -> None:
        self._records += [(self.now_s, record) for record in (event, *actions)]
        if len(self._records) >= WIDE_BATCH:
            self.flush()

    def flush(self) -> None:
        """Append the pending records to the journal."""
        if self._view is None:
            self._view = JournalView(Journal.create(self._path, self._records))
        else:
            self._view.journal.append(self._records)
        self._since += len(self._records)
        self._records = []
        if self._since >= RENDER_EVERY:
            self._since = 0
            self.render()

    def close(self) -> None:
        """Close the journal."""
        assert self._view is not None
        self._view.journal.close()

    def render(self) -> None:
        """Read the new records and compute the page."""
        assert self._view is not None
        started_s = time.perf_counter()
        state = self._view.state()
        read_s = time.perf_counter()
        subject = PageData(state, self._view.history)
        self._scene.page(subject, self._scene.view(subject), PageOptions(buttons=True))
        self.read_s.append(read_s - started_s)
        self.render_s.append(time.perf_counter() - read_s)


def wide(*, quick: bool) -> list[Figure]:
    """Measure a simulated study of 10 000 trials on 2 000 workers; ``quick`` runs a smaller one."""
    n_trials, n_workers = (400, 80) if quick else (10_000, 2000)
    with tempfile.TemporaryDirectory(prefix="seer-bench-") as folder:
        path = Path(folder) / "journal.sqlite"
        started_s = time.monotonic()
        cloud = RecordedSimulator(_wide_settings(n_trials, n_workers), by_name("asha"), _world(n_trials), path)
        cloud.run()
        cloud.flush()
        cloud.render()
        took_s = time.monotonic() - started_s
        cloud.close()
        size = path.stat().st_size
    handled = 1000 * np.array(cloud.timed.took_s)
    pages, reads = 1000 * np.array(cloud.render_s), 1000 * np.array(cloud.read_s)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return [
        Figure("started trials", sum(t.state != "waiting" for t in cloud.state.trials.values())),
        Figure("workers in parallel, maximum", cloud.peak_workers),
        Figure("simulated events", cloud.steps),
        Figure("whole simulation", took_s, "s"),
        Figure("engine, time per event, median", float(np.median(handled)), "ms"),
        Figure("engine, time per event, 99th percentile", float(np.percentile(handled, 99)), "ms", most=50),
        Figure(f"reading {RENDER_EVERY} records, 99th percentile", float(np.percentile(reads, 99)), "ms"),
        Figure("rendering the live view, 99th percentile", float(np.percentile(pages, 99)), "ms", most=500),
        Figure("peak memory", peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, "MB"),
        Figure("journal", size / 1e6, "MB"),
        Figure("spending over the budget", cloud.over_budget_micro / MICRO, "$", most=0),
    ]


def _world(n_trials: int) -> TableWorld:
    heights = np.random.default_rng(0).uniform(0, 1, n_trials)
    table = simulate.CurveTable(
        [{"height": float(height)} for height in heights],
        heights[:, None] * (1 - 0.8 ** np.arange(1, WIDE_EPOCHS + 1)),
        [WIDE_EPOCHS] * n_trials,
        "max",
    )
    conditions = simulate.Conditions(noise=0.1, stall_seconds=1.0)
    return TableWorld(
        table, epoch_seconds=WIDE_EPOCH_S, speedup=lambda p: p / (1 + 0.15 * (p - 1)), conditions=conditions, seed=0
    )


def _wide_settings(n_trials: int, n_workers: int) -> core.Settings:
    offer = Offer(name="m", price_per_hour_micro=100_000, boot_s=30.0, max_machines=n_workers)
    # ASHA trains most trials for about two epochs. The budget is ample and workers are scarce.
    deadline_s = 300 + 2.5 * n_trials * WIDE_EPOCH_S / n_workers
    return core.Settings(
        name="wide",
        metric="value",
        mode="max",
        max_epochs=WIDE_EPOCHS,
        deadline_s=deadline_s,
        budget_micro=round(2 * n_workers * offer.price_per_hour_micro * deadline_s / 3600),
        seed=0,
        offers=(offer,),
        max_workers=n_workers,
        lease_s=30.0,
        store="",
        policy="asha",
    )
