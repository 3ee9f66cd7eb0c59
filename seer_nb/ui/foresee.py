"""Forecasts for the live view, made in a process of its own: simulation would make the notebook's kernel wait.

The process reads the study's journal itself; questions and answers are lines of JSON on its standard input and output.
It ends when its input does, so with the kernel.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger(__name__)
Band: TypeAlias = tuple[float, float, float]
"""A number, and between what it will lie nine times in ten at either end."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be expected, perhaps with another budget or deadline?"""

    number: int
    budget: int | None = None
    """Micro-dollars."""
    deadline_s: float | None = None
    limit_s: float
    """Seconds that the simulation may take."""

    @property
    def preview(self) -> bool:
        """Whether it asks for something else than what is."""
        return self.budget is not None or self.deadline_s is not None


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be expected. Times are study seconds, money is dollars."""

    number: int
    """Of the question."""
    finish_s: Band | None = None
    cost_usd: Band | None = None
    best_value: Band | None = None
    survivors: float | None = None
    """Trials that will be fully trained."""
    workers: float | None = None
    """The most that will be used."""
    cost_over_time: tuple[tuple[float, float, float, float], ...] = ()
    """(time, expected, low, high)."""
    futures: int = 0
    """How many were simulated."""
    ends: dict[int, float] = {}
    """By trial in the running: its value if it were fully trained."""
    error: str = ""
    """Why there is no answer, in a sentence."""


class Foresight:
    """Asks the process; the answer comes on a thread of its own.

    One question at a time: while one is being answered, only the newest of the others is kept, and one that a person
    waits for goes before one that nobody waits for.

    Args:
        folder: Of the study.
        answered: Called with each question and its answer, on another thread.
    """

    def __init__(self, folder: Path, answered: Callable[[Question, Foreseen], None]) -> None:
        self._folder = folder
        self._answered = answered
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: Question | None = None
        self._next: Question | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether a question is being answered."""
        return self._asked is not None

    def ask(self, question: Question) -> None:
        """Returns at once."""
        with self._lock:
            if self._closed:
                return
            if self._asked is None:
                self._put(question)
            elif self._next is None or question.preview or not self._next.preview:
                self._next = question

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed = True
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()

    def _put(self, question: Question) -> None:
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._asked = question
        self._process.stdin.write(msgspec.json.encode(question) + b"\n")
        self._process.stdin.flush()

    def _start(self) -> None:
        command = [sys.executable, "-m", "seer_nb.ui.foreseer", str(self._folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True, name="seer-foresight").start()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            found = msgspec.json.decode(line, type=Foreseen)
            with self._lock:
                question, self._asked = self._asked, None
                if self._next is not None and not self._closed:
                    self._put(self._next)
                self._next = None
            if question is not None:
                self._answered(question, found)
        process.wait()
        with self._lock:
            self._asked = None


def _environment() -> dict[str, str]:
    # The trials' workers need the cores more.
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
