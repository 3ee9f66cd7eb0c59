"""Faults and prices of the loopback cloud; all may be changed while the cloud is open."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class Faults:
    """Faults to inject.

    Attributes:
        boot_s: Seconds from RunInstances until a machine runs its user data.
        capacity: Number of the next RunInstances calls that fail with InsufficientInstanceCapacity, by instance type
            or "*" for any; ``math.inf`` for all. A call and its retries count once: as on EC2 the answer is HTTP 500,
            which botocore retries up to four times.
        spot_capacity: The same for calls that request spot machines.
        slow_boots: Number of the next machines that boot in ``slow_boot_s`` instead of ``boot_s``.
        slow_boot_s: Seconds of a slow boot.
        dead_boots: Number of the next machines that run, and are billed, but never run their user data.
        throttle: Number of the next EC2 requests that fail with RequestLimitExceeded (HTTP 503). Each retry of a
            client counts.
        slow_store_s: Seconds by which each S3 request is delayed.
        spot_prices: Dollars per hour, by instance type; the default follows from the type's cores and GPUs. A spot
            machine whose MaxPrice is lower is preempted.
        spot_notice_s: Seconds between the notice of such a preemption and the termination.
    """

    boot_s: float = 5.0
    capacity: dict[str, float] = field(default_factory=dict)
    spot_capacity: dict[str, float] = field(default_factory=dict)
    slow_boots: int = 0
    slow_boot_s: float = 60.0
    dead_boots: int = 0
    throttle: int = 0
    slow_store_s: float = 0.0
    spot_prices: dict[str, float] = field(default_factory=dict)
    spot_notice_s: float = 120.0
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def throttled(self) -> bool:
        """Return whether to throttle this request, and count it."""
        return self._take("throttle")

    def no_capacity(self, instance_type: str, *, spot: bool) -> bool:
        """Return whether this call fails for lack of capacity, and count it."""
        with self._lock:
            counts = [self.capacity, *([self.spot_capacity] if spot else [])]
            for count in counts:
                for name in (instance_type, "*"):
                    if count.get(name, 0) > 0:
                        count[name] -= 1
                        return True
        return False

    def boot(self) -> float:
        """Return the boot time in seconds of the machine just launched; ``inf`` if it never boots."""
        if self._take("dead_boots"):
            return float("inf")
        return self.slow_boot_s if self._take("slow_boots") else self.boot_s

    def _take(self, name: str) -> bool:
        with self._lock:
            left: int = getattr(self, name)
            if left <= 0:
                return False
            setattr(self, name, left - 1)
            return True


_PER_CORE, _PER_GPU = 0.015, 0.25
"""Dollars per hour, invented but realistic; moto has the same unrealistic price for all types."""


class Market:
    """Instance types that moto knows, with spot prices that `Faults` may override."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def known(self, instance_type: str) -> bool:
        """Return whether the instance type exists."""
        return instance_type in INSTANCE_TYPES

    def spot_price(self, instance_type: str) -> float:
        """Return the current price in dollars per hour, the same in every zone."""
        if instance_type in self._faults.spot_prices:
            return self._faults.spot_prices[instance_type]
        about = INSTANCE_TYPES.get(instance_type, {})
        gpus = sum(gpu.get("Count", 0) for gpu in about.get("GpuInfo", {}).get("Gpus", []))
        return float(round(_PER_CORE * about.get("VCpuInfo", {}).get("DefaultVCpus", 1) + _PER_GPU * gpus, 6))

    def spot_history(self, region: str, types: Sequence[str], filters: dict[str, Sequence[str]]) -> list[Any]:
        """Return the answer to DescribeSpotPriceHistory: the current prices."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        rows = [
            {
                "AvailabilityZone": offer["Location"],
                "InstanceType": offer["InstanceType"],
                "ProductDescription": "Linux/UNIX",
                "SpotPrice": f"{self.spot_price(offer['InstanceType']):.6f}",
                "Timestamp": now,
            }
            for offer in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, [])
            if not types or offer["InstanceType"] in types
        ]
        return [row for row in rows if all(_matches(row, name, values) for name, values in filters.items())]


def _matches(row: dict[str, str], name: str, values: Sequence[str]) -> bool:
    """Return whether a row passes a filter; a filter on an unknown column passes every row."""
    column = "".join(part.capitalize() for part in name.split("-"))
    return column not in row or row[column] in values
