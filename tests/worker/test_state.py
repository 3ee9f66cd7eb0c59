# ruff: noqa: NPY002
"""State that a training function keeps from one gang of its trial to the next."""

import random
import re
import threading
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from seer_nb.core import Reported
from seer_nb.storage import checkpoints
from seer_nb.worker.checkpointing import CheckpointInterval


def resume(gangs, train, last, **changes):
    return gangs.alone(train, from_epoch=last.epoch, checkpoint=last.checkpoint, **{"until": last.epoch + 1} | changes)


def last_line(sent, outcome="failed"):
    assert sent.end.outcome == outcome
    return sent.end.error.strip().splitlines()[-1]


def preparing(*sizes, state=None):
    def train(config, run):
        run.state.update(state or {})
        for size in sizes:
            run.prepare(nn.Linear(size, 1))
        for epoch in run.epochs():
            run.report(accuracy=epoch)

    return train


def test_bytes_and_values_are_restored(gangs):
    def train(config, run):
        seen = run.saved, dict(run.state)
        for epoch in run.epochs():
            run.save(b"epoch %d" % epoch)
            run.state["sums"] = [*run.state.get("sums", []), np.float64(epoch)]
            run.state["tensor"] = torch.arange(10)[epoch:][:1]
            run.report(accuracy=0)
        config["seen"] = seen

    config = {}
    sent = gangs.alone(train, config=config, until=2)
    assert sent.end.error == ""
    assert config["seen"] == (None, {})
    assert [r.checkpoint for r in sent.reports][-1] == "7/000002-g1.pt"
    sent = resume(gangs, train, sent.reports[-1], config=config)
    assert [r.epoch for r in sent.reports] == [3]
    assert config["seen"] == (b"epoch 2", {"sums": [1.0, 2.0], "tensor": torch.tensor([2])})
    payload = checkpoints.load(str(gangs.store), sent.reports[-1].checkpoint)
    assert payload["state"]["sums"] == [1, 2, 3]
    assert (payload["format"], payload["trial"], payload["epoch"], payload["objects"]) == (1, 7, 3, [])
    assert payload["saved"].dtype is torch.uint8


def test_empty_bytes_are_restored(gangs):
    def train(config, run):
        assert run.saved in {None, b""}
        run.save(b"")
        run.report(accuracy=0)

    sent = gangs.alone(train, until=1)
    assert resume(gangs, train, sent.reports[0]).end.outcome == "target"


def test_prepared_objects_are_restored(gangs):
    def train(config, run):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        optimizer = torch.optim.Adam(model.parameters())
        # The order of the arguments is free.
        optimizer, model = run.prepare(optimizer, model)
        plateau = run.prepare(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer))
        config["found"] = model[1].num_batches_tracked.item(), len(optimizer.state), plateau.best
        for _ in run.epochs():
            model(torch.randn(8, 3)).sum().backward()
            optimizer.step()
            plateau.step(np.float64(0.25))
            run.report(accuracy=0)

    config = {}
    sent = gangs.alone(train, config=config, until=2)
    assert config["found"] == (0, 0, np.inf)
    assert resume(gangs, train, sent.reports[-1], config=config).end.error == ""
    assert config["found"] == (2, 4, 0.25)


def test_a_plain_loop_continues_after_the_checkpoint(gangs):
    def train(config, run):
        run.prepare(nn.Linear(1, 1))
        for _ in range(27):
            run.report(accuracy=run.epoch)

    sent = gangs.alone(train, until=2)
    sent = resume(gangs, train, sent.reports[-1], until=4)
    assert [r.epoch for r in sent.reports] == [3, 4]


def test_random_generators_start_alike_in_every_gang(gangs):
    def train(config, run):
        config["drawn"] = random.random(), np.random.random(), torch.rand(1).item()
        for epoch in run.epochs():
            config[epoch] = random.random(), np.random.random(), torch.rand(1).item()
            run.report(accuracy=0)

    first, second, other = {}, {}, {}
    gangs.alone(train, config=first)
    gangs.alone(train, config=second)
    gangs.alone(train, config=other, seed=1)
    assert first == second
    assert len({*first.values(), *other.values()}) == 8


SAME = "expected the same objects in the same order in every call of the training function"


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (preparing(2), f"run.prepare() was given 1 objects, but the checkpoint holds 2; {SAME}"),
        (preparing(2, 2, 2), f"run.prepare() was given 3 objects, but the checkpoint holds 2; {SAME}"),
        (
            preparing(2, 3),
            (
                "the checkpoint does not fit object 1 of run.prepare() (of type Linear): Error(s) in loading state_dict"
                " for Linear: size mismatch for weight: copying a param with shape torch.Size([1, 2]) from checkpoint, "
                "the shape in current model is torch.Size([1, 3])."
            ),
        ),
    ],
)
def test_other_objects_than_in_the_checkpoint_are_an_error(gangs, later, message):
    sent = gangs.alone(preparing(2, 2), until=1)
    assert last_line(resume(gangs, later, sent.reports[0])) == f"seer_nb.errors.CheckpointError: {message}"


def test_trial_and_epoch_of_a_checkpoint_are_verified(gangs):
    train = preparing(2)
    report = gangs.alone(train, until=1).reports[0]
    sent = gangs.alone(train, from_epoch=2, checkpoint=report.checkpoint)
    assert not sent.reports
    assert sent.end.error == (
        "seer_nb.errors.DamagedCheckpointError: the checkpoint 7/000001-g1.pt holds trial 7 at epoch 1, but trial 7 at "
        "epoch 2 was recorded\n"
    )
    sent = gangs.alone(train, from_epoch=1, checkpoint=report.checkpoint, trial=8)
    assert last_line(sent, "damaged").endswith("holds trial 7 at epoch 1, but trial 8 at epoch 1 was recorded")
    sent = gangs.alone(train, from_epoch=1, checkpoint=None)
    assert last_line(sent, "damaged").endswith(
        "trial 7 at epoch 1 was to be resumed, but no checkpoint of it is recorded"
    )
    sent = gangs.alone(train, from_epoch=1, checkpoint="7/x.pt")
    assert (
        last_line(sent, "damaged")
        == f"seer_nb.errors.DamagedCheckpointError: the checkpoint {gangs.store}/7/x.pt is missing"
    )


def make_unavailable(folder):
    """Make a store unavailable by a file in place of its folder; returns where the folder is kept."""
    kept = folder.with_name("kept")
    folder.rename(kept)
    folder.write_text("not a folder")
    return kept


def make_available(folder, kept):
    folder.unlink()
    kept.rename(folder)


def counting(config, run):
    for epoch in run.epochs():
        run.state["epoch"] = epoch
        run.report(accuracy=epoch)


def test_no_epoch_is_lost_while_the_store_is_unavailable_for_a_while(gangs):
    kept = []

    def hook(report, signals):
        if isinstance(report, Reported) and report.epoch == 1:
            kept.append(make_unavailable(gangs.store))
        elif isinstance(report, Reported) and report.epoch == 2:
            threading.Timer(0.5, make_available, (gangs.store, kept[0])).start()

    sent = gangs.alone(counting, until=3, hook=hook)
    assert [bool(report.checkpoint) for report in sent.reports] == [True, False, True]
    assert sent.end.outcome == "target"
    assert checkpoints.load(str(gangs.store), sent.reports[2].checkpoint)["state"] == {"epoch": 3}


def test_an_unavailable_store_loses_the_gang_but_not_the_trial(gangs):
    def hook(report, signals):
        if isinstance(report, Reported) and report.epoch == 1:
            make_unavailable(gangs.store)

    sent = gangs.alone(counting, until=2, hook=hook)
    assert [report.epoch for report in sent.reports] == [1]
    assert last_line(sent, "lost").startswith("seer_nb.errors.StoreError: the store was unusable for 1 s: ")


def test_a_gang_waits_for_a_store_that_is_unavailable_at_its_start(gangs):
    report = gangs.alone(counting, until=1).reports[0]
    kept = make_unavailable(gangs.store)
    threading.Timer(0.5, make_available, (gangs.store, kept)).start()
    sent = gangs.alone(counting, until=2, from_epoch=1, checkpoint=report.checkpoint)
    assert [report.epoch for report in sent.reports] == [2]


HOLDS = "None, bool, int, float, complex, str, bytes, torch.Tensor, and lists, tuples, sets and dicts of them"


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ({"a": object()}, "run.state['a'] is of type object"),
        ({"a": {"b": [1, np.ones(2)]}}, "run.state['a']['b'][1] is of type numpy.ndarray"),
    ],
)
def test_the_error_names_a_value_that_a_checkpoint_cannot_hold(gangs, state, what):
    sent = gangs.alone(preparing(2, state=state))
    assert last_line(sent) == f"TypeError: {what}, which a checkpoint cannot hold; expected {HOLDS}"


class Subclass(torch.Tensor):
    """A tensor that weights_only does not load."""


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (torch.masked.masked_tensor(torch.ones(1), torch.tensor([True])), "of type torch.masked.maskedtensor"),
        (torch.ones(1).as_subclass(Subclass), f"of type {__name__}.Subclass"),
        (nn.UninitializedParameter(), "of type torch.nn.parameter.UninitializedParameter"),
        (torch.ones(1, device="meta"), "a tensor on the meta device"),
        (torch.empty(2, dtype=torch.int4), "a tensor of torch.int4"),
        (torch.ones(2, 2).to_mkldnn(), "a tensor of torch.float32 in layout torch._mkldnn"),
        (np.longdouble(1), "of type numpy.longdouble"),
        (np.datetime64("2020-01-01", "ns"), "of type numpy.datetime64"),
        (2**5000, "an int of 5001 bits"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_could_not_be_loaded_is_refused(gangs, value, what):
    """A checkpoint that does not load would restart the trial at epoch 1."""

    def train(config, run):
        if config["in_module"]:
            model = nn.Linear(1, 1)
            model.register_buffer("value", value)
            run.prepare(model)
        else:
            run.state["value"] = value
        run.report(accuracy=1)

    assert last_line(gangs.alone(train, config={"in_module": False})).startswith(
        f"TypeError: run.state['value'] is {what}"
    )
    if type(value) in {Subclass, torch.masked.MaskedTensor}:
        name = "the state_dict of object 0 of run.prepare() (of type Linear)['value']"
        assert last_line(gangs.alone(train, config={"in_module": True})).startswith(f"TypeError: {name} is {what}")


def rare_tensors():
    """Return tensors of kinds that torch stores and loads, but does not support everywhere."""
    matrix = torch.eye(4)
    return {
        "coo": matrix.to_sparse(),
        "csr": matrix.to_sparse_csr(),
        "csc": matrix.to_sparse_csc(),
        "bsr": matrix.to_sparse_bsr((2, 2)),
        "bsc": matrix.to_sparse_bsc((2, 2)),
        "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "complex": torch.tensor([1 + 2j]).conj(),
        "half_complex": torch.ones(2, dtype=torch.complex32),
        "float8": torch.ones(2).to(torch.float8_e4m3fn),
        "uint16": torch.ones(2, dtype=torch.uint16),
        "int16": torch.ones(2, dtype=torch.int16),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "jagged": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        "parameter": nn.Parameter(torch.ones(2)),
        "view": torch.arange(4)[1:2].expand(3),
    }


@pytest.mark.filterwarnings("ignore")
def test_rare_tensors_are_restored(gangs):
    def train(config, run):
        config["seen"] = repr(run.state)
        run.state.update(rare_tensors())
        run.report(accuracy=1)

    config = {}
    sent = gangs.alone(train, until=1, config=config)
    assert sent.end.error == ""
    assert resume(gangs, train, sent.reports[-1], config=config).end.error == ""
    expected = repr({name: tensor.detach() for name, tensor in rare_tensors().items()})
    # Each ragged dimension has a number of its own.
    assert re.sub(r"j\d+", "j", config["seen"]) == re.sub(r"j\d+", "j", expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(rare_tensors().keys() - {"parameter", "view"}))
def test_a_gang_trains_a_module_with_a_rare_buffer(gangs, name):
    """DDP cannot broadcast sparse tensors, nor those of every dtype."""

    def train(config, run):
        model = nn.Linear(1, 1)
        model.register_buffer("rare", rare_tensors()[name])
        run.prepare(model)
        run.report(accuracy=1)

    sent = gangs.pair(train, until=1)
    assert [member.end.error for member in sent] == ["", ""]
    if name not in {"csc", "bsr", "bsc", "nested", "jagged"}:  # torch cannot copy them into a buffer
        last = sent[0].reports[-1]
        for member in gangs.pair(train, until=2, from_epoch=1, checkpoint=last.checkpoint):
            assert member.end.error == ""


def test_objects_without_state_are_an_error(gangs):
    def train(config, run):
        run.prepare(config["given"])

    def message(given):
        return last_line(gangs.alone(train, config={"given": given}))

    start = "TypeError: run.prepare() got an object of type"
    end = "expected objects with state_dict() and load_state_dict()"
    assert message(3) == f"{start} int; {end}"
    data = torch.utils.data.TensorDataset(torch.ones(1))
    assert message(data) == f"{start} TensorDataset; {end}; data goes through run.loader()"

    def saves(config, run):
        run.save("text")

    assert last_line(gangs.alone(saves)) == "TypeError: run.save() got an object of type str; expected bytes"


def test_the_metadata_of_a_state_dict_is_kept():
    from seer_nb.worker.prepare import storable

    state = nn.BatchNorm1d(2).state_dict()
    copy = storable(state, "it")
    assert type(copy) is OrderedDict
    assert vars(copy) == vars(state)


def test_cheap_checkpoints_are_stored_often():
    interval = CheckpointInterval()
    assert interval.due(1.0)
    interval.stored(0.05)
    assert interval.due(1.0)
    interval.stored(0.2)
    # The faster one counts: 0.05 s to store, 0.02 s allowed per epoch of 0.4 s, so every third epoch.
    assert [interval.due(0.4) for _ in range(3)] == [False, False, True]
    interval.stored(0.2)
    assert not interval.due(0.0)


def test_a_slow_first_checkpoint_does_not_leave_many_epochs_unstored():
    interval = CheckpointInterval()
    assert interval.due(0.4)
    interval.stored(0.7)  # clients were created and modules imported
    assert [interval.due(0.4) for _ in range(2)] == [False, True], "as much training as it took, not twenty times that"
    interval.stored(0.02)
    assert interval.due(0.4)
    interval = CheckpointInterval()
    assert interval.due(0.4)
    interval.stored(0.7)
    assert [interval.due(0.4) for _ in range(2)] == [False, True]
    interval.stored(0.7)  # so storing is expensive
    assert [interval.due(0.4) for _ in range(35)] == [False] * 34 + [True]


def test_expensive_checkpoints_are_stored_at_the_end(gangs):
    def train(config, run):
        run.prepare(nn.Linear(300, 1000))
        for _ in run.epochs():
            run.report(accuracy=1)

    reports, _ = gangs.alone(train, until=20)
    stored = [r.epoch for r in reports if r.checkpoint]
    assert stored[0] == 1
    assert stored[-1] == 20
    assert len(stored) < 20
    assert all(r.checkpoint is None and r.save_s == 0 for r in reports if r.epoch not in stored)
    assert all(r.save_s > 0 for r in reports if r.epoch in stored)
