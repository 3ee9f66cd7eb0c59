"""Checks of this computer: study folder, packages, GPUs, ports, worker processes, studies and store."""

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
from seer_nb._utils.text import short_repr
from seer_nb.core.liveness import ACTIVE
from seer_nb.errors import CheckpointError, SeerError
from seer_nb.providers.local import gpus
from seer_nb.storage import checkpoints, layout, object_store, signing
from seer_nb.storage.lock import runner_pid
from seer_nb.study.catalog import attach, study_names
from seer_nb.study.settings import check_store
from seer_nb.ui.cli.doctor.finding import Finding, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core.state import State
    from seer_nb.study.study import Study
    from seer_nb.ui.cli.doctor.finding import Level


_OWN_DISK_ADVICE = "set SEER_HOME to a folder of your own on a local disk"
_LOW_MB, _CRITICAL_MB = 2048, 200
"""Free megabytes below which a finding is a warning, and a problem."""
_MB = 1024 * 1024
SYSTEMS = {"linux": "Linux", "darwin": "macOS"}
DEVELOPMENT_EXTRAS = frozenset({"test", "dev"})
"""Extras that are not needed to run a study."""
PACKAGE = "seer_nb"
GPU_TIME_LIMIT_S = 20.0
_COUNT = "import torch; print(torch.cuda.device_count())"
DRIVER_ADVICE = "the driver may be too old for this build: compare nvidia-smi and torch.version.cuda"
PORT_TIMEOUT_S = 5.0
MIN_OPEN_FILES = 1024
"""Number of open files below which a warning is given; each worker needs several."""
_PROBE = b"seer"
WORKERS_TIME_LIMIT_S = 24.0
PROBE_STARTED, PROBE_AGREED = "two workers started", "results agree"
"""Output of the probe process at its two milestones."""
_STORE_ADVICE = "check that the store exists and can be reached, and that you may read, write and delete files in it"


def check_home() -> Iterator[Finding]:
    """Check the folder of all studies, SEER_HOME or ./seer_studies, or the folder in which it would be created."""
    home = layout.home()
    place = next(path for path in (home, *home.parents) if _is_visible(path))
    try:
        with tempfile.TemporaryDirectory(prefix=".seer-doctor-", dir=place) as folder:
            yield Finding("home", "ok", f"{home} {'is writable' if place == home else 'can be created'}")
            yield from _folder(Path(folder))
    except OSError as error:
        yield Finding("home", "problem", f"{place} is not writable ({error.strerror})", _OWN_DISK_ADVICE)
    if place == home:
        yield from _open_to_others(home)
    yield check_free_space("disk", place)
    yield from _key()


def _is_visible(path: Path) -> bool:
    """Return whether a path exists in folders that this user may search."""
    try:
        return path.exists()
    except PermissionError:  # of a parent folder
        return False


def check_free_space(name: str, place: Path) -> Finding:
    """Check the free space of a disk.

    Args:
        name: Name of the check in the finding.
        place: A folder on the disk.
    """
    free_mb = shutil.disk_usage(place).free // _MB
    text = f"{free_mb / 1024:.1f} GiB free at {place}"
    if free_mb < _CRITICAL_MB:
        return Finding(name, "problem", text, "free some space before a study fails")
    if free_mb < _LOW_MB:
        return Finding(name, "warning", text, "free some space, or store checkpoints elsewhere with store=")
    return Finding(name, "ok", text)


def _folder(folder: Path) -> Iterator[Finding]:
    """Check permissions, locks and the journal in a folder that was created as a study's folder is."""
    found = folder.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != stat.S_IRWXU:
        text = f"a new private folder has mode {stat.S_IMODE(found.st_mode):o} of user {found.st_uid}"
        yield Finding("rights", "problem", text, _OWN_DISK_ADVICE)
    else:
        yield Finding("rights", "ok", "study folders are private (mode 700)")
    yield check_lock(folder / "lock")
    yield _journal(folder / layout.JOURNAL)


def check_lock(path: Path) -> Finding:
    """Check that file locks are exclusive, because two runners of one study would both spend its money."""
    one, other = (os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for _ in range(2))
    try:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Finding("locks", "ok", "file locks work")
    except OSError as error:
        return Finding("locks", "problem", f"files cannot be locked ({error.strerror})", _OWN_DISK_ADVICE)
    finally:
        os.close(one)
        os.close(other)
    return Finding("locks", "problem", "file locks are not exclusive", _OWN_DISK_ADVICE)


def _journal(path: Path) -> Finding:
    """Check that SQLite can write a journal while another connection reads it."""
    try:
        with closing(sqlite3.connect(path)) as writer, closing(sqlite3.connect(path)) as reader:
            (mode,) = writer.execute("PRAGMA journal_mode=WAL").fetchone()
            writer.execute("CREATE TABLE records (body TEXT)")
            with writer:
                writer.execute("INSERT INTO records VALUES ('whole')")
            (body,) = reader.execute("SELECT body FROM records").fetchone()
    except sqlite3.Error as error:
        return Finding("journal", "problem", f"SQLite cannot write a journal ({shorten(error)})", _OWN_DISK_ADVICE)
    if (mode, body) != ("wal", "whole"):
        return Finding(
            "journal", "problem", f"SQLite uses the journal mode {short_repr(mode)} instead of WAL", _OWN_DISK_ADVICE
        )
    return Finding("journal", "ok", "SQLite journals can be read while they are written (WAL)")


def _open_to_others(home: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        text = f"{home} is writable for other users (mode {mode:o})"
        yield Finding("rights", "warning", text, f"chmod 700 {home}")


def _key() -> Iterator[Finding]:
    """Check the key that signs study folders, without creating it."""
    path = signing.key_path()
    if _is_visible(path):
        try:
            signing.own_key()
        except SeerError as error:
            yield Finding("key", "problem", str(error))
        return
    place = next(found for found in path.parents if _is_visible(found))
    if not os.access(place, os.W_OK | os.X_OK):
        text = f"the signing key {path} cannot be created"
        yield Finding("key", "problem", text, f"set {environment.KEY_FILE} to a private file")


def check_installation() -> Iterator[Finding]:
    """Check the system, Python, the required packages, and the packages of the extras."""
    if sys.platform not in SYSTEMS:
        yield Finding("system", "problem", f"{sys.platform} is not supported", "use Linux or macOS; on Windows use WSL")
    try:
        about = metadata.metadata(PACKAGE)
    except metadata.PackageNotFoundError:
        yield Finding("packages", "warning", "seer_nb is on the Python path, but not installed", "pip install -e .")
        return
    yield _python(about["Requires-Python"] or "")
    requirements = [Requirement(line) for line in metadata.requires(PACKAGE) or ()]
    yield _packages(requirements)
    for extra in about.get_all("Provides-Extra") or ():
        if extra not in DEVELOPMENT_EXTRAS:
            yield from _extra(extra, requirements)


def requirement_error(need: Requirement) -> str:
    """Return why a requirement is not met; empty if it is met."""
    try:
        found = metadata.version(need.name)
    except metadata.PackageNotFoundError:
        return f"{need.name} is missing"
    fits = need.specifier.contains(found, prereleases=True)
    return "" if fits else f"{need.name} {found} is not in the range {need.specifier}"


def _python(allowed: str) -> Finding:
    fits = SpecifierSet(allowed).contains(python_version(), prereleases=True)
    if fits:
        return Finding("python", "ok", f"{python_version()}, in the range {allowed}")
    return Finding(
        "python",
        "problem",
        f"{python_version()} is not in the range {allowed}",
        "create an environment with a supported Python",
    )


def _packages(requirements: list[Requirement]) -> Finding:
    always = [need for need in requirements if _applies(need, "")]
    wrong = list(filter(None, map(requirement_error, always)))
    if wrong:
        return Finding("packages", "problem", ", ".join(wrong), "run pip install --upgrade seer_nb")
    return Finding("packages", "ok", f"seer_nb {metadata.version(PACKAGE)} and all {len(always)} required packages")


def _extra(extra: str, requirements: list[Requirement]) -> Iterator[Finding]:
    """Check the packages of an extra; an extra that is not installed has no finding."""
    own = [need for need in requirements if not _applies(need, "") and _applies(need, extra)]
    wrong = [text for need in own if need.name != PACKAGE and (text := requirement_error(need))]
    if own and not wrong:
        yield Finding("packages", "ok", f"the extra [{extra}] is installed")
    elif any("not in the range" in text for text in wrong):
        yield Finding("packages", "warning", f"extra [{extra}]: {', '.join(wrong)}", _install(extra))


def _applies(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def _install(extra: str) -> str:
    return f'pip install "seer_nb[{extra}]" if you want to use it'


def check_gpus() -> Iterator[Finding]:
    """Compare the system's GPUs with the GPUs that torch finds in a separate process."""
    n_gpus = len(gpus.visible_gpus())
    if not n_gpus:
        return
    have = "a GPU" if n_gpus == 1 else f"{n_gpus} GPUs"
    if not gpus.built_for_cuda():
        text = f"this computer has {have}, but torch {metadata.version('torch')} is built for CPUs only"
        yield Finding("gpus", "warning", text, "install a CUDA build of torch to use it")
        return
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _COUNT], capture_output=True, text=True, timeout=GPU_TIME_LIMIT_S, check=True
        )
    except subprocess.TimeoutExpired:
        yield Finding("gpus", "warning", f"torch did not find GPUs within {GPU_TIME_LIMIT_S:.0f} s", DRIVER_ADVICE)
        return
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
        yield Finding("gpus", "problem", f"torch cannot detect GPUs: {shorten(RuntimeError(last[0]))}", DRIVER_ADVICE)
        return
    found = int(done.stdout)
    if found < n_gpus:
        yield Finding("gpus", "problem", f"this computer has {have}, but torch finds {found}", DRIVER_ADVICE)
        return
    yield Finding("gpus", "ok", f"torch finds {have}; seer.Local() starts one worker per GPU")


def check_ports() -> Iterator[Finding]:
    """Check connections on the loopback interface, and the limit of open files."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.settimeout(PORT_TIMEOUT_S)
            with (
                socket.create_connection(listening.getsockname(), PORT_TIMEOUT_S) as near,
                listening.accept()[0] as far,
            ):
                near.sendall(_PROBE)
                far.settimeout(PORT_TIMEOUT_S)
                arrived = far.recv(len(_PROBE)) == _PROBE
    except OSError as error:
        advice = "allow local connections to 127.0.0.1, which a firewall or sandbox may block"
        yield Finding("ports", "problem", f"connections to 127.0.0.1 fail ({error})", advice)
        return
    if arrived:
        yield Finding("ports", "ok", "connections to 127.0.0.1 work")
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < MIN_OPEN_FILES:
        text = f"a process can open only {files} files and connections"
        yield Finding("ports", "warning", text, f"run ulimit -n {MIN_OPEN_FILES} before starting Jupyter")


def check_workers() -> Iterator[Finding]:
    """Check in a separate process that two workers can start and train together."""
    command = [sys.executable, "-P", "-m", "seer_nb.ui.cli.doctor.gang_probe"]
    pipe = subprocess.PIPE
    # A session of its own, so that the whole process group can be killed.
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            output, errors = process.communicate(timeout=WORKERS_TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            yield _late(output)
            return
    if process.returncode == 0:
        yield Finding("workers", "ok", f"two worker processes trained together with torch {output.split()[-1]}")
        return
    last = errors.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
    yield _failed(output, last[0])


def _failed(output: str, error: str) -> Finding:
    text = shorten(RuntimeError(error))
    if PROBE_STARTED not in output:
        advice = "if torch cannot be imported, reinstall it; if no process can start, check ulimit -u and the memory"
        return Finding("workers", "problem", f"no worker process could start: {text}", advice)
    advice = "allow local connections to 127.0.0.1; unset GLOO_SOCKET_IFNAME if it is set"
    return Finding("workers", "problem", f"two workers could not train together (gloo): {text}", advice)


def _late(output: str) -> Finding:
    if PROBE_STARTED in output:
        return _failed(output, f"no answer within {WORKERS_TIME_LIMIT_S:.0f} s")
    text = f"no worker process started within {WORKERS_TIME_LIMIT_S:.0f} s: torch takes long to import"
    return Finding(
        "workers",
        "warning",
        text,
        "run seer-nb doctor again, because a second import is faster; otherwise use a faster disk",
    )


def check_studies() -> Iterator[Finding]:
    """Check all studies for dead or stalled runners, stale locks and full stores."""
    found, n_wrong = study_names(), 0
    for name in found:
        for finding in _study(name):
            n_wrong += finding.level != "ok"
            yield finding
    if not n_wrong:
        yield Finding("studies", "ok", f"{len(found)} in {layout.home()}, without problems")


def _study(name: str) -> Iterator[Finding]:
    try:
        study = attach(name)
        state, status = study.state, study.status
    except Exception as error:  # noqa: BLE001 - one bad folder must not hide the other studies
        yield Finding("studies", "warning", f"study {name!r} cannot be read ({shorten(error)})", "move its folder away")
        return
    if status == "interrupted":
        text = f"the runner of study {name!r} died" + (
            ", and its machines may still cost money" if state.live_machines else ""
        )
        level: Level = "problem" if state.live_machines else "warning"
        yield Finding(
            "studies", level, text, f"run seer-nb resume {name} to continue, or seer-nb stop {name} to end the study"
        )
    elif status in ACTIVE:
        yield from _running(name, study, state)


def _running(name: str, study: Study, state: State) -> Iterator[Finding]:
    folder = layout.home() / name
    yield from _runner(name, runner_pid(folder))
    if reason := study.stalled:
        advice = f"run seer-nb show {name}, and read the logs in {folder / layout.LOGS}"
        yield Finding("studies", "problem", f"study {name!r} makes no progress: {reason}", advice)
    store = object_store.local_folder(state.settings.store)
    if store is not None and store.is_dir():
        finding = check_free_space("studies", store)
        if finding.level != "ok":
            yield finding


def _runner(name: str, pid: int | None) -> Iterator[Finding]:
    if pid is not None and not (pid and psutil.pid_exists(pid)):
        text = f"the lock of study {name!r} is held, but its runner {pid} does not run on this computer"
        advice = "use the study on the computer of its runner; if there is none, end the runner's remaining processes"
        yield Finding("studies", "problem", text, advice)


def check_store_url(store: str) -> Iterator[Finding]:
    """Write a small checkpoint to a store, read it and remove it."""
    try:
        place = check_store(store)
    except (ValueError, TypeError) as error:
        yield Finding("store", "problem", str(error))
        return
    path, payload = f"doctor/{secrets.token_hex(8)}.pt", _payload()
    import torch  # noqa: F401 - imported before the time of the store is measured

    started_s = time.monotonic()
    try:
        checkpoints.save(place, path, payload)
        whole = checkpoints.load(place, path) == payload
        checkpoints.remove(place, [path])
    except (OSError, CheckpointError, ImportError, ValueError) as error:
        yield Finding("store", "problem", f"{store} cannot be used: {shorten(error)}", _STORE_ADVICE)
    except Exception as error:  # noqa: BLE001 - each store library has errors of its own
        yield Finding(
            "store", "problem", f"{store} cannot be used: {type(error).__name__}: {shorten(error)}", _STORE_ADVICE
        )
    else:
        if not whole:
            yield Finding("store", "problem", f"{store} returned other data than was written", _STORE_ADVICE)
            return
        took_s = time.monotonic() - started_s
        yield Finding("store", "ok", f"{store}: a checkpoint was written, read and removed in {took_s:.1f} s")


def _payload() -> dict[str, object]:
    return {"format": checkpoints.FORMAT, "trial": 0, "epoch": 0, "objects": None, "state": {}, "saved": None}
