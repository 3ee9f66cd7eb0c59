"""Helpers for tests on the loopback cloud: a provider, and what EC2 knows about its machines."""

from seer_nb.core.money import Offer


def provider(cloud, instance_type="m5.large", **changes):
    return cloud.provider(instance_type, **{"boot_time": 8, "boot_timeout": 60, "max_machines": 2, **changes})


def living(cloud):
    return [machine for machine in cloud.machines() if machine.state in {"pending", "running"}]


def numbered(cloud, number):
    """Return the instance of a machine."""
    return next(machine for machine in cloud.machines() if machine.tags["seer:machine"] == str(number))


def bill(cloud, offers: dict[str, Offer]):
    """Return micro-dollars by EC2's records: each instance's billed time in whole seconds times its price."""
    total_micro = 0
    for machine in cloud.machines():
        offer = offers[machine.instance_type + (" spot" if machine.spot else "")]
        seconds = (machine.ended.replace(microsecond=0) - machine.launched.replace(microsecond=0)).total_seconds()
        total_micro += offer.bill(max(1.0, seconds))
    return total_micro
