"""Helpers for tests of invalid input: a valid study, invalid providers, and the message of an error."""

import pytest

import seer_nb as seer
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal

TIME = 'expected a time such as "10min", "1h30m", 90 (seconds) or a timedelta'
DEADLINE = f"{TIME}, or a datetime with a time zone"
MONEY = 'expected dollars such as "$0.50" or 0.5'


def train(config, run):
    for _ in run.epochs():
        run.report(accuracy=1.0)


def make(train=train, **changes):
    given = {
        "space": {"lr": seer.uniform(0, 1)},
        "metric": "accuracy",
        "mode": "max",
        "max_epochs": 3,
        "deadline": "1min",
        "budget": "$1",
        "name": "study",
    }
    return seer.Study(train, **{**given, **changes})


def home(tmp_path, monkeypatch):
    """Return the folder of all studies, which does not exist yet."""
    folder = tmp_path / "studies"
    monkeypatch.setenv("SEER_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def raised(error, act, *args, **kwargs):
    with pytest.raises(error) as caught:
        act(*args, **kwargs)
    assert type(caught.value) is error
    return str(caught.value)


class Rents:
    """A valid provider, except for what a test changes."""

    max_workers = 2

    def __init__(self, **changes):
        self.__dict__.update(changes)

    def __repr__(self):
        return "Rents()"

    def offers(self):
        return seer.Local().offers()

    def fleet(self, context):
        raise AssertionError("a machine was about to be rented")


def stored(builder, folder):
    """Write the records of a builder as a study's journal, and attach to it."""
    (folder / layout.LOGS).mkdir(parents=True)
    Journal.create(folder / layout.JOURNAL, [(at_s, record) for _, at_s, record in builder.records]).close()
    return seer.attach(folder.name)
