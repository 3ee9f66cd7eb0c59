"""What a parser may do with anything: take it, or say in one sentence why not."""

import contextlib

from hypothesis import HealthCheck, settings

from seer_nb import SeerError
from tests.support.effort import EFFORT


def examples(count, **more):
    """Settings for about so many examples; a fixture serves all of them."""
    return settings(
        max_examples=count * max(1, EFFORT),
        derandomize=not EFFORT,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


@contextlib.contextmanager
def refusal(*kinds, longest=1000):
    """Only these errors may come, exactly, each with one line."""
    found = None
    try:
        yield
    except kinds as error:
        found = error
    if found is not None:
        said = str(found)
        # KeyError is a LookupError, but not a sentence.
        assert type(found) in kinds or isinstance(found, SeerError), repr(found)
        assert said.strip(), repr(found)
        assert "\n" not in said, said
        assert len(said) <= longest, len(said)
