"""Price tables as CSV files: the sheet that ships with the package, and the user's prices.csv."""

from __future__ import annotations

import csv
import io
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MAX_DOLLARS
from seer_nb.providers.prices.price import PROVIDERS, USER_SOURCE, Key, Price, to_micro
from seer_nb.storage import layout, signing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


SHEET = Path(__file__).with_name("sheet.csv")
NAME = "prices.csv"
COLUMNS = ("provider", "region", "instance_type", "vcpus", "memory_gib", "gpus", "gpu_model", "usd_per_hour")
OPTIONAL_COLUMNS = ("spot_usd_per_hour", "source")
"""Columns that a file may leave out."""
_MAX_DIGITS = 10
"""Digits from which on a number of CPUs or GPUs is not plausible."""
_DATE = "# date: "
_HEADER = [
    "# Prices that override those that ship with seer_nb, in dollars per hour.",
    "# seer-nb prices --refresh replaces rows with a source. Rows without a source are yours, and stay.",
]

_T = TypeVar("_T")
Table = dict[Key, Price]


def user_prices_path() -> Path:
    """Return the path of the user's prices.csv, which may not exist."""
    return layout.home() / NAME


@cache
def bundled() -> Table:
    """Return the sheet that ships with the package."""
    text = SHEET.read_text("utf-8")
    date = next(line.removeprefix(_DATE) for line in text.splitlines() if line.startswith(_DATE))
    return _read(text, "the sheet", f"sheet of {date}")


def own_prices() -> Table:
    """Return the user's own prices and the refreshed ones.

    Raises:
        ValueError: The file is invalid; the message names the line.
        UntrustedError: Another user may have written the file: with too low a price, a study would spend too much.
    """
    path = user_prices_path()
    if not path.exists():
        return {}
    signing.check_own(path, "a study's spending depends on it")
    # utf-8-sig, because spreadsheets write a byte order mark.
    return _read(path.read_text("utf-8-sig"), str(path), USER_SOURCE)


def all_prices() -> Table:
    """Return all prices; the user's own override the sheet's."""
    return {**bundled(), **own_prices()}


def write(prices: Iterable[Price]) -> Path:
    """Write the user's file atomically and return its path; comments of the old file are kept."""
    from seer_nb._utils.files import write_atomically

    path = user_prices_path()
    old = path.read_text("utf-8-sig").splitlines() if path.exists() else []
    out = io.StringIO()
    out.writelines(f"{line}\n" for line in [line for line in old if line.startswith("#")] or _HEADER)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*COLUMNS, *OPTIONAL_COLUMNS))
    writer.writerows(_cells(price) for price in prices)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, out.getvalue().encode())
    return path


def _cells(price: Price) -> list[object]:
    spot = "" if price.spot_per_hour_micro is None else _dollars(price.spot_per_hour_micro)
    source = "" if price.source == USER_SOURCE else price.source
    machine = [price.vcpus, f"{price.memory_gib:g}", price.gpus, price.gpu_model]
    return [*price.key, *machine, _dollars(price.per_hour_micro), spot, source]


def _dollars(price_micro: int) -> str:
    return format(Decimal(price_micro).scaleb(-6).normalize(), "f")


def _read(text: str, where: str, source: str) -> Table:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    if not lines:
        return {}
    names = _row(lines[0][1])
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ValueError(f"{where}: no column {missing[0]}; expected {', '.join(COLUMNS)} in the first line")
    table: Table = {}
    for number, line in lines[1:]:
        # Cells that are missing at the end of a line are empty.
        row = dict.fromkeys(names, "") | dict(zip(names, _row(line), strict=False))
        price = _price(row, f"{where}, line {number}", source)
        if price.key in table:
            raise ValueError(f"{where}, line {number}: second price for {' '.join(price.key)}; expected one")
        table[price.key] = price
    return table


def _row(line: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]


def _price(row: Mapping[str, str], where: str, source: str) -> Price:
    def cell(name: str, expected: str, parse: Callable[[str], _T | None]) -> _T:
        found = parse(row[name])
        if found is None:
            raise ValueError(f"{where}: {name}={short_repr(row[name])}; expected {expected}")
        return found

    spot = row.get("spot_usd_per_hour", "")
    return Price(
        provider=cell("provider", f"one of {', '.join(PROVIDERS)}", lambda text: text if text in PROVIDERS else None),
        region=cell("region", "the name of a region", lambda text: text or None),
        instance_type=cell("instance_type", "the name of a machine type", lambda text: text or None),
        vcpus=cell("vcpus", "an integer >= 1", lambda text: _integer(text, 1)),
        memory_gib=cell("memory_gib", "a number > 0", _size),
        gpus=cell("gpus", "an integer >= 0, or nothing", lambda text: _integer(text or "0", 0)),
        gpu_model=row["gpu_model"],
        per_hour_micro=cell("usd_per_hour", "a number of dollars such as 0.526", _price_micro),
        spot_per_hour_micro=cell("spot_usd_per_hour", "a number of dollars, or nothing", _price_micro)
        if spot
        else None,
        source=row.get("source") or source,
    )


def _integer(text: str, least: int) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS and int(text) >= least else None


def _size(text: str) -> float | None:
    number = _number(text)
    return float(number) if number else None


def _price_micro(text: str) -> int | None:
    number = _number(text)
    return None if number is None else to_micro(number)


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number <= MAX_DOLLARS else None
