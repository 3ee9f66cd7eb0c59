"""Which samples are what: none is two things, and what judges chooses nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seer_nb.methods.sweep import split

RATIOS = st.floats(0.3, 0.9)


@settings(deadline=None)
@given(st.integers(10, 200), RATIOS, st.floats(0.05, 0.5), st.integers(1, 5), st.integers(0, 2**63 - 1))
def test_every_sample_is_in_one_part(n, ratio, validation, repeat, seed):
    found = split(n, ratio, repeat=repeat, validation=validation, seed=seed)
    assert sorted([*found.fit, *found.validation, *found.test]) == list(range(n))
    assert sorted([*found.fit, *found.validation]) == sorted(found.train)
    assert len(found.train) == round(n * ratio)
    assert min(map(len, found)) >= 1


@settings(deadline=None)
@given(st.integers(10, 200), RATIOS, RATIOS, st.integers(1, 5))
def test_a_larger_training_part_holds_the_smaller_ones(n, one, other, repeat):
    few, many = (split(n, ratio, repeat=repeat).train for ratio in sorted([one, other]))
    assert set(few) <= set(many)


def test_repeats_and_seeds_differ_and_the_same_ones_do_not():
    first, again = split(40, 0.5), split(40, 0.5)
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not np.array_equal(first.train, split(40, 0.5, repeat=2).train)
    assert not np.array_equal(first.train, split(40, 0.5, seed=1).train)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((4, 0.5), "leave 1 to fit and 2 to test of 4 samples"),
        ((10, 0.99), "leave 8 to fit and 0 to test of 10 samples"),
        ((10, 1.0), "train_ratio=1.0 leaves nothing over"),
        ((10, 0), "train_ratio=0: out of range; expected a finite number > 0 and <= 1"),
        (("ten", 0.5), "n='ten': not an integer"),
    ],
)
def test_what_cannot_be_is_said(given, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        split(*given)
