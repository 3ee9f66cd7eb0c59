"""A fleet without a runner, which records the ends that it reports."""

from seer_nb.providers.base import FleetContext
from tests.support.waiting import until_async


class RecordedFleet:
    """An asynchronous context: the fleet is opened at its start and closed at its end."""

    def __init__(self, folder, provider, study="study"):
        folder.mkdir(parents=True, exist_ok=True)
        self.provider = provider
        self.ended = {}
        """Events by machine."""
        self.fleet = provider.fleet(FleetContext(study=study, folder=folder, lease_s=30.0, on_ended=self._ended))

    def _ended(self, event):
        assert event.machine not in self.ended, f"machine {event.machine} was reported twice"
        self.ended[event.machine] = event

    async def __aenter__(self):
        await self.fleet.open()
        return self

    async def __aexit__(self, *_):
        await self.fleet.close()

    def rent(self, machine):
        return self.fleet.rent(machine, self.provider.offers()[0])

    async def has_ended(self, machine, within_s=10.0):
        return await until_async(lambda: self.ended.get(machine), f"the end of machine {machine}", within_s)
