"""``python -m seer_nb.bench dashboard``: measure the live view in JupyterLab and a browser."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seer_nb.bench._figures import Figure, table, write
from seer_nb.bench._large import LIVE_EPOCH_S, LiveStudy
from seer_nb.errors import SeerError

if TYPE_CHECKING:
    import argparse

    from playwright.sync_api import Page
    from psutil import Process

    from seer_nb.bench._jupyterlab import Lab, Notebook


SECONDS = 60.0
BURST = 10_000
WARM = "import seer_nb as seer\nstudy = seer.attach('{name}')\nstudy.dashboard"
_WATCH = """() => {
  window.seen = [];
  const list = document.querySelector('.seer-live [data-list=rows]');
  const render = () => {
    const row = list.querySelector('tr[data-trial="0"]');
    const epoch = Number((row?.innerText.match(/(\\d+) of \\d+/) ?? [])[1] ?? 0);
    if (epoch > (window.seen.at(-1)?.[0] ?? 0)) window.seen.push([epoch, Date.now() / 1000]);
  };
  new MutationObserver(render).observe(list, { childList: true, subtree: true, characterData: true });
  render();
}"""


class Meter:
    """Counts the WebSocket messages and bytes that a page receives."""

    def __init__(self) -> None:
        self.n_bytes = self.n_messages = 0

    def watch(self, page: Page) -> None:
        """Start counting."""
        page.on("websocket", lambda socket: socket.on("framereceived", self._frame))

    def _frame(self, payload: str | bytes) -> None:
        self.n_bytes += len(payload)
        self.n_messages += 1


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("dashboard", help="measure the live view of 256 trials in JupyterLab and a browser")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="seconds of updates; default: %(default)s")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="write the figures to FILE as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    figures = measured(options.seconds)
    print(table(figures))
    if options.out is not None:
        write(options.out, figures)
    return sum(figure.met is False for figure in figures)


def measured(seconds: float) -> list[Figure]:
    """Return all figures.

    Raises:
        SeerError: JupyterLab, Playwright or Chromium is missing.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SeerError('playwright is not installed: pip install "seer_nb[test]"') from None
    from seer_nb.bench._jupyterlab import Lab, browser

    with tempfile.TemporaryDirectory(prefix="seer-bench-") as folder, sync_playwright() as playwright:
        lab = Lab(Path(folder))
        try:
            chromium = browser(playwright)
            return [*_steady(chromium, lab, seconds), *_burst(chromium, lab)]
        finally:
            lab.close()


def _steady(chromium: Any, lab: Lab, seconds: float) -> list[Figure]:
    epochs = max(200, round(seconds / LIVE_EPOCH_S) + 40)
    study = LiveStudy(lab.folder / "studies", "steady", epochs)
    book, meter = _opened(chromium, lab, "steady")
    paint_s = _paint(book)
    kernel = _kernel(lab)
    study.report()
    book.page.evaluate(_WATCH)
    written: dict[int, float] = {}
    # Wait for the first forecast, which adds elements, and for the next hidden static picture.
    book.until("() => document.querySelector('[data-stands-for]')?.textContent.includes('ends after')")
    book.page.wait_for_timeout(1000)
    heap, nodes = _memory(book)
    n_bytes, n_messages, cpu_s, started_s = meter.n_bytes, meter.n_messages, _cpu(kernel), time.monotonic()
    while time.monotonic() < started_s + seconds:
        study.report()
        written[study.reached[0]] = time.time()
        book.page.wait_for_timeout(1000 * LIVE_EPOCH_S)
    took_s = time.monotonic() - started_s
    cpu = 100 * (_cpu(kernel) - cpu_s) / took_s
    book.page.wait_for_timeout(1500)
    delays = _delays(written, book.page.evaluate("window.seen"))
    preview_s = _preview(book)
    heap_after, nodes_after = _memory(book)
    trouble = len(book.troubles)
    book.close()
    return [
        Figure("first paint after the cell runs, warm kernel", paint_s, "s", most=2),
        Figure("updates, 256 trials x 200 epochs, 16 live trials, 2 per second", took_s, "s"),
        Figure("kernel's CPU, share of a core", cpu, "%", most=5),
        Figure("received per second", (meter.n_bytes - n_bytes) / took_s / 1000, "kB", most=150),
        Figure("messages per second", (meter.n_messages - n_messages) / took_s),
        Figure("delay of the view behind the journal, median", sorted(delays)[len(delays) // 2], "s", most=1),
        Figure("delay of the view behind the journal, worst", max(delays), "s", most=1),
        Figure("preview after moving a slider", preview_s, "s", most=1),
        Figure("browser's heap at the start", heap, "MB"),
        Figure("browser's heap, growth", heap_after - heap, "MB", most=max(2.0, 0.1 * heap)),
        Figure("elements in the page, growth", nodes_after - nodes, most=200),
        Figure("errors in the page", trouble, most=0),
    ]


def _burst(chromium: Any, lab: Lab) -> list[Figure]:
    study = LiveStudy(lab.folder / "studies", "burst", BURST // 16 + 10)
    book, meter = _opened(chromium, lab, "burst")
    _paint(book)
    study.report()
    book.page.evaluate(_WATCH)
    book.page.wait_for_timeout(3000)
    n_messages, n_bytes, started_s = meter.n_messages, meter.n_bytes, time.time()
    study.report(BURST // 16)
    last = study.reached[0]
    book.page.wait_for_function("last => window.seen.at(-1)?.[0] === last", arg=last)
    shown_s = book.page.evaluate("window.seen.at(-1)[1]")
    book.page.wait_for_timeout(2000)
    rows = book.live.locator(".seer-trials tbody tr").all_inner_texts()
    right = sum(f"{last} of" in row for row in rows)
    book.close()
    return [
        Figure(f"a burst of {16 * (BURST // 16)} reports is shown after", shown_s - started_s, "s", most=3),
        Figure("... live trials with their last epoch", right, least=16),
        Figure("... messages", meter.n_messages - n_messages, most=30),
        Figure("... received", (meter.n_bytes - n_bytes) / 1000, "kB"),
    ]


def _opened(chromium: Any, lab: Lab, name: str) -> tuple[Notebook, Meter]:
    from seer_nb.bench._jupyterlab import Notebook, write_notebook

    write_notebook(lab.folder / f"{name}.ipynb", WARM.format(name=name), "study")
    meter = Meter()
    book = Notebook(chromium, lab, f"{name}.ipynb", watch=meter.watch)
    book.run()
    book.until("() => document.querySelector('.jp-OutputArea-output') !== null")
    return book, meter


def _paint(book: Notebook) -> float:
    started_s = time.monotonic()
    book.run()
    book.wait_for_text("by trial")
    return time.monotonic() - started_s


def _preview(book: Notebook) -> float:
    started_s = time.monotonic()
    book.live.locator("input[type=range][name=budget]").press("ArrowRight")
    book.wait_for_text("fully trained", ".seer-live .seer-preview")
    took_s = time.monotonic() - started_s
    book.live.locator("[data-do=undo]").click()
    return took_s


def _kernel(lab: Lab) -> Process:
    """Return the notebook's kernel, the only one of the server."""
    import psutil

    children = psutil.Process(lab.process.pid).children(recursive=True)
    return next(process for process in children if "ipykernel" in " ".join(process.cmdline()))


def _cpu(process: Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _memory(book: Notebook) -> tuple[float, int]:
    """Return the heap in MB after a garbage collection, and the number of elements in the page."""
    session = book.context.new_cdp_session(book.page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    session.detach()
    return float(used), int(book.page.evaluate("document.querySelectorAll('*').length"))


def _delays(written: dict[int, float], seen: list[tuple[int, float]]) -> list[float]:
    """Return the delay in seconds until each written epoch, or a later one, was shown."""
    return [
        next((at_s - wrote_s for epoch_seen, at_s in seen if epoch_seen >= epoch), float("inf"))
        for epoch, wrote_s in written.items()
    ]
