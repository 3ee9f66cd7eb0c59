# ruff: noqa: PLR0913
"""The samples that each member gets, and their order."""

import itertools
import random
from itertools import chain

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from seer_nb.worker.data_loader import BatchShare, Gang, Share, check_dataset, divide, make_loader


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


# --- samplers ---


class OddFirst:
    """A sampler without a length, which uses the global generators."""

    def __iter__(self):
        yield from range(1, 20, 2)
        yield from (2 * random.randrange(10) for _ in range(6))
        yield from torch.randint(20, (4,)).tolist()


SAMPLERS = {
    "weighted": lambda: {"sampler": WeightedRandomSampler([0.1] * 10 + [0.9] * 10, 20)},
    "generator": lambda: {"sampler": RandomSampler(range(20), generator=torch.Generator())},
    "subset": lambda: {"sampler": SubsetRandomSampler([3, 1, 4, 15, 9])},
    "list": lambda: {"sampler": list(range(19, -1, -1))},
    "own": lambda: {"sampler": OddFirst()},
    "batches": lambda: {"batch_sampler": BatchSampler(RandomSampler(range(20)), 4, drop_last=False)},
}


def global_batches(kind, size, epoch, **options):
    """Return the batches of all members together; each member has consumed another amount of randomness."""
    options |= {"drop_last": False, "batch_size": None, "sampler": None, "batch_sampler": None}
    members = []
    for rank in range(size):
        torch.manual_seed(rank)
        own = SAMPLERS[kind]()
        if "sampler" in own:
            own["batch_size"] = 4
        share, _ = divide(range(20), Gang(rank, size, lambda: epoch), scale_batch=False, **options | own)
        batches = [batch.tolist() for batch in share.indices()]
        assert len(batches) == len(share)
        members.append(batches)
    return together(members)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_sampler_gives_the_same_batches_at_any_parallelism(kind):
    alone = global_batches(kind, 1, 0, shuffle=True)
    assert all(len(batch) == 4 for batch in alone)
    for size in (2, 4):
        assert global_batches(kind, size, 0, shuffle=True) == alone
        assert global_batches(kind, size, 0, shuffle=False) == global_batches(kind, 1, 0, shuffle=False)
    assert (global_batches(kind, 1, 1, shuffle=True) != alone) is (kind != "list")


def test_a_sampler_does_not_change_the_global_generators():
    share, _ = divide(
        *(range(20), Gang(0, 1, lambda: 3)),
        batch_size=4,
        shuffle=True,
        drop_last=False,
        sampler=OddFirst(),
        batch_sampler=None,
        scale_batch=False,
    )
    before = torch.get_rng_state(), random.getstate()
    list(share.indices())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_a_loader_takes_the_arguments_of_torch(gangs):
    def train(config, run):
        found = run.loader(TensorDataset(torch.arange(8)), 4, **config["options"])
        for _ in run.epochs():
            config["batches"] = [x.tolist() for (x,) in found]
            run.report(accuracy=1)

    workers = {
        "num_workers": 1,
        "persistent_workers": True,
        "prefetch_factor": 3,
        "worker_init_fn": print,
        "timeout": 60,
        "multiprocessing_context": "fork",
        "generator": torch.Generator(),
        "pin_memory": False,
        "in_order": True,
    }
    for options in ({"sampler": list(range(8))}, {"sampler": list(range(8)), **workers}):
        config = {"options": options}
        assert gangs.alone(train, config=config).end.error == ""
        assert config["batches"] == [[0, 1, 2, 3], [4, 5, 6, 7]]


class Endless:
    def __iter__(self):
        return itertools.count()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": 3}, "TypeError: sampler=3: not a sampler; expected an iterable of indices"),
        (
            {"sampler": DistributedSampler(range(8), 2, 0)},
            (
                "TypeError: sampler=DistributedSampler: divides the data a second time; "
                "expected a sampler over the whole dataset"
            ),
        ),
        (
            {"sampler": Endless()},
            "ValueError: sampler=Endless: does not end; expected one with __len__, or at most 8000 items",
        ),
        (
            {"sampler": [1, 2], "drop_last": True},
            "ValueError: batch_size=4 exceeds the sampler's 2 samples: drop_last=True leaves nothing",
        ),
        ({"sampler": []}, "ValueError: sampler=list: yields nothing; expected at least one item"),
        (
            {"batch_sampler": [[1, 2]]},
            "TypeError: batch_sampler excludes batch_size, sampler, drop_last and scale_batch; expected it alone",
        ),
    ],
)
def test_a_wrong_sampler_is_refused(gangs, options, message):
    sent = gangs.alone(lambda config, run: run.loader(range(8), 4, **options))
    assert sent.end.error.strip().splitlines()[-1] == message


def test_a_batch_that_cannot_be_divided_is_refused():
    share = BatchShare(2, [[1, 2], [3]], shuffle=True, rank=0, size=2, seed=lambda: 0)
    assert share.common_divisor() == 1
    sentence = "^batch_sampler=list: a batch of 1 samples cannot be divided over 2 workers; expected a multiple of 2$"
    with pytest.raises(ValueError, match=sentence):
        list(share.indices())
