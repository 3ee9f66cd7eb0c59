"""Checkpoints at an fsspec URL: stored whole or not at all, checked when they are loaded.

A checkpoint is a file of ``torch.save``, loadable with ``torch.load(weights_only=True)``, that holds::

    {"format": 1, "trial": int, "epoch": int, "objects": [state_dict, ...], "state": {...}, "saved": tensor | None,
     "reports": [{"epoch": int, "value": float | None, "metrics": {...}, "seconds": float}, ...]}

where "saved" is of dtype uint8, and "reports" are the last ones of the gang that has stored it.

Torch is imported late: the runner's own process only removes checkpoints.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import threading
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, TypeGuard

from seer_nb._utils.text import printable, sentence, show
from seer_nb.errors import CheckpointError, DamagedCheckpointError, MissingCheckpointError
from seer_nb.storage import object_store

if TYPE_CHECKING:
    from collections.abc import Iterable


FORMAT = 1
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "r2", "memory"})
"""Stores in which an object appears whole or not at all."""
_FOLDER = 0x10
"""Among the attributes of a part of a zip archive."""


_NAME = re.compile(r"(\d{6,18})-g(\d{1,18})\.pt", re.ASCII)


def name(trial: int, epoch: int, gang: int) -> str:
    """Path within the store. The gang is part of it, so that a repeated epoch never overwrites a stored one."""
    return f"{trial}/{epoch:06d}-g{gang}.pt"


def stored(store: str, trial: int) -> list[tuple[int, int]]:
    """(epoch, gang) of all checkpoints of a trial, whoever has stored them.

    Raises:
        OSError: The store cannot be read.
    """
    local = object_store.folder(store)
    if local is not None:
        names = [path.name for path in (local / str(trial)).glob("*.pt")]
    else:
        fs, root = object_store.filesystem(store)
        # What another process has stored is not in a listing that is kept from before.
        fs.invalidate_cache()
        try:
            names = [str(path).rpartition("/")[2] for path in fs.ls(f"{root}/{trial}", detail=False)]
        except FileNotFoundError:
            names = []
    return [(int(found[1]), int(found[2])) for found in map(_NAME.fullmatch, names) if found]


def _checked(path: str) -> str:
    """A path that stays within the store, wherever it comes from: a journal may have been written by anybody."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\0" in path or "://" in path:
        raise CheckpointError(f"the checkpoint {show(path)} would lie outside of its store")
    return path


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

    local = object_store.folder(store)
    if local is not None:
        _save_local(local / path, payload)
        return
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    fs, root = object_store.filesystem(store)
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

    where = f"{object_store.unnamed(store).rstrip('/')}/{_checked(path)}"
    try:
        with _opened(store, path) as file:
            _verify(file, where)
            # No bytes at all are pickled as a call of bytes.
            with torch.serialization.safe_globals([bytes]):
                payload = torch.load(file, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise MissingCheckpointError(f"the checkpoint {where} is missing") from None
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        # Torch's own words tell how to load it all the same, which would run what it holds.
        raise DamagedCheckpointError(f"the checkpoint {where} holds more than weights and plain values") from error
    except Exception as error:
        kind = MissingCheckpointError if isinstance(error, OSError) else DamagedCheckpointError
        said = " ".join(printable(sentence(error)).split())[:200]
        raise kind(f"the checkpoint {where} cannot be read: {said}") from error
    if not _is_payload(payload, torch.Tensor):
        raise DamagedCheckpointError(f"{where} is not a checkpoint of seer_nb in format {FORMAT}")
    return payload


def _is_payload(found: Any, tensor: type) -> TypeGuard[dict[str, Any]]:
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return False
    objects, saved = found.get("objects"), found.get("saved")
    numbers = all(type(found.get(name)) is int for name in ("trial", "epoch"))
    listed = objects is None or isinstance(objects, list)
    return numbers and listed and isinstance(found.get("state"), dict) and (saved is None or isinstance(saved, tensor))


def remove(store: str, paths: Iterable[str]) -> None:
    """Remove checkpoints; those that are gone already are fine.

    Args:
        store: fsspec URL of a folder.
        paths: Relative to the store.
    """
    local, paths = object_store.folder(store), [_checked(path) for path in paths]
    if local is not None:
        for path in paths:
            (local / path).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others of the trial are there
                (local / path).parent.rmdir()
        return
    fs, root = object_store.filesystem(store)
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
            fault = _fault(archive)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError) as error:
        fault = " ".join(str(error).split()) or type(error).__name__
    if fault:
        raise DamagedCheckpointError(f"the checkpoint {where} is damaged: {fault}")
    file.seek(0)


def _fault(archive: zipfile.ZipFile) -> str:
    for part in archive.infolist():
        # Torch never packs them; whoever does wants a small file to fill the memory.
        if part.compress_type:
            return f"its part {show(part.filename)} is packed"
        # Of a folder torch reads nothing, and takes for weights whatever its memory held.
        if part.external_attr & _FOLDER:
            return f"its part {show(part.filename)} is marked as a folder"
    broken = archive.testzip()
    return f"the checksum of its part {' '.join(broken.split())} is wrong" if broken else ""


def _opened(store: str, path: str) -> Any:
    local = object_store.folder(store)
    if local is not None:
        return (local / path).open("rb")
    fs, root = object_store.filesystem(store)
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
