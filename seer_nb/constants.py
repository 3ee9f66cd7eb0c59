"""Values of a configuration that are the same in all trials."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from seer_nb.domains import Domain, is_option, plain_scalar, storable

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = (
    "give uniform, loguniform, quniform, randint, lograndint or choice, an Optuna distribution, a frozen scipy.stats "
    "uniform, loguniform or randint, or a constant of None, bool, int, float, str, list and dict"
)


def constant(value: Any) -> Any:
    """A copy that JSON can hold and give back as it is; a tuple becomes a list.

    Raises:
        TypeError, ValueError: It cannot be stored.
    """
    value = plain_scalar(value)
    if is_option(value):
        if not storable(value):
            raise ValueError(
                "a constant text must be of whole characters"
                if isinstance(value, str)
                else "a constant number must be finite and of at most 64 bits"
            )
        return value
    if isinstance(value, list | tuple):
        return [constant(item) for item in value]
    if isinstance(value, dict):
        if not all(storable(key) for key in value if isinstance(key, str)):
            raise ValueError("the names in a constant dict must be of whole characters")
        if all(isinstance(key, str) for key in value):
            return {key: constant(item) for key, item in value.items()}
        raise TypeError("the names in a constant dict must be str")
    if isinstance(value, Domain):
        raise TypeError("a list or dict is a constant and cannot hold what is searched; give that a name of its own")
    raise TypeError(f"a {type(value).__name__} can be neither searched nor stored; {KINDS}")


@contextmanager
def named(argument: str) -> Iterator[None]:
    """What is wrong with a value is told with the argument that it was given for."""
    try:
        yield
    except RecursionError:
        raise ValueError(f"{argument}: a constant must not be nested so deeply") from None
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{argument}: {error}") from None
