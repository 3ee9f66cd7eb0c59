"""States built from real records, as a journal holds them."""

from seer_nb import core
from seer_nb.core.history import History
from seer_nb.core.money import Offer
from seer_nb.core.state import State

OFFER = Offer(name="local", price_per_hour_micro=3_600_000, boot_s=2.0, max_machines=8)
"""An offer of 1000 micro-dollars per second."""


def settings(**changes):
    given = {
        "name": "digits",
        "metric": "accuracy",
        "mode": "max",
        "max_epochs": 9,
        "deadline_s": 600.0,
        "budget_micro": 500_000,
        "seed": 0,
        "offers": (OFFER,),
        "max_workers": 4,
        "lease_s": 30.0,
        "store": "/store",
        "policy": "seer",
    }
    return core.Settings(**{**given, **changes})


class Builder:
    """Applies records to a state and a history, and keeps the records."""

    def __init__(self, **changes):
        self.settings = settings(**changes)
        self.state = State(self.settings)
        self.history = History()
        self.records = []
        self.now_s = 0.0
        self.apply(core.Began(settings=self.settings))

    def apply(self, record, at_s=None):
        self.now_s = self.now_s if at_s is None else at_s
        self.records.append((len(self.records) + 1, self.now_s, record))
        self.state.apply(record, self.now_s)
        self.history.add(record, self.state)
        return self

    def machine(self, number, at_s=None, ready_s=None):
        self.apply(core.Rent(machine=number, offer="local", reason="the plan wants a worker"), at_s)
        if ready_s is not None:
            self.apply(core.MachineReady(machine=number, boot_s=ready_s - self.now_s), ready_s)
        return self

    def draw(self, *configs):
        for config in configs:
            self.apply(core.Drawn(trial=self.state.n_drawn, config=config))
        return self

    def start(self, trial, gang, *workers, until=9, at_s=None):
        of = self.state.trials[trial]
        return self.apply(
            core.StartGang(
                gang=gang,
                trial=trial,
                workers=workers,
                from_epoch=of.resume_epoch,
                checkpoint=of.resume.checkpoint if of.resume else None,
                until=until,
                reason="it is next",
            ),
            at_s,
        )

    def report(self, gang, *values, seconds=1.0, stored=True, **metrics):
        """Report one epoch per value, each `seconds` after the previous one."""
        trial = self.state.gangs[gang].trial
        for value in values:
            epoch = self.state.trials[trial].epoch + 1
            self.apply(
                core.Reported(
                    gang=gang,
                    epoch=epoch,
                    value=value,
                    metrics={self.settings.metric: value, **metrics},
                    seconds=seconds,
                    checkpoint=f"{trial}/{epoch:06d}-g{gang}.pt" if stored else None,
                ),
                self.now_s + seconds,
            )
        return self

    def end(self, gang, state, reason="because", error=""):
        trial = self.state.gangs[gang].trial
        outcome = {"completed": "target", "failed": "failed"}.get(state, "stopped")
        self.apply(core.GangEnded(gang=gang, outcome=outcome, error=error))
        return self.apply(core.EndTrial(trial=trial, state=state, reason=reason, error=error))


def small_study(**changes):
    """Return a study of four trials: 0 stopped, 1 running on two workers and best, 2 failed, 3 waiting."""
    study = Builder(**changes)
    study.machine(0, 0.0, 2.0).machine(1, 3.0, 5.0)
    study.draw(*({"lr": lr, "act": act} for lr, act in ((0.1, "relu"), (0.01, "tanh"), (0.5, "relu"), (0.02, "relu"))))
    study.start(0, 0, "0.0").report(0, 0.4, 0.6, loss=1.5)
    study.end(0, "stopped", "ranked 2nd of 2 at epoch 2")
    study.start(2, 1, "0.0").report(1, 0.2)
    study.end(1, "failed", "train raised", "Traceback: <b>boom</b>")
    study.start(1, 2, "0.0", "1.0").report(2, 0.7, 0.9, 0.8, loss=0.5)
    return study


def big_study(trials=60, epochs=27, **changes):
    """Return a deterministic study of many trials, most of which were stopped early."""
    study = Builder(max_epochs=epochs, budget_micro=2_000_000, **changes)
    for number in range(4):
        study.machine(number, float(number), number + 2.0)
    study.draw(*({"lr": 10 ** -(1 + k % 7 / 2), "width": 32 << k % 4} for k in range(trials)))
    for k in range(trials):
        top = 0.99 - 0.5 * ((k * 37) % trials) / trials
        length = epochs if k % 12 == 0 else 1 + (k * 13) % 9
        study.start(k, k, f"{k % 4}.0", until=epochs)
        study.report(k, *(top * (1 - 0.8 * 0.75**epoch) for epoch in range(length)), seconds=0.2)
        if k % 12:
            study.end(k, "stopped", f"ranked low at epoch {length}")
        elif k < trials - 24:
            study.end(k, "completed", "fully trained")
    return study
