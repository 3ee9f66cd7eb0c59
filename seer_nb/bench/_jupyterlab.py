"""A JupyterLab server and its notebooks in a headless browser, for benchmarks and tests. Needs the extra ``test``."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlparse

from seer_nb._utils import environment
from seer_nb.errors import SeerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request


PATIENCE_MS = 60_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
READY = """() => {
  const session = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session;
  return session?.kernel?.status === 'idle' && session.kernel.connectionStatus === 'connected';
}"""
_APPS = ("LabApp", "JupyterNotebookApp")
_OPTIONS = (
    "news_url=",
    "check_for_updates_class=jupyterlab.NeverCheckForUpdate",
)
EXPECTED = ("widget model not found", "reading 'schema'")
"""Console errors of Jupyter itself: for a saved notebook without a kernel, and for a JupyterLab setting in Notebook."""


def browser(playwright: Any) -> Browser:
    """Launch headless Chromium.

    Raises:
        SeerError: Chromium is not installed.
    """
    if CHROMIUM is None:
        raise SeerError("Chromium is not installed; install it, for example with: apt-get install chromium")
    found: Browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
    return found


def write_notebook(path: Path, *cells: str) -> None:
    """Write a notebook of code cells."""
    import nbformat

    content = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(content, path)


class Lab:
    """A Jupyter server; its folder holds its notebooks, settings and studies.

    Args:
        folder: Empty folder.
        app: "lab" for JupyterLab, or "notebook" for Jupyter Notebook.
        env: Additional environment variables.
    """

    def __init__(self, folder: Path, app: Literal["lab", "notebook"] = "lab", **env: str) -> None:
        self.folder = folder
        self._app = app
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
        command = [
            *(sys.executable, "-m", "jupyter", app, "--no-browser", "--ip=127.0.0.1", f"--port={self.port}"),
            *("--ServerApp.port_retries=0", "--IdentityProvider.token=", "--allow-root"),
            *(f"--{name}.{option}" for name in _APPS for option in _OPTIONS),
        ]
        config = folder / "config"
        config.mkdir()
        exposed = '{"LabApp": {"expose_app_in_browser": true}, "JupyterNotebookApp": {"expose_app_in_browser": true}}'
        for part in ("lab", "notebook", "server"):
            (config / f"jupyter_{part}_config.json").write_text(exposed)
        own = {
            "JUPYTER_CONFIG_DIR": str(config),
            environment.HOME: str(folder / "studies"),
            "JUPYTER_PLATFORM_DIRS": "1",
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        }
        self.log = folder / "lab.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **own, **env}, stdout=log, stderr=log
            )
        self._wait()

    def address(self, name: str) -> str:
        """Return the URL of a notebook."""
        place = "lab/tree" if self._app == "lab" else "notebooks"
        return f"http://127.0.0.1:{self.port}/{place}/{name}?reset"

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < end:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api", timeout=5):
                return
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text())

    def close(self) -> None:
        """Stop the server and its kernels."""
        self.process.terminate()
        self.process.wait(30)


class Notebook:
    """A notebook in a browser page. ``troubles`` lists errors in the page and requests to other hosts.

    Args:
        chromium: The browser.
        lab: The server.
        name: Name of the notebook's file.
        size: Width and height of the page, in pixels.
        watch: Called with the page before it loads.
    """

    def __init__(
        self,
        chromium: Browser,
        lab: Lab,
        name: str,
        *,
        size: tuple[int, int] = (1400, 1600),
        watch: Callable[[Page], None] = lambda _: None,
    ) -> None:
        self.lab, self.name = lab, name
        self.troubles: list[str] = []
        self.context = chromium.new_context(viewport={"width": size[0], "height": size[1]})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.page.on("request", self._check)
        watch(self.page)
        self.page.goto(lab.address(name))
        self.page.wait_for_function(READY, timeout=PATIENCE_MS)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note(message.text)

    def _note(self, text: str) -> None:
        if not any(expected in text for expected in EXPECTED):
            self.troubles.append(text)

    def _check(self, request: Request) -> None:
        """Record requests to other hosts."""
        url = urlparse(request.url)
        if url.scheme in {"http", "https", "ws", "wss"} and url.hostname != "127.0.0.1":
            self.troubles.append(request.url)

    def run(self, cells: int = 1) -> None:
        """Run the next cells."""
        for _ in range(cells):
            self.page.evaluate("jupyterapp.commands.execute('notebook:run-cell-and-select-next')")

    def command(self, name: str) -> None:
        """Execute a command of JupyterLab."""
        self.page.evaluate(f"jupyterapp.commands.execute('{name}')")

    @property
    def live(self) -> Locator:
        """The first live view."""
        return self.page.locator(".seer-live").first

    def header(self) -> str:
        """Return the text of the view's header."""
        return self.live.locator("dl").inner_text()

    def message(self) -> str:
        """Return the view's last message."""
        return self.live.locator(".seer-said").inner_text()

    def until(self, script: str, what: Any = None) -> None:
        """Wait until a JavaScript condition is true in the page."""
        self.page.wait_for_function(script, arg=what)

    def wait_for_message(self, words: str) -> None:
        """Wait until the live view's message contains these words."""
        self.wait_for_text(words, ".seer-live .seer-said")

    def wait_for_text(self, words: str, where: str = ".seer-live") -> None:
        """Wait until the first element that matches a selector contains these words."""
        self.until("([words, where]) => document.querySelector(where)?.innerText.includes(words)", [words, where])

    def close(self) -> None:
        """Close the page."""
        self.context.close()
