# ruff: noqa: PLR0913
"""The samples that each member gets, and their order."""

from itertools import chain

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from seer_nb.worker.data_loader import Share, check_dataset, make_loader


def shares(length, batch, size, *, shuffle=True, drop_last=False, seed=0):
    """Return all members' batches of one epoch, as lists of indices."""
    found = []
    for rank in range(size):
        share = Share(length, batch, shuffle, drop_last, rank, size, lambda: seed)
        batches = [index.tolist() for index in share.indices()]
        assert len(batches) == len(share)
        found.append(batches)
    return found


def together(members):
    """Join the members' batches to the gang's."""
    return [
        list(chain.from_iterable(member[i] for member in members if i < len(member))) for i in range(len(members[0]))
    ]


@pytest.mark.parametrize("length", [5, 12, 13, 100])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_order_does_not_depend_on_the_parallelism(length, drop_last):
    if drop_last and length < 12:
        return  # nothing is left: see test_errors_name_the_argument
    alone = together(shares(length, 12, 1, drop_last=drop_last))
    for size in (2, 3, 4, 12):
        assert together(shares(length, 12, size, drop_last=drop_last)) == alone
    assert all(len(batch) == 12 for batch in alone)
    everything = list(chain.from_iterable(alone))
    assert len(set(everything)) == (length // 12 * 12 if drop_last else length)
    # The short batch is filled from the start of the epoch.
    assert everything[length:] == (everything * 3)[: len(everything[length:])]
    assert together(shares(length, 12, 2, drop_last=drop_last, seed=1)) != alone


@pytest.mark.parametrize("length", [1, 5, 12, 13, 100])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_evaluation_sees_each_sample_once(length, size):
    members = shares(length, 12, size, shuffle=False)
    assert together(members) == [list(range(length))[i : i + 12] for i in range(0, length, 12)]
    counts = [sum(map(len, member)) for member in members]
    assert max(counts) - min(counts) <= -(-length // 12)
    assert len(together(shares(length, 12, size, shuffle=False, drop_last=True) or [[]])) == length // 12


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_tensor_dataset_gives_the_same_as_any_other_dataset(num_workers):
    class Squares:
        def __len__(self):
            return 10

        def __getitem__(self, i):
            return torch.tensor(i), torch.tensor(i * i)

    share = Share(10, 4, shuffle=True, drop_last=False, rank=1, size=2, seed=lambda: 3)
    tensors = TensorDataset(torch.arange(10), torch.arange(10) ** 2)
    common = {"collate_fn": None, "num_workers": num_workers, "pin_memory": False}
    fast, slow = make_loader(tensors, share, **common), make_loader(Squares(), share, **common)
    assert isinstance(fast, DataLoader)
    assert len(fast) == len(slow) == 3
    for (x, y), (x_slow, y_slow) in zip(fast, slow, strict=True):
        assert x.tolist() == x_slow.tolist()
        assert y.tolist() == y_slow.tolist() == [i * i for i in x.tolist()]
    summed = make_loader(
        tensors, share, collate_fn=lambda rows: sum(int(x) for x, _ in rows), num_workers=0, pin_memory=False
    )
    assert list(summed) == [int(x.sum()) for x, _ in fast]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([1])


def test_errors_name_the_argument():
    data = list(range(50))
    with pytest.raises(ValueError, match=r"^batch_size=10 cannot be divided over 4 workers; expected a multiple of 4$"):
        check_dataset(data, 10, 4, shuffle=True, drop_last=False)
    assert check_dataset(data, 10, 4, shuffle=False, drop_last=False) == 50
    sentence = "^batch_size=64 is larger than the dataset of 50 samples: drop_last=True leaves nothing$"
    with pytest.raises(ValueError, match=sentence):
        check_dataset(data, 64, 1, shuffle=True, drop_last=True)
    with pytest.raises(ValueError, match=r"^run.loader\(\) got an empty dataset$"):
        check_dataset([], 64, 1, shuffle=True, drop_last=False)
    sentence = (
        r"^run.loader\(\) got a Stream, which cannot be indexed; expected a dataset with __len__ and __getitem__$"
    )
    with pytest.raises(TypeError, match=sentence):
        check_dataset(Stream(), 64, 1, shuffle=True, drop_last=False)


def test_epochs_differ_and_the_common_divisor_of_batches_is_reported(gangs):
    def train(config, run):
        data = TensorDataset(torch.arange(10))
        config["held"] = [run.loader(data, batch_size=b) for b in (4, 6)]
        run.loader(data, batch_size=5, shuffle=False)
        run.loader(data, batch_size=5, scale_batch=True)
        for epoch in run.epochs():
            config[epoch] = [x.tolist() for (x,) in config["held"][0]]
            run.report(accuracy=1)

    config, again = {}, {}
    reports, end = gangs.alone(train, config=config, until=2)
    assert end.error == ""
    assert reports[0].batch_size == 2
    assert config[1] != config[2]
    gangs.alone(train, config=again, until=2)
    assert again[2] == config[2]
