"""``fedex.Search``: a federated search as a study, on a provider's workers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from seer_nb._utils.units import MICRO
from seer_nb._utils.validation import check_integer
from seer_nb.errors import MissingCheckpointError
from seer_nb.methods.fedex import validation
from seer_nb.methods.fedex.arms import ArmTrainer
from seer_nb.methods.fedex.fedex import Round, Scores
from seer_nb.methods.fedex.options import Options
from seer_nb.methods.fedex.result import Best, Result
from seer_nb.methods.study_backed import StudyBacked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from seer_nb.core import Config, Trial
    from seer_nb.core.policy import Policy
    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.fedex import FedEx
    from seer_nb.methods.fedex.server import ServerSettings
    from seer_nb.methods.fedex.simplex import Schedule
    from seer_nb.methods.fedex.validation import Target
    from seer_nb.providers.base import Provider
    from seer_nb.study.best import Best as StudyBest
    from seer_nb.study.settings import Money, Time


class Search(StudyBacked[ArmTrainer, Result]):
    """A federated search on any provider's workers: a study whose trials are arms and whose epochs are rounds.

    The study keeps a deadline and a budget, shows a live view, can be paused and resumed, and survives the death of its
    runner or notebook. Its policy decides which arms continue, and on how many workers. The workers of a gang share the
    clients of a round; an arm's errors are the same, bit for bit, on any number of workers.

    An arm is a FedEx run with ``fedex_k`` neighbouring client configurations (Khodak et al., NeurIPS 2021; github
    mkhodak/FedEx). The study's sampler draws the server settings, ``server_*`` in its tables, and the first client
    configuration, ``client_*``. An arm reports ``personal_error`` and ``global_error`` (validation errors),
    ``entropy`` (of theta, in nats), ``mode`` (greatest probability) and ``option`` (index of that configuration).

    The federation, with up to 1 GiB of client data, is sent to each worker and stays in its memory. Larger data must be
    slices of memory-mapped files that the workers can open; see ``Client``. This class is therefore for research on
    federated learning; do not use it with data that must not leave their clients.

    Args:
        federation: Federation to tune.
        client_space: Space of the client hyperparameters; constants are allowed. Default: ``client_space()``.
        server_space: Space of lr, momentum, and decay (1 - gamma) or gamma. Default: ``server_space()``.
        max_rounds: Rounds of an arm that reaches the top.
        deadline: As for ``Study``.
        budget: As for ``Study``.
        provider: Provider of the machines. Default: ``seer.Local()``.
        policy: Policy of the study, such as "seer", "halving", "random_search" or "asha".
        fedex_k: Number of client configurations of each arm; 1: federated averaging without FedEx.
        eps: Distance of these configurations from the first one, as a share of the ranges, from 0 to 1.
        schedule: Step-size schedule of FedEx; see ``FedEx``.
        baseline: Baseline of FedEx, from 0 to 1. Default: drawn for each arm.
        cutoff: Entropy in nats below which FedEx freezes theta.
        target: "personal": minimise the error after local training. "global": minimise the shared model's error.
        clients_per_round: Clients drawn per round, with replacement.
        seed: Seed of configurations, weights, the choice of clients, and each client's training.
        sampler: Optuna sampler of the configurations. Default: as for ``Study``.
        name: Name of the study. Default: a name with the time.
        store: Checkpoint store; cloud machines need one that they can reach.
        report_timeout: Longest time of a round; an arm that takes longer counts as hung.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.

    Example:
        >>> search = fedex.Search(federation, max_rounds=60, deadline="10min", budget="$0.50").start()
        >>> result = search.wait()
        >>> result.best.config, result.best.test
    """

    _task_type = ArmTrainer
    _title = "search of a federation"
    _test: tuple[StudyBest, Scores] | None = None
    """Last tested state and its test errors."""

    def __init__(  # noqa: PLR0913 - the public interface
        self,
        federation: Federation,
        client_space: Mapping[str, Any] | None = None,
        server_space: Mapping[str, Any] | None = None,
        *,
        max_rounds: int,
        deadline: Time,
        budget: Money,
        provider: Provider | None = None,
        policy: str | Policy = "seer",
        fedex_k: int = 27,
        eps: float = 0.1,
        schedule: Schedule = "aggressive",
        baseline: float | None = None,
        cutoff: float = 1e-4,
        target: Target = "personal",
        clients_per_round: int = 10,
        seed: int = 0,
        sampler: Any = None,
        name: str | None = None,
        store: str | None = None,
        report_timeout: str | float | None = None,
    ) -> None:
        from seer_nb.study.study import Study

        self._task = task = ArmTrainer.from_arguments(
            *(federation, client_space, server_space),
            fedex_k=fedex_k,
            eps=eps,
            target=target,
            clients_per_round=clients_per_round,
            options={"schedule": schedule, "baseline": baseline, "cutoff": cutoff},
            seed=seed,
        )
        validation.check_files(federation, provider)
        self._study = Study(
            task,
            task.space(),
            metric=task.metric,
            mode="min",
            max_epochs=check_integer(max_rounds, "max_rounds"),
            deadline=deadline,
            budget=budget,
            provider=provider,
            policy=policy,
            sampler=sampler,
            seed=seed,
            name=name,
            store=store,
            report_timeout=report_timeout,
        )

    def __repr__(self) -> str:
        return f"<Search {self.study.name!r}: {self._task.federation!r}>"

    @property
    def trainer(self) -> ArmTrainer:
        """Training function of the study."""
        return self._task

    def arm(self, trial: int) -> FedEx:
        """Rebuild a trial's arm in this process, before its first round; ``run(n)`` repeats the trial's rounds.

        Raises:
            ValueError: The study has no such trial.
        """
        number = self.study.check_trial(trial)
        return self._task.build_arm(self.study.state.trials[number].config, number)

    def result(self) -> Result:
        """Return the result so far.

        After the end of the study, all clients measure the best arm on their test data, in this process; before,
        ``best.test`` is None. The best arm is that of ``study.best``, at the round with the least error whose model is
        stored.

        Returns:
            The arms, their tables, and the best state.

        Raises:
            CheckpointError: The best arm's model cannot be read.
        """
        state, status = self.study.state, self.study.status
        best = self._read_best(tests=status in {"ended", "failed"})
        arms = tuple(
            TrialArm(self._task, trial, _thetas(best.fedex) if best and best.trial == trial.id else ())
            for _, trial in sorted(state.trials.items())
        )
        return Result(
            arms=arms,
            best=best,
            target=self._task.target,
            seed=self._task.seed,
            reason=state.reason or f"it is {status}",
            wall_s=state.now_s,
            spent_usd=state.ledger.spent_micro(state.now_s) / MICRO,
            study=self.study,
        )

    def _read_best(self, *, tests: bool) -> Best | None:
        """Read ``study.best``, with retries: a running study may replace its best checkpoint at any moment."""
        for is_last in (False, False, True):
            stored = self.study.best
            try:
                return None if stored is None else self._load_best(stored, tests=tests)
            except MissingCheckpointError:
                if is_last:
                    raise
        return None

    def _load_best(self, stored: StudyBest, *, tests: bool) -> Best:
        fedex = self.arm(stored.trial)
        stored.load(fedex)
        return Best(
            trial=stored.trial,
            config=fedex.best_config,
            server=self._task.server_settings(stored.config),
            selection_score=stored.value,
            target=self._task.target,
            epoch=stored.epoch,
            test=self._measure_test(stored, fedex) if tests else None,
            weights=fedex.server.weights,  # type: ignore[attr-defined] # an arm's server is a Server
            fedex=fedex,
        )

    def _measure_test(self, stored: StudyBest, fedex: FedEx) -> Scores:
        """Return the test errors; measured once per state, because a test of all clients takes as long as rounds."""
        if self._test is None or self._test[0] != stored:
            self._test = stored, fedex.evaluate()
        return self._test[1]


@dataclass(frozen=True)
class TrialArm:
    """A trial of a search as an ``ArmView``."""

    task: ArmTrainer
    """Training function of the study."""
    trial: Trial
    """The trial."""
    thetas: Sequence[tuple[NDArray[np.float64], ...]] = ()
    """Theta after each of the first rounds, as far as it is known."""

    @property
    def number(self) -> int:
        return self.trial.id

    @property
    def state(self) -> str:
        return self.trial.state

    @property
    def reason(self) -> str:
        return self.trial.reason

    @property
    def settings(self) -> ServerSettings:
        return self.task.server_settings(self.trial.config)

    @property
    def elapsed_s(self) -> list[float]:
        """Seconds from the start of the study to the end of each round."""
        return [report.at_s for report in self.trial.curve]

    @cached_property
    def options(self) -> Options:
        return Options(self.task.client_configs(self.trial.config, self.trial.id))

    @cached_property
    def history(self) -> tuple[Round, ...]:
        thetas = [*self.thetas, *[()] * len(self.trial.curve)]
        return tuple(_round_of(metrics, theta) for metrics, theta in zip(self._reported(), thetas, strict=False))

    def _reported(self) -> Iterator[dict[str, float | None]]:
        """Yield all reported metrics of each round."""
        return (report.metrics | {self.task.metric: report.value} for report in self.trial.curve)

    @property
    def best_config(self) -> Config:
        option = self.trial.curve[-1].metrics["option"] if self.trial.curve else 0
        return self.options.config_at([int(option or 0)])

    @property
    def entropy(self) -> float:
        return self.history[-1].entropy if self.history else math.log(self.task.fedex_k)

    def best_epoch(self, _: str) -> int:
        return self.trial.best.epoch if self.trial.best is not None else 0


def _round_of(metrics: Mapping[str, float | None], theta: tuple[NDArray[np.float64], ...]) -> Round:
    def number(name: str) -> float:
        value = metrics[name]
        return math.nan if value is None else value

    return Round(Scores(number("global_error"), number("personal_error")), number("entropy"), number("mode"), theta)


def _thetas(fedex: FedEx) -> list[Any]:
    return [x.theta for x in fedex.history]
