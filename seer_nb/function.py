"""The training function on its way to the workers: pickled by value, or refused with the name of what is in the way."""

from __future__ import annotations

import contextlib
import inspect
import sys
import sysconfig
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def check(function: Callable[..., Any]) -> None:
    """Raise TypeError or ValueError, with a sentence, if it can't be a training function."""
    if not callable(function):
        raise TypeError(f"train={function!r} is not a function: give a function of (config, run)")
    try:
        inspect.signature(function).bind("config", "run")
    except TypeError:
        name = getattr(function, "__name__", repr(function))
        raise TypeError(
            f"train={name}{inspect.signature(function)} cannot be called as train(config, run): "
            "give it these two parameters"
        ) from None


def dumps(function: Callable[..., Any]) -> bytes:
    """Pickle a function with the user's own modules by value, so that workers need not have their files.

    Raises:
        ValueError: Something that it uses can't be pickled; the sentence names it.
    """
    with _by_value():
        try:
            return bytes(cloudpickle.dumps(function))
        except Exception as error:
            culprit = _culprit(function)
            name = getattr(function, "__name__", repr(function))
            where = f"it uses {culprit}, which cannot be pickled" if culprit else "it cannot be pickled"
            raise ValueError(
                f"train={name} cannot be sent to the workers: {where} ({error}); make it inside the function instead"
            ) from error


@contextlib.contextmanager
def _by_value() -> Iterator[None]:
    modules = [module for module in list(sys.modules.values()) if _is_users(module)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _is_users(module: Any) -> bool:
    """Whether a module is the user's own file rather than an installed package or a part of Python."""
    file = getattr(module, "__file__", None)
    name = getattr(module, "__name__", None)
    if not isinstance(module, types.ModuleType) or not file or not name or name == "__main__":
        return False
    # cloudpickle takes registered modules by their name.
    if sys.modules.get(name) is not module or name.partition(".")[0] == "seer_nb":
        return False
    path = Path(file)
    return not any(path.is_relative_to(folder) for folder in _installed())


def _installed() -> set[str]:
    paths = {
        value for key, value in sysconfig.get_paths().items() if key in {"stdlib", "platstdlib", "purelib", "platlib"}
    }
    return paths | {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}


def _culprit(function: Callable[..., Any]) -> str | None:
    """Name and type of the first global, closure variable or default that can't be pickled."""
    function = inspect.unwrap(function)
    if not isinstance(function, types.FunctionType):
        return None
    used = inspect.getclosurevars(function)
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    for kind, values in (("global", used.globals), ("closure variable", used.nonlocals), ("default of", defaults)):
        for name, value in values.items():
            if value is inspect.Parameter.empty:
                continue
            try:
                cloudpickle.dumps(value)
            except Exception:  # noqa: BLE001 - pickling runs the object's own code
                kinds = f"{type(value).__module__}.{type(value).__qualname__}"
                return f"the {kind} {name!r} (a {kinds})"
    return None
