"""SEER, as we reconstruct it: try many, eliminate, and give survivors just enough workers to be trained in time.

Sequential Elimination with Elastic Resources (Dunlap et al., SoCC 2021, DOI 10.1145/3472883.3486989); only its
abstract is public, so the rules here are ours. At every decision the policy plans anew from the time and money that
are left: how many configurations can be started so that the survivors of successive halving are trained by the
deadline, and on how many workers each. It promotes whoever's verdict is certain and eliminates likewise, without
barriers.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core.model import Job, Plan, Snapshot
from seer_nb.core.planner import Leg, Resources, cheapest, largest, least_parallelism
from seer_nb.policies.ladder import Ladder
from seer_nb.policies.rungs import WithRungs, fixed_size, fresh, kept, paused, rungs
from seer_nb.policies.seer_jobs import Aim, plan

if TYPE_CHECKING:
    from seer_nb.core.planner import Schedule

MOST = 1_000_000
"""Configurations that are never exceeded."""
TOPS = (1.0, 0.75, 0.5, 0.36, 0.25)
"""How far the last survivors may be trained, as shares of max_epochs."""
DEPTH = 0.75
"""Worth of training longer against trying more: the exponent of the top beside that of n (measured on real curves)."""


class Outlook(NamedTuple):
    """What is to be expected."""

    rungs: tuple[int, ...]
    """Epochs at which trials are compared."""
    survivors: tuple[int, ...]
    """How many trials are trained to each rung in all."""
    schedule: Schedule
    """What is left to do for it, a stage a rung."""


class SEER(WithRungs):
    """Sequential elimination with elastic resources."""

    def decide(self, snapshot: Snapshot) -> Plan:
        """What to train now, on how many workers, and who is out."""
        if snapshot.scaling.epoch_s is None:
            return self._pilot(snapshot)
        return plan(snapshot, self._aim(snapshot))

    def outlook(self, snapshot: Snapshot) -> Outlook | None:
        """What the planner expects of a study that goes on from here; None when nobody can be trained to the top.

        Raises:
            ValueError: The snapshot says nothing of how long an epoch takes.
        """
        aim = self._aim(snapshot)
        if aim.schedule is None:
            return None
        rungs = aim.ladder.epochs
        survivors = tuple(aim.ladder.allowed(aim.n, k) for k in range(len(rungs)))
        return Outlook(rungs, survivors, aim.schedule)

    def _pilot(self, snapshot: Snapshot) -> Plan:
        """Before the first report nothing is known of speed: begin as large as a fixed cluster would be."""
        size = fixed_size(snapshot)
        until = rungs(self.eta, self.first_rung, snapshot.max_epochs)[0]
        jobs = kept(snapshot)
        jobs += [Job(trial=trial.id, until=until, reason="goes on") for trial in paused(snapshot)]
        reason = "the first ones show how fast training is"
        jobs += islice(fresh(snapshot, until, reason), max(0, size - len(jobs)))
        workers = min(size, len(jobs))
        return Plan(jobs=tuple(jobs), workers=workers, done=not jobs, reason=f"measuring speed on {workers} workers")

    def _aim(self, snapshot: Snapshot) -> Aim:
        """The most configurations whose survivors can be trained with what is left."""
        resources = Resources.left(snapshot)
        ladder = self._ladder(snapshot, resources)
        found = largest(ladder.legs, resources, 1, min(MOST, ladder.largest))
        if found is None:
            # Not even one can be trained to the top: go as far as it gets.
            return Aim(ladder, resources, 1, None, spare_money=False)
        n, schedule = found
        more = min(ladder.largest, n + 1 + n // 4)
        endless = resources._replace(seconds=math.inf)
        spare = more > n and cheapest(ladder.legs(more), endless) is not None
        return Aim(ladder, resources, n, schedule, spare_money=spare)

    def _ladder(self, snapshot: Snapshot, resources: Resources) -> Ladder:
        top = _top(_rounded(Resources.whole(snapshot)), self.eta, self.first_rung, snapshot.max_epochs)
        epochs = rungs(self.eta, self.first_rung, top)
        startable = len(snapshot.trials)
        if snapshot.exhausted:
            startable += snapshot.waiting
        elif least_parallelism(resources, top, resources.seconds - len(epochs) * resources.scaling.stall_s):
            # Else a new configuration would come too late: what is left is for those that have begun.
            startable = MOST
        return Ladder(snapshot, epochs, self.eta, startable)


@lru_cache(maxsize=64)
def _top(resources: Resources, eta: int, first: int, max_epochs: int) -> int:
    """How far to train the last survivors, so that trying many and training long are in balance."""
    best, worth = max_epochs, -math.inf
    for top in sorted({max(1, round(share * max_epochs)) for share in TOPS}, reverse=True):
        epochs = rungs(eta, first, top)
        steps = [epoch - before for before, epoch in zip((0, *epochs), epochs, strict=False)]

        def legs(n: int, steps: list[int] = steps) -> list[Leg]:
            return [Leg(max(1, n // eta**k), step) for k, step in enumerate(steps)]

        found = largest(legs, resources, 1, MOST)
        if found is not None and math.log(found[0]) + DEPTH * math.log(top) > worth + 1e-9:
            best, worth = top, math.log(found[0]) + DEPTH * math.log(top)
    return best


def _rounded(resources: Resources) -> Resources:
    """Speeds in steps of a fifth: the top must not change with every new estimate of them."""
    scaling = resources.scaling
    return resources._replace(
        epoch_s=_step(resources.epoch_s),
        scaling=type(scaling)(
            epoch_s=None,
            overhead=_step(scaling.overhead),
            stall_s=_step(scaling.stall_s),
            boot_s=_step(scaling.boot_s),
        ),
    )


def _step(value: float) -> float:
    return float(1.2 ** round(math.log(value, 1.2))) if value > 0 else 0.0
