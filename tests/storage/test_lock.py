"""One runner a study."""

import fcntl
import os
import threading

from seer_nb.storage.lock import LOCK, RunnerLock, runner_pid


def test_only_one_process_takes_the_lock_and_the_file_names_it(tmp_path):
    assert runner_pid(tmp_path) is None
    assert RunnerLock(tmp_path).take()
    assert not RunnerLock(tmp_path).take()
    assert runner_pid(tmp_path) == os.getpid()


def test_reading_the_runners_id_does_not_keep_a_runner_from_starting(tmp_path):
    with (tmp_path / LOCK).open("w") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (asking, fcntl.LOCK_UN)).start()
        assert RunnerLock(tmp_path).take()
