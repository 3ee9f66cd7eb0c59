"""SEER, as we reconstruct it: try many, eliminate, and give survivors just enough workers to be trained in time.

Sequential Elimination with Elastic Resources (Dunlap et al., SoCC 2021, DOI 10.1145/3472883.3486989); only its
abstract is public, so the rules here are ours. The policy plans, from the time and money that are left, how many
configurations can be started so that the survivors of successive halving are trained by the deadline, and on how many
workers each. It promotes whoever's verdict is certain and eliminates likewise, without barriers, and plans anew when
speed, limits or losses differ from what the plan was made for.

Beyond that it starts in rounds: later configurations are proposed by what the first ones have shown, while the best of
the first ones go up the ladder already; and it ranks trials by where their curves lead. Each part can be switched off.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from seer_nb._utils.text import show
from seer_nb._utils.validation import refuses_unknown
from seer_nb.core import Job, Plan, Snapshot
from seer_nb.policies._rungs import WithRungs, fixed_size, fresh, kept, measured, paused, rungs
from seer_nb.policies.seer.goal import Options, aim_for, ladder_of, still_holds
from seer_nb.policies.seer.schedule import plan

if TYPE_CHECKING:
    from seer_nb.core.planner import Schedule


TIGHT = 0.25
"""A deadline that leaves time for so large a share of the epochs that train a trial is tight."""
MOMENT = 0.1
"""In epochs of the quickest."""
PILOT = 0.12
"""Share of the money that may be spent before speed is known."""


class Outlook(NamedTuple):
    """What is to be expected."""

    rungs: tuple[int, ...]
    """Epochs at which trials are compared, one a stage; the first stage is for those drawn at random, the second for
    those proposed."""
    survivors: tuple[int, ...]
    """How many trials are trained to each rung in all."""
    schedule: Schedule
    """What is left to do for it, a stage a rung."""


class SEER(WithRungs):
    """Sequential elimination with elastic resources.

    Args:
        eta: One in so many goes on from a rung.
        first_rung: Epochs to the first rung.
        tops: Whether the planner chooses how far the last survivors are trained; else to the last epoch.
        rounds: Whether it chooses in how many turns configurations are started; else all at once.
        proposals: Whether later configurations may be proposed by a model of what earlier ones have shown.
        overlap: Whether the best of the first round are promoted while later ones are still being started.
        slopes: Whether trials are ranked by where their curves lead; else by their last value.

    Raises:
        ValueError: eta is below 2 or first_rung below 1.
        TypeError: A switch is neither True nor False.
    """

    @refuses_unknown()
    def __init__(  # noqa: PLR0913 - a switch for each part
        self,
        eta: int = 3,
        first_rung: int = 1,
        *,
        tops: bool = True,
        rounds: bool = True,
        proposals: bool = True,
        overlap: bool = True,
        slopes: bool = True,
    ) -> None:
        super().__init__(eta, first_rung)
        switches = {"tops": tops, "rounds": rounds, "proposals": proposals, "overlap": overlap, "slopes": slopes}
        for name, value in switches.items():
            _check_switch(name, value)
        self.options = Options(self.eta, self.first_rung, **switches)

    def __repr__(self) -> str:
        off = [f", {name}=False" for name, value in self.options._asdict().items() if value is False]
        return f"SEER(eta={self.eta}, first_rung={self.first_rung}{''.join(off)})"

    def decide(self, snapshot: Snapshot) -> Plan:
        """What to train now, on how many workers, and who is out."""
        if not measured(snapshot):
            return self._pilot(snapshot)
        aim, standing = snapshot.carry or (None, None)
        if aim is None or not still_holds(aim, snapshot):
            aim = aim_for(snapshot, self.options, aim)
        ladder = ladder_of(snapshot, aim, self.options, standing)
        return replace(plan(snapshot, aim, ladder, self.options), carry=(aim, ladder.standing))

    def outlook(self, snapshot: Snapshot) -> Outlook | None:
        """What the planner expects of a study that goes on from here; None when nobody can be trained to the top.

        Raises:
            ValueError: The snapshot says nothing of how long an epoch takes.
        """
        aim = aim_for(snapshot, self.options, None)
        if aim.schedule is None:
            return None
        ladder = ladder_of(snapshot, aim, self.options)
        survivors = [ladder.allowed(aim.n, k) for k in range(len(aim.epochs))]
        first = min(survivors[0], ladder.passed[0] + aim.schedule.stages[0].trials)
        return Outlook((aim.epochs[0], *aim.epochs), (first, *survivors), aim.schedule)

    def _pilot(self, snapshot: Snapshot) -> Plan:
        """Before the first report nothing is known of speed."""
        size, until_s = pilot_size(snapshot)
        until = rungs(self.eta, self.first_rung, snapshot.max_epochs)[0]
        jobs = kept(snapshot)
        behind = (trial for trial in paused(snapshot) if trial.epoch < until)
        jobs += [Job(trial=trial.id, until=until, reason="goes on") for trial in behind]
        reason = "the first ones show how fast training is"
        if self._starts_more(snapshot):
            jobs += islice(fresh(snapshot, until, reason), max(0, size - len(jobs)))
        jobs = jobs[:size]
        return Plan(
            jobs=tuple(jobs),
            # Those of the quickest are kept for what is planned in a moment.
            workers=max(len(jobs), sum(machine.slots for machine in snapshot.machines)) if jobs else 0,
            done=not jobs and not snapshot.gangs,
            reason=f"measuring speed on {len(jobs)} workers",
            wake_s=until_s,
        )

    def _starts_more(self, snapshot: Snapshot) -> bool:
        """Not when the first have just reported: others are about to, and then it is known what is best begun."""
        first = min((trial.curve[0] for trial in snapshot.trials if trial.curve), key=lambda r: r.at_s, default=None)
        return first is None or snapshot.now_s - first.at_s > MOMENT * first.seconds


def _check_switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}={show(value)} is not a switch: give True or False")


def pilot_size(snapshot: Snapshot) -> tuple[int, float | None]:
    """Workers to begin with while speed is unknown, and until when, in study seconds; None: until it is known.

    A fixed cluster's are always affordable. If the deadline is tight, time is lost with so few: so as many as a part of
    the money pays for until the end of an epoch that leaves time for so many of them as a tight deadline does.
    """
    size, offer = fixed_size(snapshot), snapshot.offers[0]
    tight_s = snapshot.stop_s / (TIGHT * snapshot.max_epochs)
    paid_s = max(offer.boot_s + snapshot.scaling.stall_s + tight_s, offer.billing.minimum_s)
    price = offer.worker_price_s() * paid_s
    until_s = offer.boot_s + snapshot.scaling.stall_s + tight_s
    if not price or snapshot.now_s > until_s:
        return size, None
    wide = min(snapshot.max_workers, int(PILOT * snapshot.budget / price))
    return (size, None) if wide <= size else (wide, until_s + 1e-3)
