"""Checks of the arguments that ``tune`` and ``Search`` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from seer_nb._utils.text import short_repr
from seer_nb.methods.fedex.federation import Federation
from seer_nb.methods.fedex.options import client_space, server_space
from seer_nb.methods.fedex.partition import PARTS
from seer_nb.methods.fedex.server import ServerSettings
from seer_nb.search_space import Space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seer_nb.providers.base import Provider


Target: TypeAlias = Literal["global", "personal"]
TARGETS: tuple[str, ...] = get_args(Target)
SCORE_FIELDS = {"global": "shared", "personal": "personal"}
"""Field of ``Scores`` by target."""
MAX_DATA_BYTES = 2**30
"""Limit of the clients' data in memory; notebook, runner, scheduler and each worker hold a copy."""
SERVER_NAMES = ("lr", "momentum", "decay", "gamma")


def check_federation(given: Federation) -> Federation:
    """Return the federation unchanged.

    Raises:
        TypeError: It is not a ``Federation``.
    """
    if not isinstance(given, Federation):
        raise TypeError(f"federation={short_repr(given)}: expected a seer_nb.methods.fedex.Federation")
    return given


def check_data_size(given: Federation) -> None:
    """Check that the clients' data can be sent to the workers.

    Raises:
        ValueError: They take more than ``MAX_DATA_BYTES`` of memory.
    """
    size = sum(client.bytes_in_memory() for client in given.clients)
    if size > MAX_DATA_BYTES:
        raise ValueError(
            f"federation={short_repr(given)}: {size / 2**20:,.0f} MiB of data are too large to send to each worker; "
            f"expected at most {MAX_DATA_BYTES / 2**20:,.0f} MiB, a smaller dtype such as uint8, or slices of "
            'numpy.load(path, mmap_mode="r"), which stay in their file'
        )


def check_files(given: Federation, provider: Provider | None) -> None:
    """Check that the workers can open the files that the clients' data are mapped from.

    Raises:
        ValueError: The provider's machines do not share this computer's files.
    """
    if getattr(provider, "shares_files", True):
        return
    for index, client in enumerate(given.clients):
        if any(client.is_mapped(part) for part in PARTS):
            raise ValueError(
                f"federation: clients[{index}] is mapped from a file, which the machines of "
                f"provider={short_repr(provider)} cannot open; expected arrays in memory"
            )


def read_client_space(given: Mapping[str, Any] | None) -> Space:
    """Return the space of the client hyperparameters; None: ``client_space()``."""
    return Space(client_space() if given is None else given)


def read_server_space(given: Mapping[str, Any] | None) -> Space:
    """Return the space of the server hyperparameters; None: ``server_space()``.

    Raises:
        ValueError: A name is unknown, or both decay and gamma are given.
    """
    space = Space(server_space() if given is None else given)
    for name in space:
        if name not in SERVER_NAMES:
            raise ValueError(f"server_space: unknown hyperparameter {name!r}; expected {', '.join(SERVER_NAMES)}")
    if {"decay", "gamma"} <= set(space):
        raise ValueError("server_space: has both decay and gamma, which is 1 - decay; expected one of them")
    return space


def make_server_settings(config: Mapping[str, Any]) -> ServerSettings:
    """Return the settings for a configuration of the server's space.

    Raises:
        TypeError: A value is not a number.
        ValueError: A value is out of range.
    """
    given = dict(config)
    decay = given.pop("decay", 0.0)
    return ServerSettings(**{"gamma": 1.0 - decay, **given}).checked()
