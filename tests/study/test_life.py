"""Studies from start to end as a person steers them: real runners, workers and training."""

import asyncio
import importlib
import math
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import seer_nb as seer
from seer_nb import core
from seer_nb.core.engine import Engine
from seer_nb.core.history import UNSHARED
from seer_nb.ui.cli import demo
from seer_nb.ui.notebook.controller import Controller
from tests.support.small_engine import Simple
from tests.support.studies import assert_no_processes_left, make
from tests.support.waiting import until


def ticking(config, run):
    for epoch in run.epochs():
        time.sleep(0.1)
        run.state["epoch"] = epoch
        run.report(accuracy=epoch / (1 + config["x"]))


def assert_replay_decides_the_same(study, policy):
    engine, decided, entries = None, [], list(study.journal.read())
    for entry in entries:
        if isinstance(entry.record, core.Began):
            engine = Engine(entry.record.settings, policy)
            engine.state.apply(entry.record, entry.at_s)
        elif not isinstance(entry.record, core.ActionBase):
            decided += engine.handle(entry.record, entry.at_s)
    assert decided == [entry.record for entry in entries if isinstance(entry.record, core.ActionBase)]


def records(study, kind=object):
    return [entry.record for entry in study.journal.read() if isinstance(entry.record, kind)]


class Resizing:
    """Trains each trial on 1, then 2, then 1 worker."""

    def __init__(self, legs=((2, 1), (4, 2), (6, 1))):
        self.legs = legs

    def decide(self, snapshot):
        for trial in snapshot.trials:
            leg = next((leg for leg in self.legs if leg[0] > trial.epoch), None)
            if trial.alive and leg:
                job = core.Job(trial=trial.id, workers=leg[1], until=leg[0], reason="next leg")
                return core.Plan(jobs=(job,), workers=2, reason="legs")
        if snapshot.exhausted and not snapshot.waiting:
            return core.Plan(done=not snapshot.gangs, reason="all legs are done")
        until, workers = self.legs[0]
        return core.Plan(
            jobs=(core.Job(trial=None, workers=workers, until=until, reason="new"),), workers=2, reason="legs"
        )


@pytest.mark.slow
def test_resizing_a_gang_does_not_change_the_curve(home):
    config = {"lr": 0.1, "momentum": 0.9, "width": 64, "dropout": 0.0, "weight_decay": 1e-4, "batch": 64}
    space = {**config, "copy": seer.choice([0])}
    resized = make(demo.train, space, policy=Resizing(), name="resized").start()
    alone = make(demo.train, space, name="alone")
    resized.wait(90)
    alone.run()
    curve, expected = (study.curves().set_index("epoch") for study in (resized, alone))
    assert curve.parallelism.tolist() == [1, 1, 2, 2, 1, 1]
    assert expected.parallelism.tolist() == [1] * 6
    assert (curve.value - expected.value).abs().max() <= 1e-4
    assert resized.results().max_parallelism.tolist() == [2]

    # The best is what the table says, and its weights give the reported value.
    best = resized.best
    assert best.value == resized.results().value.max() == curve.value.max()
    network = best.load(demo.build(best.config))
    images, labels = demo.data()[1].tensors
    network.eval()
    with torch.no_grad():
        assert (network(images).argmax(1) == labels).float().mean().item() == pytest.approx(best.value, abs=1e-6)
    assert_no_processes_left(home)


def unshared(config, run):
    for epoch in run.epochs():
        time.sleep(0.2)
        run.state["epoch"] = epoch
        run.report(accuracy=epoch, workers=run.world_size)


@pytest.mark.slow
def test_a_function_that_does_not_share_its_work_trains_on_one_worker(home):
    study = make(unshared, policy=Simple(p=2, until=6, total=2), name="noticed").run()
    curves = study.curves()
    assert curves[curves.trial == 0].parallelism.tolist()[:1] == [2]
    assert set(curves[curves.epoch > 4].parallelism) == set(curves[curves.trial == 1].parallelism) == {1}
    assert [entry.reason for entry in study.history.log if "from now on" in entry.text] == [UNSHARED]

    said = make(unshared, policy=Simple(p=2, until=6, total=2), name="said", max_parallelism=1).run()
    assert set(said.curves().parallelism) == {1}
    assert said.settings.max_parallelism == 1
    for each in (study, said):
        assert_replay_decides_the_same(each, Simple(p=2, until=6, total=2))


def test_commands_take_effect_and_a_replay_makes_the_same_decisions(home):
    study = make(ticking, {"x": seer.choice([0, 1, 2, 3])}, max_epochs=8)
    assert study.status == "created"
    began = time.monotonic()
    assert study.start() is study
    assert time.monotonic() - began < 1.0
    until(lambda: len(study.curves()) >= 2, "the second report")
    study.pause()
    until(lambda: study.status == "paused", "the pause")
    # While paused no machine is rented and no time passes.
    assert not study.state.live_machines
    used_s, reports = study.state.now_s, len(study.curves())
    time.sleep(1.0)
    assert len(study.curves()) == reports
    study.resume()
    until(lambda: len(study.curves()) > reports, "a report after the pause")
    resumed = next(r for r in records(study, core.StartGang) if r.from_epoch > 0)
    assert resumed.checkpoint, "it goes on from what was stored"
    assert next(e.at_s for e in study.journal.read() if isinstance(e.record, core.Resume)) - used_s < 0.5

    study.adjust(deadline="90s", budget="$0.9")
    study.pin(0)
    until(lambda: 1 in study.state.trials, "the second trial")
    study.stop_trial(1)
    study.wait(90)
    table = study.results().set_index("trial")
    assert table.state.to_dict() == {0: "completed", 1: "stopped", 2: "completed", 3: "completed"}
    assert table.reason[1] == "stopped by hand"
    assert study.state.deadline_s == 90
    assert study.state.budget_micro == 900_000
    # Once each, though they were interrupted.
    assert study.curves().groupby("trial").epoch.apply(list)[0] == list(range(1, 9))
    assert_no_processes_left(home)

    assert_replay_decides_the_same(study, seer.RandomSearch())


def leaning(config, run):
    for epoch in run.epochs():
        time.sleep(0.02)
        run.report(accuracy=epoch / 10 - abs(math.log10(config["lr"]) + 2))


@pytest.mark.slow
def test_later_configurations_are_proposed_from_earlier_results(home):
    space = {"lr": seer.loguniform(1e-6, 1.0), "useless": seer.uniform(0, 1)}
    study = make(leaning, space, policy="seer", max_epochs=9, deadline="20s").run()
    off = (np.log10(study.results().set_index("trial").config_lr) + 2).abs()
    proposed, drawn = set(), 0
    for draw in records(study, core.Draw):
        drawn += draw.count
        proposed |= set(range(drawn - draw.n_proposed, drawn))
    chosen = off.index.isin(proposed)
    assert chosen.sum() >= 3
    assert not proposed & set(range(12)), "the first ones are random"
    assert off[chosen].median() < 0.5 * off[~chosen].median()
    assert_no_processes_left(home)


@pytest.mark.slow
def test_a_stopped_study_resumes_with_more_time(home):
    study = make(ticking, max_epochs=30, name=None)
    assert study.name.startswith("ticking-")
    study.start()
    until(lambda: len(study.curves()) >= 2, "the second report")
    study.stop()

    async def waiting():
        return await study

    assert asyncio.run(waiting()) is study
    assert (study.status, study.reason) == ("ended", "stopped by hand")
    assert study.best.checkpoint
    assert_no_processes_left(home)
    stopped = len(study.curves())
    # What is said now would wait until it goes on, and be done then.
    for act in (study.pause, lambda: study.pin(0), lambda: study.stop_trial(0)):
        with pytest.raises(seer.StudyEndedError):
            act()
    study.stop()
    assert not study.journal.inbox()
    # Ended is not for ever: there is time and money left.
    study.adjust(deadline="2min")
    used_s = study.now_s
    study.resume()
    # The new runner has written nothing yet: the journal still says that the study has ended.
    assert (study.status, study.now_s) == ("running", used_s)
    until(lambda: len(study.curves()) > stopped, "a report after the end")
    study.stop()
    study.wait(60)
    assert seer.studies().name.tolist() == [study.name]


def test_the_dashboard_can_pause_right_after_the_start(home):
    """Guards against a runner that is starting being taken for one that has died: it has no lock yet."""
    study = make(ticking, max_epochs=30).start()
    assert Controller(study).do({"do": "pause"}).startswith("pausing")
    until(lambda: study.status == "paused", "the pause")
    study.resume()
    study.stop()  # what comes after resume() is for the study that goes on
    study.wait(60)
    assert study.reason == "stopped by hand"
    assert_no_processes_left(home)


@pytest.mark.slow
def test_a_study_ends_by_its_deadline_with_everything_stored(home):
    study = make(ticking, max_epochs=1000, deadline="15s").start()
    began = time.monotonic()
    study.wait(60)
    assert time.monotonic() - began < 15 + 2
    state = study.state
    assert "deadline" in state.reason
    assert all(machine.ended_s <= 15 for machine in state.machines.values())
    last = study.results(view="last").set_index("trial")
    assert study.best.epoch == last.epochs[study.best.trial], "what was trained last is stored"
    assert_no_processes_left(home)


@pytest.mark.slow
def test_a_study_ends_within_its_budget(home):
    # 2 workers at a dollar a second each would cost 20 dollars to the deadline.
    dollar_a_second = seer.Local(max_workers=2, price_per_hour=3600)
    study = make(ticking, max_epochs=10_000, deadline="10min", budget=90, provider=dollar_a_second, policy="asha")
    study.start().wait(120)
    state = study.state
    assert state.ledger.spent_micro(state.now_s) <= 90_000_000
    # Most of it was of use: what is kept back is the lease.
    assert state.now_s < 80
    assert study.best.checkpoint
    assert_no_processes_left(home)


@pytest.mark.slow
def test_a_users_module_is_sent_as_it_was_when_the_study_was_made(home, monkeypatch):
    (home / "my_models.py").write_text("SCALE = 3\n\ndef scaled(value):\n    return SCALE * value\n")
    monkeypatch.syspath_prepend(str(home))
    my_models = importlib.import_module("my_models")

    def train(config, run):
        for epoch in run.epochs():
            run.report(accuracy=my_models.scaled(epoch))

    study = make(train, {"x": seer.choice(list(range(30)))}, max_epochs=3)
    # What the workers get is what it was when the study was made, not what lies in the folder by then.
    (home / "my_models.py").write_text("raise RuntimeError('not to be imported')\n")
    study.start().wait(90)
    del sys.modules["my_models"]
    assert study.results().value.tolist() == [9.0] * 30


def test_useless_checkpoints_are_removed(home):
    def train(config, run):
        model = torch.nn.Linear(2, 1)
        model = run.prepare(model)
        for epoch in run.epochs():
            time.sleep(0.02)
            run.report(accuracy=config["x"] - abs(epoch - 3))  # the third is the best

    study = make(train, {"x": seer.choice([0, 1, 2])}, policy="asha", max_epochs=9).start().wait(90)
    stored = {path.relative_to(home / "studies/study/checkpoints") for path in home.glob("**/checkpoints/*/*.pt")}
    state = study.state
    wanted = set()
    for trial in state.trials.values():
        if trial.alive or trial.state == "completed" or trial.id == state.best.id:
            wanted.add(Path(trial.best.checkpoint))
        if trial.alive:
            wanted |= {Path(report.checkpoint) for report in (trial.resume, trial.fallback) if report is not None}
    assert stored == wanted
    for path in stored:
        payload = torch.load(home / "studies/study/checkpoints" / path, weights_only=True)
        assert payload["epoch"] == int(path.name[:6])


@pytest.mark.slow
def test_studies_that_share_a_store_do_not_share_checkpoints(home, tmp_path):
    """Nor does one with one of the same name that was there before."""
    stores = []
    for _ in range(2):
        study = make(ticking, policy="grid", store=str(tmp_path / "store")).start().wait(60)
        assert (study.results().state == "completed").all()
        stores.append(Path(study.best.checkpoint).parents[1])
        shutil.rmtree(study.folder)
    assert stores[0] != stores[1]
    assert {store.parent for store in stores} == {tmp_path / "store"}
    assert all(store.name.startswith("study-") for store in stores)
