"""Resource usage of a real study's processes is shown while it runs, and is not journalled."""

import time

import pytest

import seer_nb as seer
from seer_nb.storage import resource_usage
from seer_nb.views.page import PageBuilder, PageData, PageOptions
from tests.support.studies import make, training
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # real processes and real time


def busy(config, run):
    for epoch in run.epochs():
        kept = bytearray(200 * 1024 * 1024)
        kept[::4096] = b"x" * len(kept[::4096])
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        run.report(accuracy=epoch)


def test_resource_usage_of_a_real_study_is_shown(home):
    study = make(busy, {"x": 1}, provider=seer.Local(max_workers=1), max_epochs=1000).start()
    training(study, epochs=1)
    found = until(
        lambda: (now := resource_usage.read(study.folder)) and now.workers.get("0.0") and now, "what a worker uses"
    )
    assert found.runner.memory > 30 * 1024 * 1024
    used = until(
        lambda: (now := resource_usage.read(study.folder)).workers["0.0"].cpu > 20 and now.workers["0.0"], "its work"
    )
    assert used.memory > 200 * 1024 * 1024
    assert (study.folder / "resource_usage.json").stat().st_mode & 0o77 == 0
    subject = PageData(study.state, study.history, "running", resource_usage=found)
    shown = PageBuilder().page(subject, PageBuilder().view(subject), PageOptions()).parts["machines"]
    assert f"the runner uses {found.runner.memory_in_words} and {found.runner.cpu_in_words} of a core" in shown
    assert found.workers["0.0"].memory_in_words in shown
    assert not any("memory" in str(entry.record) for entry in study.journal.read())
    study.stop()
    study.wait(60)
    assert resource_usage.read(study.folder) is None
    assert not list(study.folder.glob("*resource_usage*"))
