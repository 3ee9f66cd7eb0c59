"""What a user gives for a search, checked: a federation, the spaces of its clients and its server, what is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from seer_nb.core.units import show
from seer_nb.methods.fedex.clients import PARTS
from seer_nb.methods.fedex.federation import Federation
from seer_nb.methods.fedex.server import ServerSettings
from seer_nb.methods.fedex.spaces import client_space, server_space
from seer_nb.space import Space

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        raise TypeError(f"federation={show(given)} is no Federation: give seer_nb.methods.fedex.Federation(...)")
    return given


def sendable(given: Federation) -> None:
    """See that it is not too large to be sent to workers.

    Raises:
        ValueError: Its clients' data take more than ``LARGEST`` bytes.
    """
    size = sum(array.nbytes for client in given.clients for part in PARTS for array in client.part(part))
    if size > LARGEST:
        raise ValueError(
            f"federation={show(given)} has {size / 2**20:,.0f} MiB of data, which is too large to be sent to each "
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
