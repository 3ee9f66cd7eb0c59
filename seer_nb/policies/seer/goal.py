"""SEER's goal: how many configurations to start, how far to train, in how many rounds, and on what schedule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core.planner import (
    Resources,
    StageWork,
    cheapest_schedule,
    cost_lower_bound,
    largest_schedule,
    least_parallelism,
)
from seer_nb.policies._rungs import MAX_CONFIGURATIONS, expected_epoch_s, pace_by_rung, rungs
from seer_nb.policies.seer.ladder import Ladder, Rankings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from seer_nb.core import PolicyView, Scaling
    from seer_nb.core.planner import Schedule


TOP_SHARES = (1.0, 0.75, 0.5, 0.36, 0.25)
"""Candidate tops, as shares of max_epochs."""
ROUND_COUNTS = (1, 2, 3, 4, 6, 8, 12)
"""Candidate numbers of rounds in which configurations start."""
TOP_WEIGHT = 0.75
"""Weight of ln top in the utility, beside ln n (measured on real curves)."""
LEARNING_WEIGHT = 0.5
"""Weight of 1 - 1 / rounds in the utility, beside ln n: proposals use the results of earlier rounds (measured)."""
RANDOM_SHARE = 0.5
"""Share of the configurations that are drawn at random before the first one is proposed."""
MIN_RANDOM = 12
"""Least number of configurations that are drawn at random before the first one is proposed."""
SWITCH_MARGIN = 0.05
"""Utility by which a goal with other rungs must exceed the current one, because estimates are noisy."""
TIME_MARGIN = 0.01
"""Share of the time left that is reserved for delays."""
REPLAN_SHARE = 0.04
"""Share of the study's time after which the goal is chosen again in any case."""
DRIFT_SHARE = 0.1
"""Relative change of the estimated speed from which on the goal is chosen again."""


class Options(NamedTuple):
    """The options of ``SEER``; see there."""

    eta: int
    first_rung: int
    tops: bool
    rounds: bool
    proposals: bool
    overlap: bool
    slopes: bool


class Basis(NamedTuple):
    """Limits, speed and losses for which a goal was chosen."""

    scaling: Scaling
    budget_micro: int
    stop_s: float
    exhausted: bool
    failed: int
    """Number of failed trials."""
    until_s: float
    """Study seconds from which on the goal is chosen again."""


class Goal(NamedTuple):
    """The use of the time and money left."""

    rungs: tuple[int, ...]
    """Epochs at which trials are compared; the last one is the top."""
    n: int
    """Configurations to start in all; the part beyond ``startable`` keeps more survivors instead."""
    startable: int
    """Configurations that can be started in all."""
    rounds: int
    """Rounds in which configurations start, counted from the choice of the goal."""
    learning: float
    """Share of the other results that proposals can use: 0 if all start together, near 1 if one after another."""
    n_random: int
    """Configurations that are drawn at random, all in the first round; the others are proposed, in later rounds."""
    schedule: Schedule | None
    """The remaining work: two stages to the first rung (random, then proposed), and one per further rung.

    None when no trial can be trained to the top."""
    spare_money: bool
    """Whether time, not money, limits n; idle workers may then speed up running trials."""
    basis: Basis


def is_current(goal: Goal, view: PolicyView) -> bool:
    """Return whether a goal can be kept: limits, speed and losses are nearly those that it was chosen for."""
    basis = goal.basis
    return (
        view.now_s < basis.until_s
        and view.budget_micro == basis.budget_micro
        and abs(view.stop_s - basis.stop_s) <= TIME_MARGIN / 2 * view.time_left_s
        and view.exhausted == basis.exhausted
        and _count_failed(view) == basis.failed
        and not _has_drifted(basis.scaling, view.scaling)
    )


def _count_failed(view: PolicyView) -> int:
    return sum(trial.state == "failed" for trial in view.trials)


def _has_drifted(old: Scaling, new: Scaling) -> bool:
    old_s, new_s = old.epoch_s or 0.0, new.epoch_s or 0.0
    waits = abs(new.stall_s - old.stall_s) + abs(new.boot_s - old.boot_s)
    return abs(new_s - old_s) + waits > DRIFT_SHARE * (old_s + old.stall_s + old.boot_s) or (
        abs(new.overhead - old.overhead) > DRIFT_SHARE * (1 + old.overhead) / 2
    )


def build_ladder(view: PolicyView, goal: Goal, options: Options, before: Rankings | None = None) -> Ladder:
    """Return the ladder of a goal.

    Args:
        view: The policy view.
        goal: Sets the rungs and the configurations that can start.
        options: The options of ``SEER``.
        before: Rankings of the previous decision, to be updated.
    """
    early_from = goal.n_random if options.overlap else None
    rankings = Rankings(view, goal.rungs, slopes=options.slopes, before=before)
    return Ladder(view, goal.rungs, options.eta, goal.startable, early_from=early_from, rankings=rankings)


def choose_goal(view: PolicyView, options: Options, before: Goal | None) -> Goal:
    """Return the feasible goal of greatest utility: ln n + 0.75 ln top + 0.5 (1 - 1 / rounds).

    All tops and numbers of rounds are candidates; the planner finds the largest n of each. If no trial can be trained
    to any top, the goal has no schedule.

    Args:
        view: The policy view.
        options: The options of ``SEER``.
        before: The previous goal; other rungs must beat its utility by ``SWITCH_MARGIN``.
    """
    resources = Resources.remaining(view)
    epoch_s = expected_epoch_s(view) or resources.epoch_s
    resources = resources._replace(time_left_s=(1 - TIME_MARGIN) * resources.time_left_s, epoch_s=epoch_s)
    longest = rungs(options.eta, options.first_rung, view.max_epochs)
    pace = pace_by_rung(view, longest, options.eta, epoch_s)
    inputs = PlanningInputs(view, resources, options, pace, before.learning if before else 0.0)
    candidates = [Candidate(inputs, top) for top in _tops(view, options)]
    found: tuple[float, Candidate, int, int, Schedule] | None = None
    for candidate, rounds in _most_promising_first(candidates, options):
        bonus = candidate.bonus(before)
        if found is not None and candidate.utility(candidate.upper_bound(rounds), rounds) + bonus <= found[0]:
            continue
        best = candidate.largest(rounds)
        if best is not None:
            n, schedule = best
            utility = candidate.utility(n, rounds) + bonus
            if found is None or utility > found[0]:
                found = (utility, candidate, rounds, n, schedule)
    if found is not None:
        _, candidate, rounds, n, schedule = found
        return candidate.goal(n, rounds, schedule)
    if not options.tops:
        # The last epoch is out of reach, so train as far as possible.
        return choose_goal(view, options._replace(tops=True), before)
    return candidates[0].goal(1, 1, None)


def _tops(view: PolicyView, options: Options) -> list[int]:
    """Return the candidate tops, highest first."""
    last = view.max_epochs
    if not options.tops:
        return [last]
    return sorted({max(1, round(share * last)) for share in TOP_SHARES}, reverse=True)


def _most_promising_first(candidates: Sequence[Candidate], options: Options) -> list[tuple[Candidate, int]]:
    """Return each top with each number of rounds, by descending upper bound of the utility."""
    found = [
        (candidate.utility(bound, rounds), candidate, rounds)
        for candidate in candidates
        for rounds in (ROUND_COUNTS if options.rounds and candidate.startable > candidate.ladder.started else (1,))
        if (bound := candidate.upper_bound(rounds)) >= 1
    ]
    found.sort(key=lambda each: -each[0])
    return [(candidate, rounds) for _, candidate, rounds in found]


class PlanningInputs(NamedTuple):
    """The inputs that the candidates of all tops share."""

    view: PolicyView
    resources: Resources
    options: Options
    pace: list[float]
    """Result of ``pace_by_rung``; the rungs below a top are the same for all tops."""
    learned: float
    """``Goal.learning`` of the previous goal."""


class Candidate:
    """The goals with one top.

    Args:
        inputs: Policy view, resources and options.
        top: Epochs to which the last survivors are trained.
    """

    def __init__(self, inputs: PlanningInputs, top: int) -> None:
        self.view = inputs.view
        self.resources = inputs.resources
        self.options = inputs.options
        self.pace = inputs.pace
        self.learned = inputs.learned
        self.rungs = rungs(self.options.eta, self.options.first_rung, top)
        self.startable = self._startable(top)
        rankings = Rankings(self.view, self.rungs, counts_only=True)
        self.ladder = Ladder(self.view, self.rungs, self.options.eta, self.startable, rankings=rankings)
        self.first_leg_s = self.resources.trial_seconds(self.rungs[0], 1)
        self._upper_bounds: dict[int, int] = {}

    def _startable(self, top: int) -> int:
        view, resources = self.view, self.resources
        if view.exhausted:
            return len(view.trials) + view.waiting
        stalls_s = len(self.rungs) * resources.scaling.stall_s
        if least_parallelism(resources, top, resources.time_left_s - stalls_s):
            return MAX_CONFIGURATIONS
        # A new configuration could not reach the top; the rest is for the trials that have started.
        return len(view.trials)

    def n_random(self, n: int) -> int:
        """Return how many of n configurations are drawn at random."""
        n = min(n, self.startable)
        return min(n, max(MIN_RANDOM, math.ceil(RANDOM_SHARE * n)))

    def legs(self, rounds: int) -> Callable[[int], list[StageWork]]:
        """Return a function from the number of configurations to the stages, random configurations first."""
        ladder = self.ladder
        further = range(1, len(self.rungs))

        def legs(n: int) -> list[StageWork]:
            whole = self._leg(n, 0)
            wanted = min(n, self.startable)
            proposed = 0 if rounds == 1 else max(0, wanted - max(ladder.started, self.n_random(n)))
            if not proposed:
                return [whole, StageWork(0, 0.0), *(self._leg(n, k) for k in further)]
            # The promotions of the last round follow it.
            reported = wanted - math.ceil(proposed / (rounds - 1))
            early = max(0, ladder.allowed(n, 1) * reported // wanted - ladder.begun[1]) if self._overlaps() else 0
            random = self._leg(n, 0, less=proposed)
            return [
                random,
                self._rounds_leg(proposed, early, rounds - 1),
                *(self._leg(n, k, less=early if k == 1 else 0) for k in further),
            ]

        return legs

    def _leg(self, n: int, k: int, less: int = 0) -> StageWork:
        """Return the way to rung k, at the pace of the trials that are likely to take it."""
        leg = self.ladder.leg(n, k, less)
        return leg._replace(epochs=leg.epochs * self.pace[k])

    def _overlaps(self) -> bool:
        return self.options.overlap and len(self.rungs) > 1

    def _rounds_leg(self, starts: int, promotions: int, rounds: int) -> StageWork:
        """Return the stage that starts configurations in rounds, with promotions to the second rung beside them."""
        climb = self.rungs[1] - self.rungs[0] if promotions else 0
        epochs = (starts * self.rungs[0] + promotions * climb) / (starts + promotions)
        return StageWork(starts + promotions, epochs, within_s=rounds * self.first_leg_s)

    def upper_bound(self, rounds: int) -> int:
        """Return an upper bound of n: by the money, and by the results of fewer rounds."""
        if rounds not in self._upper_bounds:
            self._upper_bounds[rounds] = self._affordable_bound(rounds)
        return min(bound for fewer, bound in self._upper_bounds.items() if fewer <= rounds)

    def _affordable_bound(self, rounds: int) -> int:
        """Return the n that the money pays for on one worker per trial, without boots, minimums and leases."""
        if self.first_leg_s * rounds > self.resources.time_left_s:
            return 0
        legs, high = self.legs(rounds), min(MAX_CONFIGURATIONS, self.ladder.largest)

        def pays(n: int) -> bool:
            return cost_lower_bound(legs(n), self.resources) <= self.resources.money_micro

        low, step = 0, 1
        while low < high and pays(min(high, low + step)):
            low, step = min(high, low + step), 2 * step
        above = min(high, low + step)
        while above - low > 1 + low // 50:
            middle = (low + above) // 2
            low, above = (middle, above) if pays(middle) else (low, middle)
        return above

    def largest(self, rounds: int) -> tuple[int, Schedule] | None:
        """Return the largest feasible n with its schedule; None if there is none."""
        found = largest_schedule(self.legs(rounds), self.resources, self.upper_bound(rounds))
        self._upper_bounds[rounds] = found[0] if found else 0
        return found

    def utility(self, n: int, rounds: int) -> float:
        """Return the utility, in units of ln n."""
        top = TOP_WEIGHT * math.log(self.rungs[-1])
        learning = LEARNING_WEIGHT * self.learning(n, rounds) if self.options.proposals else 0.0
        return math.log(n) + top + learning if n else -math.inf

    def learning(self, n: int, rounds: int) -> float:
        """Return 1 - 1 / rounds, averaged over the proposals made and those to come; see ``Goal.learning``."""
        proposed = min(n, self.startable) - self.n_random(n)
        to_come = min(proposed, max(0, min(n, self.startable) - self.ladder.started))
        if proposed <= 0:
            return 0.0
        # Some rounds for a part of the proposals are worth as much as more rounds for all of them.
        new = 1 - 1 / (1 + (rounds - 1) * proposed / to_come) if to_come else 0.0
        return ((proposed - to_come) * self.learned + to_come * new) / proposed

    def bonus(self, before: Goal | None) -> float:
        """Return the utility bonus for keeping the rungs of the previous goal."""
        return SWITCH_MARGIN * (before is not None and before.rungs == self.rungs) if before else 0.0

    def goal(self, n: int, rounds: int, schedule: Schedule | None) -> Goal:
        """Return the goal with n configurations in some rounds."""
        view, resources = self.view, self.resources
        spare = False
        if schedule is not None:
            more = min(self.ladder.largest, n + 1 + n // 4)
            unhurried = resources._replace(time_left_s=math.inf)
            spare = more > n and cheapest_schedule(self.legs(rounds)(more), unhurried) is not None
        basis = Basis(
            scaling=view.scaling,
            budget_micro=view.budget_micro,
            stop_s=view.stop_s,
            exhausted=view.exhausted,
            failed=_count_failed(view),
            until_s=view.now_s
            + max(REPLAN_SHARE * view.stop_s, min(self.first_leg_s, REPLAN_SHARE * view.time_left_s)),
        )
        learning = self.learning(n, rounds)
        return Goal(self.rungs, n, self.startable, rounds, learning, self.n_random(n), schedule, spare, basis)
