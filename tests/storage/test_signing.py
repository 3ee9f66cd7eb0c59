"""Only pickles that the user's own studies stored are loaded: unchanged, and from the same place."""

import io
import os
import pickle
import shutil
import stat
import subprocess
import sys

import pytest

import seer_nb as seer
from seer_nb._utils import environment
from seer_nb.storage import layout, signing
from seer_nb.study import serialization
from seer_nb.ui import cli
from tests.support import refusals
from tests.support.refusals import make, raised, train


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv(environment.KEY_FILE, str(tmp_path / "settings" / "key"))
    return refusals.home(tmp_path, monkeypatch)


@pytest.fixture
def study(home, monkeypatch):
    """Written down, but not running; who resumes it need not wait whether it is just about to."""
    monkeypatch.setattr("seer_nb.study.health.LAUNCH_S", 0.0)
    made = make(train)
    made.create_folder()
    return made


def untrusted(study, act):
    sentence = raised(seer.UntrustedError, act)
    assert "\n" not in sentence
    assert str(study.folder) in sentence
    return sentence


# --- the seal ---


def test_signed_files_are_read(study):
    layout.check_signatures(study.folder)
    assert set(layout.read_parts(study.folder)) == {"sampler", "policy", "provider", "space"}
    assert layout.read_function(study.folder) == serialization.ship(train).pickled


@pytest.mark.parametrize("name", [layout.FUNCTION, layout.PARTS, layout.CWD])
def test_a_changed_file_is_not_unpickled(study, tmp_path, name):
    mark = tmp_path / "run"
    (study.folder / name).write_bytes(pickle.dumps(Bomb(mark)))
    for act in (
        lambda: layout.read_parts(study.folder),
        lambda: layout.read_function(study.folder),
        lambda: seer.attach("study").resume(),
        lambda: seer.attach("study").to_optuna(),
        lambda: layout.check_signatures(study.folder),
    ):
        sentence = untrusted(study, act)
        assert "call seer_nb.trust('study') or run seer-nb trust study" in sentence
    assert not mark.exists()


@pytest.mark.parametrize("module", ["seer_nb.runner", "seer_nb.ui.notebook.forecast_process"])
def test_no_process_unpickles_a_changed_file(study, tmp_path, module):
    mark = tmp_path / "run"
    (study.folder / layout.PARTS).write_bytes(pickle.dumps(Bomb(mark)))
    done = subprocess.run(
        [sys.executable, "-m", module, str(study.folder)], stdin=subprocess.DEVNULL, check=False, timeout=120
    )
    assert not mark.exists()
    # The one that makes forecasts ends with its input, whatever it was doing.
    assert done.returncode != 0 or module == "seer_nb.ui.notebook.forecast_process"


def test_a_signature_fits_one_study_only(study, home):
    shutil.copytree(study.folder, home / "other")
    untrusted_there = raised(seer.UntrustedError, layout.check_signatures, home / "other")
    assert "the function of study 'other' was not stored by this user" in untrusted_there


def test_bytes_cannot_move_from_one_signed_file_to_another(study):
    folder = study.folder
    function, parts = (folder / layout.FUNCTION).read_bytes(), (folder / layout.PARTS).read_bytes()
    (folder / layout.FUNCTION).write_bytes(function + parts[:10])
    (folder / layout.PARTS).write_bytes(parts[10:])
    untrusted(study, lambda: layout.check_signatures(folder))


@pytest.mark.parametrize("seal", [None, b"", b"\xff\xfe", b"0" * 64])
def test_an_invalid_signature_is_refused(study, seal):
    path = study.folder / signing.SEAL
    if seal is None:
        path.unlink()
    else:
        path.write_bytes(seal)
    untrusted(study, lambda: layout.check_signatures(study.folder))


def test_a_missing_file_is_named(study):
    (study.folder / layout.PARTS).unlink()
    layout.sign(study.folder)
    assert raised(seer.SeerError, layout.read_parts, study.folder) == (
        f"the folder {study.folder} of study 'study' has no parts.pkl: the folder is incomplete"
    )


# --- trust ---


def test_a_study_of_another_computer_runs_once_it_is_trusted(study, home, capsys, monkeypatch):
    signing.key_path().unlink()  # the other computer had another key
    untrusted(study, lambda: layout.check_signatures(study.folder))
    assert seer.attach("study").name == "study"  # it can be looked at all the same
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no answer
    assert cli.main(["trust", "study"]) == 1
    assert "Do you know who wrote it?" in capsys.readouterr().out
    untrusted(study, lambda: layout.check_signatures(study.folder))
    assert cli.main(["trust", "study", "--yes"]) == 0
    layout.check_signatures(study.folder)


def test_trust_removes_the_rights_of_other_users(study):
    (study.folder / layout.JOURNAL).chmod(0o666)
    study.folder.chmod(0o777)
    (study.folder / "seal").unlink()
    assert seer.trust("study").name == "study"
    assert all(not path.stat().st_mode & 0o077 for path in (study.folder, *study.folder.rglob("*")))
    layout.check_signatures(study.folder)


def test_trust_needs_a_study(home):
    raised(seer.StudyNotFoundError, seer.trust, "none")
    raised(ValueError, seer.trust, "../up")


# --- rights ---


def test_nobody_else_can_read_a_study(study):
    assert stat.S_IMODE(study.folder.stat().st_mode) == 0o700
    for path in study.folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("name", [".", layout.JOURNAL, layout.LOGS, layout.FUNCTION, "seal"])
@pytest.mark.parametrize("right", [0o020, 0o002])
def test_a_folder_that_others_can_write_is_not_trusted(study, name, right):
    path = study.folder / name
    path.chmod(path.stat().st_mode | right)
    for act in (lambda: layout.check_signatures(study.folder), lambda: seer.attach("study").resume()):
        assert "can be written by other users (mode " in untrusted(study, act)


def test_a_folder_of_another_user_is_not_trusted(study, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    assert "belongs to user" in raised(seer.UntrustedError, signing.check_private, study.folder)
    assert "belongs to user" in raised(seer.UntrustedError, signing.make_private, study.folder)


def test_no_study_is_created_where_file_modes_have_no_effect(home, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(signing, "own_key", lambda: bytes(32))
    raised(seer.UntrustedError, make(train).create_folder)
    assert list(home.iterdir()) == []


# --- the key ---


def test_the_key_is_created_once_and_is_private(home, monkeypatch):
    first = signing.own_key()
    path = signing.key_path()
    assert len(first) == 32
    assert first == signing.own_key() == path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["key"]


def test_two_processes_that_create_a_key_use_the_same(home):
    path = signing.key_path()
    first = signing.own_key()
    signing.make_key(path)
    assert signing.own_key() == first


def test_the_path_of_the_key(monkeypatch, tmp_path):
    monkeypatch.delenv(environment.KEY_FILE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert signing.key_path() == tmp_path / "seer_nb" / "key"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert signing.key_path() == tmp_path / ".config" / "seer_nb" / "key"


def test_an_invalid_key_is_refused(home):
    path = signing.key_path()
    signing.own_key()
    path.write_bytes(b"short")
    assert raised(seer.SeerError, signing.own_key) == (
        f"the key {path} has 5 bytes; expected 32: remove it to create a new one"
    )
    path.chmod(0o644)
    assert raised(seer.SeerError, signing.own_key) == (
        f"other users can read the key {path}: run chmod 600 on it, or remove it to create a new one"
    )
    path.unlink()
    path.mkdir()
    assert f"the key {path} that signs your studies cannot be read" in raised(seer.SeerError, make(train).create_folder)
    assert not home.exists()
