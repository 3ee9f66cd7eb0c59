"""Errors of an experiment that are not about arguments, and the check for fairlearn."""

from __future__ import annotations

from seer_nb.errors import SeerError


class SealedError(SeerError):
    """The test set was requested before the selection was final, or for another selection."""


class UnfitError(SeerError):
    """A stage cannot be fitted on these examples, such as a post-processor on a group without positive labels."""


def require_fairlearn() -> None:
    """Check that fairlearn is installed.

    Raises:
        SeerError: It is not; the message names the extra to install.
    """
    try:
        import fairlearn  # noqa: F401 - only its presence matters
    except ImportError as error:
        raise SeerError(
            'seer_nb.methods.fairprep needs fairlearn, which is not installed: pip install "seer_nb[fair]"'
        ) from error
