"""Plotly figures of a sweep; heat maps are first computed as ``MapInfo``, then drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_choice
from seer_nb.methods.figures import figure_layout
from seer_nb.methods.sweep.grid import TRAIN_RATIO
from seer_nb.views.palette import OKABE_ITO, PLOTLY_DASHES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from plotly.graph_objects import Figure

    from seer_nb.methods.sweep.result import Outcome, SweepResult


Shown: TypeAlias = Literal["rmse", "value", "ct_s"]
_TITLES = {"rmse": "test RMSE", "value": "validation RMSE", "ct_s": "seconds to fit"}


class MapInfo(NamedTuple):
    """The content of a heat map."""

    title: str
    across: str
    down: str
    columns: list[str]
    rows: list[str]
    cells: list[list[float | None]]
    """Values by row and column; None where no cell was completed."""


def plot_cells(result: SweepResult, show: Shown) -> Figure:
    """Plot a heat map of all cells: one row per configuration, one column per train ratio."""
    return _plot_map(cells_info(result, show))


def plot_pair(result: SweepResult, across: str, down: str, show: Shown, train_ratio: float | None) -> Figure:
    """Plot a heat map of two hyperparameters; see ``pair_info``."""
    return _plot_map(pair_info(result, across, down, show, train_ratio))


def plot_ratios(result: SweepResult) -> Figure:
    """Plot validation and test RMSE of the best configuration at each train ratio."""
    import plotly.graph_objects as go

    best = result.best_table()
    figure = go.Figure(
        layout=figure_layout("The best configuration at each train ratio", TRAIN_RATIO, "RMSE (standardised)")
    )
    for place, column in enumerate(("value", "rmse")):
        line = {"color": OKABE_ITO[place], "dash": PLOTLY_DASHES[place]}
        data = {"x": list(best.train_ratio), "y": list(best[column]), "name": _TITLES[column]}
        figure.add_trace(go.Scatter(**data, mode="lines+markers", line=line))
    return figure.update_yaxes(automargin=True)


def cells_info(result: SweepResult, show: Shown) -> MapInfo:
    """Return the heat map of all cells."""

    def config(outcome: Outcome) -> str:
        pairs = zip(result.names, outcome.cell.labels, strict=True)
        return ", ".join(f"{name}={label}" for name, label in pairs) or "default"

    return _map_info(result.outcomes, ("train ratio", _ratio_label), ("configuration", config), show)


def pair_info(result: SweepResult, across: str, down: str, show: Shown, train_ratio: float | None) -> MapInfo:
    """Return the heat map of two hyperparameters, with the best cell for each pair of values.

    Args:
        result: The sweep.
        across: Hyperparameter of the columns, or "train_ratio".
        down: Hyperparameter of the rows, or "train_ratio".
        show: Value to show: "rmse", "value" or "ct_s".
        train_ratio: Train ratio of the cells; None: all.

    Raises:
        ValueError: A name or train ratio is not in the sweep, or two are the same.
    """
    names = (*result.names, TRAIN_RATIO)
    show = check_choice(show, "show", get_args(Shown))  # type: ignore[assignment]
    across, down = check_choice(across, "across", names), check_choice(down, "down", names)
    ratios = dict.fromkeys(outcome.cell.train_ratio for outcome in result.outcomes)
    if across == down or (train_ratio is not None and TRAIN_RATIO in {across, down}):
        raise ValueError(
            f"across={across!r}, down={down!r}, {TRAIN_RATIO}={short_repr(train_ratio)}: not different; "
            "expected each name once"
        )
    if train_ratio is not None and train_ratio not in ratios:
        raise ValueError(
            f"{TRAIN_RATIO}={short_repr(train_ratio)}: not in this sweep; expected one of {', '.join(map(str, ratios))}"
        )
    found = [x for x in result.outcomes if train_ratio in {None, x.cell.train_ratio}]
    columns, rows = (across, _label_reader(result, across)), (down, _label_reader(result, down))
    return _map_info(found, columns, rows, show)


def _label_reader(result: SweepResult, name: str) -> Callable[[Outcome], str]:
    if name == TRAIN_RATIO:
        return _ratio_label
    place = result.names.index(name)
    return lambda outcome: str(outcome.cell.labels[place])


def _ratio_label(outcome: Outcome) -> str:
    return f"{outcome.cell.train_ratio:g}"


def _map_info(
    outcomes: Sequence[Outcome],
    across: tuple[str, Callable[[Outcome], str]],
    down: tuple[str, Callable[[Outcome], str]],
    show: Shown,
) -> MapInfo:
    columns, rows = _distinct(map(across[1], outcomes)), _distinct(map(down[1], outcomes))
    best: dict[tuple[str, str], Outcome] = {}
    for outcome in outcomes:
        place = down[1](outcome), across[1](outcome)
        if outcome.fits and (place not in best or outcome.value < best[place].value):
            best[place] = outcome
    values = [[_finite_value(best.get((row, column)), show) for column in columns] for row in rows]
    return MapInfo(_TITLES[show], across[0], down[0], columns, rows, values)


def _finite_value(outcome: Outcome | None, show: Shown) -> float | None:
    value = math.nan if outcome is None else float(getattr(outcome, show))
    return value if math.isfinite(value) else None


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _plot_map(info: MapInfo) -> Figure:
    import plotly.graph_objects as go

    layout = figure_layout(info.title, info.across, info.down)
    layout["yaxis"] |= {"automargin": True, "autorange": "reversed"}
    # Labels such as 0.5 are names here; plotly would treat them as numbers.
    layout["xaxis"]["type"] = layout["yaxis"]["type"] = "category"
    texts = [["" if value is None else f"{value:.3g}" for value in row] for row in info.cells]
    heat = go.Heatmap(
        x=info.columns,
        y=info.rows,
        z=info.cells,
        text=texts,
        texttemplate="%{text}",
        colorscale="Cividis",
        colorbar={"title": {"text": info.title}},
        hoverongaps=False,
    )
    return go.Figure(heat, layout=layout)
