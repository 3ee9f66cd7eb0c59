"""Tuning a federation: several FedEx runs, of which a wrapper keeps the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from seer_nb._utils.randomness import derive_seed
from seer_nb._utils.validation import check_choice, check_integer, check_number
from seer_nb.methods.fedex import validation
from seer_nb.methods.fedex.fedex import FedEx
from seer_nb.methods.fedex.options import neighbours
from seer_nb.methods.fedex.result import Arm, Result
from seer_nb.methods.fedex.server import Server
from seer_nb.methods.fedex.simplex import SCHEDULES, discounted_mean
from seer_nb.methods.fedex.validation import Limits
from seer_nb.methods.fedex.worker_pool import TimeUpError, pool_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.simplex import Schedule
    from seer_nb.methods.fedex.validation import Target
    from seer_nb.providers.base import Provider
    from seer_nb.search_space import Space


Wrapper: TypeAlias = Literal["random", "sha"]
WRAPPERS: tuple[str, ...] = get_args(Wrapper)


class Ladder(NamedTuple):
    """What a wrapper is going to do."""

    arms: int
    rate: int
    """One in so many goes on after each rung but the last."""
    rungs: tuple[int, ...]
    """Rounds that an arm has had when a rung ends, ascending."""

    @property
    def rounds(self) -> int:
        """Rounds that it takes in all."""
        total, arms, before = 0, self.arms, 0
        for rung in self.rungs:
            total += arms * (rung - before)
            arms, before = max(1, arms // self.rate), rung
        return total


def random_search(max_rounds: int, total_rounds: int) -> Ladder:
    """floor(total / max) arms, each for all of its rounds (github mkhodak/FedEx, hyper.py).

    Raises:
        ValueError: There are not enough rounds for one arm.
    """
    if total_rounds < max_rounds:
        raise ValueError(
            f"total_rounds={total_rounds} is less than one arm takes, max_rounds={max_rounds}: give as many or more"
        )
    return Ladder(total_rounds // max_rounds, 1, (max_rounds,))


def elimination(max_rounds: int, total_rounds: int, eliminations: int = 3, rate: int = 3) -> Ladder:
    """rate^eliminations arms, of which one in ``rate`` goes on at each elimination, and the last to ``max_rounds``.

    An arm more in the stage before elimination i of i costs rate^i - 1 rounds more than none, for one arm goes on to
    ``max_rounds`` anyway. All stages are as long, and what is left over is dealt out to the longest that it pays for:
    each of those costs is a multiple of the last, so nothing that could be used is left (github mkhodak/FedEx,
    hyper.py, tries all instead).

    Raises:
        ValueError: There are not enough rounds for every stage to have one.
    """
    costs = [rate**i - 1 for i in range(eliminations, 0, -1)]
    least = max_rounds + sum(costs)
    if max_rounds < eliminations + 1 or total_rounds < least:
        raise ValueError(
            f"max_rounds={max_rounds} and total_rounds={total_rounds} are too few for eliminations={eliminations} at "
            f"rate={rate}: give at least {max(max_rounds, eliminations + 1)} and {least}, or fewer eliminations"
        )
    left = total_rounds - max_rounds
    each = min(left // sum(costs), max_rounds // (eliminations + 1))
    left -= each * sum(costs)
    lengths, spare = [], max_rounds - 1 - each * eliminations
    for cost in costs:
        more = min(left // cost, spare)
        lengths.append(each + more)
        left, spare = left - more * cost, spare - more
    ends = [sum(lengths[: place + 1]) for place in range(eliminations)]
    return Ladder(rate**eliminations, rate, (*ends, max_rounds))


def tune(  # noqa: PLR0913 - the options of the authors' scripts
    federation: Federation,
    client_space: Mapping[str, Any] | None = None,
    server_space: Mapping[str, Any] | None = None,
    *,
    max_rounds: int,
    total_rounds: int,
    wrapper: Wrapper = "random",
    eliminations: int = 3,
    fedex_k: int = 27,
    eps: float = 0.1,
    schedule: Schedule = "aggressive",
    baseline: float | None = None,
    cutoff: float = 1e-4,
    discount: float = 0.0,
    target: Target = "personal",
    clients_per_round: int = 10,
    provider: Provider | None = None,
    workers: int | None = None,
    deadline: str | float | timedelta | None = None,
    budget: str | float | None = None,
    seed: int = 0,
) -> Result:
    """Find the hyperparameters of a federation's clients and server within a number of rounds.

    Each arm is a FedEx with settings of the server and ``fedex_k`` neighbouring configurations of clients, both drawn
    at random. The wrapper says how many arms there are and which go on, by their validation errors. The best-scoring
    state that any arm has ever been in is what is tested at the end, on all clients.

    It ends with this process, rents no machines of clouds, and shows nothing meanwhile; ``Search`` does all that, for
    it is a study whose trials are the arms.

    Args:
        federation: What is tuned.
        client_space: Of the clients' hyperparameters; constants allowed. Default: ``spaces.client_space()``.
        server_space: Of lr, momentum and decay (1 - gamma) or gamma. Default: ``spaces.server_space()``.
        max_rounds: Rounds of an arm that goes on to the end.
        total_rounds: Rounds of all arms together; never exceeded.
        wrapper: "random": random search, floor(total / max) arms. "sha": successive elimination at rate 3.
        eliminations: Of successive elimination: 3 ** eliminations arms.
        fedex_k: Configurations that each FedEx chooses from; 1: no FedEx, but federated averaging.
        eps: How far they are from each other, as a share of the ranges.
        schedule: Of FedEx's steps.
        baseline: Of FedEx; None: drawn for each arm.
        cutoff: Of FedEx, in nats.
        discount: An arm's score is the discounted mean of its validation errors since the last elimination: 0, the
            latest one, to 1, the plain mean.
        target: "personal": judged by the error after training on the client. "global": by the shared model's.
        clients_per_round: Drawn in each round, with replacement.
        provider: Whose workers do the clients' work: ``seer.Local(...)`` or ``seer.DaskCluster(...)``; for machines of
            a cloud there is ``Search``. Default: this process.
        workers: At most so many of them. Default: as many as the provider has, or clients a round.
        deadline: A length of time. What is found by then is the result.
        budget: Dollars, for the provider's workers. Needed where they cost anything.
        seed: Runs with one seed give the same errors bit for bit, on any number of workers, unless cut short.

    Raises:
        TypeError, ValueError: For what cannot be; the sentence names the argument.
        SeerError: No worker could be had, or all were lost.
    """
    limits = Limits.read(deadline, budget, provider)
    plan = _Plan(
        federation=validation.federation(federation),
        clients=validation.clients(client_space),
        server=validation.server(server_space),
        ladder=_ladder(wrapper, max_rounds, total_rounds, eliminations),
        fedex_k=check_integer(fedex_k, "fedex_k"),
        eps=check_number(eps, "eps", least=0.0, most=1.0),
        discount=check_number(discount, "discount", least=0.0, most=1.0),
        target=check_choice(target, "target", validation.TARGETS),
        options={"schedule": check_choice(schedule, "schedule", SCHEDULES), "baseline": baseline, "cutoff": cutoff},
        clients_per_round=check_integer(clients_per_round, "clients_per_round"),
        seed=check_integer(seed, "seed", 0),
        limits=limits,
    )
    arms = [_arm(plan, number) for number in range(plan.ladder.arms)]
    try:
        with pool_of(federation, provider, workers, plan.clients_per_round, limits) as pool:
            for arm in arms:
                arm.use(pool)
            result = _Search(plan, arms).run()
    except TimeUpError as error:  # before there was a worker
        result = _Search(plan, arms).cut(str(error))
    return result.ended(arms, limits.elapsed_s(), limits.spent_usd())


class _Plan(NamedTuple):
    federation: Federation
    clients: Space
    server: Space
    ladder: Ladder
    fedex_k: int
    eps: float
    discount: float
    target: str
    options: dict[str, Any]
    clients_per_round: int
    seed: int
    limits: Limits


class _Found(NamedTuple):
    """The best-scoring state of all."""

    score: float
    arm: Arm
    fedex: FedEx


class _Search:
    """Arms on their way, and the best-scoring state so far."""

    def __init__(self, plan: _Plan, arms: list[Arm]) -> None:
        self._plan = plan
        self._arms = arms
        self._best: _Found | None = None
        self._round_s = 0.0
        """How long a round takes at most: a slow one is forgotten by and by, such as the first on a new worker."""

    def run(self) -> Result:
        """Take the arms up the ladder, and test the best; whatever there is when the time is up is the result."""
        try:
            self._climb()
        except TimeUpError as error:
            return self.cut(str(error))
        return self._result("all rounds are taken")

    def cut(self, reason: str) -> Result:
        """There is no time for what would follow."""
        for arm in self._arms:
            arm.cut_short(reason)
        return self._result(reason)

    def _result(self, reason: str) -> Result:
        plan, tested = self._plan, None
        if self._best is not None:
            try:
                tested = self._best.fedex.evaluate()
            except TimeUpError:
                reason = f"{reason}, before the test"
        return Result.of(
            *(self._arms, self._best, tested),
            target=plan.target,
            reason=reason,
            ladder=plan.ladder,
            seed=plan.seed,
            wall_s=plan.limits.elapsed_s(),
        )

    def _climb(self) -> None:
        alive, before = self._arms, 0
        for rung in self._plan.ladder.rungs:
            for arm in alive:
                for _ in range(before, rung):
                    self._step(arm, before)
            alive, before = _survivors(self._plan, alive, before, rung), rung

    def _step(self, arm: Arm, before: int) -> None:
        plan, limits = self._plan, self._plan.limits
        # The test visits all clients once; half as much again, for they are not all alike.
        rounds = 1 + 1.5 * len(plan.federation) / plan.clients_per_round
        limits.check(keep_s=rounds * self._round_s)
        begun_s = limits.elapsed_s()
        arm.note(arm.fedex.step(), limits.elapsed_s())
        self._round_s = max(0.7 * self._round_s, limits.elapsed_s() - begun_s)
        score = _score(plan, arm, before)
        if self._best is None or score < self._best.score:
            self._best = _Found(score, arm, arm.fedex.copy())


def _score(plan: _Plan, arm: Arm, before: int) -> float:
    trace = [getattr(x.validation, validation.FIELDS[plan.target]) for x in arm.fedex.history[before:]]
    return discounted_mean(trace, plan.discount)


def _survivors(plan: _Plan, alive: list[Arm], before: int, rung: int) -> list[Arm]:
    if rung == plan.ladder.rungs[-1]:
        for arm in alive:
            arm.complete()
        return []
    ranked = sorted(alive, key=lambda arm: (_score(plan, arm, before), arm.number))
    count = max(1, len(alive) // plan.ladder.rate)
    for place, arm in enumerate(ranked[count:], count + 1):
        arm.drop(f"place {place} of {len(ranked)} after {rung} rounds: the best {count} went on")
    # In their own order, so that who is visited when does not hang on scores.
    return sorted(ranked[:count], key=lambda arm: arm.number)


def _arm(plan: _Plan, number: int) -> Arm:
    rng = np.random.default_rng([plan.seed, 4, number])
    drawn = plan.server.sample(rng)
    settings = validation.settings(drawn)
    configs = neighbours(plan.clients, plan.fedex_k, plan.eps, rng)
    seed = derive_seed(plan.seed, number)

    server = Server(plan.federation, settings, clients_per_round=plan.clients_per_round, seed=seed)
    return Arm(number, settings, FedEx(server, configs, seed=seed, **plan.options), server)


def _ladder(wrapper: str, max_rounds: int, total_rounds: int, eliminations: int) -> Ladder:
    check_choice(wrapper, "wrapper", WRAPPERS)
    most = check_integer(max_rounds, "max_rounds")
    total = check_integer(total_rounds, "total_rounds")
    if wrapper == "random":
        return random_search(most, total)
    return elimination(most, total, check_integer(eliminations, "eliminations"))
