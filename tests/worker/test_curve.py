"""The curve must depend neither on the parallelism nor on how training was cut into gangs."""

from copy import deepcopy
from itertools import permutations

import pytest
import torch
from torch import nn


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


# --- schedules ---


def schedulers():
    """Return a constructor for every scheduler of torch, by its name; each takes an optimizer."""
    from torch.optim import lr_scheduler as lr

    def halve(step):
        return 0.5**step

    class Wave:
        def __call__(self, x):
            return 0.9**x

    return {
        "LambdaLR": lambda opt: lr.LambdaLR(opt, halve),
        "MultiplicativeLR": lambda opt: lr.MultiplicativeLR(opt, lambda _: 0.8),
        "StepLR": lambda opt: lr.StepLR(opt, 2, 0.5),
        "MultiStepLR": lambda opt: lr.MultiStepLR(opt, [2, 2, 3], 0.5),
        "ConstantLR": lambda opt: lr.ConstantLR(opt, 0.3, 3),
        "LinearLR": lambda opt: lr.LinearLR(opt, 0.1, 1.0, 10),
        "ExponentialLR": lambda opt: lr.ExponentialLR(opt, 0.9),
        "PolynomialLR": lambda opt: lr.PolynomialLR(opt, 5),
        "CosineAnnealingLR": lambda opt: lr.CosineAnnealingLR(opt, 5),
        "CosineAnnealingWarmRestarts": lambda opt: lr.CosineAnnealingWarmRestarts(opt, 2, 2),
        "CyclicLR": lambda opt: lr.CyclicLR(opt, 0.01, 0.1, 2, scale_fn=Wave(), cycle_momentum=True),
        "OneCycleLR": lambda opt: lr.OneCycleLR(opt, 0.2, 7),
        "ReduceLROnPlateau": lambda opt: lr.ReduceLROnPlateau(opt, patience=1),
        "SequentialLR": lambda opt: lr.SequentialLR(opt, [lr.LinearLR(opt, 0.1), lr.ExponentialLR(opt, 0.9)], [3]),
        "ChainedScheduler": lambda opt: lr.ChainedScheduler([lr.ConstantLR(opt, 0.1, 3), lr.StepLR(opt, 2)]),
        "SWALR": lambda opt: torch.optim.swa_utils.SWALR(opt, 0.05, 3),
    }


class Parts(dict):
    """What a function trains with: lists of objects by name, created in the order in which they are asked for."""

    def __init__(self, scheduler, kinds, lr):
        super().__init__()
        self.model, self.lr = nn.Linear(2, 1), lr
        self.create = {
            "model": lambda: [self.model],
            "ema": lambda: [torch.optim.swa_utils.AveragedModel(self.model)],
            "scaler": lambda: [torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)],
            "optimizers": lambda: [self.optimizer(kind) for kind in kinds],
            "schedulers": lambda: [schedulers()[scheduler](optimizer) for optimizer in self["optimizers"]],
        }

    def __missing__(self, name):
        self[name] = self.create[name]()
        return self[name]

    def optimizer(self, kind):
        momentum = {"momentum": 0.9} if kind == "SGD" else {}
        return getattr(torch.optim, kind)(self.model.parameters(), lr=deepcopy(self.lr), **momentum)

    def step(self):
        for optimizer, scheduler in zip(self["optimizers"], self["schedulers"], strict=True):
            optimizer.zero_grad()
            loss = self.model(torch.ones(4, 2)).square().mean()
            self["scaler"][0].scale(loss).backward()
            self["scaler"][0].step(optimizer)
            self["scaler"][0].update()
            plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            scheduler.step(*([loss.detach()] if plateau else []))
        self["ema"][0].update_parameters(self.model)

    def states(self):
        groups = [
            {name: value for name, value in group.items() if name != "params"}
            for optimizer in self["optimizers"]
            for group in optimizer.param_groups
        ]
        return repr((groups, [self[name][0].state_dict() for name in ("model", "ema", "scaler")]))


def scheduled(scheduler, order, *, kinds=("SGD",), lr=0.1):
    """Make a function that records its states; ``config`` says whether it prepares its objects together or not."""

    def train(config, run):
        parts = Parts(scheduler, kinds, lr)
        for name in order:
            if not config["together"]:
                run.prepare(*parts[name])
        if config["together"]:
            run.prepare(*[held for name in order for held in parts[name]])
        for _ in run.epochs():
            parts.step()
            config["seen"].append(parts.states())
            run.report(accuracy=1)

    return train


def seen(gangs, train, pieces, *, together=False):
    """Train until each epoch in ``pieces``, one gang after the other; returns what the function recorded."""
    config = {"seen": [], "together": together}
    resume = {}
    for until in pieces:
        reports, end = gangs.alone(train, config=config, until=until, **resume)
        assert end.error == ""
        resume = {"from_epoch": until, "checkpoint": reports[-1].checkpoint}
    return config["seen"]


def test_every_scheduler_of_torch_is_tried():
    from torch.optim import lr_scheduler as lr

    kinds = {name for name, kind in vars(lr).items() if isinstance(kind, type) and issubclass(kind, lr.LRScheduler)}
    assert kinds - {"LRScheduler", "_LRScheduler"} | {"SWALR"} <= schedulers().keys()


@pytest.mark.parametrize("scheduler", schedulers())
@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
def test_a_pause_does_not_change_a_schedule(gangs, scheduler, lr):
    """A scheduler that is created after its optimizer was restored resets the learning rate."""
    for order, together in (
        (["model", "optimizers", "schedulers", "ema", "scaler"], False),
        (["optimizers", "model", "schedulers", "scaler", "ema"], True),
        (["scaler", "optimizers", "schedulers", "ema", "model"], False),
    ):
        train = scheduled(scheduler, order, lr=lr)
        assert seen(gangs, train, [1, 2, 6], together=together) == seen(gangs, train, [6], together=together)


@pytest.mark.parametrize("scheduler", ["LinearLR", "CyclicLR"])
def test_a_pause_does_not_change_a_schedule_in_any_order(gangs, scheduler):
    kinds = ("SGD", "NAdam") if scheduler == "CyclicLR" else ("SGD", "AdamW", "Adafactor", "RMSprop")
    for order in permutations(["model", "ema", "optimizers", "schedulers"]):
        train = scheduled(scheduler, [*order, "scaler"], kinds=kinds)
        assert seen(gangs, train, [1, 3]) == seen(gangs, train, [3])


# --- one form of use, alone and in a gang ---


class Net(nn.Module):
    """With what functions use besides the module itself."""

    dim = 3

    def __init__(self, hidden=4):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, hidden), nn.Tanh())
        self.head = nn.Linear(hidden, 1)
        self.hidden, self.scale = hidden, 1.0

    def forward(self, x):
        return self.scale * self.head(self.encoder(x))

    def loss(self, x, y):
        return (self(x) - y).square().mean()


USES = {
    "itself": lambda model, x, y: (model(x) - y).square().mean(),
    "module": lambda model, x, y: model.loss(x, y) + 0 * model.module.hidden,
    "method": lambda model, x, y: model.loss(x, y),
    "parts": lambda model, x, y: (model.scale * model.head(model.encoder(x)) - y).square().mean(),
    "items": lambda model, x, y: (model.scale * model.head(model.encoder[1](model.encoder[0](x))) - y).square().mean(),
}


def using(use, *, checkpointing=False):
    """Make a function that trains a `Net` and averages it, with one gradient per step over all ranks."""

    def train(config, run):
        from torch.utils.checkpoint import checkpoint

        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model, optimizer = run.prepare(model, optimizer)
        ema = run.prepare(torch.optim.swa_utils.AveragedModel(model))
        assert (model.dim, model.hidden, model.module.hidden) == (3, 4, 4)
        assert len(list(model.encoder)) == len(model.encoder) == 2
        assert list(model.state_dict()) == [name for name, _ in model.named_parameters()] == list(Net().state_dict())
        model.load_state_dict(model.state_dict())
        model.scale = 2.0
        assert model.module.scale == 2.0
        assert not hasattr(model, "nothing")
        assert type(ema.module) is Net
        x = torch.arange(24.0).reshape(8, 3) / 24
        loader = run.loader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4)
        for _ in run.epochs():
            for inputs, targets in loader:
                optimizer.zero_grad()
                if checkpointing:
                    checkpoint(USES[use], model, inputs, targets, use_reentrant=False).backward()
                else:
                    USES[use](model, inputs, targets).backward()
                optimizer.step()
                ema.update_parameters(model)
            with torch.no_grad():
                values = [float(USES[use](one, x, x.sum(1, keepdim=True))) for one in (model, ema.module)]
            run.report(accuracy=values[0], loss=values[1])

    return train


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("use", USES)
def test_a_module_is_used_alike_at_any_parallelism(gangs, use, checkpointing):
    """Attributes were hidden by DDP, and the names in an averaged model's state depended on the parallelism."""

    def values(pieces):
        found, last = [], {}
        for size, until in pieces:
            reports, end = gangs.train(using(use, checkpointing=checkpointing), size, until=until, **last)
            assert end.error == ""
            found += [value for report in reports for value in (report.value, report.metrics["loss"])]
            last = {"from_epoch": until, "checkpoint": reports[-1].checkpoint}
        return found

    whole = values([(1, 4)])
    assert values([(1, 1), (2, 3), (1, 4)]) == pytest.approx(whole, rel=1e-4)
    assert values([(2, 4)]) == pytest.approx(whole, rel=1e-4)
