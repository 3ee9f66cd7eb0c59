"""``split``: disjoint parts, nested train ratios, and refused arguments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seer_nb.methods.sweep import split

RATIOS = st.floats(0.3, 0.9)


@settings(deadline=None)
@given(st.integers(10, 200), RATIOS, st.floats(0.05, 0.5), st.integers(1, 5), st.integers(0, 2**63 - 1))
def test_every_sample_is_in_exactly_one_part(n, ratio, validation, repeat, seed):
    found = split(n, ratio, repeat=repeat, validation=validation, seed=seed)
    assert sorted([*found.fit, *found.validation, *found.test]) == list(range(n))
    assert sorted([*found.fit, *found.validation]) == sorted(found.train)
    assert len(found.train) == round(n * ratio)
    assert min(map(len, found)) >= 1


@settings(deadline=None)
@given(st.integers(10, 200), RATIOS, RATIOS, st.integers(1, 5))
def test_larger_training_part_contains_the_smaller_one(n, one, other, repeat):
    few, many = (split(n, ratio, repeat=repeat).train for ratio in sorted([one, other]))
    assert set(few) <= set(many)


def test_splits_differ_by_repeat_and_seed_and_are_reproducible():
    first, again = split(40, 0.5), split(40, 0.5)
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not np.array_equal(first.train, split(40, 0.5, repeat=2).train)
    assert not np.array_equal(first.train, split(40, 0.5, seed=1).train)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 0.5), "leave 1 to fit and 2 to test of 4 samples"),
        ((10, 0.99), "leave 8 to fit and 0 to test of 10 samples"),
        ((10, 1.0), "train_ratio=1.0: leaves no sample for the other part"),
        ((10, 0), "train_ratio=0: out of range; expected a finite number > 0 and <= 1"),
        (("ten", 0.5), "n='ten': not an integer"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        split(*arguments)
