"""Network faults: connections drop packets, in the study's own network namespace."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, NoReturn

import psutil

from seer_nb._utils.environment import FAULTS_NETWORK
from seer_nb.bench.faults.fault import CLOUD, LOCAL, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from seer_nb.bench.faults.case import Case


NEEDS = ("unshare", "ip", "iptables")
CUT_S = 15.0
LONG_CUT_S = 40.0


def enter(command: Sequence[str]) -> NoReturn:
    """Replace this process by a command in a new network namespace that has only the loopback device."""
    script = 'ip link set lo up && exec "$0" "$@"'
    os.execvpe("unshare", ["unshare", "-n", "sh", "-c", script, *command], {**os.environ, FAULTS_NETWORK: "1"})  # noqa: S606, S607 - tools from the user's PATH


def cut(first: int, second: int) -> None:
    """Drop all packets between two processes, and all new connections to either."""
    assert os.environ.get(FAULTS_NETWORK), "must run in its own network namespace"
    there = _sockets(second)
    addresses = {socket.laddr for socket in there}
    for socket in _sockets(first):
        if socket.raddr and socket.raddr in addresses:
            _drop(socket.laddr, socket.raddr)
            _drop(socket.raddr, socket.laddr)
    for socket in (*_sockets(first), *there):
        if socket.status == psutil.CONN_LISTEN:
            _iptables("-A", "OUTPUT", "-p", "tcp", "-d", socket.laddr.ip, *_port("d", socket), "--syn", "-j", "DROP")


def mend() -> None:
    """Remove all rules, so that packets pass again."""
    _iptables("-F", "OUTPUT")


def _sockets(pid: int) -> list[psutil._common.pconn]:
    process = psutil.Process(pid)
    return list(process.net_connections("tcp4"))


def _drop(source: psutil._common.addr, target: psutil._common.addr) -> None:
    ports = ("--sport", str(source.port), "--dport", str(target.port))
    _iptables("-A", "OUTPUT", "-p", "tcp", "-s", source.ip, "-d", target.ip, *ports, "-j", "DROP")


def _port(which: str, socket: psutil._common.pconn) -> tuple[str, str]:
    return f"--{which}port", str(socket.laddr.port)


def _iptables(*arguments: str) -> None:
    subprocess.run(["iptables", "-w", *arguments], check=True)  # noqa: S607 - found in PATH


def _members(case: Case) -> None:
    """Disconnect two members of a gang for longer than the timeout of a collective."""
    case.start()
    gang, pid = case.member(0)
    other = case.worker(gang.workers[1])
    case.wait_randomly()
    case.record_fault(gang.trial)
    cut(pid, other)
    time.sleep(LONG_CUT_S)
    mend()


def _scheduler(seconds: Callable[[Case], float]) -> Callable[[Case], None]:
    """Return a fault that disconnects the runner from the scheduler, which has its own machine."""

    def inject(case: Case) -> None:
        case.start()
        case.training_gang()
        runner, scheduler = case.runner(), case.scheduler()
        case.wait_randomly()
        cut(runner, scheduler)
        time.sleep(seconds(case))
        mend()
        case.record_fault()

    return inject


def _lease(case: Case) -> float:
    return case.state.settings.lease_s + CUT_S


FAULTS = [
    Fault(
        "two members of a gang cannot reach each other for 40 s",
        _members,
        (LOCAL, CLOUD),
        # A report timeout below that of a collective (30 s) would treat a disconnected gang as hung.
        {"workers": 2, "trials": 1, "deadline_s": 150.0, "report_timeout": 60.0},
        within_s=None,
        root=True,
        network=True,
        needs=NEEDS,
    ),
    Fault(
        "the runner cannot reach the scheduler for 15 s",
        _scheduler(lambda _: CUT_S),
        (CLOUD,),
        {"deadline_s": 120.0, "report_timeout": 60.0},
        within_s=None,
        root=True,
        network=True,
        needs=NEEDS,
    ),
    Fault(
        "the runner cannot reach the scheduler for longer than the lease",
        _scheduler(_lease),
        (CLOUD,),
        {"deadline_s": 240.0, "report_timeout": 120.0},
        within_s=None,
        root=True,
        network=True,
        needs=NEEDS,
    ),
]
