"""Real studies whose processes are killed or suspended, or whose parts raise."""

import json
import os
import signal
import subprocess
import sys
import time

import optuna
import psutil
import pytest

import seer_nb as seer
from seer_nb import core
from seer_nb.errors import SeerError, StudyFailedError
from seer_nb.runner.gangs import BROKEN
from seer_nb.storage import layout
from seer_nb.storage.lock import runner_pid
from seer_nb.ui import cli
from tests.support.studies import assert_no_processes_left, counting, kill, make, processes, training, worker_pids
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # real processes and real time


def trained(study):
    """Every trial has each epoch once."""
    curves = study.curves()
    assert curves.groupby("trial").epoch.apply(list).tolist() == [[1, 2, 3, 4, 5, 6]] * curves.trial.nunique()
    assert (study.results().state == "completed").all()
    return True


def records(study, kind):
    return [entry.record for entry in study.journal.read() if isinstance(entry.record, kind)]


def test_a_worker_killed_during_an_epoch_costs_only_that_epoch(home):
    study = make(counting, policy="random_search").start()
    (worker,) = training(study, epochs=2).workers
    kill(worker_pids(study)[worker])
    study.wait(60)
    assert trained(study)
    (lost,) = [r for r in records(study, core.GangEnded) if r.outcome == "lost"]
    assert "exited with code -9" in lost.error
    assert not lost.own_fault
    ended = [r for r in records(study, core.MachineEnded) if not r.expected]
    assert [r.exit_code for r in ended] == [-9]
    assert_no_processes_left(home)


def test_another_runner_continues_after_the_first_one_was_killed(home):
    study = make(counting, policy="random_search").start()
    training(study, epochs=2)
    kill(runner_pid(study.folder))
    # Its workers end by themselves at once, long before their lease.
    until(lambda: not processes(home), "the end of the workers")
    with pytest.raises(seer.RunnerError, match=r"the runner of study 'study' has died; resume\(\) continues"):
        study.wait(10)
    assert study.status == "interrupted"
    before = study.curves()

    other = seer.attach("study")
    assert other.status == "interrupted"
    other.resume().wait(60)
    assert trained(other)
    # No record is repeated or changed.
    assert other.curves().merge(before, how="inner").shape == before.shape
    assert len(records(other, core.RunnerStarted)) == 2
    spent = other.spending()
    state = other.state
    assert state.ledger.spent_micro(state.now_s) <= state.budget_micro
    # Machines of the dead runner are billed for as long as they may have lived on.
    assert spent.groupby("machine").state.last().eq("ended").all()
    assert_no_processes_left(home)


def test_a_worker_may_warm_up_for_longer_than_its_lease(home, monkeypatch):
    """Guards against leases that are renewed only for workers that are ready: a cold torch takes a minute to import."""
    monkeypatch.setattr("seer_nb.study.settings.lease_seconds", lambda *_: 2.0)

    class Slow:
        def __reduce__(self):
            return _wait, (5.0,)

    slow = Slow()

    def train(config, run):
        assert slow == "waited"
        run.report(accuracy=1)

    study = make(train, max_epochs=1).start().wait(60)
    assert (study.results().state == "completed").all()
    ready = [machine for machine in study.state.machines.values() if machine.ready_s is not None]
    assert ready
    assert all(machine.ready_s - machine.rented_s > 5 for machine in ready)
    assert all(record.expected for record in records(study, core.MachineEnded))


def _wait(seconds):
    """Called where a worker loads the training function, that is before it is ready."""
    time.sleep(seconds)
    return "waited"


def test_workers_of_a_suspended_runner_terminate_themselves_and_nothing_is_lost(home, monkeypatch):
    monkeypatch.setattr("seer_nb.study.settings.lease_seconds", lambda *_: 5.0)
    study = make(counting, max_epochs=1000, deadline="10min").start()
    until(lambda: study.curves().trial.nunique() == 2, "a report of both trials")
    workers, runner = list(worker_pids(study).values()), runner_pid(study.folder)
    assert len(workers) == 2
    kill(runner, signal.SIGSTOP)
    began = time.monotonic()
    gone = lambda pid: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # noqa: E731
    until(lambda: all(gone(pid) for pid in workers), "the end of the leases")
    assert time.monotonic() - began < 5.0 + 5.0
    stored = sorted((study.folder / layout.CHECKPOINTS).glob("*/*.pt"))
    last = {int(path.parent.name): int(path.name[:6]) for path in stored}
    kill(runner, signal.SIGCONT)
    study.stop()
    study.wait(60)
    assert study.status == "ended"
    # Messages sent during its suspension were read before it counted the workers as lost.
    heard = study.curves().groupby("trial").epoch.max()
    assert all(heard[trial] >= epoch for trial, epoch in last.items())
    assert max(last.values()) > 5
    assert_no_processes_left(home)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root, for a file system of its own")
def test_the_runner_waits_while_the_disk_is_full_and_nothing_is_lost():
    command = [sys.executable, "-m", "seer_nb.bench.faults.run_one", "the journal's disk is full for 6 s", "local", "0"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    verdict = json.loads(told.splitlines()[-1])
    assert (verdict["wrong"], verdict["repeated"], verdict["leftovers"]) == ("", 0, 0)


def test_a_terminated_runner_saves_trials_and_releases_machines_first(home):
    study = make(counting, policy="random_search", max_epochs=1000, deadline="10min").start()
    training(study, epochs=2)
    runner = psutil.Process(runner_pid(study.folder))
    runner.terminate()
    psutil.wait_procs([runner], timeout=10)
    assert not runner.is_running()
    assert_no_processes_left(home)
    state = study.state
    assert (study.status, state.phase) == ("interrupted", "paused")
    assert not state.live_machines
    assert all(record.expected for record in records(study, core.MachineEnded))
    curve = study.curves().groupby("trial").epoch.max()
    assert all(state.trials[trial].resume_epoch == epoch for trial, epoch in curve.items()), "all is saved"
    study.resume()
    until(lambda: study.curves().epoch.max() > curve.max(), "more epochs")
    study.stop()
    study.wait(60)


@pytest.mark.parametrize("by", ["a call", "the command"])
def test_stop_ends_a_study_whose_runner_has_died(home, by):
    study = make(counting, max_epochs=1000, deadline="10min").start()
    training(study, epochs=2)
    kill(runner_pid(study.folder))
    until(lambda: study.status == "interrupted")
    if by == "a call":
        study.stop()
    else:
        assert cli.main(["stop", study.name]) == 0
    until(lambda: study.status != "interrupted", "a runner")
    study.wait(60)
    assert (study.status, study.reason) == ("ended", "stopped by hand")
    assert_no_processes_left(home)


def breaking(config, run):
    """One configuration leaves its worker in a state in which nothing can be trained, as an assertion on a GPU does."""
    from seer_nb.worker import gpu

    assert not gpu.is_broken(), "it trains where nothing can be trained"
    for epoch in run.epochs():
        if config["x"] == 0 and epoch == 2:
            gpu.is_broken = lambda: True
            raise RuntimeError("CUDA error: device-side assert triggered")
        run.report(accuracy=epoch)


def test_only_the_trial_that_breaks_its_gpu_fails_and_its_worker_is_replaced(home):
    study = make(breaking, {"x": seer.choice([0, 1, 2])}, max_epochs=3, provider=seer.Local(max_workers=1))
    study.run()
    found = study.results()
    assert found.state[found.config_x == 0].tolist() == ["failed"]
    assert set(found.state[found.config_x > 0]) == {"completed"}
    reasons = [machine.reason for machine in study.state.machines.values()]
    assert reasons.count(BROKEN) == 1
    assert_no_processes_left(home)


class Failing(optuna.samplers.RandomSampler):
    """A sampler that raises in one of its methods."""

    def __init__(self, method):
        super().__init__(seed=0)
        self.method = method

    def fail_in(self, method):
        if self.method == method:
            raise RuntimeError(f"{method} failed\nfor a reason")

    def infer_relative_search_space(self, study, trial):
        self.fail_in("infer")
        return {}

    def sample_independent(self, study, trial, name, distribution):
        self.fail_in("draw")
        return 99 if self.method == "leave the space" else super().sample_independent(study, trial, name, distribution)

    def after_trial(self, *_):
        self.fail_in("after_trial")

    def reseed_rng(self):
        self.fail_in("reseed_rng")


def test_a_sampler_that_raises_ends_the_study_which_resumes_with_another_one(home):
    study = make(counting, sampler=Failing("draw"), max_epochs=1)
    sentence = "the sampler Failing raised RuntimeError: draw failed"
    with pytest.raises(StudyFailedError) as caught:
        study.run()
    assert str(caught.value) == f"study 'study' failed: {sentence}"
    assert (study.status, study.reason) == ("failed", sentence)

    with pytest.raises(TypeError, match="sampler='tpe': not an Optuna sampler"):
        study.resume(sampler="tpe")
    # Before the first record of the new runner, the journal still says that the study has failed.
    assert study.resume(sampler=optuna.samplers.RandomSampler(seed=0)).status == "running"
    with pytest.raises(SeerError, match="a runner is alive"):
        study.resume(sampler=optuna.samplers.RandomSampler(seed=0))
    assert study.wait(60).status == "ended"
    assert sorted(study.results().config_x) == [0, 1]
    assert_no_processes_left(home)


@pytest.mark.parametrize("method", ["infer", "after_trial", "leave the space"])
def test_whatever_method_of_a_sampler_raises_the_study_ends(home, method):
    study = make(counting, {"x": seer.randint(0, 9)}, sampler=Failing(method), max_epochs=1)
    with pytest.raises(StudyFailedError, match=r"the sampler Failing raised (Runtime|Value)Error: "):
        study.run()
    assert_no_processes_left(home)


def test_a_sampler_that_cannot_be_restored_ends_the_study_again(home):
    study = make(counting, {"x": seer.randint(0, 9)}, sampler=Failing("reseed_rng"), max_epochs=3).start()
    training(study, epochs=1)
    study.stop()
    study.wait(60)
    for _ in range(2):
        with pytest.raises(StudyFailedError, match="the sampler Failing raised RuntimeError: reseed_rng failed"):
            study.resume().wait(60)
    study.resume(sampler=Failing("none"))
    until(lambda: study.state.phase == "running", "a new runner")
    study.stop()
    study.wait(60)


class Unreachable(seer.Local):
    """A provider that raises in one of its methods."""

    where = "open"

    def fleet(self, context):
        if self.where == "fleet":
            raise PermissionError("no key for the cloud")
        fleet = super().fleet(context)

        async def fail(*_, **__):
            raise PermissionError("no key for the cloud")

        setattr(fleet, self.where, fail)
        return fleet


@pytest.mark.parametrize("where", ["fleet", "open", "adopt"])
def test_a_provider_that_raises_ends_the_study(home, where):
    provider = Unreachable(max_workers=1)
    provider.where = where
    study = make(counting, provider=provider)
    for start in (study.start, study.resume):
        with pytest.raises(StudyFailedError) as caught:
            start().wait(60)
        reason = "the provider Unreachable raised PermissionError: no key for the cloud"
        assert str(caught.value) == f"study 'study' failed: {reason}"
    # A fork server that still imports torch exits after that.
    until(lambda: not processes(home), "the end of all processes")


def test_a_provider_whose_rent_raises_ends_the_study(home):
    provider = Unreachable(max_workers=1)
    provider.where = "rent"
    study = make(counting, provider=provider)
    for start in (study.start, study.resume):
        with pytest.raises(StudyFailedError, match=r"machines in a row did not boot: .*no key for the cloud"):
            start().wait(60)
    assert not study.state.live_machines
    assert_no_processes_left(home)


def test_a_policy_that_raises_ends_the_study(home):
    class Moody:
        def decide(self, view):
            return 1 / len(view.trials)

    with pytest.raises(StudyFailedError, match="the policy Moody raised ZeroDivisionError: "):
        make(counting, policy=Moody()).run()
    assert_no_processes_left(home)
