"""Results of a federated search: tables shaped like a study's, the best configuration, files and figures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

from seer_nb.methods.fedex.validation import SCORE_FIELDS
from seer_nb.methods.result import MethodResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from plotly.graph_objects import Figure

    from seer_nb.core import Config
    from seer_nb.methods.fedex.client import Vector
    from seer_nb.methods.fedex.fedex import FedEx, Round, Scores
    from seer_nb.methods.fedex.options import Options
    from seer_nb.methods.fedex.search import Ladder
    from seer_nb.methods.fedex.server import Server, ServerSettings
    from seer_nb.methods.fedex.worker_pool import WorkerPool
    from seer_nb.study.study import Study


class ArmView(Protocol):
    """Figures of one arm in a result."""

    @property
    def number(self) -> int:
        """Number of the arm."""

    @property
    def settings(self) -> ServerSettings:
        """Server hyperparameters."""

    @property
    def state(self) -> str:
        """State, named as that of a study's trial."""

    @property
    def reason(self) -> str:
        """Cause of the arm's end; empty before."""

    @property
    def elapsed_s(self) -> Sequence[float]:
        """Seconds from the start of the search to the end of each round."""

    @property
    def history(self) -> Sequence[Round]:
        """One record per completed round; theta is empty where it was not kept."""

    @property
    def options(self) -> Options:
        """Client configurations that the arm chooses from."""

    @property
    def best_config(self) -> Config:
        """Most probable client configuration after the last round."""

    @property
    def entropy(self) -> float:
        """Entropy of theta after the last round, in nats."""

    def best_epoch(self, target: str) -> int:
        """Return the restorable round with the least error of the target; 0: there is none."""


class Arm:
    """An arm of ``tune``: one FedEx run, its state and its times.

    Args:
        number: Number of the arm.
        settings: Server hyperparameters.
        fedex: The FedEx run.
        server: Its server.
    """

    def __init__(self, number: int, settings: ServerSettings, fedex: FedEx, server: Server) -> None:
        self.number = number
        self.settings = settings
        self.fedex = fedex
        self._server = server
        self.state, self.reason = "waiting", ""
        self.elapsed_s: list[float] = []
        """Seconds from the start of the search to the end of each round."""

    @property
    def history(self) -> tuple[Round, ...]:
        return self.fedex.history

    @property
    def options(self) -> Options:
        return self.fedex.options

    @property
    def best_config(self) -> Config:
        return self.fedex.best_config

    @property
    def entropy(self) -> float:
        return self.fedex.entropy

    def best_epoch(self, target: str) -> int:
        values = [getattr(x.validation, SCORE_FIELDS[target]) for x in self.history]
        return values.index(min(values)) + 1 if values else 0

    def set_pool(self, pool: WorkerPool) -> None:
        """Set where the arm's clients train."""
        self._server.set_pool(pool)

    def record_round(self, elapsed_s: float) -> None:
        """Record the end of a round."""
        self.state = "running"
        self.elapsed_s.append(elapsed_s)

    def stop(self, reason: str) -> None:
        """Record that the arm is stopped."""
        self.state, self.reason = "stopped", reason

    def complete(self) -> None:
        """Record that the arm has had all of its rounds."""
        self.state, self.reason = "completed", f"all {len(self.elapsed_s)} rounds completed"

    def stop_unless_ended(self, reason: str) -> None:
        """Record that the arm is stopped, unless it was stopped or completed before."""
        if self.state in {"waiting", "running"}:
            self.stop(reason)


@dataclass(frozen=True)
class Best:
    """The best-scoring state of all arms, and its test errors."""

    trial: int
    """Number of its arm."""
    config: Config
    """Most probable client configuration."""
    server: ServerSettings
    """Server hyperparameters."""
    selection_score: float
    """Validation error of the target by which this state was selected; as the least of many, it is optimistic."""
    target: str
    """"personal" or "global": which validation error was minimised."""
    epoch: int
    """Rounds that led to this state."""
    test: Scores | None
    """Test errors with client configurations drawn from theta; None: not measured."""
    weights: Vector
    """Weights of the shared model, shape (parameters,)."""
    fedex: FedEx
    """The FedEx run in this state; it no longer uses workers, and further rounds run in this process."""

    @property
    def test_error(self) -> float | None:
        """Test error of the target: the honest counterpart of ``selection_score``; None: not measured."""
        return None if self.test is None else float(getattr(self.test, SCORE_FIELDS[self.target]))


@dataclass(frozen=True)
class Result(MethodResult):
    """Result of ``tune`` or ``Search``.

    Example:
        >>> result = fedex.tune(federation, max_rounds=60, total_rounds=300)
        >>> result.best.config, result.best.test
        >>> result.export("arms.csv"), result.figures["curves"]
    """

    arms: tuple[ArmView, ...]
    """The arms, in order of their numbers."""
    best: Best | None
    """Best state; None: no round was completed."""
    target: str
    """"personal" or "global": which validation error was minimised."""
    reason: str
    """Cause of the end of the search."""
    ladder: Ladder | None = None
    """Rungs of ``tune``; None for ``Search``, whose policy promotes arms."""
    spent_usd: float = 0.0
    """Dollars spent."""
    study: Study | None = field(default=None, compare=False)
    """Study whose trials are the arms; None for ``tune``."""

    def __repr__(self) -> str:
        found = "nothing found" if self.best is None else _describe(self.best)
        return f"Result({len(self.arms)} arms, {self.rounds} rounds, {found}, {self.reason}, {self._seed_and_duration})"

    @property
    def rounds(self) -> int:
        """Rounds that all arms together completed."""
        return sum(len(arm.history) for arm in self.arms)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per arm, sorted by trial.

        Columns: trial, state, selection_score (least validation error of the target, which is optimistic; for a study,
        the least with a stored model), test_error (of the target, best arm only), best_epoch (the round of the
        selection score), config_* (most probable client configuration), config_server_*, rounds, entropy (of theta, in
        nats), mode (greatest probability), test_global and test_personal (best arm only), reason.
        """
        import pandas as pd

        return pd.DataFrame([self._row(arm) for arm in self.arms])

    def curves(self) -> pd.DataFrame:
        """Return one row per round of each arm.

        Returns:
            Columns: trial, epoch (the round), value (validation error of the target), elapsed_s, global, personal,
            entropy, mode.
        """
        import pandas as pd

        columns = ("trial", "epoch", "value", "elapsed_s", "global", "personal", "entropy", "mode")
        rows = (
            (arm.number, epoch, self._value(x), at_s, x.validation.shared, x.validation.personal, x.entropy, x.mode)
            for arm in self.arms
            for epoch, (x, at_s) in enumerate(zip(arm.history, arm.elapsed_s, strict=False), 1)
        )
        return pd.DataFrame(rows, columns=list(columns))

    def theta(self) -> pd.DataFrame:
        """Return one row per option, round and arm.

        A study keeps theta of the best arm only, up to its best round.

        Returns:
            Columns: trial, epoch, axis, option, label, probability.
        """
        import pandas as pd

        columns = ("trial", "epoch", "axis", "option", "label", "probability")
        rows = (
            (arm.number, epoch, name, option, arm.options.label(axis, option), float(probability))
            for arm in self.arms
            for epoch, x in enumerate(arm.history, 1)
            if x.theta
            for axis, name in enumerate(arm.options.names)
            for option, probability in enumerate(x.theta[axis])
        )
        return pd.DataFrame(rows, columns=list(columns))

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Plotly figures: "curves" (each arm's validation error by round) and "theta" (of the best arm, by round)."""
        from seer_nb.methods.fedex.figures import plot_curves, plot_theta

        drawn = {"curves": plot_curves(self)}
        return drawn if self.best is None else {**drawn, "theta": plot_theta(self)}

    def finish(self, arms: list[Arm], wall_s: float, spent_usd: float) -> Self:
        """Return the result with its time and cost, after detaching all runs from the workers.

        Args:
            arms: The arms of the search.
            wall_s: Seconds that the search took.
            spent_usd: Dollars that the search spent.
        """
        for fedex in [*(arm.fedex for arm in arms), *([self.best.fedex] if self.best else [])]:
            fedex.server.set_pool(None)  # type: ignore[attr-defined] # an arm's server is a Server
        return replace(self, wall_s=wall_s, spent_usd=spent_usd)

    @property
    def _tables(self) -> Mapping[str, Callable[[], pd.DataFrame]]:
        return {**super()._tables, "theta": self.theta}

    def _value(self, done: Round) -> float:
        value: float = getattr(done.validation, SCORE_FIELDS[self.target])
        return value

    def _row(self, arm: ArmView) -> dict[str, Any]:
        history, epoch = arm.history, arm.best_epoch(self.target)
        best = self.best if self.best is not None and self.best.trial == arm.number else None
        test = best.test if best else None
        return {
            "trial": arm.number,
            "state": arm.state,
            "selection_score": self._value(history[epoch - 1]) if epoch else float("nan"),
            "test_error": best.test_error if best and best.test_error is not None else float("nan"),
            "best_epoch": epoch,
            **{f"config_{name}": value for name, value in arm.best_config.items()},
            **{f"config_server_{name}": value for name, value in arm.settings._asdict().items()},
            "rounds": len(history),
            "entropy": arm.entropy,
            "mode": history[-1].mode if history else float("nan"),
            "test_global": test.shared if test else float("nan"),
            "test_personal": test.personal if test else float("nan"),
            "reason": arm.reason,
        }


def _describe(best: Best) -> str:
    tested = "not tested" if best.test_error is None else f"test error {best.test_error:.4f}"
    return f"best {best.target} error {best.selection_score:.4f} in the selection, {tested}"
