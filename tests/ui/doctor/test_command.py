"""``seer-nb doctor`` on this computer: all is well, and what it says of what is not."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from seer_nb import core
from seer_nb.storage.journal import Journal
from seer_nb.storage.lock import RunnerLock
from seer_nb.ui import cli
from seer_nb.ui.cli import doctor as doctor_command
from seer_nb.ui.cli.doctor import finding as examine
from seer_nb.ui.cli.doctor import local
from seer_nb.ui.cli.doctor.finding import Finding, discreet
from tests.support.records import small_study


def wrong(findings):
    return [finding for finding in findings if finding.level != "ok"]


def keep(builder, folder):
    folder.mkdir(parents=True)
    Journal.create(folder / "journal.sqlite", [(at_s, record) for _, at_s, record in builder.records]).close()
    return folder


def test_all_is_well_here(doctor, tmp_path):
    began = time.monotonic()
    code, found = doctor("--store", tmp_path / "store")
    assert time.monotonic() - began < 30
    assert code == 0, found
    told = {finding["check"] for finding in found if finding["level"] == "ok"}
    assert told == {
        *("python", "packages", "workers", "home", "rights", "locks", "journal", "disk", "ports"),
        "studies",
        "store",
    }
    assert not (tmp_path / "studies").exists(), "it leaves nothing behind"
    assert not list((tmp_path / "store").rglob("*.pt"))


def test_a_line_for_a_person_says_what_to_do(home, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(
        doctor_command, "checks", lambda options: [examine.Named("store", lambda: local.check_store_url("nope://x"))]
    )
    assert cli.main(["doctor"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("problem     store         store='nope://x' is not a store that only holds files; ")
    assert "expected a folder, or an fsspec URL" in line


def test_a_home_that_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", "/proc/studies")
    (problem,) = [finding for finding in local.check_home() if finding.level == "problem" and finding.check == "home"]
    assert problem.text.startswith("/proc cannot be written to (")
    assert "set SEER_HOME to a folder" in problem.advice


@pytest.fixture
def nobody():
    """Acts as a user without rights of its own, for root may write anywhere."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_home_that_is_read_only_or_cannot_be_looked_into(mode, monkeypatch, nobody):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(mode)
        monkeypatch.setenv("SEER_HOME", f"{folder}/studies")
        problem, *_ = local.check_home()
        Path(folder).chmod(0o700)
    assert problem.sentence == (
        f"{folder} cannot be written to (Permission denied): set SEER_HOME to a folder on a local disk that is yours"
    )


def test_a_home_that_others_may_write_to(home):
    home.mkdir(mode=0o700)
    home.chmod(0o777)
    (warning,) = wrong(local.check_home())
    assert (warning.level, warning.check, warning.advice) == ("warning", "rights", f"chmod 700 {home}")


def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 100 * 1024 * 1024}))
    assert local.room("disk", tmp_path).level == "problem"
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 1024 * 1024 * 1024}))
    assert local.room("disk", tmp_path).level == "warning"


def test_a_lock_that_keeps_nobody_out(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", lambda file, how: None)
    assert local._locks(tmp_path / "lock").level == "problem"


def test_a_key_that_others_may_read(home, tmp_path, monkeypatch):
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o644)
    monkeypatch.setenv("SEER_KEY_FILE", str(key))
    (problem,) = wrong(local.check_home())
    assert "chmod 600" in problem.text


def test_a_store_that_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (problem,) = local.check_store_url(str(tmp_path / "file" / "store"))
    assert problem.level == "problem"
    assert "Not a directory" in problem.text


def test_few_open_files(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 256))
    (warning,) = wrong(local.check_ports())
    assert (warning.level, warning.check) == ("warning", "ports")


def test_packages_out_of_bounds():
    lacks = local.lacks
    assert lacks(local.Requirement("pytest<1")).endswith(" is not within <1")
    assert lacks(local.Requirement("no-such-package-here")) == "no-such-package-here is missing"
    assert lacks(local.Requirement("pytest>=1")) == ""


# --- studies ---


def test_a_runner_that_has_died_with_machines(home):
    keep(small_study(), home / "digits")
    (problem,) = local.check_studies()
    assert (problem.level, problem.check) == ("problem", "studies")
    assert problem.sentence == (
        "the runner of 'digits' has died, and machines of it may still cost money: "
        "seer-nb resume digits goes on, seer-nb stop digits ends it"
    )


def test_a_study_that_has_ended_is_fine(home):
    keep(small_study().apply(core.BeginEnd(reason="x")).apply(core.Finish()), home / "digits")
    (fine,) = local.check_studies()
    assert (fine.level, fine.text.split()[0]) == ("ok", "1")


def test_a_journal_that_cannot_be_read(home):
    keep(small_study(), home / "digits").joinpath("journal.sqlite").write_bytes(b"nothing of the kind" * 100)
    (warning,) = local.check_studies()
    assert (warning.level, warning.advice) == ("warning", "move its folder away")


def test_a_lock_that_a_process_of_elsewhere_holds(home):
    folder = keep(small_study(), home / "digits")
    lock = RunnerLock(folder)
    assert lock.take()
    (folder / "runner.lock").write_text("999999999")
    assert "does not run on this computer" in " ".join(finding.text for finding in local.check_studies())


def test_a_runner_that_writes_nothing(home, monkeypatch):
    lock = RunnerLock(keep(small_study(), home / "digits"))
    assert lock.take()
    assert [finding.level for finding in local.check_studies()] == ["ok"]
    later = time.time() + 1000
    monkeypatch.setattr("time.time", lambda: later)
    (problem,) = local.check_studies()
    assert problem.text.startswith("'digits' does not get on: its runner has written nothing for 16 min")


# --- how checks run ---


def test_it_ends_whatever_hangs():
    def hangs():
        yield Finding("slow", "ok", "the first half")
        time.sleep(60)

    def raises():
        raise RuntimeError("boom")
        yield

    named = [examine.Named("slow", hangs, "warning"), examine.Named("broken", raises)]
    began = time.monotonic()
    found = list(examine.examine(named, 0.3))
    assert time.monotonic() - began < 5
    assert [(finding.check, finding.level) for finding in found] == [
        ("slow", "ok"),
        ("slow", "warning"),
        ("broken", "problem"),
    ]
    assert found[-1].text.endswith("RuntimeError: boom")


def test_nothing_secret_is_printed(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    told = discreet("s3://me:hidden@host/x refused wJalrXUtnFEMI/K7MDENG\nand more")
    assert told == "s3://***@host/x refused *** and more"


@pytest.mark.parametrize("finding", [Finding("a", "ok", "fine"), Finding("a", "problem", "bad", "do it")])
def test_a_sentence(finding):
    assert finding.sentence == ("fine" if finding.level == "ok" else "bad: do it")
