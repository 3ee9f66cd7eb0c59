"""Where moto differs from EC2 in ways that would be noticed: its classes are changed while a cloud is open.

All changes are made here, and undone when the cloud closes. A moto that has moved one of these names fails at once.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.models.subnets import Subnet
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.spot_instances import SpotInstances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seer_nb.testing.loopback.machines import MachinePool


_NO_TOKEN = "ABCDE"  # noqa: S105 - what moto takes where the client gives none


@contextmanager
def mended(park: MachinePool) -> Iterator[None]:
    """Change moto's classes for the machines of a park."""
    with ExitStack() as undo:
        for owner, name, change in _changes(park):
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, change)
        yield


def _changes(park: MachinePool) -> list[tuple[type, str, Callable[..., Any]]]:
    return [
        (Instance, "terminate", _terminate(park, Instance.terminate)),
        (InstanceBackend, "run_instances", _run_instances(park, InstanceBackend.run_instances)),
        (InstanceResponse, "run_instances", _answer_run_instances(park, InstanceResponse.run_instances)),
        (SpotInstances, "describe_spot_price_history", _spot_prices(park)),
        # moto draws a new public address at random: here the machine's one address is reached from everywhere.
        (NetworkInterface, "check_auto_public_ip", _public_ip),
        # moto numbers per subnet, and hands an address out again at once, at times while a machine still has it ...
        (Subnet, "get_available_subnet_ip", lambda _subnet, instance: _address(park, instance)),
        (Subnet, "del_subnet_ip", lambda _subnet, address: park.addresses.give_back(address)),
        # ... for instances give theirs back when they end, and a second time when Python forgets them.
        (Instance, "__del__", lambda _instance: None),
    ]


def _terminate(park: MachinePool, original: Callable[..., Any]) -> Callable[..., Any]:
    """Ending a machine twice is no error on EC2; in moto the second time finds no network interface."""

    def terminate(instance: Any) -> Any:
        if instance.state == "terminated":
            return copy.copy(instance.instance_state)
        previous = original(instance)
        park.ended(instance)
        return previous

    return terminate


def _run_instances(park: MachinePool, original: Callable[..., Any]) -> Callable[..., Any]:
    """Machines that name no subnet are in the account's default one, and all have to be booted."""

    def run_instances(backend: Any, *args: Any, **options: Any) -> Any:
        if not options.get("subnet_id") and not any("SubnetId" in nic for nic in options.get("nics", [])):
            options["subnet_id"] = park.subnet
        reservation = original(backend, *args, **options)
        for instance in reservation.instances:
            park.launched(instance)
        return reservation

    return run_instances


def _answer_run_instances(park: MachinePool, original: Callable[..., Any]) -> Callable[..., Any]:
    """A request with a known ClientToken is a repeated one and rents nothing; moto does not read MaxPrice either."""
    answers: dict[str, Any] = {}

    def run_instances(response: Any) -> Any:
        token = response._get_param("ClientToken", _NO_TOKEN)  # noqa: SLF001 - moto's own way
        if token in answers:
            return ActionResult(answers[token])
        result = original(response)
        if token != _NO_TOKEN:
            answers[token] = result.result
        limit = response._get_param("InstanceMarketOptions.SpotOptions.MaxPrice")  # noqa: SLF001
        for instance in result.result.instances:
            park.host(instance.id).max_price = float(limit) if limit else None
        return result

    return run_instances


def _spot_prices(park: MachinePool) -> Callable[..., Any]:
    def describe_spot_price_history(response: Any) -> Any:
        filters = response._filters_from_querystring()  # noqa: SLF001
        if zone := response._get_param("AvailabilityZone"):  # noqa: SLF001
            filters["availability-zone"] = [zone]
        if products := response._get_param("ProductDescriptions"):  # noqa: SLF001
            filters["product-description"] = products
        types = response._get_param("InstanceTypes", [])  # noqa: SLF001
        return ActionResult({"SpotPriceHistory": park.market.spot_history(response.region, types, filters)})

    return describe_spot_price_history


def _public_ip(nic: Any) -> None:
    if str(nic.public_ip_auto_assign).lower() == "true":
        nic.public_ip = nic.private_ip_address


def _address(park: MachinePool, instance: Any) -> str:
    address = park.addresses.take()
    if address is None:
        raise EC2ClientError(
            "InsufficientFreeAddressesInSubnet",
            f"There are not enough free addresses in subnet '{instance.subnet_id}' to satisfy the requested number of "
            "instances.",
        )
    return address
