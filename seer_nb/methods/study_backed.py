"""A method that runs as a study, on a provider's workers: what all such methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import cloudpickle

from seer_nb._utils.text import short_repr
from seer_nb.errors import SeerError

if TYPE_CHECKING:
    from datetime import timedelta

    from seer_nb.study.study import Study


TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


class Running(ABC, Generic[TaskT, ResultT]):
    """A study of a method's own training function, and the method's result made of what the study knows.

    A subclass says of which type its training function is, and what it is called.
    """

    _study: Study | None = None
    """None: it is done in this process."""
    _task: TaskT
    """The study's training function."""
    _of: ClassVar[type[Any]]
    """Its type."""
    _word: ClassVar[str]
    """What such a study is, for the sentence of an error."""

    @classmethod
    def attach(cls, name: str) -> Self:
        """Open one that was started before, in this process or another one.

        Raises:
            StudyNotFoundError: No study of that name lies in the studies' folder.
            UntrustedError: What is stored of it may not be the user's own.
            SeerError: It is the study of something else.
        """
        from seer_nb.storage import layout
        from seer_nb.study.catalog import attach

        study = attach(name)
        task = cloudpickle.loads(layout.read_function(layout.home() / name))
        if not isinstance(task, cls._of):
            raise SeerError(
                f"name={short_repr(name)} is a study that is no {cls._word}: seer.attach({name!r}) opens it"
            )
        return cls._made(task, study)

    @classmethod
    def _made(cls, task: Any, study: Study) -> Self:
        """Of what has been checked already."""
        made = cls.__new__(cls)
        made._task, made._study = task, study  # noqa: SLF001 - the same class
        return made

    @property
    def study(self) -> Study:
        """The study that does it.

        Raises:
            SeerError: There is none, for there is no provider.
        """
        if self._study is None:
            raise SeerError(f"this {self._word} has no study, for it has no provider: give provider=seer.Local() or so")
        return self._study

    def _ipython_display_(self) -> None:
        """The study's live view."""
        if self._study is None:
            raise NotImplementedError  # so that IPython shows the text
        self.study._ipython_display_()

    def start(self) -> Self:
        """Start it in a process of its own; returns at once.

        Raises:
            SeerError: It was started before.
        """
        self.study.start()
        return self

    def wait(self, timeout: str | float | timedelta | None = None) -> ResultT:
        """Wait until it has ended.

        Raises:
            TimeoutError, StudyFailedError, RunnerError: As ``Study.wait``.
        """
        self.study.wait(timeout)
        return self.result()

    @abstractmethod
    def result(self) -> ResultT:
        """What it has found so far."""
