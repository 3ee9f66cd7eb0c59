"""Checkpoints are whole or absent, and damage is noticed."""

import contextlib
import re
import uuid
import zipfile

import pytest
import torch

from seer_nb.errors import CheckpointError
from seer_nb.storage import checkpoints, object_store

PATH = checkpoints.file_path(3, 12, 5)


def payload(**more):
    return {"format": 1, "trial": 3, "epoch": 12, "objects": [{"w": torch.arange(1000.0)}], "state": {}, **more}


@pytest.fixture(params=["path", "file", "memory", "plain"])
def store(request, tmp_path, monkeypatch):
    """A plain folder, its URL, an object store, and a filesystem of fsspec in which writing is not atomic."""
    if request.param == "plain":
        monkeypatch.setattr(checkpoints, "ATOMIC_PROTOCOLS", frozenset())
        monkeypatch.setattr(object_store, "local_folder", lambda store: None)
    return {
        "path": str(tmp_path / "store"),
        "file": f"file://{tmp_path}/store/",
        "memory": f"memory://{uuid.uuid4()}",
        "plain": f"file://{tmp_path}",
    }[request.param]


def test_the_name_of_a_checkpoint_holds_trial_epoch_and_gang():
    assert PATH == "3/000012-g5.pt"


def test_save_load_remove(store):
    checkpoints.save(store, PATH, payload())
    checkpoints.save(store, PATH, payload(saved=torch.tensor([1], dtype=torch.uint8)))
    found = checkpoints.load(store, PATH)
    assert found["objects"][0]["w"].tolist() == list(range(1000))
    assert found["saved"].tolist() == [1]
    checkpoints.remove(store, [PATH, "3/other.pt", "9/none.pt"])
    sentence = f"the checkpoint {store.rstrip('/')}/{PATH} is missing"
    with pytest.raises(CheckpointError, match=f"^{re.escape(sentence)}$"):
        checkpoints.load(store, PATH)


def test_an_interrupted_save_leaves_no_file(tmp_path):
    with pytest.raises(Exception, match="pickle"):
        checkpoints.save(str(tmp_path), PATH, payload(bad=lambda: None))
    assert list((tmp_path / "3").iterdir()) == []
    checkpoints.save(str(tmp_path), PATH, payload())
    assert [file.name for file in (tmp_path / "3").iterdir()] == ["000012-g5.pt"]
    torch.load(tmp_path / PATH, weights_only=True)


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_truncated_file_is_damaged(tmp_path, keep):
    checkpoints.save(str(tmp_path), PATH, payload())
    file = tmp_path / PATH
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=rf"^the checkpoint {tmp_path}/{PATH} is damaged: "):
        checkpoints.load(str(tmp_path), PATH)


def test_a_flipped_bit_is_detected(tmp_path):
    checkpoints.save(str(tmp_path), PATH, payload())
    file = tmp_path / PATH
    data = bytearray(file.read_bytes())
    data[data.index(torch.arange(1000.0).numpy().tobytes()) + 100] ^= 1
    file.write_bytes(data)
    torch.load(file, weights_only=True)  # torch does not notice
    with pytest.raises(CheckpointError, match=r"is damaged: the checksum of its part .*data/0 is wrong$"):
        checkpoints.load(str(tmp_path), PATH)


def test_any_flipped_bit_in_the_archives_metadata_is_detected(tmp_path):
    """Guards against weights that are what torch's memory happened to hold: it reads nothing of what seems a folder."""
    checkpoints.save(str(tmp_path), PATH, payload())
    file = tmp_path / PATH
    whole = file.read_bytes()
    name = next(name for name in zipfile.ZipFile(file).namelist() if name.endswith("data/0")).encode()
    weights = torch.arange(1000.0)
    for start, end in ((whole.index(name) - 30, whole.index(name)), (whole.rindex(name) - 46, whole.rindex(name))):
        for bit in range(8 * start, 8 * end):
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            file.write_bytes(data)
            with contextlib.suppress(CheckpointError):
                assert checkpoints.load(str(tmp_path), PATH)["objects"][0]["w"].equal(weights), bit


def test_another_torch_file_is_not_a_checkpoint(tmp_path):
    (tmp_path / "3").mkdir()
    torch.save({"some": "thing"}, tmp_path / PATH)
    with pytest.raises(CheckpointError, match=f"^{tmp_path}/{PATH} is not a checkpoint of seer_nb in format 1$"):
        checkpoints.load(str(tmp_path), PATH)
    torch.save({1, (2).__class__, object}, tmp_path / PATH)
    with pytest.raises(
        CheckpointError, match=f"^the checkpoint {tmp_path}/{PATH} holds more than weights and plain values$"
    ):
        checkpoints.load(str(tmp_path), PATH)


def test_restore_loads_into_an_object_or_explains_why_not():
    model = torch.nn.Linear(2, 1)
    state = {"weight": torch.ones(1, 2), "bias": torch.ones(1)}
    checkpoints.restore(model, state)
    assert model.bias.item() == 1
    with pytest.raises(CheckpointError, match=r"^the checkpoint does not fit this Linear: .*size mismatch for weight"):
        checkpoints.restore(torch.nn.Linear(3, 1), state)
    with pytest.raises(TypeError, match=r"^3 \(a int\) has no load_state_dict: a checkpoint cannot be loaded into it$"):
        checkpoints.restore(3, state)
