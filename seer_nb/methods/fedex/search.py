"""``fedex.tune``: several FedEx runs, the arms, of which a wrapper promotes the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from seer_nb._utils.randomness import derive_seed
from seer_nb._utils.validation import check_choice, check_integer, check_number
from seer_nb.methods.fedex import validation
from seer_nb.methods.fedex.fedex import FedEx
from seer_nb.methods.fedex.limits import LimitReachedError, Limits
from seer_nb.methods.fedex.options import neighbours
from seer_nb.methods.fedex.result import Arm, Best, Result
from seer_nb.methods.fedex.server import Server
from seer_nb.methods.fedex.simplex import SCHEDULES, discounted_mean
from seer_nb.methods.fedex.worker_pool import open_pool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.fedex import Scores
    from seer_nb.methods.fedex.simplex import Schedule
    from seer_nb.methods.fedex.validation import Target
    from seer_nb.providers.base import Provider
    from seer_nb.search_space import Space


Wrapper: TypeAlias = Literal["random", "sha"]
WRAPPERS: tuple[str, ...] = get_args(Wrapper)
_ARM_STREAM = 4
"""Random stream of an arm's settings and configurations."""
_ROUND_TIME_DECAY = 0.7
"""Factor of the longest round time after each round, so that one slow round does not count for long."""
_TEST_TIME_FACTOR = 1.5
"""Reserve for the final test, because clients are not equally large."""


class Ladder(NamedTuple):
    """Schedule of a wrapper: how many arms start, and how many are promoted from each rung."""

    arms: int
    """Number of arms."""
    rate: int
    """One in so many arms is promoted from each rung but the last."""
    rungs: tuple[int, ...]
    """Rounds of an arm at each rung, ascending."""

    @property
    def rounds(self) -> int:
        """Rounds of all arms together."""
        total, arms, before = 0, self.arms, 0
        for rung in self.rungs:
            total += arms * (rung - before)
            arms, before = max(1, arms // self.rate), rung
        return total


def random_search(max_rounds: int, total_rounds: int) -> Ladder:
    """Return the ladder of random search: floor(total / max) arms (github mkhodak/FedEx, hyper.py).

    Args:
        max_rounds: Rounds per arm.
        total_rounds: Rounds of all arms together.

    Raises:
        ValueError: ``total_rounds`` is too small for one arm.

    Example:
        >>> fedex.random_search(40, 205).arms
        5
    """
    if total_rounds < max_rounds:
        raise ValueError(
            f"total_rounds={total_rounds}: too small; expected at least max_rounds={max_rounds}, for one arm"
        )
    return Ladder(total_rounds // max_rounds, 1, (max_rounds,))


def elimination(max_rounds: int, total_rounds: int, eliminations: int = 3, rate: int = 3) -> Ladder:
    """Return the ladder of successive elimination: rate^eliminations arms, one in ``rate`` promoted from each rung.

    One more round in the stage before the i-th last elimination costs rate^i - 1 rounds, because one arm continues to
    ``max_rounds`` in any case. All stages are equally long at first. The remaining rounds go to the stages in order of
    their cost, the most expensive first. Each cost is a multiple of the last one, so no usable round remains. (The
    authors' code, github mkhodak/FedEx, hyper.py, tries all combinations instead.)

    Args:
        max_rounds: Rounds of the arm that reaches the top.
        total_rounds: Rounds of all arms together; never exceeded.
        eliminations: Number of eliminations.
        rate: Reduction factor of each elimination.

    Raises:
        ValueError: There are not enough rounds for one per stage.

    Example:
        >>> ladder = fedex.elimination(40, 200)
        >>> ladder.arms, ladder.rounds
        (27, 200)
    """
    costs = [rate**i - 1 for i in range(eliminations, 0, -1)]
    least = max_rounds + sum(costs)
    if max_rounds < eliminations + 1 or total_rounds < least:
        raise ValueError(
            f"max_rounds={max_rounds}, total_rounds={total_rounds}: too small for eliminations={eliminations} at "
            f"rate={rate}; expected at least {max(max_rounds, eliminations + 1)} and {least}, or fewer eliminations"
        )
    left = total_rounds - max_rounds
    each = min(left // sum(costs), max_rounds // (eliminations + 1))
    left -= each * sum(costs)
    lengths, spare = [], max_rounds - 1 - each * eliminations
    for cost in costs:
        more = min(left // cost, spare)
        lengths.append(each + more)
        left, spare = left - more * cost, spare - more
    ends = [sum(lengths[: index + 1]) for index in range(eliminations)]
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
    """Tune the client and server hyperparameters of a federation within a number of rounds.

    Each arm is a FedEx run with randomly drawn server settings and ``fedex_k`` neighbouring client configurations. The
    wrapper decides how many arms start, and promotes arms by their validation errors. The best-scoring state of all
    arms is tested on all clients at the end (Khodak et al., NeurIPS 2021; github mkhodak/FedEx).

    The search blocks until it ends, and ends with this process; it cannot rent cloud machines. ``Search`` runs as a
    study instead, with a live view and on any provider.

    Args:
        federation: Federation to tune.
        client_space: Space of the client hyperparameters; constants are allowed. Default: ``client_space()``.
        server_space: Space of lr, momentum, and decay (1 - gamma) or gamma. Default: ``server_space()``.
        max_rounds: Rounds of an arm that reaches the top.
        total_rounds: Rounds of all arms together; never exceeded.
        wrapper: "random": random search with floor(total / max) arms. "sha": successive elimination at rate 3.
        eliminations: Number of eliminations of "sha", which starts 3 ** eliminations arms.
        fedex_k: Number of client configurations of each arm; 1: federated averaging without FedEx.
        eps: Distance of these configurations from their centre, as a share of the ranges, from 0 to 1.
        schedule: Step-size schedule of FedEx; see ``FedEx``.
        baseline: Baseline of FedEx, from 0 to 1. Default: drawn for each arm.
        cutoff: Entropy in nats below which FedEx freezes theta.
        discount: Discount of an arm's score, the mean of its validation errors since the last elimination: from 0, only
            the latest error, to 1, the plain mean.
        target: "personal": minimise the error after local training. "global": minimise the shared model's error.
        clients_per_round: Clients drawn per round, with replacement.
        provider: Provider of the workers: ``seer.Local(...)`` or ``seer.DaskCluster(...)``. Default: this process.
        workers: Upper limit of the number of workers. Default: the provider's limit, or the clients per round.
        deadline: Duration, as text or seconds; the result is the best state found by then. Default: 30 days.
        budget: Dollars for the provider's workers; required if they cost money.
        seed: Seed. Equal seeds give the same errors bit for bit on any number of workers, unless a limit ends the
            search.

    Returns:
        The arms, their tables, and the best state with its test errors.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.
        SeerError: No worker became ready, or workers were lost repeatedly.

    Example:
        >>> federation = fedex.Federation.split(model, x, y, clients=100, alpha=0.5)
        >>> result = fedex.tune(federation, max_rounds=60, total_rounds=300)
        >>> result.best.config, result.best.test
    """
    limits = Limits.from_arguments(deadline, budget, provider)
    plan = _Plan(
        federation=validation.check_federation(federation),
        clients=validation.read_client_space(client_space),
        server=validation.read_server_space(server_space),
        ladder=_make_ladder(wrapper, max_rounds, total_rounds, eliminations),
        fedex_k=check_integer(fedex_k, "fedex_k"),
        eps=check_number(eps, "eps", at_least=0.0, at_most=1.0),
        discount=check_number(discount, "discount", at_least=0.0, at_most=1.0),
        target=check_choice(target, "target", validation.TARGETS),
        options={"schedule": check_choice(schedule, "schedule", SCHEDULES), "baseline": baseline, "cutoff": cutoff},
        clients_per_round=check_integer(clients_per_round, "clients_per_round"),
        seed=check_integer(seed, "seed", 0),
        limits=limits,
    )
    validation.check_files(federation, provider)
    arms = [_make_arm(plan, number) for number in range(plan.ladder.arms)]
    try:
        with open_pool(federation, provider, workers, plan.clients_per_round, limits) as pool:
            for arm in arms:
                arm.set_pool(pool)
            result = _Tuning(plan, arms).run()
    except LimitReachedError as error:  # while the pool was opened
        result = _Tuning(plan, arms).stop_early(str(error))
    return result.finish(arms, limits.elapsed_s(), limits.spent_usd())


class _Plan(NamedTuple):
    """Checked arguments of ``tune``."""

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


class _BestState(NamedTuple):
    """The best-scoring state of all arms."""

    score: float
    arm: Arm
    fedex: FedEx


class _Tuning:
    """One run of ``tune``: trains the arms rung by rung, and remembers the best state."""

    def __init__(self, plan: _Plan, arms: list[Arm]) -> None:
        self._plan = plan
        self._arms = arms
        self._best: _BestState | None = None
        self._round_s = 0.0
        """Seconds of the longest recent round; a slow one, such as the first on a new worker, decays."""

    def run(self) -> Result:
        """Train the arms, and test the best state; a reached limit ends the training early."""
        try:
            self._train_arms()
        except LimitReachedError as error:
            return self.stop_early(str(error))
        return self._result("all rounds completed")

    def stop_early(self, reason: str) -> Result:
        """Stop all arms that have not ended, and return the result so far."""
        for arm in self._arms:
            arm.stop_unless_ended(reason)
        return self._result(reason)

    def _result(self, reason: str) -> Result:
        plan, best = self._plan, self._best
        tested = None
        if best is not None:
            try:
                tested = best.fedex.evaluate()
            except LimitReachedError:
                reason = f"{reason}, before the test"
        return Result(
            arms=tuple(self._arms),
            best=None if best is None else _make_best(best, plan.target, tested),
            target=plan.target,
            reason=reason,
            ladder=plan.ladder,
            seed=plan.seed,
            wall_s=plan.limits.elapsed_s(),
        )

    def _train_arms(self) -> None:
        alive, before = self._arms, 0
        for rung in self._plan.ladder.rungs:
            for arm in alive:
                for _ in range(before, rung):
                    self._train_round(arm, before)
            alive, before = _promote(self._plan, alive, before, rung), rung

    def _train_round(self, arm: Arm, before: int) -> None:
        plan, limits = self._plan, self._plan.limits
        # Reserve time for the test, which trains every client once.
        rounds = 1 + _TEST_TIME_FACTOR * len(plan.federation) / plan.clients_per_round
        limits.check(keep_s=rounds * self._round_s)
        begun_s = limits.elapsed_s()
        arm.fedex.step()
        arm.record_round(limits.elapsed_s())
        self._round_s = max(_ROUND_TIME_DECAY * self._round_s, limits.elapsed_s() - begun_s)
        score = _score(plan, arm, before)
        if self._best is None or score < self._best.score:
            self._best = _BestState(score, arm, arm.fedex.copy())


def _make_best(state: _BestState, target: str, tested: Scores | None) -> Best:
    fedex = state.fedex
    return Best(
        trial=state.arm.number,
        config=fedex.best_config,
        server=state.arm.settings,
        selection_score=state.score,
        target=target,
        epoch=len(fedex.history),
        test=tested,
        weights=fedex.server.weights,  # type: ignore[attr-defined] # an arm's server is a Server
        fedex=fedex,
    )


def _score(plan: _Plan, arm: Arm, before: int) -> float:
    """Return the discounted mean of an arm's validation errors after the rung at ``before`` rounds."""
    values = [getattr(x.validation, validation.SCORE_FIELDS[plan.target]) for x in arm.fedex.history[before:]]
    return discounted_mean(values, plan.discount)


def _promote(plan: _Plan, alive: list[Arm], before: int, rung: int) -> list[Arm]:
    """Stop or complete arms at the end of a rung, and return those that continue."""
    if rung == plan.ladder.rungs[-1]:
        for arm in alive:
            arm.complete()
        return []
    ranked = sorted(alive, key=lambda arm: (_score(plan, arm, before), arm.number))
    count = max(1, len(alive) // plan.ladder.rate)
    for rank, arm in enumerate(ranked[count:], count + 1):
        arm.stop(f"rank {rank} of {len(ranked)} after {rung} rounds; the best {count} were promoted")
    # Train in order of the arms' numbers, so that the order of the work does not depend on scores.
    return sorted(ranked[:count], key=lambda arm: arm.number)


def _make_arm(plan: _Plan, number: int) -> Arm:
    rng = np.random.default_rng([plan.seed, _ARM_STREAM, number])
    settings = validation.make_server_settings(plan.server.sample(rng))
    configs = neighbours(plan.clients, plan.fedex_k, plan.eps, rng)
    seed = derive_seed(plan.seed, number)
    server = Server(plan.federation, settings, clients_per_round=plan.clients_per_round, seed=seed)
    return Arm(number, settings, FedEx(server, configs, seed=seed, **plan.options), server)


def _make_ladder(wrapper: str, max_rounds: int, total_rounds: int, eliminations: int) -> Ladder:
    check_choice(wrapper, "wrapper", WRAPPERS)
    most = check_integer(max_rounds, "max_rounds")
    total = check_integer(total_rounds, "total_rounds")
    if wrapper == "random":
        return random_search(most, total)
    return elimination(most, total, check_integer(eliminations, "eliminations"))
