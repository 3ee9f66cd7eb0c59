"""Hostile texts in a study stay texts in every view."""

import json
import re

import pytest

from seer_nb.core.history import Mark
from seer_nb.ui.notebook.dashboard import Dashboard
from seer_nb.views import figure_data, plotly_curves, plotly_time
from seer_nb.views import page as page_views
from seer_nb.views import text as text_views
from seer_nb.views.view_model import build_view
from tests.support.hostile_texts import ALL, SCRIPTS, assert_harmless, study
from tests.support.journalled import Journalled
from tests.support.records import small_study

EACH = pytest.mark.parametrize("hostile", SCRIPTS)


def assert_scripts_are_text(page):
    """Assert that each hostile script is visible as text."""
    found = assert_harmless(page)
    for script in SCRIPTS:
        assert script in found.text


@pytest.mark.parametrize("status", [None, "interrupted", "<script>"])
def test_static_picture_shows_hostile_texts_as_text(status):
    made = study()
    assert_scripts_are_text(page_views.render_static_picture(made.state, made.history, status))


@EACH
def test_hostile_study_name_is_text(hostile):
    """Study names are validated, but a foreign journal may hold any name."""
    made = study(SCRIPTS, name=hostile)
    assert hostile in assert_harmless(page_views.render_static_picture(made.state, made.history)).text


def test_report_shows_hostile_texts_as_text(tmp_path):
    made = study()
    path = page_views.write_report(tmp_path / "report.html", SCRIPTS[3], made.state, made.history, "ended")
    page = path.read_text(encoding="utf-8", errors="strict")
    assert_scripts_are_text(page)
    assert page.partition("</head>")[0].count("</title>") == 1


def test_live_view_shows_hostile_texts_as_text(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Dashboard, "_request_update", lambda _: None)
    shown = Dashboard(Journalled(tmp_path, study()).study)
    shown.all_trials = True
    shown._render(1000.0)
    parts = shown.get_state()["whole"]["set"]
    assert_harmless(shown.skeleton)
    for name, part in parts.items():
        if name == "limits":
            json.loads(part)
        else:
            assert_harmless(part)
    assert any(SCRIPTS[1] in assert_harmless(part).text for name, part in parts.items() if name.startswith("log/"))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"do": "drawn"},
        {"do": "drawn", "n": "many"},
        {"do": "pin"},
        {"do": "pin", "trial": SCRIPTS[0]},
        {"do": "stop_trial", "trial": -1},
        {"do": "stop_trial", "trial": {"$gt": 0}},
        {"do": "__class__"},
        {"do": "apply", "budget": "free", "deadline": "never"},
        {"do": "apply", "budget": float("nan")},
        {"do": "preview", "budget": -1},
        {"do": "export", "table": "results", "format": "csv/../../up.csv"},
        {"do": "export", "table": "../results", "format": "csv"},
        {"do": "export", "table": ["results"], "format": "csv"},
        {"do": "export"},
    ],
    ids=str,
)
def test_bad_browser_message_is_answered_by_an_error_and_writes_nothing(tmp_path, monkeypatch, content):
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Dashboard, "_request_update", lambda _: None)
    on_disk = Journalled(tmp_path / "studies", study())
    shown, sent = Dashboard(on_disk.study), []
    shown.send = sent.append
    shown._on_message(shown, {**content, "id": 1}, [])
    assert on_disk.commands() == []
    assert [path.name for path in tmp_path.iterdir()] == ["studies"]
    if content.get("do") != "drawn":
        (answer,) = sent
        assert answer["wrong"]
        assert answer["said"]
        assert "\n" not in answer["said"]


def test_text_views_are_printable():
    made = study()
    for shown in (text_views.format_summary(made.state), text_views.format_progress(made.state)):
        assert all(character.isprintable() or character == "\n" for character in shown)


def test_plotly_figures_escape_hostile_texts(tmp_path):
    made = study()
    for figure in (
        plotly_curves.plot_curves(made.state),
        plotly_curves.coordinates_plot(plotly_curves.coordinates_info(made.state)),
    ):
        # Plotly interprets html in all texts except the tick labels of parallel coordinates.
        texts = [value for key, value in leaves(json.loads(figure.to_json())) if key != "ticktext"]
        assert not any(re.search(r"<(?!br>|extra>|/extra>)", value) for value in texts)
        page = plotly_curves.write_figure(figure, tmp_path / "figure.html", title=SCRIPTS[3]).read_text()
        assert "<img src=x" not in page
        assert "<script>window.stolen" not in page


def test_marks_in_plotly_figures_are_escaped():
    """A foreign journal snapshot may hold any text as a mark."""
    made = small_study()
    made.history.marks.extend(Mark(1.0, hostile) for hostile in SCRIPTS)
    view = build_view(made.state)
    for figure in (
        plotly_time.burn_plot(figure_data.burn_info(made.history, view)),
        plotly_time.parallelism_plot(figure_data.parallelism_info(made.state, made.history, view, [1])),
    ):
        texts = [annotation.text for annotation in figure.layout.annotations]
        assert plotly_curves.escape_text(SCRIPTS[1]) in texts
        assert not any("<" in text for text in texts)


def leaves(value, key=None):
    if isinstance(value, str):
        yield key, value
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield from leaves(inner, name)
    for inner in value if isinstance(value, list) else ():
        yield from leaves(inner, key)


def test_hostile_texts_survive_the_journal(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    made = study()
    on_disk = Journalled(tmp_path, made)
    assert [entry.record for entry in on_disk.journal.read()] == [record for _, _, record in made.records]
    assert set(on_disk.study.state.trials[0].config) == set(ALL)
