"""Whether checkpoints can be kept in a store."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from seer_nb.doctor.finding import Finding, brief
from seer_nb.errors import CheckpointError
from seer_nb.runner import checkpoints
from seer_nb.settings import check_store

if TYPE_CHECKING:
    from collections.abc import Iterator

_ADVICE = (
    "see that it exists, that it can be reached from here, and that your credentials may read, write and delete in it"
)


def check(store: str) -> Iterator[Finding]:
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
