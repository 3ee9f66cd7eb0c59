"""A simulated study of many trials on many workers: the real engine, a real journal, and the live view's models."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seer_nb import simulate
from seer_nb.bench.figures import Figure
from seer_nb.core import model as m
from seer_nb.core.engine import Engine
from seer_nb.core.money import MICRO, Offer
from seer_nb.journal import Journal, View
from seer_nb.policies import by_name
from seer_nb.simulate.cloud import VirtualCloud
from seer_nb.simulate.world import TableWorld
from seer_nb.ui.scene import Scene, Subject, Wish

if TYPE_CHECKING:
    from seer_nb.core.engine import Policy
    from seer_nb.simulate.world import World

EPOCHS, EPOCH_S = 9, 60.0
LOOK_EVERY = 2000
"""Records between two looks of the live view."""
BATCH = 200


class Timed(Engine):
    """Notes how long each event takes."""

    def __init__(self, settings: m.Settings, policy: Policy) -> None:
        super().__init__(settings, policy)
        self.took_s: list[float] = []

    def handle(self, event: m.Event, now_s: float) -> tuple[m.Action, ...]:
        """As an engine's."""
        begun_s = time.perf_counter()
        actions = super().handle(event, now_s)
        self.took_s.append(time.perf_counter() - begun_s)
        return actions


class Recorded(VirtualCloud):
    """Writes a journal, and looks at it as a dashboard does."""

    def __init__(self, settings: m.Settings, policy: Policy, world: World, path: Path) -> None:
        super().__init__(settings, policy, world)
        self.engine = self.timed = Timed(settings, policy)
        self._path = path
        self._records: list[tuple[float, m.Event | m.Action]] = []
        self._view: View | None = None
        self._scene, self._since = Scene(), 0
        self.looks_s: list[float] = []
        self.pages_s: list[float] = []

    def _saw(self, event: m.Event, actions: tuple[m.Action, ...]) -> None:
        self._records += [(self.now_s, record) for record in (event, *actions)]
        if len(self._records) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what has not been written."""
        if self._view is None:
            self._view = View(Journal.create(self._path, self._records))
        else:
            self._view.journal.append(self._records)
        self._since += len(self._records)
        self._records = []
        if self._since >= LOOK_EVERY:
            self._since = 0
            self.look()

    def close(self) -> None:
        """Nobody looks any more."""
        assert self._view is not None
        self._view.journal.close()

    def look(self) -> None:
        """Read what is new, and compute the page."""
        assert self._view is not None
        begun_s = time.perf_counter()
        state = self._view.state()
        read_s = time.perf_counter()
        subject = Subject(state, self._view.history)
        self._scene.page(subject, self._scene.view(subject), Wish(buttons=True))
        self.looks_s.append(read_s - begun_s)
        self.pages_s.append(time.perf_counter() - read_s)


def wide(*, quick: bool) -> list[Figure]:
    """10 000 trials on 2 000 workers."""
    n_trials, n_workers = (400, 80) if quick else (10_000, 2000)
    with tempfile.TemporaryDirectory(prefix="seer-bench-") as folder:
        path = Path(folder) / "journal.sqlite"
        begun_s = time.monotonic()
        cloud = Recorded(_settings(n_trials, n_workers), by_name("asha"), _world(n_trials), path)
        cloud.run()
        cloud.flush()
        cloud.look()
        took_s = time.monotonic() - begun_s
        cloud.close()
        size = path.stat().st_size
    handled = 1000 * np.array(cloud.timed.took_s)
    pages, looks = 1000 * np.array(cloud.pages_s), 1000 * np.array(cloud.looks_s)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return [
        Figure("trials that were begun", sum(t.state != "waiting" for t in cloud.state.trials.values())),
        Figure("workers at a time, at most", cloud.peak),
        Figure("simulated events", cloud.steps),
        Figure("all of it", took_s, "s"),
        Figure("the engine takes an event in, median", float(np.median(handled)), "ms"),
        Figure("the engine takes an event in, 99 of 100", float(np.percentile(handled, 99)), "ms", most=50),
        Figure(f"a look reads {LOOK_EVERY} records, 99 of 100", float(np.percentile(looks, 99)), "ms"),
        Figure("the live view's page is computed, 99 of 100", float(np.percentile(pages, 99)), "ms", most=500),
        Figure("peak memory", peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, "MB"),
        Figure("journal", size / 1e6, "MB"),
        Figure("spent beyond the budget", cloud.over_budget / MICRO, "$", most=0),
    ]


def _world(n_trials: int) -> TableWorld:
    heights = np.random.default_rng(0).uniform(0, 1, n_trials)
    table = simulate.CurveTable(
        [{"height": float(height)} for height in heights],
        heights[:, None] * (1 - 0.8 ** np.arange(1, EPOCHS + 1)),
        [EPOCHS] * n_trials,
        "max",
    )
    conditions = simulate.Conditions(noise=0.1, stall_seconds=1.0)
    return TableWorld(
        table, epoch_seconds=EPOCH_S, speedup=lambda p: p / (1 + 0.15 * (p - 1)), conditions=conditions, seed=0
    )


def _settings(n_trials: int, n_workers: int) -> m.Settings:
    offer = Offer(name="m", price_per_hour=100_000, boot_s=30.0, max_machines=n_workers)
    # ASHA trains two epochs and a little of most trials; money is ample, and workers are scarce.
    deadline_s = 300 + 2.5 * n_trials * EPOCH_S / n_workers
    return m.Settings(
        name="wide",
        metric="value",
        mode="max",
        max_epochs=EPOCHS,
        deadline_s=deadline_s,
        budget=round(2 * n_workers * offer.price_per_hour * deadline_s / 3600),
        seed=0,
        offers=(offer,),
        max_workers=n_workers,
        lease_s=30.0,
        store="",
        policy="asha",
    )
