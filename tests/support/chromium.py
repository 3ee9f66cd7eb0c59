"""Whether the tests that need a browser can run."""

import os

import pytest

from seer_nb.bench._jupyterlab import CHROMIUM

needed = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("SEER_REQUIRE_BROWSER"), reason="there is no Chromium on this machine"
)
