"""Price tables as files: the sheet that ships with the package, and the user's own, read strictly and written whole."""

from __future__ import annotations

import csv
import io
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from seer_nb._utils.text import show
from seer_nb._utils.units import MAX_DOLLARS
from seer_nb.providers.prices.price import PROVIDERS, YOURS, Key, Price, micro
from seer_nb.storage import layout, signing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


SHEET = Path(__file__).with_name("sheet.csv")
NAME = "prices.csv"
COLUMNS = ("provider", "region", "instance_type", "vcpus", "memory_gib", "gpus", "gpu_model", "usd_per_hour")
MORE_COLUMNS = ("spot_usd_per_hour", "source")
"""Those that a file may leave out."""
_DIGITS = 10
"""No machine has so many of anything."""
_DATE = "# date: "
_HEAD = [
    "# Prices that come before those that ship with seer_nb, in dollars per hour.",
    "# Rows with a source are replaced by: seer-nb prices --refresh. Rows without one are yours, and stay.",
]

_T = TypeVar("_T")
Table = dict[Key, Price]


def yours_path() -> Path:
    """Where the user's own prices lie, if there are any."""
    return layout.home() / NAME


@cache
def shipped() -> Table:
    """The sheet."""
    text = SHEET.read_text("utf-8")
    date = next(line.removeprefix(_DATE) for line in text.splitlines() if line.startswith(_DATE))
    return _read(text, "the sheet", f"sheet of {date}")


def yours() -> Table:
    """The user's own prices, and those that were refreshed.

    Raises:
        ValueError: For a file that cannot be understood; the sentence names the line.
        UntrustedError: Somebody else may have written it: by a price too low, the budget would buy too much.
    """
    path = yours_path()
    if not path.exists():
        return {}
    signing.check_own(path, "a study's spending would go by it")
    # utf-8-sig, for spreadsheets put a mark at the beginning.
    return _read(path.read_text("utf-8-sig"), str(path), YOURS)


def known() -> Table:
    """All prices; the user's own win."""
    return {**shipped(), **yours()}


def write(prices: Iterable[Price]) -> Path:
    """Write the user's file: readers see the old one or the whole new one. Comments of the old one are kept."""
    from seer_nb._utils.files import write_atomically

    path = yours_path()
    old = path.read_text("utf-8-sig").splitlines() if path.exists() else []
    out = io.StringIO()
    out.writelines(f"{line}\n" for line in [line for line in old if line.startswith("#")] or _HEAD)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*COLUMNS, *MORE_COLUMNS))
    writer.writerows(_cells(price) for price in prices)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, out.getvalue().encode())
    return path


def _cells(price: Price) -> list[object]:
    spot = "" if price.spot_per_hour is None else _dollars(price.spot_per_hour)
    source = "" if price.source == YOURS else price.source
    machine = [price.vcpus, f"{price.memory_gib:g}", price.gpus, price.gpu_model]
    return [*price.key, *machine, _dollars(price.per_hour), spot, source]


def _dollars(micro: int) -> str:
    return format(Decimal(micro).scaleb(-6).normalize(), "f")


def _read(text: str, where: str, source: str) -> Table:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    if not lines:
        return {}
    names = _row(lines[0][1])
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ValueError(f"{where} has no column {missing[0]}: its first line must name {', '.join(COLUMNS)}")
    table: Table = {}
    for number, line in lines[1:]:
        # Cells that are missing at a line's end are empty.
        row = dict.fromkeys(names, "") | dict(zip(names, _row(line), strict=False))
        price = _price(row, f"{where}, line {number}", source)
        if price.key in table:
            raise ValueError(f"{where}, line {number}: there is a second price for {' '.join(price.key)}; keep one")
        table[price.key] = price
    return table


def _row(line: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]


def _price(row: Mapping[str, str], where: str, source: str) -> Price:
    def cell(name: str, allowed: str, parse: Callable[[str], _T | None]) -> _T:
        found = parse(row[name])
        if found is None:
            raise ValueError(f"{where}: {name}={show(row[name])} is not {allowed}")
        return found

    spot = row.get("spot_usd_per_hour", "")
    return Price(
        provider=cell("provider", f"one of {', '.join(PROVIDERS)}", lambda text: text if text in PROVIDERS else None),
        region=cell("region", "a region's name", lambda text: text or None),
        instance_type=cell("instance_type", "a machine type's name", lambda text: text or None),
        vcpus=cell("vcpus", "a whole number from 1 on", lambda text: _whole(text, 1)),
        memory_gib=cell("memory_gib", "a number of more than 0", _size),
        gpus=cell("gpus", "a whole number from 0 on, or empty", lambda text: _whole(text or "0", 0)),
        gpu_model=row["gpu_model"],
        per_hour=cell("usd_per_hour", "a number of dollars such as 0.526", _micro),
        spot_per_hour=cell("spot_usd_per_hour", "a number of dollars, or empty", _micro) if spot else None,
        source=row.get("source") or source,
    )


def _whole(text: str, least: int) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS and int(text) >= least else None


def _size(text: str) -> float | None:
    number = _number(text)
    return float(number) if number else None


def _micro(text: str) -> int | None:
    number = _number(text)
    return None if number is None else micro(number)


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number <= MAX_DOLLARS else None
