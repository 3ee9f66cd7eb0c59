"""``python -m seer_nb.bench cloud``: measure studies on the loopback cloud by its own bill and clock.

moto serves EC2's API, and machines boot real Dask processes from their user data. Nothing is rented.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import seer_nb as seer
from seer_nb import core
from seer_nb._utils import environment
from seer_nb.bench import _workloads
from seer_nb.bench._figures import Figure, command
from seer_nb.core.model import machine_of_worker
from seer_nb.errors import SeerError
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal
from seer_nb.storage.lock import runner_pid

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from seer_nb.storage.journal import Entry
    from seer_nb.testing.loopback import LoopbackCloud


BOOT_S = 5.0
SLOW_BOOT_S = 60.0
TIMEOUT_S = 120.0


def add(commands: Any) -> None:
    """Add the subcommand."""
    about = "growing, shrinking, machine loss and leases on the loopback cloud"
    command(commands, "cloud", about, {name: partial(_on_a_cloud, part) for name, part in PARTS.items()})


def _on_a_cloud(part: Callable[[LoopbackCloud], list[Figure]], _: argparse.Namespace) -> list[Figure]:
    with ExitStack() as stack:
        return part(_opened(stack))


def _opened(stack: ExitStack) -> LoopbackCloud:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="seer-bench-"))
    before = os.environ.get(environment.HOME)
    stack.callback(
        lambda: os.environ.update({environment.HOME: before}) if before else os.environ.pop(environment.HOME)
    )
    os.environ[environment.HOME] = str(Path(folder) / "studies")
    cloud = seer.loopback_cloud(BOOT_S)
    stack.callback(cloud.close)
    return cloud


# --- the parts ---


def elastic(cloud: LoopbackCloud) -> list[Figure]:
    """Measure 24 trials of which ever fewer continue, from four machines down to one."""
    policy = _workloads.Tapering()
    study = _study(cloud, policy, seconds=1.2, max_machines=4, max_epochs=policy.last).run()
    entries, state = _entries(study), study.state
    machines = [machine for machine in state.machines.values() if not machine.runs_scheduler]
    idle_s, ready_s = _idle(entries, machines)
    spent, real = state.ledger.spent_micro(state.now_s), _bill(cloud, state)
    return [
        Figure("trials", len(state.trials), least=24),
        Figure("machines that trained, at most", max(_sizes(entries)), least=4),
        Figure("machines that trained, at the end", _sizes(entries)[-2], most=1),
        Figure("instances left running", sum(x.state != "terminated" for x in cloud.machines()), most=0),
        Figure("processes left running", sum(len(x.pids) for x in cloud.machines()), most=0),
        Figure("ledger minus EC2's bill, micro-dollars", abs(spent - real), most=0),
        Figure("EC2's bill, micro-dollars", real),
        Figure("paid but idle: booted without a trial", 100 * idle_s / ready_s, "%", most=10),
        Figure("slowest boot", max(_boots(machines)), "s"),
        Figure("slowest termination after the trial was stored", max(_termination_delays(entries)), "s", most=2),
    ]


def lost(cloud: LoopbackCloud) -> list[Figure]:
    """Measure the loss of a machine that trains a trial."""
    study = _study(cloud, _workloads.Tapering(), seconds=0.5, max_machines=1, max_epochs=40).start()
    _until(lambda: len(study.curves()) >= 3)  # noqa: PLR2004
    victim = next(x for x in cloud.machines() if x.tags["seer:machine"] == "1")
    started_s = time.monotonic()
    cloud.lose(victim.instance_id)
    _until(lambda: any(isinstance(e.record, core.MachineEnded) for e in _entries(study)))
    noticed_s = time.monotonic() - started_s
    seen = len(study.curves())
    _until(lambda: len(study.curves()) > seen)
    again_s = time.monotonic() - started_s
    study.stop()
    study.wait()
    return [
        Figure("machine loss detected after", noticed_s, "s", most=5),
        Figure("training continues on another machine after", again_s, "s"),
    ]


def shrink(cloud: LoopbackCloud) -> list[Figure]:
    """Measure the termination of a machine while another boots slowly."""
    cloud.faults.boot_s = SLOW_BOOT_S
    return [
        Figure(f"machine terminated during a boot of {SLOW_BOOT_S:.0f} s", asyncio.run(_shrink_s(cloud)), "s", most=3)
    ]


def killed(cloud: LoopbackCloud) -> list[Figure]:
    """Kill the runner without a restart, and measure when all machines are gone."""
    policy = _workloads.Tapering()
    study = _study(cloud, policy, seconds=0.5, max_machines=2, max_epochs=policy.last, budget=0.02).start()
    _until(lambda: len(study.curves()) >= 3)  # noqa: PLR2004
    pid = runner_pid(layout.home() / study.name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    started_s, state = time.monotonic(), study.state
    _until(lambda: all(x.state == "terminated" for x in cloud.machines()))
    gone_s, lease_s = time.monotonic() - started_s, state.settings.lease_s
    real = _bill(cloud, state)
    return [
        Figure("the lease", lease_s, "s"),
        Figure("all machines terminated after the runner was killed", gone_s, "s", most=lease_s + 30),
        Figure("spent by EC2's bill, share of the budget", 100 * real / state.budget_micro, "%", most=100),
    ]


PARTS: dict[str, Callable[[LoopbackCloud], list[Figure]]] = {
    "elastic": elastic,
    "lost": lost,
    "shrink": shrink,
    "killed": killed,
}


# --- helpers ---


def _study(  # noqa: PLR0913 - settings that differ between the parts
    cloud: LoopbackCloud, policy: Any, *, seconds: float, max_machines: int, max_epochs: int, budget: float = 1.0
) -> seer.Study:
    return seer.Study(
        _workloads.sleeping,
        {"x": seer.uniform(0, 1), "seconds": seconds},
        metric="accuracy",
        mode="max",
        max_epochs=max_epochs,
        deadline="10min",
        budget=budget,
        provider=cloud.provider(max_machines=max_machines),
        policy=policy,
        store=cloud.store,
        name=f"bench-{time.time_ns()}",
    )


def _entries(study: seer.Study) -> list[Entry]:
    return list(Journal(layout.home() / study.name / layout.JOURNAL).read())


def _until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > end_s:
            raise SeerError(f"timeout: the expected state was not reached within {TIMEOUT_S:.0f} s")
        time.sleep(0.05)


def _bill(cloud: LoopbackCloud, state: Any) -> int:
    """Return the bill in micro-dollars: over all instances, whole seconds from launch to end, times the price."""
    offers = {offer.kind: offer for offer in state.offers.values()}
    total = 0
    for machine in cloud.machines():
        assert machine.ended is not None
        lived = machine.ended.replace(microsecond=0) - machine.launched.replace(microsecond=0)
        total += offers[machine.instance_type].bill(max(1.0, lived.total_seconds()))
    return total


def _idle(entries: list[Entry], machines: list[core.Machine]) -> tuple[float, float]:
    """Return the machine-seconds in which ready machines had no gang, and all in which they were ready."""
    busy_s, started = 0.0, {}
    for entry in entries:
        if isinstance(entry.record, core.StartGang):
            started[entry.record.gang] = (entry.at_s, len(entry.record.workers))
        elif isinstance(entry.record, core.GangEnded):
            at_s, size = started.pop(entry.record.gang)
            busy_s += size * (entry.at_s - at_s)
    ready_s = sum((x.ended_s or 0.0) - x.ready_s for x in machines if x.ready_s is not None)
    return ready_s - busy_s, ready_s


def _sizes(entries: list[Entry]) -> list[int]:
    """Return the number of machines that can train, after each change."""
    sizes, ready = [0], set()
    for entry in entries:
        if isinstance(entry.record, core.MachineReady) and entry.record.machine:
            ready.add(entry.record.machine)
            sizes.append(len(ready))
        elif isinstance(entry.record, core.MachineEnded) and entry.record.machine in ready:
            ready.discard(entry.record.machine)
            sizes.append(len(ready))
    return sizes


def _boots(machines: list[core.Machine]) -> list[float]:
    return [x.ready_s - x.rented_s for x in machines if x.ready_s is not None]


def _termination_delays(entries: list[Entry]) -> list[float]:
    """Return, for each retired machine, the seconds from the storing of its trial to its termination."""
    saved: dict[int, float] = {}
    retired_s: dict[int, float] = {}
    found = []
    workers = {e.record.gang: e.record.workers for e in entries if isinstance(e.record, core.StartGang)}
    for entry in entries:
        record = entry.record
        if isinstance(record, core.Reported):
            saved |= {machine_of_worker(worker): entry.at_s for worker in workers[record.gang]}
        elif isinstance(record, core.Retire) and record.machine in saved:
            retired_s[record.machine] = entry.at_s
        elif isinstance(record, core.MachineEnded) and record.machine in retired_s:
            # A machine may be kept on purpose, because its first minute is billed anyway.
            since_s = saved[record.machine]
            found.append(
                entry.at_s - (since_s if retired_s[record.machine] - since_s < 1.0 else retired_s[record.machine])
            )
    return found


async def _shrink_s(cloud: LoopbackCloud) -> float:
    from seer_nb.providers.base import FleetContext

    provider = cloud.provider()
    ended: asyncio.Queue[core.MachineEnded] = asyncio.Queue()
    with tempfile.TemporaryDirectory() as folder:
        context = FleetContext(study="bench", folder=Path(folder), lease_s=30.0, on_ended=ended.put_nowait)
        fleet = provider.fleet(context)
        await fleet.open()
        try:
            (offer, *_) = provider.offers()
            await asyncio.gather(*(fleet.rent(machine, offer) for machine in (1, 2)))
            started_s = time.monotonic()
            await fleet.retire(1, force=False)
            await ended.get()
            return time.monotonic() - started_s
        finally:
            await fleet.close()
