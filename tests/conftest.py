"""For all tests."""

import os
import shutil
import tempfile
from pathlib import Path

KEY = "SEER_KEY_FILE"


def pytest_configure(config):
    """Studies of tests are sealed with a key of their own, which pytest's other processes share."""
    if KEY not in os.environ:
        config.seer_key = Path(tempfile.mkdtemp(prefix="seer-key-"))
        os.environ[KEY] = str(config.seer_key / "key")


def pytest_unconfigure(config):
    """Whoever made it removes it."""
    if hasattr(config, "seer_key"):
        del os.environ[KEY]
        shutil.rmtree(config.seer_key)


def pytest_collection_modifyitems(items):
    """What takes longest begins first: at the end, one process would be left alone with it."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")
