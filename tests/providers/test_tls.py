"""The file that links a study's folder to its machines, in copies, renamed and moved folders."""

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


def test_later_runner_reads_what_an_earlier_one_wrote(folder):
    kept = tls.load(folder)
    kept.scheduler_machine = 3
    tls.save(folder, kept)
    assert tls.load(folder) == kept


def test_copy_gets_its_own_keys_and_machines(folder, tmp_path, caplog):
    kept = tls.load(folder)
    kept.scheduler_machine, kept.client_address = 3, "tls://10.0.0.1:8786"
    tls.save(folder, kept)
    copy = shutil.copytree(folder, tmp_path / "copy")
    own = tls.load(copy)
    assert own.ident != kept.ident
    assert own.pem != kept.pem
    assert (own.scheduler_machine, own.client_address) == (None, "")
    assert kept.ident in caplog.text, "a user who moved the folder must know which machines to look for"
    assert tls.load(copy) == own
    assert tls.load(folder) == kept


def test_copy_in_the_place_of_the_original_is_still_a_copy(folder, tmp_path):
    kept = tls.load(folder)
    copy = shutil.copytree(folder, tmp_path / "copy")
    folder.rename(tmp_path / "moved")
    copy.rename(folder)
    assert tls.load(folder).ident != kept.ident
    assert tls.load(tmp_path / "moved") == kept


def test_renamed_folder_keeps_its_machines(folder, tmp_path):
    kept = tls.load(folder)
    away = tmp_path / "elsewhere" / "renamed"
    away.parent.mkdir()
    folder.rename(away)
    assert tls.load(away) == kept


def test_changed_device_number_after_a_reboot_loses_no_machine(folder, monkeypatch):
    kept = tls.load(folder)
    stat = os.stat

    def restarted(*given, **named):
        found = list(stat(*given, **named))
        found[2] += 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "stat", restarted)
    assert tls.load(folder) == kept


def test_file_without_a_mark_is_marked_and_kept(folder, tmp_path):
    kept = tls.load(folder)
    path = folder / tls.FILE
    content = json.loads(path.read_bytes())
    del content["mark"]
    path.write_text(json.dumps(content))
    assert tls.load(folder) == kept
    assert tls.load(shutil.copytree(folder, tmp_path / "copy")).ident != kept.ident
