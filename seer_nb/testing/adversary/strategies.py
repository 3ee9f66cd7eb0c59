"""A study of which all is drawn at random: settings, faults, and what a person does."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from seer_nb import core
from seer_nb.core import Job, Plan, PolicyView, Verdict
from seer_nb.core.money import BillingRule, Offer
from seer_nb.policies import ASHA, SEER, RandomSearch
from seer_nb.testing.adversary.invariants import Watch, check
from seer_nb.testing.adversary.simulator import AdverseCloud, Restart, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core.policy import Policy


PATIENCE = 60
"""Trials after which it draws no more."""


class RandomPolicy:
    """Resizes, pauses, eliminates and draws at random; a function of the snapshot all the same."""

    def __repr__(self) -> str:
        return "Whim()"

    def decide(self, snapshot: PolicyView) -> Plan:
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


RARE = (0.0, 0.0, 0.05, 0.3)
RESTARTS_S = (0.0, 10.0, 1000.0)
"""For so long there is no runner."""


def watched(seed: int) -> int:
    """Run a study, looking at it after each event and at its end.

    Returns:
        After how many events that was.

    Raises:
        PromiseError: A promise was.
    """
    cloud = study(seed).run()
    check(cloud)
    return cloud.steps


def study(seed: int) -> AdverseCloud:
    """It has begun, and is watched."""
    rng = random.Random(seed)  # noqa: S311
    settings = _settings(rng, seed)
    policies: list[Policy] = [*[RandomPolicy()] * 40, SEER(), ASHA(), RandomSearch()]
    policy = rng.choice(policies)
    return AdverseCloud(settings, policy, _world(rng, seed), [*_commands(rng, settings)], check=Watch())


def _settings(rng: random.Random, seed: int) -> core.Settings:
    first = _offer(rng, "machine")
    spot = replace(
        first, name="spot", spot=True, price_per_hour_micro=first.price_per_hour_micro // 3, losses_per_hour=0.1
    )
    other = replace(_offer(rng, "other"), kind="other")
    host = replace(_offer(rng, "host"), workers_per_machine=0, price_per_hour_micro=20_000)
    return core.Settings(
        name="adverse",
        metric="accuracy",
        mode="max",
        max_epochs=rng.choice([1, 3, 9, 27]),
        deadline_s=rng.uniform(30, 1000),
        budget=rng.randint(20_000, 2_000_000),
        seed=seed,
        offers=rng.choice([(first,), (first,), (spot, first), (first, other), (spot, first, other)]),
        host=rng.choice([None, host]),
        max_workers=rng.choice([1, 2, 4, 8]),
        lease_s=rng.choice([20.0, 30.0]),
        report_timeout_s=rng.choice([None, 60.0]),
        store="/store",
        policy="any",
    )


def _offer(rng: random.Random, name: str) -> Offer:
    return Offer(
        name=name,
        price_per_hour_micro=rng.choice([0, 360_000, 3_600_000]),
        boot_s=rng.choice([2.0, 20.0]),
        max_machines=rng.choice([2, 8]),
        billing=BillingRule(unit=rng.choice(["second", "second", "hour"]), minimum_s=rng.choice([0, 60])),
        workers_per_machine=rng.choice([1, 1, 2]),
        release_s=rng.choice([0.5, 10.0]),
        boot_timeout_s=60.0,
        boot_lease_s=rng.choice([0.0, 0.0, 60.0]),
    )


def _world(rng: random.Random, seed: int) -> World:
    return World(
        seed=seed,
        configs=rng.choice([math.inf, math.inf, 3, 10]),
        epoch_s=rng.choice([2.0, 10.0, 40.0]),
        overhead=rng.choice([0.0, 0.15, 0.9]),
        stall_s=rng.choice([0.1, 1.0, 5.0]),  # a whim that costs no time would change for ever
        boot_s=rng.choice([0.0, 3.0, 30.0]),
        spread=rng.choice([0.0, 0.5]),
        batch_size=rng.choice([None, 6, 32]),
        store_every=rng.choice([1, 3]),
        late_s=rng.choice([0.0, 0.0, 0.5, 5.0]),
        tick_late_s=rng.choice([0.0, 0.05, 0.5]),
        no_boot=rng.choice(RARE),
        no_word=rng.choice(RARE),
        life_s=rng.choice([math.inf, 300.0, 60.0]),
        notice=rng.choice([0.0, 0.0, 0.3]),
        refused=rng.choice(RARE),
        adopts=rng.choice([0.0, 0.5, 1.0]),
        raises=rng.choice(RARE),
        hangs=rng.choice(RARE),
        diverges=rng.choice(RARE),
        returns=rng.choice(RARE),
        damages=rng.choice(RARE),
    )


def _commands(rng: random.Random, settings: core.Settings) -> Iterator[tuple[float, Any]]:
    """What a person does, and when the runner dies."""
    for _ in range(rng.choice([0, 1, 2, 5])):
        asked = rng.sample([*_asked(rng, settings), core.Pause(), core.Resume(), core.Stop()], rng.randint(1, 3))
        commands: list[Any] = [
            *_asked(rng, settings),
            core.Pause(),
            core.Resume(),
            Restart(rng.choice(RESTARTS_S)),
            Restart(rng.choice(RESTARTS_S)),
            Restart(rng.choice(RESTARTS_S), tuple(asked)),
            rng.choice([core.Stop(), core.Resume()]),
        ]
        yield rng.uniform(0, settings.deadline_s), rng.choice(commands)


def _asked(rng: random.Random, settings: core.Settings) -> list[Any]:
    """What may be asked for at any time, also while no runner lives."""
    return [
        core.SetBudget(budget=rng.randint(0, 2 * settings.budget)),
        core.SetDeadline(deadline_s=rng.uniform(50, 1000)),
        core.DeadlineMoved(deadline_s=rng.uniform(50, 1000)),
        core.Pin(trial=rng.randint(0, 5), pinned=rng.random() < 0.5),  # noqa: PLR2004 - half of them
        core.StopTrial(trial=rng.randint(0, 5)),
    ]
