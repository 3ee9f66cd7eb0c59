"""Parsing and formatting of money and time."""

import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seer_nb._utils.units import format_duration, format_money, parse_deadline, parse_duration, parse_money

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.decimals(),
    st.fractions(),
    st.complex_numbers(),
    st.timedeltas(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.lists(st.integers(), max_size=2),
    st.from_regex(r"-?\$?\d{1,30}(\.\d{0,30})?([eE]-?\d{1,3})? ?(USD|min|h|s)?", fullmatch=True),
)


@pytest.mark.parametrize(
    ("given", "micro"),
    [
        ("$0.50", 500_000),
        (" 0.50 ", 500_000),
        ("0.5 USD", 500_000),
        ("US$ 2", 2_000_000),
        ("3 dollars", 3_000_000),
        ("5e-3", 5_000),
        (0.1, 100_000),
        (2, 2_000_000),
        (np.float64(0.29), 290_000),
        (np.int64(3), 3_000_000),
        (Decimal("0.0000019"), 1),
        (Fraction(1, 2), 500_000),
        ("$0.9999999", 999_999),
        ("1000000000000", 10**18),
    ],
)
def test_money_is_parsed_exactly_and_rounded_down(given, micro):
    assert parse_money(given, "budget") == micro


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ("ten", ValueError, "budget='ten': not an amount of money"),
        ("1,5", ValueError, "budget='1,5': not an amount of money"),
        ("--1", ValueError, "budget='--1': not an amount of money"),
        ("nan", ValueError, "budget='nan': not an amount of money"),
        (math.nan, ValueError, "budget=nan: not an amount of money"),
        (math.inf, ValueError, "budget=inf: not an amount of money"),
        (Decimal("sNaN"), ValueError, "budget=Decimal('sNaN'): not an amount of money"),
        (True, TypeError, "budget=True: not an amount of money"),
        (None, TypeError, "budget=None: not an amount of money"),
        (0, ValueError, "budget=0: not more than 0"),
        ("-$1", ValueError, "budget='-$1': not more than 0"),
        ("1e-7", ValueError, "budget='1e-7': less than $0.000001"),
        (1e13, ValueError, "budget=10000000000000.0: more than $1e12"),
    ],
)
def test_invalid_amount_raises_with_one_sentence(given, error, sentence):
    with pytest.raises(error) as caught:
        parse_money(given, "budget")
    assert str(caught.value) == f'{sentence}; expected dollars such as "$0.50" or 0.5'


def test_price_may_be_zero_but_not_negative():
    assert parse_money("$0", "price", zero=True) == 0
    assert parse_money(1e-9, "price", zero=True) == 0
    with pytest.raises(ValueError, match=r"^price=-1: negative; expected dollars such as"):
        parse_money(-1, "price", zero=True)


def outcome(read):
    """Return the result, or the message of a ValueError or TypeError; other exceptions propagate."""
    try:
        return read()
    except (ValueError, TypeError) as error:
        return str(error)


@given(ANYTHING)
def test_parse_money_raises_only_value_error_and_type_error(value):
    found = outcome(lambda: parse_money(value, "budget"))
    if isinstance(found, str):
        assert found.startswith("budget=")
        assert found.endswith('expected dollars such as "$0.50" or 0.5')
    else:
        assert type(found) is int
        assert 0 < found <= 10**18


@given(st.integers(1, 10**18))
def test_money_survives_a_round_trip_through_decimal_text(micro):
    assert parse_money(f"${Decimal(micro) / 10**6:f}", "budget") == micro


@given(st.integers(1, 10**15))
def test_formatted_money_is_close_and_never_looks_like_zero(micro):
    back = parse_money(format_money(micro), "budget")
    assert abs(back - micro) <= max(0.0051 * micro, 5_000 if micro >= 10**6 else 0)
    assert format_money(-micro) == "-" + format_money(micro)


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000001"),
        (1_700, "$0.0017"),
        (12_345, "$0.0123"),
        (500_000, "$0.50"),
        (999_999, "$1.00"),
        (1_234_567, "$1.23"),
    ],
)
def test_money_is_formatted_with_three_digits_below_a_dollar(micro, text):
    assert format_money(micro) == text


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("10min", 600),
        ("90s", 90),
        ("1h30m", 5400),
        ("1.5 h", 5400),
        ("2 days", 172_800),
        ("1 h, 5 min", 3900),
        ("2 WEEKS", 1_209_600),
        ("250ms", 0.25),
        ("90", 90),
        (90, 90),
        (np.float32(1.5), 1.5),
        (Decimal("2.5"), 2.5),
        (timedelta(minutes=1), 60),
    ],
)
def test_duration_is_parsed(given, seconds):
    found = parse_duration(given, "deadline")
    assert found == pytest.approx(seconds)
    assert type(found) is float


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ("soon", ValueError, "not a length of time"),
        ("", ValueError, "not a length of time"),
        ("10 parsecs", ValueError, "not a length of time"),
        ("1h 1h", ValueError, "not a length of time"),
        ("1:30", ValueError, "not a length of time"),
        (math.nan, ValueError, "not a length of time"),
        (math.inf, ValueError, "not a length of time"),
        (10**400, ValueError, "not a length of time"),
        (True, TypeError, "not a length of time"),
        ([60], TypeError, "not a length of time"),
        (0, ValueError, "not more than 0 seconds"),
        ("0s", ValueError, "not more than 0 seconds"),
        (-5, ValueError, "not more than 0 seconds"),
        (timedelta(0), ValueError, "not more than 0 seconds"),
        (1e306, ValueError, "longer than 300 years"),
        ("100000000000s", ValueError, "longer than 300 years"),
    ],
)
def test_invalid_duration_raises_with_one_sentence(given, error, sentence):
    with pytest.raises(error) as caught:
        parse_duration(given, "timeout")
    shown = repr(given) if len(repr(given)) < 80 else repr(given)[:77] + "..."
    hint = 'expected a time such as "10min", "1h30m", 90 (seconds) or a timedelta'
    assert str(caught.value) == f"timeout={shown}: {sentence}; {hint}"


@given(ANYTHING)
def test_parse_deadline_raises_only_value_error_and_type_error(value):
    found = outcome(lambda: parse_deadline(value, 1e9))
    if isinstance(found, str):
        assert found.startswith("deadline=")
    else:
        seconds, wall = found
        assert 0 < seconds < math.inf
        assert wall is None or wall == pytest.approx(1e9 + seconds)


@given(st.integers(1, 10**7))
def test_duration_survives_a_round_trip_through_text(seconds):
    back = parse_duration(format_duration(seconds), "deadline")
    # Two units are shown.
    assert abs(back - seconds) <= (0 if seconds < 3600 else 60 if seconds < 86400 else 3600)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0001, "0.1 s"),
        (2.5, "2.5 s"),
        (9.99, "10 s"),
        (59.7, "1 min"),
        (80, "1 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (90_000, "1 d 1 h"),
        (-80, "-1 min 20 s"),
        (math.inf, "unlimited"),
        (math.nan, "unknown"),
    ],
)
def test_duration_is_formatted_in_two_units(seconds, text):
    assert format_duration(seconds) == text


def test_deadline_may_be_an_aware_datetime():
    moment = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    now = datetime(2030, 1, 1, 9, 30, tzinfo=UTC).timestamp()
    assert parse_deadline(moment, now) == (1800.0, moment.timestamp())
    assert parse_deadline("10min", now) == (600.0, None)


def test_deadline_must_be_in_the_future_and_have_a_time_zone():
    past = datetime(2020, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="has already passed") as caught:
        parse_deadline(past, 2e9)
    assert str(caught.value) == (
        "deadline=datetime.datetime(2020, 1, 1, 0, 0, tzinfo=datetime.timezone.utc): has already passed; expected a "
        'time such as "10min", "1h30m", 90 (seconds) or a timedelta, or a datetime with a time zone'
    )
    with pytest.raises(ValueError, match="time zone") as caught:
        parse_deadline(past.replace(tzinfo=None), 0.0)
    assert str(caught.value) == (
        "deadline=datetime.datetime(2020, 1, 1, 0, 0): has no time zone; expected an aware "
        "datetime such as datetime.now().astimezone() + timedelta(hours=1)"
    )


def test_value_whose_repr_raises_is_shown_by_its_type():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(TypeError, match=r"^budget=<Odd>: not an amount of money"):
        parse_money(Odd(), "budget")
