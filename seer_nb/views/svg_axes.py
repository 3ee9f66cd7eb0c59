"""Axes of svg figures: data to pixel coordinates, round tick values, labels without overlap."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from seer_nb._utils.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from seer_nb.core.history import Steps


Unit: TypeAlias = Literal["", "$", "whole"]
WIDTH = 720
LEFT, RIGHT, TOP, BOTTOM = 78, 110, 12, 42
_N_TICKS = 5
_TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


class Frame:
    """Plotting area with axes. Coordinates are rounded to 0.1 pixels, so that negligible moves do not change the svg.

    Args:
        x: (low, high) of the horizontal axis.
        y: (low, high) of the vertical axis.
        height: Height of the whole figure, in units of its view box.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], height: int = 280) -> None:
        self.x_range, self.y_range = x, y
        self.full_height = height
        self.width = WIDTH - LEFT - RIGHT
        self.height = height - TOP - BOTTOM

    def x(self, value: float) -> float:
        """Return the horizontal coordinate of a value inside the frame."""
        low, high = self.x_range
        return round(4 + (value - low) / (high - low) * (self.width - 8), 1)

    def y(self, value: float) -> float:
        """Return the vertical coordinate of a value; far outliers are clamped to just outside the frame."""
        low, high = self.y_range
        share = (value / 2 - low / 2) / (high / 2 - low / 2)
        return round(self.height * (1 - min(2.0, max(-1.0, share))), 1)

    def line(self, points: Iterable[tuple[float, float | None]]) -> str:
        """Return the data of a path through the points, with gaps at missing values."""
        steps, pen = [], "M"
        for at, value in points:
            if value is None:
                pen = "M"
                continue
            steps.append(f"{pen}{self.x(at):g} {self.y(value):g}")
            pen = "L"
        # Round line caps draw a single point as a dot.
        return "".join(steps) + ("h.01" if len(steps) == 1 else "")

    def stairs(self, steps: Steps, until: float) -> str:
        """Return the data of a path that holds each value until the next one."""
        if not steps:
            return ""
        rest = "".join(f"H{self.x(at):g}V{self.y(value):g}" for at, value in steps[1:])
        return f"M{self.x(steps[0][0]):g} {self.y(steps[0][1]):g}{rest}H{self.x(until):g}"

    def upright(self, at: float) -> str:
        """Return the data of a vertical line."""
        return f"M{self.x(at):g} 0V{self.height}"

    def axes(self, x_label: str, y_label: str, x_ticks: Iterable[tuple[float, str]], unit: Unit = "") -> str:
        """Draw grid lines, tick labels and axis labels; ``unit`` belongs to the vertical axis."""
        bottom = TOP + self.height
        parts = []
        for value in ticks(*self.y_range, whole=unit == "whole"):
            y = TOP + self.y(value)
            number = f"${value:,.6g}" if unit == "$" else f"{value:.6g}"
            parts.append(
                f'<path d="M{LEFT} {y:g}h{self.width}" stroke="currentColor" opacity=".15"/>'
                f'<text x="{LEFT - 6}" y="{y + 4:g}" text-anchor="end">{number}</text>'
            )
        for value, word in x_ticks:
            parts.append(f'<text x="{LEFT + self.x(value):g}" y="{bottom + 16}" text-anchor="middle">{word}</text>')
        middle = TOP + self.height / 2
        return (
            f'<path d="M{LEFT} {TOP}V{bottom}h{self.width}" fill="none" stroke="currentColor" opacity=".5"/>'
            f"{''.join(parts)}"
            f'<text x="{LEFT + self.width / 2:g}" y="{bottom + 34}" text-anchor="middle">{html.escape(x_label)}</text>'
            f'<text transform="translate(12 {middle:g}) rotate(-90)" text-anchor="middle">{html.escape(y_label)}</text>'
        )


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return about five round numbers between low and high; with ``whole`` only integers."""
    step = _step(low, high)
    if step is None:
        return []
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [place * step for place in range(first, math.floor(high / step + 1e-9) + 1)]


def widened(low: float, high: float) -> tuple[float, float]:
    """Round a range outwards, because every change of the range redraws all curves."""
    step = _step(low, high)
    if step is None:
        return low, high
    half = step / 2
    # Float rounding must not exclude the ends of a tiny range.
    return min(low, math.floor(low / half) * half), max(high, math.ceil(high / half) * half)


def time_ticks(until_s: float) -> list[tuple[float, str]]:
    """Return round times from 0 on with their labels."""
    step = next((step for step in _TIME_STEPS_S if until_s / step <= _N_TICKS + 1), None)
    step = step or math.ceil(until_s / _N_TICKS / 86400) * 86400
    return [(place * step, format_duration(place * step)) for place in range(math.floor(until_s / step) + 1)]


def epoch_ticks(last: int) -> list[tuple[float, str]]:
    """Return the first epoch, the last epoch and round ones between, without labels that would touch the last one."""
    inner = [round(tick) for tick in ticks(1, last) if tick == round(tick) and tick > 1]
    shown = [1, *(tick for tick in inner if last - tick > 0.06 * last), last]
    return [(float(epoch), str(epoch)) for epoch in shown]


def spread(wanted: Sequence[float], gap: float, lowest: float) -> list[float]:
    """Move label positions as little as possible, so that they are ``gap`` apart and at most ``lowest``."""
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


def _step(low: float, high: float) -> float | None:
    rough = (high / 2 - low / 2) * 2 / _N_TICKS
    if not 0 < rough < math.inf:
        return None
    size = 10.0 ** math.floor(math.log10(rough))
    return next((size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough), rough)
