"""How hard the property tests try: alike each time and modestly, or SEER_TEST_EFFORT times as long and at random."""

import os

import pytest
from hypothesis import HealthCheck, settings

EFFORT = int(os.environ.get("SEER_TEST_EFFORT", "0"))
thorough = pytest.mark.skipif(not EFFORT, reason="one more of its kind: runs with SEER_TEST_EFFORT=1")
"""For tests that take long and are like others that always run."""


def examples(count, **more):
    """Settings for about so many examples."""
    return settings(
        max_examples=count * max(1, EFFORT),
        derandomize=not EFFORT,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        **more,
    )
