"""Plotly figures of a sweep: first what is to be seen, then how."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

from seer_nb._utils.text import short_repr as shown
from seer_nb._utils.validation import check_choice
from seer_nb.methods.sweep.grid import RATIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from plotly.graph_objects import Figure

    from seer_nb.methods.sweep.result import Outcome, SweepResult


Shown: TypeAlias = Literal["rmse", "value", "ct_s"]
_TITLES = {"rmse": "test RMSE", "value": "validation RMSE", "ct_s": "seconds to fit"}


class MapInfo(NamedTuple):
    """A heat map without its looks."""

    title: str
    across: str
    down: str
    columns: list[str]
    rows: list[str]
    cells: list[list[float | None]]
    """By row and column; None where no cell was completed."""


def cells_plot(result: SweepResult, show: Shown) -> Figure:
    """A row a configuration, a column a train ratio."""
    return _map_plot(cells_info(result, show))


def pair_plot(result: SweepResult, across: str, down: str, show: Shown, train_ratio: float | None) -> Figure:
    """Two hyperparameters, at one train ratio or the best."""
    return _map_plot(pair_info(result, across, down, show, train_ratio))


def ratios_plot(result: SweepResult) -> Figure:
    """The best configuration's RMSE by train ratio: on validation and on test samples."""
    import plotly.graph_objects as go

    # Not before: workers need none of it.
    from seer_nb.views.palette import OKABE_ITO, PLOTLY_DASHES

    best = result.best_table()
    layout = _layout("The best configuration at each train ratio", RATIO, "RMSE, standardised")
    figure = go.Figure(layout=layout)
    for place, column in enumerate(("value", "rmse")):
        line = {"color": OKABE_ITO[place], "dash": PLOTLY_DASHES[place]}
        traced = {"x": list(best.train_ratio), "y": list(best[column]), "name": _TITLES[column]}
        figure.add_trace(go.Scatter(**traced, mode="lines+markers", line=line))
    return figure


def cells_info(result: SweepResult, show: Shown) -> MapInfo:
    """All cells."""

    def config(outcome: Outcome) -> str:
        pairs = zip(result.names, outcome.cell.labels, strict=True)
        return ", ".join(f"{name}={label}" for name, label in pairs) or "as it is"

    return _info(result.outcomes, ("train ratio", _ratio), ("configuration", config), show)


def pair_info(result: SweepResult, across: str, down: str, show: Shown, train_ratio: float | None) -> MapInfo:
    """The best cells for each pair of values.

    Raises:
        ValueError: For what is not in the sweep.
    """
    names = (*result.names, RATIO)
    show = check_choice(show, "show", get_args(Shown))  # type: ignore[assignment]
    across, down = check_choice(across, "across", names), check_choice(down, "down", names)
    ratios = dict.fromkeys(outcome.cell.train_ratio for outcome in result.outcomes)
    if across == down or (train_ratio is not None and RATIO in {across, down}):
        raise ValueError(
            f"across={across!r}, down={down!r} and {RATIO}={shown(train_ratio)} must differ: name each once"
        )
    if train_ratio is not None and train_ratio not in ratios:
        raise ValueError(
            f"{RATIO}={shown(train_ratio)} is not in this sweep: give one of {', '.join(map(str, ratios))}"
        )
    found = [x for x in result.outcomes if train_ratio in {None, x.cell.train_ratio}]
    return _info(found, (across, _reader(result, across)), (down, _reader(result, down)), show)


def _reader(result: SweepResult, name: str) -> Callable[[Outcome], str]:
    if name == RATIO:
        return _ratio
    place = result.names.index(name)
    return lambda outcome: str(outcome.cell.labels[place])


def _ratio(outcome: Outcome) -> str:
    return f"{outcome.cell.train_ratio:g}"


def _info(
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
    values = [[_number(best.get((row, column)), show) for column in columns] for row in rows]
    return MapInfo(_TITLES[show], across[0], down[0], columns, rows, values)


def _number(outcome: Outcome | None, show: Shown) -> float | None:
    value = math.nan if outcome is None else float(getattr(outcome, show))
    return value if math.isfinite(value) else None


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _map_plot(info: MapInfo) -> Figure:
    import plotly.graph_objects as go

    layout = _layout(info.title, info.across, info.down)
    # Texts such as 0.5 are names here, not numbers.
    layout["xaxis"]["type"] = layout["yaxis"]["type"] = "category"
    layout["yaxis"]["autorange"] = "reversed"
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


def _layout(title: str, across: str, down: str) -> dict[str, Any]:
    return {
        "template": "plotly_white",
        "title": {"text": title},
        "xaxis": {"title": {"text": across}},
        "yaxis": {"title": {"text": down}, "automargin": True},
    }
