"""The spaces that the authors' code searches, and small changes to a configuration within one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from seer_nb.domains import Choice, Domain, Float, Integer, choice, loguniform, randint, uniform

if TYPE_CHECKING:
    import numpy as np

    from seer_nb.core.model import Config
    from seer_nb.space import Space


def client_space() -> dict[str, Domain]:
    """The seven hyperparameters of a client, with their ranges (github mkhodak/FedEx, femnist.py and cifar.py)."""
    return {
        "lr": loguniform(1e-4, 1.0),
        "momentum": uniform(0.0, 1.0),
        "weight_decay": loguniform(1e-5, 1e-1),
        "epochs": randint(1, 5),
        "batch": choice([8, 16, 32, 64, 128]),
        "mu": loguniform(1e-5, 1.0),
        "dropout": uniform(0.0, 0.5),
    }


def server_space() -> dict[str, Domain]:
    """The server's hyperparameters, with their ranges; ``decay`` is 1 - gamma (github mkhodak/FedEx)."""
    return {"lr": loguniform(0.1, 10.0), "momentum": choice([0.0, 0.9]), "decay": loguniform(1e-4, 1e-2)}


def neighbours(
    space: Space, count: int, eps: float, rng: np.random.Generator, centre: Config | None = None
) -> list[Config]:
    """A configuration, and others close to it: what one FedEx chooses from.

    Each hyperparameter moves by up to ``eps`` times the width of its range, of its logarithm where that is what is
    uniform; a whole number or a place in a list of options by up to that, rounded up. Then it is cut off at the range's
    ends. For the spaces above these are the authors' rules.

    Args:
        space: Of clients.
        count: Configurations, the first one included.
        eps: From 0, all are the same, to 1.
        rng: To draw from.
        centre: The configuration. Default: a random one.
    """
    centre = space.sample(rng) if centre is None else centre
    others = (
        {name: _moved(space.domains[name], value, eps, rng) for name, value in centre.items() if name in space.domains}
        for _ in range(count - 1)
    )
    return [centre, *(space.config(searched) for searched in others)]


def _moved(domain: Domain, value: Any, eps: float, rng: np.random.Generator) -> Any:
    if isinstance(domain, Choice):
        return domain.at(_shifted(domain.options.index(value), len(domain.options), eps, rng))
    if isinstance(domain, Integer):
        place = (value - domain.low) // domain.step
        return domain.at(_shifted(place, domain.count, eps, rng))
    return _float(domain, value, eps, rng)


def _float(domain: Float, value: float, eps: float, rng: np.random.Generator) -> float:
    if domain.step is not None:
        place = round((value - domain.low) / domain.step)
        return domain.at(_shifted(place, domain.count or 1, eps, rng))
    if domain.log:
        low, high, at = math.log(domain.low), math.log(domain.high), math.log(value)
        moved = math.exp(at + eps * (high - low) * rng.uniform(-1, 1))
    else:
        moved = value + eps * (domain.high - domain.low) * rng.uniform(-1, 1)
    return min(domain.high, max(domain.low, moved))


def _shifted(place: int, count: int, eps: float, rng: np.random.Generator) -> int:
    most = math.ceil(eps * (count - 1))
    moved = place + int(rng.integers(-most, most + 1))
    return min(count - 1, max(0, moved))
