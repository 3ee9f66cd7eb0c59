"""``seer-nb doctor`` on this computer: its findings, with and without problems."""

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
from seer_nb.ui.cli.doctor import local
from seer_nb.ui.cli.doctor.finding import Finding, NamedCheck, redact, run_checks
from tests.support.records import small_study


def problems(findings):
    return [finding for finding in findings if finding.level != "ok"]


def write_study(builder, folder):
    folder.mkdir(parents=True)
    Journal.create(folder / "journal.sqlite", [(at_s, record) for _, at_s, record in builder.records]).close()
    return folder


@pytest.mark.slow
def test_all_checks_pass_on_this_computer(doctor, tmp_path):
    began = time.monotonic()
    code, found = doctor("--store", tmp_path / "store")
    assert time.monotonic() - began < 30
    assert code == 0, found
    passed = {finding["check"] for finding in found if finding["level"] == "ok"}
    assert passed == {
        *("python", "packages", "workers", "home", "rights", "locks", "journal", "disk", "ports"),
        "studies",
        "store",
    }
    assert not (tmp_path / "studies").exists(), "the doctor must leave no files"
    assert not list((tmp_path / "store").rglob("*.pt"))


def test_text_output_has_one_line_per_finding_with_advice(home, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(
        doctor_command, "checks", lambda options: [NamedCheck("store", lambda: local.check_store_url("nope://x"))]
    )
    assert cli.main(["doctor"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("problem     store         store='nope://x' is not a store that only holds files; ")
    assert "expected a folder, or an fsspec URL" in line


def test_unwritable_home_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", "/proc/studies")
    (problem,) = [finding for finding in local.check_home() if finding.level == "problem" and finding.check == "home"]
    assert problem.text.startswith("/proc is not writable (")
    assert "set SEER_HOME to a folder" in problem.advice


@pytest.fixture
def nobody():
    """Act as an unprivileged user, because root may write anywhere."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_read_only_or_unsearchable_home_is_a_problem(mode, monkeypatch, nobody):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(mode)
        monkeypatch.setenv("SEER_HOME", f"{folder}/studies")
        problem, *_ = local.check_home()
        Path(folder).chmod(0o700)
    assert problem.sentence == (
        f"{folder} is not writable (Permission denied): set SEER_HOME to a folder of your own on a local disk"
    )


def test_home_that_others_can_write_to_is_a_warning(home):
    home.mkdir(mode=0o700)
    home.chmod(0o777)
    (warning,) = problems(local.check_home())
    assert (warning.level, warning.check, warning.advice) == ("warning", "rights", f"chmod 700 {home}")


def test_full_disk_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 100 * 1024 * 1024}))
    assert local.check_free_space("disk", tmp_path).level == "problem"
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 1024 * 1024 * 1024}))
    assert local.check_free_space("disk", tmp_path).level == "warning"


def test_lock_that_is_not_exclusive_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", lambda file, how: None)
    assert local.check_lock(tmp_path / "lock").level == "problem"


def test_key_that_others_can_read_is_a_problem(home, tmp_path, monkeypatch):
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o644)
    monkeypatch.setenv("SEER_KEY_FILE", str(key))
    (problem,) = problems(local.check_home())
    assert "chmod 600" in problem.text


def test_store_below_a_file_is_a_problem(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (problem,) = local.check_store_url(str(tmp_path / "file" / "store"))
    assert problem.level == "problem"
    assert "is not a folder" in problem.text


def test_low_limit_of_open_files_is_a_warning(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 256))
    (warning,) = problems(local.check_ports())
    assert (warning.level, warning.check) == ("warning", "ports")


def test_missing_and_outdated_packages_are_reported():
    assert local.requirement_error(local.Requirement("pytest<1")).endswith(" is not in the range <1")
    assert local.requirement_error(local.Requirement("no-such-package-here")) == "no-such-package-here is missing"
    assert local.requirement_error(local.Requirement("pytest>=1")) == ""


# --- studies ---


def test_dead_runner_with_machines_is_a_problem(home):
    write_study(small_study(), home / "digits")
    (problem,) = local.check_studies()
    assert (problem.level, problem.check) == ("problem", "studies")
    assert problem.sentence == (
        "the runner of study 'digits' died, and its machines may still cost money: "
        "run seer-nb resume digits to continue, or seer-nb stop digits to end the study"
    )


def test_ended_study_is_no_problem(home):
    write_study(small_study().apply(core.BeginEnd(reason="x")).apply(core.Finish()), home / "digits")
    (fine,) = local.check_studies()
    assert (fine.level, fine.text.split()[0]) == ("ok", "1")


def test_unreadable_journal_is_a_warning(home):
    write_study(small_study(), home / "digits").joinpath("journal.sqlite").write_bytes(b"nothing of the kind" * 100)
    (warning,) = local.check_studies()
    assert (warning.level, warning.advice) == ("warning", "move its folder away")


def test_lock_held_by_an_unknown_process_is_reported(home):
    folder = write_study(small_study(), home / "digits")
    lock = RunnerLock(folder)
    assert lock.take()
    (folder / "runner.lock").write_text("999999999")
    assert "does not run on this computer" in " ".join(finding.text for finding in local.check_studies())


def test_silent_runner_is_a_problem(home, monkeypatch):
    lock = RunnerLock(write_study(small_study(), home / "digits"))
    assert lock.take()
    assert [finding.level for finding in local.check_studies()] == ["ok"]
    later = time.time() + 1000
    monkeypatch.setattr("time.time", lambda: later)
    (problem,) = local.check_studies()
    assert problem.text.startswith("study 'digits' makes no progress: its runner has written nothing for 16 min")


# --- how checks run ---


def test_hung_and_failing_checks_do_not_stop_the_doctor():
    def hangs():
        yield Finding("slow", "ok", "the first half")
        time.sleep(60)

    def raises():
        raise RuntimeError("boom")
        yield

    named = [NamedCheck("slow", hangs, "warning"), NamedCheck("broken", raises)]
    began = time.monotonic()
    found = list(run_checks(named, 0.3))
    assert time.monotonic() - began < 5
    assert [(finding.check, finding.level) for finding in found] == [
        ("slow", "ok"),
        ("slow", "warning"),
        ("broken", "problem"),
    ]
    assert found[-1].text.endswith("RuntimeError: boom")


def test_secrets_are_redacted(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    text = redact("s3://me:hidden@host/x refused wJalrXUtnFEMI/K7MDENG\nand more")
    assert text == "s3://***@host/x refused *** and more"


@pytest.mark.parametrize("finding", [Finding("a", "ok", "fine"), Finding("a", "problem", "bad", "do it")])
def test_sentence_joins_text_and_advice(finding):
    assert finding.sentence == ("fine" if finding.level == "ok" else "bad: do it")
