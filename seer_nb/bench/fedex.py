"""``python -m seer_nb.bench fedex``: measure FedEx on a federation of handwritten digits.

Part ``mechanism``: seven learning rates and six seeds. The error must be below half of that of uniform sampling, and
below half of the mean of the single configurations. Part ``many``: 60 rounds with 100 clients each. Part ``wrappers``:
random search and successive elimination, with and without FedEx. It has no targets, because on such small data the
result depends on the seed.
"""

from __future__ import annotations

import time
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import seer_nb as seer
from seer_nb.bench._figures import Figure, Part, command
from seer_nb.methods.fedex import Federation, FedEx, tune

if TYPE_CHECKING:
    from torch import nn

    from seer_nb.methods.fedex import Scores
    from seer_nb.methods.fedex.search import Wrapper


LRS = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)
ROUNDS = 60
SEEDS = range(6)
WRAPPERS: tuple[Wrapper, ...] = ("random", "sha")
TRIALS = 10


def digits(clients: int = 60, alpha: float | None = 0.5) -> Federation:
    """Split 1797 digits over clients with different label distributions."""
    import numpy as np
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return Federation.split(_mlp, (pixels / 16).astype(np.float32), labels, clients=clients, alpha=alpha)


def mechanism() -> list[Figure]:
    """Measure whether FedEx finds the learning rates that work."""
    federation = digits()
    configs = [{"lr": lr, "batch": 4, "epochs": 3} for lr in LRS]
    alone = [FedEx(federation, [config]).run(ROUNDS).evaluate() for config in configs]
    figures = []
    for name, field in {"global": "shared", "personal": "personal"}.items():
        figures.append(Figure(f"mean {name} error of the configurations", _mean(alone, field)))
    for seed in SEEDS:
        found = FedEx(federation, configs, baseline=0.9, seed=seed).run(ROUNDS)
        even = FedEx(federation, configs, schedule="constant", eta0=1e-12, seed=seed).run(ROUNDS).evaluate()
        tested = found.evaluate()
        for name, field in {"global": "shared", "personal": "personal"}.items():
            bound = 0.5 * min(getattr(even, field), _mean(alone, field))
            what = f"{name} error, seed {seed}; uniform sampling {getattr(even, field):.3f}"
            figures.append(Figure(what, getattr(tested, field), most=bound))
        figures.append(Figure(f"learning rate found, seed {seed}", found.best_config["lr"], least=0.03, most=0.3))
    return figures


def many() -> list[Figure]:
    """Measure 60 rounds of 100 clients, in this process and on two workers."""
    federation = digits(100)
    space = {"lr": 0.1, "batch": 8, "epochs": seer.randint(1, 5)}
    given: dict[str, Any] = {"max_rounds": ROUNDS, "total_rounds": ROUNDS, "clients_per_round": 100, "fedex_k": 5}
    figures = []
    for name, provider in {"in this process": None, "on 2 workers": seer.Local(2, price_per_hour=0)}.items():
        started_s = time.monotonic()
        found = tune(federation, space, provider=provider, **given)
        figures.append(Figure(f"100 clients x {ROUNDS} rounds {name}", time.monotonic() - started_s, "s", most=60))
        assert found.rounds == ROUNDS
    return figures


def wrappers() -> list[Figure]:
    """Measure the test errors of ten seeds for each wrapper; without targets."""
    federation = digits()
    figures = []
    for wrapper in WRAPPERS:
        for what, k in {"alone": 1, "with FedEx": 27}.items():
            errors = []
            for seed in range(TRIALS):
                found = tune(federation, wrapper=wrapper, max_rounds=40, total_rounds=200, fedex_k=k, seed=seed).best
                assert found is not None
                assert found.test is not None
                errors.append(found.test.personal)
            figures.append(Figure(f"{wrapper} {what}: personal error, mean of {TRIALS}", mean(errors)))
            figures.append(Figure(f"{wrapper} {what}: personal error, median of {TRIALS}", median(errors)))
    return figures


PARTS: dict[str, Part] = {
    "mechanism": lambda _: mechanism(),
    "many": lambda _: many(),
    "wrappers": lambda _: wrappers(),
}


def add(commands: Any) -> None:
    """Add the subcommand."""
    command(commands, "fedex", "federated tuning of handwritten digits: results and speed", PARTS)


def _mlp() -> nn.Module:
    from torch import nn

    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def _mean(scores: list[Scores], field: str) -> float:
    return float(mean(getattr(score, field) for score in scores))
