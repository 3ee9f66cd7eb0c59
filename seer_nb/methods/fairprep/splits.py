"""Random splits, and a test set that refuses to be looked at before the selection is final."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import msgspec
import numpy as np

from seer_nb.methods.fairprep.errors import SealedError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from seer_nb.methods.fairprep.lifecycle import Fitted
    from seer_nb.methods.fairprep.metrics import Measured
    from seer_nb.methods.fairprep.postprocessing import FittedPostProcessor
    from seer_nb.methods.fairprep.table import Rows, Table


TEST, VALIDATION = 0.2, 0.1
"""Shares of all examples (github DataResponsibly/FairPrep, fp/dataset_experiments.py); the rest is trained on."""


class Places(NamedTuple):
    """Which rows of a table are what."""

    train: Rows
    validation: Rows
    test: Rows


def split(n: int, seed: int, test: float = TEST, validation: float = VALIDATION) -> Places:
    """Divide n rows at random: the same for the same seed, whatever the rows hold."""
    order = np.random.default_rng([seed, 0]).permutation(n)
    n_test, n_validation = max(1, round(test * n)), max(1, round(validation * n))
    tested, validated, trained = np.split(order, [n_test, n_test + n_validation])
    return Places(np.sort(trained), np.sort(validated), np.sort(tested))


class Visible:
    """What a lifecycle may see: training and validation examples of each seed.

    Rows that are test rows for all seeds are not in it, so that they never travel to any worker.
    """

    def __init__(self, table: Table, places: dict[int, Places]) -> None:
        used = np.unique(np.concatenate([rows for each in places.values() for rows in each[:2]]))
        self._table = table.take(used)
        self._places = {seed: tuple(np.searchsorted(used, rows) for rows in each[:2]) for seed, each in places.items()}

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the splits, in the order in which they were given."""
        return tuple(self._places)

    def examples(self, seed: int) -> tuple[Table, Table]:
        """Training and validation examples of that seed."""
        train, validation = self._places[seed]
        return self._table.take(train), self._table.take(validation)


class Selection:
    """Runs that were chosen, by their ids; what unseals the test set for them."""

    def __init__(self, runs: Collection[int]) -> None:
        self.runs = frozenset(runs)


class SealedTest:
    """Test examples of each seed, which nobody gets: once, for one final selection, they measure its runs.

    It cannot be pickled or copied, and has no attribute that holds an example.

    Args:
        table: All examples.
        places: Of each seed.
        file: In which the final selection is noted for other processes; None: there are none.
    """

    __slots__ = ("_measure", "_size")

    def __init__(self, table: Table, places: dict[int, Places], file: Path | None = None) -> None:
        final: list[frozenset[int]] = []

        def measure(
            selection: Selection, run: int, seed: int, fitted: Fitted, post: FittedPostProcessor
        ) -> list[Measured]:
            if not isinstance(selection, Selection):
                raise SealedError("the test set is sealed until the selection is final: select() first")
            if run not in selection.runs:
                raise SealedError(f"run {run} was not selected: the test set stays sealed for it")
            if not final:
                final.append(selection.runs if file is None else _noted(file, selection.runs))
            if final[0] != selection.runs:
                raise SealedError("the test set was unsealed for another selection, which is final")
            return fitted.measure(table.take(places[seed].test), post)

        self._measure = measure
        self._size = {seed: len(each.test) for seed, each in places.items()}

    def __repr__(self) -> str:
        return f"SealedTest({len(self._size)} seeds, {next(iter(self._size.values()))} examples each)"

    def __reduce__(self) -> NoReturn:
        raise SealedError("the test set is sealed: it cannot be pickled or copied")

    def measure(
        self, selection: Selection, run: int, seed: int, fitted: Fitted, post: FittedPostProcessor
    ) -> list[Measured]:
        """Metrics of a selected run on its seed's test examples.

        Raises:
            SealedError: The run was not selected, or the test set was unsealed for another selection.
        """
        return self._measure(selection, run, seed, fitted, post)


def _noted(file: Path, runs: frozenset[int]) -> frozenset[int]:
    """The selection that was noted first, here or by another process; if there is none, this one."""
    with suppress(FileExistsError), file.open("xb") as new:
        new.write(msgspec.json.encode(sorted(runs)))
    try:
        return frozenset(msgspec.json.decode(file.read_bytes(), type=list[int]))
    except msgspec.DecodeError:  # whoever noted it has died meanwhile, before anything was measured
        file.unlink()
        return _noted(file, runs)
