"""Random splits, and a test set that stays sealed until the selection is final."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import msgspec
import numpy as np

from seer_nb.methods.fairprep.errors import SealedError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from seer_nb.methods.fairprep.lifecycle import FittedStages
    from seer_nb.methods.fairprep.metrics import MetricValue
    from seer_nb.methods.fairprep.postprocessing import FittedPostProcessor
    from seer_nb.methods.fairprep.table import Rows, Table


TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
"""Shares of all examples (github DataResponsibly/FairPrep, fp/dataset_experiments.py); the rest is for training."""


class SplitRows(NamedTuple):
    """Row numbers of the three parts of a table."""

    train: Rows
    validation: Rows
    test: Rows


def split(n: int, seed: int, test: float = TEST_SHARE, validation: float = VALIDATION_SHARE) -> SplitRows:
    """Split n rows at random; the split depends on the arguments only.

    Args:
        n: Number of rows.
        seed: Seed of the split.
        test: Share of test rows.
        validation: Share of validation rows.

    Returns:
        Row numbers in ascending order; each part has at least one.
    """
    order = np.random.default_rng([seed, 0]).permutation(n)
    n_test, n_validation = max(1, round(test * n)), max(1, round(validation * n))
    tested, validated, trained = np.split(order, [n_test, n_test + n_validation])
    return SplitRows(np.sort(trained), np.sort(validated), np.sort(tested))


class VisibleData:
    """Training and validation examples of each seed, which lifecycles may use.

    Rows that are test rows for all seeds are left out, so they never reach a worker.

    Args:
        table: All examples.
        rows: Split of each seed.
    """

    def __init__(self, table: Table, rows: dict[int, SplitRows]) -> None:
        used = np.unique(np.concatenate([part for each in rows.values() for part in each[:2]]))
        self._table = table.take(used)
        self._rows = {seed: tuple(np.searchsorted(used, part) for part in each[:2]) for seed, each in rows.items()}

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the splits, in the order given."""
        return tuple(self._rows)

    def examples(self, seed: int) -> tuple[Table, Table]:
        """Return the training and the validation examples of a seed."""
        train, validation = self._rows[seed]
        return self._table.take(train), self._table.take(validation)


class Selection:
    """A final selection of runs, which unseals the test set for them.

    Args:
        runs: Ids of the runs.
    """

    def __init__(self, runs: Collection[int]) -> None:
        self.runs = frozenset(runs)


class SealedTestSet:
    """Test examples of each seed; they can only measure the runs of one final selection.

    The object cannot be pickled or copied, and no attribute holds an example.

    Args:
        table: All examples.
        rows: Split of each seed.
        path: File that records the final selection for all processes; None: the object is the only one of its kind.
    """

    __slots__ = ("_measure", "_sizes")

    def __init__(self, table: Table, rows: dict[int, SplitRows], path: Path | None = None) -> None:
        final: list[frozenset[int]] = []

        # A closure hides the examples, which an attribute would expose.
        def measure(
            selection: Selection, run: int, seed: int, fitted: FittedStages, postprocessor: FittedPostProcessor
        ) -> list[MetricValue]:
            if not isinstance(selection, Selection):
                raise SealedError("the test set is sealed until the selection is final: call select() first")
            if run not in selection.runs:
                raise SealedError(f"run {run} was not selected: the test set stays sealed for it")
            if not final:
                final.append(selection.runs if path is None else record_selection(path, selection.runs))
            if final[0] != selection.runs:
                raise SealedError("the test set was unsealed for another selection, which is final")
            return fitted.measure(table.take(rows[seed].test), postprocessor)

        self._measure = measure
        self._sizes = {seed: len(each.test) for seed, each in rows.items()}

    def __repr__(self) -> str:
        return f"SealedTestSet({len(self._sizes)} seeds, {next(iter(self._sizes.values()))} examples each)"

    def __reduce__(self) -> NoReturn:
        raise SealedError("the test set is sealed: it cannot be pickled or copied")

    def measure(
        self, selection: Selection, run: int, seed: int, fitted: FittedStages, postprocessor: FittedPostProcessor
    ) -> list[MetricValue]:
        """Measure a selected run on the test examples of its seed.

        Args:
            selection: The final selection.
            run: Id of the run.
            seed: Seed of its split.
            fitted: Fitted stages of the run.
            postprocessor: Fitted post-processor of the run.

        Returns:
            All metrics.

        Raises:
            SealedError: The run was not selected, or the test set was unsealed for another selection.
        """
        return self._measure(selection, run, seed, fitted, postprocessor)


def record_selection(path: Path, runs: frozenset[int]) -> frozenset[int]:
    """Record a selection unless another one was recorded before, by any process.

    Args:
        path: File of the record.
        runs: Ids of the selected runs.

    Returns:
        The selection that was recorded first.
    """
    with suppress(FileExistsError), path.open("xb") as new:
        new.write(msgspec.json.encode(sorted(runs)))
    try:
        return frozenset(msgspec.json.decode(path.read_bytes(), type=list[int]))
    except msgspec.DecodeError:  # the process that recorded it died while writing, before it measured anything
        path.unlink()
        return record_selection(path, runs)
