"""Progress of a study while a script waits for it: a live block in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from seer_nb._utils.units import format_money
from seer_nb.study.stored import OVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType
    from rich.live import Live

    from seer_nb.study.study import Study


LIVE_S = 0.5
"""Seconds between two updates of the block in a terminal, and until the first one."""
LINE_S = 30.0
"""Seconds between two lines if standard error is not a terminal."""


@contextmanager
def watched(study: Study, *, progress: bool) -> Iterator[Callable[[], None]]:
    """Return a context in which a caller waits for a study; it yields a function to call repeatedly.

    On Ctrl-C, one line on standard error recalls that the study continues.

    Args:
        study: A started study.
        progress: Whether to show the progress. A notebook shows none, because it has the dashboard.
    """
    display = _display(study) if progress else None
    try:
        yield display.update if display is not None else lambda: None
    except KeyboardInterrupt:
        if display is not None:
            display.close(keep=False)
        if study.status not in OVER:
            print(_interrupted(study), file=sys.stderr)  # noqa: T201 - the user must read it, whatever logging shows
        raise
    except BaseException:
        if display is not None:
            display.close(keep=False)
        raise
    else:
        if display is not None:
            display.close(keep=True)


def _interrupted(study: Study) -> str:
    state = study.state
    free = max(0, state.budget_micro - state.ledger.spent_micro(study.now_s))
    return (
        f"study {study.name!r} continues and may spend up to {format_money(free)} more: "
        f"study.stop() or `seer-nb stop {study.name}` ends it"
    )


def _display(study: Study) -> _Lines | _Block | None:
    ipython = sys.modules.get("IPython")
    if ipython is not None and hasattr(ipython.get_ipython(), "kernel"):
        return None
    # Only one block can be live in a terminal.
    in_terminal = sys.stderr.isatty() and threading.current_thread() is threading.main_thread()
    return _Block(study) if in_terminal else _Lines(study)


class _Lines:
    """One line every LINE_S, and one at the end if there were any."""

    def __init__(self, study: Study) -> None:
        self._study, self._next_s, self._written = study, time.monotonic() + LINE_S, False

    def update(self) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s += LINE_S
            self._write()

    def close(self, *, keep: bool) -> None:
        if keep and self._written:
            self._write()

    def _write(self) -> None:
        from seer_nb.views.text import format_progress

        study, self._written = self._study, True
        line = format_progress(study.state, study.stalled, study.now_s)
        print(f"{study.name}: {line}", file=sys.stderr, flush=True)  # noqa: T201 - the purpose of this class


class _Block:
    """A block in a terminal that is updated in place: best value, money, time and workers."""

    def __init__(self, study: Study) -> None:
        self._study, self._next_s = study, time.monotonic() + LIVE_S
        self._live: Live | None = None

    def update(self) -> None:
        if time.monotonic() < self._next_s:
            return
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            self._live.start()
        self._live.update(self._render(), refresh=True)
        self._next_s = time.monotonic() + LIVE_S

    def close(self, *, keep: bool) -> None:
        if self._live is None:
            return
        if keep:
            self._live.update(self._render(), refresh=True)
        self._live.transient = not keep
        live, self._live = self._live, None
        live.stop()

    def _render(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        from seer_nb.views.text import progress_rows

        study = self._study
        rows: Any = progress_rows(study.state, study.status, study.stalled, study.now_s)
        table = Table.grid(padding=(0, 2))
        for name, text in rows:
            table.add_row(Text(name, style="bold"), Text(text, overflow="ellipsis", no_wrap=True))
        return table
