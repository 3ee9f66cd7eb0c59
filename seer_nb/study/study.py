"""The study as a user holds it in a notebook: it reads the journal and sends commands to the runner."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, get_args

import cloudpickle

from seer_nb import core, policies
from seer_nb._utils.clock import steady_s
from seer_nb._utils.text import one_line, short_repr
from seer_nb._utils.units import format_duration, parse_duration
from seer_nb._utils.validation import check_choice, reject_unknown_arguments, warn
from seer_nb.errors import RunnerError, SeerError, StudyEndedError
from seer_nb.providers.local import Local
from seer_nb.runner.launch import launch
from seer_nb.search_space import ConfigSampler, Space
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal
from seer_nb.storage.replay import JournalView
from seer_nb.study import folder as study_folder
from seer_nb.study import limits, serialization, settings
from seer_nb.study.progress import watched
from seer_nb.study.settings import (
    Money,
    Time,
    check_name,
    check_policy,
    default_name,
    make_settings,
    new_budget,
    new_deadline,
)
from seer_nb.study.stored import StoredStudy, check_accepts_commands

if TYPE_CHECKING:
    import os
    import subprocess
    from collections.abc import Callable, Generator, Mapping
    from datetime import timedelta
    from pathlib import Path

    from seer_nb.core import Settings
    from seer_nb.core.policy import Policy
    from seer_nb.providers.base import Provider
    from seer_nb.ui.notebook.dashboard import Dashboard


POLL_S = 0.05
"""Seconds between two reads of the journal while a call waits."""
ANSWER_S = 60.0
"""Seconds within which a runner must take a command."""


class Study(StoredStudy):
    """A hyperparameter study: a training function, a search space, a deadline and a budget.

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
        max_parallelism: Most workers that train one trial together; 1 if workers cannot share the work of ``train``.
            Default: no limit, until the workers of a trial are found to do the same work.
        exist: What to do if a study of that name exists: raise an "error" (default); "resume" it, so that ``start``
            continues it with this training function and, if they differ from its first ones, this budget and
            deadline; or "overwrite" it, so that ``start`` first deletes its folder and checkpoints.

    Raises:
        ValueError, TypeError: An argument is invalid. Nothing was rented or written.

    Warns:
        UserWarning: The budget cannot be spent by the deadline, or the budget cannot last until it, by a factor of more
            than about 2.

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
        max_parallelism: int | None = None,
        exist: study_folder.Exist = "error",
    ) -> None:
        """Validate the arguments, which ``help(seer.Study)`` describes; nothing is rented or written."""
        serialization.check(train)
        provider = provider if provider is not None else Local()
        chosen = check_policy(policy)
        self.name = check_name(default_name(train) if name is None else name)
        self.folder = layout.study_folder(self.name)
        check_choice(exist, "exist", get_args(study_folder.Exist))
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
            max_parallelism=max_parallelism,
        )
        searched = Space(space)
        ConfigSampler(searched, sampler)  # raises if the sampler does not fit the space
        self._function = serialization.ship(train, shared=getattr(provider, "shares_files", True))
        self._parts = serialization.dumps_parts(sampler=sampler, policy=chosen, provider=provider, space=searched)
        self._chosen: Policy | None = chosen
        self.journal_view: JournalView | None = None
        self._launched: list[subprocess.Popen[bytes]] = []
        self._dashboard: Dashboard | None = None
        self._reopened: Settings | None = None
        self._overwrites = False
        self._reopen(exist, searched)

    @classmethod
    def from_folder(cls, folder: Path) -> Study:
        """Return the study whose journal is in a folder; see ``seer.attach`` for studies by name."""
        study = cls.__new__(cls)
        study.name, study.folder = folder.name, folder
        study.journal_view, study._launched = JournalView(Journal(folder / layout.JOURNAL)), []  # noqa: SLF001 - the same class
        study._chosen = study._dashboard = study._reopened = None  # noqa: SLF001 - the same class
        study.settings = study.journal_view.state().settings
        return study

    def reopen(self) -> Study:
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
        if self._reopened is not None:
            return self._start_again(self._reopened)
        if self.journal_view is not None:
            raise SeerError(f"study {self.name!r} was started already; resume() continues it after a pause")
        start_s = steady_s()
        if self._overwrites and self.folder.exists():
            Study.from_folder(self.folder).delete()
        self.create_folder()
        self._launched.append(launch(self.folder, start_s))
        return self

    def wait(self, timeout: str | float | timedelta | None = None, *, progress: bool = True) -> Study:
        """Wait until the study has ended. Ctrl-C ends the wait, not the study.

        Args:
            timeout: Limit on the wait: seconds, or text such as "10min". Default: no limit.
            progress: Whether to show the progress: a live block in a terminal, nothing in a notebook, a line every 30 s
                elsewhere, on standard error. Default: True.

        Raises:
            TimeoutError: The study is still running.
            StudyFailedError: The study ended early because of a fault.
            RunnerError: The runner died; ``resume()`` continues the study.
            SeerError: The study has not been started.
        """
        patience_s = None if timeout is None else parse_duration(timeout, "timeout")
        end = None if patience_s is None else time.monotonic() + patience_s
        self._started()
        with watched(self, progress=progress) as update:
            while not self.settled():
                if patience_s is not None and end is not None and time.monotonic() > end:
                    raise TimeoutError(
                        f"study {self.name!r} has not ended after {format_duration(patience_s)}; it is still running"
                    )
                update()
                time.sleep(POLL_S)
        return self._finish_display()

    def __await__(self) -> Generator[Any, None, Study]:
        """Wait as ``wait()`` does, without blocking the notebook."""
        return self._wait_async().__await__()

    async def _wait_async(self) -> Study:
        while not self.settled():  # noqa: ASYNC110 - another process writes the journal
            await asyncio.sleep(POLL_S)
        return self._finish_display()

    def run(self, *, progress: bool = True) -> Study:
        """Start the study and wait until it has ended: ``start()`` and ``wait()``.

        Args:
            progress: As for `wait`.

        Raises:
            SeerError: As for `start` and `wait`.
        """
        return self.start().wait(progress=progress)

    def pause(self) -> None:
        """Save all trials and release all machines; the unused time and money are kept.

        Raises:
            StudyEndedError: The study has ended.
            SeerError: The study has not been started, or its runner has died.
        """
        self._send_to_running("pause", core.Pause())

    def resume(self, *, sampler: Any = None) -> Study:
        """Continue after a pause, after the runner died, or after the end if there is time and money again.

        Args:
            sampler: Optuna sampler that replaces the study's sampler, once the runner has ended. Default: unchanged.

        Raises:
            ValueError, TypeError: The sampler does not fit the space.
            RunnerError: The runner takes no command.
            SeerError: The study has not been started, or a runner that could use the former sampler is alive.
        """
        journal = self._started().journal
        if sampler is not None:
            if self._has_runner():
                raise SeerError(f"sampler={short_repr(sampler)}: a runner is alive; expected a study that has ended")
            serialization.replace_sampler(self.folder, sampler)
        number, end_s = journal.send(core.Resume()), time.monotonic() + ANSWER_S
        while self._has_runner():
            if number not in dict(journal.inbox()):
                return self
            if time.monotonic() > end_s:
                why = one_line(self.stalled) or "it is busy"
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

    def delete(self) -> None:
        """Delete the study's folder and its checkpoints.

        Raises:
            SeerError: The study has not been started, its runner is alive, or its machines may still run.
        """
        self.check_deletable()
        self.journal.close()
        self.journal_view = None
        study_folder.delete(self.folder, self.settings)

    def check_deletable(self) -> None:
        """Raise SeerError if the study cannot be deleted now: its runner is alive, or machines may still run."""
        state = self.state
        self._started()
        if self._has_runner() or state.live_machines:
            raise SeerError(
                f"study {self.name!r} cannot be deleted, because it is {self.status}: "
                f"seer.attach({self.name!r}).stop() or `seer-nb stop {self.name}` ends it first"
            )

    def adjust(self, *, budget: Money | None = None, deadline: Time | None = None) -> None:
        """Change the budget or the deadline, also while the study runs. After its end, the change is for `resume`.

        Args:
            budget: Dollars for the whole study; at least what is spent and committed. Default: unchanged.
            deadline: As for ``Study``: a duration from the start, or a datetime. Default: unchanged.

        Raises:
            ValueError: The budget is less than what is spent and committed, the deadline has passed, or neither is
                given.
            SeerError: The study has not been started.

        Warns:
            UserWarning: One limit makes the other pointless, by a factor of more than about 2.

        Example:
            >>> study.adjust(budget="$0.80", deadline="15min")
        """
        if advice := self.change_limits(budget, deadline):
            warn(advice)

    def change_limits(self, budget: Money | None, deadline: Time | None) -> str:
        """Do as `adjust` does, but return its warning instead of issuing it; empty if the limits fit together."""
        if budget is None and deadline is None:
            raise ValueError("adjust changes nothing: give a budget, a deadline or both")
        state = self.state
        first = None if budget is None else new_budget(state, budget)
        second = None if deadline is None else new_deadline(state, deadline)
        for command in (first, second):
            if command is not None:
                self.send(command)
        asked = limits.limits_of(state, first, second)
        return limits.mismatch(state.settings, asked)

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

    # --- folder ---

    def create_folder(self) -> None:
        """Write the study's folder, as ``start`` does before it starts the runner."""
        self.journal_view = study_folder.create(self.folder, self._function, self._parts, self.settings)

    def read_space(self) -> Space:
        """Return the search space; SeerError before the study was started."""
        self._started()
        space: Space = layout.read_parts(self.folder)["space"]
        return space

    def read_policy(self) -> Policy:
        """Return the policy that was given; for an attached study, a new one of the same name."""
        return self._chosen or policies.by_name(self.settings.policy)

    # --- private ---

    def _reopen(self, exist: str, space: Space) -> None:
        """Take over the study that has the name, or check that it can be deleted, as ``exist`` says."""
        if exist == "error" or not (self.folder / layout.JOURNAL).exists():
            study_folder.refuse_used_name(self.folder)
            return
        earlier = Study.from_folder(self.folder)
        if exist == "overwrite":
            earlier.check_deletable()
            self._overwrites = True
            return
        study_folder.check_fits(self.folder, earlier.settings, self.settings, space)
        self._reopened = self.settings
        self.settings, self.journal_view = earlier.settings, earlier.journal_view

    def _start_again(self, given: Settings) -> Study:
        """Resume the study that ``exist="resume"`` found, with limits that differ from its first ones."""
        self._reopened = None
        for command in settings.changed_limits(self.state, self.settings, given):
            self.send(command)
        if self.status in {"running", "ending"}:
            return self
        if not self._has_runner():
            study_folder.replace_function(self.folder, self._function)
        return self.resume()

    def _send_to_running(self, word: str, command: core.Command) -> None:
        """Send a command that only a running study can carry out."""
        self._started()
        if not self._resumes():  # otherwise it resumes in a moment
            check_accepts_commands(self.name, self.status, word)
        self.send(command)

    def _finish_display(self) -> Study:
        if self._dashboard is not None:
            self._dashboard.settle()
        return self
