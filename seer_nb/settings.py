"""Checks what a user gives to a study before any machine is rented."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast, get_args

from seer_nb.core.model import Mode, Settings
from seer_nb.core.money import Offer, lease_seconds
from seer_nb.core.units import format_duration, format_money, parse_deadline, parse_duration, parse_money

if TYPE_CHECKING:
    from seer_nb.providers.base import Provider

Money = str | float | Decimal
Time = str | float | timedelta | datetime
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def make_settings(  # noqa: PLR0913 - what a study is made of
    *,
    name: str,
    metric: str,
    mode: str,
    max_epochs: int,
    deadline: Time,
    budget: Money,
    provider: Provider,
    policy: str,
    seed: int,
    store: str,
    report_timeout: str | float | timedelta | None,
) -> Settings:
    """The study's settings. Raises ValueError or TypeError, with a sentence, for what cannot be."""
    offers = provider.offers()
    amount = parse_money(budget, "budget")
    deadline_s, deadline_wall = parse_deadline(deadline, time.time())
    lease_s = lease_seconds(amount, offers, provider.max_workers)
    _check_affordable(amount, budget, offers[0], lease_s)
    _check_long_enough(deadline_s, deadline, offers[0])
    return Settings(
        name=check_name(name),
        metric=_check_metric(metric),
        mode=_check_mode(mode),
        max_epochs=_check_count(max_epochs, "max_epochs"),
        deadline_s=deadline_s,
        deadline_wall=deadline_wall,
        budget=amount,
        seed=_check_seed(seed),
        offers=offers,
        max_workers=provider.max_workers,
        lease_s=lease_s,
        store=store,
        policy=policy,
        report_timeout_s=None if report_timeout is None else parse_duration(report_timeout, "report_timeout"),
    )


def check_name(name: str) -> str:
    """A name that is safe as a folder's."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"name={name!r} is not a name for a study: use up to 100 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    return name


def _check_metric(metric: str) -> str:
    if not isinstance(metric, str) or not metric.isidentifier():
        raise ValueError(
            f"metric={metric!r} is not the name of a metric: give the keyword that train passes to run.report, "
            'such as "accuracy"'
        )
    return metric


def _check_mode(mode: str) -> Mode:
    if mode not in get_args(Mode):
        raise ValueError(f'mode={mode!r} is unknown: give "max" when more is better, or "min"')
    return cast("Mode", mode)


def _check_count(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} is not a number of epochs: give a whole number from 1 on")
    return value


def _check_seed(seed: Any) -> int:
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed={seed!r} is not a seed: give a whole number from 0 on")
    return seed


def _check_affordable(amount: int, given: Money, offer: Offer, lease_s: float) -> None:
    needed = offer.bill(offer.boot_s + lease_s)
    if amount < needed:
        raise ValueError(
            f"budget={given!r} is too small for one epoch of one trial: a machine of {offer.name!r} at "
            f"{format_money(offer.price_per_hour)} an hour can cost {format_money(needed)} until it has booted and "
            f"its lease of {format_duration(lease_s)} has ended"
        )


def _check_long_enough(deadline_s: float, given: Time, offer: Offer) -> None:
    needed_s = offer.boot_s + offer.release_s
    if deadline_s <= needed_s:
        raise ValueError(
            f"deadline={given!r} is too short: a machine of {offer.name!r} takes about {format_duration(needed_s)} "
            "to boot and to be handed back"
        )
