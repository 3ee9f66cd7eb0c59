"""``python -m seer_nb.bench sweep``: measure a sweep of an MLP over a grid and train ratios.

Part ``workers``: 100 cells that compute for over half a second each. One worker, two workers and this process must give
the same results, except for times. Two workers must be at least 1.7 times as fast as one, which takes two idle cores.
Part ``waiting``: the same with cells that only sleep, which measures the overhead independently of other load. Part
``choice``: the grid's best configuration against the default and the mean, on synthetic samples.
"""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Any

import seer_nb as seer
from seer_nb.bench._figures import Figure, Part, command
from seer_nb.bench._studies import temporary_home
from seer_nb.methods.sweep import sweep

if TYPE_CHECKING:
    from seer_nb.methods.sweep import SweepResult


CELL_S = 0.5
FASTER = 1.7
ITERATIONS = 900
RATIOS = (0.5, 0.6, 0.7, 0.8, 0.9)
GRID = {"learning_rate_init": [1e-3 * 1.5**step for step in range(10)], "activation": ["relu", "tanh"]}


def workers() -> list[Figure]:
    """Measure the same sweep in this process, on one worker and on two."""
    from sklearn.neural_network import MLPRegressor

    # No early stopping, so that all cells take about the same time.
    network = MLPRegressor(hidden_layer_sizes=(32, 32), max_iter=ITERATIONS, n_iter_no_change=ITERATIONS)
    return _compared(network, GRID)


def waiting() -> list[Figure]:
    """Measure the same sweep with cells that only sleep."""
    from seer_nb.bench._studies import Waiting

    return _compared(Waiting(CELL_S), {"place": range(20)})


def _compared(estimator: Any, grid: dict[str, Any]) -> list[Figure]:
    with temporary_home():
        named = {"this process": None, "1 worker": 1, "2 workers": 2}
        return _figures({name: _swept(estimator, grid, count) for name, count in named.items()})


def _figures(results: dict[str, SweepResult]) -> list[Figure]:
    one, two = results["1 worker"], results["2 workers"]
    figures = [
        Figure("cells", len(one.outcomes)),
        Figure("seconds per cell, median, 1 worker", _cell_s(one), "s", least=CELL_S),
        Figure("... 2 workers", _cell_s(two), "s"),
        *(Figure(f"the whole sweep, {name}", found.wall_s, "s") for name, found in results.items()),
        Figure("speed-up of 2 workers over 1", one.wall_s / two.wall_s, least=FASTER),
        Figure("... without start and end", _training_s(one) / _training_s(two)),
    ]
    for name, found in results.items():
        if found is not one:
            figures.append(Figure(f"identical cells, {name} and 1 worker", _alike(found, one), least=len(one.outcomes)))
    return figures


def _swept(estimator: Any, grid: dict[str, Any], count: int | None) -> SweepResult:
    x, y = seer.datasets.make_fff(240)
    given: dict[str, Any] = {"train_ratios": RATIOS, "repeats": 1}
    if count is not None:
        provider = seer.Local(count, price_per_hour=0)
        given |= {"provider": provider, "deadline": "10min", "budget": "$1", "name": f"sweep-{count}"}
    return sweep(estimator, grid, x, y, **given)


def _cell_s(found: SweepResult) -> float:
    table = _trials(found)
    return float((table.ended_s - table.started_s).median())


def _training_s(found: SweepResult) -> float:
    table = _trials(found)
    return float(table.ended_s.max() - table.started_s.min())


def _trials(found: SweepResult) -> Any:
    assert found.study is not None
    return found.study.results()


def _alike(one: SweepResult, other: SweepResult) -> int:
    """Return the number of cells whose results are bitwise equal, except for times."""
    frames = [found.frame.drop(columns="ct_s") for found in (one, other)]
    # Missing values count as equal.
    same = (frames[0] == frames[1]) | (frames[0].isna() & frames[1].isna())
    return int(same.all(axis=1).sum())


def choice() -> list[Figure]:
    """Measure the grid's best configuration on test samples."""
    from sklearn.dummy import DummyRegressor
    from sklearn.neural_network import MLPRegressor

    x, y = seer.datasets.make_fff()
    grid = {
        "hidden_layer_sizes": [(8,), (32,), (32, 32)],
        "activation": ["relu", "tanh"],
        "solver": ["adam", "lbfgs"],
        "learning_rate_init": [1e-3, 1e-2],
    }
    found = sweep(MLPRegressor(max_iter=500), grid, x, y)
    default, constant = (mean(sweep(each, {}, x, y).frame.rmse) for each in (MLPRegressor(), DummyRegressor()))
    best, worst = mean(found.best_table().rmse), mean(found.frame.groupby("train_ratio").rmse.max())
    of = f"mean of {len(found.best_table())} ratios"
    return [
        Figure(f"test RMSE of the best of {len(found.outcomes)} cells, {of}", best, most=min(default, 0.4 * constant)),
        Figure("... of the default network", default),
        Figure("... of the mean", constant),
        Figure("... of the worst cell", worst, least=best / 0.6),
        Figure("CT of the best", mean(found.best_table().ct_s), "s"),
        Figure("the whole sweep, 3 repeats", found.wall_s, "s"),
    ]


PARTS: dict[str, Part] = {"workers": lambda _: workers(), "waiting": lambda _: waiting(), "choice": lambda _: choice()}


def add(commands: Any) -> None:
    """Add the subcommand."""
    command(commands, "sweep", "a sweep over a grid and train ratios on one and two workers (takes minutes)", PARTS)
