"""Other users of this computer can connect to a study's ports, but cannot run anything."""

import socket
import ssl
import stat

import psutil
import pytest
from distributed.security import Security

from seer_nb.storage import layout
from seer_nb.storage.lock import runner_pid
from tests.support.studies import make, worker_pids
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # real processes and real time


def ports(study):
    """At which its Dask scheduler and workers listen."""
    runner = psutil.Process(runner_pid(study.folder))
    found = []
    for process in (runner, *(psutil.Process(pid) for pid in worker_pids(study).values())):
        found += [(c.laddr.ip, c.laddr.port) for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    return found


def answer(port, security):
    """Answer to a stranger, who has a certificate of its own or, like a browser, none."""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as plain:
        try:
            if security is None:
                plain.sendall(b"GET /info/main/workers.html HTTP/1.0\r\n\r\n")
                return plain.recv(1000)
            context = security.get_connection_args("client")["ssl_context"]
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(plain) as hidden:
                return hidden.recv(1000)
        except (ssl.SSLError, ConnectionError, TimeoutError):
            return b""


def slow(config, run):
    import time

    for _ in run.epochs():
        time.sleep(0.2)
        run.save(b"kept")
        run.report(accuracy=0.5)


def test_only_clients_with_the_key_connect_and_only_the_owner_reads_the_files(home):
    study = make(slow, name="shut", max_epochs=1000, deadline="10min").start()
    try:
        until(lambda: study.state.trials and any(t.curve for t in study.state.trials.values()), "a report")
        listening = ports(study)
        assert listening
        for host, port in listening:
            assert host == "127.0.0.1"
            # At most that there is no such page, or the alert of TLS.
            assert answer(port, None)[:12] in {b"", b"HTTP/1.1 404"}
            assert answer(port, Security.temporary()) == b""
        assert study.status == "running", study.reason
    finally:
        study.stop()
        study.wait()
    assert list(study.folder.glob("checkpoints/*/*.pt"))
    for path in (study.folder, *study.folder.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    layout.check_signatures(study.folder)
