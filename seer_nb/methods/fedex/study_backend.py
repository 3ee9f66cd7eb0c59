"""A search for a federation's hyperparameters as a study, on a provider's workers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from seer_nb._utils.units import MICRO
from seer_nb._utils.validation import check_integer
from seer_nb.errors import MissingCheckpointError
from seer_nb.methods.fedex.arms import Arms
from seer_nb.methods.fedex.fedex import Round, Scores
from seer_nb.methods.fedex.options import Options
from seer_nb.methods.fedex.result import Best, Result
from seer_nb.methods.study_backed import Running

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
    from seer_nb.study.best import Best as Stored
    from seer_nb.study.settings import Money, Time


@dataclass(frozen=True)
class TrialArm:
    """A trial of a search, shown as an arm."""

    task: Arms
    trial: Trial
    thetas: Sequence[tuple[NDArray[np.float64], ...]] = ()
    """Of its first rounds, as far as they are known."""

    @property
    def number(self) -> int:
        """Of the trial."""
        return self.trial.id

    @property
    def state(self) -> str:
        """Of the trial."""
        return self.trial.state

    @property
    def reason(self) -> str:
        """Why it has ended."""
        return self.trial.reason

    @property
    def settings(self) -> ServerSettings:
        """Of its server."""
        return self.task.settings(self.trial.config)

    @property
    def elapsed_s(self) -> list[float]:
        """When each round has ended, in study seconds."""
        return [report.at_s for report in self.trial.curve]

    @cached_property
    def options(self) -> Options:
        """What its clients choose from."""
        return Options(self.task.configs(self.trial.config, self.trial.id))

    @cached_property
    def history(self) -> tuple[Round, ...]:
        """A record a round; theta is empty where it is not known."""
        thetas = [*self.thetas, *[()] * len(self.trial.curve)]
        return tuple(_round(told, theta) for told, theta in zip(self._told(), thetas, strict=False))

    def _told(self) -> Iterator[dict[str, float | None]]:
        """All that was reported, round by round."""
        return (report.metrics | {self.task.metric: report.value} for report in self.trial.curve)

    @property
    def best_config(self) -> Config:
        """The most probable configuration of clients after the last round."""
        place = self.trial.curve[-1].metrics["option"] if self.trial.curve else 0
        return self.options.at([int(place or 0)])

    @property
    def entropy(self) -> float:
        """Of theta after the last round, in nats."""
        return self.history[-1].entropy if self.history else math.log(self.task.fedex_k)

    def best_epoch(self, _: str) -> int:
        """The round with the least error whose model is stored; 0: there is none."""
        return self.trial.best.epoch if self.trial.best is not None else 0


def _round(reported: Mapping[str, float | None], theta: tuple[NDArray[np.float64], ...]) -> Round:
    def number(name: str) -> float:
        value = reported[name]
        return math.nan if value is None else value

    return Round(Scores(number("global_error"), number("personal_error")), number("entropy"), number("mode"), theta)


class Search(Running[Arms, Result]):
    """A search on any provider's workers: a study whose trials are the arms, and whose epochs are rounds.

    So it keeps a deadline and a budget, is seen and steered in the study's live view, is paused and resumed, goes on
    after its runner or notebook has died, and a policy says which arms go on, on how many workers. These share the
    clients of a round; an arm's errors are the same, bit for bit, on any number of workers and in any number of pieces.

    An arm is a FedEx with settings of the server and ``fedex_k`` neighbouring configurations of clients; the study's
    sampler draws the settings and the first of those configurations, ``server_*`` and ``client_*`` in its tables. An
    arm reports ``personal_error`` and ``global_error`` (validation errors), ``entropy`` (of theta, in nats), ``mode``
    (theta's greatest probability) and ``option`` (the place of that configuration).

    The federation, with up to 1 GiB of clients' data, is sent to each worker once and lies in its memory. So this
    is for the study of federated learning: data that must not leave their clients must not be given to it.

    Args:
        federation: What is tuned.
        client_space: Of the clients' hyperparameters; constants allowed. Default: ``client_space()``.
        server_space: Of lr, momentum and decay (1 - gamma) or gamma. Default: ``server_space()``.
        max_rounds: Of an arm that goes on to the end.
        deadline: As for ``Study``, and so are ``budget``, ``provider``, ``policy``, ``sampler``, ``name``, ``store``
            and ``report_timeout``.
        budget: As for ``Study``.
        provider: Where machines come from. Default: ``seer.Local()``.
        policy: Which arms go on: "seer", "halving", "random_search", "asha" or another one of seer_nb's.
        fedex_k: Configurations that each FedEx chooses from; 1: no FedEx, but federated averaging.
        eps: How far they are from each other, as a share of the ranges.
        schedule: Of FedEx's steps.
        baseline: Of FedEx; None: drawn for each arm.
        cutoff: Of FedEx, in nats.
        target: "personal": judged by the error after training on the client. "global": by the shared model's.
        clients_per_round: Drawn in each round, with replacement.
        seed: Of configurations, weights, who is drawn, and each client's training.
        sampler: Optuna's, for configurations.
        name: Of the study. Default: with the time.
        store: Of checkpoints; clouds need one that their machines can reach.
        report_timeout: How long a round may take before its arm counts as hung.

    Raises:
        TypeError, ValueError: For what cannot be; the sentence names the argument and what is allowed.
    """

    _of = Arms
    _word = "search of a federation"

    def __init__(  # noqa: PLR0913 - the public face
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

        self._task = task = Arms.read(
            *(federation, client_space, server_space),
            fedex_k=fedex_k,
            eps=eps,
            target=target,
            clients_per_round=clients_per_round,
            options={"schedule": schedule, "baseline": baseline, "cutoff": cutoff},
            seed=seed,
        )
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

    def arm(self, trial: int) -> FedEx:
        """A trial's arm at its beginning, in this process: its ``run(n)`` takes the trial's rounds again.

        Raises:
            ValueError: There is no such trial.
        """
        number = self.study._known(trial)  # noqa: SLF001 - of the same family
        return self._task.arm(self.study.state.trials[number].config, number)

    def result(self) -> Result:
        """What it has found so far.

        Once the study has ended, all clients measure the best arm on their test data, in this process; before, ``test``
        is None. The best arm is that of ``study.best``: in the round with the least error whose model is stored.

        Raises:
            CheckpointError: The best arm's model cannot be read any more.
        """
        state, status = self.study.state, self.study.status
        best = self._newest_best(tests=status in {"ended", "failed"})
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
            spent_usd=state.ledger.spent(state.now_s) / MICRO,
            study=self.study,
        )

    def _newest_best(self, *, tests: bool) -> Best | None:
        """Of ``study.best``; while it trains on, a better one may come, and its checkpoint go, at any moment."""
        for last in (False, False, True):
            stored = self.study.best
            try:
                return None if stored is None else self._best(stored, tests=tests)
            except MissingCheckpointError:
                if last:
                    raise
        return None

    def _best(self, stored: Stored, *, tests: bool) -> Best:
        fedex = self.arm(stored.trial)
        stored.load(fedex)
        return Best(
            trial=stored.trial,
            config=fedex.best_config,
            server=self._task.settings(stored.config),
            value=stored.value,
            epoch=stored.epoch,
            test=self._tested(stored, fedex) if tests else None,
            weights=fedex.server.weights,  # type: ignore[attr-defined] # it is a Server
            fedex=fedex,
        )

    def _tested(self, stored: Stored, fedex: FedEx) -> Scores:
        """Measured once: to visit all clients may take as long as many rounds."""
        if self._test is None or self._test[0] != stored:
            self._test = stored, fedex.evaluate()
        return self._test[1]

    _test: tuple[Stored, Scores] | None = None
    """What was measured last, and of what."""


def _thetas(fedex: FedEx) -> list[Any]:
    return [x.theta for x in fedex.history]
