"""Helpers for fuzzing: a parser accepts any input or raises a one-line error."""

import contextlib

from hypothesis import HealthCheck, settings

from seer_nb import SeerError
from tests.support.effort import EFFORT


def examples(count, **more):
    """Return hypothesis settings for about ``count`` examples that share function-scoped fixtures."""
    return settings(
        max_examples=count * max(1, EFFORT),
        derandomize=not EFFORT,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


@contextlib.contextmanager
def refusal(*kinds, longest=1000):
    """Allow only these error types (not subtypes) or SeerError, with a one-line message."""
    found = None
    try:
        yield
    except kinds as error:
        found = error
    if found is not None:
        message = str(found)
        # A KeyError is a LookupError, but its message is not a sentence.
        assert type(found) in kinds or isinstance(found, SeerError), repr(found)
        assert message.strip(), repr(found)
        assert "\n" not in message, message
        assert len(message) <= longest, len(message)
