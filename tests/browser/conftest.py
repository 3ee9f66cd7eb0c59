import pytest
from playwright.sync_api import sync_playwright

from tests.browser import chromium


@pytest.fixture(scope="package")
def browser():
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium.PATH, args=chromium.FLAGS)
        yield found
        found.close()
