"""The file of resource usage: it is read only while it is recent and complete."""

import time

import pytest

from seer_nb.storage import resource_usage
from seer_nb.storage.resource_usage import ResourceUsage, WorkerUsage
from tests.support.records import small_study

MIB = 1024 * 1024


def now(**workers):
    return ResourceUsage(time.time(), WorkerUsage(2.4, 210 * MIB), workers)


def test_usage_is_read_as_it_was_written(tmp_path):
    usage = now(a=WorkerUsage(50.0, 100))
    resource_usage.write(tmp_path, usage)
    assert resource_usage.read(tmp_path) == usage
    assert [path.name for path in tmp_path.iterdir()] == ["resource_usage.json"]


def test_old_usage_is_ignored(tmp_path):
    resource_usage.write(tmp_path, ResourceUsage(time.time() - 60, WorkerUsage(1.0, 1), {}))
    assert resource_usage.read(tmp_path) is None


@pytest.mark.parametrize("content", ["", "[]", '{"wall": 1}', '{"wall": "x", "runner": [], "workers": 3}'])
def test_a_damaged_usage_file_is_ignored(tmp_path, content):
    assert resource_usage.read(tmp_path) is None
    (tmp_path / "resource_usage.json").write_text(content)
    assert resource_usage.read(tmp_path) is None


def test_usage_of_workers_adds_up():
    usage = now(**{"0.0": WorkerUsage(50.0, 300 * MIB), "0.1": WorkerUsage(51.0, 2000 * MIB)})
    both = usage.of(("0.0", "0.1"))
    assert (both.cpu_in_words, both.memory_in_words) == ("101 %", "2.2 GiB")
    assert usage.of(("0.0",)).memory_in_words == "300 MiB"
    assert usage.of(("7.0",)) is None


def test_the_dashboard_shows_usage(tmp_path, monkeypatch):
    from seer_nb.views.page import PageData, PageOptions, render_fragment

    study = small_study()
    usage = now(**{"0.0": WorkerUsage(97.2, 300 * MIB)})
    shown = render_fragment(PageData(study.state, study.history, "running", resource_usage=usage), PageOptions())
    assert "2 machines, $7.20 per hour; the runner uses 210 MiB and 2 % of a core" in shown
    assert "<td>300 MiB</td><td>97 %</td>" in shown
