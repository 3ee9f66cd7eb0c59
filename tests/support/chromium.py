"""Mark for tests that need Chromium."""

import os

import pytest

from seer_nb.bench._jupyterlab import CHROMIUM

needed = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("SEER_REQUIRE_BROWSER"), reason="Chromium is not installed"
)
