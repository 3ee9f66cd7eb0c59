"""The logs of a real study whose function, or what it starts, prints without end."""

import subprocess
import time

import pytest

import seer_nb as seer
from seer_nb.storage import log_files
from tests.support.studies import make
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # real processes and real time


def loud(config, run):
    """Past Python, where nothing of seer_nb is in between."""
    with subprocess.Popen("yes this is far too much", shell=True) as process:
        for epoch in run.epochs():
            time.sleep(0.5)
            run.report(accuracy=epoch)
        process.kill()


def test_endless_output_of_a_function_does_not_fill_the_disk(home, monkeypatch):
    study = make(loud, {"x": 1}, provider=seer.Local(max_workers=1), max_epochs=8).start()
    folder = study.folder / "logs"
    cut = until(lambda: list(folder.glob("worker-*.log.1")), "a log that was cut")
    study.wait(60)
    assert (study.results().state == "completed").all()
    assert {path.stat().st_size <= log_files.MAX_FILE for path in cut} == {True}


def test_log_lines_carry_ids(home):
    def train(config, run):
        for epoch in run.epochs():
            run.report(accuracy=epoch)

    study = make(train, {"x": 1}, provider=seer.Local(max_workers=1), max_epochs=2).start().wait(60)
    logged = [path.read_text().splitlines() for path in (study.folder / "logs").iterdir()]
    lines = [line for text in logged for line in text]
    assert lines
    assert not [line for line in lines if not (line.startswith("time=") and " study=study " in line)]
    assert any(" worker=0.0 " in line for line in lines), lines
