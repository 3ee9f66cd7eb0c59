"""Files and static pictures of a study in a real browser: they are complete and fetch nothing."""

from pathlib import Path

import pytest

from seer_nb.views import page as page_views
from seer_nb.views import plotly_curves
from seer_nb.views.export import export
from seer_nb.views.page import render_static_picture
from seer_nb.views.plotly_curves import plot_curves, write_figure
from seer_nb.views.tables import results_frame
from tests.support import chromium
from tests.support import hostile_texts as texts
from tests.support.records import Builder, big_study, small_study

pytestmark = [pytest.mark.slow, chromium.needed, pytest.mark.xdist_group("browser")]
BEST = "Math.max(...document.querySelector('.plotly-graph-div').data.at(-1).y)"


@pytest.fixture
def opened(browser):
    """A function that opens a file; the fixture asserts that the page had no errors and fetched nothing."""
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
    # Plotly creates data and blob urls itself.
    assert [trouble for trouble in troubles if not trouble.startswith(("data:", "blob:"))] == []


def test_curves_file_shows_the_best_trial(opened, tmp_path):
    state = big_study().state
    page = opened(write_figure(plot_curves(state), tmp_path / "curves.html", title="curves"))
    page.wait_for_selector(".scatterlayer .trace path")
    assert page.title() == "curves"
    assert page.evaluate(BEST) == pytest.approx(state.best.best.value)
    labels = page.locator(".textpoint text").all_text_contents()
    assert f"trial {state.best.id}" in [label.strip() for label in labels]


def test_results_file_shows_errors_as_text(opened, tmp_path):
    state = small_study().state
    page = opened(export(results_frame(state), tmp_path / "results.html"))
    assert page.locator("tbody tr").count() == 4
    # Html in the error of a trial is shown as text.
    assert page.get_by_text("<b>boom</b>").is_visible()
    assert page.locator("tbody b").count() == 0


@pytest.mark.parametrize("width", [1000, 420])
def test_static_picture_fits_wide_and_narrow_cells(opened, tmp_path, width):
    study = big_study()
    state, shown = study.state, render_static_picture(study.state, study.history)
    path = tmp_path / "study.html"
    path.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><title>study</title>{shown}</html>')
    page = opened(path, width)
    assert page.get_by_role("region", name="study digits").is_visible()
    assert page.get_by_role("img").count() >= 3
    assert f"by trial {state.best.id} at epoch" in page.inner_text("dl")
    # Content that is wider than the cell scrolls inside it.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".seer-trials tbody tr").count() == 5


def hostile_pages(folder):
    """Write every kind of page for a study full of hostile texts."""
    made = texts.study()
    state, title = made.state, texts.SCRIPTS[3]
    yield page_views.write_report(folder / "report.html", title, state, made.history, "ended")
    yield export(results_frame(state), folder / "results.html")
    yield write_figure(plot_curves(state), folder / "curves.html", title=title)
    space = plotly_curves.coordinates_plot(plotly_curves.coordinates_info(state))
    yield write_figure(space, folder / "space.html", title=title)
    (folder / "static.html").write_text(
        f"<!doctype html><meta charset=utf-8>{render_static_picture(state, made.history)}"
    )
    yield folder / "static.html"


def test_hostile_texts_run_no_script(opened, tmp_path):
    for path in hostile_pages(tmp_path):
        page = opened(path)
        page.mouse.move(400, 300)
        for summary in page.locator("summary").all():
            if summary.is_visible():
                summary.click()
        page.wait_for_timeout(300)
        assert page.evaluate("window.stolen") is None, path.name
        assert page.url == path.as_uri()


def test_tick_labels_of_parallel_coordinates_are_not_interpreted_as_html(opened, tmp_path):
    """Guards against escaping them, unlike all other texts of plotly: entities would be visible."""
    study = Builder().machine(0, 0.0, 1.0).draw(*({"act": word} for word in ("<b>a</b>", "R&D")))
    for trial in (0, 1):
        study.start(trial, trial, "0.0").report(trial, 0.5 + trial / 10).end(trial, "completed")
    figure = plotly_curves.coordinates_plot(plotly_curves.coordinates_info(study.state))
    page = opened(write_figure(figure, tmp_path / "space.html"))
    page.wait_for_selector(".axis .tick text")
    words = page.evaluate("[...document.querySelectorAll('.axis .tick text')].map(text => text.textContent)")
    assert {"<b>a</b>", "R&D"} <= set(words)
    assert page.locator(".axis .tick b").count() == 0


def test_hostile_script_would_be_detected(browser, tmp_path):
    (tmp_path / "page.html").write_text(texts.SCRIPTS[1])
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_function("window.stolen === 1")
    page.close()
