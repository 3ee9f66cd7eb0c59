"""Recorded curves as parquet files: those shipped with the package, and those being recorded."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.files import write_atomically
from seer_nb._utils.randomness import derive_seed
from seer_nb.errors import SeerError
from seer_nb.search_space import Space
from seer_nb.search_space.sampler import ConfigSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.bench.tasks import Task
    from seer_nb.core import Config


CURVES = Path(__file__).with_name("curves")
"""Folder of the files shipped with the package."""
PREFIX = "config_"
"""Prefix of the columns that hold hyperparameters."""
RECORDED_PACKAGES = ("seer_nb", "torch", "numpy", "scikit-learn")
"""Packages whose versions are stored in a file."""
ZSTD_LEVEL = 19
"""Compression level of a file."""


class Point(NamedTuple):
    """One epoch of a curve."""

    value: float
    """Value of the metric; NaN for a diverged trial, whose curve ends here."""
    test_value: float
    seconds: float
    """Processor seconds of training, validation and test on one thread."""


def shipped_tables() -> dict[str, Path]:
    """Return the files shipped with the package, by task."""
    return {path.stem: path for path in sorted(CURVES.glob("*.parquet"))}


def metadata(path: Path) -> dict[str, str]:
    """Return a file's metadata: task, about, metric, mode, max_epochs, seed, space, data (source), versions (JSON).

    Raises:
        SeerError: pyarrow is not installed, or the file is not a parquet file.
    """
    arrow = _pyarrow()
    try:
        found: dict[bytes, bytes] = arrow.parquet.read_schema(path).metadata or {}
    except arrow.ArrowInvalid as error:
        raise SeerError(f"{path}: not a curve table; remove the file, or write to another path") from error
    return {key.decode(): value.decode() for key, value in found.items() if not key.startswith(b"ARROW")}


class CurveFile:
    """The curves of one task, recorded completely or in part.

    Args:
        path: Path of the file; an existing file is loaded.
        task: The task to train.
        epochs: Most epochs of a curve.
        seed: Seed of configurations, initial weights and data order.

    Raises:
        SeerError: The file was recorded with other settings, so that new curves cannot be added.
    """

    def __init__(self, path: Path, task: Task, epochs: int, seed: int) -> None:
        self.path = path
        self.curves: dict[int, list[Point]] = {}
        # Each task has its own configurations, so that tables are independent of each other.
        self.seed = derive_seed(seed, *task.name.encode())
        self._task = task
        self._sampler = ConfigSampler(Space(task.space), seed=self.seed)
        self._metadata = _metadata(task, epochs, seed)
        if path.exists():
            self._load()

    def config(self, number: int) -> Config:
        """Return the configuration of a trial; it does not depend on earlier draws."""
        config = self._sampler.draw(number)
        if config is None:
            raise SeerError(f"task {self._task.name}: no configuration number {number}; the space is exhausted")
        return config

    def save(self) -> None:
        """Write all curves atomically."""
        arrow = _pyarrow()
        table = arrow.table(self._columns(arrow), metadata=self._metadata)
        floats = [field.name for field in table.schema if field.type == arrow.float32()]
        buffer = arrow.BufferOutputStream()
        arrow.parquet.write_table(
            table,
            buffer,
            compression="zstd",
            compression_level=ZSTD_LEVEL,
            # Dictionaries store repeated values once; floats compress better with split bytes.
            use_dictionary=[name for name in table.column_names if name not in floats],
            use_byte_stream_split=floats,
        )
        write_atomically(self.path, buffer.getvalue().to_pybytes())

    def _columns(self, arrow: Any) -> dict[str, Any]:
        rows = list(self._rows())
        numbers, epochs, points = zip(*rows, strict=True) if rows else ((), (), ())
        columns = {
            "trial": arrow.array(numbers, arrow.int32()),
            "epoch": arrow.array(epochs, arrow.int32()),
            "value": arrow.array([point.value for point in points], arrow.float32()),
            "test_value": arrow.array([point.test_value for point in points], arrow.float32()),
            "epoch_seconds": arrow.array([point.seconds for point in points], arrow.float32()),
        }
        configs = {number: self.config(number) for number in self.curves}
        # Not rounded, so that training a configuration again gives the same curve.
        for name in self._task.space:
            columns[PREFIX + name] = arrow.array([configs[number][name] for number in numbers])
        return columns

    def _rows(self) -> Iterator[tuple[int, int, Point]]:
        for number in sorted(self.curves):
            for epoch, point in enumerate(self.curves[number], 1):
                yield number, epoch, point

    def _load(self) -> None:
        found = metadata(self.path)
        for key, wanted in self._metadata.items():
            if found.get(key) != wanted:
                raise SeerError(
                    f"{self.path}: recorded with {key}={found.get(key)!r}, not {wanted!r}; "
                    "remove the file, or give another --out"
                )
        columns = ["trial", "value", "test_value", "epoch_seconds"]
        for row in _pyarrow().parquet.read_table(self.path, columns=columns).to_pylist():
            point = Point(row["value"], row["test_value"], row["epoch_seconds"])
            self.curves.setdefault(row["trial"], []).append(point)


def _metadata(task: Task, epochs: int, seed: int) -> dict[str, str]:
    versions = {"python": platform.python_version(), **{name: version(name) for name in RECORDED_PACKAGES}}
    return {
        "task": task.name,
        "about": task.about,
        "metric": task.metric,
        "mode": task.mode,
        "max_epochs": str(epochs),
        "seed": str(seed),
        "space": repr(Space(task.space)),
        "data": task.data,
        "licence": "Apache-2.0",
        "versions": json.dumps(versions),
    }


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise SeerError(
            'curve tables need the package pyarrow, which is not installed; run pip install "seer_nb[export]"'
        ) from error
    return pa
