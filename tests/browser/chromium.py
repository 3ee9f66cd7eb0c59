"""Chromium as this project's tests start it."""

import os
import shutil

import pytest

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
needed = pytest.mark.skipif(
    PATH is None and not os.environ.get("SEER_REQUIRE_BROWSER"), reason="there is no Chromium on this machine"
)
