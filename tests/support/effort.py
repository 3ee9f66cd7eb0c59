"""Effort of property tests: few and deterministic examples, or SEER_TEST_EFFORT times as many random ones."""

import os

import pytest
from hypothesis import HealthCheck, settings

EFFORT = int(os.environ.get("SEER_TEST_EFFORT", "0"))
thorough = pytest.mark.skipif(not EFFORT, reason="similar tests always run: set SEER_TEST_EFFORT=1 to run this one too")
"""Marks slow tests that resemble tests which always run."""


def examples(count, **more):
    """Return hypothesis settings for about `count` examples."""
    return settings(
        max_examples=count * max(1, EFFORT),
        derandomize=not EFFORT,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        **more,
    )
