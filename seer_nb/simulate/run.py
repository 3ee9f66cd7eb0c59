"""Run a study on recorded curves: the engine, ledger and policies of a real one, under a virtual clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from seer_nb.core import model as m
from seer_nb.core.arguments import whole
from seer_nb.core.bounds import MOST_WORKERS
from seer_nb.core.money import lease_seconds
from seer_nb.core.units import parse_duration, parse_money
from seer_nb.policies import by_name
from seer_nb.simulate.cloud import WatchedCloud
from seer_nb.simulate.conditions import Chance, Conditions
from seer_nb.simulate.offer import Offer
from seer_nb.simulate.outcome import Outcome, outcome_of
from seer_nb.simulate.world import TableWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from seer_nb.core.engine import Policy
    from seer_nb.simulate.table import CurveTable

OVERHEADS = (0.02, 0.3)
"""Range of c in s(p) = p / (1 + c (p - 1)) when the speedup is drawn at random."""


def run(  # noqa: PLR0913 - a study's arguments, and a world's
    table: CurveTable,
    policy: str | Policy = "seer",
    *,
    deadline: float | str,
    budget: float | str,
    max_epochs: int | None = None,
    epoch_seconds: float = 60.0,
    speedup: Callable[[int], float] | float | str = 0.15,
    offer: Offer | None = None,
    max_workers: int | None = None,
    conditions: Conditions | None = None,
    commands: Iterable[tuple[float, m.Command]] = (),
    seed: int = 0,
) -> Outcome:
    """Simulate one study. The same arguments give the same outcome, to the bit.

    The policy sees what it would see in a real study: measured seconds, never the true speedup.

    Args:
        table: The curves.
        policy: A name, or an object with ``decide(snapshot)``.
        deadline: Seconds, or a str such as "10min".
        budget: Dollars, or a str such as "$24.48".
        max_epochs: Epochs that train a trial fully; None: those of the table's longest curve.
        epoch_seconds: Of an epoch on one worker, if the table does not tell.
        speedup: Epochs per second on p workers over those on one: a function of p, the c of p / (1 + c (p - 1)), or
            "random", a c drawn from 0.02 to 0.3 by the seed.
        offer: What is rented; None: machines of one worker at $3.06 an hour that boot at once.
        max_workers: Most workers at a time; None: 512, or as many as the offer's quota allows.
        conditions: Stalls, noise and faults; None: a stall of a second, and nothing goes wrong.
        commands: (study seconds, command) of a person: SetBudget, SetDeadline and so on.
        seed: Of the order of configurations and of all chance.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """
    offer = Offer(price_per_hour=3.06) if offer is None else offer
    conditions = Conditions() if conditions is None else conditions
    if not 0 < epoch_seconds < math.inf:
        raise ValueError(f"epoch_seconds={epoch_seconds!r} is not a time: give seconds above 0")
    world = TableWorld(
        table,
        epoch_seconds=epoch_seconds,
        speedup=_speedup(speedup, seed),
        conditions=conditions,
        seed=seed,
    )
    settings = _settings(table, policy, deadline, budget, max_epochs, offer, max_workers, seed)
    cloud = WatchedCloud(settings, by_name(policy) if isinstance(policy, str) else policy, world, commands)
    cloud.run()
    return outcome_of(cloud)


def _settings(  # noqa: PLR0913, PLR0917 - what run was given
    table: CurveTable,
    policy: str | Policy,
    deadline: float | str,
    budget: float | str,
    max_epochs: int | None,
    offer: Offer,
    max_workers: int | None,
    seed: int,
) -> m.Settings:
    epochs = table.max_epochs if max_epochs is None else whole(max_epochs, "max_epochs", what="a number of epochs")
    if max_workers is not None:
        max_workers = whole(max_workers, "max_workers", 1, MOST_WORKERS, what="a number of workers")
    money = parse_money(budget, "budget")
    rented = offer.to_core(max_workers)
    workers = rented.max_machines * rented.workers_per_machine
    workers = workers if max_workers is None else min(workers, max_workers)
    return m.Settings(
        name=table.name,
        metric="value",
        mode=table.mode,
        max_epochs=epochs,
        deadline_s=parse_duration(deadline, "deadline"),
        budget=money,
        seed=seed,
        offers=(rented,),
        max_workers=workers,
        lease_s=lease_seconds(money, (rented,), workers),
        store="",
        policy=policy if isinstance(policy, str) else repr(policy),
    )


def _speedup(speedup: Any, seed: int) -> Callable[[int], float]:
    if callable(speedup):
        return speedup  # type: ignore[no-any-return]
    if speedup == "random":
        low, high = OVERHEADS
        overhead = low + (high - low) * Chance(seed).uniform("speedup")
    elif isinstance(speedup, int | float) and not isinstance(speedup, bool) and 0 <= speedup <= 1:
        overhead = float(speedup)
    else:
        raise ValueError(f'speedup={speedup!r} is not allowed: give a function of p, c from 0 to 1, or "random"')
    return lambda p: p / (1 + overhead * (p - 1))
