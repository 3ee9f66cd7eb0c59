"""Checkpoints in a folder or at an fsspec URL: stored atomically, and verified when they are loaded.

A checkpoint is a file of ``torch.save``, loadable with ``torch.load(weights_only=True)``, that holds::

    {"format": 1, "trial": int, "epoch": int, "objects": [state_dict, ...], "state": {...}, "saved": tensor | None,
     "reports": [{"epoch": int, "value": float | None, "metrics": {...}, "seconds": float}, ...]}

where "saved" has dtype uint8, and "reports" are the last reports of the gang that stored the checkpoint.

Torch is imported late because the runner only removes checkpoints.
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

from seer_nb._utils.text import message_of, printable, short_repr
from seer_nb.errors import CheckpointError, DamagedCheckpointError, MissingCheckpointError
from seer_nb.storage import object_store

if TYPE_CHECKING:
    from collections.abc import Iterable


FORMAT = 1
ATOMIC_PROTOCOLS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "r2", "memory"})
"""Protocols of stores that write an object atomically."""
_FOLDER = 0x10
"""Bit for a folder in the external attributes of a zip archive's part."""
_NAME = re.compile(r"(\d{6,18})-g(\d{1,18})\.pt", re.ASCII)


def file_path(trial: int, epoch: int, gang: int) -> str:
    """Return the path of a new checkpoint in its store; the gang's id keeps a repeated epoch from overwriting it."""
    return f"{trial}/{epoch:06d}-g{gang}.pt"


def list_stored(store: str, trial: int) -> list[tuple[int, int]]:
    """Return (epoch, gang) of all stored checkpoints of a trial.

    Args:
        store: Folder or fsspec URL.
        trial: Number of the trial.

    Raises:
        OSError: The store cannot be read.
    """
    local = object_store.local_folder(store)
    if local is not None:
        names = [path.name for path in (local / str(trial)).glob("*.pt")]
    else:
        fs, root = object_store.filesystem(store)
        # A cached listing lacks what other processes have stored since.
        fs.invalidate_cache()
        try:
            names = [str(path).rpartition("/")[2] for path in fs.ls(f"{root}/{trial}", detail=False)]
        except FileNotFoundError:
            names = []
    return [(int(found[1]), int(found[2])) for found in map(_NAME.fullmatch, names) if found]


def _checked(path: str) -> str:
    """Return the path if it stays within the store: it may come from a foreign journal."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\0" in path or "://" in path:
        raise CheckpointError(f"the checkpoint {short_repr(path)} is outside of its store")
    return path


def save(store: str, path: str, payload: dict[str, Any]) -> None:
    """Store a payload atomically: a killed process leaves no partial checkpoint under that path.

    Args:
        store: Folder or fsspec URL; created if necessary.
        path: Path relative to the store.
        payload: Object for `torch.save`; tensors on the CPU.

    Raises:
        OSError: The store cannot be written to.
    """
    import torch

    local = object_store.local_folder(store)
    if local is not None:
        _save_local(local / path, payload)
        return
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    fs, root = object_store.filesystem(store)
    target = f"{root}/{path}"
    if not ATOMIC_PROTOCOLS.isdisjoint([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol):
        fs.pipe_file(target, buffer.getvalue())
        return
    fs.makedirs(target.rpartition("/")[0], exist_ok=True)
    temporary = _temporary(target)
    fs.pipe_file(temporary, buffer.getvalue())
    fs.mv(temporary, target)


def load(store: str, path: str, map_location: Any = "cpu") -> dict[str, Any]:
    """Load a payload after verifying the checksums of all its parts.

    Args:
        store: Folder or fsspec URL.
        path: Path relative to the store.
        map_location: Device for the tensors, as in `torch.load`.

    Raises:
        DamagedCheckpointError: The file is damaged, or not a checkpoint of seer_nb.
        MissingCheckpointError: The file is missing, or cannot be read now.
    """
    import torch

    where = f"{object_store.without_credentials(store).rstrip('/')}/{_checked(path)}"
    try:
        with _opened(store, path) as file:
            _verify(file, where)
            # pickle writes empty bytes as a call of bytes().
            with torch.serialization.safe_globals([bytes]):
                payload = torch.load(file, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise MissingCheckpointError(f"the checkpoint {where} is missing") from None
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        # Torch's own message suggests an unsafe load, which would run code in the file.
        raise DamagedCheckpointError(f"the checkpoint {where} holds more than weights and plain values") from error
    except Exception as error:
        kind = MissingCheckpointError if isinstance(error, OSError) else DamagedCheckpointError
        said = " ".join(printable(message_of(error)).split())[:200]
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
    """Remove checkpoints; ignore those that are missing.

    Args:
        store: Folder or fsspec URL.
        paths: Paths relative to the store.
    """
    local, paths = object_store.local_folder(store), [_checked(path) for path in paths]
    if local is not None:
        for path in paths:
            (local / path).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the trial has other checkpoints
                (local / path).parent.rmdir()
        return
    fs, root = object_store.filesystem(store)
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(f"{root}/{path}")


def restore(held: Any, state: dict[str, Any], what: str = "") -> None:
    """Load one object's stored state into it.

    Args:
        held: Module (in DDP or not), optimizer, scheduler or any other object with ``load_state_dict``.
        state: The object's entry in the payload's ``objects``.
        what: Name of the object in the error. Default: its type.

    Raises:
        CheckpointError: The state does not fit the object.
        TypeError: The object has no ``load_state_dict``.
    """
    held = unwrap_ddp(held)
    kind = type(held).__name__
    if not callable(getattr(held, "load_state_dict", None)):
        raise TypeError(f"{held!r} (a {kind}) has no load_state_dict: a checkpoint cannot be loaded into it")
    try:
        held.load_state_dict(state)
    except Exception as error:  # noqa: BLE001 - every class raises its own errors
        reason = " ".join(str(error).split())
        raise CheckpointError(f"the checkpoint does not fit {what or f'this {kind}'}: {reason}") from None


def unwrap_ddp(held: Any) -> Any:
    """Return the module inside DDP, so that stored names do not depend on the parallelism; other objects unchanged."""
    import torch

    return held.module if isinstance(held, torch.nn.parallel.DistributedDataParallel) else held


def _verify(file: Any, where: str) -> None:
    """Verify an archive's checksums. Torch does not, so a flipped bit would change a weight."""
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
        # Torch never compresses; a compressed part is a small file made to fill the memory.
        if part.compress_type:
            return f"its part {short_repr(part.filename)} is compressed"
        # Torch reads nothing for a folder, and uses uninitialised memory as weights.
        if part.external_attr & _FOLDER:
            return f"its part {short_repr(part.filename)} is marked as a folder"
    broken = archive.testzip()
    return f"the checksum of its part {' '.join(broken.split())} is wrong" if broken else ""


def _opened(store: str, path: str) -> Any:
    local = object_store.local_folder(store)
    if local is not None:
        return (local / path).open("rb")
    fs, root = object_store.filesystem(store)
    return io.BytesIO(fs.cat_file(f"{root}/{path}"))


def _save_local(target: Path, payload: dict[str, Any]) -> None:
    import torch

    temporary = Path(_temporary(str(target)))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # `remove` may delete the folder with its last checkpoint at this moment: then it is created again.
        with _open_in_folder(temporary) as file:
            torch.save(payload, file)
        temporary.replace(target)
    except RuntimeError as error:
        temporary.unlink(missing_ok=True)
        # On a full disk torch's writer raises a RuntimeError while handling the OSError.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _open_in_folder(path: Path) -> IO[bytes]:
    try:
        return path.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")


def _temporary(target: str) -> str:
    folder, _, file = target.rpartition("/")
    return f"{folder}/.{file}.{os.getpid()}-{threading.get_ident()}.tmp"
