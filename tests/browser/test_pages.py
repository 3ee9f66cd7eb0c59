"""What a person opens of a study, in a real browser without a network: nothing is fetched, and all is there."""

from pathlib import Path

import pytest

from seer_nb.export import export
from seer_nb.results import results_frame
from seer_nb.ui.figures import plot_curves, write_figure
from seer_nb.ui.static import html
from tests.browser import chromium
from tests.builders import big_study, small_study

pytestmark = [chromium.needed, pytest.mark.xdist_group("browser")]
BEST = "Math.max(...document.querySelector('.plotly-graph-div').data.at(-1).y)"


@pytest.fixture
def opened(browser):
    """Opens a file, and sees to it that nothing went wrong."""
    troubles, pages = [], []

    def open_page(path: Path, width=1000):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: troubles.append(request.url) if "file://" not in request.url else None)
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    # Plotly draws through urls of its own making.
    assert [trouble for trouble in troubles if not trouble.startswith(("data:", "blob:"))] == []


def test_the_curves(opened, tmp_path):
    state = big_study().state
    page = opened(write_figure(plot_curves(state), tmp_path / "curves.html", title="curves"))
    page.wait_for_selector(".scatterlayer .trace path")
    assert page.title() == "curves"
    assert page.evaluate(BEST) == pytest.approx(state.best.best.value)
    labels = page.locator(".textpoint text").all_text_contents()
    assert f"trial {state.best.id}" in [label.strip() for label in labels]


def test_the_results_table(opened, tmp_path):
    state = small_study().state
    page = opened(export(results_frame(state), tmp_path / "results.html"))
    assert page.locator("tbody tr").count() == 4
    # The error of a trial is text, whatever is in it.
    assert page.get_by_text("<b>boom</b>").is_visible()
    assert page.locator("tbody b").count() == 0


@pytest.mark.parametrize("width", [1000, 420])
def test_the_static_view_in_wide_and_narrow_cells(opened, tmp_path, width):
    study = big_study()
    state, shown = study.state, html(study.state, study.history)
    path = tmp_path / "study.html"
    path.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><title>study</title>{shown}</html>')
    page = opened(path, width)
    assert page.get_by_role("region", name="study digits").is_visible()
    assert page.get_by_role("img").count() >= 3
    assert f"by trial {state.best.id} at epoch" in page.inner_text("dl")
    # What is wider than the cell scrolls within it.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".seer-trials tbody tr").count() == 5
