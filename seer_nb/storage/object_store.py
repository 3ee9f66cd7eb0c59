"""Stores for checkpoints: local folders, and those fsspec filesystems that only hold files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from seer_nb._utils.text import short_repr

_FILES = "file local sftp ssh hdfs webhdfs"
_OBJECTS = "s3 s3a gs gcs az abfs abfss adl oci ocilake oss tos hf dbfs lakefs memory"
PROTOCOLS = frozenset(f"{_FILES} {_OBJECTS}".split())
"""Allowed fsspec protocols. Others, and chained URLs, can run code: "dask://" unpickles a scheduler's answer, and the
URL comes from a journal that may be untrusted."""
MOST_NAME, MOST_PATH = 255, 900
"""Most bytes of a file's name, and of a folder's path; macOS allows 1024, of which the files' names need some."""
HINT = 'expected a folder, or an fsspec URL such as "s3://bucket/folder"'
_USER = re.compile(r"(://)[^/@\s]*@")
_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def without_credentials(text: str) -> str:
    """Return a text without the user names and passwords of its URLs."""
    return _USER.sub(r"\1***@", text)


def protocol(store: str) -> str:
    """Return the protocol of a store's URL; empty for a local folder."""
    return re.split("::|://", store, maxsplit=1)[0] if is_url(store) else ""


def is_url(store: str) -> bool:
    """Return whether the store is a URL rather than a local folder, whose absolute path may hold "::"."""
    return "://" in store or ("::" in store and not store.startswith("/"))


def folder_problem(folder: Path) -> str:
    """Return why a folder cannot hold a study's files; empty if it can.

    Args:
        folder: An absolute path, which need not exist.
    """
    try:
        parts = [part.encode() for part in folder.parts]
    except UnicodeEncodeError:
        return "not valid Unicode text"
    if "\0" in str(folder):
        return "holds a null character"
    if max(map(len, parts)) > MOST_NAME or len(os.fsencode(folder)) > MOST_PATH:
        return f"too long; a path may have {MOST_PATH} bytes, and each of its parts {MOST_NAME}"
    # os.path.exists is False where the user may not look, and does not raise as Path.exists does.
    present = next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110
    return "" if present.is_dir() else f"{short_repr(str(present))} is not a folder"


def local_folder(store: str) -> Path | None:
    """Return the local folder of a store; None if the store needs fsspec."""
    if not is_url(store):
        return Path(store)
    for prefix in ("file://", "local://"):
        if store.startswith(prefix):
            return Path(store.removeprefix(prefix))
    return None


def check_url(store: str) -> None:
    """Raise ValueError for a URL that holds a password or whose protocol is not allowed."""
    shown = repr(without_credentials(store))
    if _PASSWORD.search(store):
        raise ValueError(
            f"store={shown} holds a password, which results would show; expected credentials in fsspec's configuration"
        )
    if is_url(store) and ("::" in store or protocol(store) not in PROTOCOLS):
        allowed = ", ".join(sorted(PROTOCOLS))
        raise ValueError(f"store={shown} is not a store that only holds files; {HINT}, with one of {allowed}")


def forget_filesystems() -> None:
    """Forget shared filesystems, whose clients keep credentials and addresses."""
    _shared.clear()


_shared: dict[tuple[int, str], tuple[Any, str]] = {}
"""Asynchronous filesystems and paths by process id and store."""


def filesystem(store: str) -> tuple[Any, str]:
    """Return the fsspec filesystem of a store's URL, and the path in it.

    Raises:
        ValueError: The URL is not allowed, or fsspec does not know its protocol.
        ImportError: A package that the protocol needs is not installed.
    """
    from fsspec.core import url_to_fs

    check_url(store)
    key = os.getpid(), store
    if key not in _shared:
        fs, path = url_to_fs(store)
        root = str(path).rstrip("/")
        if not fs.async_impl:
            return fs, root
        # fsspec makes one for each thread, with a client of 25 MB, though all of them run on one event loop.
        _shared[key] = fs, root
    return _shared[key]
