"""Compare a method on a GPU and on the CPU: ``python -m tests.gpu.methods_here NAME``.

It needs a new process: CUDA caches the visible GPUs, and the test process was started without any.
"""

import sys

import torch
from torch import nn

from seer_nb.methods import bilevel, fedex
from tests.methods.fedex.small import CONFIGS, digits, federation

NEAR = {"rtol": 0.02, "atol": 0.02}


def data(device, begin, end):
    x, y = digits()
    return torch.as_tensor(x[begin:end], device=device), torch.as_tensor(y[begin:end], device=device)


def network(device, width=10):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, width)).to(device)


def federated(device):
    run = fedex.FedEx(federation(20, count=400, device=device), CONFIGS[:3], baseline=0.9, seed=0).run(3)
    return torch.tensor(run.evaluate(), dtype=torch.float64)


def denoised(device):
    x, y = data(device, 0, 200)
    wrong, changed = bilevel.flip_labels(y, 0.5, seed=0)
    assert wrong.device == y.device == changed.device
    return bilevel.denoise(network(device), (x, wrong), data(device, 200, 260), outer_steps=10, inner_steps=3).weights


def tuned(device):
    names = ("weight_decay", "class_weight", "label_smoothing")
    more = {"hyperparameters": names, "inner_steps": 2, "outer_steps": 4, "train_steps": 9}
    frame = bilevel.tune(network(device), data(device, 0, 100), data(device, 100, 200), **more).frame
    return torch.tensor(frame.value.to_numpy())


def attacked(device):
    parts = [data(device, *ends) for ends in ((0, 100), (100, 200), (200, 400))]
    frame = bilevel.robustness(*parts, shares=(0.05,), outer_steps=5).frame
    return torch.tensor(frame[["accuracy_clean", "accuracy_flipped"]].to_numpy())


def represented(device):
    tasks = bilevel.make_tasks(bilevel.Labelled(*data(device, 0, 900)), range(10), count=4, ways=3, shots=2, queries=4)
    found = bilevel.represent(network(device, 16), tasks, outer_steps=3)
    return torch.tensor(found.accuracy(tasks))


def minimised(device):
    start = [[torch.full((4,), value, device=device)] for value in (3.0, -2.0)]
    found = bilevel.minimize(
        lambda u, v: u[0].square().sum() + v[0].square().sum(),
        lambda u, v: (1 - u[0] - v[0]).square().sum(),
        *start,
        outer_steps=50,
        inequality=lambda u, v: u[0] - 1,
        u_box=bilevel.Box(-6.0, 6.0, "change"),
    )
    return torch.cat([*found.u, *found.v])


if __name__ == "__main__":
    method = {f.__name__: f for f in (federated, denoised, tuned, attacked, represented, minimised)}[sys.argv[1]]
    assert torch.cuda.is_available()
    torch.testing.assert_close(method("cuda:0").cpu(), method("cpu"), **NEAR)
