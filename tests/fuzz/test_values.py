"""Money, times, names and search spaces of any shape."""

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seer_nb import core
from seer_nb._utils.text import printable
from seer_nb._utils.units import MAX_DOLLARS, format_duration, format_money, parse_deadline, parse_duration, parse_money
from seer_nb.search_space import Space
from seer_nb.search_space.domains import choice, lograndint, loguniform, quniform, randint, uniform
from seer_nb.study.settings import check_name, is_name
from tests.support.fuzzing import examples, refusal

pytestmark = pytest.mark.slow

CHARACTERS = st.text(st.one_of(st.characters(), st.sampled_from("\ud800\udfff\0\u202e")), max_size=30)
WRITTEN = st.text(st.sampled_from("0123456789.,+-eE $USDusdhminsecdayw_\u0661\u0be7\u00b2\u2007\n\t\0"), max_size=30)
LONG = st.builds(
    lambda text, times: text * times, st.sampled_from(["9", "1h", "1h ", "0.", " ", "1e9", "-"]), st.integers(0, 5000)
)
NUMBERS = st.one_of(
    st.floats(),
    st.integers(),
    st.integers(10**300, 10**310),
    st.decimals(),
    st.fractions(),
    st.booleans(),
    st.complex_numbers(),
    st.builds(np.float32, st.floats(width=32)),
    st.builds(np.int8, st.integers(-128, 127)),
)
TIMES = st.one_of(st.timedeltas(), st.datetimes(), st.datetimes(timezones=st.just(UTC)))
ANY = st.one_of(CHARACTERS, WRITTEN, LONG, NUMBERS, TIMES, st.none(), st.binary(max_size=9), st.lists(st.integers()))


@examples(400)
@given(ANY, st.booleans())
def test_money(value, zero):
    with refusal(ValueError, TypeError):
        micro = parse_money(value, "budget", zero=zero)
        assert type(micro) is int
        assert (0 if zero else 1) <= micro <= MAX_DOLLARS * 10**6
        assert "\n" not in format_money(micro)


@examples(400)
@given(ANY)
def test_durations(value):
    with refusal(ValueError, TypeError):
        seconds = parse_duration(value, "wait")
        assert type(seconds) is float
        assert 0 < seconds < math.inf
        assert format_duration(seconds)


@examples(400)
@given(ANY)
def test_deadlines(value):
    now = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    with refusal(ValueError, TypeError):
        seconds, wall = parse_deadline(value, now)
        assert 0 < seconds < math.inf
        assert wall is None or wall > now


HUGE = (
    *(Fraction(1, 3), Decimal("1e400"), Decimal("sNaN"), Decimal("-0"), timedelta.max, timedelta.min),
    *(10**5000, -(10**5000), "9" * 10_000, "1" * 10_000 + "h", "1h" * 10_000, " " * 100_000 + "1"),
)


@pytest.mark.parametrize("value", HUGE, ids=range(len(HUGE)))
def test_what_has_no_size(value):
    for parse in (parse_money, parse_duration):
        with refusal(ValueError, TypeError):
            parse(value, "x")


@examples(400)
@given(st.one_of(ANY, st.text(st.sampled_from("abAB01._-/\\ \0\n~"), max_size=120)))
def test_names(value):
    with refusal(ValueError):
        name = check_name(value)
        assert is_name(name)
        assert not set(name) & set("/\\\0\n ~")
        assert name.strip(".") == name or name[0] != "."


@examples(300)
@given(CHARACTERS)
def test_what_a_terminal_gets(text):
    assert all(character.isprintable() or character == "\n" for character in printable(text))


# --- spaces ---

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), CHARACTERS, st.binary(max_size=3), NUMBERS)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(st.one_of(CHARACTERS, st.integers()), inner, max_size=3),
    ),
    max_leaves=8,
)
MADE = st.one_of(
    st.tuples(st.sampled_from([uniform, loguniform, randint, lograndint]), st.tuples(SCALARS, SCALARS)),
    st.tuples(st.just(quniform), st.tuples(SCALARS, SCALARS, SCALARS)),
    st.tuples(st.just(choice), st.tuples(NESTED)),
)


@examples(400)
@given(MADE)
def test_domains(made):
    make, arguments = made
    with refusal(ValueError, TypeError):
        domain = make(*arguments)
        value = domain.sample(np.random.default_rng(0))
        assert msgspec.json.decode(msgspec.json.encode(value)) == value
        assert domain.count is None or domain.count >= 1
        domain.to_optuna()


@examples(400)
@given(st.one_of(NESTED, st.dictionaries(st.one_of(CHARACTERS, st.integers(), st.none()), NESTED, max_size=4)))
def test_spaces(given_space):
    with refusal(ValueError, TypeError):
        space = Space(given_space)
        config = space.sample(np.random.default_rng(0))
        drawn = core.Drawn(trial=0, config=config)
        # What is taken can be written down, and read again as it was.
        assert msgspec.json.decode(msgspec.json.encode(drawn), type=core.Drawn) == drawn
        assert repr(space)


def test_what_holds_itself():
    value = []
    value.append(value)
    with refusal(ValueError):
        Space({"x": value})
    deep = 0
    for _ in range(100_000):
        deep = [deep]
    with refusal(ValueError):
        Space({"x": deep})
