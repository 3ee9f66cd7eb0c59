"""From SEER's aim to jobs and verdicts: who trains next, on how many workers, and who is eliminated."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from seer_nb._utils.units import format_duration, format_money
from seer_nb.core import Gang, Job, Plan, Snapshot, Trial, Verdict
from seer_nb.core.planner import Resources, sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from seer_nb.policies.seer.goal import Goal, Options
    from seer_nb.policies.seer.ladder import Ladder, Place


class Need(NamedTuple):
    """What a gang takes: so many workers for so long."""

    seconds: float
    workers: int


def lasts(needs: Iterable[Need], resources: Resources) -> bool:
    """Whether at each gang's end the budget still holds the leases of all that ran until then."""
    ordered = sorted(needs)
    running = sum(need.workers for need in ordered)
    spent, now_s = 0.0, 0.0
    for end_s, workers in ordered:
        spent += running * (end_s - now_s) * resources.price_s
        if spent + running * resources.lease_s * resources.price_s > resources.money:
            return False
        now_s = end_s
        running -= workers
    return True


def affordable(needs: Sequence[Need], resources: Resources) -> int:
    """How many of the gangs, from the first on, the money suffices for.

    The first one always is: whether it is worth it was for the plan to say.
    """
    if not needs or lasts(needs, resources):
        return len(needs)
    low, high = 1, len(needs)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if lasts(needs[:middle], resources) else (low, middle)
    return low


PAYS = 1.1
"""A resize must make what is left of a leg so many times as fast, its stall included (after HyperSched's rule)."""
RANDOM_EVERY = 10
"""One in so many configurations is drawn at random even where others are proposed."""
SURPLUS = 1.5
"""Running trials are dropped when there are so many times as many as can be trained further: estimates are noisy."""


def plan(snapshot: Snapshot, aim: Goal, ladder: Ladder, options: Options) -> Plan:
    """The plan that pursues an aim."""
    return _Planning(snapshot, aim, ladder, options).plan()


class _Planning:
    """One decision."""

    def __init__(self, snapshot: Snapshot, aim: Goal, ladder: Ladder, options: Options) -> None:
        self.snapshot = snapshot
        self.aim = aim
        self.ladder = ladder
        self.options = options
        self.resources = Resources.left(snapshot)
        self.trials = ladder.trials
        self.rented = self.resources.workers
        self.used = sum(gang.parallelism for gang in snapshot.gangs)
        ready = sum(machine.slots for machine in snapshot.machines if machine.state == "ready")
        self.idle = ready - self.used
        """Workers that could begin at once."""
        places = [ladder.waiting(aim.n, k) for k in range(len(ladder.epochs) - 1)]
        self.out = [place for row in places for place in row if place.out]
        self.places = [[place for place in row if not place.out] for row in places]
        self.dropped = self._dropped()
        self.needs: list[Need] = []
        """Of what goes on and what is to begin."""
        self.wanted = 0
        """Workers that running gangs are to give up for others."""

    def plan(self) -> Plan:
        dropped = self.dropped | self._too_dear()
        gangs = [gang for gang in self.snapshot.gangs if not gang.stopping and gang.trial not in dropped]
        new, lacking = self._new(self.used - self._freed(dropped))
        self.idle -= sum(job.workers for job in new)
        # Only what can be given up altogether is given up: fewer workers would help nobody.
        self.wanted = lacking if lacking and lacking <= sum(self._too_many(gang) for gang in gangs) else 0
        jobs = [self._goes_on(gang) for gang in gangs]
        if self.aim.spare_money:
            # What runs is left alone while a larger gang waits, or it would take and give back the same workers.
            jobs = jobs + self._sped_up(new) if lacking else self._sped_up(jobs + new)
        else:
            jobs += new
        workers = sum(job.workers for job in jobs)
        done = not jobs and not self.snapshot.gangs
        return Plan(
            jobs=tuple(jobs),
            verdicts=tuple(_verdict(place) for place in self.out),
            workers=max(workers, min(self.rented, workers + self._kept_for_stopping())),
            done=done,
            reason=self._outcome() if done else self._reason(),
        )

    def _kept_for_stopping(self) -> int:
        """A gang that is being stopped may be about to go on, perhaps on twice as many workers."""
        going_on = (g for g in self.snapshot.gangs if g.stopping and self.trials[g.trial].alive)
        return sum(2 * gang.parallelism for gang in going_on)

    # --- what to begin ---

    def _new(self, used: int) -> tuple[list[Job], int]:
        """Jobs to begin beside the workers in use, and how many workers the next one lacks that cannot be rented."""
        jobs, lacking = self._wanted_jobs(used)
        needs = self.needs + [Need(self._seconds(job), job.workers) for job in jobs]
        jobs = jobs[: max(0, affordable(needs, self.resources) - len(self.needs))]
        if not jobs and not self.snapshot.gangs:
            jobs += self._beyond()
        return jobs, lacking

    def _wanted_jobs(self, used: int) -> tuple[list[Job], int]:
        jobs: list[Job] = []
        quota = self.snapshot.max_workers
        for job, width in self._planned():
            if used and used + job.workers > max(self.rented, width):
                return jobs, used + job.workers - quota if max(self.rented, width) >= quota else 0
            jobs.append(job)
            used += job.workers
        return jobs, 0

    def _beyond(self) -> Iterator[Job]:
        """When nothing else is left to do: the best that can go on does, to the next rung or as far as it gets."""
        out = {place.trial.id for place in self.out} | self.dropped
        last = self.snapshot.max_epochs
        alive = (t for t in self.snapshot.trials if t.state == "paused" and t.id not in out and t.epoch < last)
        for trial in self.ladder.strongest(alive):
            k = self.ladder.rung(trial.epoch)
            job = self._farthest(trial, last if k is None else self.ladder.epochs[k])
            if job is not None:
                yield job
                return

    def _farthest(self, trial: Trial, target: int) -> Job | None:
        """As far as time and money take a trial, on as few workers as that takes."""
        for until in range(target, trial.epoch, -1):
            for p in self._possible(trial):
                seconds = self._leg_s(trial, until - trial.epoch, p)
                if seconds <= self.snapshot.time_left_s and lasts([Need(seconds, p)], self.resources):
                    return Job(
                        trial=trial.id, workers=p, until=until, reason=f"time and money take it to epoch {until}"
                    )
        return None

    def _planned(self) -> Iterator[tuple[Job, int]]:
        """Who was interrupted, who goes on for certain, and new configurations.

        Each with the workers that all may have together.
        """
        widths = self._widths()
        for trial, k in self.ladder.interrupted():
            if trial.id not in self.dropped:
                yield self._job(trial, k, f"goes on to epoch {self.ladder.epochs[k]}"), widths[k]
        for k in range(len(self.ladder.epochs) - 1, 0, -1):
            yield from ((job, widths[k]) for job in self._promotions(k))
        n = min(self.aim.n, self.ladder.startable)
        until = self.ladder.epochs[self.ladder.through(self.aim.n, 0)]
        for number in range(self.ladder.started, n):
            drawn = number < self.aim.first or self.aim.turns == 1
            job = self._fresh(number, n, until, stage=0 if drawn else 1)
            yield job, self._width(0) if number < self.aim.first else widths[0]

    def _fresh(self, number: int, n: int, until: int, *, stage: int) -> Job:
        # A share stays random: what was learned may mislead.
        proposed = self.options.proposals and stage > 0 and number % RANDOM_EVERY != 0
        reason = f"configuration {number + 1} of {n} to be tried"
        workers = self.aim.schedule.stages[stage].parallelism if self.aim.schedule else 1
        return Job(trial=None, workers=workers, until=until, proposed=proposed, reason=reason)

    def _widths(self) -> list[int]:
        """By rung: the workers that the cluster may have while trials are on their way there."""
        last = max(1, self.rented if self.aim.schedule is None else 1)
        width, widths = last, []
        for k in range(len(self.ladder.epochs)):
            width = max(width, self._width(1 if k == 0 else k + 1))
            widths.append(width)
        return widths

    def _width(self, stage: int) -> int:
        return self.aim.schedule.stages[stage].workers if self.aim.schedule else 1

    def _promotions(self, k: int) -> Iterator[Job]:
        """Those whose verdict is certain, and those pinned."""
        due = self.ladder.due(self.aim.n, k)
        for place in self.places[k - 1]:
            if place.trial.pinned:
                yield self._promotion(place, k, "pinned")
            elif due > 0:
                yield self._promotion(place, k, f"ranked {place.rank} of {place.reported}")
            due -= 1

    def _promotion(self, place: Place, k: int, why: str) -> Job:
        epoch, until = self.ladder.epochs[k - 1], self.ladder.epochs[k]
        return self._job(place.trial, k, f"{why} at epoch {epoch}: promoted to epoch {until}")

    def _job(self, trial: Trial, k: int, reason: str) -> Job:
        until = self.ladder.epochs[self.ladder.through(self.aim.n, k)]
        return Job(trial=trial.id, workers=self._parallelism(trial, k), until=until, reason=reason)

    def _seconds(self, job: Job) -> float:
        """How long a job that begins now will take."""
        if job.trial is None:
            return self.resources.leg_seconds(job.until, job.workers)
        trial = self.trials[job.trial]
        return self._leg_s(trial, job.until - trial.epoch, job.workers)

    # --- on how many workers ---

    def _stage_parallelism(self, k: int) -> int:
        """Of the stage to rung k; those that are drawn at random have a stage before."""
        return self.aim.schedule.stages[k + 1 if k else 0].parallelism if self.aim.schedule else 1

    def _parallelism(self, trial: Trial, k: int) -> int:
        """As the schedule says; on the way to the top the fewest workers with which it gets there by the deadline."""
        wanted = self._stage_parallelism(k)
        if k == len(self.ladder.epochs) - 1 and self.aim.schedule:
            epochs, left_s = self.ladder.top - trial.epoch, self.snapshot.time_left_s
            in_time = (p for p in self._possible(trial) if self._leg_s(trial, epochs, p) <= left_s)
            wanted = max(wanted, next(in_time, 1))
        return max(p for p in self._possible(trial) if p <= wanted)

    def _possible(self, trial: Trial) -> list[int]:
        """Parallelisms that divide the trial's batch."""
        batch = trial.batch_size
        return [p for p in sizes(self.resources.max_parallelism) if batch is None or batch % p == 0]

    def _epoch_s(self, trial: Trial) -> float:
        """Of the trial's own epochs, on one worker."""
        if not trial.curve:
            return self.resources.epoch_s
        last = trial.curve[-1]
        return last.seconds * self.snapshot.scaling.speedup(last.parallelism)

    def _leg_s(self, trial: Trial, epochs: float, parallelism: int) -> float:
        scaling = self.snapshot.scaling
        return scaling.stall_s + epochs * self._epoch_s(trial) / scaling.speedup(parallelism)

    def _pays(self, trial: Trial, epochs: float, old: int, new: int) -> bool:
        """Whether the epochs left after the one in progress are worth a resize."""
        old_s = epochs * self._epoch_s(trial) / self.snapshot.scaling.speedup(old)
        return old_s > PAYS * self._leg_s(trial, epochs, new)

    # --- what runs already ---

    def _goes_on(self, gang: Gang) -> Job:
        """As far as it is sure to get, on as many workers as before or on others."""
        trial = self.trials[gang.trial]
        k = self.ladder.rung(trial.epoch)
        if k is None or not _settled(gang):
            return Job(trial=trial.id, workers=gang.parallelism, until=gang.until)
        until = max(gang.until, self.ladder.epochs[self.ladder.through(self.aim.n, k)])
        workers, why = self._resized(gang, trial, k, until)
        return Job(trial=trial.id, workers=workers, until=until, reason=why)

    def _resized(self, gang: Gang, trial: Trial, k: int, until: int) -> tuple[int, str]:
        """With more workers if the deadline forces it; with fewer if that is faster, or if others wait for them."""
        now, wanted, epochs = gang.parallelism, self._parallelism(trial, k), until - trial.epoch - 1
        if wanted > now and wanted - now <= self.idle and self._pays(trial, epochs, now, wanted):
            self.idle -= wanted - now
            return wanted, f"{wanted} workers, to be trained by the deadline"
        if wanted < now and self._pays(trial, epochs, now, wanted):
            # What its members say to each other takes longer than they save.
            return wanted, f"is faster on {wanted}"
        if self.wanted > 0 and self._too_many(gang):
            self.wanted -= now - wanted
            return wanted, "others wait for its workers"
        return now, ""

    def _too_many(self, gang: Gang) -> int:
        """Workers that a gang can give up if others wait for them."""
        trial, now = self.trials[gang.trial], gang.parallelism
        k = self.ladder.rung(trial.epoch)
        if k is None or not _settled(gang):
            return 0
        epochs = gang.until - trial.epoch - 1
        long = epochs * self._epoch_s(trial) > self.snapshot.scaling.stall_s / (PAYS - 1)
        return max(0, now - self._parallelism(trial, k)) if long else 0

    def _sped_up(self, jobs: list[Job]) -> list[Job]:
        """Let workers that would idle help those that have the longest way to go."""
        running = {gang.trial: gang for gang in self.snapshot.gangs}
        # Whoever begins needs no stop for it, and may have been stopped for just that.
        for place in sorted(range(len(jobs)), key=lambda place: (jobs[place].trial in running, -jobs[place].until)):
            job = jobs[place]
            trial = self.trials.get(-1 if job.trial is None else job.trial)
            if trial is None or job.workers > self.idle or 2 * job.workers not in self._possible(trial):
                continue
            if trial.id in running and not self._may_stop(running[trial.id]):
                continue
            if trial.max_parallelism > job.workers and trial.epoch not in self.ladder.epochs:
                continue  # It had more workers on this way, and others needed them.
            epochs = job.until - trial.epoch - (trial.id in running)
            if self._pays(trial, epochs, job.workers, 2 * job.workers):
                self.idle -= job.workers
                jobs[place] = replace(job, workers=2 * job.workers, reason="speeds up: nobody else needs the workers")
        return jobs

    def _may_stop(self, gang: Gang) -> bool:
        """Whether a gang may be stopped to go on with idle workers.

        Once on its way to a rung: else it might be stopped for workers that others have taken by then, again and again.
        """
        return _settled(gang) and (not gang.from_epoch or gang.from_epoch in self.ladder.epochs)

    def _dropped(self) -> set[int]:
        """Trials on their way to a rung for which time and money do not suffice any more: the weakest."""
        if self.aim.schedule is None:
            return set()
        dropped: set[int] = set()
        n = int(SURPLUS * self.aim.n)
        for k in range(len(self.ladder.epochs)):
            surplus = self.ladder.surplus(n, k)
            if surplus > 0:
                dropped.update(self.ladder.weakest(k, surplus))
        return dropped

    def _too_dear(self) -> set[int]:
        """Running trials, the weakest first, that would use up the money which better ones need to the end."""
        gangs = {gang.trial: gang for gang in self.snapshot.gangs if gang.trial not in self.dropped}
        needs = {trial: self._need(gang) for trial, gang in gangs.items()}
        if lasts(needs.values(), self.resources):
            self.needs = list(needs.values())
            return set()
        order = self.ladder.strongest(self.trials[number] for number in gangs)
        held = [t.id for t in order if t.pinned or gangs[t.id].stopping]
        ranked = [*held, *(t.id for t in order if t.id not in held)]
        kept = ranked[: max(len(held), affordable([needs[number] for number in ranked], self.resources))]
        self.needs = [needs[number] for number in kept]
        return set(gangs) - set(kept)

    def _need(self, gang: Gang) -> Need:
        trial = self.trials[gang.trial]
        return Need(self._leg_s(trial, gang.until - trial.epoch, gang.parallelism), gang.parallelism)

    def _freed(self, dropped: set[int]) -> int:
        return sum(gang.parallelism for gang in self.snapshot.gangs if gang.trial in dropped and not gang.stopping)

    # --- in words ---

    def _outcome(self) -> str:
        trained = sum(trial.epoch >= self.ladder.top for trial in self.snapshot.trials)
        tried = f"{self.ladder.started} configurations tried, {trained} of them trained to epoch {self.ladder.top}"
        return f"{tried}; nothing more of use fits into the time and money left"

    def _reason(self) -> str:
        schedule, ladder = self.aim.schedule, self.ladder
        if schedule is None:
            return "nobody can be trained to the last epoch any more: as far as time and money go"
        tried = max(ladder.started, min(self.aim.n, ladder.startable))
        survivors = ladder.allowed(self.aim.n, len(ladder.epochs) - 1)
        end = format_duration(schedule.seconds)
        return (
            f"{tried} configurations, {survivors} of them to epoch {ladder.top}, "
            f"in another {end} for {format_money(round(schedule.cost))}"
        )


def _settled(gang: Gang) -> bool:
    """Whether it has reported: one that was resized a moment ago is not resized again."""
    return gang.heard_s > gang.started_s


def _verdict(place: Place) -> Verdict:
    reason = f"ranked {place.rank} of {place.reported} at epoch {place.trial.epoch}: at most {place.places} go on"
    return Verdict(trial=place.trial.id, reason=reason)
