"""Fixtures that run ``seer-nb doctor`` in a study folder of the test's own."""

import json

import pytest

from seer_nb.ui import cli


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "studies"


@pytest.fixture
def doctor(home, capsys):
    """A function that runs the doctor, and returns its exit code and its findings as JSON objects."""

    def run(*arguments):
        code = cli.main(["doctor", "--json", *map(str, arguments)])
        return code, json.loads(capsys.readouterr().out)

    return run
