"""Binds what is unpickled of a study to the user who made it: unpickling runs whatever the file holds.

A seal beside the files is their keyed hash (HMAC-SHA256), with the study's name. The key is the user's own and lies in
no study's folder, so that who can write to a folder, or hand one on, still cannot have anything unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from seer_nb._utils.environment import KEY_FILE
from seer_nb._utils.files import write_atomically
from seer_nb.errors import SeerError, UntrustedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


SEAL = "seal"
KEY_BYTES = 32
_MISSING = b"\xff" * 8
"""In place of the length of a file that is not there."""


def key_path() -> Path:
    """Where the user's key lies: SEER_KEY_FILE, or seer_nb/key among the user's settings."""
    given = os.environ.get(KEY_FILE)
    if given:
        return Path(given).absolute()
    settings = os.environ.get("XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "seer_nb" / "key"


def seal(folder: Path, names: tuple[str, ...]) -> None:
    """Say that the files of these names in a study's folder are the user's own."""
    write_atomically(folder / SEAL, _hash(folder.name, _contents(folder, names)).encode(), private=True)


def opened(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Contents of the files, as they were sealed; those that are not there are left out.

    Raises:
        UntrustedError: They are not as the user has sealed them, or others may write to the folder.
        SeerError: The user's key cannot be read or made.
    """
    check_private(folder)
    contents = _contents(folder, names)
    try:
        sealed = (folder / SEAL).read_text(errors="replace")
    except FileNotFoundError:
        sealed = ""
    if not hmac.compare_digest(sealed.encode(), _hash(folder.name, contents).encode()):
        raise UntrustedError(
            f"the function of study {folder.name!r} was not stored by this user on this computer, or was changed since "
            f"and could do anything: if you know where {folder} comes from, seer_nb.trust({folder.name!r}) or "
            f"seer-nb trust {folder.name} makes it yours"
        )
    return {name: content for name, content in contents.items() if content is not None}


def check_private(folder: Path) -> None:
    """Refuse a study's folder in which other users could change anything.

    Raises:
        UntrustedError: It, or something in it, belongs to another user or may be written by others.
    """
    for path in (folder, *folder.iterdir()):
        try:
            found = path.lstat()
        except FileNotFoundError:  # a runner tidies up
            continue
        if found.st_uid != os.geteuid():
            raise UntrustedError(
                f"{path} belongs to the user {found.st_uid}, not to you, so that the study would run what another user "
                f"may change: make a copy of the folder, and seer_nb.trust({folder.name!r}) if you know what is in it"
            )
        if _written_by_others(found):
            raise UntrustedError(
                f"{path} can be written by other users (mode {stat.S_IMODE(found.st_mode):o}), so that the study would "
                f"run what they may change: chmod -R go-w {folder} ends that; where it does not, as on drives of "
                "another system, set SEER_HOME to a folder elsewhere"
            )


def check_own(path: Path, what: str) -> None:
    """Refuse to go by a file that somebody else may have written.

    A group may write: where the user's files are their group's too, that group is usually theirs alone.

    Args:
        path: The file.
        what: What would come of it.

    Raises:
        UntrustedError: It belongs to another user, or anybody may write it.
    """
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise UntrustedError(
            f"{path} belongs to the user {found.st_uid}, not to you, and {what}: put a copy in its place"
        )
    if found.st_mode & stat.S_IWOTH:
        raise UntrustedError(f"{path} can be written by anybody, and {what}: chmod o-w {path} ends that")


def make_private(folder: Path) -> None:
    """Leave others no rights in a study's folder.

    Raises:
        UntrustedError: Something in it belongs to another user.
    """
    for path in (folder, *folder.rglob("*")):
        found = path.lstat()
        if found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode):
            path.chmod(stat.S_IMODE(found.st_mode) & 0o700)
    check_private(folder)


def _contents(folder: Path, names: tuple[str, ...]) -> dict[str, bytes | None]:
    return {name: (folder / name).read_bytes() if (folder / name).is_file() else None for name in names}


def _hash(study: str, contents: Mapping[str, bytes | None]) -> str:
    signing = hmac.new(own_key(), digestmod=hashlib.sha256)
    for part in _parts(study, contents):
        signing.update(part)
    return signing.hexdigest()


def _parts(study: str, contents: Mapping[str, bytes | None]) -> Iterator[bytes]:
    """With the length of each, so that nothing can move from one to the next."""
    for text in (b"seer_nb 1", study.encode(), *(part for pair in contents.items() for part in _pair(*pair))):
        yield _MISSING if text is None else len(text).to_bytes(8, "big") + text


def _pair(name: str, content: bytes | None) -> tuple[bytes, bytes | None]:
    return name.encode(), content


# --- the key ---


def own_key() -> bytes:
    """The user's, made when it is first asked for.

    Raises:
        SeerError: It cannot be read or made, or others may read it.
    """
    path = key_path()
    try:
        if not path.exists():
            _make_key(path)
        found, key = path.stat(), path.read_bytes()
    except OSError as error:
        raise SeerError(
            f"the key {path}, with which your studies are sealed, cannot be read or made ({error.strerror}): "
            f"set {KEY_FILE} to a file that only you can read"
        ) from None
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SeerError(f"the key {path} is not yours alone: chmod 600 it, or remove it to have a new one made")
    if len(key) != KEY_BYTES:
        raise SeerError(f"the key {path} has {len(key)} bytes instead of {KEY_BYTES}: remove it to have a new one made")
    return key


def _make_key(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        # Linked, not renamed: of two processes that make one, both then use the first.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)


def _written_by_others(found: os.stat_result) -> bool:
    # What a link says of its rights means nothing; it was made by whoever could write to the folder.
    return not stat.S_ISLNK(found.st_mode) and bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
