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
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from seer_nb.views.figure_data import Foreseen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


logger = logging.getLogger(__name__)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be expected, perhaps with another budget or deadline?"""

    number: int
    budget: int | None = None
    """Micro-dollars."""
    deadline_s: float | None = None
    limit_s: float
    """Seconds that a simulation may take; 0: the planner answers."""

    @property
    def preview(self) -> bool:
        """Whether it asks for something else than what is."""
        return self.budget is not None or self.deadline_s is not None


class Foresight:
    """Asks the process; answers come on a thread of its own.

    The process answers the newest question that a person waits for, else the newest at all; a simulation that is on its
    way is broken off for it. So not every question is answered.

    Args:
        folder: Of the study.
        answered: Called with a question and its answer, on another thread.
    """

    def __init__(self, folder: Path, answered: Callable[[Question, Foreseen], None]) -> None:
        self._folder = folder
        self._answered = answered
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: dict[int, Question] = {}
        """Of the process that lives now."""
        self._closed = False

    def ask(self, question: Question) -> None:
        """Returns at once."""
        with self._lock:
            if self._closed:
                return
            if self._process is None or self._process.poll() is not None:
                self._start()
            assert self._process is not None
            assert self._process.stdin is not None
            self._asked[question.number] = question
            try:
                self._process.stdin.write(msgspec.json.encode(question) + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                logger.warning("the process that makes forecasts has ended; the next question starts another one")

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed = True
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()

    def _start(self) -> None:
        self._asked = {}
        command = [sys.executable, "-m", "seer_nb.ui.notebook.forecast_process", str(self._folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
        )
        threading.Thread(
            target=self._listen, args=(self._process, self._asked), daemon=True, name="seer-foresight"
        ).start()

    def _listen(self, process: subprocess.Popen[bytes], asked: dict[int, Question]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            found = msgspec.json.decode(line, type=Foreseen)
            with self._lock:
                question = asked.pop(found.number, None)
            if question is not None:
                self._answered(question, found)
        process.stdout.close()
        process.wait()
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        with self._lock:
            left = [question for question in asked.values() if question.preview and not self._closed]
            asked.clear()
        for question in left:
            self._answered(question, Foreseen(number=question.number, error="the forecast has failed"))


def _environment() -> dict[str, str]:
    # The trials' workers need the cores more.
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
