"""Behaviour of workers with a GPU; skipped without one."""

import subprocess
import sys

import pytest

import seer_nb as seer
from seer_nb.methods.sweep import sweep
from seer_nb.providers.local.gpus import usable_gpus
from seer_nb.runner.gangs import BROKEN
from seer_nb.ui.cli import demo
from seer_nb.ui.cli.doctor import local as doctor
from tests.methods.sweep.small import samples
from tests.study.test_life import Resizing
from tests.support.studies import assert_no_processes_left, make

DIGITS = {"lr": 0.1, "momentum": 0.9, "width": 64, "dropout": 0.0, "weight_decay": 1e-4, "batch": 64}


def on_gpu(config, run):
    import torch

    x, y = (torch.as_tensor(each, dtype=torch.float32) for each in (run.x, run.y))
    model = torch.nn.Linear(x.shape[1], y.shape[1])
    model, optimizer = run.prepare(model, torch.optim.Adam(model.parameters(), lr=config["lr"]))
    assert next(model.parameters()).is_cuda
    for _ in run.epochs():
        for inputs, targets in run.loader(torch.utils.data.TensorDataset(x, y), batch_size=8):
            optimizer.zero_grad()
            loss = (model(inputs.to(run.device)) - targets.to(run.device)).square().mean()
            loss.backward()
            optimizer.step()
        run.report(loss=loss)
    return model


def machines(study):
    return study.state.machines.values()


def one(**changes):
    return {"provider": seer.Local(max_workers=1), "max_epochs": 2, **changes}


def test_local_provider_has_one_worker_per_gpu():
    assert seer.Local().max_workers == len(usable_gpus())
    assert "GPU" in next(iter(doctor.check_gpus())).text
    assert {finding.level for finding in doctor.check_gpus()} == {"ok"}


def test_resize_on_a_shared_gpu_keeps_the_curve(home, monkeypatch):
    """NCCL would reject two ranks on one GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", usable_gpus()[0])

    def train(config, run):
        import torch
        from torch import nn
        from torch.nn.functional import cross_entropy

        digits, validation = demo.data()
        images, labels = (tensor.to(run.device) for tensor in validation.tensors)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
        scaler = torch.amp.GradScaler(init_scale=8.0)
        model, optimizer, scaler = run.prepare(model, optimizer, scaler)
        assert next(model.parameters()).is_cuda
        loader = run.loader(digits, batch_size=64)
        for _ in run.epochs():
            model.train()
            for x, y in loader:
                assert x.is_pinned()
                optimizer.zero_grad()
                scaler.scale(cross_entropy(model(x.to(run.device)), y.to(run.device))).backward()
                scaler.step(optimizer)
                scaler.update()
            model.eval()
            with torch.no_grad():
                loss = cross_entropy(model(images), labels).item()
            run.report(accuracy=-loss)

    space = {"lr": 0.05, "copy": seer.choice([0])}
    provider = seer.Local(max_workers=2)
    resized = make(train, space, policy=Resizing(), provider=provider, name="resized").start()
    resized.wait(90)
    alone = make(train, space, **one(max_epochs=6), name="alone")
    alone.run()
    curve, expected = (study.curves().set_index("epoch") for study in (resized, alone))
    assert curve.parallelism.tolist() == [1, 1, 2, 2, 1, 1]
    assert (curve.value - expected.value).abs().max() <= 1e-3
    assert_no_processes_left(home)


def test_checkpoint_of_the_demo_loads_without_a_gpu(home):
    study = make(demo.train, {**DIGITS, "copy": seer.choice([0])}, **one(max_epochs=3))
    study.run()
    network = study.best.load(demo.build(study.best.config))
    assert not next(network.parameters()).is_cuda
    images, labels = demo.data()[1].tensors
    found = (network.eval()(images).argmax(1) == labels).float().mean().item()
    assert found == pytest.approx(study.best.value, abs=1e-3)


def test_trial_that_breaks_its_gpu_fails_alone(home):
    def train(config, run):
        import torch

        table = torch.zeros(4, device=run.device)
        for epoch in run.epochs():
            places = torch.tensor([9 if config["bad"] and epoch == 2 else 1], device=run.device)
            run.report(accuracy=epoch + table[places].sum())

    study = make(train, {"bad": seer.choice([True, False]), "x": seer.choice([0, 1])}, **one(max_epochs=3))
    study.run()
    found = study.results()
    assert found.state[found.config_bad].tolist() == ["failed"] * 2
    assert found.state[~found.config_bad].tolist() == ["completed"] * 2
    assert found.error[found.config_bad].str.contains("device-side assert").all()
    gone = [machine for machine in machines(study) if machine.reason == BROKEN]
    assert len(gone) == 2, "each failed trial ends its worker"
    assert_no_processes_left(home)


def test_out_of_memory_fails_the_trial_but_keeps_the_worker(home):
    def train(config, run):
        import torch

        total = torch.cuda.get_device_properties(0).total_memory
        held = [torch.empty(int(config["share"] * total), dtype=torch.uint8, device=run.device)]
        held.append(held)  # a reference cycle, which only the garbage collector frees
        for epoch in run.epochs():
            run.report(accuracy=epoch)

    study = make(train, {"share": seer.choice([0.7, 1.5]), "x": seer.choice([0, 1])}, **one())
    study.run()
    found = study.results()
    assert set(found.state[found.config_share < 1]) == {"completed"}
    assert set(found.state[found.config_share > 1]) == {"failed"}
    assert found.error[found.config_share > 1].str.contains("out of memory").all()
    assert len(machines(study)) == 1


def test_random_numbers_on_the_gpu_do_not_depend_on_resizes(home):
    def train(config, run):
        import torch

        run.state["sum"] = run.state.get("sum", 0.0)
        for _ in run.epochs():
            run.state["sum"] += torch.rand(1, device=run.device).item()
            run.report(accuracy=run.state["sum"])

    space = {"copy": seer.choice([0])}
    cut = make(train, space, policy=Resizing(legs=((2, 1), (6, 1))), **one(max_epochs=6), name="cut").run()
    whole = make(train, space, **one(max_epochs=6), name="whole").run()
    assert cut.curves().value.tolist() == whole.curves().value.tolist()
    assert len(set(whole.curves().value.diff().dropna())) == 5


def test_sweep_runs_on_gpus(home):
    more = {"train_ratios": (0.5,), "repeats": 1, "max_epochs": 3, "deadline": "100s", "budget": "$1"}
    found = sweep(on_gpu, {"lr": [0.01, 0.1]}, *samples(), provider=seer.Local(), **more)
    assert set(found.frame.state) == {"completed"}


@pytest.mark.parametrize("method", ["federated", "denoised", "tuned", "attacked", "represented", "minimised"])
def test_method_gives_the_same_result_on_gpu_and_cpu(method):
    command = [sys.executable, "-m", "tests.gpu.methods_here", method]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
