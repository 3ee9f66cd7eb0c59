"""Whole studies on Dask clusters in the runner's or the notebook's process, also when one of these dies."""

import os
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from distributed import Client

import seer_nb as seer
from seer_nb import core
from seer_nb.providers import DaskCluster
from seer_nb.storage.lock import runner_pid
from tests.providers import clusters
from tests.support.effort import thorough
from tests.support.studies import assert_no_processes_left, counting, kill, make, processes, training
from tests.support.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def home(home):
    """Use a fresh home in every test."""
    return home


class TwoThenOne:
    """Train two trials on two workers for three epochs, then the better one alone."""

    def decide(self, snapshot):
        running = [trial for trial in snapshot.trials if trial.alive]
        fresh = [core.Job(trial=None, until=3, reason="one of two")] * (2 - len(snapshot.trials))
        if fresh or any(trial.epoch < 3 for trial in running):
            jobs = [core.Job(trial=trial.id, until=3, reason="one of two") for trial in running if trial.epoch < 3]
            return core.Plan(jobs=(*jobs, *fresh), workers=2, reason="two")
        best = max(snapshot.trials, key=lambda trial: trial.best.value)
        if best.epoch >= snapshot.max_epochs:
            return core.Plan(done=not snapshot.gangs, reason="the better one is trained")
        job = core.Job(trial=best.id, until=snapshot.max_epochs, reason="the better one")
        return core.Plan(jobs=(job,), workers=1, reason="one")


def records(study, kind):
    return [entry for entry in study.journal.read() if isinstance(entry.record, kind)]


def check_two_then_one(study):
    table = study.results().set_index("trial")
    assert sorted(table.epochs) == [3, 40]
    rented = [e for e in records(study, core.Rent) if e.record.offer == "worker"]
    assert len(rented) == 2
    (first, second, host) = records(study, core.MachineEnded)
    assert all(entry.record.expected for entry in (first, second, host))
    # One worker was retired long before the other had trained its trial; the cluster ended last.
    (retired, *_) = [e for e in records(study, core.Retire) if e.record.machine == first.record.machine]
    assert sum(retired.seq < e.seq < second.seq for e in records(study, core.Reported)) > 10
    assert study.state.machines[host.record.machine].runs_scheduler
    assert 0 < study.state.ledger.spent_micro(study.state.now_s) < 2 * 50_000 * 60 / 3600


@pytest.mark.parametrize("make_cluster", [clusters.local, pytest.param(clusters.subprocesses, marks=thorough)])
def test_runners_cluster_grows_and_shrinks(home, make_cluster):
    provider = DaskCluster(make_cluster, 0.05, **clusters.OPTIONS)
    study = make(counting, policy=TwoThenOne(), provider=provider, max_epochs=40).start().wait(90)
    assert study.reason == "the better one is trained"
    check_two_then_one(study)
    assert_no_processes_left(home)


def test_notebooks_cluster_grows_and_shrinks_and_keeps_its_workers(home):
    with clusters.local(workers=1) as cluster:
        (own,) = (process.pid for process in cluster.workers.values())
        provider = DaskCluster(cluster, 0.05, **clusters.OPTIONS)
        with Client(cluster, set_as_default=False) as client:
            client.wait_for_workers(1)
            mine = client.submit(str, "the user's")
            study = make(counting, policy=TwoThenOne(), provider=provider, max_epochs=40).start().wait(90)
            check_two_then_one(study)
            assert [process.pid for process in cluster.workers.values()] == [own]
            assert mine.result() == "the user's"
            # The study has left no plugins: no lease terminates the worker, and new workers get no agent.
            (plugins,) = client.run(lambda dask_worker: list(dask_worker.plugins)).values()
            assert not [name for name in plugins if "seer" in name]
            # Another study can use the cluster.
            again = make(counting, provider=provider, name="again", max_epochs=2).start().wait(60)
            assert (again.results().state == "completed").all()
            assert psutil.pid_exists(own)


def test_next_runner_creates_a_new_cluster_after_a_kill(home):
    provider = DaskCluster(clusters.local, 0.05, **clusters.OPTIONS)
    study = make(counting, provider=provider).start()
    training(study, epochs=2)
    kill(runner_pid(study.folder))
    # Its workers exit at once, long before their leases expire.
    until(lambda: not processes(home), "the end of the workers")
    seer.attach("study").resume().wait(90)
    assert study.curves().groupby("trial").epoch.apply(list).tolist() == [[1, 2, 3, 4, 5, 6]] * 2
    assert_no_processes_left(home)


def test_scheduler_that_outlives_its_runner_ends_with_the_lease(home, monkeypatch):
    monkeypatch.setattr("seer_nb.study.settings.lease_seconds", lambda *_: 6.0)
    provider = DaskCluster(clusters.subprocesses, 0.05, **clusters.OPTIONS)
    study = make(counting, provider=provider, max_epochs=1000).start()
    # Both workers are ready: a booting one would try to reach its scheduler for longer than the lease.
    until(lambda: study.curves().trial.nunique() == 2, "a report of both trials")
    kill(runner_pid(study.folder))
    began = time.monotonic()
    until(lambda: not processes(home), "the end of the lease")
    assert 3.0 < time.monotonic() - began < 6.0 + 10.0


def test_notebooks_cluster_is_released_when_the_runner_is_killed(home):
    with clusters.local() as cluster:
        study = make(counting, provider=DaskCluster(cluster, 0.05, **clusters.OPTIONS)).start()
        training(study, epochs=2)
        assert cluster.workers
        kill(runner_pid(study.folder))
        until(lambda: not cluster.workers and not cluster.worker_spec, "the end of the workers")
        study.resume().wait(90)
        assert study.curves().groupby("trial").epoch.apply(list).tolist() == [[1, 2, 3, 4, 5, 6]] * 2
        assert not cluster.workers


NOTEBOOK = """
    import time
    from tests.providers import clusters
    from tests.providers.test_dask_studies import counting
    from tests.support.studies import make
    from seer_nb.providers import DaskCluster

    if __name__ == "__main__":
        make(counting, provider=DaskCluster(clusters.local(), 0.05, **clusters.OPTIONS), max_epochs=1000).start()
        time.sleep(600)
"""


def test_study_fails_with_a_message_when_the_notebook_dies(home, pytestconfig):
    (home / "notebook.py").write_text(textwrap.dedent(NOTEBOOK))
    environment = {"PYTHONPATH": str(pytestconfig.rootpath)}
    notebook = subprocess.Popen([sys.executable, "notebook.py"], env={**os.environ, **environment})
    try:
        # The runner starts when the journal is complete.
        until(lambda: runner_pid(home / "studies/study"), "the study's runner")
        study = seer.attach("study")
        training(study, epochs=2)
    finally:
        notebook.kill()
        notebook.wait()
    with pytest.raises(
        seer.StudyFailedError, match="the notebook's process, in which the Dask cluster lived, has exited"
    ):
        study.wait(60)
    assert study.best.checkpoint, "the checkpoint must be kept"
    assert_no_processes_left(home)


def test_workers_with_several_threads_are_refused(home):
    two = lambda: clusters.LocalCluster(n_workers=0, threads_per_worker=2, dashboard_address=None)  # noqa: E731
    study = make(counting, provider=DaskCluster(two, 0.05, **clusters.OPTIONS)).start()
    with pytest.raises(seer.StudyFailedError, match=r"workers have 2 threads each.*give them one thread"):
        study.wait(60)
    assert_no_processes_left(home)
