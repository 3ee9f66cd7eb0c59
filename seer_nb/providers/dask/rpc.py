"""How a runner reaches the hand of a cluster: in its own process, or in the notebook's, over a socket.

A cluster object cannot leave the process that it was made in. So that process listens, in a folder that only its user
can enter, for whoever knows a random key; provider, and with it key and address, travel in a file that only its owner
can read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import struct
import tempfile
import threading
import weakref
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener, answer_challenge, deliver_challenge
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from seer_nb.errors import SeerError
from seer_nb.providers.dask.controller import ClusterController, Facts

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection


logger = logging.getLogger(__name__)
ANSWER_S = 300.0
"""Nothing takes longer, unless the notebook's process hangs."""
LEAVES_S = 20.0
LOOK_S = 1.0
"""Between two looks whether a cluster of the notebook still lives."""
BACKLOG = 64
LONGEST_FOLDER = 70
"""Characters: the name of a socket has no more than 103."""
HOLD, BEAT = "hold", "beat"


class Endpoint(NamedTuple):
    """Where a notebook's process listens, and the key to it."""

    address: str
    """Of a socket in the file system: one with a number could be knocked at by every user of this computer."""
    key: bytes

    def __repr__(self) -> str:
        """Without the key."""
        return f"Door({self.address!r})"


class Channel(Protocol):
    """To the hand of a cluster; used on the runner's event loop."""

    async def open(self, lease_s: float, lost: Callable[[], None]) -> Facts:
        """Take hold of the cluster.

        Args:
            lease_s: It is let go when it was not called for so long.
            lost: Called on the event loop when the process in which it lives has died, or has let it go.
        """
        ...

    async def call(self, method: str, *args: Any, **named: Any) -> Any:
        """Have the hand do something."""
        ...

    async def close(self) -> None:
        """Leave the cluster."""
        ...


class InProcessChannel:
    """In the same process: a cluster that the runner has made itself.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._hand: ClusterController | None = None
        self._lock = threading.Lock()
        """Held while it is decided who closes a cluster that is told to go while it is made."""
        self._cluster: Any = None
        self._closed = False

    async def open(self, lease_s: float, lost: Callable[[], None]) -> Facts:  # noqa: ARG002 - it lives as we do
        """Make the cluster."""
        cluster = await self._made()
        if not hasattr(cluster, "scheduler_address"):
            raise SeerError(f"cluster() gave {cluster!r}, which is no Dask cluster: it must return one that runs")
        try:
            self._hand = ClusterController(cluster, own=True)
            facts: Facts = await self.call("open", lease_s)
        except BaseException:
            await self.close()
            raise
        return facts

    async def _made(self) -> Any:
        # On another thread, for it may take minutes; a cluster has an event loop of its own anyway.
        try:
            return await asyncio.to_thread(self._build)
        except ValueError as error:
            if "main thread" not in str(error):
                raise
        # It wants to handle signals, as dask-jobqueue does from its import on. Here, they are not for it.
        before = signal.getsignal(signal.SIGINT)
        try:
            return self._build()
        finally:
            signal.signal(signal.SIGINT, before)

    def _build(self) -> Any:
        """The cluster. Whoever has closed this line meanwhile did not have it yet: it is closed here then."""
        made = self._make()
        with self._lock:
            closed, self._cluster = self._closed, None if self._closed else made
        if closed:
            _close(made)
            raise SeerError("the Dask cluster was not wanted any more when it had been made")
        return made

    async def call(self, method: str, *args: Any, **named: Any) -> Any:
        """Have the hand do something."""
        assert self._hand is not None
        return await asyncio.wrap_future(self._hand.call(method, *args, **named))

    async def close(self) -> None:
        """End the cluster; one that is being made, as soon as it is there."""
        with self._lock:
            self._closed = True
            made, self._cluster = self._cluster, None
        hand, self._hand = self._hand, None
        if made is not None:
            await asyncio.to_thread(_close, made if hand is None else hand)


def _close(made: Any) -> None:
    """End what was made, whatever it is."""
    if callable(getattr(made, "close", None)):
        made.close()


class SocketChannel:
    """In a notebook's process.

    Args:
        door: To it.
    """

    def __init__(self, door: Endpoint) -> None:
        self._door = door
        self._held: Connection[Any, Any] | None = None

    async def open(self, lease_s: float, lost: Callable[[], None]) -> Facts:
        """Take hold of the cluster; it is let go when this process ends, or stands still for the lease."""
        try:
            held, facts = await asyncio.to_thread(self._hold, lease_s)
        except (OSError, EOFError) as error:
            raise SeerError(
                "the notebook's process, in which the Dask cluster lived, has ended: make the study anew, or give a "
                "function that makes the cluster instead of the cluster, for that outlives the notebook"
            ) from error

        def watch() -> None:
            # Nothing is ever sent this way: it is readable when the other side has gone.
            self._unwatch()
            lost()

        asyncio.get_running_loop().add_reader(held.fileno(), watch)
        self._held = held
        return facts

    async def call(self, method: str, *args: Any, **named: Any) -> Any:
        """Have the hand do something, on a connection of its own: others may take long."""
        if self._held is not None:
            with contextlib.suppress(OSError):
                self._held.send(BEAT)
        return await asyncio.to_thread(self._ask, method, args, named)

    async def close(self) -> None:
        """Leave the cluster as it was."""
        if self._held is not None:
            self._unwatch()
            with contextlib.suppress(OSError, EOFError, SeerError):
                await asyncio.to_thread(self._ask, "leave", (), {})
            self._held.close()
            self._held = None

    def _unwatch(self) -> None:
        if self._held is not None:
            asyncio.get_running_loop().remove_reader(self._held.fileno())

    def _hold(self, lease_s: float) -> tuple[Connection[Any, Any], Facts]:
        held = self._connect()
        try:
            held.send((HOLD, (lease_s,), {}))
            return held, _answer(held)
        except BaseException:
            held.close()
            raise

    def _ask(self, method: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        try:
            with self._connect() as connection:
                connection.send((method, args, named))
                return _answer(connection)
        except BlockingIOError as error:
            raise TimeoutError(f"the notebook's process did not answer {method!r}") from error

    def _connect(self) -> Connection[Any, Any]:
        connection = Client(self._door.address)
        try:
            # The other side has its own limit for what it does.
            _limit(connection, ANSWER_S + LEAVES_S)
            answer_challenge(connection, self._door.key)
            deliver_challenge(connection, self._door.key)
        except BaseException:
            connection.close()
            raise
        return connection


def _limit(connection: Connection[Any, Any], seconds: float) -> None:
    """Have every wait for the other side end by then, with a BlockingIOError: it may hang, or be stopped."""
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), int(seconds % 1 * 1e6)))


def _answer(connection: Connection[Any, Any]) -> Any:
    """Raises OSError, EOFError: The other process has ended. SeerError: It could not do it."""
    error, value = connection.recv()
    if error:
        raise SeerError(error)
    return value


def desk_of(cluster: Any) -> ControllerServer:
    """The one of a cluster: two would end each other's workers."""
    with _DESKS_LOCK:
        if cluster not in _DESKS:
            _DESKS[cluster] = ControllerServer(cluster)
        return _DESKS[cluster]


class ControllerServer:
    """Listens in the notebook's process for runners that want its cluster.

    Args:
        cluster: That lives here.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._hand = ClusterController(cluster, own=False)
        self._held = threading.Lock()
        self._key = secrets.token_bytes(32)
        folder = _folder()
        # At the end of this process after the listener, which removes the socket.
        self._tidy = Finalize(self, shutil.rmtree, (folder, True), exitpriority=-1)
        # Without the key, or it would wait for whoever comes and says nothing, and let nobody else in.
        self._listener = Listener(str(folder / "desk"), "AF_UNIX", backlog=BACKLOG)
        self._listener._listener._socket.settimeout(LOOK_S)  # type: ignore[attr-defined]  # noqa: SLF001 - no other way
        threading.Thread(target=self._serve, name="seer-cluster", daemon=True).start()

    @property
    def door(self) -> Endpoint:
        """By which it is found."""
        return Endpoint(str(self._listener.address), self._key)

    def _serve(self) -> None:
        """For as long as the cluster lives: it is held by whoever serves it."""
        while not _has_closed(self._cluster):
            try:
                connection = self._listener.accept()
            except OSError:  # nobody came, or whoever it was has gone again
                continue
            threading.Thread(target=self._talk, args=(connection,), name="seer-call", daemon=True).start()
        with _DESKS_LOCK:
            _DESKS.pop(self._cluster, None)
        self._listener.close()
        self._tidy()

    def _talk(self, connection: Connection[Any, Any]) -> None:
        with contextlib.suppress(OSError, EOFError), connection:
            if not self._admits(connection):
                return
            method, args, named = connection.recv()
            if method == HOLD:
                self._hold(connection, *args)
            else:
                connection.send(self._do(method, args, named))

    def _admits(self, connection: Connection[Any, Any]) -> bool:
        """Whether whoever has come knows the key, and knows that we do."""
        try:
            deliver_challenge(connection, self._key)
            answer_challenge(connection, self._key)
        except (AuthenticationError, AssertionError, ValueError):
            logger.warning("somebody without the key wanted the Dask cluster")
            return False
        return True

    def _do(self, method: str, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[str, Any]:
        try:
            return "", self._hand.call(method, *args, **named).result(ANSWER_S)
        except Exception as error:
            logger.debug("%s failed", method, exc_info=True)
            return f"{method} failed in the notebook's process: {error!r}", None

    def _hold(self, connection: Connection[Any, Any], lease_s: float) -> None:
        """Until the runner leaves, dies or stands still for the lease: then what it has started ends."""
        # A study that has just ended, or died, is still leaving.
        if not self._held.acquire(timeout=min(lease_s, LEAVES_S)):
            connection.send(("another study holds the Dask cluster: give each study one of its own", None))
            return
        try:
            connection.send(self._do("open", (lease_s,), {}))
            with contextlib.suppress(OSError, EOFError):
                while connection.poll(lease_s):
                    connection.recv()
        finally:
            self._do("leave", (), {})
            self._held.release()


def _folder() -> Path:
    """For the socket, for nobody but this user; a name as long as some folders for temporary files it cannot have."""
    usual = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="seer-", dir=usual if len(os.fsencode(usual)) <= LONGEST_FOLDER else "/tmp"))  # noqa: S108 - it is made there for us alone


def _has_closed(cluster: Any) -> bool:
    status = getattr(cluster, "status", None)
    return getattr(status, "name", status) in {"closed", "failed"}


_DESKS: weakref.WeakKeyDictionary[Any, ControllerServer] = weakref.WeakKeyDictionary()
_DESKS_LOCK = threading.Lock()
