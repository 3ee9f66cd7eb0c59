"""Logs: one record per line with the ids of its subject, and files of bounded size."""

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
from seer_nb._utils.aio import BackgroundTasks
from seer_nb.runner.launch import log_tail
from seer_nb.storage import log_files


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def lines(stream):
    """Return a logger and a function that parses its lines into dictionaries."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log_context.LogfmtFormatter(study="digits"))
    logger = logging.getLogger("seer_nb.test_logs")
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel(logging.INFO)

    def written():
        return [dict(pair.split("=", 1) for pair in shlex.split(line)) for line in stream.getvalue().splitlines()]

    return logger, written


def test_log_record_is_one_line_of_key_value_pairs(lines):
    logger, written = lines
    with log_context.log_ids(trial=3, gang=7):
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


def test_log_record_stays_on_one_line(lines):
    logger, written = lines
    logger.error('two\nlines, "quoted" = \x1b[31m')
    (line,) = written()
    assert line["message"] == 'two\\nlines, "quoted" = \\u001b[31m'


def test_task_inherits_the_log_context_of_its_creation(lines):
    logger, written = lines

    async def log_twice():
        await asyncio.sleep(0)
        logger.info("later")

    async def begin():
        tasks = BackgroundTasks("it failed")
        with log_context.log_ids(**log_context.ids_of(core.Rent(machine=4, offer="local"))):
            tasks.start(log_twice())
        await asyncio.sleep(0.01)

    asyncio.run(begin())
    assert [line["machine"] for line in written()] == ["4"]


def test_log_tail_shows_tracebacks_on_several_lines(tmp_path, lines, stream):
    logger, _ = lines
    try:
        int('it is "odd"')
    except ValueError:
        logger.exception("the runner has failed")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "runner.log").write_text(stream.getvalue())
    lines = log_tail(tmp_path).splitlines()
    assert lines[0].startswith("time=")
    assert lines[-1].startswith("ValueError: invalid literal for int() with base 10: 'it is \"odd\"'")


def test_long_log_file_is_rotated_while_it_is_written_to(tmp_path):
    path = tmp_path / "worker-0.0.log"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(3000):
        os.write(file, b"%09d\n" % number)
    log_files.limit_size(tmp_path, max_file=10_000)
    os.write(file, b"later\n")
    os.close(file)
    assert path.read_bytes() == b"later\n"
    kept = (tmp_path / "worker-0.0.log.1").read_bytes()
    assert len(kept) == 10_000
    assert kept.endswith(b"000002999\n")


def test_total_size_of_log_files_is_bounded(tmp_path):
    for number in range(10):
        path = tmp_path / f"trial-{number}.log{'.1' if number == 1 else ''}"
        path.write_bytes(b"x" * 1000)
        os.utime(path, (number, number))
    log_files.limit_size(tmp_path, max_file=2000, max_total=7000)
    left = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert left == {"trial-0.log": 0, "trial-2.log": 0, **{f"trial-{number}.log": 1000 for number in range(3, 10)}}


def test_short_log_files_are_unchanged(tmp_path):
    (tmp_path / "runner.log").write_text("short")
    log_files.limit_size(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["short"]


def test_worker_does_not_configure_other_loggers():
    code = (
        "import logging; from seer_nb._utils import log_context; log_context.configure_worker('digits', '0.0');"
        "logging.getLogger('distributed.worker').info('hello'); logging.getLogger('mine').info('quiet');"
        "assert not logging.root.handlers"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = run.stderr.splitlines()
    assert line.endswith("level=info logger=distributed.worker study=digits worker=0.0 message=hello")


def test_target_of_a_symbolic_link_is_not_truncated(tmp_path):
    """The folder of a study may come from someone else."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (tmp_path / "own.txt").write_text("x" * 5000)
    (logs / "runner.log").symlink_to(tmp_path / "own.txt")
    (logs / "worker.log").write_text("y" * 5000)
    log_files.limit_size(logs, max_file=10_000, max_total=1)
    assert (tmp_path / "own.txt").stat().st_size == 5000
    assert (logs / "worker.log").stat().st_size == 0
