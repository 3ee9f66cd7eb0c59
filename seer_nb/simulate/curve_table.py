"""Learning curves of many configurations, recorded once, so that policies can be tried on them in no time."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from seer_nb._utils.text import sentence, show
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
    """Curves by configuration; immutable.

    Args:
        configs: One dict a configuration.
        values: The metric, configurations x epochs; NaN where it was not finite.
        lengths: How many epochs of each configuration were recorded, 1 or more.
        mode: "max" when more is better, or "min".
        test_values: Another metric, of the same shape, that no policy sees; None: there is none.
        epoch_seconds: Of an epoch on one worker, by configuration; None: the same for all.
        name: For titles.
    """

    def __init__(  # noqa: PLR0913 - what a table has
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
        """Of the longest curve."""
        return max(self.lengths)

    @property
    def best(self) -> float:
        """The best value of all."""
        return float(np.nanmin(self.values) if self.mode == "min" else np.nanmax(self.values))

    @cached_property
    def features(self) -> Matrix:
        """The configurations as vectors, a row each, for whoever proposes some of them."""
        return Features(self.configs)(self.configs)

    def value(self, row: int, epoch: int) -> float | None:
        """Of a configuration at an epoch from 1 on; None where it was not finite.

        A curve that was recorded for fewer epochs ends level.
        """
        value = self.values[row, min(epoch, self.lengths[row]) - 1]
        return float(value) if math.isfinite(value) else None

    def test_value(self, row: int, epoch: int) -> float | None:
        """The metric that no policy sees."""
        if self.test_values is None:
            return None
        value = self.test_values[row, min(epoch, self.lengths[row]) - 1]
        return float(value) if math.isfinite(value) else None

    @classmethod
    def read(cls, path: str | Path, mode: Mode | None = None, name: str | None = None) -> CurveTable:
        """Read a parquet or csv file; see ``from_frame`` for its columns.

        Args:
            path: Of the file.
            mode: "max" when more is better, or "min"; None: as a parquet file's metadata say.
            name: For titles; None: the file's.

        Raises:
            ValueError: The suffix is another, the columns are not those of a curve table, or neither the file nor
                ``mode`` says whether more is better.
            SeerError: pyarrow is not installed.
        """
        path = Path(path)
        frame = _frame(path)
        mode = told_mode(path) if mode is None else mode
        if mode is None:
            raise ValueError(f'path={show(str(path))} does not say whether more is better: give mode="min" or "max"')
        try:
            return cls.from_frame(frame, mode, path.stem if name is None else name)
        # Of a number that is none, or too large for one.
        except (ValueError, TypeError, OverflowError) as error:
            said = " ".join(str(error).split())[:200]
            raise ValueError(f"path={show(str(path))} is not a curve table: {said}") from None

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, mode: Mode = "max", name: str = "curves") -> CurveTable:
        """From a frame with a row a configuration and epoch.

        Args:
            frame: Columns trial, epoch (1, 2, ... without gaps for each trial), value (of the metric; NaN when it was
                not finite), and if known test_value, epoch_seconds (of that epoch on one worker; averaged over the
                trial), config_* (a column a hyperparameter).
            mode: "max" when more is better, or "min".
            name: For titles.

        Raises:
            ValueError: A column is missing, epochs have gaps, or no value is finite.
        """
        if mode not in get_args(Mode):
            raise ValueError(f'mode={show(mode)} is unknown: give "min" or "max"')
        for column in _NEEDED:
            if column not in frame.columns:
                raise ValueError(f"frame has no column {column!r}: a curve table has trial, epoch, value, config_*")
        if frame[["trial", "epoch"]].isna().to_numpy().any():
            raise ValueError("frame has rows without a trial or an epoch")
        frame = frame.sort_values(["trial", "epoch"], kind="stable")
        rows, trials = _rows(frame)
        epochs = frame["epoch"].to_numpy(dtype=int)
        lengths = np.bincount(rows)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        if not np.array_equal(epochs, np.arange(len(frame)) - starts[rows] + 1):
            wrong = trials[rows[np.flatnonzero(epochs != np.arange(len(frame)) - starts[rows] + 1)[0]]]
            raise ValueError(f"frame: the epochs of trial {show(wrong)} are not 1, 2, 3, ... without gaps")
        values = _matrix(frame["value"], rows, epochs, lengths)
        if not np.isfinite(values).any():
            raise ValueError("frame has no finite value")
        test = _matrix(frame["test_value"], rows, epochs, lengths) if "test_value" in frame else None
        seconds = _seconds(frame["epoch_seconds"], rows, lengths) if "epoch_seconds" in frame else None
        configs = _configs(frame.iloc[starts])
        return cls(configs, values, lengths.tolist(), mode, test_values=test, epoch_seconds=seconds, name=name)

    @classmethod
    def from_study(cls, study: Study) -> CurveTable:
        """The curves that a study has recorded so far; seconds are converted to those on one worker.

        Raises:
            ValueError: Nothing was reported yet.
        """
        return cls.from_state(study.state)

    @classmethod
    def from_state(cls, state: Any) -> CurveTable:
        """The same for a study's state."""
        trials = [trial for trial in state.trials.values() if trial.curve]
        if not trials:
            raise ValueError(f"study {state.settings.name!r} has no reports yet: let it run for a while")
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
        """The same curves with epochs that take so long on average; who was slower than others still is."""
        if self.epoch_seconds is None:
            return self
        factor = epoch_seconds * len(self) / sum(self.epoch_seconds)
        return self._with(epoch_seconds=[factor * seconds for seconds in self.epoch_seconds])

    def crossed(self, top: int = 100, until: int = 8) -> CurveTable:
        """A harder table: among the best configurations early curves are exchanged, so that first epochs mislead.

        Args:
            top: How many; the best shows the early curve of the last of them, and so on.
            until: Epoch by which each has blended into its own curve.
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
        """As ``from_frame`` takes it."""
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


def _frame(path: Path) -> pd.DataFrame:
    """Of a file."""
    import pandas as pd

    readers: dict[str, Any] = {".parquet": pd.read_parquet, ".csv": pd.read_csv}
    if path.suffix not in readers:
        raise ValueError(f"path={show(str(path))} is not a curve table: give a file .parquet or .csv")
    try:
        frame: pd.DataFrame = readers[path.suffix](path)
    except ImportError as error:
        raise SeerError(
            f"path={show(str(path))} needs the package pyarrow, which is not installed: "
            'pip install "seer_nb[export]" brings it'
        ) from error
    except FileNotFoundError:
        raise
    # What pandas and pyarrow say of a file that is none has many types, and many lines.
    except Exception as error:
        said = " ".join(sentence(error).split())[:200]
        raise ValueError(f"path={show(str(path))} cannot be read as a table: {said}") from error
    return frame


def told_mode(path: Path) -> Mode | None:
    """What a file says of whether more is better: a parquet file may, in its metadata."""
    if path.suffix != ".parquet":
        return None
    import pyarrow.parquet as pq

    told = (pq.read_schema(path).metadata or {}).get(b"mode", b"").decode(errors="replace")
    return "min" if told == "min" else "max" if told == "max" else None


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
    """Mean seconds by configuration; where none was measured, the mean of all."""
    found = column.to_numpy(dtype=float)
    known = np.isfinite(found)
    if not known.any() or (found[known] <= 0).any():
        raise ValueError("frame: epoch_seconds must be numbers above 0")
    count = np.bincount(rows[known], minlength=len(lengths))
    total = np.bincount(rows[known], weights=found[known], minlength=len(lengths))
    mean = np.where(count > 0, total / np.maximum(count, 1), found[known].mean())
    return [float(second) for second in mean]


def _configs(first: pd.DataFrame) -> list[Config]:
    """Of the first row of each trial; what is missing there is left out."""
    import pandas as pd

    names = [column for column in first.columns if column.startswith(_PREFIX)]
    plain = {name: first[name].tolist() for name in names}  # tolist gives Python's own numbers
    return [
        {name.removeprefix(_PREFIX): plain[name][row] for name in names if not pd.isna(plain[name][row])}
        for row in range(len(first))
    ]
