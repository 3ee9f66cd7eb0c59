"""Invalid arguments of DaskCluster, and clients that its server refuses."""

import multiprocessing
import os
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Client
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed import LocalCluster

import seer_nb as seer
from seer_nb.providers.dask import rpc
from seer_nb.providers.dask.rpc import ControllerServer, Endpoint, SocketChannel, get_server
from tests.providers import clusters
from tests.support.waiting import until

THREADS = (
    "the Dask cluster's workers have 2 threads each, but a worker trains one trial at a time: "
    "give them one thread (threads_per_worker=1, or cores=1)"
)


def refused(cluster, error=ValueError, **changes):
    with pytest.raises(error) as caught:
        seer.DaskCluster(cluster, **{"price_per_worker_hour": 0.1, "max_workers": 2, **changes})
    return str(caught.value)


def test_unusable_clusters_are_refused():
    quiet = {"n_workers": 0, "dashboard_address": None}
    with LocalCluster(threads_per_worker=2, **quiet) as cluster:
        assert refused(cluster).startswith(f"cluster=LocalCluster({cluster.name}, ")
        assert refused(cluster).endswith(f": cannot be used; {THREADS}")
    with LocalCluster(processes=False, threads_per_worker=1, **quiet) as cluster:
        assert "which other processes cannot reach: make the cluster with processes=True" in refused(cluster)
    with clusters.local() as cluster:
        adaptive = cluster.adapt(minimum=0, maximum=2)
        assert "scales itself, but the study decides on its workers: do not call adapt()" in refused(cluster)
        adaptive.stop()
        cluster.new_spec = {**cluster.new_spec, "group": ["-0", "-1"]}
        assert "starts 2 workers at a time, but the study terminates single ones: configure it to start one" in refused(
            cluster
        )


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        (
            {"cluster": 3},
            TypeError,
            "cluster=3: not a Dask cluster; expected one, or a function without arguments that",
        ),
        ({"max_workers": 0}, ValueError, "max_workers=0: not a number of workers; expected an integer >= 1"),
        (
            {"gpus_per_worker": -1},
            ValueError,
            "gpus_per_worker=-1: not a number of GPUs; expected an integer",
        ),
        ({"price_per_worker_hour": "much"}, ValueError, "price_per_worker_hour='much': not an amount of money"),
        ({"boot_time": 0}, ValueError, "boot_time=0: not more than 0 seconds"),
    ],
)
def test_invalid_arguments_are_named_in_the_message(changes, error, sentence):
    given = {"cluster": clusters.local, **changes}
    assert refused(given.pop("cluster"), error, **given).startswith(sentence)


def test_workers_on_other_computers_need_a_reachable_store(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    provider = seer.DaskCluster(clusters.local, 0.1, max_workers=2)
    study = {"metric": "m", "mode": "max", "max_epochs": 1, "deadline": "10min", "budget": "$1", "provider": provider}
    with pytest.raises(ValueError, match=r"machines of DaskCluster\(local, .*\) cannot reach; expected the URL"):
        seer.Study(lambda config, run: None, {"x": seer.uniform(0, 1)}, **study)


def test_a_cluster_whose_workers_are_up_allows_a_short_deadline(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    study = {"metric": "m", "mode": "max", "max_epochs": 1, "budget": "$1"}
    train, space = (lambda config, run: None), {"x": seer.uniform(0, 1)}
    with clusters.local(2) as cluster:
        present, more = (seer.DaskCluster(cluster, 0.1, max_workers=n, shares_files=True) for n in (2, 3))
        seer.Study(train, space, **study, deadline="7s", provider=present)
        seer.Study(train, space, **study, deadline="16s", provider=more)
        with pytest.raises(ValueError, match=r"takes about 15 s to boot, start and terminate"):
            seer.Study(train, space, **study, deadline="14s", provider=more)


def test_clients_without_the_key_are_refused():
    with clusters.local() as cluster:
        server = ControllerServer(cluster)
        folder = Path(server.endpoint.address).parent
        assert folder.stat().st_mode & 0o777 == 0o700, "other users of this computer must not reach the socket"
        assert len(server.endpoint.key) == 32
        assert repr(server.endpoint) == f"Endpoint({server.endpoint.address!r})"
        for key in (b"", b"guessed", bytes(32)):
            with pytest.raises((multiprocessing.AuthenticationError, EOFError, OSError)):
                Client(server.endpoint.address, authkey=key)
        # With the key a client is admitted, also after the failed attempts.
        connection, info = SocketChannel(server.endpoint).acquire(30.0)
        assert info.address == cluster.scheduler_address
        connection.close()


class IdleCluster:
    """A cluster without workers."""

    status = "running"


@pytest.fixture
def server(monkeypatch):
    """The server of an idle cluster; its controller returns the name of the method that is called."""

    def call(method, *_, **__):
        future = Future()
        future.set_result(method)
        return future

    monkeypatch.setattr(rpc, "POLL_S", 0.05)
    monkeypatch.setattr(rpc, "ClusterController", lambda *_, **__: SimpleNamespace(call=call))
    cluster = IdleCluster()
    made = ControllerServer(cluster)
    folder = Path(made.endpoint.address).parent
    yield made
    cluster.status = "closed"
    until(lambda: not folder.exists(), "the end of the server and its folder")


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\x10hello"], ids=["nothing", "half a header", "half a message"])
def test_silent_client_does_not_block_other_clients(server, sent):
    """Guards against workers of a paid cluster that are not terminated at the study's limits."""
    with Client(server.endpoint.address) as silent_client:
        os.write(silent_client.fileno(), sent)
        with ThreadPoolExecutor() as executor:
            calls = [executor.submit(SocketChannel(server.endpoint).request, "end_worker") for _ in range(3)]
            try:
                assert [answer.result(10) for answer in calls] == ["end_worker"] * 3
            finally:
                silent_client.close()  # otherwise the other clients might wait without end


def test_call_of_a_hung_process_times_out(monkeypatch, tmp_path):
    monkeypatch.setattr(rpc, "CALL_TIMEOUT_S", 0.1)
    monkeypatch.setattr(rpc, "LEAVE_TIMEOUT_S", 0.1)
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "controller"))
        hung.listen()
        with pytest.raises(TimeoutError, match="the notebook's process did not answer 'end_worker'"):
            SocketChannel(Endpoint(str(tmp_path / "controller"), bytes(32))).request("end_worker")


def test_temporary_folder_may_have_a_long_name(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 100)))
    made = rpc.make_socket_folder()
    assert len(str(made)) < 100
    made.rmdir()


def test_only_one_study_at_a_time_uses_a_cluster():
    with clusters.local() as cluster:
        server = get_server(cluster)
        assert get_server(cluster) is server
        first, _ = SocketChannel(server.endpoint).acquire(30.0)
        with pytest.raises(seer.SeerError, match="another study uses the Dask cluster: give each study a cluster"):
            SocketChannel(server.endpoint).acquire(0.2)
        first.close()
        second, _ = SocketChannel(server.endpoint).acquire(30.0)
        second.close()
