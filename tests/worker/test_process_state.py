"""What a training function sets in its process and its thread does not reach the next function on the worker."""

import builtins
import decimal
import faulthandler
import gc
import locale
import logging
import multiprocessing
import os
import resource
import socket
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn


def _umask():
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


SETTINGS = {
    "default dtype": (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
    "deterministic": (torch.get_deterministic_debug_mode, lambda: torch.use_deterministic_algorithms(mode=True)),
    "anomaly": (torch.is_anomaly_enabled, lambda: torch.autograd.set_detect_anomaly(mode=True)),
    "grad mode": (torch.is_grad_enabled, lambda: torch.set_grad_enabled(mode=False)),
    "autocast": (
        lambda: torch.is_autocast_enabled("cpu"),
        lambda: torch.set_autocast_enabled("cpu", not torch.is_autocast_enabled("cpu")),
    ),
    "matmul precision": (torch.get_float32_matmul_precision, lambda: torch.set_float32_matmul_precision("medium")),
    "cudnn": (lambda: torch.backends.cudnn.benchmark, lambda: setattr(torch.backends.cudnn, "benchmark", True)),
    "TF32": (
        lambda: torch.backends.cudnn.conv.fp32_precision,
        lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
    ),
    "attention": (torch.backends.cuda.math_sdp_enabled, lambda: torch.backends.cuda.enable_math_sdp(enabled=False)),
    "torch threads": (torch.get_num_threads, lambda: torch.set_num_threads(torch.get_num_threads() + 1)),
    "torch printing": (lambda: repr(torch.tensor(1 / 3)), lambda: torch.set_printoptions(precision=1)),
    "hooks": (
        lambda: nn.Identity()(torch.ones(1)).item(),
        lambda: nn.modules.module.register_module_forward_hook(lambda module, given, result: 2 * result),
    ),
    "numpy errors": (np.geterr, lambda: np.seterr(all="raise")),
    "numpy printing": (lambda: str(np.ones(1) / 3), lambda: np.set_printoptions(precision=1)),
    "decimal context": (lambda: decimal.getcontext().prec, lambda: setattr(decimal.getcontext(), "prec", 3)),
    "warnings": (lambda: list(warnings.filters), lambda: warnings.simplefilter("error")),
    "captured warnings": (lambda: warnings.showwarning, lambda: logging.captureWarnings(capture=True)),
    "root logger": (lambda: logging.root.level, lambda: logging.root.setLevel(1)),
    "handlers": (lambda: list(logging.root.handlers), lambda: logging.root.addHandler(logging.NullHandler())),
    "a logger": (logging.getLogger("other").isEnabledFor, lambda: logging.getLogger("other").setLevel(99), 60),
    "a new logger": (lambda: logging.getLogger("new").level, lambda: logging.getLogger("new").setLevel(10)),
    "disabled logging": (lambda: logging.root.manager.disable, lambda: logging.disable(50)),
    "working directory": (os.getcwd, lambda: os.chdir("/")),
    "sys.path": (lambda: list(sys.path), lambda: sys.path.insert(0, "/nowhere")),
    "sys.path replaced": (lambda: id(sys.path), lambda: setattr(sys, "path", [*sys.path])),
    "environment": (lambda: os.environ.get("TZ"), lambda: os.environ.update(TZ="Asia/Tokyo")),
    "time zone": (lambda: time.localtime(0).tm_hour, lambda: (os.environ.update(TZ="Asia/Tokyo"), time.tzset())),
    "umask": (_umask, lambda: os.umask(0o177)),
    "socket timeout": (socket.getdefaulttimeout, lambda: socket.setdefaulttimeout(0.001)),
    "start method": (
        lambda: multiprocessing.get_start_method(allow_none=True),
        lambda: multiprocessing.set_start_method("spawn", force=True),
    ),
    "locale": (lambda: locale.setlocale(locale.LC_ALL), lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8")),
    "recursion limit": (sys.getrecursionlimit, lambda: sys.setrecursionlimit(5000)),
    "standard output": (lambda: sys.stdout, lambda: setattr(sys, "stdout", sys.stderr)),
    "excepthook": (lambda: sys.excepthook, lambda: setattr(sys, "excepthook", print)),
    "thread excepthook": (lambda: threading.excepthook, lambda: setattr(threading, "excepthook", print)),
    "garbage collector": (gc.isenabled, gc.disable),
    "garbage collector's threshold": (gc.get_threshold, lambda: gc.set_threshold(5000)),
    "fault handler": (
        faulthandler.is_enabled,
        faulthandler.disable if faulthandler.is_enabled() else faulthandler.enable,
    ),
    "garbage collector's debugging": (gc.get_debug, lambda: gc.set_debug(gc.DEBUG_UNCOLLECTABLE)),
    "garbage collector's callbacks": (
        lambda: len(gc.callbacks),
        lambda: gc.callbacks.append(lambda phase, info: None),
    ),
    "open files": (
        lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        lambda: resource.setrlimit(
            resource.RLIMIT_NOFILE,
            (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        ),
    ),
    "switch interval": (sys.getswitchinterval, lambda: sys.setswitchinterval(0.01)),
    "digits": (sys.get_int_max_str_digits, lambda: sys.set_int_max_str_digits(9999)),
    "thread trace": (threading.gettrace, lambda: threading.settrace(lambda *_: None)),
    "thread profile": (threading.getprofile, lambda: threading.setprofile(lambda *_: None)),
    "thread stack": (threading.stack_size, lambda: threading.stack_size(1 << 20)),
    "record factory": (
        logging.getLogRecordFactory,
        lambda: logging.setLogRecordFactory(type("Own", (logging.LogRecord,), {})),
    ),
    "logger class": (logging.getLoggerClass, lambda: logging.setLoggerClass(type("Own", (logging.Logger,), {}))),
    "last resort": (lambda: logging.lastResort is None, lambda: setattr(logging, "lastResort", None)),
    "sharing of tensors": (
        torch.multiprocessing.get_sharing_strategy,
        lambda: torch.multiprocessing.set_sharing_strategy("file_system"),
    ),
    "a built-in": (lambda: builtins.abs(-1), lambda: setattr(builtins, "abs", lambda number: number)),
    "default device": (lambda: torch.ones(1).device, lambda: torch.set_default_device("meta")),
}


def _values():
    return {name: read(*arguments) for name, (read, _, *arguments) in SETTINGS.items()}


@pytest.fixture
def no_start_method():
    """Unset the start method of multiprocessing, as in a new process."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(None, force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.usefixtures("no_start_method")
def test_what_one_trial_sets_does_not_reach_the_next(gangs):
    seen = []

    def look(config, run):
        seen.append(_values())

    def change(config, run):
        before = {}
        for name, (read, write, *arguments) in SETTINGS.items():
            before[name] = read(*arguments)
            write()
            assert read(*arguments) != before[name], name

    gangs.alone(look)
    assert gangs.alone(change).end.error == ""
    gangs.alone(look)
    first, second = seen
    assert {name: (first[name], second[name]) for name in SETTINGS if first[name] != second[name]} == {}


@pytest.mark.parametrize(
    ("folder", "calls"),
    [("beside the notebook", [1, 1]), ("lib/python3/site-packages", [1, 2]), ("target", [1, 2])],
)
def test_modules_of_the_user_are_imported_afresh_and_installed_ones_are_not(
    gangs, tmp_path, monkeypatch, folder, calls
):
    """Guards against importing a half-initialised library again, from a place such as the user's site-packages."""
    place = tmp_path / folder
    (place / "a_package-1.dist-info").mkdir(parents=True) if folder == "target" else place.mkdir(parents=True)
    (place / "a_module.py").write_text("calls = 0\n")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "a_module", raising=False)
    seen = []

    def train(config, run):
        import a_module

        a_module.calls += 1
        seen.append(a_module.calls)

    for _ in range(2):
        gangs.alone(train)
    sys.modules.pop("a_module", None)
    assert seen == calls
