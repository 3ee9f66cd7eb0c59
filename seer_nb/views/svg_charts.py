"""Figures as svg, divided into pieces so that the live view sends only the pieces that have changed."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, NamedTuple

from seer_nb._utils.units import format_duration, format_usd
from seer_nb.core.history import step_value_at
from seer_nb.views.palette import GREY, SVG_DASHES, LineStyle
from seer_nb.views.svg_axes import LEFT, TOP, Frame, epoch_ticks, spread, time_ticks, widened
from seer_nb.views.view_model import format_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from seer_nb.views.figure_data import BurnInfo, CurvesInfo, ParallelismInfo
    from seer_nb.views.view_model import TrialView


MAX_POINTS = 80
"""Number of points of a coloured curve."""
GREY_POINTS = 20
"""Number of points of a grey curve."""
MAX_GREY = 400
"""Number of grey curves drawn: the last ones to end."""
CHUNK = 16
"""Number of grey curves in one piece; when a curve is added, only the last piece is sent."""
LABEL_GAP = 14
ROOM_FOR_TEXT = 13


class Piece(NamedTuple):
    """One keyed element of a list on a page."""

    key: str
    content: str
    """Html or svg of exactly one element."""


class Plot(NamedTuple):
    """The constant parts of a figure."""

    name: str
    label: str
    height: int
    layers: tuple[str, ...]
    """Names of the layers, from the back to the front."""


CURVES = Plot("curves", "learning curves", 320, ("grey", "lines"))
WORKERS = Plot("workers", "workers over time", 220, ("bands", "lines"))
BURN = Plot("burn", "money over time", 220, ("plan", "lines"))


class Drawing(NamedTuple):
    """A drawn figure, divided into pieces."""

    title: str
    """Summary of the figure in a sentence."""
    axes: str
    layers: tuple[Sequence[Piece], ...]
    """Pieces inside the frame, by layer of the plot."""
    over: str
    """Svg that is drawn on top and not clipped to the frame."""


class Pen:
    """Renderer of curves with a cache: few curves change between two updates."""

    def __init__(self) -> None:
        self._drawn: dict[int, tuple[object, object, str]] = {}

    def curve(self, frame: Frame, trial: TrialView, most: int) -> str:
        """Return the path data of a curve that is thinned to about ``most`` points."""
        how = frame.x_range, frame.y_range, most
        known = self._drawn.get(trial.trial)
        # Successive views of an unchanged trial share their points.
        if known is None or known[0] is not trial.points or known[1] != how:
            known = self._drawn[trial.trial] = trial.points, how, frame.line(_thinned(trial, most))
        return known[2]


def draw_curves(info: CurvesInfo, styles: Mapping[int, LineStyle], pen: Pen) -> Drawing:
    """Draw the learning curves: survivors in colour with labels at their ends, all others grey."""
    last = max(2, info.max_epochs)
    frame = Frame((1, last), widened(info.low, info.high), CURVES.height)
    lines = [Piece(f"curve:{t.trial}", _curve(frame, t, styles[t.trial], info, pen)) for t in info.coloured]
    return Drawing(
        title=describe_curves(info),
        axes=frame.axes("epoch", info.metric, epoch_ticks(last)),
        layers=(list(_grey(frame, info.others[-MAX_GREY:], pen)), lines),
        over=_best(frame, info) + _ends(frame, info, styles),
    )


def draw_parallelism(info: ParallelismInfo, styles: Mapping[int, LineStyle]) -> Drawing:
    """Draw the workers over time: one band per trial, the number of ready workers as a line, boots and losses."""
    frame = Frame((0.0, info.until_s), (0.0, info.high * 1.1), WORKERS.height)
    bands = [Piece(f"band:{band}", text) for band, text in _bands(frame, info, styles)]
    lines = (
        f'<path d="{frame.stairs(info.wanted, info.now_s)}" class="seer-dotted"><title>workers wanted</title></path>'
        f'<path d="{frame.stairs(info.size, info.now_s)}" class="seer-line"><title>workers ready</title></path>'
    )
    return Drawing(
        title=describe_parallelism(info),
        axes=frame.axes("time", "workers", time_ticks(info.until_s), "whole"),
        layers=(
            bands,
            [Piece("lines", f"<g>{lines}</g>"), Piece("faults", _boots(frame, info)), _marks(frame, info.marks)],
        ),
        over="",
    )


def draw_burn(info: BurnInfo) -> Drawing:
    """Draw the spending over the forecast's band, with budget and deadline as lines."""
    frame = Frame((0.0, info.until_s * 1.02), (0.0, info.high), BURN.height)
    spent = info.spent[-1][1]
    owed = f"M{frame.x(info.now_s):g} {frame.y(spent):g}V{frame.y(spent + info.committed):g}"
    lines = (
        f'<path d="{frame.line(info.spent)}" class="seer-line"><title>spent</title></path>'
        f'<path d="{owed}" class="seer-owed"><title>committed</title></path>'
    )
    return Drawing(
        title=describe_burn(info),
        axes=frame.axes("time", "money", time_ticks(info.until_s), "$"),
        layers=(
            [Piece("plan", _plan(frame, info))],
            [Piece("limits", _limits(frame, info)), Piece("spent", f"<g>{lines}</g>"), _marks(frame, info.marks)],
        ),
        over=_limit_words(frame, info),
    )


def describe_curves(info: CurvesInfo) -> str:
    """Summarise the learning curves in a sentence."""
    best = info.best
    top = "" if best is None else f"; best {format_value(best.value)} by trial {best.trial} at epoch {best.best_epoch}"
    leading = "1 leading trial" if len(info.coloured) == 1 else f"{len(info.coloured)} leading trials"
    return f"{info.metric} by epoch: {leading} in colour, {len(info.others)} others in grey{top}"


def describe_parallelism(info: ParallelismInfo) -> str:
    """Summarise the workers over time in a sentence."""
    size, wanted = step_value_at(info.size, info.now_s), step_value_at(info.wanted, info.now_s)
    return (
        f"workers of each trial over time: {size:g} ready now, {wanted:g} wanted, at most {info.high:g}; "
        f"{len(info.boots)} boots, {len(info.losses)} losses"
    )


def describe_burn(info: BurnInfo) -> str:
    """Summarise the money over time in a sentence."""
    spent, budget = info.spent[-1][1], info.budgets[-1][1]
    words = f"money over time: {format_usd(spent)} of {format_usd(budget)} spent after {format_duration(info.now_s)}"
    if not info.plan or info.finish_s is None:
        return words
    return f"{words}; about {format_usd(info.plan[-1][1])} expected after {format_duration(info.finish_s)}"


# --- curves ---


def _thinned(trial: TrialView, most: int) -> list[tuple[int, float | None]]:
    every = math.ceil(len(trial.points) / most)
    # Counted from the first epoch, so that points already drawn do not move.
    return [*trial.points[:-1:every], trial.points[-1]]


def _grey(frame: Frame, trials: Sequence[TrialView], pen: Pen) -> Iterator[Piece]:
    for first in range(0, len(trials), CHUNK):
        chunk = trials[first : first + CHUNK]
        data = "".join(pen.curve(frame, trial, GREY_POINTS) for trial in chunk)
        yield Piece(
            f"grey:{chunk[0].trial}",
            f'<path d="{data}" fill="none" stroke="{GREY}" stroke-linecap="round" opacity=".45"/>',
        )


def _curve(frame: Frame, trial: TrialView, style: LineStyle, info: CurvesInfo, pen: Pen) -> str:
    width = 3 if len(trial.points) == 1 else 2
    dashes = f' stroke-dasharray="{SVG_DASHES[style.dash]}"' if style.dash else ""
    end = info.projected.get(trial.trial)
    ahead = ""
    if end is not None and trial.epochs < info.max_epochs and trial.points[-1][1] is not None:
        data = frame.line([trial.points[-1], (info.max_epochs, end)])
        ahead = f'<path d="{data}" stroke-dasharray="1 5" stroke-width="1.5"><title>projected</title></path>'
    return (
        f'<g data-trial="{trial.trial}" tabindex="0" role="button" class="seer-curve" stroke="{style.colour}" '
        f'aria-label="select trial {trial.trial}, {html.escape(info.metric)} {format_value(trial.value)}" '
        f'fill="none" stroke-linecap="round" stroke-linejoin="round">'
        f'<path d="{pen.curve(frame, trial, MAX_POINTS)}" stroke-width="{width}"{dashes}/>{ahead}</g>'
    )


def _best(frame: Frame, info: CurvesInfo) -> str:
    best = info.best
    if best is None or best.best_epoch is None or best.value is None:
        return ""
    x, y = LEFT + frame.x(best.best_epoch), TOP + frame.y(best.value)
    return (
        f'<circle cx="{x:g}" cy="{y:g}" r="6" fill="none" stroke="currentColor" stroke-width="1.5">'
        f"<title>best: trial {best.trial}, epoch {best.best_epoch}: {format_value(best.value)}</title></circle>"
    )


def _ends(frame: Frame, info: CurvesInfo, styles: Mapping[int, LineStyle]) -> str:
    """Draw the coloured trials' names at the ends of their curves."""
    ends = [next((e, v) for e, v in reversed(t.points) if v is not None) for t in info.coloured]
    placed = spread([frame.y(value) for _, value in ends], LABEL_GAP, frame.height)
    parts = []
    for trial, (epoch, value), place in zip(info.coloured, ends, placed, strict=True):
        x, y = LEFT + frame.x(epoch), TOP + frame.y(value)
        leader = f"M{x:g} {y:g}L{x + 12:g} {TOP + place:g}h6"
        star = "★ " if info.best is not None and trial.trial == info.best.trial else ""
        parts.append(
            f'<path d="{leader}" fill="none" stroke="{styles[trial.trial].colour}" opacity=".6"/>'
            f'<text data-trial="{trial.trial}" x="{x + 21:g}" y="{TOP + place + 4:g}">{star}trial {trial.trial}</text>'
        )
    return "".join(parts)


# --- workers ---


def _bands(frame: Frame, info: ParallelismInfo, styles: Mapping[int, LineStyle]) -> Iterator[tuple[str, str]]:
    """Stack the bands from the bottom up."""
    moments = sorted({at_s for band in info.bands for at_s, _ in band.steps})
    floor = [0.0] * len(moments)
    for band in info.bands:
        top = [low + step_value_at(band.steps, at_s) for low, at_s in zip(floor, moments, strict=True)]
        if top != floor:
            name = "others" if band.trial is None else str(band.trial)
            style = styles.get(band.trial) if band.trial is not None else None
            yield name, _band(frame, info, _Area(moments, floor, top), name, style)
        floor = top


class _Area(NamedTuple):
    moments: list[float]
    floor: list[float]
    top: list[float]

    @property
    def now(self) -> tuple[float, float]:
        """Floor and top at the last moment."""
        return self.floor[-1], self.top[-1]


def _band(frame: Frame, info: ParallelismInfo, area: _Area, name: str, style: LineStyle | None) -> str:
    path = _outline(frame, area, info.now_s)
    colour = style.colour if style else GREY
    who = "other trials" if name == "others" else f"trial {name}"
    marked = "" if name == "others" else f' data-trial="{name}"'
    low, high = area.now
    word = ""
    if style and frame.y(low) - frame.y(high) >= ROOM_FOR_TEXT:
        y = (frame.y(low) + frame.y(high)) / 2 + 4
        word = f'<text x="{frame.x(info.now_s) + 4:g}" y="{y:g}">{name}</text>'
    stroke = f' stroke-dasharray="{SVG_DASHES[style.dash]}"' if style else ""
    return (
        f'<g{marked} class="seer-band"><path d="{path}" fill="{colour}" fill-opacity=".45" '
        f'stroke="{colour}"{stroke}><title>workers of {who}</title></path>{word}</g>'
    )


def _outline(frame: Frame, area: _Area, until_s: float) -> str:
    """Return the outline of a band, along its top and back along its floor, without parts of zero height."""
    parts = []
    ends = [*area.moments[1:], until_s]
    run: list[int] = []
    for place in range(len(area.moments) + 1):
        if place < len(area.moments) and area.top[place] > area.floor[place]:
            run.append(place)
        elif run:
            parts.append(_block(frame, area, run, ends))
            run = []
    return "".join(parts)


def _block(frame: Frame, area: _Area, run: Sequence[int], ends: Sequence[float]) -> str:
    there = _stairs(frame, [(area.moments[k], ends[k], area.top[k]) for k in run])
    back = _stairs(frame, [(ends[k], area.moments[k], area.floor[k]) for k in reversed(run)])
    return f"M{there}L{back}Z"


def _stairs(frame: Frame, pieces: Sequence[tuple[float, float, float]]) -> str:
    """Join horizontal pieces (from, to, height) by vertical lines, and merge neighbours of equal height."""
    begin, _, height = pieces[0]
    text = f"{frame.x(begin):g} {frame.y(height):g}"
    for place, (_, end, value) in enumerate(pieces):
        if value != height:
            text += f"V{frame.y(value):g}"
            height = value
        if place + 1 == len(pieces) or pieces[place + 1][2] != value:
            text += f"H{frame.x(end):g}"
    return text


def _boots(frame: Frame, info: ParallelismInfo) -> str:
    """Draw boots as bars and lost machines as crosses along the upper edge."""
    bars = "".join(f"M{frame.x(begin):g} 5H{frame.x(end):g}" for begin, end in info.boots)
    crosses = "".join(f"M{frame.x(at_s) - 4:g} 8l8 8m-8 0l8 -8" for at_s in info.losses)
    return (
        f'<g><path d="{bars}" class="seer-boot"><title>machines booting</title></path>'
        f'<path d="{crosses}" class="seer-loss"><title>machines lost</title></path></g>'
    )


# --- money ---


def _plan(frame: Frame, info: BurnInfo) -> str:
    if not info.plan:
        return "<g></g>"
    low = [(at_s, low) for at_s, _, low, _ in info.plan]
    high = [(at_s, high) for at_s, _, _, high in info.plan]
    band = frame.line(high) + frame.line(reversed(low)).replace("M", "L", 1) + "Z"
    middle = frame.line((at_s, cost) for at_s, cost, _, _ in info.plan)
    end_s, end, _, _ = info.plan[-1]
    return (
        f'<g><path d="{band}" class="seer-plan"><title>forecast band</title></path>'
        f'<path d="{middle}" class="seer-dotted"><title>expected</title></path>'
        f'<circle cx="{frame.x(end_s):g}" cy="{frame.y(end):g}" r="4" class="seer-end"><title>expected end: '
        f"{format_usd(end)} after {format_duration(end_s)}</title></circle></g>"
    )


def _limits(frame: Frame, info: BurnInfo) -> str:
    deadline_s = info.deadlines[-1][1]
    budget = frame.stairs(info.budgets, info.until_s * 1.02)
    return (
        f'<g><path d="{budget}" class="seer-limit"><title>budget</title></path>'
        f'<path d="{frame.upright(deadline_s)}" class="seer-limit"><title>deadline</title></path></g>'
    )


def _limit_words(frame: Frame, info: BurnInfo) -> str:
    """Label the budget's line, to the right of the frame."""
    y = TOP + frame.y(info.budgets[-1][1])
    return f'<text x="{LEFT + frame.width + 4}" y="{y + 4:g}">budget</text>'


# --- both ---


def _marks(frame: Frame, marks: Iterable[tuple[float, str]]) -> Piece:
    """Draw a flagged line at each change of a limit."""
    text = "".join(
        f'<path d="{frame.upright(at_s)}m0 0l0 -{frame.height}l7 4l-7 4" class="seer-mark">'
        f"<title>{html.escape(words)} after {format_duration(at_s)}</title></path>"
        for at_s, words in marks
    )
    return Piece("marks", f"<g>{text}</g>")
