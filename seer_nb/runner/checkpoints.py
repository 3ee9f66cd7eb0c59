"""Checkpoints at an fsspec URL: stored whole or not at all, checked when they are loaded.

A checkpoint is a file of ``torch.save``, loadable with ``torch.load(weights_only=True)``, that holds::

    {"format": 1, "trial": int, "epoch": int, "objects": [state_dict, ...], "state": {...}, "saved": tensor | None}

where "saved" is of dtype uint8.

Torch is imported late: the runner's own process only removes checkpoints.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from seer_nb.errors import CheckpointError, DamagedCheckpointError, MissingCheckpointError, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 1
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "r2", "memory"})
"""Stores in which an object appears whole or not at all."""


def name(trial: int, epoch: int, gang: int) -> str:
    """Path within the store. The gang is part of it, so that a repeated epoch never overwrites a stored one."""
    return f"{trial}/{epoch:06d}-g{gang}.pt"


def save(store: str, path: str, payload: dict[str, Any]) -> None:
    """Store a payload atomically: whoever is killed meanwhile leaves no half checkpoint under that path.

    Args:
        store: fsspec URL of a folder; it is made if need be.
        path: Relative to the store.
        payload: What `torch.save` takes; tensors on the CPU.

    Raises:
        OSError: The store cannot be written to.
    """
    import torch

    local = _local(store)
    if local is not None:
        _save_local(local / path, payload)
        return
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    fs, root = _filesystem(store)
    target = f"{root}/{path}"
    if not _ATOMIC.isdisjoint([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol):
        fs.pipe_file(target, buffer.getvalue())
        return
    fs.makedirs(target.rpartition("/")[0], exist_ok=True)
    temporary = _temporary(target)
    fs.pipe_file(temporary, buffer.getvalue())
    fs.mv(temporary, target)


def load(store: str, path: str, map_location: Any = "cpu") -> dict[str, Any]:
    """Load a payload, verifying the checksums of all its parts.

    Args:
        store: fsspec URL of a folder.
        path: Relative to the store.
        map_location: Device for the tensors, as in `torch.load`.

    Raises:
        DamagedCheckpointError: It is damaged, or not a checkpoint of seer_nb.
        MissingCheckpointError: It is missing, or cannot be read now.
    """
    import torch

    where = f"{store.rstrip('/')}/{path}"
    try:
        with _opened(store, path) as file:
            _verify(file, where)
            payload = torch.load(file, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise MissingCheckpointError(f"the checkpoint {where} is missing") from None
    except CheckpointError:
        raise
    except Exception as error:
        kind = MissingCheckpointError if isinstance(error, OSError) else DamagedCheckpointError
        raise kind(f"the checkpoint {where} cannot be read: {sentence(error).splitlines()[0]}") from error
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise DamagedCheckpointError(f"{where} is not a checkpoint of seer_nb in format {FORMAT}")
    return payload


def remove(store: str, paths: Iterable[str]) -> None:
    """Remove checkpoints; those that are gone already are fine.

    Args:
        store: fsspec URL of a folder.
        paths: Relative to the store.
    """
    local = _local(store)
    if local is not None:
        for path in paths:
            (local / path).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others of the trial are there
                (local / path).parent.rmdir()
        return
    fs, root = _filesystem(store)
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(f"{root}/{path}")


def restore(held: Any, state: dict[str, Any], what: str = "") -> None:
    """Load one object's stored state into it.

    Args:
        held: A module (wrapped in DDP or not), optimizer, scheduler or anything else with ``load_state_dict``.
        state: Its entry of the payload's ``objects``.
        what: What to call it in the error.

    Raises:
        CheckpointError: The state does not fit it.
        TypeError: It has no ``load_state_dict``.
    """
    held = unwrapped(held)
    kind = type(held).__name__
    if not callable(getattr(held, "load_state_dict", None)):
        raise TypeError(f"{held!r} (a {kind}) has no load_state_dict: a checkpoint cannot be loaded into it")
    try:
        held.load_state_dict(state)
    except Exception as error:  # noqa: BLE001 - each class of objects has errors of its own
        reason = " ".join(str(error).split())
        raise CheckpointError(f"the checkpoint does not fit {what or f'this {kind}'}: {reason}") from None


def unwrapped(held: Any) -> Any:
    """The module within DDP, so that stored names do not depend on the parallelism; others as they are."""
    import torch

    return held.module if isinstance(held, torch.nn.parallel.DistributedDataParallel) else held


def _verify(file: Any, where: str) -> None:
    """Torch reads an archive without looking at its checksums, so that a flipped bit would become a weight."""
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except zipfile.BadZipFile as error:
        raise DamagedCheckpointError(f"the checkpoint {where} is damaged: {error}") from None
    if broken is not None:
        raise DamagedCheckpointError(f"the checkpoint {where} is damaged: the checksum of its part {broken} is wrong")
    file.seek(0)


def _opened(store: str, path: str) -> Any:
    local = _local(store)
    if local is not None:
        return (local / path).open("rb")
    fs, root = _filesystem(store)
    return io.BytesIO(fs.cat_file(f"{root}/{path}"))


def _save_local(target: Path, payload: dict[str, Any]) -> None:
    import torch

    temporary = Path(_temporary(str(target)))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Opened here, for a folder that is removed this moment, with the last checkpoint in it, is simply made anew.
        with _opened_anew(temporary) as file:
            torch.save(payload, file)
        temporary.replace(target)
    except RuntimeError as error:
        temporary.unlink(missing_ok=True)
        # On a full disk torch's writer ends with an error of its own, during the handling of the disk's.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _opened_anew(path: Path) -> IO[bytes]:
    try:
        return path.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")


def _temporary(target: str) -> str:
    folder, _, file = target.rpartition("/")
    return f"{folder}/.{file}.{os.getpid()}-{threading.get_ident()}.tmp"


def _local(store: str) -> Path | None:
    """The folder, when the store is one; then fsspec is not needed."""
    if "://" not in store and "::" not in store:
        return Path(store)
    if store.startswith("file://"):
        return Path(store.removeprefix("file://"))
    if store.startswith("local://"):
        return Path(store.removeprefix("local://"))
    return None


def _filesystem(store: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    fs, root = url_to_fs(store)
    return fs, str(root).rstrip("/")
