"""The doctor looks at a home of the test's own."""

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
    """Its exit code, and what it found, as a program reads it."""

    def ask(*arguments):
        code = cli.main(["doctor", "--json", *map(str, arguments)])
        return code, json.loads(capsys.readouterr().out)

    return ask
