"""``simulate.run``: one study on recorded curves under a virtual clock, with its offer and its outcome."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from seer_nb import core
from seer_nb._utils.units import MICRO, parse_duration, parse_money
from seer_nb._utils.validation import check_integer
from seer_nb.core import money
from seer_nb.core.history import History
from seer_nb.core.money import lease_seconds
from seer_nb.core.state import State
from seer_nb.core.types import MOST_SECONDS, MOST_SLOTS, MOST_WORKERS
from seer_nb.policies import by_name
from seer_nb.simulate.simulator import RecordingSimulator
from seer_nb.simulate.worlds import Conditions, KeyedRandom, TableWorld
from seer_nb.views.tables import curves_frame, results_frame, spending_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

    from seer_nb.core.policy import Policy
    from seer_nb.simulate.curve_table import CurveTable


MAX_WORKERS = 512
"""Most workers of a study when neither the offer nor the caller limits them."""
OVERHEAD_RANGE = (0.02, 0.3)
"""Range of c in s(p) = p / (1 + c (p - 1)) for a random speedup."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a simulated study, its cost, and whether deadline and budget held.

    Example:
        >>> from seer_nb import simulate
        >>> outcome = simulate.run(table, deadline="1h", budget="$24.48")  # doctest: +SKIP
        >>> outcome.best_value, outcome.spent_usd, outcome.elapsed_s  # doctest: +SKIP
    """

    best_value: float | None
    """Best value whose checkpoint is stored; None without one."""
    best_test_value: float | None
    """Test value of that trial at that epoch, which no policy saw; None without one."""
    spent_usd: float
    """The provider's bill, in dollars."""
    elapsed_s: float
    """Study seconds until the last machine ended."""
    n_trials: int
    """Number of trials that started."""
    epochs: int
    """Number of epochs trained, over all trials."""
    peak_workers: int
    """Most workers rented at one time."""
    over_budget_usd: float
    """Dollars by which the bill exceeded the budget in force; 0 unless a promise was broken."""
    over_deadline_s: float
    """Seconds by which a machine outlived the deadline in force; 0 unless a promise was broken."""
    reason: str
    """Reason why the study ended."""
    state: State
    """Final state of the study."""
    history: History
    """History of the study."""

    @property
    def violated(self) -> bool:
        """Whether budget or deadline was exceeded."""
        return self.over_budget_usd > 0 or self.over_deadline_s > 0

    def results(self, view: Literal["best", "last"] = "best") -> pd.DataFrame:
        """Return one row per trial, with the columns of ``Study.results``.

        Args:
            view: Whether ``value`` is a trial's "best" or "last" value.
        """
        return results_frame(self.state, view=view)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from seer_nb.views import page, text

        return {
            "text/plain": text.format_summary(self.state),
            "text/html": page.render_static_picture(self.state, self.history),
        }

    def curves(self) -> pd.DataFrame:
        """Return one row per report, with the columns of ``Study.curves``."""
        return curves_frame(self.state)

    def spending(self) -> pd.DataFrame:
        """Return money over time by machine, with the columns of ``Study.spending``."""
        return spending_frame(self.state)


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A machine type of a simulated cloud.

    Args:
        price_per_hour: Price of one machine: dollars per hour, or a str such as "$3.06".
        boot_seconds: Seconds from renting a machine until it can train; they are billed. Default: 0.
        billing: Unit to which a machine's lifetime is rounded up: "second" or "hour".
        minimum_seconds: Least seconds for which a machine is billed. Default: 0.
        workers_per_machine: Workers on one machine; machines are rented whole. Default: 1.
        spot: Whether the provider may preempt machines (see ``Conditions.spot_life_s``).
        quota: Most machines rented at one time; None: as many as 512 workers need.
        release_seconds: Seconds from retiring a machine until its billing ends. Default: 1.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> from seer_nb import simulate
        >>> offer = simulate.Offer(price_per_hour="$3.06", boot_seconds=30)
        >>> outcome = simulate.run(table, deadline="1h", budget=24.48, offer=offer)  # doctest: +SKIP
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
            raise ValueError(f'billing={self.billing!r}: unknown unit; expected "second" or "hour"')
        check_integer(self.workers_per_machine, "workers_per_machine", 1, MOST_SLOTS)
        check_integer(self.minimum_seconds, "minimum_seconds", 0, int(MOST_SECONDS))
        if self.quota is not None:
            check_integer(self.quota, "quota")
        for name in ("boot_seconds", "release_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r}: not a duration; expected finite seconds >= 0")

    def machines(self, max_workers: int | None) -> int:
        """Return the most machines rented at one time, for a limit of workers (None: ``MAX_WORKERS``)."""
        wanted = MAX_WORKERS if max_workers is None else max_workers
        # Whole machines only, rounded down; but at least one machine.
        most = max(1, wanted // self.workers_per_machine)
        return most if self.quota is None else min(self.quota, most)

    def to_core(self, max_workers: int | None = None) -> money.Offer:
        """Convert to the engine's offer."""
        return money.Offer(
            name="simulated",
            price_per_hour_micro=parse_money(self.price_per_hour, "price_per_hour", zero=True),
            billing=money.BillingRule(unit=self.billing, minimum_s=self.minimum_seconds),
            boot_s=self.boot_seconds,
            boot_timeout_s=max(600.0, 10 * self.boot_seconds),
            release_s=self.release_seconds,
            workers_per_machine=self.workers_per_machine,
            spot=self.spot,
            max_machines=self.machines(max_workers),
        )


def run(  # noqa: PLR0913 - the arguments of a study and of a world
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
    max_parallelism: int | None = None,
    conditions: Conditions | None = None,
    commands: Iterable[tuple[float, core.Command]] = (),
    seed: int = 0,
) -> Outcome:
    """Simulate one study on recorded curves.

    The same arguments give the same outcome, bit for bit. The policy sees what it would see in a real study: measured
    seconds, never the true speedup.

    Args:
        table: The curves.
        policy: Name of a policy, or an object with ``decide(view)``.
        deadline: Seconds, or a str such as "10min".
        budget: Dollars, or a str such as "$24.48".
        max_epochs: Epochs of a full training; None: those of the table's longest curve.
        epoch_seconds: Seconds of an epoch on one worker, if the table has none. Default: 60.
        speedup: Epochs per second on p workers over those on one: a function of p, the c in p / (1 + c (p - 1)), or
            "random" for a c between 0.02 and 0.3 drawn by the seed. Default: c = 0.15.
        offer: Machine type to rent; None: machines of one worker at $3.06 per hour, without boot time.
        max_workers: Most workers at one time; None: 512, or as many as the offer's quota allows.
        max_parallelism: Most workers that train one trial together; None: no limit.
        conditions: Stalls, noise and faults; None: stalls of one second and no faults.
        commands: (study seconds, command) of a person, such as SetBudget and SetDeadline.
        seed: Seed of the order of configurations and of all randomness.

    Returns:
        The outcome.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from seer_nb import simulate
        >>> table = simulate.CurveTable.read("curves.parquet", mode="min")  # doctest: +SKIP
        >>> simulate.run(table, policy="asha", deadline=3600, budget=24.48).best_value  # doctest: +SKIP
    """
    offer = Offer(price_per_hour=3.06) if offer is None else offer
    conditions = Conditions() if conditions is None else conditions
    if not 0 < epoch_seconds < math.inf:
        raise ValueError(f"epoch_seconds={epoch_seconds!r}: not a duration; expected finite seconds > 0")
    world = TableWorld(
        table,
        epoch_seconds=epoch_seconds,
        speedup=_speedup(speedup, seed),
        conditions=conditions,
        seed=seed,
    )
    settings = _settings(table, policy, deadline, budget, max_epochs, offer, max_workers, max_parallelism, seed)
    simulator = RecordingSimulator(settings, by_name(policy) if isinstance(policy, str) else policy, world, commands)
    simulator.run()
    return _outcome_of(simulator)


def _settings(  # noqa: PLR0913, PLR0917 - the arguments of run
    table: CurveTable,
    policy: str | Policy,
    deadline: float | str,
    budget: float | str,
    max_epochs: int | None,
    offer: Offer,
    max_workers: int | None,
    max_parallelism: int | None,
    seed: int,
) -> core.Settings:
    epochs = (
        table.max_epochs if max_epochs is None else check_integer(max_epochs, "max_epochs", what="a number of epochs")
    )
    if max_workers is not None:
        max_workers = check_integer(max_workers, "max_workers", 1, MOST_WORKERS, what="a number of workers")
    if max_parallelism is not None:
        what = "a number of workers"
        max_parallelism = check_integer(max_parallelism, "max_parallelism", 1, MOST_WORKERS, what=what)
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
        budget_micro=money,
        seed=seed,
        offers=(rented,),
        max_workers=workers,
        max_parallelism=max_parallelism,
        lease_s=lease_seconds(money, (rented,), workers),
        store="",
        policy=policy if isinstance(policy, str) else repr(policy),
    )


def _outcome_of(simulator: RecordingSimulator) -> Outcome:
    state = simulator.state
    best = state.best.best if state.best else None
    return Outcome(
        best_value=best.value if best else None,
        best_test_value=best.metrics.get("test_value") if best else None,
        spent_usd=simulator.provider_bill_micro() / MICRO,
        elapsed_s=simulator.now_s,
        n_trials=sum(trial.state != "waiting" for trial in state.trials.values()),
        epochs=sum(len(trial.curve) for trial in state.trials.values()),
        peak_workers=simulator.peak_workers,
        over_budget_usd=simulator.over_budget_micro / MICRO,
        over_deadline_s=simulator.over_deadline_s,
        reason=state.reason,
        state=state,
        history=simulator.history,
    )


def _speedup(speedup: Any, seed: int) -> Callable[[int], float]:
    if callable(speedup):
        return speedup  # type: ignore[no-any-return]
    if speedup == "random":
        low, high = OVERHEAD_RANGE
        overhead = low + (high - low) * KeyedRandom(seed).uniform("speedup")
    elif isinstance(speedup, int | float) and not isinstance(speedup, bool) and 0 <= speedup <= 1:
        overhead = float(speedup)
    else:
        raise ValueError(
            f'speedup={speedup!r}: not a speedup; expected a function of p, a number c from 0 to 1, or "random"'
        )
    return lambda p: p / (1 + overhead * (p - 1))
