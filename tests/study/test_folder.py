"""The same cell run again, and studies that are deleted."""

from types import SimpleNamespace

import pytest

import seer_nb as seer
from seer_nb import core
from seer_nb.storage.lock import RunnerLock
from seer_nb.ui.cli import main
from tests.support.refusals import make, raised, train


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Studies whose runners are never launched."""
    folder = tmp_path / "studies"
    monkeypatch.setenv("SEER_HOME", str(folder))
    monkeypatch.setattr("seer_nb.study.health.LAUNCH_S", 0.0)
    launched = []

    def launch(folder, *_):
        launched.append(folder.name)
        return SimpleNamespace(poll=lambda: 0)

    monkeypatch.setattr("seer_nb.study.study.launch", launch)
    return SimpleNamespace(folder=folder, launched=launched)


def commands(study):
    return [command for _, command in study.journal.inbox()]


def test_the_same_cell_run_again_resumes_the_study(home):
    make().start()
    again = make(exist="resume")
    assert (again.started, commands(again), home.launched) == (True, [], ["study"])
    assert again.start() is again
    assert commands(again) == [core.Resume()]
    assert home.launched == ["study", "study"]


def test_resume_starts_a_new_study_if_there_is_none(home):
    make(exist="resume").start()
    assert home.launched == ["study"]


def test_resume_takes_new_limits_and_the_new_function(home):
    def other(config, run):
        """Train in another way."""

    first = make().start()
    before = (first.folder / "function.pkl").read_bytes()
    again = make(other, exist="resume", budget="$2", deadline="3min").start()
    assert commands(again) == [
        core.SetBudget(budget_micro=2_000_000),
        core.SetDeadline(deadline_s=180.0),
        core.Resume(),
    ]
    assert (first.folder / "function.pkl").read_bytes() != before
    again.read_policy()
    assert again.read_space().domains.keys() == {"lr"}  # the folder is still signed


DIFFERENT = {
    "metric": "loss",
    "mode": "min",
    "max_epochs": 4,
    "seed": 1,
    "policy": "asha",
    "space": {"lr": seer.uniform(0, 2)},
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_resume_refuses_another_study(home, name):
    make().start()
    sentence = raised(ValueError, make, exist="resume", **{name: DIFFERENT[name]})
    assert sentence.startswith(
        f"{name}={DIFFERENT[name]!r}: study 'study', which exist='resume' continues, has {name}="
    )
    assert sentence.endswith("; expected the same, another name, or exist='overwrite'")
    assert home.launched == ["study"]


def test_overwrite_deletes_the_folder_and_the_checkpoints_at_the_start(home, tmp_path):
    first = make(store=tmp_path / "store").start()
    mine, others = tmp_path / "store" / first.settings.store.rpartition("/")[2], tmp_path / "store" / "other-12345678"
    for folder in (mine, others):
        folder.mkdir(parents=True)
    again = make(exist="overwrite")
    assert mine.exists(), "nothing is deleted before the start"
    again.start()
    assert not mine.exists()
    assert others.exists()
    assert len(seer.attach("study").events()) == 1
    assert again.settings.store == str(home.folder / "study" / "checkpoints")


def test_a_study_with_a_runner_is_neither_overwritten_nor_deleted(home, capsys):
    study = make().start()
    lock = RunnerLock(study.folder)
    assert lock.take()
    sentence = (
        "study 'study' cannot be deleted, because it is running: seer.attach('study').stop() or "
        "`seer-nb stop study` ends it first"
    )
    assert raised(seer.SeerError, make, exist="overwrite") == sentence
    assert raised(seer.SeerError, study.delete) == sentence
    assert main(["delete", "study", "--yes"]) == 1
    assert capsys.readouterr().err == f"seer-nb: {sentence}\n"
    assert study.folder.exists()


def test_only_a_folder_that_was_made_for_the_study_is_deleted_from_a_store(home, tmp_path):
    """Guards against a journal from elsewhere that names some other folder as its store."""
    precious = tmp_path / "precious"
    precious.mkdir()
    study = make(store=tmp_path / "store").start()
    study.settings = core.Settings(
        **{f: getattr(study.settings, f) for f in study.settings.__struct_fields__} | {"store": str(precious)}
    )
    study.delete()
    assert precious.exists()
    assert not study.folder.exists()


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("", 1), ("yes\n", 0)])
def test_the_command_line_asks_before_it_deletes(home, monkeypatch, capsys, answer, code):
    make().start()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(readline=lambda: answer))
    assert main(["delete", "study"]) == code
    assert (home.folder / "study").exists() is bool(code)
    assert ("nothing was deleted" in capsys.readouterr().out) is bool(code)


def test_arguments_of_optuna_for_existing_studies_get_a_hint():
    assert raised(TypeError, make, load_if_exists=True).endswith('unknown argument; give exist="resume"')
    assert raised(ValueError, make, exist="ok").startswith("exist='ok': unknown; expected one of 'error', 'resume'")
    assert seer.Study(train, {"lr": 1}, metric="m", mode="max", max_epochs=1, deadline=60, budget=1).status == "created"
