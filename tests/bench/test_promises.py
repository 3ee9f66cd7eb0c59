"""Many random studies: none passes its limits; and if one did, it would be seen."""

import pytest

from seer_nb.bench import __main__ as bench
from seer_nb.bench import promises
from seer_nb.bench.promises import Result, study
from seer_nb.testing.adversary.strategies import watched


def test_no_promise_is_broken(capsys):
    assert bench.main(["promises", "--studies", "40", "--processes", "1"]) == 0
    shown = capsys.readouterr().out
    for line in ("studies", "over budget", "over the deadline", "crashed", "broken promises"):
        assert line in shown


def test_a_study_follows_from_its_seed():
    assert study(7) == study(7)
    assert len({study(seed)[3:5] for seed in range(12)}) > 8


@pytest.mark.parametrize(
    ("result", "broken"),
    [
        (Result(0, 0.0, 0.0, 0.9, 0.9), False),
        (Result(0, 0.01, 0.0, 1.1, 0.9), True),
        (Result(0, 0.0, 0.1, 0.9, 1.1), True),
        (Result(0, 0.0, 0.0, 0.0, 0.0, error="ValueError: no"), True),
    ],
)
def test_what_counts_as_broken(result, broken):
    assert result.broken == broken


def test_a_broken_promise_fails_the_command_and_can_be_looked_at_again(monkeypatch, capsys):
    monkeypatch.setattr(promises, "studies", lambda *_: [Result(3, 0.5, 0.0, 1.5, 0.5), Result(4, 0.0, 0.0, 0.5, 0.5)])
    assert bench.main(["promises", "--studies", "2"]) == 1
    shown = capsys.readouterr()
    assert "--only 3" in shown.err
    assert "--only 4" not in shown.err
    assert bench.main(["promises", "--only", "3"]) == 0
    assert "Result(seed=3" in capsys.readouterr().out


def test_a_crash_is_a_finding(monkeypatch):
    def crash(*_, **__):
        raise RuntimeError("the study runs hot")

    monkeypatch.setattr(promises, "run", crash)
    assert study(0).error == "RuntimeError: the study runs hot"


@pytest.mark.parametrize("seed", [5943, 101397, 105359, 300055])
def test_what_was_found_stays_mended(seed):
    """Machines of a dead runner that were taken over without the money for new leases; a trial drawn twice; and
    what a policy carried, over its runner's death."""
    assert watched(seed) > 0
