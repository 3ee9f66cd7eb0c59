"""Connections that go dead without a word, in a network that is the study's own."""

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
    """Go on as that command, in a network of its own, which knows this computer only."""
    script = 'ip link set lo up && exec "$0" "$@"'
    os.execvpe("unshare", ["unshare", "-n", "sh", "-c", script, *command], {**os.environ, FAULTS_NETWORK: "1"})  # noqa: S606, S607 - the tools of this user


def cut(first: int, second: int) -> None:
    """Between two processes nothing comes through any more, and to neither anybody else can connect anew."""
    assert os.environ.get(FAULTS_NETWORK), "not in the network of all of this computer"
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
    """All comes through again."""
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
    subprocess.run(["iptables", "-w", *arguments], check=True)  # noqa: S607 - wherever it is


def _members(case: Case) -> None:
    """Two members of a gang do not reach each other for longer than a collective waits."""
    case.start()
    gang, pid = case.member(0)
    other = case.worker(gang.workers[1])
    case.later()
    case.hit(gang.trial)
    cut(pid, other)
    time.sleep(LONG_CUT_S)
    mend()


def _scheduler(seconds: Callable[[Case], float]) -> Callable[[Case], None]:
    """The runner does not reach the scheduler, which is on a machine of its own."""

    def strike(case: Case) -> None:
        case.start()
        case.underway()
        runner, scheduler = case.runner(), case.scheduler()
        case.later()
        cut(runner, scheduler)
        time.sleep(seconds(case))
        mend()
        case.hit()

    return strike


def _lease(case: Case) -> float:
    return case.state.settings.lease_s + CUT_S


FAULTS = [
    Fault(
        "two members of a gang cannot reach each other for 40 s",
        _members,
        (LOCAL, CLOUD),
        # With less patience than a collective has (30 s) a gang that waits for the network is taken for one that hangs.
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
        "the runner cannot reach the scheduler for longer than leases last",
        _scheduler(_lease),
        (CLOUD,),
        {"deadline_s": 240.0, "report_timeout": 120.0},
        within_s=None,
        root=True,
        network=True,
        needs=NEEDS,
    ),
]
