"""What is said when workers cannot be made, or cannot reach each other."""

import sys

import pytest

from seer_nb.ui.cli.doctor import local


@pytest.mark.slow
def test_workers_that_cannot_reach_each_other(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    (problem,) = local.check_workers()
    assert problem.level == "problem"
    assert problem.text.startswith("two workers could not train together (gloo): ")
    assert "unset GLOO_SOCKET_IFNAME" in problem.advice


def test_no_torch(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    (problem,) = local.check_workers()
    assert (problem.level, problem.text) == ("problem", "no worker process could be made: exit code 1")


def test_workers_that_take_too_long(monkeypatch):
    monkeypatch.setattr(local, "WORKERS_LIMIT_S", 0.05)
    (warning,) = local.check_workers()
    assert warning.level == "warning"
    assert "torch takes long to import" in warning.text
