"""The campaign of random studies: no study exceeds its limits, and a violation would be reported."""

import pytest

from seer_nb.bench import __main__ as bench
from seer_nb.bench import promises
from seer_nb.bench.promises import Result, study
from seer_nb.testing.adversary.strategies import run_random_study


@pytest.mark.slow
def test_no_promise_is_broken(capsys):
    assert bench.main(["promises", "--studies", "40", "--processes", "1"]) == 0
    shown = capsys.readouterr().out
    for line in ("studies", "over budget", "over the deadline", "crashed", "broken promises"):
        assert line in shown


def test_a_study_depends_on_its_seed_alone():
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
def test_violations_and_crashes_count_as_broken(result, broken):
    assert result.broken == broken


def test_a_broken_promise_fails_the_command_and_can_be_reproduced(monkeypatch, capsys):
    monkeypatch.setattr(promises, "studies", lambda *_: [Result(3, 0.5, 0.0, 1.5, 0.5), Result(4, 0.0, 0.0, 0.5, 0.5)])
    assert bench.main(["promises", "--studies", "2"]) == 1
    shown = capsys.readouterr()
    assert "--only 3" in shown.err
    assert "--only 4" not in shown.err
    assert bench.main(["promises", "--only", "3"]) == 0
    assert "Result(seed=3" in capsys.readouterr().out


def test_a_crash_is_a_result(monkeypatch):
    def crash(*_, **__):
        raise RuntimeError("simulation livelock")

    monkeypatch.setattr(promises, "run", crash)
    assert study(0).error == "RuntimeError: simulation livelock"


@pytest.mark.parametrize("seed", [5943, 101397, 105359, 300055])
def test_seeds_of_fixed_defects_pass(seed):
    """Guards against three defects: adopting machines without money for new leases, drawing a trial twice, and losing a
    policy's carry when its runner crashes."""
    assert run_random_study(seed) > 0
