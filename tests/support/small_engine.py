"""Small policies, and engines that are driven event by event."""

from dataclasses import dataclass

from msgspec.structs import replace

from seer_nb import core


@dataclass(frozen=True)
class Simple:
    """A policy that trains `trials` at once on p workers each, and prunes none."""

    trials: int = 1
    p: int = 1
    until: int = 9
    total: int = 1000

    def decide(self, view):
        busy = {gang.trial for gang in view.gangs}
        jobs = [core.Job(trial=g.trial, workers=g.parallelism, until=g.until) for g in view.gangs if not g.stopping]
        paused = [t.id for t in view.trials if t.state == "paused" and t.id not in busy and t.epoch < self.until]
        fresh = [None] * (min(self.total, view.waiting if view.exhausted else 1000) - len(view.trials))
        room = max(0, self.trials - len(jobs))
        jobs += [
            core.Job(trial=t, workers=self.p, until=self.until, reason="it is next") for t in [*paused, *fresh][:room]
        ]
        workers = sum(job.workers for job in jobs)
        return core.Plan(jobs=tuple(jobs), workers=workers, done=not jobs, reason="as it comes")


@dataclass(frozen=True)
class Fixed:
    """A policy that always returns the same plan."""

    plan: core.Plan

    def decide(self, view):
        return self.plan


@dataclass(frozen=True)
class Switch:
    """A policy that delegates to one policy, and from a given time on to another."""

    first: object
    since_s: float
    second: object

    def decide(self, view):
        plan = (self.second if view.now_s >= self.since_s else self.first).decide(view)
        return replace(plan, each_report=True)


def only(*jobs, **plan):
    """Return a policy that always wants the same jobs, given as (trial, workers, until)."""
    wanted = tuple(core.Job(trial=trial, workers=workers, until=until) for trial, workers, until in jobs)
    return Fixed(core.Plan(jobs=wanted, **{"workers": sum(job.workers for job in wanted), **plan}))


def started(engine, *, machines=1):
    """Start a study on an engine, with machines that become ready at 10 s."""
    engine.handle(core.Began(settings=engine.state.settings), 0.0)
    engine.handle(core.RunnerStarted(), 0.0)
    for machine in range(machines):
        engine.handle(core.MachineReady(machine=machine, boot_s=10.0), 10.0)
    return engine


def of(actions, kind):
    return [action for action in actions if isinstance(action, kind)]


def draw(engine, at_s, count=1):
    first = engine.state.n_drawn
    actions = []
    for number in range(first, first + count):
        actions += engine.handle(core.Drawn(trial=number, config={"x": number}), at_s)
    return actions


def reported(gang, epoch, value=0.5, *, seconds=10.0, checkpoint="there", **more):
    return core.Reported(gang=gang, epoch=epoch, value=value, seconds=seconds, checkpoint=checkpoint, **more)


@dataclass(frozen=True)
class Moody:
    """A policy that wants one more worker in every other period of 10 s."""

    def decide(self, view):
        plan = Simple(total=1).decide(view)
        odd = len(view.trials) and round(view.now_s) % 20 < 10
        return replace(plan, workers=plan.workers + 1) if odd and plan.jobs else plan
