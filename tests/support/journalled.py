"""A study on disk whose journal a test writes, instead of a runner."""

import seer_nb as seer
from seer_nb._utils import files
from seer_nb.policies import SEER
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal
from seer_nb.storage.lock import RunnerLock
from seer_nb.study import serialization


class Journalled:
    """A study on disk whose journal a test writes, instead of a runner.

    Args:
        folder: Folder of all studies.
        builder: Source of the records.
        driven: Whether the study seems to have a runner.
    """

    def __init__(self, folder, builder, *, driven=True):
        self.builder = builder
        self.folder = folder / builder.settings.name
        layout.make_folder(self.folder)
        files.write_atomically(self.folder / layout.PARTS, serialization.dumps_parts(policy=SEER()), private=True)
        layout.sign(self.folder)
        self.journal = Journal.create(self.folder / layout.JOURNAL, ())
        self._written = 0
        self.write()
        self.lock = RunnerLock(self.folder)
        if driven:
            assert self.lock.take()
        self.study = seer.attach(builder.settings.name)

    def write(self):
        """Append the builder's new records."""
        new = self.builder.records[self._written :]
        self.journal.append([(at_s, record) for _, at_s, record in new])
        self._written += len(new)

    def commands(self):
        """Return the commands in the inbox."""
        return [command for _, command in self.journal.inbox()]
