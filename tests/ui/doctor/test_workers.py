"""Findings about workers that cannot start or cannot connect."""

import sys

import pytest

from seer_nb.ui.cli.doctor import local


@pytest.mark.slow
def test_workers_without_connection_are_a_problem(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    (problem,) = local.check_workers()
    assert problem.level == "problem"
    assert problem.text.startswith("two workers could not train together (gloo): ")
    assert "unset GLOO_SOCKET_IFNAME" in problem.advice


def test_workers_that_cannot_start_are_a_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    (problem,) = local.check_workers()
    assert (problem.level, problem.text) == ("problem", "no worker process could start: exit code 1")


def test_slow_start_of_workers_is_a_warning(monkeypatch):
    monkeypatch.setattr(local, "WORKERS_TIME_LIMIT_S", 0.05)
    (warning,) = local.check_workers()
    assert warning.level == "warning"
    assert "torch takes long to import" in warning.text
