"""SEER: try many configurations, eliminate the weak, and give each survivor just enough workers for the deadline.

The method is Sequential Elimination with Elastic Resources (Dunlap et al., SoCC 2021, DOI 10.1145/3472883.3486989).
Only its abstract is public, so the rules here are our reconstruction.

One call of ``SEER.decide(view)`` takes these steps, in this order:

1. **Pilot.** While no epoch has been timed, start a few configurations to measure speed (``SEER._pilot``).
2. **Goal** (``goal.py``). Choose how many configurations n to start in all, how far to train the last survivors (the
   top), and in how many rounds to start configurations, so that successive halving keeps deadline and budget. The
   utility is ln n + 0.75 ln top + 0.5 (1 - 1 / rounds); ``core.planner`` finds the cheapest schedule of each candidate.
   The goal is kept until limits, speed or losses differ from those that it was chosen for.
   Options: ``eta`` and ``first_rung`` set the rungs, ``tops`` frees the top, ``rounds`` the number of rounds.
3. **Ladder** (``ladder.py``). Rank the trials at every rung; with ``slopes``, by their extrapolated curves. A trial is
   promoted as soon as its promotion is certain, without a barrier. With ``overlap``, the best of the first round are
   promoted while later configurations still start.
4. **Schedule** (``schedule.py``). Turn goal and ladder into jobs: interrupted trials first, then promotions from the
   highest rung down, then new configurations, which a model may propose (``proposals``). Each job gets the workers that
   the schedule gives its stage, and on the way to the top at least those with which it is in time. A job starts only if
   the budget pays for it and its lease. Weak trials are eliminated; running ones that time or money no longer allow are
   stopped.

The plan carries goal and rankings to the next decision, in the policy view's ``carry``. The rankings only save time.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import reject_unknown_arguments
from seer_nb.core import Job, Plan, PolicyView
from seer_nb.policies._rungs import (
    RungPolicy,
    fixed_cluster_size,
    new_jobs,
    resumable_trials,
    rungs,
    running_jobs,
    speed_is_known,
)
from seer_nb.policies.seer.goal import Options, build_ladder, choose_goal, is_current
from seer_nb.policies.seer.schedule import make_plan

if TYPE_CHECKING:
    from seer_nb.core.planner import Schedule


TIGHT_SHARE = 0.25
"""Share of a full training on one worker up to which a deadline counts as tight."""
FIRST_REPORT_GRACE = 0.1
"""Wait for further first reports before the pilot starts more trials, in epochs of the quickest trial."""
PILOT_BUDGET_SHARE = 0.12
"""Share of the budget that may be spent before speed is known."""


class Outlook(NamedTuple):
    """Expected course of a study, as planned."""

    rungs: tuple[int, ...]
    """Epochs at which trials are compared, one per stage.

    The first stage holds the configurations drawn at random, the second those proposed by the model."""
    survivors: tuple[int, ...]
    """Number of trials that are trained to each rung in all."""
    schedule: Schedule
    """The remaining work, one stage per rung."""


class SEER(RungPolicy):
    """Sequential elimination with elastic resources, as reconstructed here.

    Source: Dunlap et al., SoCC 2021, DOI 10.1145/3472883.3486989. Only its abstract is public.

    Args:
        eta: Reduction factor, at least 2: one in ``eta`` trials is promoted from a rung.
        first_rung: Epochs to the first rung, at least 1.
        tops: Whether the planner chooses how far the last survivors are trained; otherwise to the last epoch.
        rounds: Whether the planner chooses the number of rounds in which configurations start; otherwise one.
        proposals: Whether a model of the earlier trials may propose later configurations.
        overlap: Whether the best of the first round are promoted while later configurations still start.
        slopes: Whether trials are ranked by their extrapolated curves; otherwise by their last values.

    Raises:
        TypeError: A switch is not a bool, or a number is not an integer.
        ValueError: eta is below 2 or first_rung below 1.

    Example:
        >>> import seer_nb as seer
        >>> seer.SEER(eta=4, slopes=False)
        SEER(eta=4, first_rung=1, slopes=False)
    """

    @reject_unknown_arguments()
    def __init__(  # noqa: PLR0913 - one switch per part of the method
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

    def decide(self, view: PolicyView) -> Plan:
        """Return the jobs, the size of the cluster, and the trials to eliminate."""
        if not speed_is_known(view):
            return self._pilot(view)
        goal, rankings = view.carry or (None, None)
        if goal is None or not is_current(goal, view):
            goal = choose_goal(view, self.options, goal)
        ladder = build_ladder(view, goal, self.options, rankings)
        return replace(make_plan(view, goal, ladder, self.options), carry=(goal, ladder.rankings))

    def outlook(self, view: PolicyView) -> Outlook | None:
        """Return the planner's expectation of the rest of a study; None if no trial can be trained to the top.

        Raises:
            ValueError: The epoch time in the policy view is unknown.
        """
        goal = choose_goal(view, self.options, None)
        if goal.schedule is None:
            return None
        ladder = build_ladder(view, goal, self.options)
        survivors = [ladder.allowed(goal.n, k) for k in range(len(goal.rungs))]
        first = min(survivors[0], ladder.passed[0] + goal.schedule.stages[0].trials)
        return Outlook((goal.rungs[0], *goal.rungs), (first, *survivors), goal.schedule)

    def _pilot(self, view: PolicyView) -> Plan:
        """Return the plan before speed is known: train some configurations to the first rung."""
        size, until_s = pilot_workers(view)
        until = rungs(self.eta, self.first_rung, view.max_epochs)[0]
        jobs = running_jobs(view)
        unfinished = (trial for trial in resumable_trials(view) if trial.epoch < until)
        jobs += [Job(trial=trial.id, until=until, reason="resumes") for trial in unfinished]
        if self._starts_more(view):
            jobs += islice(new_jobs(view, until, "the first trials measure speed"), max(0, size - len(jobs)))
        jobs = jobs[:size]
        return Plan(
            jobs=tuple(jobs),
            # Workers of trials that have finished early are kept for the first plan, which follows soon.
            workers=max(len(jobs), sum(machine.slots for machine in view.machines)) if jobs else 0,
            done=not jobs and not view.gangs,
            reason=f"measuring speed on {len(jobs)} workers",
            wake_s=until_s,
        )

    def _starts_more(self, view: PolicyView) -> bool:
        """Return whether the pilot may start trials: not just after the first report, when others are about to come."""
        first = min((trial.curve[0] for trial in view.trials if trial.curve), key=lambda r: r.at_s, default=None)
        return first is None or view.now_s - first.at_s > FIRST_REPORT_GRACE * first.seconds


def _check_switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}={short_repr(value)}: not a bool; expected True or False")


def pilot_workers(view: PolicyView) -> tuple[int, float | None]:
    """Return the workers to start with while speed is unknown, and the study seconds until which that size holds.

    A fixed cluster is always affordable; its size holds until speed is known (None). Under a tight deadline so small a
    cluster would lose time. The size is then what ``PILOT_BUDGET_SHARE`` of the budget pays for, until the end of an
    epoch as long as a tight deadline allows.
    """
    size, offer = fixed_cluster_size(view), view.offers[0]
    tight_s = view.stop_s / (TIGHT_SHARE * view.max_epochs)
    paid_s = max(offer.boot_s + view.scaling.stall_s + tight_s, offer.billing.minimum_s)
    price = offer.worker_price_s() * paid_s
    until_s = offer.boot_s + view.scaling.stall_s + tight_s
    if not price or view.now_s > until_s:
        return size, None
    wide = min(view.max_workers, int(PILOT_BUDGET_SHARE * view.budget_micro / price))
    return (size, None) if wide <= size else (wide, until_s + 1e-3)
