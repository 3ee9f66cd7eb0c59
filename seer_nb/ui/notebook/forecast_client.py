"""Client of the forecast process. Simulation in a separate process does not block the notebook's kernel.

The process reads the study's journal itself. Requests and answers are lines of JSON on its standard input and output.
The process exits when its input is closed, and therefore with the kernel.
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

from seer_nb.views.figure_data import ForecastAnswer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


logger = logging.getLogger(__name__)


class ForecastRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for a forecast, optionally under another budget or deadline."""

    request_id: int
    budget_micro: int | None = None
    """Micro-dollars; None for the study's budget."""
    deadline_s: float | None = None
    """Study seconds; None for the study's deadline."""
    time_limit_s: float
    """Seconds of simulation; 0 for the planner's answer without simulation."""

    @property
    def preview(self) -> bool:
        """Whether the request is about other limits than the study's."""
        return self.budget_micro is not None or self.deadline_s is not None


class ForecastClient:
    """Client that starts the forecast process and receives its answers.

    The process answers the newest preview that waits, or the newest request if no preview waits. A new request
    interrupts a running simulation. Therefore not every request is answered.

    Args:
        folder: Folder of the study.
        on_answer: Function that is called with a request and its answer, on another thread.
    """

    def __init__(self, folder: Path, on_answer: Callable[[ForecastRequest, ForecastAnswer], None]) -> None:
        self._folder = folder
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pending: dict[int, ForecastRequest] = {}
        """Requests sent to the present process and not answered, by number."""
        self._closed = False

    def send(self, request: ForecastRequest) -> None:
        """Send a request without waiting for its answer; start the process if it does not run."""
        with self._lock:
            if self._closed:
                return
            if self._process is None or self._process.poll() is not None:
                self._start()
            assert self._process is not None
            assert self._process.stdin is not None
            self._pending[request.request_id] = request
            try:
                self._process.stdin.write(msgspec.json.encode(request) + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                logger.warning("forecast process exited: the next request starts another one")

    def close(self) -> None:
        """Make the process exit."""
        with self._lock:
            self._closed = True
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()

    def _start(self) -> None:
        self._pending = {}
        command = [sys.executable, "-m", "seer_nb.ui.notebook.forecast_process", str(self._folder)]
        # One thread, because the trials' workers need the cores.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        threading.Thread(
            target=self._read_answers, args=(self._process, self._pending), daemon=True, name="seer-forecasts"
        ).start()

    def _read_answers(self, process: subprocess.Popen[bytes], pending: dict[int, ForecastRequest]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answer = msgspec.json.decode(line, type=ForecastAnswer)
            with self._lock:
                request = pending.pop(answer.request_id, None)
            if request is not None:
                self._on_answer(request, answer)
        process.stdout.close()
        process.wait()
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        with self._lock:
            unanswered = [request for request in pending.values() if request.preview and not self._closed]
            pending.clear()
        for request in unanswered:
            self._on_answer(request, ForecastAnswer(request_id=request.request_id, error="the forecast failed"))
