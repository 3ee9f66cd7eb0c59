"""One runner a study."""

import fcntl
import os
import threading

from seer_nb.storage.lock import LOCK, RunnerLock, runner_pid


def test_only_one_takes_it_and_it_names_its_process(tmp_path):
    assert runner_pid(tmp_path) is None
    assert RunnerLock(tmp_path).take()
    assert not RunnerLock(tmp_path).take()
    assert runner_pid(tmp_path) == os.getpid()


def test_whoever_asks_for_the_runner_keeps_none_from_starting(tmp_path):
    with (tmp_path / LOCK).open("w") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (asking, fcntl.LOCK_UN)).start()
        assert RunnerLock(tmp_path).take()
