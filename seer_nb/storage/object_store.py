"""Where checkpoints may lie: folders, and the object and file stores that fsspec knows and that only hold files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_FILES = "file local sftp ssh hdfs webhdfs"
_OBJECTS = "s3 s3a gs gcs az abfs abfss adl oci ocilake oss tos hf dbfs lakefs memory"
PROTOCOLS = frozenset(f"{_FILES} {_OBJECTS}".split())
"""Other filesystems of fsspec, and chains of them, can be led to run what an address says: "dask://" unpickles what a
scheduler answers. An address comes from a journal, which somebody else may have written."""
HINT = 'give a folder, or an fsspec URL such as "s3://bucket/folder"'
_USER = re.compile(r"(://)[^/@\s]*@")
_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def unnamed(text: str) -> str:
    """A text without who is to log in where: URLs may hold passwords."""
    return _USER.sub(r"\1***@", text)


def protocol(store: str) -> str:
    """What an address begins with; empty for a folder."""
    return re.split("::|://", store, maxsplit=1)[0] if is_url(store) else ""


def is_url(store: str) -> bool:
    """Whether it is an address rather than a folder."""
    return "://" in store or "::" in store


def folder(store: str) -> Path | None:
    """The folder, when the store is one; then fsspec is not needed."""
    if not is_url(store):
        return Path(store)
    for prefix in ("file://", "local://"):
        if store.startswith(prefix):
            return Path(store.removeprefix(prefix))
    return None


def check(store: str) -> None:
    """Raise ValueError, with a sentence, for an address that is none of a store that only holds files."""
    shown = repr(unnamed(store))
    if _PASSWORD.search(store):
        raise ValueError(f"store={shown} holds a password, which results would show: give it as fsspec's settings do")
    if is_url(store) and ("::" in store or protocol(store) not in PROTOCOLS):
        allowed = ", ".join(sorted(PROTOCOLS))
        raise ValueError(f"store={shown} is not one that only holds files: {HINT}, with one of {allowed}")


def filesystem(store: str) -> tuple[Any, str]:
    """The filesystem of fsspec for an address, and the folder there.

    Raises:
        ValueError: It is not allowed, or fsspec does not know it.
        ImportError: What it needs is not installed.
    """
    from fsspec.core import url_to_fs

    check(store)
    fs, root = url_to_fs(store)
    return fs, str(root).rstrip("/")
