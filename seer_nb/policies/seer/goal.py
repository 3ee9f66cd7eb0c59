"""What SEER aims at: how many configurations, how far, in how many turns, and on how many workers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core.planner import Leg, Resources, cheapest, largest, least_cost, least_parallelism
from seer_nb.policies._rungs import expected_epoch_s, paces, rungs
from seer_nb.policies.seer.ladder import Ladder, Rankings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from seer_nb.core import Scaling, Snapshot
    from seer_nb.core.planner import Schedule


MOST = 1_000_000
"""Configurations that are never exceeded."""
TOPS = (1.0, 0.75, 0.5, 0.36, 0.25)
"""How far the last survivors may be trained, as shares of max_epochs."""
TURNS = (1, 2, 3, 4, 6, 8, 12)
"""In how many turns configurations may be started."""
DEPTH = 0.75
"""Worth of training longer against trying more: the exponent of the top beside that of n (measured on real curves)."""
LEARNING = 0.5
"""Worth of starting in many turns, as ln n: each turn's proposals know what the turns before have shown (measured)."""
FIRST = 0.5
"""So much of the configurations is drawn at random before the first is proposed ..."""
FIRST_LEAST = 12
"""... and at least so many."""
LOYALTY = 0.05
"""Another top or number of turns must be worth so much more, as ln n, than the present one: estimates are noisy."""
MARGIN = 0.01
"""Share of the time left that is kept for what is late."""
AGAIN = 0.04
"""After so much of the study's time it is planned anew in any case."""
DRIFT = 0.1
"""Or when the estimated speed has changed by this share."""


class Options(NamedTuple):
    """See ``SEER``."""

    eta: int
    first_rung: int
    tops: bool
    rounds: bool
    proposals: bool
    overlap: bool
    slopes: bool


class Goal(NamedTuple):
    """What to make of the time and money that are left."""

    epochs: tuple[int, ...]
    """The rungs; the last is the top."""
    n: int
    """Configurations to start in all; beyond what can be started, the rest keeps more survivors."""
    startable: int
    """Configurations that can be started in all."""
    turns: int
    """In which configurations are started, from the time of planning on."""
    learning: float
    """What proposals can know of what others have shown: 0 if all start at once, near 1 if one after the other."""
    first: int
    """So many are drawn at random, at once; the others are proposed, in turns."""
    schedule: Schedule | None
    """Two stages to the first rung, for those drawn at random and for those proposed, and one for each further rung;
    None when not even one trial can be trained to the top any more."""
    spare_money: bool
    """Whether it is time, not money, that forbids a larger n: then idle workers may as well speed others up."""
    basis: Basis


class Basis(NamedTuple):
    """What a plan was made for."""

    scaling: Scaling
    budget: int
    stop_s: float
    exhausted: bool
    failed: int
    until_s: float
    """Study seconds at which it is to be made anew."""


def still_holds(aim: Goal, snapshot: Snapshot) -> bool:
    """Whether a plan can be pursued further."""
    basis = aim.basis
    return (
        snapshot.now_s < basis.until_s
        and snapshot.budget == basis.budget
        and abs(snapshot.stop_s - basis.stop_s) <= MARGIN / 2 * snapshot.time_left_s
        and snapshot.exhausted == basis.exhausted
        and _failed(snapshot) == basis.failed
        and not _drifted(basis.scaling, snapshot.scaling)
    )


def _failed(snapshot: Snapshot) -> int:
    return sum(trial.state == "failed" for trial in snapshot.trials)


def _drifted(old: Scaling, new: Scaling) -> bool:
    old_s, new_s = old.epoch_s or 0.0, new.epoch_s or 0.0
    waits = abs(new.stall_s - old.stall_s) + abs(new.boot_s - old.boot_s)
    return abs(new_s - old_s) + waits > DRIFT * (old_s + old.stall_s + old.boot_s) or (
        abs(new.overhead - old.overhead) > DRIFT * (1 + old.overhead) / 2
    )


def ladder_of(snapshot: Snapshot, aim: Goal, options: Options, before: Rankings | None = None) -> Ladder:
    """Where trials stand on the rungs of an aim."""
    first = aim.first if options.overlap else None
    standing = Rankings(snapshot, aim.epochs, slopes=options.slopes, before=before)
    return Ladder(snapshot, aim.epochs, options.eta, aim.startable, first=first, standing=standing)


def aim_for(snapshot: Snapshot, options: Options, before: Goal | None) -> Goal:
    """The plan of most worth: ln n + .75 ln top + .5 (1 - 1 / turns), over all tops and numbers of turns."""
    resources = Resources.left(snapshot)
    epoch_s = expected_epoch_s(snapshot) or resources.epoch_s
    resources = resources._replace(seconds=(1 - MARGIN) * resources.seconds, epoch_s=epoch_s)
    longest = rungs(options.eta, options.first_rung, snapshot.max_epochs)
    pace = paces(snapshot, longest, options.eta, epoch_s)
    given = _Given(snapshot, resources, options, pace, before.learning if before else 0.0)
    options_of = [_Candidate(given, top) for top in _tops(snapshot, options)]
    found: tuple[float, _Candidate, int, int, Schedule] | None = None
    for candidate, turns in _ordered(options_of, options):
        loyalty = candidate.loyalty(before)
        if found is not None and candidate.worth(candidate.most(turns), turns) + loyalty <= found[0]:
            continue
        largest_ = candidate.largest(turns)
        if largest_ is not None:
            n, schedule = largest_
            worth = candidate.worth(n, turns) + loyalty
            if found is None or worth > found[0]:
                found = (worth, candidate, turns, n, schedule)
    if found is not None:
        _, candidate, turns, n, schedule = found
        return candidate.aim(n, turns, schedule)
    if not options.tops:
        # The last epoch can't be reached any more: then as far as it gets.
        return aim_for(snapshot, options._replace(tops=True), before)
    return options_of[0].aim(1, 1, None)


def _tops(snapshot: Snapshot, options: Options) -> list[int]:
    """Tops worth considering: at least as far as any trial has been trained beyond the rungs below."""
    last = snapshot.max_epochs
    if not options.tops:
        return [last]
    return sorted({max(1, round(share * last)) for share in TOPS}, reverse=True)


def _ordered(candidates: Sequence[_Candidate], options: Options) -> list[tuple[_Candidate, int]]:
    """Each top with each number of turns, the most promising first."""
    found = [
        (candidate.worth(most, turns), candidate, turns)
        for candidate in candidates
        for turns in (TURNS if options.rounds and candidate.startable > candidate.ladder.started else (1,))
        if (most := candidate.most(turns)) >= 1
    ]
    found.sort(key=lambda each: -each[0])
    return [(candidate, turns) for _, candidate, turns in found]


class _Given(NamedTuple):
    """What plans for all tops are made from."""

    snapshot: Snapshot
    resources: Resources
    options: Options
    pace: list[float]
    """By rung, see ``paces``: the rungs below a top are the same for all tops."""
    learned: float
    """See ``Aim.learning``: of the plan before."""


class _Candidate:
    """Plans that train the last survivors to one top."""

    def __init__(self, given: _Given, top: int) -> None:
        snapshot, resources, options = given.snapshot, given.resources, given.options
        self.snapshot = snapshot
        self.resources = resources
        self.options = options
        self.pace = given.pace
        self.learned = given.learned
        self.epochs = rungs(options.eta, options.first_rung, top)
        self.startable = self._startable(top)
        standing = Rankings(snapshot, self.epochs, counts=True)
        self.ladder = Ladder(snapshot, self.epochs, options.eta, self.startable, standing=standing)
        self.one_s = resources.leg_seconds(self.epochs[0], 1)
        self._most: dict[int, int] = {}

    def _startable(self, top: int) -> int:
        snapshot, resources = self.snapshot, self.resources
        if snapshot.exhausted:
            return len(snapshot.trials) + snapshot.waiting
        stalls_s = len(self.epochs) * resources.scaling.stall_s
        if least_parallelism(resources, top, resources.seconds - stalls_s):
            return MOST
        # A new configuration would come too late: what is left is for those that have begun.
        return len(snapshot.trials)

    def first(self, n: int) -> int:
        """So many are drawn at random."""
        n = min(n, self.startable)
        return min(n, max(FIRST_LEAST, math.ceil(FIRST * n)))

    def legs(self, turns: int) -> Callable[[int], list[Leg]]:
        """By number of configurations: the stages, those drawn at random first."""
        ladder = self.ladder
        steps = range(1, len(self.epochs))

        def legs(n: int) -> list[Leg]:
            whole = self._leg(n, 0)
            wanted = min(n, self.startable)
            later = 0 if turns == 1 else max(0, wanted - max(ladder.started, self.first(n)))
            if not later:
                return [whole, Leg(0, 0.0), *(self._leg(n, k) for k in steps)]
            # The last turn's own promotions come after it.
            reported = wanted - math.ceil(later / (turns - 1))
            early = max(0, ladder.allowed(n, 1) * reported // wanted - ladder.begun[1]) if self._climbs() else 0
            first = self._leg(n, 0, less=later)
            return [
                first,
                self._turns(later, early, turns - 1),
                *(self._leg(n, k, less=early if k == 1 else 0) for k in steps),
            ]

        return legs

    def _leg(self, n: int, k: int, less: int = 0) -> Leg:
        """At the speed of those that are likely to go it."""
        leg = self.ladder.leg(n, k, less)
        return leg._replace(epochs=leg.epochs * self.pace[k])

    def _climbs(self) -> bool:
        return self.options.overlap and len(self.epochs) > 1

    def _turns(self, starts: int, promotions: int, turns: int) -> Leg:
        """Configurations started in turns, and promotions beside them."""
        climb = self.epochs[1] - self.epochs[0] if promotions else 0
        epochs = (starts * self.epochs[0] + promotions * climb) / (starts + promotions)
        return Leg(starts + promotions, epochs, within=turns * self.one_s)

    def most(self, turns: int) -> int:
        """No plan has more configurations than the money pays for, or than one with fewer turns."""
        if turns not in self._most:
            self._most[turns] = self._bound(turns)
        return min(most for fewer, most in self._most.items() if fewer <= turns)

    def _bound(self, turns: int) -> int:
        """The money for one worker each, without boots, minimums and leases."""
        if self.one_s * turns > self.resources.seconds:
            return 0
        legs, high = self.legs(turns), min(MOST, self.ladder.largest)

        def pays(n: int) -> bool:
            return least_cost(legs(n), self.resources) <= self.resources.money

        low, step = 0, 1
        while low < high and pays(min(high, low + step)):
            low, step = min(high, low + step), 2 * step
        above = min(high, low + step)
        while above - low > 1 + low // 50:
            middle = (low + above) // 2
            low, above = (middle, above) if pays(middle) else (low, middle)
        return above

    def largest(self, turns: int) -> tuple[int, Schedule] | None:
        """The most configurations."""
        found = largest(self.legs(turns), self.resources, self.most(turns))
        self._most[turns] = found[0] if found else 0
        return found

    def worth(self, n: int, turns: int) -> float:
        """As ln n."""
        top = DEPTH * math.log(self.epochs[-1])
        learning = LEARNING * self.learning(n, turns) if self.options.proposals else 0.0
        return math.log(n) + top + learning if n else -math.inf

    def learning(self, n: int, turns: int) -> float:
        """1 - 1 / turns, averaged over those proposed already and those to come: see ``Aim``."""
        proposed = min(n, self.startable) - self.first(n)
        later = min(proposed, max(0, min(n, self.startable) - self.ladder.started))
        if proposed <= 0:
            return 0.0
        # As many turns for a part of them are like more for all of them.
        new = 1 - 1 / (1 + (turns - 1) * proposed / later) if later else 0.0
        return ((proposed - later) * self.learned + later * new) / proposed

    def loyalty(self, before: Goal | None) -> float:
        """To the plan before."""
        return LOYALTY * (before is not None and before.epochs == self.epochs) if before else 0.0

    def aim(self, n: int, turns: int, schedule: Schedule | None) -> Goal:
        snapshot, resources = self.snapshot, self.resources
        spare = False
        if schedule is not None:
            more = min(self.ladder.largest, n + 1 + n // 4)
            endless = resources._replace(seconds=math.inf)
            spare = more > n and cheapest(self.legs(turns)(more), endless) is not None
        basis = Basis(
            scaling=snapshot.scaling,
            budget=snapshot.budget,
            stop_s=snapshot.stop_s,
            exhausted=snapshot.exhausted,
            failed=_failed(snapshot),
            until_s=snapshot.now_s + max(AGAIN * snapshot.stop_s, min(self.one_s, AGAIN * snapshot.time_left_s)),
        )
        learning = self.learning(n, turns)
        return Goal(self.epochs, n, self.startable, turns, learning, self.first(n), schedule, spare, basis)
