"""Logs: a record a line with what it is about, and never more than so many bytes."""

import asyncio
import io
import logging
import os
import shlex
import subprocess
import sys

import pytest

from seer_nb import core
from seer_nb._utils import log_context
from seer_nb._utils.aio import Background
from seer_nb.runner.launch import log_tail
from seer_nb.storage import log_files


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def lines(stream):
    """A logger, and what it has written, as dictionaries."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log_context.Line(study="digits"))
    logger = logging.getLogger("seer_nb.test_logs")
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel(logging.INFO)

    def written():
        return [dict(pair.split("=", 1) for pair in shlex.split(line)) for line in stream.getvalue().splitlines()]

    return logger, written


def test_a_record_is_a_line_of_pairs(lines):
    logger, written = lines
    with log_context.about(trial=3, gang=7):
        logger.warning("no word of %s", "it")
    logger.info("done")
    first, second = written()
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "warning",
        "logger": "seer_nb.test_logs",
        "study": "digits",
        "trial": "3",
        "gang": "7",
        "message": "no word of it",
    }
    assert "trial" not in second


def test_nothing_breaks_a_line(lines):
    logger, written = lines
    logger.error('two\nlines, "quoted" = \x1b[31m')
    (line,) = written()
    assert line["message"] == 'two\\nlines, "quoted" = \\u001b[31m'


def test_tasks_are_about_what_they_were_begun_for(lines):
    logger, written = lines

    async def says():
        await asyncio.sleep(0)
        logger.info("later")

    async def begin():
        tasks = Background("it failed")
        with log_context.about(**log_context.ids_of(core.Rent(machine=4, offer="local"))):
            tasks.go(says())
        await asyncio.sleep(0.01)

    asyncio.run(begin())
    assert [line["machine"] for line in written()] == ["4"]


def test_the_end_of_a_log_is_for_a_person_to_read(tmp_path, lines, stream):
    logger, _ = lines
    try:
        int('it is "odd"')
    except ValueError:
        logger.exception("the runner has failed")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "runner.log").write_text(stream.getvalue())
    told = log_tail(tmp_path).splitlines()
    assert told[0].startswith("time=")
    assert told[-1].startswith("ValueError: invalid literal for int() with base 10: 'it is \"odd\"'")


def test_a_long_file_is_cut_while_it_is_written_to(tmp_path):
    path = tmp_path / "worker-0.0.log"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(3000):
        os.write(file, b"%09d\n" % number)
    log_files.bound(tmp_path, max_file=10_000)
    os.write(file, b"later\n")
    os.close(file)
    assert path.read_bytes() == b"later\n"
    kept = (tmp_path / "worker-0.0.log.1").read_bytes()
    assert len(kept) == 10_000
    assert kept.endswith(b"000002999\n")


def test_all_files_together_have_a_bound(tmp_path):
    for number in range(10):
        path = tmp_path / f"trial-{number}.log{'.1' if number == 1 else ''}"
        path.write_bytes(b"x" * 1000)
        os.utime(path, (number, number))
    log_files.bound(tmp_path, max_file=2000, max_total=7000)
    left = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert left == {"trial-0.log": 0, "trial-2.log": 0, **{f"trial-{number}.log": 1000 for number in range(3, 10)}}


def test_short_files_are_left_alone(tmp_path):
    (tmp_path / "runner.log").write_text("short")
    log_files.bound(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["short"]


def test_a_worker_leaves_other_loggers_to_the_function():
    code = (
        "import logging; from seer_nb.runner import logs; logs.of_worker('digits', '0.0');"
        "logging.getLogger('distributed.worker').info('hello'); logging.getLogger('mine').info('quiet');"
        "assert not logging.root.handlers"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = run.stderr.splitlines()
    assert line.endswith("level=info logger=distributed.worker study=digits worker=0.0 message=hello")


def test_what_a_link_leads_to_is_not_cut(tmp_path):
    """A study's folder may come from somebody else."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (tmp_path / "own.txt").write_text("x" * 5000)
    (logs / "runner.log").symlink_to(tmp_path / "own.txt")
    (logs / "worker.log").write_text("y" * 5000)
    log_files.bound(logs, max_file=10_000, max_total=1)
    assert (tmp_path / "own.txt").stat().st_size == 5000
    assert (logs / "worker.log").stat().st_size == 0
