"""Checks what a user gives to a study before any machine is rented."""

from __future__ import annotations

import os
import re
import secrets
import time
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import msgspec

from seer_nb import core
from seer_nb._utils.text import show
from seer_nb._utils.units import format_duration, format_money, parse_deadline, parse_duration, parse_money
from seer_nb._utils.validation import whole
from seer_nb.core import Mode, Settings
from seer_nb.core.money import Ledger, Offer, lease_seconds
from seer_nb.core.types import MOST_EPOCHS, MOST_SEED, MOST_WORKERS
from seer_nb.policies import by_name
from seer_nb.storage import object_store

if TYPE_CHECKING:
    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State
    from seer_nb.providers.base import Provider


_FITS = "as many configurations are tried as fit into deadline= and budget="
_POLICY = 'policy= says who goes on, such as policy="asha"'
_EPOCHS = "give max_epochs="
_SPACE = "give space="
_DEADLINE = "give deadline="
_WORKERS = "give provider=, such as seer.Local(max_workers=4)"
_BEST = 'give metric= and mode="max" or mode="min"'
HINTS = {
    **dict.fromkeys(("num_samples", "n_trials", "max_trials", "num_trials", "n_iter"), _FITS),
    **dict.fromkeys(("direction", "objective", "goal"), _BEST),
    **dict.fromkeys(("epochs", "n_epochs", "num_epochs", "max_t", "max_iter"), _EPOCHS),
    **dict.fromkeys(("search_space", "param_space", "param_distributions", "param_grid", "params", "config"), _SPACE),
    **dict.fromkeys(("scheduler", "pruner"), _POLICY),
    **dict.fromkeys(("timeout", "time_budget_s", "max_time"), _DEADLINE),
    **dict.fromkeys(("n_jobs", "num_workers", "max_workers", "resources_per_trial"), _WORKERS),
    "search_alg": "give sampler=, an Optuna sampler",
    "storage": "a study keeps its own journal; store= is for its checkpoints",
    "study_name": "give name=",
}
"""By the keyword that others call it."""


Money = str | float | Decimal
Time = str | float | timedelta | datetime
START_S = 3.0
"""What is needed beside a boot before the first epoch is stored: the runner's start, the gang's, the engine's slack."""
_ONE_SLASH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""A protocol with one slash, as a ``Path`` makes it of an URL."""
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
    store: str | os.PathLike[str],
    report_timeout: str | float | timedelta | None,
    shared_store: bool = False,
) -> Settings:
    """The study's settings. Raises ValueError or TypeError, with a sentence, for what cannot be.

    Within a ``shared_store`` the study gets a folder of its own.
    """
    offers, host = _check_offers(provider), getattr(provider, "host", None)
    amount = parse_money(budget, "budget")
    deadline_s, deadline_wall = parse_deadline(deadline, time.time())
    lease_s = lease_seconds(amount, offers, provider.max_workers)
    _check_affordable(amount, budget, offers[0], host, lease_s)
    _check_long_enough(deadline_s, deadline, offers[0], host)
    checked = _check_reachable(check_store(store), store, provider)
    return Settings(
        name=check_name(name),
        metric=_check_metric(metric),
        mode=_check_mode(mode),
        max_epochs=whole(max_epochs, "max_epochs", 1, MOST_EPOCHS, what="a number of epochs"),
        deadline_s=deadline_s,
        deadline_wall=deadline_wall,
        budget=amount,
        seed=whole(seed, "seed", 0, MOST_SEED, what="a seed"),
        offers=offers,
        host=host,
        max_workers=provider.max_workers,
        lease_s=lease_s,
        store=_own(name, checked) if shared_store else checked,
        policy=policy,
        report_timeout_s=None if report_timeout is None else parse_duration(report_timeout, "report_timeout"),
    )


def is_name(name: object) -> bool:
    """Whether a study may be called so: it is safe as the name of a folder and of a machine."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """A name that is safe as a folder's."""
    if not is_name(name):
        raise ValueError(
            f"name={show(name)} is not a name for a study: use up to 100 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    return name


def _check_metric(metric: str) -> str:
    if not isinstance(metric, str) or not metric.isidentifier():
        raise ValueError(
            f"metric={show(metric)} is not the name of a metric: give the keyword that train passes to run.report, "
            'such as "accuracy"'
        )
    return metric


def _check_mode(mode: str) -> Mode:
    if not isinstance(mode, str) or mode not in get_args(Mode):
        raise ValueError(f'mode={show(mode)} is unknown: give "max" when more is better, or "min"')
    return cast("Mode", mode)


def check_policy(policy: Any) -> Policy:
    """The policy of a name, or the one given. Raises ValueError or TypeError for what is none."""
    if isinstance(policy, str):
        return by_name(policy)
    if isinstance(policy, type) or not callable(getattr(policy, "decide", None)):
        raise TypeError(
            f'policy={show(policy)} is not a policy: give a name such as "seer", or an object with decide(snapshot)'
        )
    return cast("Policy", policy)


def _check_offers(provider: Any) -> tuple[Offer, ...]:
    methods = all(callable(getattr(provider, name, None)) for name in ("offers", "fleet"))
    if isinstance(provider, type) or not methods:
        raise TypeError(f"provider={show(provider)} does not rent machines: give a provider such as seer.Local()")
    most = getattr(provider, "max_workers", None)
    if not isinstance(most, int) or not 1 <= most <= MOST_WORKERS:
        allowed = f"it must be a whole number from 1 to {MOST_WORKERS}"
        raise ValueError(f"provider={show(provider)} has max_workers={show(most)}: {allowed}")
    offers = tuple(provider.offers())
    if not offers:
        raise ValueError(f"provider={show(provider)} offers no machines: it must have one to rent")
    for offer in (*offers, getattr(provider, "host", None)):
        _check_readable(offer, provider)
    return offers


def _check_readable(offer: Offer | None, provider: Any) -> None:
    """What the journal's readers would refuse, nobody could open again."""
    if offer is None:
        return
    try:
        msgspec.convert(msgspec.to_builtins(offer), Offer)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$.")
        what = f"{place.rstrip('`') or 'fields'} cannot be: {said[:1].lower()}{said[1:]}"
        raise ValueError(f"provider={show(provider)} offers a machine {show(offer.name)} whose {what}") from None


def check_store(store: Any) -> str:
    """An fsspec URL as it is; a folder as an absolute path, for workers and notebooks may stand elsewhere."""
    place = os.fspath(store) if isinstance(store, str | os.PathLike) else None
    if not isinstance(place, str):
        raise TypeError(f"store={show(store)} is not a place for checkpoints; {object_store.HINT}")
    if not place.strip():
        raise ValueError(f"store={show(store)} is empty; {object_store.HINT}")
    if "://" not in place and (lacking := _ONE_SLASH.match(place)):
        meant = f"{lacking[1]}://{'/' if lacking[1] in {'file', 'local'} else ''}{place[lacking.end() :]}"
        raise ValueError(f"store={show(store)} lacks a slash: did you mean {meant!r}?")
    if not object_store.is_url(place):
        return str(Path(place).absolute())
    if (protocol := object_store.protocol(place)) == "memory":
        raise ValueError(f"store={show(store)} is not shared between processes; {object_store.HINT}")
    object_store.check(place)
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise ValueError(f"store={show(store)} cannot be reached ({error}); {object_store.HINT}") from None
    return place


def _own(name: str, store: str) -> str:
    """A folder that no other study has, also none that had the same name before and was deleted."""
    return f"{store.rstrip('/')}/{name}-{secrets.token_hex(4)}"


def _check_reachable(store: str, given: Any, provider: Provider) -> str:
    """Machines elsewhere do not see this one's files."""
    if not getattr(provider, "shares_files", True) and object_store.folder(store) is not None:
        raise ValueError(
            f"store={show(given)} is a folder of this machine, which machines of {show(provider)} cannot reach: "
            'give the URL of an object store, such as "s3://bucket/folder"'
        )
    return store


def _check_affordable(amount: int, given: Money, offer: Offer, host: Offer | None, lease_s: float) -> None:
    ledger = Ledger(amount, lease_s)
    begun_s = offer.boot_s + START_S
    needed = ledger.worst(offer, begun_s)
    beside = ""
    if host is not None:
        needed += ledger.worst(host, host.boot_s + begun_s)
        beside = f", beside one of {host.name!r} for the Dask scheduler"
    if amount < needed:
        raise ValueError(
            f"budget={show(given)} is too small for one epoch of one trial: a machine of {offer.name!r} at "
            f"{format_money(offer.price_per_hour)} an hour{beside} can cost {format_money(needed)} until it has begun "
            f"and its lease of {format_duration(lease_s)} has ended"
        )


def _check_long_enough(deadline_s: float, given: Time, offer: Offer, host: Offer | None) -> None:
    needed_s = offer.boot_s + START_S + offer.release_s + (0.0 if host is None else host.boot_s)
    if deadline_s <= needed_s:
        raise ValueError(
            f"deadline={show(given)} is too short: a machine of {offer.name!r} takes about {format_duration(needed_s)} "
            "to boot, begin and be handed back"
        )


def new_budget(state: State, budget: Money) -> core.SetBudget:
    """The command for another budget. Raises ValueError for less than what is spent and committed."""
    amount = parse_money(budget, "budget")
    floor = state.ledger.floor(state.now_s)
    if amount < floor:
        raise ValueError(
            f"budget={show(budget)} is less than what is spent and committed, {format_money(floor)}: "
            "that cannot be taken back"
        )
    return core.SetBudget(budget=amount)


def new_deadline(state: State, deadline: Time) -> core.SetDeadline:
    """The command for another deadline. Raises ValueError for one that has passed."""
    deadline_s, wall = parse_deadline(deadline, time.time())
    used_s = state.now_s
    if wall is not None:
        deadline_s += used_s
    elif deadline_s <= used_s:
        raise ValueError(
            f"deadline={show(deadline)} has passed: the study has used {format_duration(used_s)} of its time already"
        )
    return core.SetDeadline(deadline_s=deadline_s, deadline_wall=wall)
