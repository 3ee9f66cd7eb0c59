"""Invalid calls of a study, before and after its start: one sentence each, and no command is sent."""

import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest

import seer_nb as seer
from seer_nb import core
from tests.support import refusals
from tests.support.records import small_study
from tests.support.refusals import DEADLINE, MONEY, TIME, make, raised, stored

PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Bad input leaves nothing behind."""
    return refusals.home(tmp_path, monkeypatch)


# --- a study before it is started ---


async def awaited(study):
    return await study


@pytest.mark.parametrize(
    "act",
    [
        lambda study: study.wait(),
        lambda study: asyncio.run(awaited(study)),
        lambda study: study.pause(),
        lambda study: study.resume(),
        lambda study: study.stop(),
        lambda study: study.adjust(budget=2),
        lambda study: study.adjust(deadline="2min"),
        lambda study: study.events(),
        lambda study: study.export("events.csv", table="events"),
    ],
    ids=range(9),
)
def test_calls_before_the_start_are_refused(home, act):
    study = make()
    assert raised(seer.SeerError, act, study) == "study 'study' has not been started: start() it first"
    assert study.status == "created"
    assert study.best is None
    assert not home.exists()


def test_trials_before_the_start_are_unknown():
    sentence = "trial=0 is not a trial of study 'study': there are none so far"
    assert raised(ValueError, make().pin, 0) == sentence
    assert raised(ValueError, make().stop_trial, 0) == sentence


# --- a study after the start ---


@pytest.fixture
def study(home):
    """Four trials, 11 study seconds of 600, and two machines at 1000 micro-dollars a second with a lease of 30 s."""
    return stored(small_study(), home / "digits")


def commands(study):
    return [command for _, command in study.journal.inbox()]


def test_a_study_can_be_started_only_once(study):
    sentence = "study 'digits' was started already; resume() continues it after a pause"
    assert raised(seer.SeerError, study.start) == sentence
    assert raised(seer.SeerError, study.run) == sentence


def test_load_without_an_object_is_refused(study):
    sentence = "best.load() needs an object to load into, as in best.load(model)"
    assert raised(TypeError, study.best.load) == sentence


def test_a_budget_below_spent_and_committed_is_refused(study):
    state = study.state
    floor = state.ledger.least_budget_micro(state.now_s)
    assert floor == 79_000  # 11 and 8 seconds lived, and 30 to come for each
    sentence = "budget='$0.0789' is less than what is spent and committed; expected at least $0.079"
    assert raised(ValueError, study.adjust, budget="$0.0789") == sentence
    assert raised(ValueError, study.adjust, budget=0) == f"budget=0: not more than 0; {MONEY}"
    assert raised(TypeError, study.adjust, budget=[1]) == f"budget=[1]: not an amount of money; {MONEY}"
    assert commands(study) == []
    study.adjust(budget="$0.079")
    assert commands(study) == [core.SetBudget(budget_micro=79_000)]


def test_a_deadline_that_has_passed_is_refused(study):
    assert raised(ValueError, study.adjust, deadline="11s") == (
        "deadline='11s' has passed: the study has already used 11 s"
    )
    assert raised(ValueError, study.adjust, deadline=PAST) == f"deadline={PAST!r}: has already passed; {DEADLINE}"
    assert raised(ValueError, study.adjust, deadline=-1) == f"deadline=-1: not more than 0 seconds; {DEADLINE}"
    assert raised(ValueError, study.adjust, deadline="later") == f"deadline='later': not a length of time; {DEADLINE}"
    assert commands(study) == []
    study.adjust(deadline="11.5s")
    assert commands(study) == [core.SetDeadline(deadline_s=11.5)]


def test_adjust_changes_both_limits_or_none(study):
    assert raised(ValueError, study.adjust, budget="$2", deadline="11s").startswith("deadline='11s' has passed")
    assert commands(study) == []


@pytest.mark.parametrize("trial", [4, -1, 1.0, True, "1", None, [1]], ids=repr)
def test_unknown_trials_are_refused(study, trial):
    sentence = f"trial={trial!r} is not a trial of study 'digits': there are 0 to 3"
    assert raised(ValueError, study.pin, trial) == sentence
    assert raised(ValueError, study.stop_trial, trial) == sentence
    assert commands(study) == []


def test_numpy_integers_from_a_frame_are_accepted_as_trials(study):
    for trial in study.results().set_index("trial", drop=False).trial.loc[[1, 2]]:
        study.stop_trial(trial)
    study.pin(np.int64(1), pinned=False)
    assert commands(study) == [core.StopTrial(trial=1), core.StopTrial(trial=2), core.Pin(trial=1, pinned=False)]


@pytest.fixture(params=[False, True], ids=["ended", "failed"])
def over(home, request):
    """One that has ended."""
    end = core.BeginEnd(reason="the deadline was reached", failed=request.param)
    return stored(small_study().apply(end).apply(core.Finish()), home / "digits")


@pytest.mark.parametrize(
    ("act", "word"),
    [
        (lambda study: study.pause(), "pause"),
        (lambda study: study.pin(0), "pin"),
        (lambda study: study.pin(0, pinned=False), "pin"),
        (lambda study: study.stop_trial(1), "stop"),
    ],
    ids=range(4),
)
def test_an_ended_study_refuses_commands(over, act, word):
    """Guards against what lay unread until the study was resumed, and was done then."""
    sentence = f"study 'digits' has ended: there is nothing to {word}"
    assert raised(seer.StudyEndedError, act, over) == sentence
    assert commands(over) == []


def test_an_ended_study_accepts_new_limits_and_commands_after_resume(over):
    over.adjust(budget="$0.9", deadline="15min")
    adjusted = [core.SetBudget(budget_micro=900_000), core.SetDeadline(deadline_s=900.0)]
    assert commands(over) == adjusted
    # As resume() does before its runner has read it.
    over.journal.send(core.Resume())
    over.pin(0)
    over.stop()
    assert commands(over) == [*adjusted, core.Resume(), core.Pin(trial=0, pinned=True), core.Stop()]


def test_pause_without_a_runner_is_refused(study):
    sentence = "study 'digits' has no running process: its runner died; resume() continues it"
    assert raised(seer.SeerError, study.pause) == sentence
    assert commands(study) == []


def test_adjust_without_a_change_is_refused(study):
    assert raised(ValueError, study.adjust) == "adjust changes nothing: give a budget, a deadline or both"


@pytest.mark.parametrize("timeout", [0, -1, "ages"], ids=repr)
def test_invalid_timeouts_are_refused(study, timeout):
    problem = "not a length of time" if timeout == "ages" else "not more than 0 seconds"
    assert raised(ValueError, study.wait, timeout) == f"timeout={timeout!r}: {problem}; {TIME}"


def test_unknown_tables_and_formats_are_refused(study, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    suffixes = ".csv, .parquet, .json, .md, .tex, .html, .xlsx"
    refused = [
        ("results.doc", f"path='results.doc': unknown suffix '.doc'; expected one of {suffixes}"),
        ("results", f"path='results': unknown suffix ''; expected one of {suffixes}"),
        (".csv", f"path='.csv': unknown suffix ''; expected one of {suffixes}"),
        ("no/where.csv", "path='no/where.csv': there is no folder 'no'; expected an existing one"),
        ("folder.csv", "path='folder.csv': is a folder; expected the name of a file"),
    ]
    for path, sentence in refused:
        assert raised(ValueError, study.export, path) == sentence
    assert raised(TypeError, study.export, None) == 'path=None: not a path; expected a path such as "results.csv"'
    tables = "'results', 'curves', 'spending', 'events'"
    assert raised(ValueError, study.export, "r.csv", "trials") == f"table='trials' is unknown; expected one of {tables}"
    assert raised(ValueError, study.results, "first") == 'view=\'first\': unknown view; expected "best" or "last"'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "studies"]
