"""The plotly figure of learning curves, and its file."""

import re

import pytest

from seer_nb.views.figure_data import curves_info
from seer_nb.views.plotly_curves import plot_curves, write_figure
from seer_nb.views.view_model import build_view
from tests.support.records import Builder, big_study, small_study


def test_figure_has_one_grey_trace_and_labelled_survivors():
    figure = plot_curves(big_study().state)
    names = [trace.name for trace in figure.data]
    assert names == ["55 others", *(f"trial {k}" for k in (0, 36, 12, 48, 24)), "best: 0.9896"]
    survivor = figure.data[1]
    assert survivor.line.color == "#0072B2"
    assert [text.strip() for text in survivor.text if text] == ["trial 0"]
    assert survivor.text[-1]
    star = figure.data[-1]
    assert (star.x, star.marker.symbol) == ((27,), "star")


def test_grey_curves_are_separated_by_gaps():
    trace = plot_curves(small_study().state).data[0]
    assert trace.x == (1, 2, None, 1, None)
    assert trace.y == (0.4, 0.6, None, 0.2, None)


def test_empty_study_has_an_empty_figure():
    assert len(plot_curves(Builder().state).data) == 0


def test_label_is_at_the_last_finite_value():
    study = Builder().machine(0, 0.0, 1.0).draw({"k": "%{x}<b>"}).start(0, 0, "0.0").report(0, 0.1, 0.2, None)
    trace = plot_curves(study.state).data[0]
    assert [bool(text) for text in trace.text] == [False, True, False]
    assert "k=% {x}&lt;b&gt;" in trace.hovertemplate


def test_labels_do_not_overlap():
    """Guards against illegible labels where many good curves end; the best one keeps its label."""
    study = Builder().machine(0, 0.0, 1.0).draw({"k": 0}, {"k": 1}, {"k": 2})
    for trial, last in enumerate((0.90, 0.91, 0.2)):
        study.start(trial, trial, "0.0").report(trial, 0.1, last)
    labels = {trace.name: any(trace.text) for trace in plot_curves(study.state).data if trace.text}
    assert labels == {"trial 1": True, "trial 0": False, "trial 2": True}


def test_curves_info_describes_the_study():
    info = curves_info(build_view(small_study().state))
    assert (info.metric, info.max_epochs, info.best.trial) == ("accuracy", 9, 1)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = write_figure(
        plot_curves(small_study().state), tmp_path_factory.mktemp("figures") / "curves.html", "<digits>"
    )
    return path.read_text()


def test_file_refers_to_no_other_file(written):
    assert not re.search(r"<(?:script|link|img)[^>]*\b(?:src|href)=", written)
    assert len(written) > 1_000_000


def test_page_has_language_and_title(written):
    assert written.startswith('<!doctype html>\n<html lang="en">\n<head><title>&lt;digits&gt;</title>')
