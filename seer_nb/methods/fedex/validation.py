"""What a user gives for a search, checked: a federation, the spaces of its clients and its server, what is judged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, get_args

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MICRO, parse_duration, parse_money
from seer_nb.core.money import Ledger, lease_seconds
from seer_nb.methods.fedex.federation import Federation
from seer_nb.methods.fedex.options import client_space, server_space
from seer_nb.methods.fedex.partition import PARTS
from seer_nb.methods.fedex.server import ServerSettings
from seer_nb.methods.fedex.worker_pool import TimeUpError
from seer_nb.search_space import Space

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from seer_nb.core.money import Offer
    from seer_nb.providers.base import Provider


Target: TypeAlias = Literal["global", "personal"]
TARGETS: tuple[str, ...] = get_args(Target)
FIELDS = {"global": "shared", "personal": "personal"}
"""Of ``Scores``, by target."""
LARGEST = 2**30
"""Bytes of clients' data: notebook, runner, scheduler and each worker have a copy of them in memory."""
SERVER_NAMES = ("lr", "momentum", "decay", "gamma")


def federation(given: Federation) -> Federation:
    """It.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(given, Federation):
        raise TypeError(f"federation={short_repr(given)} is no Federation: give seer_nb.methods.fedex.Federation(...)")
    return given


def sendable(given: Federation) -> None:
    """See that it is not too large to be sent to workers.

    Raises:
        ValueError: Its clients' data take more than ``LARGEST`` bytes.
    """
    size = sum(array.nbytes for client in given.clients for part in PARTS for array in client.part(part))
    if size > LARGEST:
        raise ValueError(
            f"federation={short_repr(given)} has {size / 2**20:,.0f} MiB of data, which "
            "is too large to be sent to each "
            f"worker: give at most {LARGEST / 2**20:,.0f} MiB, such as fewer samples or a smaller dtype"
        )


def clients(given: Mapping[str, Any] | None) -> Space:
    """The space of clients' hyperparameters; None: ``spaces.client_space()``."""
    return Space(client_space() if given is None else given)


def server(given: Mapping[str, Any] | None) -> Space:
    """The space of the server's hyperparameters; None: ``spaces.server_space()``.

    Raises:
        ValueError: It has a name that servers do not know, or one thing twice.
    """
    space = Space(server_space() if given is None else given)
    for name in space:
        if name not in SERVER_NAMES:
            raise ValueError(f"server_space has {name!r}: the server knows {', '.join(SERVER_NAMES)}")
    if {"decay", "gamma"} <= set(space):
        raise ValueError("server_space has both decay and gamma, which is 1 - decay: give one of them")
    return space


def settings(drawn: Mapping[str, Any]) -> ServerSettings:
    """A server's settings from a configuration of its space.

    Raises:
        TypeError, ValueError: A value cannot be.
    """
    given = dict(drawn)
    decay = given.pop("decay", 0.0)
    return ServerSettings(**{"gamma": 1.0 - decay, **given}).checked()


LONG_S = 30 * 86400.0
"""Where no deadline is given."""
UNLIMITED = 10**15
"""Micro-dollars, where money is free."""


class Limits:
    """Both ceilings, with the clock that begins with this object.

    Args:
        deadline_s: Seconds from now.
        ledger: Of the machines.
    """

    def __init__(self, deadline_s: float, ledger: Ledger) -> None:
        self._begun_s = time.monotonic()
        self._deadline_s = deadline_s
        self.ledger = ledger

    @classmethod
    def read(
        cls, deadline: str | float | timedelta | None, budget: str | float | None, provider: Provider | None
    ) -> Self:
        """Check what a user has given.

        Raises:
            TypeError, ValueError: It is no time or no money; or a budget is missing, or nothing costs any.
        """
        deadline_s = LONG_S if deadline is None else parse_duration(deadline, "deadline")
        money = UNLIMITED if budget is None else parse_money(budget, "budget")
        offers: tuple[Offer, ...] = ()
        if provider is None:
            if budget is not None:
                raise ValueError(
                    f"budget={short_repr(budget)} has nothing to be spent on: give provider= too, or leave it out"
                )
        else:
            if not hasattr(provider, "fleet"):
                raise TypeError(f"provider={short_repr(provider)} is no provider: give one such as seer.Local()")
            offers = provider.offers()
            if budget is None and any(offer.price_per_hour_micro for offer in offers):
                raise ValueError(f'provider={short_repr(provider)} costs money: give a budget=, such as "$0.50"')
        most = provider.max_workers if provider is not None else 1
        return cls(deadline_s, Ledger(money, lease_seconds(money, offers, most)))

    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun_s

    def left_s(self) -> float:
        """Seconds until all machines must have been told to go."""
        now_s = self.elapsed_s()
        return self.ledger.exhausted_s(now_s, self._deadline_s) - now_s

    def check(self, keep_s: float = 0.0) -> None:
        """See that there is time left.

        Args:
            keep_s: More than that, for what must still come.

        Raises:
            TimeUpError: There is none.
        """
        if self.left_s() > keep_s:
            return
        late = self.elapsed_s() + keep_s >= self._deadline_s
        raise TimeUpError("the deadline was reached" if late else "the budget is used up")

    def spent_usd(self) -> float:
        """Dollars billed so far."""
        return self.ledger.spent(self.elapsed_s()) / MICRO
