"""Trials on one worker do not see each other, and do in it what they could do in a script."""

import builtins
import multiprocessing
import os
import pickle
import subprocess

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset

import seer_nb as seer
from tests.support.studies import assert_no_processes_left, make

pytestmark = pytest.mark.slow  # real processes and real time

PROVIDERS = {
    "Local": lambda: seer.Local(max_workers=1),
    "LocalCluster": lambda: seer.DaskCluster(_cluster, "$0.05", max_workers=1, shares_files=True),
}


def _cluster():
    from distributed import LocalCluster

    return LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None)


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return PROVIDERS[request.param]()


def run(train, provider):
    """Return the values of four trials that one worker trains in turn."""
    study = make(train, {"x": seer.choice([0, 1, 2, 3])}, provider=provider, max_epochs=1).start().wait(90)
    trials = study.state.trials.values()
    assert [trial.state for trial in trials] == ["completed"] * 4, [trial.error for trial in trials]
    return [trial.curve[0].value for trial in trials]


def test_what_a_trial_sets_does_not_reach_the_next(home, provider):
    calls = []

    def train(config, run):
        value = float(torch.tensor(1 / 3).item())
        calls.append(value)
        assert torch.ones(1).device.type == "cpu"
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        builtins.left_behind = len(calls) + getattr(builtins, "left_behind", 0)
        run.report(accuracy=value + builtins.left_behind)

    assert set(run(train, provider)) == {torch.tensor(1 / 3).item() + 1}


class Own(Dataset):
    """A dataset of the user's."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.tensor([float(index)])


class Batch(list):
    """What a collate_fn of the user's returns."""


def square(number):
    return number * number


def test_workers_of_a_loader_and_pools_work_as_in_a_script(home, provider):
    def train(config, run):
        for data in (Own(), Subset(Own(), range(8))):
            for loader in (
                run.loader(data, 4, num_workers=1),
                run.loader(data, 4, num_workers=1, collate_fn=lambda samples: torch.stack(samples, 0)),
                DataLoader(data, 4, num_workers=1, collate_fn=Batch),
            ):
                assert len(list(loader)) == 2
        assert type(pickle.loads(pickle.dumps(Own()))) is Own
        with multiprocessing.Pool(1) as pool:
            assert pool.map(square, [3]) == [9]
        run.report(accuracy=1)

    run(train, provider)


def test_no_process_of_a_trial_outlives_the_study(home, provider):
    seconds = f"999.{os.getpid()}"  # counts none of the processes of tests that run beside this one

    def train(config, run):
        subprocess.run(f"setsid sleep {seconds} & (sleep {seconds} &) & sleep 0.1", shell=True, check=True)
        subprocess.Popen(["sleep", seconds], start_new_session=True)
        sleeping = subprocess.run(
            ["pgrep", "-c", "-f", f"^sleep {seconds}$"], capture_output=True, text=True, check=True
        )
        run.report(accuracy=int(sleeping.stdout))

    assert run(train, provider) == [3] * 4
    assert_no_processes_left(home)


def test_processes_end_with_a_study_that_is_stopped_while_it_trains(home):
    def train(config, run):
        subprocess.run("setsid sleep 999 & (sleep 999 &) & sleep 0.1", shell=True, check=True)
        run.report(accuracy=1)
        multiprocessing.Event().wait(999)

    study = make(train, {"x": 1}, provider=seer.Local(max_workers=1), deadline="12s").start()
    study.wait(60)
    assert_no_processes_left(home)
