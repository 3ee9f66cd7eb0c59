"""Checks of arguments."""

import numpy as np
import pytest
import torch

import seer_nb as seer
from seer_nb._utils.validation import check_integer


@pytest.mark.parametrize("three", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_integers_of_python_numpy_and_torch_are_accepted(three):
    assert (check_integer(three, "n"), type(check_integer(three, "n"))) == (3, int)


@pytest.mark.parametrize(
    ("value", "kind", "sentence"),
    [
        (2.5, TypeError, "n=2.5: not an integer; expected an integer >= 1"),
        (True, TypeError, "n=True: not an integer; expected an integer >= 1"),
        ("3", TypeError, "n='3': not an integer; expected an integer >= 1"),
        (torch.ones(2), TypeError, "n=tensor([1., 1.]): not an integer; expected an integer >= 1"),
        (0, ValueError, "n=0: too small; expected an integer >= 1"),
    ],
)
def test_invalid_integer_raises_with_one_sentence(value, kind, sentence):
    with pytest.raises(kind) as raised:
        check_integer(value, "n")
    assert str(raised.value) == sentence


def test_message_names_the_quantity_and_both_bounds():
    with pytest.raises(ValueError, match=r"^n=9: too large; expected an integer from 0 to 8$"):
        check_integer(9, "n", 0, 8)
    for value, kind in ((0, ValueError), (None, TypeError)):
        with pytest.raises(kind, match=f"^n={value}: not a number of epochs; expected an integer >= 1$"):
            check_integer(value, "n", what="a number of epochs")


@pytest.mark.parametrize(
    "policy", [seer.SEER, *(getattr(seer.policies, n) for n in ("ASHA", "Hyperband", "HyperSched"))]
)
def test_policy_rejects_a_number_given_as_text(policy):
    """Guards against an error that names neither the argument nor what is allowed."""
    with pytest.raises(TypeError, match=r"^eta='3': not an integer; expected an integer >= 2$"):
        policy(eta="3")
