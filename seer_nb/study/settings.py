"""The settings of a study and later changes of its limits, validated before any machine is rented."""

from __future__ import annotations

import os
import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import msgspec

from seer_nb import core
from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MICRO, format_duration, format_money, parse_deadline, parse_duration, parse_money
from seer_nb._utils.validation import check_integer, warn
from seer_nb.core import Mode, Settings
from seer_nb.core.money import Ledger, Offer, lease_seconds
from seer_nb.core.types import MOST_EPOCHS, MOST_SEED, MOST_WORKERS
from seer_nb.policies import by_name
from seer_nb.storage import object_store
from seer_nb.study.limits import Limits, mismatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State
    from seer_nb.providers.base import Provider


_FITS = "as many configurations are tried as fit into deadline= and budget="
_POLICY = 'give policy=, such as policy="asha"'
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
    **dict.fromkeys(("load_if_exists", "resume"), 'give exist="resume"'),
    **dict.fromkeys(("progress", "show_progress_bar", "verbose"), "give progress= to run() or wait()"),
}
"""Advice by the keyword that another tool uses."""


Money = str | float | Decimal
Time = str | float | timedelta | datetime
START_S = 3.0
"""Seconds, besides the boot, until the first epoch can be stored: start of the runner and the gang, and timer slack."""
_ONE_SLASH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""A protocol with one slash: a ``Path`` turns "s3://" into "s3:/"."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def make_settings(  # noqa: PLR0913 - the arguments of Study
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
    max_parallelism: int | None = None,
    shared_store: bool = False,
) -> Settings:
    """Validate the arguments of `Study`, and return the study's settings.

    ``policy`` is the policy's name. With ``shared_store``, the study gets its own folder within the store.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Warns:
        UserWarning: Budget and deadline do not fit together.
    """
    offers, scheduler = _check_offers(provider), getattr(provider, "scheduler_offer", None)
    amount = parse_money(budget, "budget")
    deadline_s, deadline_wall = parse_deadline(deadline, time.time())
    lease_s = lease_seconds(amount, offers, provider.max_workers)
    _check_affordable(amount, budget, offers[0], scheduler, lease_s)
    _check_long_enough(deadline_s, deadline, offers[0], scheduler)
    checked = _check_reachable(check_store(store), store, provider)
    settings = Settings(
        name=check_name(name),
        metric=_check_metric(metric),
        mode=_check_mode(mode),
        max_epochs=check_integer(max_epochs, "max_epochs", 1, MOST_EPOCHS, what="a number of epochs"),
        deadline_s=deadline_s,
        deadline_wall=deadline_wall,
        budget_micro=amount,
        seed=check_integer(seed, "seed", 0, MOST_SEED, what="a seed"),
        offers=offers,
        scheduler_offer=scheduler,
        max_workers=provider.max_workers,
        lease_s=lease_s,
        max_parallelism=_check_parallelism(max_parallelism),
        store=_own(name, checked) if shared_store else checked,
        policy=policy,
        report_timeout_s=None if report_timeout is None else parse_duration(report_timeout, "report_timeout"),
    )
    if advice := mismatch(settings, Limits(amount, deadline_s)):
        warn(advice)
    return settings


def _check_parallelism(most: Any) -> int | None:
    return None if most is None else check_integer(most, "max_parallelism", 1, MOST_WORKERS, what="a number of workers")


def is_name(name: object) -> bool:
    """Return whether a name is valid for a study: safe as the name of a folder and of a machine."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def default_name(train: Callable[..., Any]) -> str:
    """Return the name of a study that was given none: the function's name, date and time."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", getattr(train, "__name__", "study"))[:60].strip("-") or "study"
    # With milliseconds: two studies of one function may be created in the same second.
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() // 10**6 % 1000:03d}"


def check_name(name: str) -> str:
    """Return the name; raise ValueError if it is not valid for a study."""
    if not is_name(name):
        raise ValueError(
            f"name={short_repr(name)} is not a name for a study; expected up to 100 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    return name


def _check_metric(metric: str) -> str:
    if not isinstance(metric, str) or not metric.isidentifier():
        raise ValueError(
            f"metric={short_repr(metric)} is not the name of a metric: give the keyword "
            "that train passes to run.report, "
            'such as "accuracy"'
        )
    return metric


def _check_mode(mode: str) -> Mode:
    if not isinstance(mode, str) or mode not in get_args(Mode):
        raise ValueError(f'mode={short_repr(mode)} is unknown: give "max" when more is better, or "min"')
    return cast("Mode", mode)


def check_policy(policy: Any) -> Policy:
    """Return the policy object for a name, or the given policy.

    Raises:
        ValueError: No policy has that name.
        TypeError: The object is not a policy.
    """
    if isinstance(policy, str):
        return by_name(policy)
    if isinstance(policy, type) or not callable(getattr(policy, "decide", None)):
        raise TypeError(
            f'policy={short_repr(policy)} is not a policy: give a name such as "seer", or an object with decide(view)'
        )
    return cast("Policy", policy)


def _check_offers(provider: Any) -> tuple[Offer, ...]:
    methods = all(callable(getattr(provider, name, None)) for name in ("offers", "fleet"))
    if isinstance(provider, type) or not methods:
        raise TypeError(f"provider={short_repr(provider)} does not rent machines: give a provider such as seer.Local()")
    workers = getattr(provider, "max_workers", None)
    if not isinstance(workers, int) or not 1 <= workers <= MOST_WORKERS:
        allowed = f"expected an integer from 1 to {MOST_WORKERS}"
        raise ValueError(f"provider={short_repr(provider)} has max_workers={short_repr(workers)}; {allowed}")
    offers = tuple(provider.offers())
    if not offers:
        raise ValueError(f"provider={short_repr(provider)} offers no machines; expected at least one to rent")
    for offer in (*offers, getattr(provider, "scheduler_offer", None)):
        _check_readable(offer, provider)
    return offers


def _check_readable(offer: Offer | None, provider: Any) -> None:
    """Check that the journal's readers accept the offer: otherwise the study could not be opened."""
    if offer is None:
        return
    try:
        msgspec.convert(msgspec.to_builtins(offer), Offer)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$.")
        what = f"{place.rstrip('`') or 'fields'} is invalid: {reason[:1].lower()}{reason[1:]}"
        raise ValueError(
            f"provider={short_repr(provider)} offers a machine {short_repr(offer.name)} whose {what}"
        ) from None


def check_store(store: Any) -> str:
    """Return a valid store: an fsspec URL unchanged, a folder as an absolute path (workers run in other folders).

    Raises:
        TypeError: The store is not a path or URL.
        ValueError: The URL is invalid, or only this process could use the store.
    """
    place = os.fspath(store) if isinstance(store, str | os.PathLike) else None
    if not isinstance(place, str):
        raise TypeError(f"store={short_repr(store)} is not a place for checkpoints; {object_store.HINT}")
    if not place.strip():
        raise ValueError(f"store={short_repr(store)} is empty; {object_store.HINT}")
    if "://" not in place and (lacking := _ONE_SLASH.match(place)):
        meant = f"{lacking[1]}://{'/' if lacking[1] in {'file', 'local'} else ''}{place[lacking.end() :]}"
        raise ValueError(f"store={short_repr(store)} lacks a slash: did you mean {meant!r}?")
    if not object_store.is_url(place):
        if problem := object_store.folder_problem(Path(place).absolute()):
            raise ValueError(f"store={short_repr(store)}: {problem}; {object_store.HINT}")
        return str(Path(place).absolute())
    if (protocol := object_store.protocol(place)) == "memory":
        raise ValueError(f"store={short_repr(store)} is not shared between processes; {object_store.HINT}")
    object_store.check_url(place)
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise ValueError(f"store={short_repr(store)} cannot be reached ({error}); {object_store.HINT}") from None
    return place


def _own(name: str, store: str) -> str:
    """Return a folder in the store that no other study uses, not even a deleted one of the same name."""
    return f"{store.rstrip('/')}/{name}-{secrets.token_hex(4)}"


def _check_reachable(store: str, given: Any, provider: Provider) -> str:
    """Check that the provider's machines can reach the store."""
    if not getattr(provider, "shares_files", True) and object_store.local_folder(store) is not None:
        raise ValueError(
            f"store={short_repr(given)} is a folder of this machine, which machines of "
            f"{short_repr(provider)} cannot reach; "
            'expected the URL of an object store, such as "s3://bucket/folder"'
        )
    return store


def _check_affordable(amount: int, given: Money, offer: Offer, scheduler: Offer | None, lease_s: float) -> None:
    ledger = Ledger(amount, lease_s)
    begun_s = offer.boot_s + START_S
    needed = ledger.worst_case_micro(offer, begun_s)
    beside = ""
    if scheduler is not None:
        needed += ledger.worst_case_micro(scheduler, scheduler.boot_s + begun_s)
        beside = f", beside one of {scheduler.name!r} for the Dask scheduler"
    if amount < needed:
        raise ValueError(
            f"budget={short_repr(given)} is too small for one epoch of one trial: a machine of {offer.name!r} at "
            f"{format_money(offer.price_per_hour_micro)} an hour{beside} can cost {format_money(needed)} until it has "
            f"started and its lease of {format_duration(lease_s)} has expired"
        )


def _check_long_enough(deadline_s: float, given: Time, offer: Offer, scheduler: Offer | None) -> None:
    needed_s = offer.boot_s + START_S + offer.release_s + (0.0 if scheduler is None else scheduler.boot_s)
    if deadline_s <= needed_s:
        raise ValueError(
            f"deadline={short_repr(given)} is too short: a machine of {offer.name!r} "
            f"takes about {format_duration(needed_s)} "
            "to boot, start and terminate"
        )


def new_budget(state: State, budget: Money) -> core.SetBudget:
    """Return the command that changes the budget.

    Raises:
        ValueError: The budget is less than what is spent and committed.
    """
    amount = parse_money(budget, "budget")
    floor = state.ledger.least_budget_micro(state.now_s)
    if amount < floor:
        raise ValueError(
            f"budget={short_repr(budget)} is less than what is spent and committed; "
            f"expected at least {format_money(floor)}"
        )
    return core.SetBudget(budget_micro=amount)


def new_deadline(state: State, deadline: Time) -> core.SetDeadline:
    """Return the command that changes the deadline.

    Raises:
        ValueError: The deadline has passed.
    """
    deadline_s, wall = parse_deadline(deadline, time.time())
    used_s = state.now_s
    if wall is not None:
        deadline_s += used_s
    elif deadline_s <= used_s:
        raise ValueError(
            f"deadline={short_repr(deadline)} has passed: the study has already used {format_duration(used_s)}"
        )
    return core.SetDeadline(deadline_s=deadline_s, deadline_wall=wall)


def changed_limits(state: State, earlier: Settings, given: Settings) -> list[core.Command]:
    """Return the commands that give a study the limits of a new one, if they differ from its first limits.

    Args:
        state: The study's state.
        earlier: The study's first settings.
        given: Settings of the new study.

    Raises:
        ValueError: As for `new_budget` and `new_deadline`.
    """
    commands: list[core.Command] = []
    if given.budget_micro != earlier.budget_micro:
        commands.append(new_budget(state, Decimal(given.budget_micro) / MICRO))
    if given.deadline_wall is not None:
        commands.append(new_deadline(state, datetime.fromtimestamp(given.deadline_wall, UTC)))
    elif given.deadline_s != earlier.deadline_s:
        commands.append(new_deadline(state, given.deadline_s))
    return commands
