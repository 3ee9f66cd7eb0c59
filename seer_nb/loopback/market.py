"""Which types of machine there are, and what they cost as spot machines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seer_nb.loopback.faults import Faults

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
