"""Remote calls from the runner to the controller of a Dask cluster, in its own process or in the notebook's.

A cluster object cannot leave the process that created it. So the notebook's process listens on a socket in a folder
that only its user can enter, for clients that know a random key. The provider holds the socket's address and the key;
it is stored in a file that only its owner can read.
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
from seer_nb.providers.dask.controller import ClusterController, ClusterInfo

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection


logger = logging.getLogger(__name__)
CALL_TIMEOUT_S = 300.0
"""Seconds after which a remote call has failed: the notebook's process hangs."""
LEAVE_TIMEOUT_S = 20.0
"""Seconds that a previous study may take to leave a cluster."""
POLL_S = 1.0
"""Seconds between two checks whether the notebook's cluster has closed."""
BACKLOG = 64
MAX_FOLDER_LENGTH = 70
"""Bytes in the name of a temporary folder; the address of a socket has at most 103."""
ACQUIRE, HEARTBEAT = "acquire", "heartbeat"
"""The two requests that are not names of controller methods."""


class Endpoint(NamedTuple):
    """Address of a `ControllerServer`, and the key to it."""

    address: str
    """Path of a Unix socket; a TCP port would be reachable for every user of this computer."""
    key: bytes

    def __repr__(self) -> str:
        """Show the address without the key."""
        return f"Endpoint({self.address!r})"


class Channel(Protocol):
    """A connection from a runner to the controller of a cluster; used on the runner's event loop."""

    async def open(self, lease_s: float, lost: Callable[[], None]) -> ClusterInfo:
        """Acquire the cluster.

        Args:
            lease_s: Seconds without a call after which the cluster is released.
            lost: Called on the event loop when the cluster's process has died or has released the cluster.
        """
        ...

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the controller and return its result."""
        ...

    async def close(self) -> None:
        """Release the cluster."""
        ...


class InProcessChannel:
    """A channel to a cluster that the runner creates in its own process.

    Args:
        make: Creates the cluster.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._controller: ClusterController | None = None
        self._lock = threading.Lock()
        """Guards the decision who closes a cluster when ``close`` is called during its creation."""
        self._cluster: Any = None
        self._closed = False

    async def open(self, lease_s: float, lost: Callable[[], None]) -> ClusterInfo:  # noqa: ARG002 - same process
        """Create the cluster."""
        cluster = await self.make_cluster()
        if not hasattr(cluster, "scheduler_address"):
            raise SeerError(f"cluster() returned {cluster!r}, which is not a Dask cluster: return a running one")
        try:
            self._controller = ClusterController(cluster, own=True)
            info: ClusterInfo = await self.call("open", lease_s)
        except BaseException:
            await self.close()
            raise
        return info

    async def make_cluster(self) -> Any:
        """Create the cluster on another thread, or on the main thread if it requires that."""
        # Creation may take minutes; a cluster has its own event loop anyway.
        try:
            return await asyncio.to_thread(self._make_or_close)
        except ValueError as error:
            if "main thread" not in str(error):
                raise
        # It sets signal handlers, as dask-jobqueue does at import. The runner keeps its own handler.
        before = signal.getsignal(signal.SIGINT)
        try:
            return self._make_or_close()
        finally:
            signal.signal(signal.SIGINT, before)

    def _make_or_close(self) -> Any:
        """Create the cluster. If the channel was closed in the meantime, close the cluster here."""
        made = self._make()
        with self._lock:
            closed, self._cluster = self._closed, None if self._closed else made
        if closed:
            _close(made)
            raise SeerError("the Dask cluster was no longer needed when it had been created")
        return made

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        assert self._controller is not None
        return await asyncio.wrap_future(self._controller.call(method, *args, **kwargs))

    async def close(self) -> None:
        """Close the cluster; one that is being created is closed as soon as it exists."""
        with self._lock:
            self._closed = True
            made, self._cluster = self._cluster, None
        controller, self._controller = self._controller, None
        if made is not None:
            await asyncio.to_thread(_close, made if controller is None else controller)


def _close(made: Any) -> None:
    """Close what the user's function returned, whatever it is."""
    if callable(getattr(made, "close", None)):
        made.close()


class SocketChannel:
    """A channel to a cluster in the notebook's process.

    Args:
        endpoint: Endpoint of the cluster's `ControllerServer`.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._connection: Connection[Any, Any] | None = None
        """The connection that holds the cluster; it carries heartbeats only."""

    async def open(self, lease_s: float, lost: Callable[[], None]) -> ClusterInfo:
        """Acquire the cluster; it is released when this process exits, or sends no heartbeat for the lease."""
        try:
            connection, info = await asyncio.to_thread(self.acquire, lease_s)
        except (OSError, EOFError) as error:
            raise SeerError(
                "the notebook's process, in which the Dask cluster lived, has exited: create the study again, or give "
                "a function that makes the cluster, so that the cluster outlives the notebook"
            ) from error

        def on_readable() -> None:
            # The other side never sends anything here, so it has closed the connection.
            self._stop_watching()
            lost()

        asyncio.get_running_loop().add_reader(connection.fileno(), on_readable)
        self._connection = connection
        return info

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method on a new connection, because other calls may take long."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.send(HEARTBEAT)
        return await asyncio.to_thread(self.request, method, *args, **kwargs)

    async def close(self) -> None:
        """Release the cluster."""
        if self._connection is not None:
            self._stop_watching()
            with contextlib.suppress(OSError, EOFError, SeerError):
                await asyncio.to_thread(self.request, "leave")
            self._connection.close()
            self._connection = None

    def acquire(self, lease_s: float) -> tuple[Connection[Any, Any], ClusterInfo]:
        """Acquire the cluster from any thread; closing the returned connection releases it."""
        connection = self._connect()
        try:
            connection.send((ACQUIRE, (lease_s,), {}))
            return connection, _receive(connection)
        except BaseException:
            connection.close()
            raise

    def request(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method from any thread.

        Raises:
            TimeoutError: The notebook's process did not answer.
            SeerError: The method failed.
        """
        try:
            with self._connect() as connection:
                connection.send((method, args, kwargs))
                return _receive(connection)
        except BlockingIOError as error:
            raise TimeoutError(f"the notebook's process did not answer {method!r}") from error

    def _stop_watching(self) -> None:
        if self._connection is not None:
            asyncio.get_running_loop().remove_reader(self._connection.fileno())

    def _connect(self) -> Connection[Any, Any]:
        connection = Client(self._endpoint.address)
        try:
            # The server limits the duration of a call itself.
            _set_timeout(connection, CALL_TIMEOUT_S + LEAVE_TIMEOUT_S)
            answer_challenge(connection, self._endpoint.key)
            deliver_challenge(connection, self._endpoint.key)
        except BaseException:
            connection.close()
            raise
        return connection


def _set_timeout(connection: Connection[Any, Any], seconds: float) -> None:
    """Make each receive raise BlockingIOError after that time: the other process may hang or be stopped."""
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), int(seconds % 1 * 1e6)))


def _receive(connection: Connection[Any, Any]) -> Any:
    """Return the result of a call.

    Raises:
        OSError, EOFError: The other process has exited.
        SeerError: The call failed.
    """
    error, value = connection.recv()
    if error:
        raise SeerError(error)
    return value


class ControllerServer:
    """Listens in the notebook's process for runners that use its cluster.

    Args:
        cluster: A Dask cluster of this process.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._controller = ClusterController(cluster, own=False)
        self._acquired = threading.Lock()
        """Locked while a runner holds the cluster."""
        self._key = secrets.token_bytes(32)
        folder = make_socket_folder()
        # At this process's exit it runs after the listener's finalizer, which removes the socket.
        self._remove_folder = Finalize(self, shutil.rmtree, (folder, True), exitpriority=-1)
        # No key here: accept() would block on a client that sends nothing, and refuse all others.
        self._listener = Listener(str(folder / "controller"), "AF_UNIX", backlog=BACKLOG)
        self._listener._listener._socket.settimeout(POLL_S)  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
        threading.Thread(target=self._serve, name="seer-cluster", daemon=True).start()

    @property
    def endpoint(self) -> Endpoint:
        """Address and key of this server."""
        return Endpoint(str(self._listener.address), self._key)

    def _serve(self) -> None:
        """Serve until the cluster has closed; this thread's reference keeps the cluster alive until then."""
        while not _has_closed(self._cluster):
            try:
                connection = self._listener.accept()
            except OSError:  # no client connected, or the client has disconnected already
                continue
            threading.Thread(target=self._answer, args=(connection,), name="seer-call", daemon=True).start()
        with _SERVERS_LOCK:
            _SERVERS.pop(self._cluster, None)
        self._listener.close()
        self._remove_folder()

    def _answer(self, connection: Connection[Any, Any]) -> None:
        with contextlib.suppress(OSError, EOFError), connection:
            if not self._authenticate(connection):
                return
            method, args, kwargs = connection.recv()
            if method == ACQUIRE:
                self._hold(connection, *args)
            else:
                connection.send(self._call(method, args, kwargs))

    def _authenticate(self, connection: Connection[Any, Any]) -> bool:
        """Return whether the client knows the key, after proving to it that this server does."""
        try:
            deliver_challenge(connection, self._key)
            answer_challenge(connection, self._key)
        except (AuthenticationError, AssertionError, ValueError):
            logger.warning("refused a client of the Dask cluster without the key")
            return False
        return True

    def _call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Any]:
        try:
            return "", self._controller.call(method, *args, **kwargs).result(CALL_TIMEOUT_S)
        except Exception as error:
            logger.debug("%s failed", method, exc_info=True)
            return f"{method} failed in the notebook's process: {error!r}", None

    def _hold(self, connection: Connection[Any, Any], lease_s: float) -> None:
        """Hold the cluster for a runner until it leaves, dies, or sends no heartbeat for the lease.

        Then what was started for the runner is terminated.
        """
        # A study that has just ended, or died, may still be leaving.
        if not self._acquired.acquire(timeout=min(lease_s, LEAVE_TIMEOUT_S)):
            connection.send(("another study uses the Dask cluster: give each study a cluster of its own", None))
            return
        try:
            connection.send(self._call("open", (lease_s,), {}))
            with contextlib.suppress(OSError, EOFError):
                while connection.poll(lease_s):
                    connection.recv()
        finally:
            self._call("leave", (), {})
            self._acquired.release()


_SERVERS: weakref.WeakKeyDictionary[Any, ControllerServer] = weakref.WeakKeyDictionary()
_SERVERS_LOCK = threading.Lock()


def get_server(cluster: Any) -> ControllerServer:
    """Return the server of a cluster, created at the first call: two would terminate each other's workers."""
    with _SERVERS_LOCK:
        if cluster not in _SERVERS:
            _SERVERS[cluster] = ControllerServer(cluster)
        return _SERVERS[cluster]


def make_socket_folder() -> Path:
    """Create a folder for a socket that only this user can enter.

    A socket's address is limited in length, so a long folder for temporary files is replaced by /tmp.
    """
    usual = tempfile.gettempdir()
    short = usual if len(os.fsencode(usual)) <= MAX_FOLDER_LENGTH else "/tmp"  # noqa: S108 - mkdtemp makes it private
    return Path(tempfile.mkdtemp(prefix="seer-", dir=short))


def _has_closed(cluster: Any) -> bool:
    status = getattr(cluster, "status", None)
    return getattr(status, "name", status) in {"closed", "failed"}
