"""Fuzzing of checkpoints, curve tables and user data: damaged or foreign files."""

import io
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import seer_nb as seer
from seer_nb.simulate import CurveTable
from seer_nb.storage import checkpoints
from seer_nb.testing.loopback import user_data
from tests.fuzz.test_journals import DAMAGES, damaged
from tests.support.fuzzing import examples, refusal

pytestmark = pytest.mark.slow

PATH = checkpoints.file_path(3, 12, 5)
WEIGHTS = torch.arange(300.0)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "3").mkdir()
    return tmp_path


# --- checkpoints ---


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    objects = [{"w": WEIGHTS}, {"step": 3}]
    payload = {"format": 1, "trial": 3, "epoch": 12, "objects": objects, "state": {"a": [1, "b"]}, "saved": None}
    checkpoints.save(str(folder), PATH, payload)
    return (folder / PATH).read_bytes()


@examples(200)
@given(DAMAGES)
def test_damaged_checkpoint_is_rejected_or_unchanged(store, whole, damages):
    (store / PATH).write_bytes(damaged(whole, damages))
    with refusal(seer.CheckpointError):
        found = checkpoints.load(str(store), PATH)
        assert torch.equal(found["objects"][0]["w"], WEIGHTS)
        assert (found["trial"], found["epoch"], found["state"]) == (3, 12, {"a": [1, "b"]})


@examples(100)
@given(st.binary(max_size=200))
def test_random_bytes_are_not_a_checkpoint(store, content):
    (store / PATH).write_bytes(content)
    with refusal(seer.CheckpointError):
        checkpoints.load(str(store), PATH)
        raise AssertionError


@examples(150)
@given(
    st.binary(max_size=60),
    st.sampled_from(["archive/data.pkl", "data.pkl", "../data.pkl", "a/version", "a\n/data.pkl"]),
)
def test_foreign_archive_is_not_a_checkpoint(store, content, name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    (store / PATH).write_bytes(buffer.getvalue())
    with refusal(seer.CheckpointError):
        checkpoints.load(str(store), PATH)


class Bomb:
    """Object that runs code when it is unpickled."""

    run = []  # noqa: RUF012

    def __reduce__(self):
        return Bomb.run.append, (1,)


@pytest.mark.parametrize("protocol", [2, 4])
def test_loading_a_checkpoint_runs_no_code(store, protocol):
    for content in (Bomb(), {"format": 1, "trial": 3, "epoch": 12, "objects": [Bomb()], "state": {}, "saved": None}):
        torch.save(content, store / PATH, pickle_protocol=protocol)
        with refusal(seer.CheckpointError):
            checkpoints.load(str(store), PATH)
            raise AssertionError
        (store / PATH).write_bytes(pickle.dumps(content, protocol))
        with refusal(seer.CheckpointError):
            checkpoints.load(str(store), PATH)
            raise AssertionError
    assert Bomb.run == []


@pytest.mark.parametrize("change", [{"trial": "3"}, {"epoch": None}, {"objects": 3}, {"state": []}, {"saved": b""}])
def test_checkpoint_with_other_contents_is_rejected(store, change):
    payload = {"format": 1, "trial": 3, "epoch": 12, "objects": [], "state": {}, "saved": None}
    torch.save({**payload, **change}, store / PATH)
    with pytest.raises(seer.CheckpointError, match=r"is not a checkpoint of seer_nb in format 1$"):
        checkpoints.load(str(store), PATH)


def test_decompression_bomb_in_a_checkpoint_is_rejected(store):
    with zipfile.ZipFile(store / PATH, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    with pytest.raises(seer.CheckpointError, match=r"is damaged: its part 'archive/data.pkl' is compressed$"):
        checkpoints.load(str(store), PATH)


@pytest.mark.parametrize("path", ["../victim", "/etc/passwd", "3/../../victim", "a\0b", "s3://other/file"])
def test_checkpoint_paths_outside_the_store_are_rejected(store, path):
    """Paths come from the journal, which may be foreign, and the runner removes them."""
    victim = store.parent / "victim"
    victim.write_text("mine")
    for act in (lambda: checkpoints.load(str(store), path), lambda: checkpoints.remove(str(store), [path])):
        with pytest.raises(seer.CheckpointError, match=r"is outside of its store$"):
            act()
    assert victim.read_text() == "mine"
    victim.unlink()


# --- tables of curves ---

CELL = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=6),
    st.none(),
    st.booleans(),
    st.sampled_from(["nan", "inf", "-inf", "1e999", "0x10", "=1+1", "<script>", "1,2", '"', "\n", 10**18, 2**31]),
)
COLUMN = st.sampled_from(
    ["trial", "epoch", "value", "test_value", "epoch_seconds", "config_lr", "config_", "x", "config_a\nb"]
)


@pytest.fixture(scope="module")
def frame():
    rows = [(trial, epoch, 0.1 * trial + epoch, 1.0, 0.1) for trial in range(3) for epoch in range(1, 4)]
    return pd.DataFrame(rows, columns=["trial", "epoch", "value", "epoch_seconds", "config_lr"])


def read(path):
    with refusal(ValueError):
        table = CurveTable.read(path, mode="min")
        assert len(table) >= 1
        assert np.isfinite(table.best)
        table.features  # noqa: B018
        table.to_frame()


@examples(150)
@given(st.data())
def test_csv_file_with_random_cells(tmp_path, frame, data):
    changed = frame.astype(object)
    for _ in range(data.draw(st.integers(1, 4))):
        column = data.draw(COLUMN)
        if column not in changed or data.draw(st.integers(0, 5)) == 0:
            changed[column] = pd.Series([data.draw(CELL) for _ in range(len(changed))], dtype=object)
        else:
            changed.loc[data.draw(st.integers(0, len(changed) - 1)), column] = data.draw(CELL)
    path = tmp_path / "curves.csv"
    path.write_text(changed.to_csv(index=False), encoding="utf-8", errors="surrogatepass")
    read(path)


@examples(150)
@given(st.one_of(st.binary(max_size=200), st.text(st.sampled_from('trialepochvalue,0123456789.\n"\0-'), max_size=200)))
def test_random_csv_file(tmp_path, content):
    path = tmp_path / "curves.csv"
    path.write_bytes(content if isinstance(content, bytes) else b"trial,epoch,value\n" + content.encode())
    read(path)


@examples(100)
@given(DAMAGES)
def test_damaged_parquet_file(tmp_path, frame, damages):
    path = tmp_path / "curves.parquet"
    frame.to_parquet(path)
    path.write_bytes(damaged(path.read_bytes(), damages))
    read(path)


def test_huge_epoch_number_is_rejected_without_filling_memory(tmp_path):
    path = tmp_path / "curves.csv"
    path.write_text("trial,epoch,value\n0,1000000000000,1\n")
    with pytest.raises(ValueError, match=r"the epochs of trial 0 have gaps; expected 1, 2, 3, ..."):
        CurveTable.read(path, mode="min")


def test_missing_table_is_reported(tmp_path):
    with pytest.raises((OSError, ValueError)):
        CurveTable.read(tmp_path / "none.csv", mode="min")


# --- user data of machines ---

YAML = st.text(st.sampled_from("runcmd:[]{}- \n'\"&*!|>abc#%@0\t"), max_size=80)


@examples(300)
@given(
    st.one_of(
        st.binary(max_size=100),
        st.builds(lambda text: b"#cloud-config\n" + text.encode(), YAML),
        st.builds(lambda text: b"#cloud-config\nruncmd:\n - " + text.encode(), YAML),
        st.builds(lambda text: b"\x1f\x8b" + text, st.binary(max_size=60)),
        st.builds(lambda text: b"#!" + text, st.binary(max_size=60)),
    )
)
def test_random_user_data_is_parsed_or_rejected(data):
    with refusal(ValueError):
        boot = user_data.parse(data)
        assert boot.script.startswith("#!")


@pytest.mark.parametrize(
    "data",
    [
        b"#cloud-config\n!!python/object/apply:os.system ['touch /tmp/owned']",
        b"#cloud-config\nruncmd: !!python/name:os.system",
        b"#cloud-config\nruncmd: 3",
        b"#cloud-config\n" + b"[" * 5000,
        b"#cloud-config\na: &a [x]\n" + b"".join(b"a%d: &b%d [*a,*a]\n" % (i, i) for i in range(3)),
    ],
)
def test_hostile_user_data_runs_no_code_and_terminates(data):
    with refusal(ValueError):
        user_data.parse(data)


def test_decompression_bomb_in_user_data_is_rejected():
    import gzip

    with pytest.raises(ValueError, match="user data"):
        user_data.parse(gzip.compress(bytes(10**8)))
