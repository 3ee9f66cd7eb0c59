"""Processes that a dead runner has left."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from seer_nb.providers.local import Pids


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_one_that_stands_still_is_ended(sleeper, tmp_path):
    Pids(tmp_path / "pids").add(sleeper.pid)
    os.kill(sleeper.pid, signal.SIGSTOP)
    Pids(tmp_path / "pids").end_all()
    assert sleeper.wait(10) == -signal.SIGKILL
    assert not (tmp_path / "pids").exists()
    Pids(tmp_path / "pids").end_all()


@pytest.mark.parametrize(
    "line", ["", "1 2", "x y z", "{pid} 0.0 {inode}", "{pid}", "{pid} nan {inode}", "{pid} 1e400 7"]
)
def test_others_are_left_alone(sleeper, tmp_path, line):
    """Another process may have the number by now, and the file may have been cut off."""
    path = tmp_path / "pids"
    path.touch()
    path.write_text(line.format(pid=sleeper.pid, inode=path.stat().st_ino))
    Pids(path).end_all()
    assert sleeper.poll() is None


def test_a_copy_of_a_study_does_not_end_the_workers_of_the_original(sleeper, tmp_path):
    Pids(tmp_path / "pids").add(sleeper.pid)
    shutil.copy2(tmp_path / "pids", tmp_path / "copy")
    Pids(tmp_path / "copy").end_all()
    assert sleeper.poll() is None


def test_one_that_cannot_be_noted_is_left_alone(sleeper, tmp_path):
    nowhere = Pids(tmp_path / "gone" / "pids")
    nowhere.add(sleeper.pid)
    nowhere.end_all()
    assert sleeper.poll() is None
