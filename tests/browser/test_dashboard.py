"""The live view in a real JupyterLab with real studies, controlled by mouse and by keyboard."""

import os
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import TimeoutError as Late

from seer_nb.bench._jupyterlab import Lab, Notebook, write_notebook
from tests.support import chromium
from tests.support.studies import processes
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, chromium.needed, pytest.mark.xdist_group("browser"), pytest.mark.timeout(300)]
QUICKSTART = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"
PICTURES = Path(os.environ.get("SEER_PICTURES", "test-pictures"))
"""Folder for screenshots of the live view."""
STUDY = """
import time
import seer_nb as seer

def train(config, run):
    for epoch in run.epochs():
        time.sleep(0.2)
        run.report(accuracy=config["top"] * (1 - 0.8**epoch))

study = seer.Study(
    train,
    {"top": seer.uniform(0.5, 1.0), "kind": seer.choice(["a", "b"])},
    metric="accuracy", mode="max", max_epochs=27, deadline="10min", budget="$0.05", name="NAME",
    provider=seer.Local(price_per_hour="$0.05", max_workers=2),
)
study
"""
ROW = ".seer-trials tbody tr"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    found = Lab(tmp_path_factory.mktemp("lab"), QUICKSTART_DEADLINE="60s")
    yield found
    found.close()
    try:
        until(lambda: not processes(found.folder), "the end of all kernels and studies")
    finally:
        for process in processes(found.folder):
            process.kill()


@pytest.fixture
def opened(browser, lab):
    """A function that opens notebooks; the fixture asserts that the browser had no errors."""
    found = []

    def open_notebook(name, *cells, **options):
        if cells:
            write_notebook(lab.folder / name, *cells)
        found.append(Notebook(browser, lab, name, **options))
        return found[-1]

    yield open_notebook
    for each in found:
        each.close()
    assert [trouble for each in found for trouble in each.troubles] == []


def start_study(opened, name, **options):
    """Open a notebook, start its study, and wait for its first values."""
    book = opened(f"{name}.ipynb", STUDY.replace("NAME", name), **options)
    book.run()
    book.live.locator("[data-do=start]").click()
    book.wait_for_text("by trial")
    return book


def picture(book, name):
    PICTURES.mkdir(exist_ok=True)
    book.live.screenshot(path=PICTURES / f"{name}.png")


def finish(book):
    """Stop the study and wait for its end."""
    book.live.locator(".seer-life [data-do=stop]").click()
    book.live.locator("[data-do=really]").click()
    book.wait_for_text("ended", ".seer-live h3")


def row(book, trial):
    return book.live.locator(f"tr[data-trial='{trial}']")


def test_quickstart_is_controlled_with_the_mouse(opened, lab):
    content = nbformat.read(QUICKSTART, as_version=4)
    shown = next(place for place, cell in enumerate(content.cells) if cell.id == "look")
    cells = [cell.source for cell in content.cells[: shown + 1] if cell.cell_type == "code"]
    book = opened("quickstart.ipynb", *cells)
    book.run(len(cells))
    live = book.live
    live.locator("[data-do=start]").click()
    book.wait_for_text("by trial")
    book.wait_for_text("configurations")
    # The values change without any action.
    before = book.header()
    book.until("before => document.querySelector('.seer-live dl').innerText !== before", before)
    assert live.locator("svg .seer-curve").count() >= 1

    move_the_limits(book)
    select_a_trial(book)
    picture(book, "wide")
    write_files(book)
    live.locator("[data-do=pause]").click()
    book.wait_for_text("paused", ".seer-live h3")
    live.locator("[data-do=resume]").click()
    book.wait_for_text("running", ".seer-live h3")
    live.locator(".seer-life [data-do=stop]").click()
    assert "checkpoints" in live.locator(".seer-really").inner_text()
    live.locator("[data-do=go_on]").click()
    assert "running" in live.locator("h3").inner_text()
    finish(book)
    assert "stopped by hand" in book.header()


def move_the_limits(book):
    live = book.live
    budget, deadline = (live.locator(f"input[type=number][name={name}]") for name in ("budget", "deadline"))
    # Moving a slider shows a preview and changes nothing.
    live.locator("input[type=range][name=budget]").press("PageUp")
    deadline.fill("90")
    book.wait_for_text("fully trained", ".seer-live .seer-preview")
    assert "of 1 min\n" in book.header()
    # Undo resets moved limits ...
    live.locator("[data-do=undo]").click()
    assert (budget.input_value(), deadline.input_value()) == ("0.003", "60")
    # ... Apply sends moved limits ...
    budget.fill("0.004")
    deadline.fill("90")
    live.locator("[data-do=apply]").click()
    book.wait_for_message("applied: budget $0.004, deadline 1 min 30 s")
    book.wait_for_text("of 1 min 30 s")
    book.wait_for_text("free of $0.004")
    # ... and Undo restores the earlier limits.
    live.locator("[data-do=undo]").click()
    book.wait_for_message("undone: budget $0.003, deadline 1 min")
    book.wait_for_text("free of $0.003")
    assert live.locator(".seer-burn .seer-mark").count() >= 2


def select_a_trial(book):
    live = book.live
    live.locator(".seer-trials tbody tr td:last-child").first.click()
    book.wait_for_message("is selected")
    chosen = live.locator("tr.seer-chosen").get_attribute("data-trial")
    live.locator(f"tr[data-trial='{chosen}'] [data-do=why]").click()
    lines = live.locator(".seer-log li:not([hidden])")
    assert lines.count() >= 1
    assert {lines.nth(k).get_attribute("data-trial") for k in range(lines.count())} == {chosen}


def write_files(book):
    book.live.locator("[data-do=export]").click()
    book.wait_for_message("written: ")
    written = next(book.lab.folder.glob("train-*-results.csv"))
    assert written.name in book.message()
    assert pd.read_csv(written).value.max() > 0.3
    book.live.locator("[data-do=report]").click()
    book.wait_for_message("report.html")
    assert "<svg" in next(book.lab.folder.glob("train-*-report.html")).read_text()


def test_two_dashboards_show_one_study_after_a_kernel_restart(opened, lab):
    book = start_study(opened, "twice")
    # Restart the kernel from the user interface while the study runs.
    book.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    book.until("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'")
    other = opened("other.ipynb", 'import seer_nb as seer\nseer.attach("twice")')
    other.run()
    other.wait_for_text("running", ".seer-live h3")
    third = opened("third.ipynb", 'import seer_nb as seer\nstudy = seer.attach("twice")\nstudy', "study")
    third.run(2)
    third.until("() => document.querySelectorAll('.seer-live').length === 2")

    # A pin that is set in one view is shown in all views.
    number = other.live.locator(ROW).first.get_attribute("data-trial")
    row(other, number).locator("[data-do=pin]").click()
    other.wait_for_message("pinned")
    third.until(
        "number => [...document.querySelectorAll(`.seer-live tr[data-trial='${number}']`)]"
        ".filter(row => row.innerText.includes('pinned')).length === 2",
        number,
    )
    # A trial that was stopped by a click is shown as stopped.
    number = stop_one(other)
    other.wait_for_message(f"trial {number} is being stopped")
    third.live.locator("[name=all_trials]").check()
    third.until(
        "number => document.querySelector(`.seer-live tr[data-trial='${number}']`)?.innerText.includes('stopped')",
        number,
    )
    # New limits are shown in all views.
    third.live.locator("input[type=number][name=deadline]").fill("300")
    third.live.locator("[data-do=apply]").click()
    other.wait_for_text("of 5 min")
    finish(third)
    other.wait_for_text("ended", ".seer-live h3")


def stop_one(book):
    """Stop the last trial of the table; retry, because the table may change before the click."""
    while True:
        number = book.live.locator(f"{ROW} [data-do=stop_trial]").last.get_attribute("data-trial")
        try:
            row(book, number).locator("[data-do=stop_trial]").click(timeout=3000)
        except Late:
            continue
        return number


def press(book, name, key="Enter"):
    """Move the focus by Tab to a control, and press a key."""
    for _ in range(80):
        if focused(book) == name:
            book.page.keyboard.press(key)
            return
        book.page.keyboard.press("Tab")
    raise AssertionError(f"{name} cannot be reached by Tab")


def focused(book):
    return book.page.evaluate("document.activeElement.dataset?.do ?? document.activeElement.name ?? ''")


def test_every_control_works_by_keyboard(opened):
    book = opened("keys.ipynb", STUDY.replace("NAME", "keys"))
    book.run()
    book.live.locator("[data-do=start]").focus()
    press(book, "start")
    book.wait_for_text("by trial")
    press(book, "budget", "ArrowRight")
    book.wait_for_text("fully trained", ".seer-live .seer-preview")
    press(book, "apply")
    book.wait_for_message("applied: budget")
    book.until("() => !document.querySelector('.seer-live [data-do=undo]').disabled")
    press(book, "undo")
    book.wait_for_message("undone: budget $0.05")
    press(book, "export")
    book.wait_for_message("written: keys-results.csv")
    press(book, "all_trials", "Space")
    assert book.page.evaluate("document.querySelector('.seer-live [name=all_trials]').checked")
    press(book, "pin")
    book.wait_for_message("pinned: it stays in the running")
    press(book, "stop_trial")
    book.wait_for_message("is being stopped")
    select_by_keyboard(book)
    sort_by_keyboard(book)
    # The notebook's shortcuts must not fire: "d d" would delete the cell.
    book.page.keyboard.press("d")
    book.page.keyboard.press("d")
    for name, status in (("pause", "paused"), ("resume", "running")):
        book.live.locator(f".seer-life [data-do={name}]").focus()
        press(book, name)
        book.wait_for_text(status, ".seer-live h3")
    book.live.locator(".seer-life [data-do=stop]").focus()
    press(book, "stop")
    assert focused(book) == "really"
    press(book, "really")
    book.wait_for_text("ended", ".seer-live h3")


def select_by_keyboard(book):
    """Select a curve, which is a button, too."""
    book.live.locator("g.seer-curve").first.focus()
    book.page.keyboard.press("Enter")
    book.wait_for_message("is selected")
    book.until("() => document.querySelectorAll('.seer-live g.seer-curve.seer-chosen').length === 1")
    book.page.keyboard.press("Escape")
    book.wait_for_message("no trial is selected")


def sort_by_keyboard(book):
    """Sort the table, and check that the focus survives updates of the rows."""
    book.live.locator("th[data-key=config_top] button").focus()
    book.page.keyboard.press("Enter")
    assert book.live.locator("th[data-key=config_top]").get_attribute("aria-sort") == "ascending"
    tops = [float(cell) for cell in book.live.locator(f"{ROW} td:nth-last-child(2)").all_inner_texts()]
    assert tops == sorted(tops)
    book.page.wait_for_timeout(1200)
    assert book.page.evaluate("document.activeElement.closest('th')?.dataset.key") == "config_top"


def test_view_updates_while_another_cell_runs(opened, lab):
    """Actions wait, and the view says so: ipykernel 6 and VS Code run callbacks on the kernel's main thread."""
    busy = "import time\nend = time.time() + 6\nwhile time.time() < end: sum(range(1000))\nprint('done')"
    book = start_study(opened, "busy")
    book.page.evaluate("""() => {
      const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
      window.commsBefore = kernel.commsOverSubshells;
      kernel.commsOverSubshells = 'disabled';
    }""")
    book.page.evaluate(
        "code => { window.computing = jupyterapp.shell.currentWidget.sessionContext.session.kernel"
        ".requestExecute({code}).done.then(() => { window.computing = null; }); }",
        busy,
    )
    before = book.header()
    book.until("before => document.querySelector('.seer-live dl').innerText !== before", before)
    book.live.locator(f"{ROW} [data-do=pin]").first.click()
    book.wait_for_message("computing")
    assert book.page.evaluate("window.computing !== null")
    book.until("() => window.computing === null")
    book.wait_for_message("pinned: it stays")
    finish(book)


def test_saved_notebook_shows_the_static_picture_without_a_kernel(opened, lab):
    book = start_study(opened, "saved")
    finish(book)
    book.page.wait_for_timeout(1500)
    book.command("docmanager:save")
    saved = lab.folder / "saved.ipynb"
    until(lambda: "■ ended" in saved.read_text(), "the final static picture")
    picture_of = next(
        output.data["text/html"]
        for output in nbformat.read(saved, as_version=4).cells[0].outputs
        if "text/html" in output.get("data", {})
    )
    assert "<script" not in picture_of
    assert picture_of.count("<svg viewBox") == 3
    book.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    book.close()
    again = opened("saved.ipynb")
    assert again.page.locator(".seer-live").count() == 0
    static = again.page.locator(".seer-study")
    static.wait_for()
    assert "■ ended" in static.locator("h3").inner_text()
    assert not again.page.get_by_text("model not found").is_visible()
    # While the live view is on the page, the static picture is hidden.
    again.run()


def theme(book, name):
    book.page.evaluate(f"jupyterapp.commands.execute('apputils:change-theme', {{theme: '{name}'}})")
    book.until("name => document.body.dataset.jpThemeName === name", name)


@pytest.mark.parametrize(("look", "width"), [("JupyterLab Light", 1400), ("JupyterLab Dark", 900)])
def test_live_view_has_no_serious_accessibility_violations(opened, look, width):
    name = f"axe{width}"
    book = start_study(opened, name, size=(width, 1800))
    theme(book, look)
    book.wait_for_text("configurations")
    live = book.live
    live.locator(".seer-log summary").click()
    for summary in live.locator("figure summary").all():
        summary.click()
    found = Axe().run(book.page, context=".seer-live", options={"resultTypes": ["violations"]})
    serious = [
        (each["id"], each["impact"], [node["html"][:200] for node in each["nodes"]][:3])
        for each in found.response["violations"]
        if each["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    # The view fits into the cell.
    box, cell = live.bounding_box(), book.page.locator(".jp-OutputArea-output").first.bounding_box()
    assert box["width"] <= cell["width"] + 1
    picture(book, f"{look.split()[-1].lower()}-{width}")
    finish(book)


MAGIC = """%%seer --deadline 10min --budget 0.05 --metric accuracy --name seven
import time
import seer_nb as seer

def train(config, run):
    for epoch in run.epochs():
        time.sleep(0.2)
        run.report(accuracy=config["top"] * (1 - 0.8**epoch))

space = {"top": seer.uniform(0.5, 1.0)}
"""


def test_magic_shows_the_live_view_in_notebook_7(browser, tmp_path):
    server = Lab(tmp_path, "notebook")
    try:
        write_notebook(tmp_path / "seven.ipynb", "%load_ext seer_nb", MAGIC, "print(study.status)")
        book = Notebook(browser, server, "seven.ipynb")
        book.run(3)
        book.page.get_by_text("created", exact=True).wait_for()
        book.live.locator("[data-do=start]").click()
        book.wait_for_text("by trial")
        book.live.locator("input[type=number][name=budget]").fill("0.04")
        book.live.locator("[data-do=apply]").click()
        book.wait_for_message("applied: budget $0.04")
        finish(book)
        assert book.troubles == []
        book.close()
    finally:
        server.close()
