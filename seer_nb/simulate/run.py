"""Run a study on recorded curves: the engine, ledger and policies of a real one, under a virtual clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from seer_nb import core
from seer_nb._utils.units import MICRO, parse_duration, parse_money
from seer_nb._utils.validation import whole
from seer_nb.core import money
from seer_nb.core.history import History
from seer_nb.core.money import lease_seconds
from seer_nb.core.state import State
from seer_nb.core.types import MOST_SECONDS, MOST_SLOTS, MOST_WORKERS
from seer_nb.policies import by_name
from seer_nb.simulate.simulator import WatchedCloud
from seer_nb.simulate.worlds import Chance, Conditions, TableWorld
from seer_nb.views.tables import curves_frame, results_frame, spending_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

    from seer_nb.core.policy import Policy
    from seer_nb.simulate.curve_table import CurveTable


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result, what it took, and whether the promises held."""

    best_value: float | None
    """The best value whose checkpoint is stored; None when there is none."""
    best_test_value: float | None
    """The test value of that trial at that epoch, which no policy saw."""
    spent_usd: float
    elapsed_s: float
    """Study seconds until the last machine was gone."""
    n_trials: int
    """Configurations that were begun."""
    epochs: int
    """That were trained in all."""
    peak_workers: int
    """Most workers rented at a time."""
    over_budget_usd: float
    """What the provider asked for beyond the budget in force: 0, always."""
    over_deadline_s: float
    """Seconds by which a machine outlived the deadline in force: 0, always."""
    reason: str
    """Why the study ended."""
    state: State
    """All of it."""
    history: History
    """How it came about."""

    @property
    def violated(self) -> bool:
        """Whether one of the two promises was broken."""
        return self.over_budget_usd > 0 or self.over_deadline_s > 0

    def results(self, view: Literal["best", "last"] = "best") -> pd.DataFrame:
        """A row a trial; the columns of ``Study.results``."""
        return results_frame(self.state, view=view)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from seer_nb.views import page, text

        return {"text/plain": text.summary(self.state), "text/html": page.static_html(self.state, self.history)}

    def curves(self) -> pd.DataFrame:
        """A row a report; the columns of ``Study.curves``."""
        return curves_frame(self.state)

    def spending(self) -> pd.DataFrame:
        """Money over time by machine; the columns of ``Study.spending``."""
        return spending_frame(self.state)


def outcome_of(cloud: WatchedCloud) -> Outcome:
    """Of a study that has ended."""
    state = cloud.state
    best = state.best.best if state.best else None
    return Outcome(
        best_value=best.value if best else None,
        best_test_value=best.metrics.get("test_value") if best else None,
        spent_usd=cloud.real_bill() / MICRO,
        elapsed_s=cloud.now_s,
        n_trials=sum(trial.state != "waiting" for trial in state.trials.values()),
        epochs=sum(len(trial.curve) for trial in state.trials.values()),
        peak_workers=cloud.peak,
        over_budget_usd=cloud.over_budget / MICRO,
        over_deadline_s=cloud.over_deadline_s,
        reason=state.reason,
        state=state,
        history=cloud.history,
    )


MAX_WORKERS = 512
"""Workers that a study may rent when neither the offer nor the caller says how many."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A machine type of a simulated cloud.

    Args:
        price_per_hour: Of one machine: dollars, or a str such as "$3.06".
        boot_seconds: From renting a machine until it can train; paid for.
        billing: "second" or "hour": the unit that a machine's life is rounded up to.
        minimum_seconds: A machine is billed for at least so long.
        workers_per_machine: Workers on a machine; machines are rented whole.
        spot: Whether the provider may take machines back (see ``Conditions.spot_life_s``).
        quota: Machines that may be rented at once; None: as many as 512 workers need.
        release_seconds: From being told to go until billing ends.

    Raises:
        ValueError: A number is out of range.
    """

    price_per_hour: float | str
    boot_seconds: float = 0.0
    billing: Literal["second", "hour"] = "second"
    minimum_seconds: int = 0
    workers_per_machine: int = 1
    spot: bool = False
    quota: int | None = None
    release_seconds: float = 1.0

    def __post_init__(self) -> None:
        parse_money(self.price_per_hour, "price_per_hour", zero=True)
        if self.billing not in {"second", "hour"}:
            raise ValueError(f'billing={self.billing!r} is unknown: give "second" or "hour"')
        whole(self.workers_per_machine, "workers_per_machine", 1, MOST_SLOTS)
        whole(self.minimum_seconds, "minimum_seconds", 0, int(MOST_SECONDS))
        if self.quota is not None:
            whole(self.quota, "quota")
        for name in ("boot_seconds", "release_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a time: give seconds from 0 on")

    def machines(self, max_workers: int | None) -> int:
        """How many may be rented at once, if no more than so many workers are wanted."""
        wanted = MAX_WORKERS if max_workers is None else max_workers
        # Whole machines only: a machine more would bring too many workers, unless even one does.
        most = max(1, wanted // self.workers_per_machine)
        return most if self.quota is None else min(self.quota, most)

    def to_core(self, max_workers: int | None = None) -> money.Offer:
        """As the engine knows it."""
        return money.Offer(
            name="simulated",
            price_per_hour=parse_money(self.price_per_hour, "price_per_hour", zero=True),
            billing=money.BillingRule(unit=self.billing, minimum_s=self.minimum_seconds),
            boot_s=self.boot_seconds,
            boot_timeout_s=max(600.0, 10 * self.boot_seconds),
            release_s=self.release_seconds,
            workers_per_machine=self.workers_per_machine,
            spot=self.spot,
            max_machines=self.machines(max_workers),
        )


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
    commands: Iterable[tuple[float, core.Command]] = (),
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
) -> core.Settings:
    epochs = table.max_epochs if max_epochs is None else whole(max_epochs, "max_epochs", what="a number of epochs")
    if max_workers is not None:
        max_workers = whole(max_workers, "max_workers", 1, MOST_WORKERS, what="a number of workers")
    money = parse_money(budget, "budget")
    rented = offer.to_core(max_workers)
    workers = rented.max_machines * rented.workers_per_machine
    workers = workers if max_workers is None else min(workers, max_workers)
    return core.Settings(
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
