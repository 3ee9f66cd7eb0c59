"""Whether the folder of studies can hold them: room, rights, locks, and SQLite's journal."""

from __future__ import annotations

import fcntl
import os
import resource
import secrets
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from seer_nb._utils import environment
from seer_nb._utils.text import show
from seer_nb.errors import CheckpointError, SeerError
from seer_nb.providers.local import gpus
from seer_nb.storage import checkpoints, layout, object_store, signing
from seer_nb.storage.lock import runner_pid
from seer_nb.study.catalog import attach, names
from seer_nb.study.health import GOING
from seer_nb.study.settings import check_store
from seer_nb.ui.cli.doctor.finding import Finding, brief

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core.state import State
    from seer_nb.study.study import Study
    from seer_nb.ui.cli.doctor.finding import Level


ELSEWHERE = "set SEER_HOME to a folder on a local disk that is yours"
LITTLE_MB, TOO_LITTLE_MB = 2048, 200
_MB = 1024 * 1024


def check_home() -> Iterator[Finding]:
    """Look at SEER_HOME, or ./seer_studies; where it is to be made if it is not there."""
    home = layout.home()
    place = next(path for path in (home, *home.parents) if _seen(path))
    try:
        with tempfile.TemporaryDirectory(prefix=".seer-doctor-", dir=place) as folder:
            yield Finding("home", "ok", f"{home} {'can be written to' if place == home else 'can be made'}")
            yield from _folder(Path(folder))
    except OSError as error:
        yield Finding("home", "problem", f"{place} cannot be written to ({error.strerror})", ELSEWHERE)
    if place == home:
        yield from _open_to_others(home)
    yield room("disk", place)
    yield from _key()


def _seen(path: Path) -> bool:
    """Whether it is there, and may be looked at."""
    try:
        return path.exists()
    except PermissionError:  # of a folder that it is in
        return False


def room(name: str, place: Path) -> Finding:
    """How much a disk still takes."""
    free_mb = shutil.disk_usage(place).free // _MB
    told = f"{free_mb / 1024:.1f} GiB are free at {place}"
    if free_mb < TOO_LITTLE_MB:
        return Finding(name, "problem", told, "make room before a study stops for lack of it")
    if free_mb < LITTLE_MB:
        return Finding(name, "warning", told, "make room, or give store= a place with more for checkpoints")
    return Finding(name, "ok", told)


def _folder(folder: Path) -> Iterator[Finding]:
    """Of a folder that was made as a study's is."""
    found = folder.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != stat.S_IRWXU:
        text = f"a folder made there for you alone has mode {stat.S_IMODE(found.st_mode):o} of user {found.st_uid}"
        yield Finding("rights", "problem", text, ELSEWHERE)
    else:
        yield Finding("rights", "ok", "a study's folder there is open to you alone (mode 700)")
    yield _locks(folder / "lock")
    yield _journal(folder / layout.JOURNAL)


def _locks(path: Path) -> Finding:
    """Whether one who has a lock keeps others out: two runners of one study would both spend its money."""
    one, other = (os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for _ in range(2))
    try:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Finding("locks", "ok", "files there can be locked")
    except OSError as error:
        return Finding("locks", "problem", f"files there cannot be locked ({error.strerror})", ELSEWHERE)
    finally:
        os.close(one)
        os.close(other)
    return Finding("locks", "problem", "a lock on a file there keeps nobody out", ELSEWHERE)


def _journal(path: Path) -> Finding:
    """Whether one can write a journal while another reads it."""
    try:
        with closing(sqlite3.connect(path)) as writer, closing(sqlite3.connect(path)) as reader:
            (mode,) = writer.execute("PRAGMA journal_mode=WAL").fetchone()
            writer.execute("CREATE TABLE records (body TEXT)")
            with writer:
                writer.execute("INSERT INTO records VALUES ('whole')")
            (body,) = reader.execute("SELECT body FROM records").fetchone()
    except sqlite3.Error as error:
        return Finding("journal", "problem", f"SQLite cannot keep a journal there ({brief(error)})", ELSEWHERE)
    if (mode, body) != ("wal", "whole"):
        return Finding("journal", "problem", f"SQLite's journal there is of the mode {show(mode)}", ELSEWHERE)
    return Finding("journal", "ok", "SQLite keeps a journal there that others can read meanwhile (WAL)")


def _open_to_others(home: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        text = f"other users may write to {home} (mode {mode:o})"
        yield Finding("rights", "warning", text, f"chmod 700 {home}")


def _key() -> Iterator[Finding]:
    """Of the key that studies are sealed with. It is not made for this."""
    path = signing.key_path()
    if _seen(path):
        try:
            signing.own_key()
        except SeerError as error:
            yield Finding("key", "problem", str(error))
        return
    place = next(found for found in path.parents if _seen(found))
    if not os.access(place, os.W_OK | os.X_OK):
        text = f"the key {path}, with which studies are sealed, cannot be made"
        yield Finding("key", "problem", text, f"set {environment.KEY_FILE} to a file that only you can read")


SYSTEMS = {"linux": "Linux", "darwin": "macOS"}
FOR_OTHERS = frozenset({"test", "dev"})
"""Extras that nobody needs to run a study."""
PACKAGE = "seer_nb"


def check_installation() -> Iterator[Finding]:
    """The system, Python, the packages that are always needed, and those of the extras."""
    if sys.platform not in SYSTEMS:
        yield Finding("system", "problem", f"{sys.platform} is not supported", "use Linux or macOS; on Windows use WSL")
    try:
        about = metadata.metadata(PACKAGE)
    except metadata.PackageNotFoundError:
        yield Finding("packages", "warning", "seer_nb is not installed, only found on the path", "pip install -e .")
        return
    yield _python(about["Requires-Python"] or "")
    needs = [Requirement(line) for line in metadata.requires(PACKAGE) or ()]
    yield _packages(needs)
    for extra in about.get_all("Provides-Extra") or ():
        if extra not in FOR_OTHERS:
            yield from _extra(extra, needs)


def lacks(need: Requirement) -> str:
    """What is wrong with a package that is needed; empty if nothing is."""
    try:
        found = metadata.version(need.name)
    except metadata.PackageNotFoundError:
        return f"{need.name} is missing"
    fits = need.specifier.contains(found, prereleases=True)
    return "" if fits else f"{need.name} {found} is not within {need.specifier}"


def _python(allowed: str) -> Finding:
    fits = SpecifierSet(allowed).contains(python_version(), prereleases=True)
    if fits:
        return Finding("python", "ok", f"{python_version()}, within {allowed}")
    return Finding("python", "problem", f"{python_version()} is not within {allowed}", "make an environment with one")


def _packages(needs: list[Requirement]) -> Finding:
    always = [need for need in needs if _wanted(need, "")]
    wrong = list(filter(None, map(lacks, always)))
    if wrong:
        return Finding("packages", "problem", ", ".join(wrong), "pip install --upgrade seer_nb brings what fits")
    return Finding("packages", "ok", f"seer_nb {metadata.version(PACKAGE)}, and all {len(always)} that it needs")


def _extra(extra: str, needs: list[Requirement]) -> Iterator[Finding]:
    """Nothing of one that is not installed: nobody needs all of them."""
    own = [need for need in needs if not _wanted(need, "") and _wanted(need, extra)]
    wrong = [text for need in own if need.name != PACKAGE and (text := lacks(need))]
    if own and not wrong:
        yield Finding("packages", "ok", f"the extra [{extra}] is installed")
    elif any("within" in text for text in wrong):
        yield Finding("packages", "warning", f"of the extra [{extra}] {', '.join(wrong)}", _install(extra))


def _wanted(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def _install(extra: str) -> str:
    return f'pip install "seer_nb[{extra}]" if you want to use it'


GPU_LIMIT_S = 20.0
_COUNT = "import torch; print(torch.cuda.device_count())"
DRIVER = "the driver may be too old for this build: compare what nvidia-smi and torch.version.cuda say"


def check_gpus() -> Iterator[Finding]:
    """Compare what the system shows with what torch finds, in a process of its own."""
    there = len(gpus.present())
    if not there:
        return
    have = "a GPU" if there == 1 else f"{there} GPUs"
    if not gpus.built_for_cuda():
        text = f"this computer has {have}, but torch {metadata.version('torch')} is a build for CPUs only"
        yield Finding("gpus", "warning", text, "install a build of torch for CUDA to train on it")
        return
    try:
        asked = subprocess.run(
            [sys.executable, "-P", "-c", _COUNT], capture_output=True, text=True, timeout=GPU_LIMIT_S, check=True
        )
    except subprocess.TimeoutExpired:
        yield Finding(
            "gpus", "warning", f"torch has not told within {GPU_LIMIT_S:.0f} s how many GPUs it finds", DRIVER
        )
        return
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
        yield Finding("gpus", "problem", f"torch cannot look for GPUs: {brief(RuntimeError(last[0]))}", DRIVER)
        return
    found = int(asked.stdout)
    if found < there:
        yield Finding("gpus", "problem", f"this computer has {have}, but torch finds {found}", DRIVER)
        return
    yield Finding("gpus", "ok", f"torch finds {have}: seer_nb.Local() has a worker for each")


TIMEOUT_S = 5.0
FEW_FILES = 1024
"""Each worker needs some: connections, its log, its pipes."""
_WORD = b"seer"


def check_ports() -> Iterator[Finding]:
    """Listen on a free port of the loopback interface, and connect to it."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.settimeout(TIMEOUT_S)
            with socket.create_connection(listening.getsockname(), TIMEOUT_S) as near, listening.accept()[0] as far:
                near.sendall(_WORD)
                far.settimeout(TIMEOUT_S)
                arrived = far.recv(len(_WORD)) == _WORD
    except OSError as error:
        advice = "let programs of this machine connect to 127.0.0.1: a firewall or sandbox may forbid it"
        yield Finding("ports", "problem", f"nothing can be reached on 127.0.0.1 ({error})", advice)
        return
    if arrived:
        yield Finding("ports", "ok", "programs here can listen and connect on 127.0.0.1, on any free port")
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < FEW_FILES:
        text = f"a process may open only {files} files and connections"
        yield Finding("ports", "warning", text, f"ulimit -n {FEW_FILES} or more, before Jupyter starts")


WORKERS_LIMIT_S = 24.0
FORKED, AGREED = "two workers live", "they agree"
"""What the process says as it gets on."""


def check_workers() -> Iterator[Finding]:
    """Have another process make two workers, as a study on this machine does, and let them add something up."""
    command = [sys.executable, "-P", "-m", "seer_nb.ui.cli.doctor.gang_probe"]
    pipe = subprocess.PIPE
    # A session of its own, so that all of it can be ended.
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            said, errors = process.communicate(timeout=WORKERS_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, errors = process.communicate()
            yield _late(said)
            return
    if process.returncode == 0:
        yield Finding("workers", "ok", f"two worker processes trained together on torch {said.split()[-1]}")
        return
    last = errors.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
    yield _failed(said, last[0])


def _failed(said: str, error: str) -> Finding:
    text = brief(RuntimeError(error))
    if FORKED not in said:
        advice = "if torch cannot be imported, install it anew; if no process can be made, look at ulimit -u and memory"
        return Finding("workers", "problem", f"no worker process could be made: {text}", advice)
    advice = "let processes of this machine reach each other on 127.0.0.1; unset GLOO_SOCKET_IFNAME if it is set"
    return Finding("workers", "problem", f"two workers could not train together (gloo): {text}", advice)


def _late(said: str) -> Finding:
    if FORKED in said:
        return _failed(said, f"no answer within {WORKERS_LIMIT_S:.0f} s")
    text = f"no worker process was there after {WORKERS_LIMIT_S:.0f} s: torch takes long to import"
    return Finding("workers", "warning", text, "run it again, the second time is faster; else use a faster disk")


def check_studies() -> Iterator[Finding]:
    """Runners that have died, stand still or say nothing, locks that nobody holds, and stores that are full."""
    found, wrong = names(), 0
    for name in found:
        for finding in _study(name):
            wrong += finding.level != "ok"
            yield finding
    if not wrong:
        yield Finding("studies", "ok", f"{len(found)} in {layout.home()}, and nothing is wrong with them")


def _study(name: str) -> Iterator[Finding]:
    try:
        study = attach(name)
        state, status = study.state, study.status
    except Exception as error:  # noqa: BLE001 - whatever is in one folder, the others are looked at
        yield Finding("studies", "warning", f"{name!r} cannot be read ({brief(error)})", "move its folder away")
        return
    if status == "interrupted":
        text = f"the runner of {name!r} has died" + (", and machines of it may still cost money" if state.live else "")
        level: Level = "problem" if state.live else "warning"
        yield Finding("studies", level, text, f"seer-nb resume {name} goes on, seer-nb stop {name} ends it")
    elif status in GOING:
        yield from _running(name, study, state)


def _running(name: str, study: Study, state: State) -> Iterator[Finding]:
    folder = layout.home() / name
    yield from _runner(name, runner_pid(folder))
    if reason := study.stuck:
        advice = f"look at seer-nb show {name}, and into {folder / layout.LOGS}"
        yield Finding("studies", "problem", f"{name!r} does not get on: {reason}", advice)
    store = object_store.folder(state.settings.store)
    if store is not None and store.is_dir():
        finding = room("studies", store)
        if finding.level != "ok":
            yield finding


def _runner(name: str, pid: int | None) -> Iterator[Finding]:
    if pid is not None and not (pid and psutil.pid_exists(pid)):
        text = f"the lock of {name!r} is held, but its runner {pid} does not run on this computer"
        advice = "if it runs on another one, use it from there; else something that it started still lives: end that"
        yield Finding("studies", "problem", text, advice)


_ADVICE = (
    "see that it exists, that it can be reached from here, and that your credentials may read, write and delete in it"
)


def check_store_url(store: str) -> Iterator[Finding]:
    """Write a small checkpoint as a study does, load it, and remove it again."""
    try:
        place = check_store(store)
    except (ValueError, TypeError) as error:
        yield Finding("store", "problem", str(error))
        return
    path, payload = f"doctor/{secrets.token_hex(8)}.pt", _payload()
    import torch  # noqa: F401 - what its import takes is not the store's

    began_s = time.monotonic()
    try:
        checkpoints.save(place, path, payload)
        whole = checkpoints.load(place, path) == payload
        checkpoints.remove(place, [path])
    except (OSError, CheckpointError, ImportError, ValueError) as error:
        yield Finding("store", "problem", f"{store} cannot be used: {brief(error)}", _ADVICE)
    except Exception as error:  # noqa: BLE001 - each store has errors of its own
        yield Finding("store", "problem", f"{store} cannot be used: {type(error).__name__}: {brief(error)}", _ADVICE)
    else:
        if not whole:
            yield Finding("store", "problem", f"{store} gave back something else than was written", _ADVICE)
            return
        took_s = time.monotonic() - began_s
        yield Finding("store", "ok", f"{store}: a checkpoint was written, read and removed in {took_s:.1f} s")


def _payload() -> dict[str, object]:
    return {"format": checkpoints.FORMAT, "trial": 0, "epoch": 0, "objects": None, "state": {}, "saved": None}
