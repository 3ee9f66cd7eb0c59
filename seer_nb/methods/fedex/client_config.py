"""The seven hyperparameters of a client's training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb.core.arguments import real, whole
from seer_nb.core.units import show

if TYPE_CHECKING:
    from seer_nb.core.model import Config


class ClientConfig(NamedTuple):
    """How a client trains: SGD on its own data, from the weights that it is sent."""

    lr: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    epochs: int = 1
    batch: int = 32
    mu: float = 0.0
    """FedProx's pull towards the weights that were sent; 0: FedAvg."""
    dropout: float | None = None
    """Of all dropout layers; None: as the model has it."""


NAMES = ClientConfig._fields


def read(config: Config, name: str) -> ClientConfig:
    """A client's configuration from a dict; what is not in it has its default.

    Args:
        config: Hyperparameter to value.
        name: Of the argument, for the sentence of an error.

    Raises:
        TypeError: It is no dict, or a value is of another type.
        ValueError: It has another name, or a value is out of bounds.
    """
    if not isinstance(config, Mapping):
        raise TypeError(f'{name}={show(config)} is not a dict: give one such as {{"lr": 0.1, "epochs": 2}}')
    for given in config:
        if given not in NAMES:
            raise ValueError(f"{name} has the hyperparameter {show(given)}: clients know {', '.join(NAMES)}")
    checked: dict[str, Any] = {key: _CHECKS[key](value, f"{name}[{key!r}]") for key, value in config.items()}
    return ClientConfig(**checked)


def _dropout(value: Any, name: str) -> float | None:
    return None if value is None else real(value, name, least=0.0, most=1.0)


_CHECKS = {
    "lr": lambda value, name: real(value, name, above=0.0),
    "momentum": lambda value, name: real(value, name, least=0.0, most=1.0),
    "weight_decay": lambda value, name: real(value, name, least=0.0),
    "epochs": whole,
    "batch": whole,
    "mu": lambda value, name: real(value, name, least=0.0),
    "dropout": _dropout,
}
