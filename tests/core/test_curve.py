"""A long curve behaves like a tuple of its reports."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seer_nb import core
from seer_nb.core import curve
from seer_nb.core.curve import Curve


@pytest.fixture(autouse=True, scope="module")
def short_chunks():
    """Make curves of a few epochs have several chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "CHUNK", 2)
        yield


def report(epoch, **changes):
    fields = {
        "value": epoch / 7,
        "metrics": {"loss": 1.5},
        "seconds": 1.0,
        "parallelism": 1,
        "at_s": 2.0,
        "cost_micro": 3,
    }
    return core.Report(epoch=epoch, checkpoint=f"0/{epoch}", **{**fields, **changes})


def curve_of(reports):
    found = ()
    for each in reports:
        found = curve.append_report(found, each)
    return found


@given(st.integers(0, 20), st.data())
def test_a_curve_behaves_like_a_tuple_of_its_reports(size, data):
    reports = tuple(report(k, value=None if k % 5 == 0 else k / 7) for k in range(1, size + 1))
    found = curve_of(reports)
    assert isinstance(found, Curve) == (size >= 4)
    for shape in (found, curve.joined(*curve.split(found)), Curve((), reports)):
        assert shape == reports
        assert len(shape) == size
        assert shape[:] == reports
        assert shape[1:-1:2] == reports[1:-1:2]
        assert [shape[k] for k in range(-size, size)] == [*reports, *reports]
        assert [curve.value_at(shape, k) for k in range(size)] == [each.value for each in reports]
        with pytest.raises(IndexError):
            shape[size]
        if size:
            changed = report(data.draw(st.integers(1, size)), value=9.0)
            expected = tuple(changed if each.epoch == changed.epoch else each for each in reports)
            assert curve.replace_report(shape, changed) == expected
            assert curve.replace_report(shape, changed)[0] == expected[0]
            assert curve.replace_report(shape, changed)[-1] == expected[-1]
            assert shape == reports
        assert copy.deepcopy(shape) == reports
        assert pickle.loads(pickle.dumps(shape)) == reports


def test_two_curves_that_continue_the_same_one_are_independent():
    one = curve_of(map(report, range(1, 6)))
    left, right = one.appended(report(6, value=1.0)), one.appended(report(6, value=2.0))
    assert (len(one), left[5].value, right[5].value) == (5, 1.0, 2.0)
    assert left.appended(report(7))[5].value == 1.0
    assert right.appended(report(7))[5].value == 2.0
