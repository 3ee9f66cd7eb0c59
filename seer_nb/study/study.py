"""The study as a user holds it in a notebook: it reads the journal and sends commands to the runner."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

from seer_nb import core, policies
from seer_nb._utils import files
from seer_nb._utils.clock import steady_s
from seer_nb._utils.text import one_line
from seer_nb._utils.units import format_duration, parse_duration
from seer_nb._utils.validation import reject_unknown_arguments
from seer_nb.core.history import initial_history
from seer_nb.core.state import State
from seer_nb.errors import RunnerError, SeerError, StudyEndedError, StudyFailedError
from seer_nb.providers.local import Local
from seer_nb.runner.launch import launch, log_tail
from seer_nb.search_space import ConfigSampler, Space
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal
from seer_nb.storage.lock import runner_pid
from seer_nb.storage.replay import JournalView
from seer_nb.study import health, serialization, settings
from seer_nb.study.results import StudyResults
from seer_nb.study.settings import Money, Time, check_name, check_policy, make_settings, new_budget, new_deadline

if TYPE_CHECKING:
    import os
    import subprocess
    from collections.abc import Callable, Generator, Mapping
    from datetime import timedelta

    from seer_nb.core.history import History
    from seer_nb.core.policy import Policy
    from seer_nb.providers.base import Provider
    from seer_nb.ui.notebook.dashboard import Dashboard


OVER = frozenset({"ended", "failed"})
"""Statuses of a study that is over, unless it is resumed."""
UNCHANGED = "adjust changes nothing: give a budget, a deadline or both"


def check_accepts_commands(name: str, status: str, word: str) -> None:
    """Refuse a command that no runner would read now: it would only take effect when the study is resumed.

    Args:
        name: The study's name.
        status: ``Study.status``.
        word: The command: "pause", "stop" or "pin".

    Raises:
        StudyEndedError: The study has ended.
        SeerError: The runner has died, and the command is "pause".
    """
    if status in OVER:
        raise StudyEndedError(f"study {name!r} has ended: there is nothing to {word}")
    if status == "interrupted" and word == "pause":
        raise SeerError(f"study {name!r} has no runner any more, so nothing runs: resume continues it")


POLL_S = 0.05
"""Seconds between two reads of the journal while a call waits."""
ANSWER_S = 60.0
"""Seconds within which a runner must take a command."""
LAUNCH_S = 10.0
"""Seconds within which a new runner takes its study's lock."""


class Study(StudyResults):
    """One tuning job: a training function, a search space, a deadline and a budget.

    Args:
        train: Function of (config, run) that trains one configuration and calls ``run.report(metric=value)`` once per
            epoch; see ``seer_nb.worker.run.Run``.
        space: Dict from a hyperparameter's name to ``seer.uniform(...)``, ``seer.choice(...)`` and the like, an Optuna
            distribution, or a constant.
        metric: Name of the metric to optimise: a keyword of ``run.report``.
        mode: "max" if higher values are better, or "min".
        max_epochs: Number of epochs after which a configuration is fully trained.
        deadline: Time limit: seconds, text such as "10min", a timedelta, or a timezone-aware datetime. A duration
            counts only the time in which the study runs.
        budget: Spending limit in dollars, such as "$0.50" or 0.5. The study never spends more.
        provider: Source of machines. Default: ``seer.Local()``, this machine's cores at a notional price.
        policy: Name of a policy, such as "seer" (default), "asha" or "random_search", or an object with
            ``decide(view) -> Plan``.
        sampler: Optuna sampler that proposes configurations. Default: seeded random search.
        seed: Seed of configurations, data order and weights. Default: 0.
        name: Name of the study, whose files are in ``./seer_studies/<name>`` (or in SEER_HOME). Default: the name of
            ``train`` with date and time.
        store: fsspec URL of a folder in which the study creates its own folder for checkpoints. Default: a folder
            beside the journal.
        report_timeout: Seconds, or text, after which a trial without a report counts as hung. Default: one minute, or
            10 of its epochs if they take longer.

    Raises:
        ValueError, TypeError: An argument is invalid. Nothing was rented or written.

    Example:
        >>> space = {"lr": seer.loguniform(1e-4, 1e-1)}
        >>> study = seer.Study(
        ...     train, space, metric="accuracy", mode="max", max_epochs=27, deadline="10min", budget="$0.50"
        ... )
        >>> study.run().best
    """

    @reject_unknown_arguments(settings.HINTS)
    def __init__(  # noqa: PLR0913 - the public face
        self,
        train: Callable[..., Any],
        space: Mapping[str, Any],
        *,
        metric: str,
        mode: str,
        max_epochs: int,
        deadline: Time,
        budget: Money,
        provider: Provider | None = None,
        policy: str | Policy = "seer",
        sampler: Any = None,
        seed: int = 0,
        name: str | None = None,
        store: str | os.PathLike[str] | None = None,
        report_timeout: str | float | timedelta | None = None,
    ) -> None:
        """Validate the arguments, which ``help(seer.Study)`` describes; nothing is rented or written."""
        serialization.check(train)
        provider = provider if provider is not None else Local()
        chosen = check_policy(policy)
        self.name = check_name(_default_name(train) if name is None else name)
        self.folder = layout.study_folder(self.name)
        self._refuse_used_name()
        self.settings = make_settings(
            name=self.name,
            metric=metric,
            mode=mode,
            max_epochs=max_epochs,
            deadline=deadline,
            budget=budget,
            provider=provider,
            policy=policy if isinstance(policy, str) else type(policy).__name__,
            seed=seed,
            store=str(self.folder / layout.CHECKPOINTS) if store is None else store,
            shared_store=store is not None,
            report_timeout=report_timeout,
        )
        searched = Space(space)
        ConfigSampler(searched, sampler)  # raises if the sampler does not fit the space
        self._function = serialization.dumps(train)
        self._parts = serialization.dumps_parts(sampler=sampler, policy=chosen, provider=provider, space=searched)
        self._chosen: Policy | None = chosen
        self._view: JournalView | None = None
        self._launched: list[subprocess.Popen[bytes]] = []
        self._dashboard: Dashboard | None = None

    @classmethod
    def from_folder(cls, folder: Path) -> Study:
        """Return the study whose journal is in a folder; see ``seer.attach`` for studies by name."""
        study = cls.__new__(cls)
        study.name, study.folder = folder.name, folder
        study._view, study._launched = JournalView(Journal(folder / layout.JOURNAL)), []  # noqa: SLF001 - the same class
        study._chosen = study._dashboard = None  # noqa: SLF001 - the same class
        study.settings = study._view.state().settings  # noqa: SLF001 - the same class
        return study

    def second(self) -> Study:
        """Return another ``Study`` on the same folder, for use by another thread; SeerError before the start."""
        self._started()
        study = Study.from_folder(self.folder)
        study._launched = self._launched  # noqa: SLF001 - the same class: a runner that was just launched is alive
        return study

    def add_part(self, name: str, value: Any) -> None:
        """Add a value to those that ``start`` writes into the study's folder for the runner and for methods."""
        self._parts = serialization.dumps_parts(**cloudpickle.loads(self._parts), **{name: value})

    # --- life ---

    def start(self) -> Study:
        """Start the study in its own process and return at once.

        Raises:
            SeerError: The study was started before.
            ValueError: Another study has taken the name since.

        Example:
            >>> study.start()
        """
        if self._view is not None:
            raise SeerError(f"study {self.name!r} was started already; resume() continues it after a pause")
        since = steady_s()
        self._create()
        self._launched.append(launch(self.folder, since))
        return self

    def wait(self, timeout: str | float | timedelta | None = None) -> Study:
        """Wait until the study has ended.

        Args:
            timeout: Limit on the wait: seconds, or text such as "10min". Default: no limit.

        Raises:
            TimeoutError: The study is still running.
            StudyFailedError: The study ended early because of a fault.
            RunnerError: The runner died; ``resume()`` continues the study.
            SeerError: The study has not been started.
        """
        patience_s = None if timeout is None else parse_duration(timeout, "timeout")
        end = None if patience_s is None else time.monotonic() + patience_s
        while not self._settled():
            if patience_s is not None and end is not None and time.monotonic() > end:
                raise TimeoutError(
                    f"study {self.name!r} has not ended after {format_duration(patience_s)}; it is still running"
                )
            time.sleep(POLL_S)
        return self._leave_picture()

    def __await__(self) -> Generator[Any, None, Study]:
        """Wait as ``wait()`` does, without blocking the notebook."""
        return self._wait_async().__await__()

    async def _wait_async(self) -> Study:
        while not self._settled():  # noqa: ASYNC110 - another process writes the journal
            await asyncio.sleep(POLL_S)
        return self._leave_picture()

    def run(self) -> Study:
        """Start the study and wait until it has ended: ``start()`` and ``wait()``.

        Raises:
            SeerError: As for `start` and `wait`.
        """
        return self.start().wait()

    def pause(self) -> None:
        """Save all trials and release all machines; the unused time and money are kept.

        Raises:
            StudyEndedError: The study has ended.
            SeerError: The study has not been started, or its runner has died.
        """
        self._send_to_running("pause", core.Pause())

    def resume(self) -> Study:
        """Continue after a pause, after the runner died, or after the end if there is time and money again.

        Raises:
            RunnerError: The runner takes no command.
            SeerError: The study has not been started.
        """
        journal = self._started().journal
        number, end_s = journal.send(core.Resume()), time.monotonic() + ANSWER_S
        while self._driven():
            if number not in dict(journal.inbox()):
                return self
            if time.monotonic() > end_s:
                why = one_line(self.stuck) or "it is busy"
                raise RunnerError(f"the runner of study {self.name!r} does not answer: {why}")
            time.sleep(POLL_S)  # a runner that is about to exit takes no commands
        self._launched.append(launch(self.folder))
        return self

    def stop(self) -> None:
        """Save all trials, release all machines, and end the study. Results and checkpoints stay.

        Does nothing if the study has ended.

        Raises:
            SeerError: The study has not been started.
        """
        with contextlib.suppress(StudyEndedError):  # the study may end by itself at any moment
            self._send_to_running("stop", core.Stop())
        if self.status == "interrupted":
            # Machines may still be running: a new runner terminates them and ends the study.
            self._launched.append(launch(self.folder))

    def adjust(self, *, budget: Money | None = None, deadline: Time | None = None) -> None:
        """Change the budget or the deadline, also while the study runs. After its end, the change is for `resume`.

        Args:
            budget: Dollars for the whole study; at least what is spent and committed. Default: unchanged.
            deadline: As for ``Study``: a duration from the start, or a datetime. Default: unchanged.

        Raises:
            ValueError: The budget is less than what is spent and committed, the deadline has passed, or neither is
                given.
            SeerError: The study has not been started.

        Example:
            >>> study.adjust(budget="$0.80", deadline="15min")
        """
        if budget is None and deadline is None:
            raise ValueError(UNCHANGED)
        commands: list[core.Command] = []
        if budget is not None:
            commands.append(new_budget(self.state, budget))
        if deadline is not None:
            commands.append(new_deadline(self.state, deadline))
        for command in commands:
            self.send(command)

    def pin(self, trial: int, pinned: bool = True) -> None:  # noqa: FBT001, FBT002 - pin(3, False) reads well
        """Keep a trial from being stopped, whatever its rank.

        Args:
            trial: Number of the trial, as in ``results()``.
            pinned: False ends the protection. Default: True.

        Raises:
            ValueError: There is no such trial.
            StudyEndedError: The study has ended.
            SeerError: The study has not been started.
        """
        self._send_to_running("pin", core.Pin(trial=self.check_trial(trial), pinned=pinned))

    def stop_trial(self, trial: int) -> None:
        """Stop one trial; its results and checkpoint stay.

        Args:
            trial: Number of the trial, as in ``results()``.

        Raises:
            ValueError: There is no such trial.
            StudyEndedError: The study has ended.
            SeerError: The study has not been started.
        """
        self._send_to_running("stop", core.StopTrial(trial=self.check_trial(trial)))

    # --- status and display ---

    @property
    def status(self) -> str:
        """created, running, pausing, paused, ending, ended, failed, or interrupted (the runner died)."""
        if self._view is None:
            return "created"
        state = self._view.state()
        if state.phase == "ended":
            return "failed" if state.failed else "ended"
        return state.phase if self._driven() else "interrupted"

    @property
    def started(self) -> bool:
        """Whether the study was started, so that it has a journal."""
        return self._view is not None

    @property
    def stuck(self) -> str:
        """Why the running study makes no progress, in one sentence; empty if it does."""
        return "" if self._view is None else health.explain_problem(self.folder, self._view, self.state, self.status)

    def _ipython_display_(self) -> None:
        """Show the live dashboard below a notebook's cell; without widgets, a static picture or text."""
        from seer_nb.ui.notebook.dashboard import show

        show(self)

    def dashboard(self) -> Dashboard:
        """Return the study's live dashboard, which is also the display of a study in a notebook."""
        if self._dashboard is None:
            from seer_nb.ui.notebook.dashboard import Dashboard

            self._dashboard = Dashboard(self)
        return self._dashboard

    def __repr__(self) -> str:
        # Without control characters: a terminal prints it as it is, and the journal may come from somebody else.
        return f"<Study {self.name!r}: {self.settings.mode} {one_line(self.settings.metric)}>"

    # --- private ---

    def _create(self) -> None:
        try:
            layout.make_folder(self.folder)
        except FileExistsError:
            self._refuse_used_name()
        try:
            files.write_atomically(self.folder / layout.FUNCTION, self._function, private=True)
            files.write_atomically(self.folder / layout.CWD, str(Path.cwd()).encode(), private=True)
            files.write_atomically(self.folder / layout.PARTS, self._parts, private=True)
            layout.sign(self.folder)
            began = core.Began(settings=self.settings)
            self._view = JournalView(Journal.create(self.folder / layout.JOURNAL, [(0.0, began)]))
        except BaseException:
            # Also on KeyboardInterrupt: the name must be free again.
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _refuse_used_name(self) -> None:
        if self.folder.exists():
            raise ValueError(
                f"name={self.name!r} is already in use in {self.folder.parent}: "
                f"seer.attach({self.name!r}) opens that study; else choose another name"
            )

    def _started(self) -> JournalView:
        if self._view is None:
            raise SeerError(f"study {self.name!r} has not been started: start() it first")
        return self._view

    @property
    def journal(self) -> Journal:
        """Journal of the study; SeerError before the study was started."""
        return self._started().journal

    @property
    def state(self) -> State:
        """State after the newest record of the journal."""
        return State(self.settings) if self._view is None else self._view.state()

    @property
    def now_s(self) -> float:
        """Study seconds now, which may be later than the newest record."""
        state = self.state
        return state.now_s if self._view is None else health.now_s(self._view, state, self.status)

    @property
    def history(self) -> History:
        """Values over time and the log of decisions, up to the same record as `state`."""
        return initial_history(self.settings) if self._view is None else self._view.history

    def _space(self) -> Space:
        self._started()
        space: Space = layout.read_parts(self.folder)["space"]
        return space

    def _policy(self) -> Policy:
        """Return the policy that was given; for an attached study, a new one of the same name."""
        return self._chosen or policies.by_name(self.settings.policy)

    def _send_to_running(self, word: str, command: core.Command) -> None:
        """Send a command that only a running study can carry out."""
        waiting = self._started().journal.inbox()
        if not any(isinstance(sent, core.Resume) for _, sent in waiting):  # otherwise it resumes in a moment
            check_accepts_commands(self.name, self.status, word)
        self.send(command)

    def send(self, command: core.Command) -> None:
        """Queue a command for the runner; SeerError before the study was started."""
        self._started().journal.send(command)

    def _driven(self) -> bool:
        """Return whether a runner is alive, including a new process that has not taken the lock yet."""
        started = any(process.poll() is None for process in self._launched)
        return started or runner_pid(self.folder) is not None or self._is_new()

    def _is_new(self) -> bool:
        """Return whether another process created the study just now, and its runner has not taken the lock yet."""
        view = self._view
        made = view is not None and not self._launched and view.state().now_s == 0 and view.seq == 1
        return made and view is not None and time.time() - view.wall < LAUNCH_S

    def _leave_picture(self) -> Study:
        if self._dashboard is not None:
            self._dashboard.settle()
        return self

    def _settled(self) -> bool:
        """Return whether the study has ended; raise if it failed, or cannot end because its runner died."""
        view = self._started()
        driven = self._driven()
        # Read after the check of the process: a runner that has exited since has written all of its records.
        state = view.state()
        if driven:
            return False  # also until the last process has exited, because the caller may want to resume()
        if state.phase != "ended":
            raise RunnerError(
                f"the runner of study {self.name!r} has died; resume() continues from its journal. End of its log:\n"
                + log_tail(self.folder)
            )
        if state.failed:
            raise StudyFailedError(f"study {self.name!r} failed: {one_line(state.reason)}")
        return True


def _default_name(train: Callable[..., Any]) -> str:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", getattr(train, "__name__", "study"))[:60].strip("-") or "study"
    # With milliseconds: two studies of one function may be created in the same second.
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() // 10**6 % 1000:03d}"
