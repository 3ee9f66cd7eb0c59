"""A cloud that misbehaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb.bench.faults.fault import CLOUD, Fault

if TYPE_CHECKING:
    from seer_nb.bench.faults.case import Case


def _then_lose(case: Case, **faults: Any) -> None:
    """A machine is lost while the cloud has something against another one."""
    assert case.cloud is not None
    case.start()
    gang, machine = case.rented()
    for name, value in faults.items():
        setattr(case.cloud.faults, name, value)
    case.hit(gang.trial)
    case.cloud.lose(machine.instance_id)


def _throttled(case: Case) -> None:
    _then_lose(case, throttle=case.rng.randrange(5, 30))


def _without_capacity(case: Case) -> None:
    _then_lose(case, capacity={"*": 2})


def _dead_boot(case: Case) -> None:
    _then_lose(case, dead_boots=1)


def _interrupted(case: Case) -> None:
    assert case.cloud is not None
    case.start()
    gang, machine = case.rented()
    case.hit(gang.trial)
    case.cloud.interrupt(machine.instance_id, case.rng.uniform(15.0, 30.0))


def _slow_store(case: Case) -> None:
    """Each of its answers takes some seconds."""
    _then_lose(case, slow_store_s=case.rng.uniform(1.0, 3.0))


FAULTS = [
    Fault(
        "the store is slow, and a machine is lost",
        _slow_store,
        (CLOUD,),
        {"deadline_s": 180.0, "report_timeout": 60.0},
        within_s=None,
    ),
    Fault("requests to the cloud are throttled", _throttled, (CLOUD,), within_s=None),
    Fault("the cloud has no machine to give, twice", _without_capacity, (CLOUD,), within_s=None),
    Fault("a machine never boots", _dead_boot, (CLOUD,), {"deadline_s": 90.0}, within_s=None),
    Fault("a spot machine is taken away after a notice", _interrupted, (CLOUD,), {"spot": True}, within_s=None),
]
