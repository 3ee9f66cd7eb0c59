"""Whose machines a study's folder speaks of."""

import json
import os
import shutil

import pytest

from seer_nb.providers.vm import tls
from seer_nb.storage import layout


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "study"
    made.mkdir(mode=0o700)
    (made / layout.JOURNAL).touch()
    return made


def test_a_later_runner_finds_what_an_earlier_one_has_kept(folder):
    kept = tls.load(folder)
    kept.machine = 3
    tls.save(folder, kept)
    assert tls.load(folder) == kept


def test_a_copy_gets_keys_and_machines_of_its_own(folder, tmp_path, caplog):
    kept = tls.load(folder)
    kept.machine, kept.address = 3, "tls://10.0.0.1:8786"
    tls.save(folder, kept)
    copy = shutil.copytree(folder, tmp_path / "copy")
    own = tls.load(copy)
    assert own.ident != kept.ident
    assert own.pem != kept.pem
    assert (own.machine, own.address) == (None, "")
    assert kept.ident in caplog.text, "who has moved it to another disk must know what to look for"
    assert tls.load(copy) == own
    assert tls.load(folder) == kept


def test_a_copy_that_takes_the_place_of_the_original_is_a_copy_still(folder, tmp_path):
    kept = tls.load(folder)
    copy = shutil.copytree(folder, tmp_path / "copy")
    folder.rename(tmp_path / "moved")
    copy.rename(folder)
    assert tls.load(folder).ident != kept.ident
    assert tls.load(tmp_path / "moved") == kept


def test_a_folder_that_is_renamed_keeps_its_machines(folder, tmp_path):
    kept = tls.load(folder)
    away = tmp_path / "elsewhere" / "renamed"
    away.parent.mkdir()
    folder.rename(away)
    assert tls.load(away) == kept


def test_another_number_of_the_disk_after_a_restart_loses_no_machine(folder, monkeypatch):
    kept = tls.load(folder)
    stat = os.stat

    def restarted(*given, **named):
        found = list(stat(*given, **named))
        found[2] += 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "stat", restarted)
    assert tls.load(folder) == kept


def test_a_file_of_before_there_were_marks_is_marked_and_kept(folder, tmp_path):
    kept = tls.load(folder)
    path = folder / tls.FILE
    content = json.loads(path.read_bytes())
    del content["mark"]
    path.write_text(json.dumps(content))
    assert tls.load(folder) == kept
    assert tls.load(shutil.copytree(folder, tmp_path / "copy")).ident != kept.ident
