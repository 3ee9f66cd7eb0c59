"""An arm as a study's journal knows it: its reports, and no model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from seer_nb.methods.fedex.options import Options
from seer_nb.methods.fedex.records import Round, Scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from seer_nb.core.model import Config, Trial
    from seer_nb.methods.fedex.arms import Arms
    from seer_nb.methods.fedex.server import ServerSettings


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
