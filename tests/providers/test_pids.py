"""Processes that a dead runner has left behind."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from seer_nb.providers.local import PidFile


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_stopped_process_is_killed(sleeper, tmp_path):
    PidFile(tmp_path / "pids").add(sleeper.pid)
    os.kill(sleeper.pid, signal.SIGSTOP)
    PidFile(tmp_path / "pids").kill_all()
    assert sleeper.wait(10) == -signal.SIGKILL
    assert not (tmp_path / "pids").exists()
    PidFile(tmp_path / "pids").kill_all()


@pytest.mark.parametrize(
    "line", ["", "1 2", "x y z", "{pid} 0.0 {inode}", "{pid}", "{pid} nan {inode}", "{pid} 1e400 7"]
)
def test_other_processes_are_not_killed(sleeper, tmp_path, line):
    """Guards against a reused pid and a truncated file."""
    path = tmp_path / "pids"
    path.touch()
    path.write_text(line.format(pid=sleeper.pid, inode=path.stat().st_ino))
    PidFile(path).kill_all()
    assert sleeper.poll() is None


def test_copy_of_a_study_does_not_kill_the_originals_workers(sleeper, tmp_path):
    PidFile(tmp_path / "pids").add(sleeper.pid)
    shutil.copy2(tmp_path / "pids", tmp_path / "copy")
    PidFile(tmp_path / "copy").kill_all()
    assert sleeper.poll() is None


def test_process_that_could_not_be_recorded_is_not_killed(sleeper, tmp_path):
    nowhere = PidFile(tmp_path / "gone" / "pids")
    nowhere.add(sleeper.pid)
    nowhere.kill_all()
    assert sleeper.poll() is None
