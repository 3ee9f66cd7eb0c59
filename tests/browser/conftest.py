import pytest
from playwright.sync_api import sync_playwright

from seer_nb.bench import _jupyterlab


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        found = _jupyterlab.browser(playwright)
        yield found
        found.close()
