"""Tables to try methods on: SYNTHETIC samples of additive manufacturing, and a user's own in the same columns.

Fused filament fabrication (FFF): five settings of a printer, three properties of what it prints. Which settings and
which properties is known from the abstract of a published study of such a printer; its samples and numbers are not, so
``make_fff`` makes samples up.
"""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Column = NDArray[np.float64]


SYNTHETIC = (
    "SYNTHETIC: made up by seer_nb.datasets.make_fff to try methods on; neither measured nor taken from any publication"
)


class Limits(NamedTuple):
    """What a column may hold; the number is in the unit that its name ends with."""

    low: float
    high: float


INPUTS = {
    "layer_thickness_mm": Limits(0.01, 5),
    "build_orientation_deg": Limits(0, 360),
    "extrusion_temperature_c": Limits(100, 500),
    "building_temperature_c": Limits(0, 300),
    "print_speed_mm_s": Limits(1, 1000),
}
"""The five settings."""
OUTPUTS = {
    "dimension_accuracy_percent": Limits(0, 100),
    "porosity_percent": Limits(0, 100),
    "tensile_strength_mpa": Limits(0, 1000),
}
"""The three properties."""
LEAST = 2


def make_fff(n: int = 120, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """SYNTHETIC samples: smooth, nonlinear, with interactions, and 2 % noise. Not measured, and of no publication.

    They have the columns of a study of additive manufacturing, and plausible ranges; the formulas behind them are our
    own, and say nothing of any printer.

    Args:
        n: Samples.
        seed: Of their settings and of the noise.

    Returns:
        Inputs (n, 5) and outputs (n, 3); ``attrs["source"]`` of both says that they are synthetic.

    Raises:
        TypeError, ValueError: n or seed is no whole number, or too small.
    """
    import numpy as np
    import pandas as pd

    n = check_integer(n, "n", LEAST)
    rng = np.random.default_rng(check_integer(seed, "seed", 0))
    settings = (
        rng.choice([0.1, 0.2, 0.3], n),
        rng.choice([0.0, 45.0, 90.0], n),
        rng.uniform(200, 230, n),
        rng.uniform(40, 100, n),
        rng.uniform(50, 150, n),
    )
    clean = np.column_stack(_response(*settings))
    noisy = clean + 0.02 * clean.std(axis=0) * rng.standard_normal(clean.shape)
    x = pd.DataFrame(np.column_stack(settings), columns=list(INPUTS))
    y = pd.DataFrame(noisy, columns=list(OUTPUTS))
    x.attrs["source"] = y.attrs["source"] = SYNTHETIC
    return x, y


def _response(
    layer: Column, orientation: Column, extrusion: Column, building: Column, speed: Column
) -> tuple[Column, Column, Column]:
    """Accuracy, porosity and strength: made up, so that each setting matters, and some only together."""
    import numpy as np

    coarse, fast = (layer - 0.2) / 0.1, (speed - 100) / 50
    heat, warm = (extrusion - 215) / 15, (building - 70) / 30
    turn = np.sin(np.radians(orientation))
    # What is laid down fast and cold does not melt together.
    unmelted = np.log1p(np.exp(1.5 * fast - 1.2 * heat - 0.8 * warm))
    accuracy = 97.5 - 0.5 * coarse - 0.4 * fast**2 - 0.5 * (heat + 0.5 * warm - 0.3) ** 2 - 0.6 * turn * coarse
    porosity = 4.5 + 1.1 * coarse + 1.3 * unmelted + 0.5 * coarse * fast + 0.4 * turn
    strength = 44 - 6.5 * turn**2 - 4 * np.tanh(unmelted) - 1.8 * coarse + 2.2 * warm * (1 - 0.5 * turn) - heat**2
    return accuracy, porosity, strength


def read_fff(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Samples of your own, from a csv file with the columns of ``make_fff``; others in it are left out.

    Args:
        path: Of the file, with a line of names and then a line a sample.

    Returns:
        Inputs (samples, 5) and outputs (samples, 3); ``attrs["source"]`` of both is the path.

    Raises:
        TypeError: The path is none.
        FileNotFoundError: There is no such file.
        ValueError: A column is missing or there twice, or a value is no number within its limits (``INPUTS`` and
            ``OUTPUTS``); the sentence names the column, the value and its line.
    """
    import pandas as pd

    if not isinstance(path, str | os.PathLike):
        raise TypeError(f'path={short_repr(path)} is not a path: give one such as "prints.csv"')
    columns = INPUTS | OUTPUTS
    names, rows = _lines(path)
    _check_names(path, names, columns)
    if len(rows) < LEAST:
        raise ValueError(f"path={str(path)!r} holds {len(rows)} samples: at least {LEAST} are needed")
    found = {
        name: [_number(row, names.index(name), name, line, limits) for line, row in rows]
        for name, limits in columns.items()
    }
    frame = pd.DataFrame(found)
    x, y = frame[list(INPUTS)], frame[list(OUTPUTS)]
    x.attrs["source"] = y.attrs["source"] = str(path)
    return x, y


def _lines(path: str | os.PathLike[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the columns, and the rows that are not empty with their lines' numbers."""
    try:
        # As spreadsheets write it, also with a mark at the beginning.
        with open(path, newline="", encoding="utf-8-sig") as file:  # noqa: PTH123 - any path
            reader = csv.reader(file)
            names = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"path={os.fspath(path)!r} is not a csv file of UTF-8 text: {error}") from None
    return names, rows


def _check_names(path: Any, names: list[str], columns: dict[str, Limits]) -> None:
    for name in columns:
        if names.count(name) != 1:
            what = "twice" if name in names else "not"
            has = ", ".join(map(repr, names)) or "no columns"
            raise ValueError(
                f"path={os.fspath(path)!r} has the column {name!r} {what}: it must have each of {', '.join(columns)} "
                f"once, but has {short_repr(has)[1:-1]}"
            )


def _number(row: list[str], place: int, name: str, line: int, limits: Limits) -> float:
    text = row[place].strip() if place < len(row) else ""
    allowed = f"give a number from {limits.low:g} to {limits.high:g}"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(
            f"column {name!r} has {short_repr(text)} in line {line}, which is no number: {allowed}"
        ) from None
    if not limits.low <= value <= limits.high:  # also if it is NaN
        raise ValueError(f"column {name!r} has {short_repr(text)} in line {line}, which is out of bounds: {allowed}")
    return value
