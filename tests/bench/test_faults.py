"""The campaign of faults: its table, its continuation, and the tools that inject faults."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from seer_nb.bench import faults
from seer_nb.bench.__main__ import main
from seer_nb.bench.faults import catalog, inject_clocks, inject_networks, table
from seer_nb.bench.faults.verdict import Verdict


def verdict(fault="a worker is killed", seed=0, **changes):
    row = Verdict(fault, "local", seed, 1.5, 1, 0, 0, 0.0, 0, took_s=9.0)
    return row._replace(**changes)


def test_stored_rows_are_read_back(tmp_path):
    rows = [verdict(), verdict(seed=1, resumed_s=None, wrong='training did not continue:\n"why"')]
    for row in rows:
        table.append(tmp_path / "faults.csv", row)
    assert table.read(tmp_path / "faults.csv") == rows
    assert table.read(tmp_path / "none.csv") == []


def test_table_has_one_row_per_fault():
    rows = [verdict(), verdict(seed=1, resumed_s=4.5, repeated=2, lost_records=3, wrong="3 records lost")]
    rows.append(verdict("other", over_budget=7, over_deadline_s=2.5, leftovers=1, resumed_s=None, wrong="much"))
    shown = table.page(rows)
    assert "| a worker is killed | local | 2 | 1 | 2 | 3.0 (4.5) s | 3 | 0 | 0 | 0 |" in shown
    assert "| other | local | 1 | 0 | 1 |  | 0 | 1 | 1 | 1 |" in shown
    assert "- other (local, seed 0): much" in shown
    assert "Broken promises" not in table.page(rows[:1])


def test_campaign_continues_where_it_stopped(tmp_path, monkeypatch, capsys):
    ran = []

    def one(task, stop):
        ran.append(task)
        return verdict(*task[::2])

    monkeypatch.setattr(faults, "run_study", one)
    out, page = tmp_path / "faults.csv", tmp_path / "docs" / "faults.md"
    words = ["faults", "--only", "the kernel is killed", "--out", str(out), "--markdown", str(page)]
    assert main([*words, "--times", "1"]) == 0
    assert main([*words, "--times", "2"]) == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "the handler of Ctrl-C is restored"
    assert ran == [("the kernel is killed", "local", 0), ("the kernel is killed", "local", 1)]
    assert "| the kernel is killed | local | 2 | 2 |" in page.read_text()
    assert "2 | 2 |" in capsys.readouterr().out


def test_no_study_starts_after_a_stop():
    stop = threading.Event()
    stop.set()
    assert faults.run_study(("a worker is killed", "local", 0), stop) is None


def test_missing_requirements_are_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["faults", "--only", "an hour back", "--out", str(tmp_path / "faults.csv")]) == 0
    assert "skipped, needs cc: the clock is set an hour back" in capsys.readouterr().out


def test_pairs_are_reproducible_and_valid():
    drawn = list(catalog.pairs(3, 20))
    assert drawn[:5] == list(catalog.pairs(3, 5))
    for name, where in drawn:
        pair = catalog.by_name(name)
        assert pair.name == name
        assert where in pair.where
        assert ("rank 1" not in name) or pair.options["workers"] == 2, "rank 1 needs a second member"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_false_clock_shifts_wall_time_but_not_durations(tmp_path):
    clock = inject_clocks.FalseClock(tmp_path)
    code = "import time; print(time.time(), time.monotonic(), time.clock_gettime(7), flush=True); input()"
    shown = []
    for offset_s in (0, 3600, -3600):
        clock.set(offset_s)
        process = subprocess.run(
            [sys.executable, "-c", code.removesuffix("; input()")],
            env={**os.environ, **clock.environment},
            capture_output=True,
            text=True,
            check=True,
        )
        wall, *steady = map(float, process.stdout.split())
        assert steady == pytest.approx([time.monotonic(), time.clock_gettime(7)], abs=5)
        shown.append(round(wall - time.time(), -1))
    assert shown == [0, 3600, -3600]


CUT = """
import os, socket, sys
from seer_nb.bench.faults import inject_networks as networks
server = socket.create_server(("127.0.0.1", 0))
read, write = os.pipe()
child = os.fork()
if child == 0:
    client = socket.create_connection(server.getsockname())
    server.close()
    os.read(read, 1)
    client.sendall(b"x")
    os.read(read, 1)
    os._exit(0)
connection, _ = server.accept()
connection.settimeout(0.5)
networks.cut(os.getpid(), child)
os.write(write, b"1")
try:
    print("came", connection.recv(1))
except TimeoutError:
    print("cut")
other = socket.socket()
other.settimeout(0.5)
try:
    other.connect(server.getsockname())
except TimeoutError:
    print("closed")
networks.mend()
connection.settimeout(5)
print("came", connection.recv(1))
os.write(write, b"2")
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(name) is None for name in inject_networks.NEEDS),
    reason="needs root and iptables",
)
def test_cut_connection_drops_packets_until_mended():
    command = [sys.executable, "-c", CUT]
    enter = f"from seer_nb.bench.faults import inject_networks as networks; networks.enter({command!r})"
    done = subprocess.run([sys.executable, "-c", enter], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.splitlines() == ["cut", "closed", "came b'x'"], done.stderr
