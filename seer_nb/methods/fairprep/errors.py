"""What can go wrong beside arguments."""

from __future__ import annotations

from seer_nb.errors import SeerError


class SealedError(SeerError):
    """The test set was asked for before the selection was final, or for another selection."""


class UnfitError(SeerError):
    """A stage cannot be fitted on these examples, such as a post-processor on a group without positive labels."""


def need_fairlearn() -> None:
    """See that it is there.

    Raises:
        SeerError: It is not; the sentence says what to install.
    """
    try:
        import fairlearn  # noqa: F401
    except ImportError as error:
        raise SeerError(
            "seer_nb.methods.fairprep measures groups with fairlearn, which is not installed: "
            'pip install "seer_nb[fair]"'
        ) from error
