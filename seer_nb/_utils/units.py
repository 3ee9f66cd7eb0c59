"""Money and time as people write them: parsed into whole micro-dollars and seconds, and formatted back."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from numbers import Integral, Real
from typing import TypeGuard

from seer_nb._utils.text import show

MICRO = 1_000_000
"""Micro-dollars in a dollar."""


MAX_DOLLARS = 10**12
MAX_SECONDS = 1e10
"""Some three hundred years."""
"""So that micro-dollars fit into 64 bits wherever they are stored."""
MONEY_HINT = 'give dollars such as "$0.50" or 0.5'
TIME_HINT = 'give a time such as "10min", "1h30m", 90 (seconds) or a timedelta'
DEADLINE_HINT = f"{TIME_HINT}, or a datetime with a time zone"

_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_MONEY = re.compile(rf"(?P<sign>-?)\s*(?:(?:US)?\$)?\s*(?P<number>{_NUMBER})\s*(?:\$|USD|dollars?)?", re.IGNORECASE)
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]+)[\s,]*")
_UNITS = {
    0.001: ("ms", "millisecond", "milliseconds"),
    1.0: ("s", "sec", "secs", "second", "seconds"),
    60.0: ("m", "min", "mins", "minute", "minutes"),
    3600.0: ("h", "hr", "hrs", "hour", "hours"),
    86400.0: ("d", "day", "days"),
    604800.0: ("w", "week", "weeks"),
}
_SECONDS = {word: seconds for seconds, words in _UNITS.items() for word in words}


def parse_money(value: object, name: str, *, zero: bool = False) -> int:
    """Read an amount of money.

    Args:
        value: Dollars: "$0.50", "0.50", "0.5 USD", int, float or Decimal.
        name: Of the argument, for the sentence of an error.
        zero: Whether 0 is allowed.

    Returns:
        Whole micro-dollars, rounded down.

    Raises:
        TypeError: For a type that cannot be an amount.
        ValueError: For unparsable text, NaN, infinity, a negative amount, and 0 unless allowed.
    """
    dollars = _dollars(value, name)
    if dollars < 0 or (dollars == 0 and not zero):
        allowed = "0 or more" if zero else "more than 0"
        raise ValueError(f"{name}={show(value)} is not {allowed}: {MONEY_HINT}")
    if dollars > MAX_DOLLARS:
        raise ValueError(f"{name}={show(value)} is more than $1e12, the most that is counted: {MONEY_HINT}")
    micro = int(dollars.quantize(Decimal("0.000001"), rounding=ROUND_DOWN) * MICRO)
    if micro == 0 and not zero:
        raise ValueError(f"{name}={show(value)} is less than $0.000001, the least that is counted: {MONEY_HINT}")
    return micro


def _dollars(value: object, name: str) -> Decimal:
    dollars: Decimal | None = None
    if isinstance(value, str):
        found = _MONEY.fullmatch(value.strip())
        if found is not None:
            dollars = Decimal(found["sign"] + found["number"]) if _one_sign(found) else None
    elif isinstance(value, Decimal):
        dollars = value if value.is_finite() else None
    elif _is_real(value):
        # Through the float's shortest text, so that 0.1 means a tenth as it is written.
        number = _as_float(value)
        dollars = Decimal(repr(number)) if math.isfinite(number) else None
    else:
        raise TypeError(f"{name}={show(value)} is not an amount of money: {MONEY_HINT}")
    if dollars is None:
        raise ValueError(f"{name}={show(value)} is not an amount of money: {MONEY_HINT}")
    return dollars


def _one_sign(found: re.Match[str]) -> bool:
    return not (found["sign"] and found["number"][0] in "+-")


def parse_duration(value: object, name: str) -> float:
    """Read a length of time.

    Args:
        value: "10min", "90s", "1h30m", "1.5 h", "2 days"; int, float or text without a unit are seconds; a timedelta.
        name: Of the argument, for the sentence of an error.

    Returns:
        Seconds, more than 0.

    Raises:
        TypeError: For a type that cannot be a time.
        ValueError: For unparsable text, NaN, infinity, 0 and negative times.
    """
    return _positive_seconds(value, name, TIME_HINT)


def parse_deadline(value: object, wall_now: float) -> tuple[float, float | None]:
    """Read a deadline.

    Args:
        value: A length of time as for ``parse_duration``, or an aware datetime.
        wall_now: The present, in unix seconds.

    Returns:
        Seconds from now; and the deadline in unix seconds if it was given as a datetime, else None.

    Raises:
        TypeError: For a type that cannot be a deadline.
        ValueError: For what has passed, a naive datetime, and as for ``parse_duration``.
    """
    if not isinstance(value, datetime):
        return _positive_seconds(value, "deadline", DEADLINE_HINT), None
    if value.utcoffset() is None:
        raise ValueError(
            f"deadline={show(value)} has no time zone, so it could mean several moments: give an aware datetime, "
            "such as datetime.now().astimezone() + timedelta(hours=1)"
        )
    wall = value.timestamp()
    if wall <= wall_now:
        raise ValueError(f"deadline={show(value)} has passed already: {DEADLINE_HINT}")
    return wall - wall_now, wall


def _positive_seconds(value: object, name: str, hint: str) -> float:
    seconds = _seconds(value, name, hint)
    if not math.isfinite(seconds):
        raise ValueError(f"{name}={show(value)} is not a length of time: {hint}")
    if seconds <= 0:
        raise ValueError(f"{name}={show(value)} is not more than 0 seconds: {hint}")
    if seconds > MAX_SECONDS:
        raise ValueError(f"{name}={show(value)} is longer than 300 years: {hint}")
    return seconds


def _seconds(value: object, name: str, hint: str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return _seconds_of_text(value)
    if isinstance(value, Decimal) or _is_real(value):
        return _as_float(value)
    raise TypeError(f"{name}={show(value)} is not a length of time: {hint}")


def _seconds_of_text(text: str) -> float:
    """NaN when it cannot be read."""
    text = text.strip().lower()
    if re.fullmatch(_NUMBER, text):
        return float(text)
    total, at, seen = 0.0, 0, set()
    while at < len(text):
        part = _PART.match(text, at)
        unit = _SECONDS.get(part[2]) if part else None
        # "1h 1h" is more likely a slip than two hours.
        if part is None or unit is None or unit in seen:
            return math.nan
        total += float(part[1]) * unit
        at = part.end()
        seen.add(unit)
    return total if seen else math.nan


def format_money(micro: int) -> str:
    """Micro-dollars as "$1.23" or "$0.0017": cents, below a dollar three digits. Nothing but zero looks like zero."""
    sign, amount = ("-" if micro < 0 else ""), abs(micro)
    if amount >= MICRO or amount == 0:
        return f"{sign}${amount / MICRO:.2f}"
    digits = f"{float(f'{amount / MICRO:.3g}'):.6f}".rstrip("0")
    whole, _, decimals = digits.partition(".")
    return f"{sign}${whole}.{decimals:0<2}"


def format_usd(dollars: float) -> str:
    """Dollars, as ``format_money`` writes micro-dollars."""
    return format_money(round(MICRO * dollars))


def format_duration(seconds: float) -> str:
    """Seconds as "0.5 s", "1 min 20 s", "2 h 5 min" or "3 d 4 h": the two largest units, no zeros."""
    if not math.isfinite(seconds):
        return "unlimited" if seconds == math.inf else "unknown"
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < 9.95:  # noqa: PLR2004 - what rounds to one digit before the point
        return "0 s" if seconds == 0 else f"{max(0.1, round(seconds, 1)):g} s"
    whole = round(seconds)
    sizes = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    first = next(place for place, (_, size) in enumerate(sizes) if whole >= size)
    parts = []
    for word, size in sizes[first : first + 2]:
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {word}")
    return " ".join(parts)


def _is_real(value: object) -> TypeGuard[Real]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _as_float(value: Real | Decimal) -> float:
    """Infinite if too large for a float."""
    try:
        return float(int(value)) if isinstance(value, Integral) else float(value)
    except (OverflowError, ValueError):
        return math.nan
