"""A study: what a user holds in the notebook. It reads the journal and writes commands; the runner does the work."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import time
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seer_nb import core, policies
from seer_nb._utils import files
from seer_nb._utils.clock import steady_s
from seer_nb._utils.text import one_line, show
from seer_nb._utils.units import format_duration, parse_duration
from seer_nb._utils.validation import refuses_unknown
from seer_nb.core.history import begun
from seer_nb.core.state import State
from seer_nb.errors import RunnerError, SeerError, StudyEndedError, StudyFailedError
from seer_nb.providers.local import Local
from seer_nb.runner.launch import launch, log_tail
from seer_nb.search_space import ConfigSampler, Space
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal
from seer_nb.storage.lock import runner_pid
from seer_nb.storage.replay import View
from seer_nb.study import health, serialization, settings
from seer_nb.study.results import Foretelling
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
"""Statuses in which nothing goes on, unless the study is resumed."""
UNCHANGED = "adjust changes nothing: give a budget, a deadline or both"


def refuse_late(name: str, status: str, word: str) -> None:
    """See that a study can be told something: what nobody reads now would be carried out when it is resumed.

    Args:
        name: Of the study.
        status: ``Study.status``.
        word: What it is told to do: "pause", "stop", "pin".

    Raises:
        StudyEndedError: It has ended.
        SeerError: Its runner has died, and it is told to pause.
    """
    if status in OVER:
        raise StudyEndedError(f"study {name!r} has ended: there is nothing to {word}")
    if status == "interrupted" and word == "pause":
        raise SeerError(f"study {name!r} has no runner any more, so nothing runs: resume goes on with it")


POLL_S = 0.05
ANSWER_S = 60.0
"""A runner that takes no command for so long does not answer."""
LAUNCH_S = 10.0
"""A runner has taken its study's lock after so long."""
"""How often a waiting study looks into its journal."""


class Study(Foretelling):
    """One tuning job: a training function, a search space, a deadline and a budget.

    Args:
        train: Function of (config, run). It trains one configuration and calls ``run.report(metric=value)`` once an
            epoch; see ``seer_nb.worker.run.Run``.
        space: Name to ``seer.uniform(...)``, ``seer.choice(...)`` and the like, an Optuna distribution, or a constant.
        metric: The keyword of ``run.report`` that is optimised.
        mode: "max" when more is better, or "min".
        max_epochs: Epochs that train a configuration fully.
        deadline: Text such as "10min", seconds, a timedelta, or an aware datetime. A duration counts only time in
            which the study runs.
        budget: Dollars, such as "$0.50" or 0.5. Never exceeded.
        provider: Where machines come from. Default: ``seer.Local()``, this machine's cores at a notional price.
        policy: "seer", "asha", "random_search", or an object with ``decide(snapshot) -> Plan``.
        sampler: An Optuna sampler that proposes configurations. Default: seeded random search.
        seed: For configurations, data order and weights.
        name: Of the study; its files lie in ``./seer_studies/<name>`` (or in SEER_HOME).
        store: fsspec URL of a folder, in which its checkpoints get their own. Default: a folder beside the journal.
        report_timeout: A trial silent for so long counts as hung. Default: a minute, or 10 of its epochs if longer.

    Raises:
        ValueError, TypeError: For what cannot be; the sentence names the argument and what is allowed.
    """

    @refuses_unknown(settings.HINTS)
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
        """Check what is given; nothing is rented or written. ``help(seer.Study)`` tells what the arguments are."""
        serialization.check(train)
        provider = provider if provider is not None else Local()
        chosen = check_policy(policy)
        self.name = check_name(_default_name(train) if name is None else name)
        self.folder = layout.home() / self.name
        self._refuse_used_name()
        self._settings = make_settings(
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
        ConfigSampler(searched, sampler)  # raises for a sampler that does not fit
        self._function = serialization.dumps(train)
        self._parts = serialization.dumps_parts(sampler=sampler, policy=chosen, provider=provider, space=searched)
        self._chosen: Policy | None = chosen
        self._view: View | None = None
        self._launched: list[subprocess.Popen[bytes]] = []
        self._dashboard: Dashboard | None = None

    @classmethod
    def _attached(cls, folder: Path) -> Study:
        study = cls.__new__(cls)
        study.name, study.folder = folder.name, folder
        study._view, study._launched = View(Journal(folder / layout.JOURNAL)), []  # noqa: SLF001
        study._chosen = study._dashboard = None  # noqa: SLF001
        study._settings = study._view.state().settings  # noqa: SLF001
        return study

    # --- life ---

    def start(self) -> Study:
        """Start the study in a process of its own; returns at once.

        Raises:
            SeerError: It was started before.
            ValueError: Its name has been taken since.
        """
        if self._view is not None:
            raise SeerError(f"study {self.name!r} was started already; resume() goes on after a pause")
        since = steady_s()
        self._create()
        self._launched.append(launch(self.folder, since))
        return self

    def wait(self, timeout: str | float | timedelta | None = None) -> Study:
        """Wait until the study has ended.

        Args:
            timeout: Time to wait at most: seconds, or text such as "10min".

        Raises:
            TimeoutError: It has not ended by then; it goes on.
            StudyFailedError: It ended early because of a fault.
            RunnerError: Its runner died; ``resume()`` goes on.
        """
        patience_s = None if timeout is None else parse_duration(timeout, "timeout")
        end = None if patience_s is None else time.monotonic() + patience_s
        while not self._settled():
            if patience_s is not None and end is not None and time.monotonic() > end:
                raise TimeoutError(f"study {self.name!r} has not ended after {format_duration(patience_s)}; it goes on")
            time.sleep(POLL_S)
        return self._leave_picture()

    def __await__(self) -> Generator[Any, None, Study]:
        """``await study`` waits as ``wait()`` does, without blocking the notebook."""
        return self._wait_async().__await__()

    async def _wait_async(self) -> Study:
        while not self._settled():  # noqa: ASYNC110 - another process writes the journal
            await asyncio.sleep(POLL_S)
        return self._leave_picture()

    def run(self) -> Study:
        """``start()`` and ``wait()``."""
        return self.start().wait()

    def pause(self) -> None:
        """Save all trials and hand all machines back; time and money are kept.

        Raises:
            StudyEndedError: There is nothing to pause.
            SeerError: It has not been started, or its runner has died.
        """
        self._tell("pause", core.Pause())

    def resume(self) -> Study:
        """Go on: after a pause, after the runner died, or after the end if there is time and money again."""
        journal = self._started().journal
        number, end_s = journal.send(core.Resume()), time.monotonic() + ANSWER_S
        while self._driven():
            if number not in dict(journal.inbox()):
                return self
            if time.monotonic() > end_s:
                why = one_line(self.stuck) or "it is busy"
                raise RunnerError(f"the runner of study {self.name!r} does not answer: {why}")
            time.sleep(POLL_S)  # a runner that is about to end takes no commands any more
        self._launched.append(launch(self.folder))
        return self

    def stop(self) -> None:
        """Save what trains, hand all machines back, and end. Results and checkpoints stay. Once it has ended, nothing.

        Raises:
            SeerError: It has not been started.
        """
        with contextlib.suppress(StudyEndedError):  # it may end at any moment, which is what is wanted
            self._tell("stop", core.Stop())
        if self.status == "interrupted":
            # Its machines may live on: a new runner ends them, and the study with them.
            self._launched.append(launch(self.folder))

    def adjust(self, *, budget: Money | None = None, deadline: Time | None = None) -> None:
        """Change budget or deadline, also while the study runs; once it has ended, for when it is resumed.

        Args:
            budget: Dollars for the whole study; not less than what is spent and committed.
            deadline: As for ``Study``: counted from the start, or a datetime.

        Raises:
            ValueError: What is spent, committed or past cannot be taken back; or neither is given.
        """
        if budget is None and deadline is None:
            raise ValueError(UNCHANGED)
        commands: list[core.Command] = []
        if budget is not None:
            commands.append(new_budget(self.state, budget))
        if deadline is not None:
            commands.append(new_deadline(self.state, deadline))
        for command in commands:
            self._send(command)

    def pin(self, trial: int, pinned: bool = True) -> None:  # noqa: FBT001, FBT002 - reads as it is said
        """Keep a trial in the running whatever its rank; with False, let it go again.

        Raises:
            ValueError: There is no such trial.
            StudyEndedError: There is nothing to pin.
        """
        self._tell("pin", core.Pin(trial=self._known(trial), pinned=pinned))

    def stop_trial(self, trial: int) -> None:
        """End one trial.

        Raises:
            ValueError: There is no such trial.
            StudyEndedError: There is nothing to stop.
        """
        self._tell("stop", core.StopTrial(trial=self._known(trial)))

    # --- where it stands ---

    @property
    def status(self) -> str:
        """One word: created, running, pausing, paused, ending, ended, failed, or interrupted (its runner died)."""
        if self._view is None:
            return "created"
        state = self._view.state()
        if state.phase == "ended":
            return "failed" if state.failed else "ended"
        return state.phase if self._driven() else "interrupted"

    @property
    def stuck(self) -> str:
        """Why it does not get on, though it runs, in a sentence; empty if it does."""
        return "" if self._view is None else health.why(self.folder, self._view, self.state, self.status)

    def _ipython_display_(self) -> None:
        """Below a notebook's cell: the live view; elsewhere, or without widgets, a static picture or text."""
        from seer_nb.ui.notebook.dashboard import show

        show(self)

    def dashboard(self) -> Dashboard:
        """The live view, which a notebook shows of a study at the end of a cell; each time the same."""
        if self._dashboard is None:
            from seer_nb.ui.notebook.dashboard import Dashboard

            self._dashboard = Dashboard(self)
        return self._dashboard

    def __repr__(self) -> str:
        """Short, without reading the journal."""
        # A terminal shows it as it is, and the journal may be of somebody else.
        return f"<Study {self.name!r}: {self._settings.mode} {one_line(self._settings.metric)}>"

    # --- inside ---

    def _create(self) -> None:
        try:
            layout.make_folder(self.folder)
        except FileExistsError:
            self._refuse_used_name()
        try:
            files.write_atomically(self.folder / layout.FUNCTION, self._function, private=True)
            files.write_atomically(self.folder / layout.CWD, str(Path.cwd()).encode(), private=True)
            files.write_atomically(self.folder / layout.PARTS, self._parts, private=True)
            layout.seal(self.folder)
            began = core.Began(settings=self._settings)
            self._view = View(Journal.create(self.folder / layout.JOURNAL, [(0.0, began)]))
        except BaseException:
            # Also when a person interrupts it: the name is free again.
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _refuse_used_name(self) -> None:
        if self.folder.exists():
            raise ValueError(
                f"name={self.name!r} is already in use in {self.folder.parent}: "
                f"seer.attach({self.name!r}) opens that study; else choose another name"
            )

    def _started(self) -> View:
        if self._view is None:
            raise SeerError(f"study {self.name!r} has not been started: start() it first")
        return self._view

    @property
    def journal(self) -> Journal:
        """The study's journal. Raises SeerError before the study was started."""
        return self._started().journal

    @property
    def state(self) -> State:
        """The newest state of the study, as its journal has it."""
        return State(self._settings) if self._view is None else self._view.state()

    def _now_s(self) -> float:
        state = self.state
        return state.now_s if self._view is None else health.now_s(self._view, state, self.status)

    @property
    def history(self) -> History:
        """How the study came to its state, for figures and logs."""
        return begun(self._settings) if self._view is None else self._view.history

    def _space(self) -> Space:
        self._started()
        space: Space = layout.read_parts(self.folder)["space"]
        return space

    def _policy(self) -> Policy:
        """As it was given; of an attached study, the one of that name."""
        return self._chosen or policies.by_name(self._settings.policy)

    def _tell(self, word: str, command: core.Command) -> None:
        """Send what only a study that goes on can do."""
        waiting = self._started().journal.inbox()
        if not any(isinstance(sent, core.Resume) for _, sent in waiting):  # else it goes on in a moment
            refuse_late(self.name, self.status, word)
        self._send(command)

    def _send(self, command: core.Command) -> None:
        self._started().journal.send(command)

    def _known(self, trial: Any) -> int:
        trials = self.state.trials
        if isinstance(trial, bool) or not isinstance(trial, Integral) or trial not in trials:
            last = f"0 to {len(trials) - 1}" if trials else "none so far"
            raise ValueError(f"trial={show(trial)} is not a trial of study {self.name!r}: there are {last}")
        return int(trial)  # numpy's numbers, from a frame, cannot be stored

    def _driven(self) -> bool:
        """Whether a runner lives; a process just started counts before it has taken its lock."""
        started = any(process.poll() is None for process in self._launched)
        return started or runner_pid(self.folder) is not None or self._is_new()

    def _is_new(self) -> bool:
        """Whether another process has just made it, whose runner has not taken its lock yet."""
        view = self._view
        made = view is not None and not self._launched and view.state().now_s == 0 and view.seq == 1
        return made and view is not None and time.time() - view.wall < LAUNCH_S

    def _leave_picture(self) -> Study:
        if self._dashboard is not None:
            self._dashboard.settle()
        return self

    def _settled(self) -> bool:
        """Whether it has ended; raises when it will not by itself."""
        view = self._started()
        driven = self._driven()
        # Read after the look at the process: a runner that has gone since has written all it had to.
        state = view.state()
        if driven:
            return False  # also when it has ended but for its last process: whoever waits may want to resume()
        if state.phase != "ended":
            raise RunnerError(
                f"the runner of study {self.name!r} has died; resume() goes on from its journal. It said last:\n"
                + log_tail(self.folder)
            )
        if state.failed:
            raise StudyFailedError(f"study {self.name!r} failed: {one_line(state.reason)}")
        return True


def _default_name(train: Callable[..., Any]) -> str:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", getattr(train, "__name__", "study"))[:60].strip("-") or "study"
    # With milliseconds: two studies of one function may well be made in the same second.
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() // 10**6 % 1000:03d}"
