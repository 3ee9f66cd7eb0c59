"""A policy without any sense: what it wants changes at each look. An engine must keep its promises with any."""

from __future__ import annotations

import random

from seer_nb.core.model import Job, Plan, Snapshot, Verdict

PATIENCE = 60
"""Trials after which it draws no more."""


class Whim:
    """Resizes, pauses, eliminates and draws at random; a function of the snapshot all the same."""

    def __repr__(self) -> str:
        return "Whim()"

    def decide(self, snapshot: Snapshot) -> Plan:
        """Whatever comes to mind."""
        rng = random.Random(repr((snapshot.seed, snapshot.now_s, len(snapshot.trials), len(snapshot.gangs))))  # noqa: S311
        alive = [trial for trial in snapshot.trials if trial.alive]
        chosen = rng.sample(alive, rng.randint(0, min(len(alive), 4)))
        jobs = [
            Job(
                trial=trial.id,
                workers=rng.choice([1, 1, 2, snapshot.max_workers]),
                until=rng.randint(min(trial.epoch + 1, snapshot.max_epochs), snapshot.max_epochs),
                reason="a whim",
            )
            for trial in chosen
        ]
        draws = len(snapshot.trials) < PATIENCE and not snapshot.exhausted
        if draws:
            more = rng.randint(0, 3)
            jobs += [
                Job(
                    trial=None,
                    workers=rng.randint(1, 2),
                    until=rng.randint(1, snapshot.max_epochs),
                    reason="a whim",
                    proposed=rng.choice([False, True]),
                )
                for _ in range(more)
            ]
        rng.shuffle(jobs)
        whims = 1 if snapshot.carry is None else snapshot.carry + 1
        spared = {trial.id for trial in chosen}
        out = [trial for trial in alive if trial.id not in spared and rng.random() < 0.05]  # noqa: PLR2004 - seldom
        return Plan(
            jobs=tuple(jobs),
            verdicts=tuple(Verdict(trial=trial.id, reason="a whim") for trial in out),
            workers=rng.randint(0, snapshot.max_workers),
            done=not jobs and (not draws or rng.random() < 0.02),  # noqa: PLR2004 - seldom
            # So that a replay which carries something else on is seen.
            reason=f"whim {whims}",
            carry=whims,
            wake_s=snapshot.now_s + rng.uniform(0.5, 20.0),
            each_report=rng.choice([False, True]),
        )
