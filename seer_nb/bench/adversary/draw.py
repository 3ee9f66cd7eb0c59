"""A study of which all is drawn at random: settings, faults, and what a person does."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from seer_nb.bench.adversary.cloud import AdverseCloud, Restart
from seer_nb.bench.adversary.watch import Watch, check
from seer_nb.bench.adversary.whim import Whim
from seer_nb.bench.adversary.world import World
from seer_nb.core import model as m
from seer_nb.core.money import BillingRule, Offer
from seer_nb.policies import ASHA, SEER, RandomSearch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core.engine import Policy

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
    policies: list[Policy] = [*[Whim()] * 40, SEER(), ASHA(), RandomSearch()]
    policy = rng.choice(policies)
    return AdverseCloud(settings, policy, _world(rng, seed), [*_commands(rng, settings)], check=Watch())


def _settings(rng: random.Random, seed: int) -> m.Settings:
    first = _offer(rng, "machine")
    spot = replace(first, name="spot", spot=True, price_per_hour=first.price_per_hour // 3, losses_per_hour=0.1)
    other = replace(_offer(rng, "other"), kind="other")
    host = replace(_offer(rng, "host"), workers_per_machine=0, price_per_hour=20_000)
    return m.Settings(
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
        price_per_hour=rng.choice([0, 360_000, 3_600_000]),
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


def _commands(rng: random.Random, settings: m.Settings) -> Iterator[tuple[float, Any]]:
    """What a person does, and when the runner dies."""
    for _ in range(rng.choice([0, 1, 2, 5])):
        asked = rng.sample([*_asked(rng, settings), m.Pause(), m.Resume(), m.Stop()], rng.randint(1, 3))
        commands: list[Any] = [
            *_asked(rng, settings),
            m.Pause(),
            m.Resume(),
            Restart(rng.choice(RESTARTS_S)),
            Restart(rng.choice(RESTARTS_S)),
            Restart(rng.choice(RESTARTS_S), tuple(asked)),
            rng.choice([m.Stop(), m.Resume()]),
        ]
        yield rng.uniform(0, settings.deadline_s), rng.choice(commands)


def _asked(rng: random.Random, settings: m.Settings) -> list[Any]:
    """What may be asked for at any time, also while no runner lives."""
    return [
        m.SetBudget(budget=rng.randint(0, 2 * settings.budget)),
        m.SetDeadline(deadline_s=rng.uniform(50, 1000)),
        m.DeadlineMoved(deadline_s=rng.uniform(50, 1000)),
        m.Pin(trial=rng.randint(0, 5), pinned=rng.random() < 0.5),  # noqa: PLR2004 - half of them
        m.StopTrial(trial=rng.randint(0, 5)),
    ]
