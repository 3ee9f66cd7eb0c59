"""A real JupyterLab with a notebook, in a real browser without any network but loopback."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

import nbformat

PATIENCE_MS = 60_000
READY = """() => {
  const session = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session;
  return session?.kernel?.status === 'idle' && session.kernel.connectionStatus === 'connected';
}"""
EXPECTED = ("widget model not found",)
"""JupyterLab's own complaint about a saved notebook whose kernel is gone."""


def notebook(*cells):
    """A notebook of code cells."""
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )


class Lab:
    """The server; its folder holds the notebooks."""

    def __init__(self, folder: Path, **env: str):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
        command = [
            *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", f"--port={self.port}"),
            *("--ServerApp.port_retries=0", "--IdentityProvider.token=", "--allow-root"),
            *("--LabApp.expose_app_in_browser=True", "--LabApp.news_url="),
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        env = {**os.environ, "SEER_HOME": str(folder / "studies"), "JUPYTER_PLATFORM_DIRS": "1", **env}
        env["JUPYTERLAB_SETTINGS_DIR"] = str(folder / "settings")
        env["JUPYTERLAB_WORKSPACES_DIR"] = str(folder / "workspaces")
        self.log = folder / "lab.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        self._wait()

    def _wait(self):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api", timeout=5):
                return
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text())

    def write(self, name, content):
        nbformat.write(content, self.folder / name)

    def close(self):
        self.process.terminate()
        self.process.wait(30)


class Notebook:
    """A notebook open in a page of the browser."""

    def __init__(self, browser, lab, name, *, width=1400, height=1600):
        self.lab, self.name = lab, name
        self.troubles = []
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", lambda message: self._note(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.page.on("request", self._check)
        self.page.goto(f"http://127.0.0.1:{lab.port}/lab/tree/{name}?reset")
        self.page.wait_for_function(READY, timeout=PATIENCE_MS)

    def _note(self, text):
        if not any(expected in text for expected in EXPECTED):
            self.troubles.append(text)

    def _check(self, request):
        """Nothing may be fetched from elsewhere."""
        url = urlparse(request.url)
        if url.scheme in {"http", "https", "ws", "wss"} and url.hostname != "127.0.0.1":
            self.troubles.append(request.url)

    def run(self, cells=1):
        """Run the next cells, each when the one before is done."""
        for _ in range(cells):
            self.page.evaluate("jupyterapp.commands.execute('notebook:run-cell-and-select-next')")

    def until(self, script, what=None):
        """Wait for a condition in the page."""
        return self.page.wait_for_function(script, arg=what)

    @property
    def live(self):
        """The first live view."""
        return self.page.locator(".seer-live").first

    def head(self):
        return self.live.locator("dl").inner_text()

    def said(self):
        return self.live.locator(".seer-said").inner_text()

    def hears(self, words):
        """Wait until the view says so."""
        self.page.wait_for_function(
            "words => document.querySelector('.seer-live .seer-said')?.innerText.includes(words)", arg=words
        )

    def sees(self, words, where=".seer-live"):
        """Wait until these words are in the first place that the selector finds."""
        self.page.wait_for_function(
            "([words, where]) => document.querySelector(where)?.innerText.includes(words)", arg=[words, where]
        )

    def command(self, name):
        self.page.evaluate(f"jupyterapp.commands.execute('{name}')")

    def close(self):
        self.context.close()
