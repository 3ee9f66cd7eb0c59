"""Which configuration comes next: seeded random search, or any Optuna sampler, without repeats in a finite space."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import optuna
    from optuna.samplers import BaseSampler, GridSampler

    from seer_nb.core import Config, Mode, Trial
    from seer_nb.search_space import Space
    from seer_nb.search_space.surrogate import SpaceProposer


TRIES = 10
"""Proposals of an Optuna sampler that may be repeats before a new configuration is taken at random."""
RANDOM_TRIES = 200
"""Random draws that may be repeats before one is taken from the list of what is left."""


class RandomOrder:
    """Random configurations in an order that depends on the seed alone: the n-th is the same whatever came before.

    A finite space is gone through without repeats, each domain's weights respected as long as that is possible.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._size = space.size
        self._drawn: list[Config] = []
        self._keys: set[tuple[Any, ...]] = set()

    def __getitem__(self, number: int) -> Config | None:
        """The configuration of that number from 0 on; None when there are no more."""
        import numpy as np

        if self._size is None:
            return self._space.sample(np.random.default_rng([self._seed, number]))
        if number >= self._size:
            return None
        while len(self._drawn) <= number:
            config = self._fresh(np.random.default_rng([self._seed, len(self._drawn)]))
            self._drawn.append(config)
            self._keys.add(self._space.key(config))
        # A copy: constants may be lists.
        return self._space.config(self._drawn[number])

    def _fresh(self, rng: np.random.Generator) -> Config:
        for _ in range(RANDOM_TRIES):
            config: Config = self._space.sample(rng)
            if self._space.key(config) not in self._keys:
                return config
        every = (self._space.nth(index) for index in range(self._size or 0))
        left = [config for config in every if self._space.key(config) not in self._keys]
        return left[int(rng.integers(0, len(left)))]


class ConfigSampler:
    """Gives configurations to new trials, and learns from what became of earlier ones.

    Args:
        space: What is searched.
        sampler: An Optuna sampler, which proposes all; None: random search in which ``draw(number)`` depends on seed
            and number alone, and proposals by a forest where the policy asks for them.
        seed: For random search and proposals; an Optuna sampler brings its own.
        mode: "max" when more is better, or "min".

    Raises:
        TypeError: ``sampler`` is not an Optuna sampler.
        ValueError: A GridSampler's names are not those that the space searches.
    """

    def __init__(self, space: Space, sampler: BaseSampler | None = None, seed: int = 0, mode: Mode = "max") -> None:
        self._space = space
        self._order = RandomOrder(space, seed)
        self._mode: Mode = mode
        self._seed = seed
        self._proposer: SpaceProposer | None = None
        self._taken: set[tuple[Any, ...]] = set()
        """Keys of what was drawn."""
        self._mixed = False
        """Whether anything of a finite space was proposed: then random configurations go round it."""
        self._guided = None if sampler is None else _Guided(space, sampler, self._order, mode)

    def draw(self, number: int, trials: Sequence[Trial] | None = None) -> Config | None:
        """The configuration for the trial of that number; None when the space or the sampler's grid is exhausted.

        Args:
            number: Of the trial.
            trials: Those that have begun, if what they have shown may be used; None: draw at random. An Optuna sampler
                goes by what it was told.
        """
        if self._guided is not None:
            return self._guided.draw(number)
        config = self._propose(trials) if trials else None
        if config is not None:
            self._mixed = self._space.size is not None
        else:
            config = self._next() if self._mixed else self._order[number]
        if config is not None:
            self._taken.add(self._space.key(config))
        return config

    def _propose(self, trials: Sequence[Trial]) -> Config | None:
        if self._proposer is None:
            # Imported late: it takes numpy.
            from seer_nb.search_space.surrogate import SpaceProposer

            self._proposer = SpaceProposer(self._space, self._mode, self._seed)
        return self._proposer.propose(trials, self._taken)

    def _next(self) -> Config | None:
        """The first of a finite space's random order that is left."""
        order = map(self._order.__getitem__, range(self._space.size or 0))
        return next((config for config in order if config and self._space.key(config) not in self._taken), None)

    def tell(self, trial: Trial) -> None:
        """Let the sampler learn from a trial that has ended; its reports are intermediate values by epoch.

        A completed trial counts with its best stored value, a stopped one as pruned, a failed one not at all.
        """
        if self._guided is not None:
            self._guided.tell(trial)

    def restore(self, trials: Iterable[Trial]) -> None:
        """Take in what was drawn before, after a restart. Call it once, before the first draw.

        An Optuna sampler's own random stream goes on from a new seed, or it would propose the same again.
        """
        if self._guided is not None:
            self._guided.restore(trials)
        else:
            for trial in trials:
                self._taken.add(self._space.key(trial.config))
                self._mixed |= self._space.size is not None and trial.config != self._order[trial.id]


class _Guided:
    """An Optuna sampler, asked through a study in memory that is given no more than it needs."""

    def __init__(self, space: Space, sampler: BaseSampler, order: RandomOrder, mode: Mode) -> None:
        from optuna.samplers import BaseSampler, GridSampler

        if not isinstance(sampler, BaseSampler):
            raise TypeError(
                f"sampler={show(sampler)} is not an Optuna sampler: give one such as "
                "optuna.samplers.TPESampler(seed=0), or None for random search"
            )
        self._grid_size: int | None = None
        """Cells of a GridSampler's grid."""
        if isinstance(sampler, GridSampler):
            self._grid_size = _grid_size(space, sampler)
        self._space = space
        self._sampler = sampler
        self._order = order
        self._study = _quiet_study(sampler, mode)
        self._distributions = space.to_optuna()
        self._asked: dict[int, optuna.Trial] = {}
        self._keys: set[tuple[Any, ...]] = set()
        self._n_asked = 0

    def draw(self, number: int) -> Config | None:
        # A grid that holds a value twice is gone through to its end, without random configurations.
        for _ in range(TRIES if self._grid_size is None else self._grid_size + 1):
            if self._exhausted():
                return None
            trial = self._ask()
            config = self._space.config(trial.params)
            if self._is_new(config):
                return self._keep(number, trial, config)
            self._forget(trial)
        return self._draw_random(number)

    def tell(self, trial: Trial) -> None:
        from optuna.trial import TrialState

        if trial.alive or trial.id not in self._asked:
            return
        asked = self._asked.pop(trial.id)
        for report in trial.curve:
            asked.report(math.nan if report.value is None else report.value, report.epoch)
        value = trial.best.value if trial.best else None
        if trial.state == "completed" and value is not None and not trial.diverged:
            self._study.tell(asked, value)
        elif trial.state == "failed":
            self._study.tell(asked, state=TrialState.FAIL)
        else:
            self._study.tell(asked, state=TrialState.PRUNED)

    def restore(self, trials: Iterable[Trial]) -> None:
        for trial in sorted(trials, key=lambda each: each.id):
            self._keep(trial.id, self._ask_for(trial.config), trial.config)
            self.tell(trial)
        if self._keys:
            self._sampler.reseed_rng()

    def _exhausted(self) -> bool:
        if self._space.size is not None and len(self._keys) >= self._space.size:
            return True
        # Trial n of a study gets cell n of the grid; a further one would get a cell for the second time.
        return self._grid_size is not None and self._n_asked >= self._grid_size

    def _is_new(self, config: Config) -> bool:
        """In a space without end a repeat is the sampler's own wish."""
        finite = self._space.size is not None or self._grid_size is not None
        return not finite or self._space.key(config) not in self._keys

    def _draw_random(self, number: int) -> Config | None:
        """The sampler proposes only what it has proposed before."""
        for place in range(self._space.size or 0):
            config = self._order[place]
            if config is not None and self._space.key(config) not in self._keys:
                return self._keep(number, self._ask_for(config), config)
        return None

    def _ask_for(self, config: Config) -> optuna.Trial:
        """A trial of the study with the values of a configuration."""
        self._study.enqueue_trial({name: config[name] for name in self._distributions})
        return self._ask()

    def _ask(self) -> optuna.Trial:
        self._n_asked += 1
        return self._study.ask(self._distributions)

    def _keep(self, number: int, trial: optuna.Trial, config: Config) -> Config:
        self._asked[number] = trial
        self._keys.add(self._space.key(config))
        return config

    def _forget(self, trial: optuna.Trial) -> None:
        from optuna.trial import TrialState

        self._study.tell(trial, state=TrialState.FAIL)


def _grid_size(space: Space, sampler: GridSampler) -> int:
    """Number of cells; Optuna has no public way to ask for them. Raises ValueError if the names differ."""
    names = sorted(sampler._param_names)  # noqa: SLF001
    if names != sorted(space.domains):
        raise ValueError(
            f"sampler's grid has the names {', '.join(map(repr, names)) or 'none'}, but the space searches "
            f"{', '.join(map(repr, sorted(space.domains))) or 'none'}: they must be the same"
        )
    return sampler._n_min_trials  # noqa: SLF001


def _quiet_study(sampler: BaseSampler, mode: Mode) -> optuna.Study:
    import optuna

    with quiet():
        study = optuna.create_study(sampler=sampler, direction="maximize" if mode == "max" else "minimize")

    # Some samplers stop a study whose space is exhausted, which Optuna forbids to whoever asks and tells.
    def stop() -> None:
        return None

    study.stop = stop  # type: ignore[method-assign]
    return study


@contextmanager
def quiet() -> Iterator[None]:
    """No lines of Optuna's about studies that the user has not made; its level is put back."""
    from optuna import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(level)
