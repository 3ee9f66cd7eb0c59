"""A large study that is only written down: what the live view shows of it costs the same as of a real one."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from seer_nb.core import model as m
from seer_nb.core.money import Offer
from seer_nb.function import dumps_parts
from seer_nb.journal import Journal
from seer_nb.policies import SEER
from seer_nb.runner import files
from seer_nb.runner.lock import RunnerLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

N_TRIALS = 256
N_SURVIVORS = 16
N_EPOCHS = 200
EPOCH_S = 0.5
Record = tuple[float, "m.Event | m.Action"]


class Journalled:
    """256 trials, of which all but 16 have ended after up to 200 epochs; the others report twice a second.

    Args:
        home: Folder of all studies.
        name: Of the study.
        epochs: That train a trial fully.
    """

    def __init__(self, home: Path, name: str, epochs: int = N_EPOCHS) -> None:
        self._rng = random.Random(0)  # noqa: S311 - reproducible, not secret
        self._epochs = epochs
        self.folder = home / name
        files.make_folder(self.folder)
        files.write_private(self.folder / files.PARTS, dumps_parts(policy=SEER()))
        files.seal(self.folder)
        self._lock = RunnerLock(self.folder)
        self._lock.take()
        self.now_s = 0.0
        self._begun_s = 0.0
        self.reached = dict.fromkeys(range(N_SURVIVORS), 0)
        """Epochs of each survivor."""
        self.journal = Journal.create(self.folder / files.JOURNAL, list(self._past(name)))
        self._begun_s = time.monotonic() - self.now_s

    def report(self, epochs: int = 1) -> None:
        """Each survivor has so many more epochs behind it."""
        self.now_s = time.monotonic() - self._begun_s
        records: list[Record] = []
        for trial in self.reached:
            for _ in range(epochs):
                records.append((self.now_s, self._reported(trial, self.reached[trial] + 1, trial)))
                self.reached[trial] += 1
        self.journal.append(records)

    def _past(self, name: str) -> Iterator[Record]:
        offer = Offer(name="local", price_per_hour=50_000, boot_s=1.0, max_machines=N_SURVIVORS)
        yield 0.0, m.Began(settings=_settings(name, offer, self._epochs, str(self.folder / files.CHECKPOINTS)))
        for machine in range(N_SURVIVORS):
            yield 0.0, m.Rent(machine=machine, offer="local", reason="16 workers wanted")
            yield 1.0, m.MachineReady(machine=machine, boot_s=1.0)
        for trial in range(N_TRIALS):
            yield 1.0, m.Drawn(trial=trial, config={"lr": self._rng.uniform(1e-4, 1.0), "width": 32 << trial % 4})
        self.now_s = 1.0
        for trial in range(N_SURVIVORS, N_TRIALS):
            yield from self._ended(trial, trial % N_SURVIVORS)
        for trial in range(N_SURVIVORS):
            yield self.now_s, self._started(trial, trial, trial)
        yield self.now_s, m.Note(reason="16 survivors", workers=16, wanted=dict.fromkeys(range(N_SURVIVORS), 1))

    def _ended(self, trial: int, machine: int) -> Iterator[Record]:
        gang = N_TRIALS + trial
        yield self.now_s, self._started(trial, gang, machine)
        for epoch in range(1, min(N_EPOCHS, self._epochs) + 1):
            self.now_s += 0.01
            yield self.now_s, self._reported(trial, epoch, gang)
        yield self.now_s, m.GangEnded(gang=gang, outcome="stopped")
        yield self.now_s, m.EndTrial(trial=trial, state="stopped", reason=f"ranked {trial} of {N_TRIALS}")

    def _started(self, trial: int, gang: int, machine: int) -> m.StartGang:
        return m.StartGang(
            gang=gang,
            trial=trial,
            workers=(f"{machine}.0",),
            from_epoch=0,
            checkpoint=None,
            until=self._epochs,
            reason="it is next",
        )

    def _reported(self, trial: int, epoch: int, gang: int) -> m.Reported:
        top = 0.99 - 0.5 * trial / N_TRIALS
        value = top * (1 - 0.97**epoch) + self._rng.gauss(0, 0.003)
        return m.Reported(
            gang=gang,
            epoch=epoch,
            value=value,
            metrics={"accuracy": value},
            seconds=EPOCH_S,
            checkpoint=f"{trial}/{epoch}",
        )


def _settings(name: str, offer: Offer, epochs: int, store: str) -> m.Settings:
    return m.Settings(
        name=name,
        metric="accuracy",
        mode="max",
        max_epochs=epochs,
        deadline_s=7200.0,
        budget=2_000_000,
        seed=0,
        offers=(offer,),
        max_workers=N_SURVIVORS,
        lease_s=30.0,
        store=store,
        policy="seer",
    )
