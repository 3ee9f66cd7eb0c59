"""Store addresses may come from a foreign journal, so they must not execute code."""

import pytest

from seer_nb.errors import CheckpointError
from seer_nb.storage import checkpoints, object_store
from seer_nb.study.best import best_of
from tests.support.records import small_study
from tests.support.refusals import make

PATH = checkpoints.file_path(0, 1, 1)


@pytest.fixture
def trap():
    """Server that records who connects to it, and its port."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.0)
        yield server


def calls(server):
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize(
    "address",
    [
        "dask://127.0.0.1:{port}/x::file:///tmp/y",
        "dask://127.0.0.1:{port}/x",
        "http://127.0.0.1:{port}/x",
        "reference::file:///tmp/evil.json",
        "simplecache::s3://bucket/x",
        "jlab://127.0.0.1:{port}/x",
        "ftp://127.0.0.1:{port}/x",
        "file::dask://127.0.0.1:{port}/x",
        "nobodys://x",
    ],
)
def test_checkpoints_are_not_loaded_from_urls_that_could_run_code(address, trap):
    """Guards against code in a forged journal: fsspec's "dask" unpickles what a scheduler answers."""
    store = address.format(port=trap.getsockname()[1])
    with pytest.raises(CheckpointError, match="is not a store that only holds files"):
        checkpoints.load(store, PATH)
    with pytest.raises(ValueError, match="is not a store that only holds files"):
        checkpoints.list_stored(store, 0)
    assert not calls(trap)


def test_a_study_with_a_forged_store_can_be_read_and_connects_nowhere(trap, home):
    store = f"dask://127.0.0.1:{trap.getsockname()[1]}/x::file:///tmp/y"
    study = small_study(store=store)
    best = best_of(study.state)
    assert best is not None
    with pytest.raises(CheckpointError, match="is not a store that only holds files"):
        best.load(object())
    assert not calls(trap)


@pytest.mark.parametrize("store", ["s3://b/x", "gs://b", "az://b/x", "file:///x", "sftp://me@host/x", "/x", "a:b"])
def test_stores_that_only_hold_files_are_allowed(store):
    object_store.check_url(store)


def test_a_password_in_a_url_is_refused_and_not_shown(home):
    """Guards against credentials in outputs of a notebook: the address of the best checkpoint is one."""
    with pytest.raises(ValueError, match="holds a password") as raised:
        make(store="sftp://me:hunter2@host/x")
    assert "hunter2" not in str(raised.value)
    assert "sftp://***@host/x" in str(raised.value)
