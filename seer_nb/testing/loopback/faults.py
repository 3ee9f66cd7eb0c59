"""What goes wrong on the loopback cloud; all of it may be changed while the cloud runs."""

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
    """What goes wrong.

    Attributes:
        boot_s: Seconds from RunInstances until a machine begins with its user data.
        capacity: Instance type, or "*" for any, to how many of the next RunInstances calls fail for it with
            InsufficientInstanceCapacity; ``math.inf`` for all. A call counts once however often the client repeats
            it: as on EC2 it is answered with HTTP 500, which botocore takes for worth up to four more attempts.
        spot_capacity: The same, of calls for spot machines only.
        slow_boots: How many of the next machines take ``slow_boot_s`` instead of ``boot_s``.
        slow_boot_s: Seconds that a slow boot takes.
        dead_boots: How many of the next machines run, and are billed, but never begin with their user data.
        throttle: How many of the next requests to EC2 are answered with RequestLimitExceeded (HTTP 503). Here each
            attempt of a client counts.
        slow_store_s: Seconds that each request to S3 waits for its answer.
        spot_prices: Instance type to dollars an hour, for types whose price shall not be the default, which is made
            up of the type's cores and GPUs. A spot machine with a lower MaxPrice is interrupted.
        spot_notice_s: Seconds between the notice of such an interruption and the end.
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
        """Whether this request is throttled."""
        return self._take("throttle")

    def no_capacity(self, instance_type: str, *, spot: bool) -> bool:
        """Whether this call for a machine finds none."""
        with self._lock:
            counts = [self.capacity, *([self.spot_capacity] if spot else [])]
            for count in counts:
                for name in (instance_type, "*"):
                    if count.get(name, 0) > 0:
                        count[name] -= 1
                        return True
        return False

    def boot(self) -> float:
        """Seconds that the machine just launched takes to boot; ``inf`` if it never does."""
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
"""Dollars an hour. Made up, of the size of real ones; moto has one price for all, a thousandth of a cent."""


class Market:
    """The types that moto knows, at prices that the faults may change."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def known(self, instance_type: str) -> bool:
        """Whether there is such a type."""
        return instance_type in INSTANCE_TYPES

    def spot_price(self, instance_type: str) -> float:
        """Dollars an hour, now and in every zone."""
        if instance_type in self._faults.spot_prices:
            return self._faults.spot_prices[instance_type]
        about = INSTANCE_TYPES.get(instance_type, {})
        gpus = sum(gpu.get("Count", 0) for gpu in about.get("GpuInfo", {}).get("Gpus", []))
        return float(round(_PER_CORE * about.get("VCpuInfo", {}).get("DefaultVCpus", 1) + _PER_GPU * gpus, 6))

    def spot_history(self, region: str, types: Sequence[str], filters: dict[str, Sequence[str]]) -> list[Any]:
        """The answer to DescribeSpotPriceHistory: the prices now."""
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
        return [row for row in rows if all(_fits(row, name, values) for name, values in filters.items())]


def _fits(row: dict[str, str], name: str, values: Sequence[str]) -> bool:
    """Whether a row passes a filter; of those that are not of a column nothing is asked."""
    column = "".join(part.capitalize() for part in name.split("-"))
    return column not in row or row[column] in values
