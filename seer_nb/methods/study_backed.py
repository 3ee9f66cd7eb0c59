"""The base class of methods that run as a study on a provider's workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypedDict, TypeVar

import cloudpickle

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MICRO
from seer_nb.errors import SeerError

if TYPE_CHECKING:
    from datetime import timedelta

    from seer_nb.study.study import Study


TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


class StudySummary(TypedDict):
    """The fields that every result of a study-backed method takes from its study."""

    reason: str
    """Why the study ended; its status while it has not ended."""
    wall_s: float
    """Seconds in which the study ran."""
    spent_usd: float
    study: Study


class StudyBacked(ABC, Generic[TaskT, ResultT]):
    """A study that runs a method's training function, and converts its trials into the method's result.

    A subclass sets the type of its training function and the word that error messages use for it.
    """

    _study: Study | None = None
    """The study; None if the method runs in this process."""
    _task: TaskT
    """The study's training function."""
    _task_type: ClassVar[type[Any]]
    """Type of the training function."""
    _title: ClassVar[str]
    """Noun for such a study in error messages."""

    @classmethod
    def attach(cls, name: str) -> Self:
        """Open a study that was started before, in this process or in another one.

        Raises:
            StudyNotFoundError: The studies' folder holds no study of that name.
            UntrustedError: The stored files may not be the user's own.
            SeerError: The study belongs to something else.
        """
        from seer_nb.storage import layout
        from seer_nb.study.catalog import attach
        from seer_nb.worker import function

        study = attach(name)
        task = cloudpickle.loads(function.read(layout.home() / name))
        if not isinstance(task, cls._task_type):
            raise SeerError(
                f"name={short_repr(name)}: study of another type than {cls._title!r}; "
                f"open it with seer.attach({name!r})"
            )
        return cls._made(task, study)

    @classmethod
    def _made(cls, task: Any, study: Study) -> Self:
        """Create an instance from a checked task and its study."""
        made = cls.__new__(cls)
        made._task, made._study = task, study  # noqa: SLF001 - the same class
        return made

    @property
    def study(self) -> Study:
        """The study that runs the method.

        Raises:
            SeerError: There is no study, because no provider was given.
        """
        if self._study is None:
            raise SeerError(f"this {self._title} has no study: provider=None; expected a provider such as seer.Local()")
        return self._study

    def _study_summary(self) -> StudySummary:
        study, state = self.study, self.study.state
        return {
            "reason": state.reason or f"the study is {study.status}",
            "wall_s": state.now_s,
            "spent_usd": state.ledger.spent_micro(state.now_s) / MICRO,
            "study": study,
        }

    def _ipython_display_(self) -> None:
        if self._study is None:
            raise NotImplementedError  # IPython then shows the repr
        self.study._ipython_display_()

    def start(self) -> Self:
        """Start the study in its own process, and return at once.

        Raises:
            SeerError: The study was started before.
        """
        self.study.start()
        return self

    def wait(self, timeout: str | float | timedelta | None = None) -> ResultT:
        """Wait until the study has ended, and return the result.

        Args:
            timeout: Longest time to wait: seconds, text such as "10min", or a timedelta. None waits without limit.

        Raises:
            TimeoutError, StudyFailedError, RunnerError: As for ``Study.wait``.
        """
        self.study.wait(timeout)
        return self.result()

    @abstractmethod
    def result(self) -> ResultT:
        """Return what the study has found so far."""
