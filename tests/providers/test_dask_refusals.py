"""What a DaskCluster does not take, and whom it does not let in."""

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
from seer_nb.providers.dask.rpc import ControllerServer, Endpoint, SocketChannel, desk_of
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


def test_a_cluster_that_a_study_cannot_use():
    quiet = {"n_workers": 0, "dashboard_address": None}
    with LocalCluster(threads_per_worker=2, **quiet) as cluster:
        assert refused(cluster).startswith(f"cluster=LocalCluster({cluster.name}, ")
        assert refused(cluster).endswith(f" cannot be used: {THREADS}")
    with LocalCluster(processes=False, threads_per_worker=1, **quiet) as cluster:
        assert "where no other process can reach it: make it with processes=True" in refused(cluster)
    with clusters.local() as cluster:
        cluster.adapt(minimum=0, maximum=2)
        assert "adapts by itself, but the study decides on its workers: do not call adapt()" in refused(cluster)
        cluster._adaptive.stop()
        cluster.new_spec = {**cluster.new_spec, "group": ["-0", "-1"]}
        assert "starts 2 workers at a time, but the study ends single ones: have it start one" in refused(cluster)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        (
            {"cluster": 3},
            TypeError,
            "cluster=3 is no Dask cluster: give one, or a function without arguments that",
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
def test_bad_input_is_refused_in_a_sentence(changes, error, sentence):
    given = {"cluster": clusters.local, **changes}
    assert refused(given.pop("cluster"), error, **given).startswith(sentence)


def test_workers_elsewhere_need_a_store_that_they_reach(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    provider = seer.DaskCluster(clusters.local, 0.1, max_workers=2)
    study = {"metric": "m", "mode": "max", "max_epochs": 1, "deadline": "10min", "budget": "$1", "provider": provider}
    with pytest.raises(ValueError, match=r"machines of DaskCluster\(local, .*\) cannot reach: give the URL"):
        seer.Study(lambda config, run: None, {"x": seer.uniform(0, 1)}, **study)


def test_nobody_gets_in_without_the_key():
    with clusters.local() as cluster:
        desk = ControllerServer(cluster)
        folder = Path(desk.door.address).parent
        assert folder.stat().st_mode & 0o777 == 0o700, "other users of this computer cannot even knock"
        assert len(desk.door.key) == 32
        assert repr(desk.door) == f"Door({desk.door.address!r})"
        for key in (b"", b"guessed", bytes(32)):
            with pytest.raises((multiprocessing.AuthenticationError, EOFError, OSError)):
                Client(desk.door.address, authkey=key)
        # Whoever knows it still does.
        held, facts = SocketChannel(desk.door)._hold(30.0)
        assert facts.address == cluster.scheduler_address
        held.close()


class Idle:
    """A cluster that does nothing."""

    status = "running"


@pytest.fixture
def desk(monkeypatch):
    """Of an idle cluster; its hand gives back what it is asked."""

    def call(method, *_, **__):
        told = Future()
        told.set_result(method)
        return told

    monkeypatch.setattr(rpc, "LOOK_S", 0.05)
    monkeypatch.setattr(rpc, "Hand", lambda *_, **__: SimpleNamespace(call=call))
    cluster = Idle()
    made = ControllerServer(cluster)
    folder = Path(made.door.address).parent
    yield made
    cluster.status = "closed"
    until(lambda: not folder.exists(), "the end of the desk with all that it has made")


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\x10hello"], ids=["nothing", "a begun word", "half a word"])
def test_who_comes_and_says_no_more_keeps_nobody_from_being_answered(desk, said):
    """Workers of a paid cluster would not be ended at the limits."""
    with Client(desk.door.address) as stranger:
        os.write(stranger.fileno(), said)
        with ThreadPoolExecutor() as others:
            asked = [others.submit(SocketChannel(desk.door)._ask, "end", (), {}) for _ in range(3)]
            try:
                assert [answer.result(10) for answer in asked] == ["end"] * 3
            finally:
                stranger.close()  # or those that still wait would wait for ever


def test_a_process_that_hangs_is_not_waited_for_for_ever(monkeypatch, tmp_path):
    monkeypatch.setattr(rpc, "ANSWER_S", 0.1)
    monkeypatch.setattr(rpc, "LEAVES_S", 0.1)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "desk"))
        deaf.listen()
        with pytest.raises(TimeoutError, match="the notebook's process did not answer 'end'"):
            SocketChannel(Endpoint(str(tmp_path / "desk"), bytes(32)))._ask("end", (), {})


def test_a_folder_for_temporary_files_may_have_a_long_name(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 100)))
    made = rpc.folder()
    assert len(str(made)) < 100
    made.rmdir()


def test_one_study_at_a_time_holds_a_cluster():
    with clusters.local() as cluster:
        desk = desk_of(cluster)
        assert desk_of(cluster) is desk
        held, _ = SocketChannel(desk.door)._hold(30.0)
        with pytest.raises(seer.SeerError, match="another study holds the Dask cluster: give each study one"):
            SocketChannel(desk.door)._hold(0.2)
        held.close()
        again, _ = SocketChannel(desk.door)._hold(30.0)
        again.close()
