"""Which requests EC2 would refuse and moto would not."""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seer_nb.loopback.faults import Faults
    from seer_nb.loopback.market import Market

USER_DATA_BYTES = 16384
_DEFAULT_TYPE = "m1.small"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error of EC2's, with the HTTP status that goes with it: by that botocore decides whether to try again."""

    status: str
    code: str
    message: str


class Judge:
    """Decides on requests.

    Args:
        faults: What goes wrong at the moment.
        market: What there is.
    """

    def __init__(self, faults: Faults, market: Market) -> None:
        self._faults = faults
        self._market = market
        self._no_capacity: dict[str, Refusal] = {}
        """By the client's call, for it repeats one that was refused so: the call fails, not one of its attempts."""

    def refusal(self, request: Mapping[str, str], call: str) -> Refusal | None:
        """Why EC2 refuses a request; None if it does not.

        Args:
            request: Its parameters.
            call: What all attempts of one call of the client share.
        """
        if self._faults.throttled():
            return Refusal("503 Service Unavailable", "RequestLimitExceeded", "Request limit exceeded.")
        if request.get("Action") != "RunInstances":
            return None
        return _malformed(request, self._market) or self._dry(request) or self._shortage(request, call)

    def hold(self, service: str) -> None:
        """Let a request wait, if its service is slow."""
        if service == "s3":
            time.sleep(self._faults.slow_store_s)

    def _dry(self, request: Mapping[str, str]) -> Refusal | None:
        if request.get("DryRun") != "true":
            return None
        message = "Request would have succeeded, but DryRun flag is set."
        return Refusal("412 Precondition Failed", "DryRunOperation", message)

    def _shortage(self, request: Mapping[str, str], call: str) -> Refusal | None:
        name = request.get("InstanceType", _DEFAULT_TYPE)
        spot = request.get("InstanceMarketOptions.MarketType") == "spot"
        limit = request.get("InstanceMarketOptions.SpotOptions.MaxPrice")
        if spot and limit and float(limit) < (price := self._market.spot_price(name)):
            message = (
                f"Your Spot request price of {limit} is lower than the minimum required Spot request fulfillment "
                f"price of {price:g}."
            )
            return Refusal("400 Bad Request", "SpotMaxPriceTooLow", message)
        if call not in self._no_capacity and self._faults.no_capacity(name, spot=spot):
            message = (
                f"We currently do not have sufficient {name} capacity in the Availability Zone you requested. "
                "Our system will be working on provisioning additional capacity."
            )
            refusal = Refusal("500 Internal Server Error", "InsufficientInstanceCapacity", message)
            self._no_capacity[call] = refusal
        return self._no_capacity.get(call)


def _malformed(request: Mapping[str, str], market: Market) -> Refusal | None:
    name = request.get("InstanceType", _DEFAULT_TYPE)
    if not market.known(name):
        return Refusal("400 Bad Request", "InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")
    try:
        size = len(base64.b64decode(request.get("UserData", "")))
    except binascii.Error:
        return None  # moto says it
    if size > USER_DATA_BYTES:
        message = f"User data is limited to {USER_DATA_BYTES} bytes"
        return Refusal("400 Bad Request", "InvalidParameterValue", message)
    return None
