"""``CurveTable``: recorded learning curves of many configurations, on which policies are simulated."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from seer_nb._utils.text import message_of, short_repr
from seer_nb.core.model import Mode
from seer_nb.errors import SeerError
from seer_nb.search_space.surrogate import Features

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from seer_nb.core import Config
    from seer_nb.study.study import Study

    Matrix = NDArray[np.float64]


_PREFIX = "config_"
_NEEDED = ("trial", "epoch", "value")


class CurveTable:
    """Learning curves by configuration; immutable.

    Args:
        configs: One dict per configuration.
        values: Values of the metric, of shape (configurations, epochs); NaN where not finite.
        lengths: Number of recorded epochs per configuration, at least 1.
        mode: "max" or "min".
        test_values: Values of another metric, of the same shape, that no policy sees; None without one.
        epoch_seconds: Seconds of an epoch on one worker, per configuration; None: the same for all.
        name: Title of the table.

    Example:
        >>> import numpy as np
        >>> from seer_nb import simulate
        >>> simulate.CurveTable([{"lr": 0.1}], np.array([[0.5, 0.7]]), [2], "max")
        CurveTable('curves': 1 configurations, 2 epochs, mode='max')
    """

    def __init__(  # noqa: PLR0913 - the columns of a table
        self,
        configs: Sequence[Config],
        values: Matrix,
        lengths: Sequence[int],
        mode: Mode,
        *,
        test_values: Matrix | None = None,
        epoch_seconds: Sequence[float] | None = None,
        name: str = "curves",
    ) -> None:
        self.configs = tuple(configs)
        self.values = _frozen(values)
        self.lengths = tuple(int(length) for length in lengths)
        self.mode: Mode = mode
        self.test_values = None if test_values is None else _frozen(test_values)
        self.epoch_seconds = None if epoch_seconds is None else tuple(float(s) for s in epoch_seconds)
        self.name = name

    def __len__(self) -> int:
        return len(self.configs)

    def __repr__(self) -> str:
        return f"CurveTable({self.name!r}: {len(self)} configurations, {self.max_epochs} epochs, mode={self.mode!r})"

    @property
    def max_epochs(self) -> int:
        """Number of epochs of the longest curve."""
        return max(self.lengths)

    @property
    def best(self) -> float:
        """Best value of all curves."""
        return float(np.nanmin(self.values) if self.mode == "min" else np.nanmax(self.values))

    @cached_property
    def features(self) -> Matrix:
        """Features of the configurations for proposals, one row each."""
        return Features(self.configs)(self.configs)

    def value(self, row: int, epoch: int) -> float | None:
        """Return a configuration's value at an epoch from 1; None where it was not finite.

        A shorter curve continues with its last value.
        """
        value = self.values[row, min(epoch, self.lengths[row]) - 1]
        return float(value) if math.isfinite(value) else None

    def test_value(self, row: int, epoch: int) -> float | None:
        """Return the test value at an epoch from 1; None without one."""
        if self.test_values is None:
            return None
        value = self.test_values[row, min(epoch, self.lengths[row]) - 1]
        return float(value) if math.isfinite(value) else None

    @classmethod
    def read(cls, path: str | Path, mode: Mode | None = None, name: str | None = None) -> CurveTable:
        """Read a parquet or csv file; see ``from_frame`` for its columns.

        Args:
            path: Path of the file.
            mode: "max" or "min"; None: the mode in a parquet file's metadata.
            name: Title of the table; None: the name of the file.

        Raises:
            ValueError: Another suffix, other columns, or no mode in the file and none given.
            SeerError: pyarrow is not installed.

        Example:
            >>> from seer_nb import simulate
            >>> table = simulate.CurveTable.read("curves.csv", mode="max")  # doctest: +SKIP
            >>> len(table), table.max_epochs, table.best  # doctest: +SKIP
        """
        path = Path(path)
        frame = _read_frame(path)
        mode = mode_of_file(path) if mode is None else mode
        if mode is None:
            raise ValueError(f'path={short_repr(str(path))}: the file has no mode; expected mode="min" or mode="max"')
        try:
            return cls.from_frame(frame, mode, path.stem if name is None else name)
        # Raised for values that are not numbers, or too large.
        except (ValueError, TypeError, OverflowError) as error:
            message = " ".join(str(error).split())[:200]
            raise ValueError(f"path={short_repr(str(path))}: not a curve table; {message}") from None

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, mode: Mode = "max", name: str = "curves") -> CurveTable:
        """Build a table from a frame with one row per configuration and epoch.

        Args:
            frame: Columns trial, epoch (1, 2, ... without gaps for each trial) and value (the metric; NaN where not
                finite). Optional columns: test_value, epoch_seconds (seconds of that epoch on one worker; averaged over
                the trial), and one config_* column per hyperparameter.
            mode: "max" or "min".
            name: Title of the table.

        Raises:
            ValueError: A column is missing, epochs have gaps, or no value is finite.
        """
        if mode not in get_args(Mode):
            raise ValueError(f'mode={short_repr(mode)}: unknown mode; expected "min" or "max"')
        for column in _NEEDED:
            if column not in frame.columns:
                raise ValueError(f"frame: no column {column!r}; expected trial, epoch, value, config_*")
        if frame[["trial", "epoch"]].isna().to_numpy().any():
            raise ValueError("frame: a row has no trial or no epoch; expected both in each row")
        frame = frame.sort_values(["trial", "epoch"], kind="stable")
        rows, trials = _rows(frame)
        epochs = frame["epoch"].to_numpy(dtype=int)
        lengths = np.bincount(rows)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        if not np.array_equal(epochs, np.arange(len(frame)) - starts[rows] + 1):
            wrong = trials[rows[np.flatnonzero(epochs != np.arange(len(frame)) - starts[rows] + 1)[0]]]
            raise ValueError(f"frame: the epochs of trial {short_repr(wrong)} have gaps; expected 1, 2, 3, ...")
        values = _matrix(frame["value"], rows, epochs, lengths)
        if not np.isfinite(values).any():
            raise ValueError("frame: no value is finite; expected at least one finite value")
        test = _matrix(frame["test_value"], rows, epochs, lengths) if "test_value" in frame else None
        seconds = _seconds(frame["epoch_seconds"], rows, lengths) if "epoch_seconds" in frame else None
        configs = _configs(frame.iloc[starts])
        return cls(configs, values, lengths.tolist(), mode, test_values=test, epoch_seconds=seconds, name=name)

    @classmethod
    def from_study(cls, study: Study) -> CurveTable:
        """Build a table from the curves of a study so far; epoch times are converted to those on one worker.

        Raises:
            ValueError: No trial has reported.
        """
        return cls.from_state(study.state)

    @classmethod
    def from_state(cls, state: Any) -> CurveTable:
        """Build a table from a study's state; see ``from_study``."""
        trials = [trial for trial in state.trials.values() if trial.curve]
        if not trials:
            raise ValueError(f"study {state.settings.name!r}: no trial has reported; expected at least one report")
        lengths = [len(trial.curve) for trial in trials]
        values = np.full((len(trials), max(lengths)), np.nan)
        speedup = state.speed.estimate().speedup
        seconds = []
        for row, trial in enumerate(trials):
            values[row, : len(trial.curve)] = [math.nan if r.value is None else r.value for r in trial.curve]
            seconds.append(float(np.mean([r.seconds * speedup(r.parallelism) for r in trial.curve])))
        configs = [trial.config for trial in trials]
        settings = state.settings
        return cls(configs, values, lengths, settings.mode, epoch_seconds=seconds, name=settings.name)

    def scaled(self, epoch_seconds: float) -> CurveTable:
        """Return the table with epoch times scaled to a mean of ``epoch_seconds``; their ratios stay the same."""
        if self.epoch_seconds is None:
            return self
        factor = epoch_seconds * len(self) / sum(self.epoch_seconds)
        return self._with(epoch_seconds=[factor * seconds for seconds in self.epoch_seconds])

    def crossed(self, top: int = 100, until: int = 8) -> CurveTable:
        """Return a harder table: the best configurations exchange their early curves, so that first epochs mislead.

        Args:
            top: Number of configurations; the best one gets the early curve of the last one, and so on.
            until: Epoch by which each curve has blended into its own.
        """
        worst = math.inf if self.mode == "min" else -math.inf
        finite = np.where(np.isfinite(self.values), self.values, worst)
        finals = finite.min(axis=1) if self.mode == "min" else -finite.max(axis=1)
        rows = np.argsort(finals, kind="stable")[:top]
        own = np.clip(np.arange(self.values.shape[1]) / until, 0.0, 1.0)
        values = self.values.copy()
        values[rows] = np.where(own < 1, (1 - own) * self.values[rows[::-1]] + own * self.values[rows], values[rows])
        return self._with(values=values, name=f"{self.name}, crossed")

    def _with(self, **changes: Any) -> CurveTable:
        given: dict[str, Any] = {
            "configs": self.configs,
            "values": self.values,
            "lengths": self.lengths,
            "mode": self.mode,
            "test_values": self.test_values,
            "epoch_seconds": self.epoch_seconds,
            "name": self.name,
        }
        return CurveTable(**{**given, **changes})

    def to_frame(self) -> pd.DataFrame:
        """Return the table as a frame that ``from_frame`` accepts."""
        import pandas as pd

        rows = np.repeat(np.arange(len(self)), self.lengths)
        epochs = np.concatenate([np.arange(1, length + 1) for length in self.lengths])
        columns: dict[str, Any] = {"trial": rows, "epoch": epochs, "value": self.values[rows, epochs - 1]}
        if self.test_values is not None:
            columns["test_value"] = self.test_values[rows, epochs - 1]
        if self.epoch_seconds is not None:
            columns["epoch_seconds"] = np.asarray(self.epoch_seconds)[rows]
        for key in dict.fromkeys(key for config in self.configs for key in config):
            columns[_PREFIX + key] = [self.configs[row].get(key) for row in rows]
        return pd.DataFrame(columns)


def _read_frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    readers: dict[str, Any] = {".parquet": pd.read_parquet, ".csv": pd.read_csv}
    if path.suffix not in readers:
        raise ValueError(f"path={short_repr(str(path))}: not a curve table; expected a .parquet or .csv file")
    try:
        frame: pd.DataFrame = readers[path.suffix](path)
    except ImportError as error:
        raise SeerError(
            f"path={short_repr(str(path))}: needs the package pyarrow, which is not installed; "
            'run pip install "seer_nb[export]"'
        ) from error
    except FileNotFoundError:
        raise
    # For a damaged file, pandas and pyarrow raise errors of many types, with long messages.
    except Exception as error:
        message = " ".join(message_of(error).split())[:200]
        raise ValueError(f"path={short_repr(str(path))}: cannot be read as a table: {message}") from error
    return frame


def mode_of_file(path: Path) -> Mode | None:
    """Return the mode in a parquet file's metadata; None without one."""
    if path.suffix != ".parquet":
        return None
    import pyarrow.parquet as pq

    mode = (pq.read_schema(path).metadata or {}).get(b"mode", b"").decode(errors="replace")
    return "min" if mode == "min" else "max" if mode == "max" else None


def _frozen(values: Matrix) -> Matrix:
    values = np.array(values, dtype=float)
    values.setflags(write=False)
    return values


def _rows(frame: pd.DataFrame) -> tuple[NDArray[np.int64], list[Any]]:
    import pandas as pd

    rows, trials = pd.factorize(frame["trial"])
    return rows, list(trials)


def _matrix(column: pd.Series, rows: NDArray[np.int64], epochs: NDArray[np.int64], lengths: NDArray[Any]) -> Matrix:
    values = np.full((len(lengths), int(lengths.max())), np.nan)
    found = column.to_numpy(dtype=float)
    values[rows, epochs - 1] = np.where(np.isfinite(found), found, np.nan)
    return values


def _seconds(column: pd.Series, rows: NDArray[np.int64], lengths: NDArray[Any]) -> list[float]:
    """Return the mean epoch seconds by configuration; without any, the mean over all configurations."""
    found = column.to_numpy(dtype=float)
    known = np.isfinite(found)
    if not known.any() or (found[known] <= 0).any():
        raise ValueError("frame: an epoch_seconds is not positive; expected seconds > 0")
    count = np.bincount(rows[known], minlength=len(lengths))
    total = np.bincount(rows[known], weights=found[known], minlength=len(lengths))
    mean = np.where(count > 0, total / np.maximum(count, 1), found[known].mean())
    return [float(second) for second in mean]


def _configs(first: pd.DataFrame) -> list[Config]:
    """Return the configurations from the first row of each trial, without missing values."""
    import pandas as pd

    names = [column for column in first.columns if column.startswith(_PREFIX)]
    plain = {name: first[name].tolist() for name in names}  # tolist gives Python numbers
    return [
        {name.removeprefix(_PREFIX): plain[name][row] for name in names if not pd.isna(plain[name][row])}
        for row in range(len(first))
    ]
