"""Figures as svg: coordinates, axes, bands and line styles."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seer_nb import core
from seer_nb.views import figure_data, page, svg_charts
from seer_nb.views.palette import Palette
from seer_nb.views.svg_axes import Frame, ticks, time_ticks, widened
from seer_nb.views.view_model import build_view
from tests.support.records import Builder, big_study, small_study

finite = st.floats(-1e12, 1e12, allow_nan=False)


def workers_of(study):
    view = build_view(study.state)
    coloured = [trial.trial for trial in figure_data.curves_info(view).coloured]
    return figure_data.parallelism_info(study.state, study.history, view, coloured), Palette().assign(coloured)


@given(finite, finite)
def test_widened_range_contains_the_range_and_stays_close(a, b):
    low, high = min(a, b), max(a, b)
    wide_low, wide_high = widened(low, high)
    assert wide_low <= low
    assert high <= wide_high
    assert wide_high - wide_low <= 2 * (high - low) + 1e-9 * max(1.0, abs(low), abs(high))


def test_small_changes_do_not_change_the_widened_range():
    assert widened(0.511, 0.934) == widened(0.513, 0.936)


@given(st.floats(0.1, 1e8))
def test_time_ticks_are_few_and_round(until_s):
    found = time_ticks(until_s)
    assert found[0] == (0, "0 s")
    assert len(found) <= 8
    assert all(at_s <= until_s for at_s, _ in found)


def test_ticks_of_worker_counts_are_integers():
    assert ticks(0, 2.2, whole=True) == [0, 1, 2]
    assert ticks(0, 2.2) == [0, 0.5, 1, 1.5, 2]


def test_paths_have_gaps_dots_and_steps():
    frame = Frame((0, 10), (0, 1))
    assert frame.line([(0, 0.0), (5, None), (10, 1.0)]).count("M") == 2
    assert frame.line([(5, 0.5)]).endswith("h.01")
    steps = frame.stairs([(0, 0), (5, 1)], 10)
    assert re.sub(r"[0-9. ]", "", steps) == "MHVH"
    assert frame.stairs([], 10) == ""


def test_survivor_keeps_a_unique_line_style():
    palette = Palette()
    before = palette.assign([1, 2, 3])
    after = palette.assign([3, 4, 1, 5])
    assert (after[1], after[3]) == (before[1], before[3])
    assert len(set(after.values())) == 4
    many = palette.assign(range(36))
    assert len(set(many.values())) == 36


def test_bands_are_stacked():
    study = small_study()
    info, styles = workers_of(study)
    drawing = svg_charts.draw_parallelism(info, styles)
    bands, lines = drawing.layers
    assert [band.key for band in bands] == ["band:1", "band:others"]
    assert 'data-trial="1"' in bands[0].content
    assert "data-trial" not in bands[1].content
    assert "2 boots, 0 losses" in drawing.title
    assert "machines lost" in lines[1].content


def test_boots_losses_and_changes_are_drawn():
    study = small_study()
    study.apply(core.MachineEnded(machine=1, expected=False, reason="killed"), 20.0).apply(
        core.SetBudget(budget_micro=900_000)
    )
    drawing = svg_charts.draw_parallelism(*workers_of(study))
    faults, marks = drawing.layers[1][1].content, drawing.layers[1][2].content
    assert faults.count("l8 8") == 1
    assert "budget set to $0.90 after 20 s" in marks


def test_projected_values_are_dotted_and_extend_the_range_within_bounds():
    study = small_study()
    view = build_view(study.state)
    near, far = figure_data.curves_info(view, {1: 0.97}), figure_data.curves_info(view, {1: 100.0})
    drawing = svg_charts.draw_curves(near, Palette().assign([1]), svg_charts.Pen())
    assert 'stroke-dasharray="1 5"' in drawing.layers[1][0].content
    assert near.high >= 0.97
    assert far.high < 2


def test_burn_shows_the_forecast():
    study = small_study()
    plan = figure_data.SpendingForecast(((11.0, 0.02, 0.02, 0.02), (500.0, 0.4, 0.3, 0.5)), 500.0)
    drawing = svg_charts.draw_burn(figure_data.burn_info(study.history, build_view(study.state), plan))
    assert drawing.title.endswith("about $0.40 expected after 8 min 20 s")
    assert "seer-plan" in drawing.layers[0][0].content
    empty = svg_charts.draw_burn(figure_data.burn_info(study.history, build_view(study.state)))
    assert empty.layers[0][0].content == "<g></g>"


def test_table_of_the_burn_agrees_with_its_line():
    """Guards against $0.00 while machines boot and nothing is recorded."""
    study = Builder().machine(0, 0.0)
    table = page._burn_table(figure_data.burn_info(study.history, build_view(study.state, now_s=12.0)))
    spent = [float(amount) for amount in re.findall(r"\$([\d.]+)", table)]
    assert spent == pytest.approx([0.001 * second for second in range(13)])


def test_only_the_last_grey_piece_changes_when_a_trial_ends():
    study = big_study()
    pen = svg_charts.Pen()

    def grey():
        info = figure_data.curves_info(build_view(study.state))
        return svg_charts.draw_curves(info, Palette().assign(t.trial for t in info.coloured), pen).layers[0]

    before = grey()
    study.draw({"lr": 0.1, "width": 32}).start(60, 60, "0.0").report(60, 0.2).end(60, "stopped")
    after = grey()
    assert [piece.content for piece in after[:-1]] == [piece.content for piece in before[: len(after) - 1]]
    assert after[-1].content != before[-1].content


@pytest.mark.parametrize("name", ["<b>", 'a"b', "a&b"])
def test_metric_names_are_escaped(name):
    study = small_study(metric=name)
    info = figure_data.curves_info(build_view(study.state))
    drawing = svg_charts.draw_curves(info, Palette().assign([1]), svg_charts.Pen())
    assert name not in drawing.axes
    assert name not in drawing.layers[1][0].content
