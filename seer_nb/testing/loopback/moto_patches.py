"""Patches of moto where it differs from EC2 in ways that matter.

The patches are active while a cloud is open. A moto version that lacks a patched name fails when the cloud opens.
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


_NO_TOKEN = "ABCDE"  # noqa: S105 - moto's default where the client sends no token


@contextmanager
def patched_moto(pool: MachinePool) -> Iterator[None]:
    """Patch moto's classes to use the machines of a pool; undo the patches on exit."""
    with ExitStack() as undo:
        for owner, name, change in _changes(pool):
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, change)
        yield


def _changes(pool: MachinePool) -> list[tuple[type, str, Callable[..., Any]]]:
    return [
        (Instance, "terminate", _terminate(pool, Instance.terminate)),
        (InstanceBackend, "run_instances", _run_instances(pool, InstanceBackend.run_instances)),
        (InstanceResponse, "run_instances", _answer_run_instances(pool, InstanceResponse.run_instances)),
        (SpotInstances, "describe_spot_price_history", _spot_prices(pool)),
        # moto draws a random public address; here the private address is reachable from everywhere.
        (NetworkInterface, "check_auto_public_ip", _public_ip),
        # moto reuses an address at once, sometimes while a machine still has it ...
        (Subnet, "get_available_subnet_ip", lambda _subnet, instance: _address(pool, instance)),
        (Subnet, "del_subnet_ip", lambda _subnet, address: pool.addresses.release(address)),
        # ... because an instance releases it when terminated and again when garbage-collected.
        (Instance, "__del__", lambda _instance: None),
    ]


def _terminate(pool: MachinePool, original: Callable[..., Any]) -> Callable[..., Any]:
    """Allow a second termination, as EC2 does; moto fails because the network interface is gone."""

    def terminate(instance: Any) -> Any:
        if instance.state == "terminated":
            return copy.copy(instance.instance_state)
        previous = original(instance)
        pool.record_end(instance)
        return previous

    return terminate


def _run_instances(pool: MachinePool, original: Callable[..., Any]) -> Callable[..., Any]:
    """Put machines without a subnet into the default one, and boot every new machine."""

    def run_instances(backend: Any, *args: Any, **options: Any) -> Any:
        if not options.get("subnet_id") and not any("SubnetId" in nic for nic in options.get("nics", [])):
            options["subnet_id"] = pool.subnet
        reservation = original(backend, *args, **options)
        for instance in reservation.instances:
            pool.add(instance)
        return reservation

    return run_instances


def _answer_run_instances(pool: MachinePool, original: Callable[..., Any]) -> Callable[..., Any]:
    """Answer a repeated ClientToken from memory, and read MaxPrice; moto does neither."""
    answers: dict[str, Any] = {}

    def run_instances(response: Any) -> Any:
        token = response._get_param("ClientToken", _NO_TOKEN)  # noqa: SLF001 - moto's way to read parameters
        if token in answers:
            return ActionResult(answers[token])
        result = original(response)
        if token != _NO_TOKEN:
            answers[token] = result.result
        limit = response._get_param("InstanceMarketOptions.SpotOptions.MaxPrice")  # noqa: SLF001
        for instance in result.result.instances:
            pool.find(instance.id).max_price = float(limit) if limit else None
        return result

    return run_instances


def _spot_prices(pool: MachinePool) -> Callable[..., Any]:
    def describe_spot_price_history(response: Any) -> Any:
        filters = response._filters_from_querystring()  # noqa: SLF001
        if zone := response._get_param("AvailabilityZone"):  # noqa: SLF001
            filters["availability-zone"] = [zone]
        if products := response._get_param("ProductDescriptions"):  # noqa: SLF001
            filters["product-description"] = products
        types = response._get_param("InstanceTypes", [])  # noqa: SLF001
        return ActionResult({"SpotPriceHistory": pool.market.spot_history(response.region, types, filters)})

    return describe_spot_price_history


def _public_ip(nic: Any) -> None:
    if str(nic.public_ip_auto_assign).lower() == "true":
        nic.public_ip = nic.private_ip_address


def _address(pool: MachinePool, instance: Any) -> str:
    address = pool.addresses.take()
    if address is None:
        raise EC2ClientError(
            "InsufficientFreeAddressesInSubnet",
            f"There are not enough free addresses in subnet '{instance.subnet_id}' to satisfy the requested number of "
            "instances.",
        )
    return address
