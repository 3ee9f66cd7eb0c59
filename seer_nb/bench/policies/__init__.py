"""``python -m seer_nb.bench policies``: compares policies on the same curves, deadlines, budgets and seeds."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seer_nb.bench.policies import grid
from seer_nb.bench.policies.analysis import promising
from seer_nb.bench.policies.grid import ABLATIONS, BASELINES, CONTENDERS
from seer_nb.bench.policies.running import KEYS, Job, run_all, version
from seer_nb.bench.record import Progress
from seer_nb.simulate.curve_files import shipped_tables
from seer_nb.simulate.curve_table import mode_of_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    import pandas as pd

    from seer_nb.core import Mode


INTERRUPTED = 130
"""Exit code after Ctrl-C."""
TUNING_SEEDS = 3
"""Number of seeds on which all settings of a policy are tried."""


def jobs(options: argparse.Namespace, modes: dict[str, Mode], seeds: Iterable[int]) -> list[Job]:
    """Return all studies, seed by seed, so that partial results cover every setting."""
    kinds = [False, True] if options.crossing else [False]
    return [
        Job(name, setting.name, table, mode, crossed, cell, seed)
        for seed in seeds
        for name in options.policies
        for crossed in kinds
        for cell in _cells(name, options)
        for table, mode in modes.items()
        for setting in CONTENDERS[name]
    ]


def modes_of(options: argparse.Namespace) -> dict[str, Mode]:
    """Return the mode of each table's file.

    Raises:
        ValueError: A file has no mode, and --mode was not given.
    """
    found: dict[str, Mode] = {}
    for path in options.tables:
        mode = mode_of_file(path) or options.mode
        if mode is None:
            raise ValueError(f"{path}: the file has no mode; expected --mode min or --mode max")
        found[str(path)] = mode
    return found


def _cells(name: str, options: argparse.Namespace) -> Iterator[grid.Cell]:
    more = options.beyond if name in BASELINES else []
    yield from grid.grid(options.deadlines, [*options.budgets, *more], options.speedups, options.boots)


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("policies", help="compare policies on recorded learning curves")
    default = "default: %(default)s"
    usual = [name for name in CONTENDERS if name not in ABLATIONS]
    parser.add_argument("--tables", nargs="+", type=Path, default=[*shipped_tables().values()], metavar="PATH")
    parser.add_argument("--mode", choices=["min", "max"], help="mode of tables whose files have none")
    parser.add_argument("--out", type=Path, default=Path("policies"), metavar="DIR", help=default)
    parser.add_argument("--policies", nargs="+", choices=[*CONTENDERS], default=usual, metavar="NAME")
    parser.add_argument("--ablation", action="store_true", help="also compare SEER without each of its parts")
    parser.add_argument("--crossing", action="store_true", help="also use the same curves with early parts exchanged")
    parser.add_argument("--deadlines", nargs="+", type=float, default=[*grid.DEADLINES], metavar="T", help=default)
    parser.add_argument("--budgets", nargs="+", type=float, default=[*grid.BUDGETS], metavar="B", help=default)
    parser.add_argument("--beyond", nargs="*", type=float, default=[*grid.BEYOND], metavar="B", help=default)
    speedups = ["0.05", "0.15", *grid.MEASURED]
    parser.add_argument("--speedups", nargs="+", default=speedups, metavar="S", help="c, or a measured one; " + default)
    parser.add_argument("--boots", nargs="+", type=float, default=[*grid.BOOTS], metavar="S", help=default)
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help=default)
    parser.add_argument(
        "--tune",
        type=int,
        default=TUNING_SEEDS,
        metavar="N",
        help="seeds with all settings; later seeds use the best ones; " + default,
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="P", help=default)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from seer_nb.bench.policies.report import write

    if options.ablation:
        options.policies = [*options.policies, *(name for name in ABLATIONS if name not in options.policies)]
    try:
        for name in options.speedups:
            grid.speedup(name)
        modes = modes_of(options)
        options.out.mkdir(parents=True, exist_ok=True)
        wanted = _simulated(options, modes)
    except (OSError, ValueError) as error:
        print(f"policies: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"policies: interrupted; the same command continues from {options.out}", file=sys.stderr)
        return INTERRUPTED
    runs = _runs(options.out / "runs.csv", wanted)
    text = write(runs, options.out, _about(options, len(wanted), version()))
    print(text)
    return int((runs.violated != 0).any())


def _simulated(options: argparse.Namespace, modes: dict[str, Mode]) -> list[Job]:
    """Simulate all settings on the first seeds and the best ones on the others; return the studies."""
    path, tuned = options.out / "runs.csv", min(options.tune, options.seeds)
    wanted = jobs(options, modes, range(tuned))
    _run_all(wanted, path, options.processes, "all settings")
    further = jobs(options, modes, range(tuned, options.seeds))
    if further:
        best = promising(_runs(path, wanted))
        further = [job for job in further if (job.crossed, *job.cell.key(), job.contender, job.setting) in best]
        _run_all(further, path, options.processes, "the best settings")
    return wanted + further


def _run_all(wanted: list[Job], path: Path, processes: int, what: str) -> None:
    progress = Progress(what, 0, len(wanted))
    try:
        run_all(wanted, path, processes, progress.advance)
    finally:
        progress.close()


def _runs(path: Path, wanted: list[Job]) -> pd.DataFrame:
    """Return the stored rows of these studies."""
    import pandas as pd

    keys = {job.key(version()) for job in wanted}
    runs = pd.read_csv(path, dtype=str, keep_default_na=False)
    return _typed(runs[[key in keys for key in runs.loc[:, [*KEYS]].itertuples(index=False, name=None)]])


def _typed(runs: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    text = {"contender", "setting", "table", "mode", "speedup", "code"}
    return runs.assign(**{name: pd.to_numeric(runs[name]) for name in runs.columns if name not in text})


def _about(options: argparse.Namespace, count: int, code: str) -> str:
    names, tuned = ", ".join(path.stem for path in options.tables), min(options.tune, options.seeds)
    return (
        f"{count} simulated studies (code {code}) on {len(options.tables)} tables of learning curves ({names}), "
        f"{options.seeds} seeds, the settings of a policy chosen on the first {tuned}. "
        f"Deadlines {options.deadlines} are multiples of the time to train one configuration on one worker, "
        f"budgets {options.budgets} of its cost; an epoch takes {grid.EPOCH_S:g} s on average, "
        f"machines of one worker are billed by the second, {grid.MINIMUM_S} s at least, boots take {options.boots} s; "
        f"speedups {options.speedups}. Regret: 0 is the table's best value, 1 that of its median configuration."
    )
