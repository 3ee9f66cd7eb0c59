"""Random studies: settings, faults and user commands are drawn from a seed."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from seer_nb import core
from seer_nb.core import Job, Plan, PolicyView, Verdict
from seer_nb.core.money import BillingRule, Offer
from seer_nb.policies import ASHA, SEER, RandomSearch
from seer_nb.testing.adversary.invariants import InvariantChecker, check_ended_study
from seer_nb.testing.adversary.simulator import AdverseCloud, Restart, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core.policy import Policy


MAX_TRIALS = 60
"""Number of trials after which `RandomPolicy` starts no more."""


class RandomPolicy:
    """Policy that resizes, pauses, stops and starts trials at random, but deterministically for a policy view."""

    def __repr__(self) -> str:
        return "RandomPolicy()"

    def decide(self, view: PolicyView) -> Plan:
        """Return a random plan."""
        rng = random.Random(repr((view.seed, view.now_s, len(view.trials), len(view.gangs))))  # noqa: S311
        alive = [trial for trial in view.trials if trial.alive]
        chosen = rng.sample(alive, rng.randint(0, min(len(alive), 4)))
        jobs = [
            Job(
                trial=trial.id,
                workers=rng.choice([1, 1, 2, view.max_workers]),
                until=rng.randint(min(trial.epoch + 1, view.max_epochs), view.max_epochs),
                reason="random choice",
            )
            for trial in chosen
        ]
        draws = len(view.trials) < MAX_TRIALS and not view.exhausted
        if draws:
            more = rng.randint(0, 3)
            jobs += [
                Job(
                    trial=None,
                    workers=rng.randint(1, 2),
                    until=rng.randint(1, view.max_epochs),
                    reason="random choice",
                    proposed=rng.choice([False, True]),
                )
                for _ in range(more)
            ]
        rng.shuffle(jobs)
        plans = 1 if view.carry is None else view.carry + 1
        spared = {trial.id for trial in chosen}
        out = [trial for trial in alive if trial.id not in spared and rng.random() < 0.05]  # noqa: PLR2004 - rarely
        return Plan(
            jobs=tuple(jobs),
            verdicts=tuple(Verdict(trial=trial.id, reason="random choice") for trial in out),
            workers=rng.randint(0, view.max_workers),
            done=not jobs and (not draws or rng.random() < 0.02),  # noqa: PLR2004 - rarely
            # The counter reveals a replay that carries another value.
            reason=f"random plan {plans}",
            carry=plans,
            wake_s=view.now_s + rng.uniform(0.5, 20.0),
            each_report=rng.choice([False, True]),
        )


RARE = (0.0, 0.0, 0.05, 0.3)
RESTARTS_S = (0.0, 10.0, 1000.0)
"""Seconds without a runner."""


def run_random_study(seed: int) -> int:
    """Run a random study and check its invariants after each event and at its end.

    Returns:
        The number of events.

    Raises:
        PromiseError: An invariant is broken.
    """
    cloud = study(seed).run()
    check_ended_study(cloud)
    return cloud.steps


def study(seed: int) -> AdverseCloud:
    """Return a random study that has started and whose invariants are checked."""
    rng = random.Random(seed)  # noqa: S311
    settings = _settings(rng, seed)
    policies: list[Policy] = [*[RandomPolicy()] * 40, SEER(), ASHA(), RandomSearch()]
    policy = rng.choice(policies)
    return AdverseCloud(settings, policy, _world(rng, seed), [*_commands(rng, settings)], check=InvariantChecker())


def _settings(rng: random.Random, seed: int) -> core.Settings:
    first = _offer(rng, "machine")
    spot = replace(
        first, name="spot", spot=True, price_per_hour_micro=first.price_per_hour_micro // 3, preemptions_per_hour=0.1
    )
    other = replace(_offer(rng, "other"), kind="other")
    scheduler = replace(_offer(rng, "host"), workers_per_machine=0, price_per_hour_micro=20_000)
    return core.Settings(
        name="adverse",
        metric="accuracy",
        mode="max",
        max_epochs=rng.choice([1, 3, 9, 27]),
        deadline_s=rng.uniform(30, 1000),
        budget_micro=rng.randint(20_000, 2_000_000),
        seed=seed,
        offers=rng.choice([(first,), (first,), (spot, first), (first, other), (spot, first, other)]),
        scheduler_offer=rng.choice([None, scheduler]),
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
        stall_s=rng.choice([0.1, 1.0, 5.0]),  # with a stall of 0 s random changes would never end
        boot_s=rng.choice([0.0, 3.0, 30.0]),
        spread=rng.choice([0.0, 0.5]),
        batch_size=rng.choice([None, 6, 32]),
        store_every=rng.choice([1, 3]),
        late_s=rng.choice([0.0, 0.0, 0.5, 5.0]),
        tick_late_s=rng.choice([0.0, 0.05, 0.5]),
        boot_failure=rng.choice(RARE),
        never_boots=rng.choice(RARE),
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
    """Yield random user commands and restarts of the runner."""
    for _ in range(rng.choice([0, 1, 2, 5])):
        waiting = rng.sample(
            [*_user_commands(rng, settings), core.Pause(), core.Resume(), core.Stop()], rng.randint(1, 3)
        )
        commands: list[Any] = [
            *_user_commands(rng, settings),
            core.Pause(),
            core.Resume(),
            Restart(rng.choice(RESTARTS_S)),
            Restart(rng.choice(RESTARTS_S)),
            Restart(rng.choice(RESTARTS_S), tuple(waiting)),
            rng.choice([core.Stop(), core.Resume()]),
        ]
        yield rng.uniform(0, settings.deadline_s), rng.choice(commands)


def _user_commands(rng: random.Random, settings: core.Settings) -> list[Any]:
    """Return commands that are allowed at any time, even without a runner."""
    return [
        core.SetBudget(budget_micro=rng.randint(0, 2 * settings.budget_micro)),
        core.SetDeadline(deadline_s=rng.uniform(50, 1000)),
        core.DeadlineMoved(deadline_s=rng.uniform(50, 1000)),
        core.Pin(trial=rng.randint(0, 5), pinned=rng.random() < 0.5),  # noqa: PLR2004 - half of the time
        core.StopTrial(trial=rng.randint(0, 5)),
    ]
