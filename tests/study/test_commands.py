"""Commands at odd moments: while paused, before any runner lives, and many at once."""

import os
import signal
import sqlite3
import time
from datetime import datetime, timedelta

import psutil
import pytest

import seer_nb as seer
from seer_nb import core
from seer_nb.storage import layout
from seer_nb.storage.lock import runner_pid
from tests.support.studies import assert_no_processes_left, counting, kill, make, training, worker_pids
from tests.support.waiting import until


def records(study, kind):
    return [entry.record for entry in study.journal.read() if isinstance(entry.record, kind)]


def paused(**changes):
    study = make(counting, **changes).start()
    training(study, 1)
    study.pause()
    until(lambda: study.status == "paused", "the pause")
    return study


def test_stop_ends_a_paused_study(home):
    study = paused()
    study.stop()
    study.wait(30)
    assert (study.status, study.reason) == ("ended", "stopped by hand")
    assert_no_processes_left(home)


def test_unknown_commands_are_ignored(home):
    study = paused()
    with sqlite3.connect(study.folder / layout.JOURNAL) as journal:
        journal.execute('INSERT INTO inbox (wall, body) VALUES (0, \'{"type": "Newer"}\')')
    journal.close()
    study.stop()
    study.wait(30)
    assert study.reason == "stopped by hand"
    assert not study.journal.inbox()


def interrupted(**changes):
    study = make(counting, **changes).start()
    training(study, 1)
    kill(runner_pid(study.folder))
    until(lambda: study.status == "interrupted", "the runner's end")
    return study


def after_the_second_start(study):
    found = [entry.record for entry in study.journal.read()]
    starts = [place for place, record in enumerate(found) if isinstance(record, core.RunnerStarted)]
    return found[starts[1] :]


@pytest.mark.slow
def test_commands_sent_without_a_runner_are_read_before_the_next_one_rents(home):
    study = interrupted()
    for cents in range(50, 99):
        study.adjust(budget=cents / 100)
    study.stop()
    study.wait(30)
    found = after_the_second_start(study)
    assert found[0].waiting == 2, "of many moves of a slider the last one counts"
    assert [type(record) for record in found[1:3]] == [core.SetBudget, core.Stop]
    assert not [record for record in found if isinstance(record, core.Rent)]
    assert study.state.budget_micro == 980_000
    assert_no_processes_left(home)


@pytest.mark.slow
def test_nothing_is_rented_after_a_wall_clock_deadline_passed_without_a_runner(home):
    study = interrupted(deadline=datetime.now().astimezone() + timedelta(seconds=25))
    time.sleep(max(0.0, study.state.deadline_wall - time.time()))
    study.resume()
    study.wait(30)
    found = after_the_second_start(study)
    assert not [record for record in found if isinstance(record, core.Rent)]
    assert study.reason == "the deadline was reached"


@pytest.mark.slow
def test_a_failing_policy_leaves_no_machines_in_the_state_that_were_never_rented(home):
    study = make(counting, policy=Failing())
    study.start()
    with pytest.raises(seer.StudyFailedError, match="by my own fault"):
        study.wait(60)
    state = study.state
    assert len(state.machines) == 2
    assert not state.live_machines
    assert state.ledger.committed_micro(state.now_s) == 0
    assert_no_processes_left(home)


class Failing:
    """Wants two workers; fails once when they are there."""

    def decide(self, snapshot):
        if len([machine for machine in snapshot.machines if machine.state == "ready"]) == 2 and not self.failed:
            self.failed = True
            raise RuntimeError("by my own fault")
        return core.Plan(jobs=(core.Job(trial=None, until=3, workers=2, reason="two"),), workers=2, reason="two")

    failed = False


@pytest.mark.slow
def test_workers_lost_with_their_fork_server_do_not_count_as_failures(home):
    study = make(counting).start()
    training(study, 1)
    runner = psutil.Process(runner_pid(study.folder))
    (server,) = [child for child in runner.children() if "forkserver" in " ".join(child.cmdline())]
    server.kill()
    study.wait(60)
    assert set(study.results().state) == {"completed"}
    assert len(records(study, core.MachineEnded)) >= 3
    assert_no_processes_left(home)


def test_a_copied_study_uses_its_own_checkpoints_and_a_moved_one_resumes(home, monkeypatch, tmp_path):
    import shutil

    study = make(saving, max_epochs=4)
    study.run()
    away = tmp_path / "away"
    shutil.copytree(tmp_path / "studies", away)
    monkeypatch.setenv("SEER_HOME", str(away))
    copy = seer.attach("study")
    assert copy.state.settings.store == str(away / "study" / layout.CHECKPOINTS)
    shutil.rmtree(tmp_path / "studies")
    assert copy.best.state["weight"] == copy.best.value
    assert str(away) in copy.best.checkpoint


def saving(config, run):
    for epoch in run.epochs():
        run.state["weight"] = float(epoch + config["x"])
        run.report(accuracy=run.state["weight"])


@pytest.mark.slow
def test_a_worker_suspended_when_its_runner_died_is_terminated(home):
    study = make(counting).start()
    training(study, 1)
    pids = worker_pids(study)
    os.kill(next(iter(pids.values())), signal.SIGSTOP)
    kill(runner_pid(study.folder))
    until(lambda: study.status == "interrupted", "the runner's end")
    study.resume()
    study.wait(60)
    assert set(study.results().state) == {"completed"}
    assert_no_processes_left(home)


def test_another_process_can_open_a_study_that_is_starting(home):
    study = make(counting)
    study.create_folder()
    other = seer.attach("study")
    assert other.status == "running", "its runner has not taken its lock yet"
    assert study.status == other.status


def test_the_name_is_free_again_after_an_interrupted_start(home, monkeypatch):
    study = make(counting)

    def interrupt(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(layout, "sign", interrupt)
        with pytest.raises(KeyboardInterrupt):
            study.start()
    assert not study.folder.exists()
    assert make(counting).start().wait(60).status == "ended"


@pytest.mark.slow
def test_resume_does_not_wait_forever_for_a_suspended_runner(home, monkeypatch):
    study = make(counting).start()
    training(study, 1)
    pid = runner_pid(study.folder)
    monkeypatch.setattr("seer_nb.study.study.ANSWER_S", 1.0)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(seer.RunnerError, match=r"^the runner of study 'study' does not answer: "):
            study.resume()
    finally:
        os.kill(pid, signal.SIGCONT)
    study.stop()
    study.wait(60)
