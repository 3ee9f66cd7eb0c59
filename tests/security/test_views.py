"""In no view of a study does what somebody has written become more than text."""

import json
import re

import pytest

from seer_nb.core.history import Mark
from seer_nb.ui.notebook.dashboard import Dashboard
from seer_nb.views import figure_data, plotly_curves, plotly_time
from seer_nb.views import page as page_views
from seer_nb.views import text as text_views
from seer_nb.views.view_model import view_of
from tests.support.hostile_texts import ALL, SCRIPTS, assert_harmless, study
from tests.support.journalled import Journalled
from tests.support.records import small_study

EACH = pytest.mark.parametrize("hostile", SCRIPTS)


def told(page):
    """Each script is there to be read: nothing was swallowed as a tag."""
    found = assert_harmless(page)
    for script in SCRIPTS:
        assert script in found.text


@pytest.mark.parametrize("status", [None, "interrupted", "<script>"])
def test_the_static_picture(status):
    made = study()
    told(page_views.static_html(made.state, made.history, status))


@EACH
def test_a_study_of_that_name(hostile):
    """No study can be called so; but a journal that somebody else has written may say it."""
    made = study(SCRIPTS, name=hostile)
    assert hostile in assert_harmless(page_views.static_html(made.state, made.history)).text


def test_the_report(tmp_path):
    made = study()
    path = page_views.write(tmp_path / "report.html", SCRIPTS[3], made.state, made.history, "ended")
    page = path.read_text(encoding="utf-8", errors="strict")
    told(page)
    assert page.partition("</head>")[0].count("</title>") == 1


def test_the_live_view(tmp_path, monkeypatch):
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
def test_what_a_browser_may_say(tmp_path, monkeypatch, content):
    """A wrong message is answered by a sentence, and nothing is written."""
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


def test_the_terminal():
    made = study()
    for shown in (text_views.summary(made.state), text_views.progress_line(made.state)):
        assert all(character.isprintable() or character == "\n" for character in shown)


def test_plotly_figures_show_text_as_it_is(tmp_path):
    made = study()
    for figure in (
        plotly_curves.plot_curves(made.state),
        plotly_curves.coordinates_plot(plotly_curves.coordinates_info(made.state)),
    ):
        # Where it reads html (not in the words at a parallel axis), nothing is left of it.
        texts = [value for key, value in leaves(json.loads(figure.to_json())) if key != "ticktext"]
        assert not any(re.search(r"<(?!br>|extra>|/extra>)", value) for value in texts)
        page = plotly_curves.write_figure(figure, tmp_path / "figure.html", title=SCRIPTS[3]).read_text()
        assert "<img src=x" not in page
        assert "<script>window.stolen" not in page


def test_what_a_person_changed_is_no_html_in_figures():
    """A snapshot that somebody else has made may call it anything."""
    made = small_study()
    made.history.marks.extend(Mark(1.0, hostile) for hostile in SCRIPTS)
    view = view_of(made.state)
    for figure in (
        plotly_time.burn_plot(figure_data.burn_info(made.history, view)),
        plotly_time.parallelism_plot(figure_data.parallelism_info(made.state, made.history, view, [1])),
    ):
        texts = [annotation.text for annotation in figure.layout.annotations]
        assert plotly_curves.shown(SCRIPTS[1]) in texts
        assert not any("<" in text for text in texts)


def leaves(value, key=None):
    if isinstance(value, str):
        yield key, value
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield from leaves(inner, name)
    for inner in value if isinstance(value, list) else ():
        yield from leaves(inner, key)


def test_all_of_it_survives_the_journal(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    made = study()
    on_disk = Journalled(tmp_path, made)
    assert [entry.record for entry in on_disk.journal.read()] == [record for _, _, record in made.records]
    assert set(on_disk.study.state.trials[0].config) == set(ALL)
