"""A cloud without real machines, for a runner in this process, and an observer of gangs."""

import asyncio
from typing import NamedTuple

import seer_nb as seer
from seer_nb.core.money import Offer
from seer_nb.providers._fleet import MachineFleet, RentedMachine
from seer_nb.providers.base import Adopted, SchedulerAddress
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal
from seer_nb.storage.replay import JournalView

OFFER = Offer(name="vm", price_per_hour_micro=3_600_000, boot_s=5.0, release_s=5.0, max_machines=3)
"""An offer that costs 1000 micro-dollars per second."""


class Machines(MachineFleet):
    """Machines that take a while to terminate, as on clouds."""

    def __init__(self, context, end_s):
        super().__init__(context, RentedMachine)
        self._end_s = end_s
        self.asked = []
        """Machines that were rented, in order."""
        self.retired = []
        """Machines whose termination was requested, in order."""

    async def open(self):
        return None

    async def adopt(self, machines):
        return Adopted(SchedulerAddress("tcp://127.0.0.1:1"), tuple(machines)) if machines else Adopted()

    async def retire(self, machine, *, force):
        self.retired.append(machine)
        await super().retire(machine, force=force)

    async def _launch(self, machine, rented, offer):
        self.asked.append(machine)

    async def _end(self, machine, rented, *, force):
        gone = asyncio.get_running_loop().call_later
        gone(self._end_s, lambda: self.report_ended(machine, lived_s=rented.lived_s()))

    async def _clean_up(self):
        pass


class Cloud(NamedTuple):
    """Rents `Machines`."""

    end_s: float = 0.05
    offer: Offer = OFFER
    max_workers: int = 2
    shares_files: bool = True
    scheduler_offer: Offer | None = None

    def offers(self):
        return (self.offer,)

    def fleet(self, context):
        return Machines(context, self.end_s)


def train(config, run):
    """Never called, because no machine exists."""


def create(cloud, **changes):
    """Create a study that no runner drives yet."""
    given = {"max_epochs": 3, "deadline": "1h", "budget": 5.0, "policy": "random_search", "name": "study"}
    study = seer.Study(
        train, {"x": seer.uniform(0, 1)}, metric="accuracy", mode="max", provider=cloud, **{**given, **changes}
    )
    study.create_folder()
    return study


def journalled(study):
    """Return the records of a study's journal, and the state that follows from them."""
    view = JournalView(Journal(study.folder / layout.JOURNAL))
    return [entry.record for entry in view.journal.read()], view.state()


class RecordingObserver:
    """Records what `DaskGangs` learns from workers."""

    def __init__(self):
        self.events, self.ready, self.left = [], [], []

    def emit(self, event):
        self.events.append(event)

    def worker_ready(self, worker):
        self.ready.append(worker)

    def worker_left(self, worker):
        self.left.append(worker)
