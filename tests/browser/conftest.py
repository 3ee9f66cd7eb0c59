import pytest
from playwright.sync_api import sync_playwright

from seer_nb.bench import lab


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        found = lab.browser(playwright)
        yield found
        found.close()
