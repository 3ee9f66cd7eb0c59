"""The next configuration: seeded random search or any Optuna sampler, without repeats in a finite space."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import short_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import optuna
    from optuna.samplers import BaseSampler, GridSampler

    from seer_nb.core import Config, Mode, Report, Trial
    from seer_nb.search_space import Space
    from seer_nb.search_space.surrogate import SpaceProposer


OPTUNA_TRIES = 10
"""Repeated proposals of an Optuna sampler after which a configuration is drawn at random."""
RANDOM_TRIES = 200
"""Repeated random draws after which the remaining configurations are enumerated."""


class RandomOrder:
    """A random order of configurations that depends on the seed alone; ``order[n]`` is number n from 0.

    The configurations of a finite space do not repeat. As long as possible they follow the domains' distributions.

    Args:
        space: The search space.
        seed: Seed of the order.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._size = space.size
        self._drawn: list[Config] = []
        self._keys: set[tuple[Any, ...]] = set()

    def __getitem__(self, number: int) -> Config | None:
        """Return a configuration; None beyond the end of a finite space."""
        import numpy as np

        if self._size is None:
            return self._space.sample(np.random.default_rng([self._seed, number]))
        if number >= self._size:
            return None
        while len(self._drawn) <= number:
            config = self._draw_unused(np.random.default_rng([self._seed, len(self._drawn)]))
            self._drawn.append(config)
            self._keys.add(self._space.key(config))
        # A copy, because constants may be lists.
        return self._space.config(self._drawn[number])

    def _draw_unused(self, rng: np.random.Generator) -> Config:
        for _ in range(RANDOM_TRIES):
            config: Config = self._space.sample(rng)
            if self._space.key(config) not in self._keys:
                return config
        every = (self._space.nth(index) for index in range(self._size or 0))
        left = [config for config in every if self._space.key(config) not in self._keys]
        return left[int(rng.integers(0, len(left)))]


class ConfigSampler:
    """Draws configurations for new trials and learns from the results of earlier ones.

    Args:
        space: The search space.
        sampler: An Optuna sampler, which proposes all configurations. None: random search, in which ``draw(number)``
            depends on seed and number alone, with proposals by a forest where the policy asks for them.
        seed: Seed of random search and proposals; an Optuna sampler has its own.
        mode: "max" or "min".
        metric: Name of the metric, under which an Optuna sampler finds it among the reported ones.

    Raises:
        TypeError: ``sampler`` is not an Optuna sampler.
        ValueError: The names of a GridSampler differ from the searched names.

    Example:
        >>> import seer_nb as seer
        >>> from seer_nb.search_space import ConfigSampler, Space
        >>> ConfigSampler(Space({"depth": seer.choice([3])}), seed=1).draw(0)
        {'depth': 3}
    """

    def __init__(
        self,
        space: Space,
        sampler: BaseSampler | None = None,
        seed: int = 0,
        mode: Mode = "max",
        metric: str = "value",
    ) -> None:
        self._space = space
        self._order = RandomOrder(space, seed)
        self._mode: Mode = mode
        self._seed = seed
        self._proposer: SpaceProposer | None = None
        self._taken: set[tuple[Any, ...]] = set()
        """Keys of the configurations drawn."""
        self._mixed = False
        """Whether a configuration of a finite space was proposed; random draws then skip the configurations drawn."""
        self._optuna = None if sampler is None else _OptunaSampler(space, sampler, self._order, mode, metric)

    @property
    def optuna_study(self) -> optuna.Study | None:
        """The in-memory Optuna study behind an Optuna sampler; None for random search."""
        return None if self._optuna is None else self._optuna.study

    def draw(self, number: int, trials: Sequence[Trial] | None = None) -> Config | None:
        """Return the configuration of a trial; None when the space or the sampler's grid is exhausted.

        Args:
            number: Id of the trial.
            trials: Trials that have started, for a proposal by their results; None: draw at random. An Optuna sampler
                uses the results passed to ``tell`` instead.
        """
        if self._optuna is not None:
            return self._optuna.draw(number)
        config = self._propose(trials) if trials else None
        if config is not None:
            self._mixed = self._space.size is not None
        else:
            config = self._next_unused() if self._mixed else self._order[number]
        if config is not None:
            self._taken.add(self._space.key(config))
        return config

    def _propose(self, trials: Sequence[Trial]) -> Config | None:
        if self._proposer is None:
            # Imported late because it needs numpy.
            from seer_nb.search_space.surrogate import SpaceProposer

            self._proposer = SpaceProposer(self._space, self._mode, self._seed)
        return self._proposer.propose(trials, self._taken)

    def _next_unused(self) -> Config | None:
        """Return the first configuration in a finite space's random order that was not drawn."""
        order = map(self._order.__getitem__, range(self._space.size or 0))
        return next((config for config in order if config and self._space.key(config) not in self._taken), None)

    def tell(self, trial: Trial) -> None:
        """Pass a trial that has ended to the Optuna sampler; its reports become intermediate values by epoch.

        A completed trial counts with its best stored value, a stopped one as pruned. A trial that failed, or ended
        before any report, does not count. User attributes of the Optuna trial are cost_usd and the metrics that were
        reported with the value, for functions such as ``constraints_func``.
        """
        if self._optuna is not None:
            self._optuna.tell(trial)

    def restore(self, trials: Iterable[Trial]) -> None:
        """Restore the trials of a study after a restart; call once, before the first draw.

        An Optuna sampler's random stream continues from a new seed, or it would repeat its proposals.
        """
        if self._optuna is not None:
            self._optuna.restore(trials)
        else:
            for trial in trials:
                self._taken.add(self._space.key(trial.config))
                self._mixed |= self._space.size is not None and trial.config != self._order[trial.id]


class _OptunaSampler:
    """An Optuna sampler, used through an in-memory study."""

    def __init__(self, space: Space, sampler: BaseSampler, order: RandomOrder, mode: Mode, metric: str) -> None:
        from optuna.samplers import BaseSampler, GridSampler

        if not isinstance(sampler, BaseSampler):
            raise TypeError(
                f"sampler={short_repr(sampler)}: not an Optuna sampler; expected one such as "
                "optuna.samplers.TPESampler(seed=0), or None for random search"
            )
        self._grid_size: int | None = None
        """Number of cells in a GridSampler's grid; None for other samplers."""
        if isinstance(sampler, GridSampler):
            self._grid_size = _grid_size(space, sampler)
        self._space = space
        self._sampler = sampler
        self._order = order
        self._metric = metric
        self.study = _quiet_study(sampler, mode)
        self._distributions = space.to_optuna()
        self._asked: dict[int, optuna.Trial] = {}
        self._keys: set[tuple[Any, ...]] = set()
        self._n_asked = 0

    def draw(self, number: int) -> Config | None:
        # A grid with a repeated value is used to its end, without random configurations.
        for _ in range(OPTUNA_TRIES if self._grid_size is None else self._grid_size + 1):
            if self._exhausted():
                return None
            trial = self._ask()
            self._check(trial.params)
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
        best = trial.best if trial.state == "completed" and not trial.diverged else None
        for name, attribute in self._attributes(trial, best).items():
            asked.set_user_attr(name, attribute)
        if best is not None and best.value is not None:
            self.study.tell(asked, best.value)
        elif trial.state == "failed" or not trial.curve:
            self.study.tell(asked, state=TrialState.FAIL)
        else:
            self.study.tell(asked, state=TrialState.PRUNED)

    def _attributes(self, trial: Trial, best: Report | None) -> dict[str, float]:
        """Return the trial's cost, and the metrics of its best report, or else of the last one that was finite.

        If none was finite, infinity replaces such values, because Optuna refuses constraints that are NaN.
        """
        finite = (r for r in reversed(trial.curve) if r.value is not None and None not in r.metrics.values())
        report = best or next(finite, trial.curve[-1] if trial.curve else None)
        values = {} if report is None else {self._metric: report.value, **report.metrics}
        attributes = {name: math.inf if value is None else value for name, value in values.items()}
        return {"cost_usd": trial.cost_nano / 1e9, **attributes}

    def restore(self, trials: Iterable[Trial]) -> None:
        for trial in sorted(trials, key=lambda each: each.id):
            self._keep(trial.id, self._ask_for(trial.config), trial.config)
            self.tell(trial)
        if self._keys:
            self._sampler.reseed_rng()

    def _check(self, params: dict[str, Any]) -> None:
        """Check that a proposal lies within the space; Optuna does not check what `sample_independent` returns."""
        for name, distribution in self._distributions.items():
            if not distribution._contains(distribution.to_internal_repr(params[name])):  # noqa: SLF001 - no public name
                raise ValueError(
                    f"{name}={short_repr(params[name])}: outside the space; expected {self._space.domains[name]}"
                )

    def _exhausted(self) -> bool:
        if self._space.size is not None and len(self._keys) >= self._space.size:
            return True
        # Trial n gets cell n of the grid; a further trial would repeat a cell.
        return self._grid_size is not None and self._n_asked >= self._grid_size

    def _is_new(self, config: Config) -> bool:
        """Return whether a configuration may be used; in an infinite space, repeats are the sampler's choice."""
        finite = self._space.size is not None or self._grid_size is not None
        return not finite or self._space.key(config) not in self._keys

    def _draw_random(self, number: int) -> Config | None:
        """Return a random configuration, after the sampler has only repeated itself."""
        for place in range(self._space.size or 0):
            config = self._order[place]
            if config is not None and self._space.key(config) not in self._keys:
                return self._keep(number, self._ask_for(config), config)
        return None

    def _ask_for(self, config: Config) -> optuna.Trial:
        """Return an Optuna trial with the values of a configuration."""
        self.study.enqueue_trial({name: config[name] for name in self._distributions})
        return self._ask()

    def _ask(self) -> optuna.Trial:
        self._n_asked += 1
        return self.study.ask(self._distributions)

    def _keep(self, number: int, trial: optuna.Trial, config: Config) -> Config:
        self._asked[number] = trial
        self._keys.add(self._space.key(config))
        return config

    def _forget(self, trial: optuna.Trial) -> None:
        from optuna.trial import TrialState

        self.study.tell(trial, state=TrialState.FAIL)


def _grid_size(space: Space, sampler: GridSampler) -> int:
    """Return the number of the grid's cells, for which Optuna has no public access.

    Raises:
        ValueError: The grid's names differ from the searched names.
    """
    names = sorted(sampler._param_names)  # noqa: SLF001
    if names != sorted(space.domains):
        raise ValueError(
            f"sampler: its grid has the names {', '.join(map(repr, names)) or 'none'}; expected the searched names "
            f"{', '.join(map(repr, sorted(space.domains))) or 'none'}"
        )
    return sampler._n_min_trials  # noqa: SLF001


def _quiet_study(sampler: BaseSampler, mode: Mode) -> optuna.Study:
    import optuna

    with quiet_optuna():
        study = optuna.create_study(sampler=sampler, direction="maximize" if mode == "max" else "minimize")

    # Some samplers stop the study when their space is exhausted; Optuna forbids that with ask and tell.
    def stop() -> None:
        return None

    study.stop = stop  # type: ignore[method-assign]
    return study


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Suppress Optuna's log lines about internal studies; the log level is restored."""
    from optuna import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(level)
