"""Parse money and time as users write them into whole micro-dollars and seconds, and format them."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from numbers import Integral, Real
from typing import TypeGuard

from seer_nb._utils.text import short_repr

MICRO = 1_000_000
"""Micro-dollars per dollar."""
MAX_DOLLARS = 10**12
"""Largest amount, so that micro-dollars fit into 64 bits wherever they are stored."""
MAX_SECONDS = 1e10
"""Longest time, about 300 years."""
MONEY_HINT = 'expected dollars such as "$0.50" or 0.5'
TIME_HINT = 'expected a time such as "10min", "1h30m", 90 (seconds) or a timedelta'
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
    """Parse an amount of money.

    Args:
        value: Dollars as "$0.50", "0.50", "0.5 USD", int, float or Decimal.
        name: Name of the argument, for error messages.
        zero: Whether 0 is allowed.

    Returns:
        Whole micro-dollars, rounded down.

    Raises:
        TypeError: The type cannot be an amount.
        ValueError: The value is invalid text, NaN, infinite, negative, too large, or 0 unless that is allowed.
    """
    dollars = _dollars(value, name)
    if dollars < 0 or (dollars == 0 and not zero):
        bad = "negative" if zero else "not more than 0"
        raise ValueError(f"{name}={short_repr(value)}: {bad}; {MONEY_HINT}")
    if dollars > MAX_DOLLARS:
        raise ValueError(f"{name}={short_repr(value)}: more than $1e12; {MONEY_HINT}")
    micro = int(dollars.quantize(Decimal("0.000001"), rounding=ROUND_DOWN) * MICRO)
    if micro == 0 and not zero:
        raise ValueError(f"{name}={short_repr(value)}: less than $0.000001; {MONEY_HINT}")
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
        # Convert through the shortest text of the float, so that 0.1 means exactly a tenth.
        number = _as_float(value)
        dollars = Decimal(repr(number)) if math.isfinite(number) else None
    else:
        raise TypeError(f"{name}={short_repr(value)}: not an amount of money; {MONEY_HINT}")
    if dollars is None:
        raise ValueError(f"{name}={short_repr(value)}: not an amount of money; {MONEY_HINT}")
    return dollars


def _one_sign(found: re.Match[str]) -> bool:
    return not (found["sign"] and found["number"][0] in "+-")


def parse_duration(value: object, name: str) -> float:
    """Parse a length of time.

    Args:
        value: Text such as "10min", "90s", "1h30m", "1.5 h" or "2 days", or a timedelta. Numbers, and text without a
            unit, are seconds.
        name: Name of the argument, for error messages.

    Returns:
        Seconds, more than 0.

    Raises:
        TypeError: The type cannot be a time.
        ValueError: The value is invalid text, NaN, infinite, 0, negative or too long.
    """
    return _positive_seconds(value, name, TIME_HINT)


def parse_deadline(value: object, wall_now: float) -> tuple[float, float | None]:
    """Parse a deadline.

    Args:
        value: A length of time as for `parse_duration`, or an aware datetime.
        wall_now: Current time in unix seconds.

    Returns:
        Seconds from now; and the deadline in unix seconds if it was given as a datetime, otherwise None.

    Raises:
        TypeError: The type cannot be a deadline.
        ValueError: The deadline has passed, the datetime is naive, or `parse_duration` raises.
    """
    if not isinstance(value, datetime):
        return _positive_seconds(value, "deadline", DEADLINE_HINT), None
    if value.utcoffset() is None:
        raise ValueError(
            f"deadline={short_repr(value)}: has no time zone; expected an aware datetime such as "
            "datetime.now().astimezone() + timedelta(hours=1)"
        )
    wall = value.timestamp()
    if wall <= wall_now:
        raise ValueError(f"deadline={short_repr(value)}: has already passed; {DEADLINE_HINT}")
    return wall - wall_now, wall


def _positive_seconds(value: object, name: str, hint: str) -> float:
    seconds = _seconds(value, name, hint)
    if not math.isfinite(seconds):
        raise ValueError(f"{name}={short_repr(value)}: not a length of time; {hint}")
    if seconds <= 0:
        raise ValueError(f"{name}={short_repr(value)}: not more than 0 seconds; {hint}")
    if seconds > MAX_SECONDS:
        raise ValueError(f"{name}={short_repr(value)}: longer than 300 years; {hint}")
    return seconds


def _seconds(value: object, name: str, hint: str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return _seconds_of_text(value)
    if isinstance(value, Decimal) or _is_real(value):
        return _as_float(value)
    raise TypeError(f"{name}={short_repr(value)}: not a length of time; {hint}")


def _seconds_of_text(text: str) -> float:
    """Return seconds; NaN if the text is invalid."""
    text = text.strip().lower()
    if re.fullmatch(_NUMBER, text):
        return float(text)
    total, at, seen = 0.0, 0, set()
    while at < len(text):
        part = _PART.match(text, at)
        unit = _SECONDS.get(part[2]) if part else None
        # "1h 1h" is more likely a typing error than two hours.
        if part is None or unit is None or unit in seen:
            return math.nan
        total += float(part[1]) * unit
        at = part.end()
        seen.add(unit)
    return total if seen else math.nan


def format_money(micro: int) -> str:
    """Format micro-dollars as "$1.23" or "$0.0017".

    Amounts of a dollar or more have cents, smaller ones three significant digits. Only zero is shown as "$0.00".
    """
    sign, amount = ("-" if micro < 0 else ""), abs(micro)
    if amount >= MICRO or amount == 0:
        return f"{sign}${amount / MICRO:.2f}"
    digits = f"{float(f'{amount / MICRO:.3g}'):.6f}".rstrip("0")
    whole, _, decimals = digits.partition(".")
    return f"{sign}${whole}.{decimals:0<2}"


def format_usd(dollars: float) -> str:
    """Format dollars as `format_money` does."""
    return format_money(round(MICRO * dollars))


def format_duration(seconds: float) -> str:
    """Format seconds as "0.5 s", "1 min 20 s", "2 h 5 min" or "3 d 4 h": the two largest units, without zeros."""
    if not math.isfinite(seconds):
        return "unlimited" if seconds == math.inf else "unknown"
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < 9.95:  # noqa: PLR2004 - rounds to one digit before the point
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
    """Convert to float; NaN if the number is too large."""
    try:
        return float(int(value)) if isinstance(value, Integral) else float(value)
    except (OverflowError, ValueError):
        return math.nan
