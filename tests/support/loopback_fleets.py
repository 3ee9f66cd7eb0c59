"""What tests of the cloud need: a provider, fleets on their own, and what EC2 has in its books."""

import contextlib

from seer_nb.core.money import Offer
from seer_nb.providers.base import FleetContext
from tests.support.waiting import until_async


def provider(cloud, instance_type="m5.large", **changes):
    return cloud.provider(instance_type, **{"boot_time": 8, "boot_timeout": 60, "max_machines": 2, **changes})


class Books:
    """A fleet, and what it reports."""

    def __init__(self, folder, of):
        folder.mkdir(parents=True, exist_ok=True)
        self.ended = {}
        self.order = []
        self.fleet = of.fleet(FleetContext(study="study", folder=folder, lease_s=30.0, ended=self._ended))

    def _ended(self, event):
        assert event.machine not in self.ended, "a machine ended twice"
        self.ended[event.machine] = event

    async def has_ended(self, machine, within_s=10.0):
        return await until_async(lambda: self.ended.get(machine), within_s=within_s)


@contextlib.asynccontextmanager
async def opened(folder, of):
    books = Books(folder, of)
    await books.fleet.open()
    try:
        yield books
    finally:
        await books.fleet.close()


def living(cloud):
    return [machine for machine in cloud.machines() if machine.state in {"pending", "running"}]


def numbered(cloud, number):
    """The instance of a machine."""
    return next(machine for machine in cloud.machines() if machine.tags["seer:machine"] == str(number))


def bill(cloud, offers: dict[str, Offer]):
    """Micro-dollars by EC2's books: for each instance its billed time, in whole seconds, times its price."""
    total = 0
    for machine in cloud.machines():
        offer = offers[machine.instance_type + (" spot" if machine.spot else "")]
        seconds = (machine.ended.replace(microsecond=0) - machine.launched.replace(microsecond=0)).total_seconds()
        total += offer.bill(max(1.0, seconds))
    return total
