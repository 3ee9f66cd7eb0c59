"""The static picture: well-formed, self-contained and escaped."""

import re
import xml.etree.ElementTree as ET

import pytest

from seer_nb import core
from seer_nb.views import page
from seer_nb.views.svg_axes import spread, ticks
from tests.support.records import Builder, big_study, small_study

EVIL = "<img src=x onerror=alert(1)>"


def picture(study, status=None):
    return page.render_static_picture(study.state, study.history, status)


def parse(study, status=None):
    """Parse the static picture as XML, so that unclosed tags are errors."""
    return ET.fromstring(picture(study, status))


def texts(root, tag):
    return ["".join(node.itertext()) for node in root.iter(tag)]


def test_head_and_table_show_the_study():
    study = small_study()
    study.apply(core.Note(reason="2 survivors", workers=2, wanted={1: 2}))
    root = parse(study)
    assert texts(root, "h3") == ["digits ▶ running"]
    head = dict(zip(texts(root, "dt"), texts(root, "dd"), strict=True))
    assert head == {
        "time": "11 s of 10 min",
        "money": "$0.019 spent $0.06 committed $0.421 free of $0.50",
        "best": "accuracy 0.9 by trial 1 at epoch 2",
        "trials": "2 of 4 in the running",
        "workers": "2 busy of 2 ready, 2 wanted, $7.20 per hour",
        "plan": "2 survivors",
    }
    table = root.find(".//table[@class='seer-trials']")
    heads = ["trial", "state", "accuracy", "epochs", "workers", "cost", "to finish", "expected end", "lr", "act"]
    assert texts(table, "th") == [*heads, "1 ★ best", "3"]
    cells = texts(table, "td")[:9]
    assert cells == ["▶ running", "0.9", "3 of 9", "2 / 2 / 2", "$0.00600", "$0.01200", "17 s", "0.01", "tanh"]


def test_live_machines_are_listed():
    study = small_study()
    listed = parse(study).find(".//details[@class='seer-machines']")
    assert texts(listed, "caption") == ["2 machines, $7.20 per hour"]
    assert texts(listed, "td") == [
        "local",
        "ready",
        "10 s",
        "$3.60",
        "$0.011",
        "local",
        "ready",
        "0 s",
        "$3.60",
        "$0.008",
    ]
    study.apply(core.MachineLeaving(machine=1, left_s=60.0, reason="spot"))
    assert "being preempted" in texts(parse(study).find(".//details[@class='seer-machines']"), "td")


def test_ended_study_shows_its_reason_and_trial_states():
    study = small_study().apply(core.BeginEnd(reason="the deadline was reached")).apply(core.Finish())
    root = parse(study)
    head = dict(zip(texts(root, "dt"), texts(root, "dd"), strict=True))
    assert head["trials"] == "1 waiting, 1 running, 1 stopped, 1 failed"
    assert head["why"] == "the deadline was reached"
    assert "workers" not in head
    assert "workers" not in texts(root.findall(".//table")[-1], "th")


def test_study_with_a_dead_runner_is_shown_as_interrupted():
    root = parse(small_study(), "interrupted")
    assert texts(root, "h3") == ["digits ✖ interrupted"]
    assert "workers" not in texts(root, "dt")


def test_money_bar_has_shares_and_a_label():
    bars = [node for node in parse(small_study()).iter("div") if node.get("class") == "seer-bar"]
    assert [part.get("style") for part in bars[1]] == ["width:3.8%", "width:12.0%"]
    assert bars[1].get("aria-label") == "$0.019 spent, $0.06 committed, $0.421 free"


def test_figure_has_a_label_a_caption_and_a_data_table():
    root = parse(big_study())
    figure = root.find(".//figure/svg")
    assert figure.get("role") == "img"
    assert figure.get("aria-label") == "learning curves"
    words = "accuracy by epoch: 5 leading trials in colour, 55 others in grey; best 0.9896 by trial 0 at epoch 27"
    assert texts(root, "figcaption")[0] == words
    ends = [text for text in texts(figure, "text") if "trial " in text]
    assert ends == ["★ trial 0", "trial 36", "trial 12", "trial 48", "trial 24"]
    data = root.find(".//details//table")
    assert texts(data, "caption") == ["the leading curves"]
    assert len(data.findall(".//tbody/tr")) == 5


def test_empty_study_has_no_figure():
    root = parse(Builder())
    assert root.find(".//svg") is None
    assert "no trials yet" in texts(root, "caption")


def test_everything_is_escaped_and_nothing_is_fetched():
    study = Builder(name="a&b", metric="acc").machine(0, 0.0, 1.0).draw({EVIL: EVIL}).start(0, 0, "0.0").report(0, 0.5)
    study.apply(core.Note(reason=EVIL))
    text = picture(study)
    root = parse(study)
    assert not list(root.iter("img"))
    assert not list(root.iter("script"))
    assert text.count("&lt;img src=x") == 7
    assert not re.search(r"(?:src|href|url\()\s*=?", re.sub("&lt;.*?&gt;", "", text))


@pytest.mark.parametrize("values", [(0.5,), (None,), (0.5, None, 0.7), (-1.7e308, 1.7e308), (3.0, 3.0), (5e-324, 0.0)])
def test_extreme_curves_are_drawn_without_nan_or_inf(values):
    study = Builder().machine(0, 0.0, 1.0).draw({"k": 1}).start(0, 0, "0.0").report(0, *values)
    text = picture(study)
    parse(study)
    assert not re.search(r"\b(nan|inf)\b", text)


def test_curve_has_a_gap_at_a_non_finite_value():
    study = Builder().machine(0, 0.0, 1.0).draw({"k": 1}).start(0, 0, "0.0").report(0, 0.1, 0.2, None, 0.3, 0.4)
    path = next(node for node in parse(study).iter("g") if node.get("stroke") == "#0072B2").find("path")
    assert re.sub(r"[^ML]", "", path.get("d")) == "MLML"


def test_picture_of_a_large_study_stays_small():
    study = Builder(max_epochs=200).machine(0, 0.0, 1.0).draw(*({"k": k} for k in range(150)))
    for k in range(150):
        study.start(k, k, "0.0", until=200).report(k, *(k + 1 / n for n in range(1, 201))).end(k, "stopped")
    assert len(picture(study)) < 200_000


def test_labels_are_spread_within_the_page():
    assert spread([10, 12, 11], 14, 100) == [10, 38, 24]
    assert spread([99, 98, 97], 10, 100) == [100, 90, 80]
    assert spread([], 10, 100) == []


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.97, 0.99, [0.97, 0.975, 0.98, 0.985, 0.99]), (-3, 4, [-2, 0, 2, 4])],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)
