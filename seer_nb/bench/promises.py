"""``python -m seer_nb.bench promises``: counts broken promises in simulated studies with many faults.

Half of the studies use recorded curves and every policy. The others use random curves and mostly a random policy:
events arrive late and out of order, runners crash, checkpoints are damaged, and all invariants are checked after every
event.
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb import core
from seer_nb._utils.units import MICRO
from seer_nb.bench._figures import Figure, table
from seer_nb.bench.record import Progress
from seer_nb.simulate import Conditions, CurveTable, Offer, run
from seer_nb.simulate.curve_files import shipped_tables
from seer_nb.testing.adversary.strategies import run_random_study

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


POLICIES = (
    *("seer", "seer", "seer", "asha", "halving", "hyperband", "hypersched", "rubberband", "naive_elastic"),
    *("random_search", "grid"),
)
"""Names of the policies, repeated by frequency."""
NOISE = 0.3
"""Noise of epoch times; see ``Conditions``."""
EPOCHS = 16
"""Most epochs of a trial, kept low because there are many studies."""
CHUNK = 20
"""Studies per task of the process pool."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""


class Result(NamedTuple):
    """The result of one study."""

    seed: int
    over_budget_usd: float
    over_deadline_s: float
    spent: float
    """Money spent, as a share of the last budget."""
    time: float
    """Time used, as a share of the last deadline."""
    steps: int = 0
    """Number of events after which all invariants were checked."""
    error: str = ""

    @property
    def broken(self) -> bool:
        """Whether a promise was broken, or the simulation crashed."""
        return bool(self.error) or self.over_budget_usd > 0 or self.over_deadline_s > 0


def study(seed: int) -> Result:
    """Simulate a study with random settings and faults."""
    rng = random.Random(seed)  # noqa: S311
    path = rng.choice([*shipped_tables().values()])
    epoch_s = rng.choice([10.0, 30.0, 60.0])
    whole_s = EPOCHS * epoch_s
    deadline_s = whole_s * rng.choice([0.25, 0.5, 1.0, 2.0])
    price = rng.choice([0.36, 3.6, 24.48])
    offer = _offer(rng, price, whole_s)
    # A machine costs at least one billing hour, or its lease.
    least_s = 3600.0 if offer.billing == "hour" else 60.0
    budget = rng.choice([0.5, 2.0, 8.0, 32.0]) * max(whole_s, least_s) * price / 3600
    try:
        found = run(
            _table(str(path)).scaled(epoch_s),
            rng.choice(POLICIES),
            deadline=deadline_s,
            budget=max(budget, 0.001),
            max_epochs=EPOCHS,
            epoch_seconds=epoch_s,
            speedup="random",
            offer=offer,
            conditions=_conditions(rng, whole_s),
            commands=[*_random_commands(rng, deadline_s, budget)],
            max_workers=rng.choice([None, 1, 4, 64]),
            seed=seed,
        )
    except Exception as error:  # noqa: BLE001 - a crash is a result
        return _crashed(seed, error)
    state = found.state
    return Result(
        seed,
        found.over_budget_usd,
        found.over_deadline_s,
        round(found.spent_usd * MICRO) / state.budget_micro,
        found.elapsed_s / state.deadline_s,
    )


def adverse(seed: int) -> Result:
    """Simulate a study with more faults, and check the invariants after each event."""
    try:
        return Result(seed, 0.0, 0.0, 0.0, 0.0, run_random_study(seed))
    except Exception as error:  # noqa: BLE001 - a broken promise or a crash is a result
        return _crashed(seed, error)


def _crashed(seed: int, error: Exception) -> Result:
    return Result(seed, 0.0, 0.0, 0.0, 0.0, error=f"{type(error).__name__}: {error}")


KINDS = {"curves": study, "adverse": adverse}


def studies(kind: str, count: int, first: int, processes: int, progress: Progress) -> list[Result]:
    """Simulate many studies of one kind.

    Args:
        kind: A key of ``KINDS``.
        count: Number of studies.
        first: Seed of the first study; the others follow.
        processes: Number of processes.
        progress: Advanced after each study.
    """
    seeds = range(first, first + count)
    found: list[Result] = []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for result in pool.map(KINDS[kind], seeds, chunksize=CHUNK):
            found.append(result)
            progress.advance()
    return found


@cache
def _table(path: str) -> CurveTable:
    return CurveTable.read(path)


def _offer(rng: random.Random, price: float, whole_s: float) -> Offer:
    return Offer(
        price_per_hour=price,
        boot_seconds=rng.choice([0.0, 0.03, 0.2]) * whole_s,
        billing=rng.choice(["second", "second", "second", "hour"]),
        minimum_seconds=rng.choice([0, 60]),
        workers_per_machine=rng.choice([1, 1, 2, 4]),
        spot=rng.random() < 0.5,  # noqa: PLR2004
        quota=rng.choice([None, 2, 10, 100]),
        release_seconds=rng.choice([0.0, 1.0, 10.0]),
    )


def _conditions(rng: random.Random, whole_s: float) -> Conditions:
    return Conditions(
        stall_seconds=rng.choice([0.0, 1.0, 10.0]),
        save_seconds=rng.choice([0.0, 1.0]),
        noise=NOISE,
        spread=rng.choice([0.0, 0.5]),
        boot_failure=rng.choice([0.0, 0.0, 0.2]),
        machine_life_s=rng.choice([math.inf, math.inf, whole_s, 10 * whole_s]),
        spot_life_s=rng.choice([math.inf, whole_s]),
    )


def _random_commands(rng: random.Random, deadline_s: float, budget: float) -> Iterator[tuple[float, core.Command]]:
    """Yield a person's commands, as from sliders and buttons."""
    for _ in range(rng.choice([0, 1, 3])):
        at_s = rng.uniform(0, deadline_s)
        share = rng.choice([0.1, 0.5, 1.5, 3.0])
        commands: list[core.Command] = [
            core.SetBudget(budget_micro=max(1, round(share * budget * MICRO))),
            core.SetDeadline(deadline_s=share * deadline_s),
            core.Pause(),
            core.Resume(),
        ]
        yield at_s, rng.choice(commands)


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("promises", help="simulate studies with many faults and count broken promises")
    parser.add_argument("--studies", type=int, default=10_000, metavar="N", help="per kind; default: %(default)s")
    parser.add_argument("--kind", choices=[*KINDS], default=None, help="only this kind; default: both")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="first seed; default: %(default)s")
    parser.add_argument("--only", type=int, default=None, metavar="SEED", help="only this seed, in this process")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="P", help="default: %(default)s")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    kinds = [options.kind] if options.kind else [*KINDS]
    if options.only is not None:
        results = [KINDS[kind](options.only) for kind in kinds]
        print(*results, sep="\n")
        return int(any(result.broken for result in results))
    broken = False
    for kind in kinds:
        begun_s = time.monotonic()
        progress = Progress(kind, 0, options.studies)
        try:
            found = studies(kind, options.studies, options.first, options.processes, progress)
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            progress.close()
        print(f"{kind}\n{table(_FIGURES[kind](found, time.monotonic() - begun_s))}\n")
        for result in found:
            if result.broken:
                broken = True
                print(f"reproduce with --kind {kind} --only {result.seed}: {result}", file=sys.stderr)
    return int(broken)


def _curves(found: list[Result], seconds: float) -> list[Figure]:
    return [
        Figure("studies", len(found)),
        Figure("over budget", sum(result.over_budget_usd > 0 for result in found), most=0),
        Figure("over the deadline", sum(result.over_deadline_s > 0 for result in found), most=0),
        Figure("crashed", sum(bool(result.error) for result in found), most=0),
        Figure("most spent, share of the budget", 100 * max(result.spent for result in found), "%", most=100),
        Figure("longest, share of the deadline", 100 * max(result.time for result in found), "%", most=100),
        Figure("studies per second", len(found) / seconds),
    ]


def _adverse(found: list[Result], seconds: float) -> list[Figure]:
    return [
        Figure("studies", len(found)),
        Figure("events, each followed by a check", sum(result.steps for result in found)),
        Figure("broken promises or crashes", sum(result.broken for result in found), most=0),
        Figure("studies per second", len(found) / seconds),
    ]


_FIGURES = {"curves": _curves, "adverse": _adverse}
