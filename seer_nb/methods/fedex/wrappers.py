"""How many FedEx runs are begun, and which of them go on for how long: random search and successive elimination."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, get_args

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
