"""Signatures of the files that a study unpickles: unpickling runs whatever a file holds.

The file "seal" beside them holds an HMAC-SHA256 of their content and the study's name. The user's key lies outside all
studies' folders, so somebody who can write to a folder, or passes one on, cannot make seer_nb unpickle anything.
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
"""Stands for the length of a missing file."""


def key_path() -> Path:
    """Return the path of the user's key: SEER_KEY_FILE, or seer_nb/key in the user's configuration folder."""
    given = os.environ.get(KEY_FILE)
    if given:
        return Path(given).absolute()
    settings = os.environ.get("XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "seer_nb" / "key"


def sign(folder: Path, names: tuple[str, ...]) -> None:
    """Sign the files of these names in a study's folder."""
    write_atomically(folder / SEAL, _hash(folder.name, _contents(folder, names)).encode(), private=True)


def read_signed(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the content of signed files by name, without those that are missing.

    Args:
        folder: The study's folder.
        names: The same names as when the files were signed.

    Raises:
        UntrustedError: The signature does not match, or other users may write to the folder.
        SeerError: The user's key cannot be read or created.
    """
    check_private(folder)
    contents = _contents(folder, names)
    try:
        sealed = (folder / SEAL).read_text(errors="replace")
    except FileNotFoundError:
        sealed = ""
    if not hmac.compare_digest(sealed.encode(), _hash(folder.name, contents).encode()):
        raise UntrustedError(
            f"the function of study {folder.name!r} was not stored by this user on this computer, or was changed "
            f"since, and could run any code. If you trust the source of {folder}, call seer_nb.trust({folder.name!r}) "
            f"or run seer-nb trust {folder.name}"
        )
    return {name: content for name, content in contents.items() if content is not None}


def check_private(folder: Path) -> None:
    """Check that no other user can change anything in a study's folder.

    Raises:
        UntrustedError: The folder, or a file in it, belongs to another user or is writable by others.
    """
    for path in (folder, *folder.iterdir()):
        try:
            found = path.lstat()
        except FileNotFoundError:  # a running study removes files
            continue
        if found.st_uid != os.geteuid():
            raise UntrustedError(
                f"{path} belongs to user {found.st_uid}, not to you, so the study would run files that another user "
                f"can change. Copy the folder, and call seer_nb.trust({folder.name!r}) if you know its content"
            )
        if _written_by_others(found):
            raise UntrustedError(
                f"{path} can be written by other users (mode {stat.S_IMODE(found.st_mode):o}), so the study would run "
                f"files that they can change. Run chmod -R go-w {folder}; if that has no effect, as on drives of "
                "another system, set SEER_HOME to a folder elsewhere"
            )


def check_own(path: Path, what: str) -> None:
    """Check that a file belongs to the user and is not writable by everybody.

    Its group may write: the group of a user's files is usually that user's alone.

    Args:
        path: The file.
        what: Consequence of using the file, for the error message.

    Raises:
        UntrustedError: The file belongs to another user, or everybody may write it.
    """
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise UntrustedError(
            f"{path} belongs to user {found.st_uid}, not to you, and {what}: replace it by a copy of your own"
        )
    if found.st_mode & stat.S_IWOTH:
        raise UntrustedError(f"{path} can be written by everybody, and {what}: run chmod o-w {path}")


def make_private(folder: Path) -> None:
    """Remove all rights of other users in a study's folder.

    Raises:
        UntrustedError: A file in it belongs to another user.
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
    """Yield every part with its length, so that no byte can move from one part to the next."""
    for text in (b"seer_nb 1", study.encode(), *(part for pair in contents.items() for part in _pair(*pair))):
        yield _MISSING if text is None else len(text).to_bytes(8, "big") + text


def _pair(name: str, content: bytes | None) -> tuple[bytes, bytes | None]:
    return name.encode(), content


# --- the key ---


def own_key() -> bytes:
    """Return the user's key; create it at the first call.

    Raises:
        SeerError: The key cannot be read or created, or others may read it.
    """
    path = key_path()
    try:
        if not path.exists():
            make_key(path)
        found, key = path.stat(), path.read_bytes()
    except OSError as error:
        raise SeerError(
            f"the key {path} that signs your studies cannot be read or created ({error.strerror}): "
            f"set {KEY_FILE} to a file that only you can read"
        ) from None
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SeerError(f"other users can read the key {path}: run chmod 600 on it, or remove it to create a new one")
    if len(key) != KEY_BYTES:
        raise SeerError(f"the key {path} has {len(key)} bytes; expected {KEY_BYTES}: remove it to create a new one")
    return key


def make_key(path: Path) -> None:
    """Create a key, unless another process has created it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        # Linked, not renamed: if two processes create a key at once, both use the first one.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)


def _written_by_others(found: os.stat_result) -> bool:
    # The mode of a symbolic link means nothing; only a user with write access to the folder can create one.
    return not stat.S_ISLNK(found.st_mode) and bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
