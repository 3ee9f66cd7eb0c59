"""Real studies without progress show why."""

import contextlib
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import seer_nb as seer
from seer_nb import core
from seer_nb._utils.retry import retry_os_errors
from seer_nb.storage.lock import runner_pid
from seer_nb.worker import tracebacks
from tests.support.studies import kill, make, training, worker_pids
from tests.support.waiting import until

pytestmark = pytest.mark.slow


def sleepy(config, run):
    """Hangs in its third epoch, after two of a second."""
    for epoch in run.epochs():
        time.sleep(1.0 if epoch < 3 else 1000.0)
        run.report(accuracy=epoch)


def long(study):
    """How long its gangs have been silent."""
    state = study.state
    (gang,) = state.gangs.values()
    return time.time() - study.journal_view.wall + state.now_s - gang.last_message_s


@pytest.fixture
def end():
    """Ends the study, which would not save what hangs."""
    kept = []
    yield kept.append
    for study in kept:
        kill(runner_pid(study.folder))


@pytest.mark.slow
def test_a_sleeping_function_is_reported_with_its_line(home, end):
    study = make(sleepy, {"x": 1}, provider=seer.Local(max_workers=1)).start()
    end(study)
    training(study, epochs=2)
    assert study.stalled == ""
    until(lambda: study.stalled, "a warning")
    assert long(study) < 2 * 1.0 + 1.5, "within two epochs, and the time for a look"
    told = until(lambda: (found := study.stalled) and ": at " in found and found, "the place")
    assert "trial 0 has not reported for " in told
    assert "test_stalled.py:" in told
    assert told.endswith("in sleepy: time.sleep(1.0 if epoch < 3 else 1000.0)")
    assert study.status == "running", "nothing is ended for it"
    assert f"stalled: {told[:20]}" in study._repr_mimebundle_()["text/plain"]
    (warning,) = [entry.record for entry in study.journal.read() if isinstance(entry.record, core.Silent)]
    assert warning.where in told
    assert "Silent" in set(study.events().kind)


@pytest.mark.slow
def test_a_suspended_worker_is_reported(home, end):
    study = make(counting, {"x": 1}, provider=seer.Local(max_workers=1), max_epochs=1000).start()
    end(study)
    training(study, epochs=2)
    (worker,) = worker_pids(study).values()
    kill(worker, signal.SIGSTOP)
    until(lambda: study.stalled.endswith(": its worker does not answer"), "that it does not answer")
    kill(worker, signal.SIGCONT)
    until(lambda: study.stalled == "", "the end of the warning")


@pytest.mark.slow
def test_a_suspended_runner_is_reported(home, end):
    study = make(counting, {"x": 1}, provider=seer.Local(max_workers=1), max_epochs=1000).start()
    end(study)
    training(study, epochs=1)
    pid = runner_pid(study.folder)
    kill(pid, signal.SIGSTOP)
    until(lambda: study.stalled == f"its runner is suspended: kill -CONT {pid} continues it", "the suspended runner")
    kill(pid, signal.SIGCONT)
    until(lambda: study.stalled == "", "the end of the warning")


def counting(config, run):
    for epoch in run.epochs():
        time.sleep(0.2)
        run.report(accuracy=epoch)


def test_a_thread_that_waits_for_the_store_is_described_so():
    def fails():
        raise OSError("out of reach")

    def waits():
        with contextlib.suppress(seer.SeerError):
            retry_os_errors(fails, 1.0)

    thread = threading.Thread(target=waits, daemon=True)
    thread.start()
    time.sleep(0.1)
    assert tracebacks.describe_position(sys._current_frames()[thread.ident]) == "waiting for the checkpoint store"  # noqa: SLF001
    thread.join()


@pytest.mark.slow
def test_a_store_that_cannot_be_written_is_reported(home, end, tmp_path):
    """The last epoch must be stored, so it is tried again for a while."""
    store = tmp_path / "store"
    given = {"provider": seer.Local(max_workers=1), "max_epochs": 4, "store": store}
    study = make(waiting, {"go": str(tmp_path / "go")}, **given).start()
    end(study)
    training(study, epochs=2)
    store.rename(tmp_path / "elsewhere")
    store.write_text("in the way")
    (tmp_path / "go").touch()
    until(lambda: study.stalled.endswith(": waiting for the checkpoint store"), "the wait for the store")


def waiting(config, run):
    """Goes on after its second epoch when it is told to."""
    for epoch in run.epochs():
        time.sleep(0.2)
        while epoch == 3 and not Path(config["go"]).exists():
            time.sleep(0.05)
        run.report(accuracy=epoch)
        run.state["epoch"] = epoch
