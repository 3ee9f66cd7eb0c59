"""The curve must depend neither on the parallelism nor on how training was cut into gangs."""

import pytest


def digits(width=32, *, norm=False, dropout=0.0):
    """Make a function that trains an MLP on handwritten digits."""

    def train(config, run):
        import torch
        from sklearn.datasets import load_digits
        from torch import nn
        from torch.nn.functional import cross_entropy
        from torch.utils.data import TensorDataset

        pixels, labels = load_digits(return_X_y=True)
        data = TensorDataset(torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels))
        training = TensorDataset(*data[:1257])
        validation = TensorDataset(*data[1257:])
        layers = [nn.Linear(64, width), *([nn.BatchNorm1d(width)] if norm else []), nn.ReLU(), nn.Dropout(dropout)]
        model = nn.Sequential(*layers, nn.Linear(width, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
        model, optimizer, scheduler = run.prepare(model, optimizer, scheduler)
        loader = run.loader(training, batch_size=64)
        held_out = run.loader(validation, batch_size=101, shuffle=False)
        for _ in run.epochs():
            model.train()
            for x, y in loader:
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                optimizer.step()
            scheduler.step()
            model.eval()
            loss = hits = n = 0
            with torch.no_grad():
                for x, y in held_out:
                    out = model(x)
                    loss += cross_entropy(out, y, reduction="sum")
                    hits += (out.argmax(1) == y).sum()
                    n += len(y)
            run.report(accuracy=run.mean(hits / n, n), loss=run.mean(loss / n, n))

    return train


def curve(gangs, train, pieces):
    """Train pieces (parallelism, until) one after the other; returns the values of all epochs."""
    values, last = [], None
    for size, until in pieces:
        resume = {"from_epoch": last.epoch, "checkpoint": last.checkpoint} if last else {}
        reports, end = gangs.train(train, size, until=until, **resume)
        assert end.outcome == "target", end.error
        values += [(report.epoch, report.value, report.metrics["loss"]) for report in reports]
        last = reports[-1]
        assert last.batch_size == 64
    return values


@pytest.mark.slow
@pytest.mark.parametrize("norm", [False, True])
def test_resizes_do_not_change_the_curve(gangs, norm):
    train = digits(norm=norm)
    whole = curve(gangs, train, [(1, 6)])
    cut = curve(gangs, train, [(1, 2), (2, 4), (1, 6)])
    assert [epoch for epoch, _, _ in cut] == [1, 2, 3, 4, 5, 6]
    for (_, accuracy, loss), (_, accuracy_cut, loss_cut) in zip(whole, cut, strict=True):
        assert accuracy_cut == pytest.approx(accuracy, abs=1e-4)
        assert loss_cut == pytest.approx(loss, abs=1e-4)
    assert whole[-1][1] > 0.85


def test_dropout_does_not_depend_on_how_training_is_cut(gangs):
    train = digits(dropout=0.3)
    assert curve(gangs, train, [(1, 3)]) == curve(gangs, train, [(1, 1), (1, 2), (1, 3)])


def test_checkpoints_do_not_depend_on_the_parallelism(gangs):
    from seer_nb.storage import checkpoints

    states = []
    for size in (1, 2):
        report = gangs.train(digits(norm=True), size, until=1).reports[-1]
        states.append(checkpoints.load(str(gangs.store), report.checkpoint)["objects"][0])
    assert list(states[0]) == list(states[1])
    for name, tensor in states[0].items():
        assert tensor.numpy() == pytest.approx(states[1][name].numpy(), abs=1e-4)
