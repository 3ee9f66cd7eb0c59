"""How a study is displayed with and without widgets, and its report."""

import sys
import xml.etree.ElementTree as ET

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from tests.support.records import big_study, small_study


@pytest.fixture
def shell():
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def shown(shell, study):
    shell.user_ns["study"] = study
    with capture_output() as captured:
        shell.run_cell("from IPython.display import display; display(study)")
    return [output.data for output in captured.outputs]


def test_terminal_gets_text_and_a_static_picture(shell, journalled):
    (bundle,) = shown(shell, journalled(small_study()).study)
    assert bundle["text/plain"].startswith("study digits: running")
    assert "<svg" in bundle["text/html"]


def test_kernel_without_widgets_gets_a_static_picture(shell, journalled, monkeypatch):
    monkeypatch.setattr(shell, "kernel", object(), raising=False)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    (bundle,) = shown(shell, journalled(small_study()).study)
    assert "<svg" in bundle["text/html"]
    assert "application/vnd.jupyter.widget-view+json" not in bundle


def test_kernel_with_widgets_gets_a_live_view_and_a_static_picture(shell, journalled, monkeypatch):
    monkeypatch.setattr(shell, "kernel", object(), raising=False)
    study = journalled(small_study()).study
    live, picture = shown(shell, study)
    assert "application/vnd.jupyter.widget-view+json" in live
    assert f'data-stands-for="{study.dashboard().ident}"' in picture["text/html"]
    study.dashboard().close()


def test_study_has_only_one_live_view(journalled):
    study = journalled(small_study()).study
    assert study.dashboard() is study.dashboard()
    study.dashboard().close()


def test_report_is_one_self_contained_file(journalled, tmp_path):
    path = journalled(big_study()).study.report(tmp_path / "report.html")
    text = path.read_text()
    assert "<script" not in text
    assert "http" not in text
    body = ET.fromstring(text[text.index("<section") : text.index("</main>")])
    assert len(body.findall(".//table[@class='seer-trials']/tbody/tr")) == 60
    assert len(body.findall(".//figure/svg")) == 3
    assert len(body.findall(".//ol/li")) > 100


def test_report_with_another_suffix_is_an_error(journalled, tmp_path):
    with pytest.raises(ValueError, match=r"report\.pdf': a report is one html file; expected the suffix \.html"):
        journalled(small_study()).study.report(tmp_path / "report.pdf")
