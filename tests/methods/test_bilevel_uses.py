"""What bilevel optimisation is used for: noisy labels, hyperparameters, few-shot learning, and robustness."""

import math

import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, TensorDataset

from seer_nb.bench.bilevel import denoising
from seer_nb.methods import bilevel
from seer_nb.methods.bilevel.data import Net, decay, fit, index_batches, labelled
from seer_nb.methods.bilevel.tune import training_loss

pytestmark = pytest.mark.slow

N_TRAIN, N_CLEAN = 1000, 100


@pytest.fixture(scope="module")
def digits():
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]


def part(digits, begin, end=None):
    return digits[0][begin:end], digits[1][begin:end]


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))


def accuracy(model, data):
    with torch.no_grad():
        return (model(data[0]).argmax(1) == data[1]).double().mean().item()


def trained(x, y):
    """As denoise trains, but to the end and with all weights equal."""
    net = Net(mlp())
    return net.loaded(fit(lambda v: cross_entropy(net(v, x), y) + decay(v, 1e-3), net.start, steps=150))


# --- denoise ---


@pytest.fixture(scope="module")
def noisy(digits):
    """Half of the training labels are wrong; what denoise makes of it."""
    (x, y), clean = part(digits, 0, N_TRAIN), part(digits, N_TRAIN, N_TRAIN + N_CLEAN)
    wrong, changed = bilevel.flip_labels(y, 0.5, seed=0)
    return x, wrong, changed, clean, bilevel.denoise(mlp(), TensorDataset(x, wrong), clean, outer_steps=120)


def test_denoising_beats_training_on_all_and_on_the_clean_alone(digits, noisy):
    x, wrong, changed, clean, found = noisy
    test = part(digits, N_TRAIN + N_CLEAN)
    oracle = accuracy(trained(x[~changed], wrong[~changed]), test)
    all_of_it = accuracy(trained(torch.cat([x, clean[0]]), torch.cat([wrong, clean[1]])), test)
    denoised = accuracy(found.model, test)
    assert denoised - all_of_it > 0.05
    assert oracle >= denoised
    # On one seed it may lose to the clean data alone (by 0.01 where it was measured): see the next test.
    assert denoised > accuracy(trained(*clean), test) - 0.03


@pytest.mark.timeout(180)
def test_with_a_quarter_of_wrong_labels_it_beats_the_clean_alone_on_the_mean_of_three_seeds():
    marks = {figure.what: figure.met for figure in denoising(seeds=3) if figure.met is not None}
    assert marks == {"denoised": True, "area under the curve of weights for right labels": True}


def test_weights_tell_wrong_labels_from_right_ones(noisy):
    _, wrong, changed, _, found = noisy
    assert roc_auc_score(~changed, found.weights) > 0.8
    assert found.weights.min() >= 0
    assert found.weights.max() <= 1
    frame = found.frame
    assert list(frame) == ["example", "label", "weight", "suspect"]
    assert frame.label.tolist() == wrong.tolist()
    assert pd.crosstab(frame.suspect, changed.numpy()).loc[True, True] > 0.8 * changed.sum()
    assert len(found.curves()) == found.best.step == 120
    assert {"levels", "penalty", "weights"} == set(found.figures)


def test_denoise_takes_its_rivals_and_gives_the_same_for_the_same_seed(digits):
    train, clean = part(digits, 0, 60), part(digits, 60, 90)
    for method in ("penalty", "approx", "rmd", "gd"):
        first, second = (
            bilevel.denoise(mlp(), train, clean, method=method, inner_steps=2, outer_steps=3, start_steps=5, seed=4)
            for _ in range(2)
        )
        assert torch.equal(first.weights, second.weights)


def test_flipped_labels_are_as_many_as_is_said_and_all_wrong(digits):
    y = digits[1]
    wrong, changed = bilevel.flip_labels(y, 0.25, seed=1)
    assert changed.sum() == len(y) // 4
    assert (wrong[changed] != y[changed]).all()
    assert torch.equal(wrong[~changed], y[~changed])
    # Every other class is as likely: of the wrong ones, 1 in 9 each.
    shift = (wrong - y)[changed] % 10
    assert set(shift.tolist()) == set(range(1, 10))


# --- tune ---


def test_the_weight_decay_that_tune_finds_is_near_the_best_of_a_grid(digits):
    train, val = part(digits, 0, 100), part(digits, 100, 400)
    model = nn.Linear(64, 10)

    def loss(weight):
        net = Net(model)
        decays = torch.full((2,), weight)
        v = fit(lambda v: training_loss(net(v, train[0]), train[1], v, {"weight_decay": decays}), net.start)
        return cross_entropy(net(v, val[0]), val[1]).item()

    grid = {10.0**power: loss(10.0**power) for power in range(-5, 1)}
    found = bilevel.tune(model, train, val, hyperparameters={"weight_decay": 0.1}, outer_steps=100, batch_size=300)
    assert found.best.value < loss(0.1) - 0.5
    assert found.best.value < min(grid.values()) + 0.05
    assert found.best.value == found.curves().value.min()
    assert set(found.best.config["weight_decay"]) == {"weight", "bias"}
    assert found.frame.value.between(1e-5, 10).all()


def test_tune_moves_all_that_it_knows(digits):
    names = ("weight_decay", "class_weight", "label_smoothing")
    found = bilevel.tune(
        mlp(),
        part(digits, 0, 100),
        part(digits, 100, 200),
        hyperparameters=names,
        inner_steps=2,
        outer_steps=4,
        train_steps=9,
    )
    frame = found.frame
    assert frame.groupby("hyperparameter").size().to_dict() == {
        "class_weight": 10,
        "label_smoothing": 1,
        "weight_decay": 4,
    }
    starts = frame.hyperparameter.map({"weight_decay": 0.1, "class_weight": 1.0, "label_smoothing": 0.05})
    assert ((frame.value - starts).abs() > 1e-4 * starts).all()
    assert set(names) < set(found.figures)


def test_the_training_loss_is_torchs():
    drawn = torch.Generator().manual_seed(0)
    outputs, weight = torch.randn(8, 3, generator=drawn), torch.tensor([0.5, 1.0, 2.0])
    y = torch.randint(3, (8,), generator=drawn)
    assert torch.allclose(training_loss(outputs, y, [], {}), cross_entropy(outputs, y))
    weighted = training_loss(outputs, y, [], {"class_weight": weight})
    assert torch.allclose(weighted, cross_entropy(outputs, y, weight=weight))
    smooth = training_loss(outputs, y, [], {"label_smoothing": torch.tensor([0.2])})
    assert torch.allclose(smooth, cross_entropy(outputs, y, label_smoothing=0.2))
    decayed = training_loss(outputs, y, [torch.ones(4), torch.ones(2)], {"weight_decay": torch.tensor([0.5, 3.0])})
    assert torch.allclose(decayed, cross_entropy(outputs, y) + 1 + 3)


# --- represent ---


def test_a_shared_representation_helps_new_tasks(digits):
    seen, unseen = (bilevel.Labelled(*part(digits, *ends)) for ends in ((0, 900), (900, None)))
    tasks = bilevel.make_tasks(seen, range(10), count=20, ways=5, shots=2, queries=10)
    new = bilevel.make_tasks(unseen, range(10), count=30, ways=5, shots=2, queries=10, seed=1)
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 16))
    found = bilevel.represent(body, tasks, outer_steps=60)
    untrained, learned = (sum(each) / 30 for each in (bilevel.adapted(body, new), found.accuracy(new)))
    assert learned > untrained + 0.05
    assert len(found.frame) == 20
    assert found.frame.accuracy.between(0, 1).all()


def test_tasks_hold_what_they_should(digits):
    data = bilevel.Labelled(*digits)
    tasks = bilevel.make_tasks(data, [3, 5, 8], count=4, ways=2, shots=2, queries=3)
    assert tasks.support_x.shape == (4, 4, 64)
    assert tasks.query_y.tolist() == [[0, 0, 0, 1, 1, 1]] * 4
    for support, query in zip(tasks.support_x, tasks.query_x, strict=True):
        assert torch.cdist(support, query).min() > 0, "an example is both learned of and judged by"
    with pytest.raises(ValueError, match=r"^ways=4 does not go with 3 classes"):
        bilevel.make_tasks(data, [3, 5, 8], count=1, ways=4, shots=1, queries=1)
    with pytest.raises(ValueError, match=r"^class \d has \d+ examples: shots \+ queries = 600 are needed"):
        bilevel.make_tasks(data, [3, 5, 8], count=1, ways=2, shots=300, queries=300)


# --- robustness ---


def test_points_that_were_sought_harm_more_than_wrong_labels(digits):
    found = bilevel.robustness(
        part(digits, 0, 300), part(digits, 300, 600), part(digits, 600), shares=(0.01, 0.06), outer_steps=80
    )
    frame = found.frame
    assert frame.points.tolist() == [3, 18]
    assert (frame.accuracy_worst < frame.accuracy_flipped).all()
    assert frame.accuracy_worst.iloc[1] < frame.accuracy_clean.iloc[1] - 0.02
    assert frame.accuracy_worst.is_monotonic_decreasing
    assert found.best == found.harms[1]
    assert all(bool((point.best.u[0] >= 0).all() and (point.best.u[0] <= 1).all()) for point in found.minima)
    assert found.curves().groupby("points").size().to_dict() == {3: 80, 18: 80}


# --- data ---


class Pairs(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, place):
        return torch.full((2,), float(place)), place


def test_data_may_be_a_dataset_or_a_pair():
    found = labelled(Pairs(), "train")
    assert found.x.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert found.y.tolist() == [0, 1, 2]


def test_each_example_is_drawn_once_before_any_is_drawn_again():
    batches = index_batches(10, 6, 3, seed=0)
    lower = torch.cat([next(batches)[1] for _ in range(4)])
    assert sorted(lower[:6].tolist()) == sorted(lower[6:].tolist()) == list(range(6))


GOOD = (torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: bilevel.denoise("net", GOOD, GOOD), TypeError, "model='net' is no model"),
        (lambda: bilevel.denoise(nn.Tanh(), GOOD, GOOD), ValueError, "model has no parameters"),
        (lambda: bilevel.denoise(nn.Linear(2, 2), 3, GOOD), TypeError, "train is of the type int"),
        (lambda: bilevel.denoise(nn.Linear(2, 2), GOOD, (GOOD[0], GOOD[1][:3])), ValueError, "val has x of the shape"),
        (lambda: bilevel.denoise(nn.Linear(2, 2), GOOD, (GOOD[0], -GOOD[1])), ValueError, "val has labels of the type"),
        (
            lambda: bilevel.denoise(nn.Linear(2, 2), (GOOD[0] * math.nan, GOOD[1]), GOOD),
            ValueError,
            "train has x that are not finite",
        ),
        (lambda: bilevel.denoise(nn.Linear(2, 2), GOOD, GOOD, batch_size=0), ValueError, "batch_size=0: too small"),
        (
            lambda: bilevel.tune(nn.Linear(2, 2), GOOD, GOOD, hyperparameters=["width"]),
            ValueError,
            r"hyperparameters=\['width'\] are not known: give names out of \"weight_decay\"",
        ),
        (
            lambda: bilevel.tune(nn.Linear(2, 2), GOOD, GOOD, hyperparameters="weight_decay"),
            TypeError,
            "hyperparameters='weight_decay' is no list",
        ),
        (
            lambda: bilevel.tune(nn.Linear(2, 2), GOOD, GOOD, hyperparameters={"label_smoothing": 0.9}),
            ValueError,
            r"hyperparameters\['label_smoothing'\]=0.9: out of range",
        ),
        (lambda: bilevel.represent(nn.Linear(2, 2), GOOD), TypeError, "tasks is of the type tuple"),
        (lambda: bilevel.robustness(GOOD, GOOD, GOOD, shares=(0.01,)), ValueError, "shares=0.01 of 4 points is none"),
        (lambda: bilevel.robustness(GOOD, GOOD, GOOD, shares=0.1), TypeError, "shares=0.1 is no list"),
        (lambda: bilevel.flip_labels(GOOD[1], 1.5), ValueError, "share=1.5: out of range"),
    ],
)
def test_bad_input_gets_a_sentence(call, kind, said):
    with pytest.raises(kind, match=f"^{said}"):
        call()
