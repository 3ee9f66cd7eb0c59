"""Settings of a worker's process that a training function may change, restored so that no trial depends on another.

Settings that belong to a thread or a context need no code here, because each member trains in a new thread: grad
mode, autocast, the default device, numpy's error state, the decimal context, trace functions. The environment is
restored by `seer_nb.worker.rendezvous.environment`, and random generators are seeded for each member.

Members share a process instead of being forked from it: a fork must not inherit a CUDA context, so each gang would
create its own, and each gang would import again what the training function imports.
"""

from __future__ import annotations

import builtins
import contextlib
import faulthandler
import functools
import gc
import locale
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb.worker.function import installed_folders, is_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType


logger = logging.getLogger(__name__)
_SYS_NAMES = (
    *("stdin", "stdout", "stderr", "__stdout__", "__stderr__", "argv", "path", "dont_write_bytecode"),
    *("excepthook", "displayhook", "unraisablehook", "breakpointhook", "tracebacklimit"),
)
_ABSENT = object()


class Setting(NamedTuple):
    """A setting of the process.

    Attributes:
        read: Returns its value, in a form that later changes do not affect.
        write: Restores such a value.
    """

    read: Callable[[], Any]
    write: Callable[[Any], object]


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Restore the settings of the process on exit, except those of libraries that are first imported meanwhile."""
    before = [(setting, setting.read()) for setting in _settings()]
    modules = set(sys.modules)
    with warnings.catch_warnings():
        try:
            yield
        finally:
            for setting, value in before:
                _restore(setting, value)
            _drop_users_modules(modules)


def _settings() -> list[Setting]:
    settings = [*_PYTHON, Setting(_read_loggers, _write_loggers), Setting(_read_names, _write_names)]
    if "torch" in sys.modules:
        settings += _torch_settings()
    if "numpy" in sys.modules:
        import numpy as np

        # Before numpy 2, these options belong to the process.
        settings.append(Setting(np.get_printoptions, lambda options: np.set_printoptions(**options)))
    return settings


def _restore(setting: Setting, value: Any) -> None:
    try:
        if not _is_unchanged(setting, value):
            setting.write(value)
    except Exception:
        logger.exception("a setting that a training function had changed was not restored")


def _is_unchanged(setting: Setting, value: Any) -> bool:
    try:
        return bool(setting.read() == value)
    except Exception:  # noqa: BLE001 - torch refuses to read some flags after others were changed
        return False


# --- Python and the system ---


def _cwd() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - a text, as os.chdir takes it
    except FileNotFoundError:  # the function has deleted its working directory
        return ""


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _limits() -> dict[int, tuple[int, int]]:
    import resource

    kinds = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
    return {kind: resource.getrlimit(kind) for kind in kinds}


def _set_limits(limits: dict[int, tuple[int, int]]) -> None:
    import resource

    for kind, (soft, hard) in limits.items():
        with contextlib.suppress(ValueError, OSError):  # a hard limit cannot be raised again
            resource.setrlimit(kind, (soft, hard))


_PYTHON = (
    Setting(_cwd, os.chdir),
    Setting(_umask, os.umask),
    Setting(_limits, _set_limits),
    Setting(lambda: time.tzname, lambda _: time.tzset()),
    Setting(lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value)),
    Setting(socket.getdefaulttimeout, socket.setdefaulttimeout),
    Setting(sys.getrecursionlimit, sys.setrecursionlimit),
    Setting(sys.getswitchinterval, sys.setswitchinterval),
    Setting(sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    Setting(gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
    Setting(gc.get_threshold, lambda threshold: gc.set_threshold(*threshold)),
    Setting(gc.get_debug, gc.set_debug),
    Setting(faulthandler.is_enabled, lambda enabled: faulthandler.enable() if enabled else faulthandler.disable()),
    Setting(lambda: list(gc.callbacks), lambda value: gc.callbacks.__setitem__(slice(None), value)),
    # A timer of the function would end the worker later.
    Setting(lambda: signal.getitimer(signal.ITIMER_REAL)[0] > 0, lambda _: signal.setitimer(signal.ITIMER_REAL, 0)),
    Setting(threading.gettrace, threading.settrace),
    Setting(threading.getprofile, threading.setprofile),
    Setting(lambda: threading.excepthook, lambda hook: setattr(threading, "excepthook", hook)),
    Setting(threading.stack_size, threading.stack_size),
    Setting(
        lambda: multiprocessing.get_start_method(allow_none=True),
        lambda method: multiprocessing.set_start_method(method, force=True),
    ),
    Setting(
        lambda: multiprocessing.current_process().daemon,
        lambda daemon: setattr(multiprocessing.current_process(), "daemon", daemon),
    ),
    Setting(logging.getLogRecordFactory, logging.setLogRecordFactory),
    Setting(logging.getLoggerClass, logging.setLoggerClass),
    Setting(lambda: logging.lastResort, lambda handler: setattr(logging, "lastResort", handler)),
    # What logging.captureWarnings has replaced.
    Setting(lambda: logging._warnings_showwarning, lambda show: setattr(logging, "_warnings_showwarning", show)),  # type: ignore[attr-defined] # noqa: SLF001
)


def _read_names() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the built-in names, and those of sys, which are often replaced; lists with their content."""
    of_sys = {name: getattr(sys, name, _ABSENT) for name in _SYS_NAMES}
    return dict(vars(builtins)), {name: (x, list(x)) if isinstance(x, list) else x for name, x in of_sys.items()}


def _write_names(names: tuple[dict[str, Any], dict[str, Any]]) -> None:
    built_in, of_sys = names
    for name in vars(builtins).keys() - built_in.keys():
        delattr(builtins, name)
    vars(builtins).update(built_in)
    for name, value in of_sys.items():
        if value is _ABSENT:
            vars(sys).pop(name, None)
        elif isinstance(value, tuple):
            held, content = value
            held[:] = content
            setattr(sys, name, held)
        else:
            setattr(sys, name, value)


# --- logging ---

_FRESH = (logging.NOTSET, True, False, (), ())
"""State of a logger that was just created; see `_read_loggers`."""


def _loggers() -> dict[str, logging.Logger]:
    known = logging.root.manager.loggerDict
    named = {name: found for name, found in list(known.items()) if isinstance(found, logging.Logger)}
    return {"": logging.root, **named}


def _read_loggers() -> tuple[int, dict[str, tuple[Any, ...]]]:
    return logging.root.manager.disable, {name: _logger_state(each) for name, each in _loggers().items()}


def _logger_state(logger: logging.Logger) -> tuple[Any, ...]:
    return logger.level, logger.propagate, logger.disabled, tuple(logger.handlers), tuple(logger.filters)


def _write_loggers(state: tuple[int, dict[str, tuple[Any, ...]]]) -> None:
    disabled_level, before = state
    if disabled_level != logging.root.manager.disable:
        logging.disable(disabled_level)
    for name, each in _loggers().items():
        wanted = before.get(name, _FRESH)
        if _logger_state(each) == wanted:
            continue
        level, each.propagate, each.disabled, handlers, filters = wanted
        each.handlers[:], each.filters[:] = handlers, filters
        if each.level != level:
            each.setLevel(level)  # takes a millisecond, because it clears the caches of all loggers


# --- modules ---


def _drop_users_modules(before: set[str]) -> None:
    """Forget modules of the user's own files, so that the next function imports them afresh."""
    files = {name: getattr(sys.modules[name], "__file__", None) for name in sys.modules.keys() - before}
    installed = installed_folders() if any(files.values()) else ()
    for name, file in files.items():
        if file and not is_below(file, installed) and name.partition(".")[0] != "seer_nb":
            del sys.modules[name]


# --- torch ---

_HOOK_MODULES = ("torch.nn.modules.module", "torch.optim.optimizer")
"""Modules of torch that keep hooks on every module and every optimizer."""
_PRECISIONS = (
    ("generic", "all"),
    *((backend, operation) for backend in ("cuda", "mkldnn") for operation in ("all", "matmul", "conv", "rnn")),
)
"""Backends and operations whose float32 precision torch 2.9 and later keep apart."""


def _torch_settings() -> list[Setting]:
    import torch
    from torch import multiprocessing as torch_multiprocessing

    options = torch._tensor_str.PRINT_OPTS  # noqa: SLF001 - torch has no public function that returns them
    return [
        Setting(_default_tensor_device, _reset_tensor_type),
        Setting(torch.get_default_dtype, torch.set_default_dtype),
        Setting(torch.get_num_threads, torch.set_num_threads),
        Setting(
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        ),
        Setting(
            lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
            lambda value: torch.autograd.set_detect_anomaly(*value),
        ),
        Setting(torch_multiprocessing.get_sharing_strategy, torch_multiprocessing.set_sharing_strategy),
        Setting(lambda: dict(vars(options)), vars(options).update),
        *(_hooks(module) for name in _HOOK_MODULES if (module := sys.modules.get(name)) is not None),
        *_flags(),
    ]


def _default_tensor_device() -> str:
    """Return the device type of the default tensor type."""
    import torch

    return str(torch._C._get_default_device())  # noqa: SLF001 - torch has no public function that returns it


def _reset_tensor_type(device: str) -> None:
    import torch

    torch.set_default_tensor_type("torch.FloatTensor" if device == "cpu" else f"torch.{device}.FloatTensor")


def _hooks(module: ModuleType) -> Setting:
    """Return the global hooks of a module of torch as a setting."""
    held = {
        name: hooks for name, hooks in vars(module).items() if name.startswith("_global_") and isinstance(hooks, dict)
    }

    def write(before: dict[str, dict[Any, Any]]) -> None:
        for name, hooks in held.items():
            hooks.clear()
            hooks.update(before[name])

    return Setting(lambda: {name: dict(hooks) for name, hooks in held.items()}, write)


@functools.cache
def _flags() -> tuple[Setting, ...]:
    """Return the flags behind ``torch.backends`` and the like, found by name: versions of torch differ in them."""
    import torch

    core: Any = torch._C  # noqa: SLF001 - some flags have no public name
    cuda = torch.backends.cuda
    names = [name for name in dir(core) if name.startswith("_get_") and hasattr(core, f"_set_{name[5:]}")]
    flags = [Setting(getattr(core, name), _unpacking(getattr(core, f"_set_{name[5:]}"))) for name in names]
    kinds = [kind for kind in ("flash", "mem_efficient", "math", "cudnn") if hasattr(cuda, f"enable_{kind}_sdp")]
    flags += [Setting(getattr(cuda, f"{kind}_sdp_enabled"), getattr(cuda, f"enable_{kind}_sdp")) for kind in kinds]
    if hasattr(core, "_set_fp32_precision_setter"):
        # Last, because the older flags for TF32 are views of these.
        read, write = core._get_fp32_precision_getter, core._set_fp32_precision_setter  # noqa: SLF001 - likewise
        flags += [Setting(functools.partial(read, *which), functools.partial(write, *which)) for which in _PRECISIONS]
    return tuple(flag for flag in flags if _is_readable(flag))


def _unpacking(write: Callable[..., object]) -> Callable[[Any], object]:
    return lambda value: write(*value) if isinstance(value, tuple) else write(value)


def _is_readable(flag: Setting) -> bool:
    try:
        flag.read()
    except (TypeError, RuntimeError):  # it takes arguments, or this build of torch lacks it
        return False
    return True
