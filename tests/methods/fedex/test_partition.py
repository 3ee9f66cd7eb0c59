"""Partition of data over clients: every sample is used once, every client has enough."""

import pickle

import numpy as np
import pytest

import seer_nb as seer
from seer_nb.methods.fedex import Client, Federation, FedEx, Search, partition, split, tune
from tests.methods.fedex.small import CONFIGS, digits, federation, model


def skew(dealt, labels):
    """Return the mean L1 distance of the clients' label shares from those of all data."""
    whole = np.bincount(labels, minlength=10) / len(labels)
    return np.mean([np.abs(np.bincount(labels[own], minlength=10) / len(own) - whole).sum() for own in dealt])


@pytest.mark.parametrize("alpha", [None, 0.05, 1.0])
@pytest.mark.parametrize("clients", [1, 60, 599])
def test_partition_assigns_each_sample_once_and_three_or_more_per_client(alpha, clients):
    _, labels = digits()
    dealt = partition(labels, clients, alpha=alpha, seed=3)
    assert len(dealt) == clients
    assert min(map(len, dealt)) >= 3
    assert np.array_equal(np.sort(np.concatenate(dealt)), np.arange(len(labels)))


def test_smaller_alpha_gives_more_skewed_clients():
    _, labels = digits()
    sizes = [len(own) for own in partition(labels, 60)]
    assert max(sizes) - min(sizes) <= 1
    iid, *skews = (skew(partition(labels, 20, alpha=alpha), labels) for alpha in (None, 100.0, 1.0, 0.1))
    assert skews == sorted(skews)
    assert skews[-1] > 3 * iid


def test_partition_depends_on_the_seed_only():
    _, labels = digits()
    first, again, other = (partition(labels, 9, alpha=0.5, seed=seed) for seed in (1, 1, 2))
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))


def test_split_uses_each_sample_in_one_part_of_one_client():
    x = np.arange(1000)[:, None].astype(np.float32)
    clients = split(x, np.arange(1000) % 7, 10, shares=(0.5, 0.3, 0.2), seed=1)
    parts = [client.part(name)[0].ravel() for client in clients for name in ("train", "validation", "test")]
    assert np.array_equal(np.sort(np.concatenate(parts)), x.ravel())
    assert [clients[0].size(name) for name in ("train", "validation", "test")] == [50, 30, 20]


def test_unshuffled_split_tests_on_the_last_samples():
    x = np.arange(300)[:, None].astype(np.float32)
    for client in split(x, np.zeros(300), 4, shuffle=False):
        assert client.train[0].max() < client.validation[0].min() <= client.validation[0].max() < client.test[0].min()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: partition([1, 2], 1), "labels: shape \\(2,\\) is not enough for clients=1"),
        (lambda: partition(np.zeros(9), 2, alpha=0.0), "alpha=0.0: out of range; expected a finite number > 0"),
        (lambda: partition(np.zeros(9), 2.5), "clients=2.5: not an integer"),
        (lambda: split(np.zeros(9), np.zeros(9), 2, shares=(0.5, 0.5)), "expected three numbers above 0"),
        (lambda: split(np.zeros(9), np.zeros(9), 2, shares=(0.5, 0.5, 0.5)), "they sum to 1.5; expected a sum of 1"),
        (lambda: split(np.zeros(9), np.zeros(8), 2), "x has shape \\(9,\\) and y has shape \\(8,\\)"),
        (lambda: Client((np.zeros(2), np.zeros(3)), *[(np.zeros(1), np.zeros(1))] * 2), "train: inputs of shape"),
        (lambda: Client(*[(np.zeros(1), np.zeros(1))] * 2, (np.zeros(0), np.zeros(0))), "test: empty"),
        (lambda: Federation(model(), []), ": a network; expected a function"),
        (lambda: Federation(model, []), "clients=\\(\\): empty"),
        (lambda: Federation(model, [3]), "clients\\[0\\]=3: expected a Client"),
    ],
)
def test_invalid_arguments_are_rejected(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_repr_of_a_federation_shows_its_size():
    assert repr(federation(5, count=100)).startswith("Federation(5 clients, ")


# --- memory-mapped data ---


def mapped(tmp_path, clients=6, each=30):
    """Return clients whose arrays are slices of two files, and the same ones in memory."""
    x, y = digits()
    for name, array in {"x": x, "y": y}.items():
        np.save(tmp_path / f"{name}.npy", array)
    files = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("x", "y")]

    def client(arrays, start):
        ends = ((start, start + 20), (start + 20, start + 25), (start + 25, start + each))
        return Client(*(tuple(array[begin:end] for array in arrays) for begin, end in ends))

    return [[client(arrays, each * k) for k in range(clients)] for arrays in (files, (x, y))]


def test_mapped_clients_are_pickled_without_their_values(tmp_path):
    in_file, in_memory = mapped(tmp_path)
    assert sum(client.bytes_in_memory() for client in in_file) == 0
    assert len(pickle.dumps(in_file)) < 0.1 * len(pickle.dumps(in_memory))
    for copied, expected in zip(pickle.loads(pickle.dumps(in_file)), in_memory, strict=True):
        for part in ("train", "validation", "test"):
            for array, values in zip(copied.part(part), expected.part(part), strict=True):
                assert np.array_equal(array, values)
                assert array.dtype == values.dtype


def test_copies_of_a_mapped_array_are_pickled_with_their_values(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(12.0))
    for mode, chosen in (("r", [5, 1, 3]), ("r", slice(0, 9, 3)), ("c", slice(0, 3))):
        x = np.load(tmp_path / "x.npy", mmap_mode=mode)
        part = (x[chosen], np.zeros(3))
        client = Client(part, part, part)
        assert client.bytes_in_memory() == 3 * 48
        assert np.array_equal(pickle.loads(pickle.dumps(client)).train[0], x[chosen])


def test_mapped_data_give_the_same_model_and_stay_in_their_file(tmp_path):
    both = [Federation(model, clients) for clients in mapped(tmp_path)]
    found = [FedEx(each, CONFIGS[2:5], seed=1).run(3).server.weights for each in both]
    assert np.array_equal(*found)
    assert [bool(each.trainer.loaded) for each in both] == [False, True]


class Elsewhere(seer.Local):
    """A provider whose machines do not share files with this computer."""

    shares_files = False


@pytest.mark.parametrize("search", [Search, tune])
def test_mapped_data_are_refused_for_machines_that_cannot_open_the_file(tmp_path, home, monkeypatch, search):
    monkeypatch.setattr("seer_nb.methods.fedex.validation.MAX_DATA_BYTES", 1)
    data = Federation(model, mapped(tmp_path)[0])
    given = {"max_rounds": 2, "deadline": "1min", "budget": "$0.01"} | ({} if search is Search else {"total_rounds": 2})
    message = r"^federation: clients\[0\] is mapped from a file, which the machines of provider=.* cannot open"
    with pytest.raises(ValueError, match=message):
        search(data, provider=Elsewhere(1), **given)
    if search is Search:
        # Mapped data do not count for the limit.
        assert search(data, provider=seer.Local(1), **given).trainer.federation is data
