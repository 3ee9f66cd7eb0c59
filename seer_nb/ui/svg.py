"""The learning curves as inline SVG, without a script: it is still seen in a saved notebook."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

from seer_nb.ui.view import GREY, N_OTHERS, OKABE_ITO, CurvesInfo, TrialView, format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 720, 280
LEFT, RIGHT, TOP, BOTTOM = 64, 90, 10, 42
MAX_POINTS = 80
"""Of a curve."""
LABEL_GAP = 15
DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "12 3 2 3 2 3")
_N_TICKS = 5


def curves_svg(info: CurvesInfo) -> str:
    """The figure; nothing when there are no curves yet."""
    if not info.coloured and not info.others:
        return ""
    plot = _Plot(info)
    others = "".join(plot.path(trial, GREY, 1, "") for trial in info.others[:N_OTHERS])
    lines = "".join(
        plot.path(trial, colour, 2, dash) for trial, colour, dash in zip(info.coloured, OKABE_ITO, DASHES, strict=False)
    )
    label = html.escape(describe(info))
    # An inner svg cuts off what lies outside of it, without an id, which two figures on one page could share.
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" '
        f'style="width:100%;max-width:{WIDTH}px;height:auto" font-family="inherit" font-size="13" fill="currentColor">'
        f"<title>{label}</title>{plot.axes()}"
        f'<svg x="{LEFT}" y="{TOP}" width="{plot.width}" height="{plot.height}">'
        f'<g opacity=".45">{others}</g>{lines}</svg>{plot.mark()}{plot.labels()}</svg>'
    )


def describe(info: CurvesInfo) -> str:
    """The figure in a sentence."""
    best = info.best
    top = "" if best is None else f"; best {format_value(best.value)} by trial {best.trial} at epoch {best.epoch}"
    leading = "1 leading trial" if len(info.coloured) == 1 else f"{len(info.coloured)} leading trials"
    return f"{info.metric} by epoch: {leading} in colour, {len(info.others)} others in grey{top}"


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers between low and high."""
    rough = (high / 2 - low / 2) * 2 / _N_TICKS
    if not 0 < rough < math.inf:
        return []
    size = 10.0 ** math.floor(math.log10(rough))
    step = next((size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough), rough)
    first = math.ceil(low / step)
    return [place * step for place in range(first, math.floor(high / step) + 1)]


def spread(wanted: Sequence[float], gap: float, lowest: float) -> list[float]:
    """Places as near as can be to those wanted, at least a gap apart, none beyond the lowest end of the page."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    placed = list(wanted)
    last = -math.inf
    for index in order:
        placed[index] = last = max(wanted[index], last + gap)
    limit = lowest
    for index in reversed(order):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - gap
    return placed


class _Plot:
    """From epochs and values to places on the page."""

    def __init__(self, info: CurvesInfo) -> None:
        self.info = info
        self.width = WIDTH - LEFT - RIGHT
        self.height = HEIGHT - TOP - BOTTOM
        self._last = max(2, info.max_epochs)

    def x(self, epoch: int) -> float:
        """Within the inner svg."""
        return 4 + (epoch - 1) / (self._last - 1) * (self.width - 8)

    def y(self, value: float) -> float:
        """Within the inner svg; far outliers are held just outside of it."""
        info = self.info
        share = (value / 2 - info.low / 2) / (info.high / 2 - info.low / 2)
        return self.height * (1 - min(2.0, max(-1.0, share)))

    def path(self, trial: TrialView, colour: str, width: int, dash: str) -> str:
        """A curve, with gaps where a value was not finite."""
        every = math.ceil(len(trial.points) / MAX_POINTS)
        kept = [*trial.points[:-1:every], trial.points[-1]]
        steps, pen = [], "M"
        for epoch, value in kept:
            if value is None:
                pen = "M"
                continue
            steps.append(f"{pen}{self.x(epoch):.1f} {self.y(value):.1f}")
            pen = "L"
        if len(steps) == 1:
            # A single point is seen as a dot: the caps are round.
            steps, width = [*steps, "h.01"], 4
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        return (
            f'<path d="{"".join(steps)}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linecap="round" '
            f'stroke-linejoin="round"{dashes}><title>trial {trial.trial}</title></path>'
        )

    def axes(self) -> str:
        """Lines and numbers."""
        bottom = TOP + self.height
        parts = []
        for value in ticks(self.info.low, self.info.high):
            y = TOP + self.y(value)
            parts.append(
                f'<path d="M{LEFT} {y:.1f}h{self.width}" stroke="currentColor" opacity=".15"/>'
                f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.6g}</text>'
            )
        for epoch in _epochs(self._last):
            x = LEFT + self.x(epoch)
            parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{epoch}</text>')
        middle = TOP + self.height / 2
        return (
            f'<path d="M{LEFT} {TOP}V{bottom}h{self.width}" fill="none" stroke="currentColor" opacity=".5"/>'
            f"{''.join(parts)}"
            f'<text x="{LEFT + self.width / 2}" y="{bottom + 34}" text-anchor="middle">epoch</text>'
            f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">'
            f"{html.escape(self.info.metric)}</text>"
        )

    def mark(self) -> str:
        """A ring around the best report."""
        best = self.info.best
        if best is None or best.epoch is None or best.value is None:
            return ""
        x, y = LEFT + self.x(best.epoch), TOP + self.y(best.value)
        return (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="none" stroke="currentColor" stroke-width="1.5">'
            f"<title>best: trial {best.trial}, epoch {best.epoch}: {format_value(best.value)}</title></circle>"
        )

    def labels(self) -> str:
        """The coloured trials' names, where their curves end."""
        ends = [next((e, v) for e, v in reversed(t.points) if v is not None) for t in self.info.coloured]
        placed = spread([self.y(value) for _, value in ends], LABEL_GAP, self.height)
        parts = []
        for trial, (epoch, value), place, colour in zip(self.info.coloured, ends, placed, OKABE_ITO, strict=False):
            x, y = LEFT + self.x(epoch), TOP + self.y(value)
            leader = f"M{x:.1f} {y:.1f}L{x + 12:.1f} {TOP + place:.1f}h6"
            parts.append(
                f'<path d="{leader}" fill="none" stroke="{colour}" opacity=".6"/>'
                f'<text x="{x + 21:.1f}" y="{TOP + place + 4:.1f}">trial {trial.trial}</text>'
            )
        return "".join(parts)


def _epochs(last: int) -> list[int]:
    inner = [round(tick) for tick in ticks(1, last) if tick == round(tick) and tick > 1]
    # No tick so near to the last one that their numbers touch.
    return [1, *(tick for tick in inner if last - tick > 0.06 * last), last]
