"""SEER's schedule: which trial trains next, on how many workers, who is stopped, and what money is kept back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from seer_nb._utils.units import format_duration, format_money
from seer_nb.core import Gang, Job, Plan, PolicyView, Trial, Verdict
from seer_nb.core.planner import Resources, parallelisms
from seer_nb.policies._rungs import RESIZE_GAIN, single_worker_epoch_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from seer_nb.policies.seer.goal import Goal, Options
    from seer_nb.policies.seer.ladder import Ladder, Place


RANDOM_EVERY = 10
"""One in this many configurations is drawn at random even where others are proposed."""
SURPLUS_FACTOR = 1.5
"""Ratio of running trials to places from which on the weakest are stopped, because estimates are noisy."""


# --- the money that running gangs need ---


class Reservation(NamedTuple):
    """The workers of one gang, for a time from now."""

    seconds: float
    workers: int


def fits_budget(reservations: Iterable[Reservation], resources: Resources) -> bool:
    """Return whether, at each gang's end, the budget still holds the leases of all workers used until then."""
    ordered = sorted(reservations)
    running = sum(each.workers for each in ordered)
    spent, now_s = 0.0, 0.0
    for end_s, workers in ordered:
        spent += running * (end_s - now_s) * resources.price_micro_per_s
        if spent + running * resources.lease_s * resources.price_micro_per_s > resources.money_micro:
            return False
        now_s = end_s
        running -= workers
    return True


def count_affordable(reservations: Sequence[Reservation], resources: Resources) -> int:
    """Return how many of the gangs the budget pays for, taken in order.

    The first one always counts: the goal has decided whether it is worth its money.
    """
    if not reservations or fits_budget(reservations, resources):
        return len(reservations)
    low, high = 1, len(reservations)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits_budget(reservations[:middle], resources) else (low, middle)
    return low


# --- the plan ---


def make_plan(view: PolicyView, goal: Goal, ladder: Ladder, options: Options) -> Plan:
    """Return the plan that pursues a goal.

    Args:
        view: The policy view.
        goal: How many configurations to start, how far to train, and the schedule.
        ladder: The trials on the goal's rungs.
        options: The options of ``SEER``.
    """
    return _PlanBuilder(view, goal, ladder, options).plan()


class _PlanBuilder:
    """The state of one decision."""

    def __init__(self, view: PolicyView, goal: Goal, ladder: Ladder, options: Options) -> None:
        self.view = view
        self.goal = goal
        self.ladder = ladder
        self.options = options
        self.resources = Resources.remaining(view)
        self.trials = ladder.trials
        self.rented = self.resources.workers
        self.used = sum(gang.parallelism for gang in view.gangs)
        ready = sum(machine.slots for machine in view.machines if machine.state == "ready")
        self.idle = ready - self.used
        """Workers that could start a job at once."""
        places = [ladder.waiting(goal.n, k) for k in range(len(ladder.epochs) - 1)]
        self.eliminated = [place for row in places for place in row if place.eliminated]
        self.places = [[place for place in row if not place.eliminated] for row in places]
        self.surplus = self._surplus_trials()
        self.reservations: list[Reservation] = []
        """Reservations of the gangs that continue."""
        self.wanted = 0
        """Workers that running gangs have to release for other trials."""

    def plan(self) -> Plan:
        stopped = self.surplus | self._unaffordable_trials()
        gangs = [gang for gang in self.view.gangs if not gang.stopping and gang.trial not in stopped]
        new, lacking = self._new_jobs(self.used - self._released_by(stopped))
        self.idle -= sum(job.workers for job in new)
        # Gangs shrink only if that provides all workers that are lacking; fewer would help no trial.
        self.wanted = lacking if lacking and lacking <= sum(self._releasable(gang) for gang in gangs) else 0
        jobs = [self._running_job(gang) for gang in gangs]
        if self.goal.spare_money:
            # While a larger gang waits, running gangs keep their size, or they would take and release the same workers.
            jobs = jobs + self._sped_up(new) if lacking else self._sped_up(jobs + new)
        else:
            jobs += new
        workers = sum(job.workers for job in jobs)
        done = not jobs and not self.view.gangs
        return Plan(
            jobs=tuple(jobs),
            verdicts=tuple(_verdict(place) for place in self.eliminated),
            workers=max(workers, min(self.rented, workers + self._kept_for_stopping())),
            done=done,
            reason=self._outcome() if done else self._reason(),
        )

    def _kept_for_stopping(self) -> int:
        """Return the workers kept for gangs that are being stopped; their trials may resume, even on twice as many."""
        resuming = (g for g in self.view.gangs if g.stopping and self.trials[g.trial].alive)
        return sum(2 * gang.parallelism for gang in resuming)

    # --- jobs to start ---

    def _new_jobs(self, used: int) -> tuple[list[Job], int]:
        """Return the jobs to start beside the workers in use, and the workers that the next job lacks under a quota."""
        jobs, lacking = self._jobs_within_width(used)
        reservations = self.reservations + [Reservation(self._job_s(job), job.workers) for job in jobs]
        jobs = jobs[: max(0, count_affordable(reservations, self.resources) - len(self.reservations))]
        if not jobs and not self.view.gangs:
            jobs += self._last_resort()
        return jobs, lacking

    def _jobs_within_width(self, used: int) -> tuple[list[Job], int]:
        jobs: list[Job] = []
        quota = self.view.max_workers
        for job, width in self._wanted_jobs():
            if used and used + job.workers > max(self.rented, width):
                return jobs, used + job.workers - quota if max(self.rented, width) >= quota else 0
            jobs.append(job)
            used += job.workers
        return jobs, 0

    def _last_resort(self) -> Iterator[Job]:
        """Yield at most one job when nothing else is left: the best trial, to the next rung or as far as possible."""
        out = {place.trial.id for place in self.eliminated} | self.surplus
        last = self.view.max_epochs
        alive = (t for t in self.view.trials if t.state == "paused" and t.id not in out and t.epoch < last)
        for trial in self.ladder.strongest(alive):
            k = self.ladder.next_rung(trial.epoch)
            job = self._farthest_job(trial, last if k is None else self.ladder.epochs[k])
            if job is not None:
                yield job
                return

    def _farthest_job(self, trial: Trial, target: int) -> Job | None:
        """Return the job that trains a trial as far as time and money allow, on the fewest workers that suffice."""
        for until in range(target, trial.epoch, -1):
            for p in self._parallelisms(trial):
                seconds = self._leg_s(trial, until - trial.epoch, p)
                if seconds <= self.view.time_left_s and fits_budget([Reservation(seconds, p)], self.resources):
                    reason = f"time and money allow training to epoch {until}"
                    return Job(trial=trial.id, workers=p, until=until, reason=reason)
        return None

    def _wanted_jobs(self) -> Iterator[tuple[Job, int]]:
        """Yield interrupted trials, certain promotions and new configurations, most urgent first.

        Each comes with the width: the workers up to which the cluster may grow for it.
        """
        widths = self._widths()
        for trial, k in self.ladder.interrupted():
            if trial.id not in self.surplus:
                yield self._job(trial, k, f"resumes to epoch {self.ladder.epochs[k]}"), widths[k]
        for k in range(len(self.ladder.epochs) - 1, 0, -1):
            yield from ((job, widths[k]) for job in self._promotions(k))
        n = min(self.goal.n, self.ladder.startable)
        until = self.ladder.epochs[self.ladder.certain_rung(self.goal.n, 0)]
        for number in range(self.ladder.started, n):
            random = number < self.goal.n_random or self.goal.rounds == 1
            job = self._new_trial(number, n, until, stage=0 if random else 1)
            yield job, self._stage_width(0) if number < self.goal.n_random else widths[0]

    def _new_trial(self, number: int, n: int, until: int, *, stage: int) -> Job:
        # A share of the configurations stays random, because the model may mislead.
        proposed = self.options.proposals and stage > 0 and number % RANDOM_EVERY != 0
        reason = f"configuration {number + 1} of {n}"
        workers = self.goal.schedule.stages[stage].parallelism if self.goal.schedule else 1
        return Job(trial=None, workers=workers, until=until, proposed=proposed, reason=reason)

    def _widths(self) -> list[int]:
        """Return by rung the workers that the cluster may have while trials are on the way to it."""
        width = max(1, self.rented if self.goal.schedule is None else 1)
        widths = []
        for k in range(len(self.ladder.epochs)):
            width = max(width, self._stage_width(1 if k == 0 else k + 1))
            widths.append(width)
        return widths

    def _stage_width(self, stage: int) -> int:
        return self.goal.schedule.stages[stage].workers if self.goal.schedule else 1

    def _promotions(self, k: int) -> Iterator[Job]:
        """Yield the promotions to rung k that are certain, and those of pinned trials."""
        left = self.ladder.promotable(self.goal.n, k)
        for place in self.places[k - 1]:
            if place.trial.pinned:
                yield self._promotion(place, k, "pinned")
            elif left > 0:
                yield self._promotion(place, k, f"ranked {place.rank} of {place.reported}")
            left -= 1

    def _promotion(self, place: Place, k: int, why: str) -> Job:
        epoch, until = self.ladder.epochs[k - 1], self.ladder.epochs[k]
        return self._job(place.trial, k, f"{why} at epoch {epoch}: promoted to epoch {until}")

    def _job(self, trial: Trial, k: int, reason: str) -> Job:
        until = self.ladder.epochs[self.ladder.certain_rung(self.goal.n, k)]
        return Job(trial=trial.id, workers=self._parallelism(trial, k), until=until, reason=reason)

    def _job_s(self, job: Job) -> float:
        """Return the seconds of a job that starts now."""
        if job.trial is None:
            return self.resources.trial_seconds(job.until, job.workers)
        trial = self.trials[job.trial]
        return self._leg_s(trial, job.until - trial.epoch, job.workers)

    # --- parallelism ---

    def _stage_parallelism(self, k: int) -> int:
        """Return the scheduled workers per trial on the way to rung k.

        The schedule has two stages to the first rung; the second one is for proposed configurations.
        """
        return self.goal.schedule.stages[k + 1 if k else 0].parallelism if self.goal.schedule else 1

    def _parallelism(self, trial: Trial, k: int) -> int:
        """Return the scheduled workers; on the way to the top, at least those with which the trial is in time."""
        wanted = self._stage_parallelism(k)
        if k == len(self.ladder.epochs) - 1 and self.goal.schedule:
            epochs, left_s = self.ladder.top - trial.epoch, self.view.time_left_s
            in_time = (p for p in self._parallelisms(trial) if self._leg_s(trial, epochs, p) <= left_s)
            wanted = max(wanted, next(in_time, 1))
        return max(p for p in self._parallelisms(trial) if p <= wanted)

    def _parallelisms(self, trial: Trial) -> list[int]:
        """Return the parallelisms that a trial may have: those that divide its batch, or 1 if it shares no work."""
        batch = 1 if trial.shares is False else trial.batch_size
        return [p for p in parallelisms(self.resources.max_parallelism) if batch is None or batch % p == 0]

    def _epoch_s(self, trial: Trial) -> float:
        """Return the seconds of a trial's epoch on one worker, as measured or as expected."""
        own_s = single_worker_epoch_s(self.view, trial)
        return self.resources.epoch_s if own_s is None else own_s

    def _leg_s(self, trial: Trial, epochs: float, parallelism: int) -> float:
        scaling = self.view.scaling
        return scaling.stall_s + epochs * self._epoch_s(trial) / scaling.speedup(parallelism)

    def _resize_pays(self, trial: Trial, epochs: float, old: int, new: int) -> bool:
        """Return whether a resize makes the epochs after the current one faster by ``RESIZE_GAIN``, stall included."""
        old_s = epochs * self._epoch_s(trial) / self.view.scaling.speedup(old)
        return old_s > RESIZE_GAIN * self._leg_s(trial, epochs, new)

    # --- running gangs ---

    def _running_job(self, gang: Gang) -> Job:
        """Return the job of a running gang: to the last rung that it is certain to reach, resized if that pays."""
        trial = self.trials[gang.trial]
        k = self.ladder.next_rung(trial.epoch)
        if k is None or not _has_reported(gang):
            return Job(trial=trial.id, workers=gang.parallelism, until=gang.until)
        until = max(gang.until, self.ladder.epochs[self.ladder.certain_rung(self.goal.n, k)])
        workers, why = self._resized(gang, trial, k, until)
        return Job(trial=trial.id, workers=workers, until=until, reason=why)

    def _resized(self, gang: Gang, trial: Trial, k: int, until: int) -> tuple[int, str]:
        """Return a gang's workers and the reason: more for the deadline, fewer if faster or wanted by other trials."""
        now, wanted, epochs = gang.parallelism, self._parallelism(trial, k), until - trial.epoch - 1
        if wanted > now and wanted - now <= self.idle and self._resize_pays(trial, epochs, now, wanted):
            self.idle -= wanted - now
            return wanted, f"needs {wanted} workers to be trained by the deadline"
        if wanted < now and self._resize_pays(trial, epochs, now, wanted):
            # Communication between the workers takes longer than they save.
            return wanted, f"trains faster on {wanted} workers"
        if self.wanted > 0 and self._releasable(gang):
            self.wanted -= now - wanted
            return wanted, "releases workers for other trials"
        return now, ""

    def _releasable(self, gang: Gang) -> int:
        """Return the workers that a gang can release for other trials."""
        trial, now = self.trials[gang.trial], gang.parallelism
        k = self.ladder.next_rung(trial.epoch)
        if k is None or not _has_reported(gang):
            return 0
        epochs = gang.until - trial.epoch - 1
        long = epochs * self._epoch_s(trial) > self.view.scaling.stall_s / (RESIZE_GAIN - 1)
        return max(0, now - self._parallelism(trial, k)) if long else 0

    def _sped_up(self, jobs: list[Job]) -> list[Job]:
        """Double the workers of jobs that have the longest way to go, while workers would be idle."""
        running = {gang.trial: gang for gang in self.view.gangs}
        # Jobs that start now come first: they need no stop, or were stopped for this.
        for place in sorted(range(len(jobs)), key=lambda place: (jobs[place].trial in running, -jobs[place].until)):
            job = jobs[place]
            trial = self.trials.get(-1 if job.trial is None else job.trial)
            if trial is None or job.workers > self.idle or 2 * job.workers not in self._parallelisms(trial):
                continue
            if trial.id in running and not self._may_stop(running[trial.id]):
                continue
            if trial.max_parallelism > job.workers and trial.epoch not in self.ladder.epochs:
                continue  # The trial had more workers since the last rung, and released them for others.
            epochs = job.until - trial.epoch - (trial.id in running)
            if self._resize_pays(trial, epochs, job.workers, 2 * job.workers):
                self.idle -= job.workers
                jobs[place] = replace(job, workers=2 * job.workers, reason="uses idle workers to train faster")
        return jobs

    def _may_stop(self, gang: Gang) -> bool:
        """Return whether a gang may be stopped to resume with idle workers: at most once between two rungs.

        Without that limit, other trials could take the workers in the meantime, again and again.
        """
        return _has_reported(gang) and (not gang.from_epoch or gang.from_epoch in self.ladder.epochs)

    # --- trials to stop ---

    def _surplus_trials(self) -> set[int]:
        """Return the weakest trials on the way to each rung, beyond those that time and money allow."""
        if self.goal.schedule is None:
            return set()
        stopped: set[int] = set()
        n = int(SURPLUS_FACTOR * self.goal.n)
        for k in range(len(self.ladder.epochs)):
            surplus = self.ladder.surplus(n, k)
            if surplus > 0:
                stopped.update(self.ladder.weakest(k, surplus))
        return stopped

    def _unaffordable_trials(self) -> set[int]:
        """Return running trials, the weakest ones, that would spend the money that better ones need to their end."""
        gangs = {gang.trial: gang for gang in self.view.gangs if gang.trial not in self.surplus}
        reservations = {trial: self._reservation(gang) for trial, gang in gangs.items()}
        if fits_budget(reservations.values(), self.resources):
            self.reservations = list(reservations.values())
            return set()
        order = self.ladder.strongest(self.trials[number] for number in gangs)
        held = [t.id for t in order if t.pinned or gangs[t.id].stopping]
        ranked = [*held, *(t.id for t in order if t.id not in held)]
        affordable = count_affordable([reservations[number] for number in ranked], self.resources)
        kept = ranked[: max(len(held), affordable)]
        self.reservations = [reservations[number] for number in kept]
        return set(gangs) - set(kept)

    def _reservation(self, gang: Gang) -> Reservation:
        trial = self.trials[gang.trial]
        return Reservation(self._leg_s(trial, gang.until - trial.epoch, gang.parallelism), gang.parallelism)

    def _released_by(self, stopped: set[int]) -> int:
        """Return the workers of the gangs that this plan stops."""
        return sum(gang.parallelism for gang in self.view.gangs if gang.trial in stopped and not gang.stopping)

    # --- reasons ---

    def _outcome(self) -> str:
        trained = sum(trial.epoch >= self.ladder.top for trial in self.view.trials)
        tried = f"{self.ladder.started} configurations tried, {trained} of them trained to epoch {self.ladder.top}"
        return f"{tried}; time and money left allow no further useful training"

    def _reason(self) -> str:
        schedule, ladder = self.goal.schedule, self.ladder
        if schedule is None:
            return "no trial can be trained to the last epoch: trains as far as time and money allow"
        tried = max(ladder.started, min(self.goal.n, ladder.startable))
        survivors = ladder.allowed(self.goal.n, len(ladder.epochs) - 1)
        left = format_duration(schedule.duration_s)
        return (
            f"{tried} configurations, {survivors} of them to epoch {ladder.top}, "
            f"in another {left} for {format_money(round(schedule.cost_micro))}"
        )


def _has_reported(gang: Gang) -> bool:
    """Return whether a gang has reported; before that, it is not resized again."""
    return gang.last_message_s > gang.started_s


def _verdict(place: Place) -> Verdict:
    reason = f"ranked {place.rank} of {place.reported} at epoch {place.trial.epoch}: at most {place.places} promoted"
    return Verdict(trial=place.trial.id, reason=reason)
