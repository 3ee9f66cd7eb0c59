"""The command line: ``seer-nb``."""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, TextIO

import seer_nb as seer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from seer_nb.providers.base import Provider
    from seer_nb.study.study import Study
    from seer_nb.testing.loopback import LoopbackCloud


TERMINAL_INTERVAL_S = 0.25
"""Seconds between two progress lines on a terminal."""
PIPE_INTERVAL_S = 5.0
"""Seconds between two progress lines if the output is not a terminal."""
POLL_S = 0.05
"""Seconds between two checks of whether the study has ended."""
DEMO_LIMITS = {"deadline": ("60s", "120s"), "budget": ("$0.01", "$0.05")}
"""Default limits of the demo, without and with ``--cloud``, where machines must boot."""
CLOUD_BOOT_S = 5.0
EXIT_INTERRUPTED = 130
"""Exit code of a shell command that Ctrl-C ended."""
TABLES = ("results", "curves", "spending", "events")
_STUDY_COMMANDS = {
    "show": "print the state of a study",
    "watch": "print the progress of a study until it ends",
    "pause": "save all trials and retire all machines",
    "resume": "continue a study",
    "stop": "save all trials, retire all machines and end the study",
    "adjust": "change the budget or the deadline of a study",
    "export": "write a table of a study to a file",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words of the command line. Default: those of this process.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    from seer_nb._utils.text import printable
    from seer_nb.errors import SeerError

    try:
        code = int(options.run(options) or 0)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output, such as head, has exited. The replacement avoids a second error at Python's exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (SeerError, ValueError, TypeError, OSError) as error:
        print(f"seer-nb: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("seer-nb: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    from seer_nb import __version__
    from seer_nb.ui.cli import cloud, doctor

    parser = argparse.ArgumentParser(
        prog="seer-nb", description="Tune PyTorch models under a deadline and a money budget."
    )
    parser.add_argument("--version", action="version", version=f"seer-nb {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    listing = commands.add_parser("studies", help="list the studies in ./seer_studies, or in SEER_HOME")
    listing.set_defaults(run=_studies)
    _add_study_commands(commands)
    for add_to in (doctor.add, cloud.add_machines, cloud.add_prices, cloud.add_iam_policy, _add_trust, _add_delete):
        add_to(commands)
    return parser


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser("demo", help="tune a small network on this machine within a minute")
    for limit, (usual, on_cloud) in DEMO_LIMITS.items():
        demo.add_argument(f"--{limit}", default=None, help=f"default: {usual}, or {on_cloud} with --cloud")
    demo.add_argument("--price", default="$0.05", help="notional price per worker-hour; default: %(default)s")
    demo.add_argument("--workers", type=int, default=None, help="maximum number of workers; default: one per core")
    demo.add_argument("--policy", default="seer", help="name of the policy; default: %(default)s")
    demo.add_argument("--name", default=None, help="name of the study; default: made from the time")
    demo.add_argument(
        "--cloud", action="store_true", help="use a simulated EC2 on this computer; no machine is rented from AWS"
    )
    demo.set_defaults(run=_demo)


def _add_study_commands(commands: Any) -> None:
    for command, text in _STUDY_COMMANDS.items():
        parser = commands.add_parser(command, help=text)
        parser.add_argument("name", help="name of the study")
        if command == "export":
            parser.add_argument("path", help="its suffix is the format: csv, parquet, json, md, tex, html or xlsx")
            parser.add_argument("--table", default="results", choices=TABLES, help="default: %(default)s")
        elif command == "adjust":
            parser.add_argument("--budget", default=None, help='dollars for the whole study, such as "$0.80"')
            parser.add_argument("--deadline", default=None, help='time for the whole study, such as "15min"')
        parser.set_defaults(run=_run_study_command, command=command)


def _demo(options: argparse.Namespace) -> int:
    if not options.cloud:
        return _demo_on(options, seer.Local(max_workers=options.workers, price_per_hour=options.price), None)
    with seer.loopback_cloud(CLOUD_BOOT_S) as cloud:
        print(f"{cloud}: simulated EC2 and S3 on this computer; machines are processes, at the prices of real machines")
        code = _demo_on(options, cloud.provider(max_machines=options.workers or 2), cloud.store)
        print(f"machines rented: {len(cloud.machines())}; still running: {_count_running(cloud)}")
        return code


def _count_running(cloud: LoopbackCloud) -> int:
    return sum(machine.state != "terminated" for machine in cloud.machines())


def _demo_on(options: argparse.Namespace, provider: Provider, store: str | None) -> int:
    from seer_nb.ui.cli import demo as demo_command

    with warnings.catch_warnings():
        if options.budget is None:  # the default allows for any number of cores
            warnings.simplefilter("ignore")
        study = _demo_study(options, provider, store)
    study.start()
    print(f"study {study.name!r}: an MLP on handwritten digits; Ctrl-C stops the study and keeps its results")
    _watch(study, stop_on_interrupt=True, first=demo_command.start_clock)
    from seer_nb.views import plotly_curves

    print(study.summary())
    for path in ("results.csv", "results.html"):
        study.export(path)
    plotly_curves.write_figure(study.plot_curves(), "curves.html")
    print("written: results.csv, results.html, curves.html")
    print(f"to open the study again: seer-nb show {study.name}, or seer_nb.attach({study.name!r}) in Python")
    return 0


def _demo_study(options: argparse.Namespace, provider: Provider, store: str | None) -> Study:
    from seer_nb.ui.cli import demo as demo_command

    return demo_command.study(
        name=time.strftime("demo-%Y%m%d-%H%M%S") if options.name is None else options.name,
        deadline=options.deadline or DEMO_LIMITS["deadline"][options.cloud],
        budget=options.budget or DEMO_LIMITS["budget"][options.cloud],
        provider=provider,
        policy=options.policy,
        store=store,
    )


def _studies(_: argparse.Namespace) -> None:
    from seer_nb._utils.text import printable
    from seer_nb.study.catalog import studies

    table = studies()
    print(printable(table.to_string(index=False)) if len(table) else "no studies found")


def _run_study_command(options: argparse.Namespace) -> None:
    from seer_nb.study.catalog import attach

    study = attach(options.name)
    if options.command == "export":
        print(f"written: {study.export(options.path, table=options.table)}")
    elif options.command == "adjust":
        study.adjust(budget=options.budget, deadline=options.deadline)
        print(f"study {study.name!r}: new limits sent")
    elif options.command in {"pause", "resume", "stop"}:
        _send_command(study, options.command)
    else:
        if options.command == "watch":
            _watch(study, stop_on_interrupt=False)
        print(study.summary())


def _send_command(study: Study, command: str) -> None:
    from seer_nb.study.stored import check_accepts_commands

    if command != "resume":
        check_accepts_commands(study.name, study.status, command)
    getattr(study, command)()
    print(f"study {study.name!r}: {command} sent")


def _watch(
    study: Study, *, stop_on_interrupt: bool, out: TextIO | None = None, first: Callable[[Study], None] | None = None
) -> None:
    """Print the progress until the study has ended; ``first`` is called before."""
    from seer_nb.views import text as text_views

    out = out or sys.stdout
    live = out.isatty()
    next_s = time.monotonic()
    try:
        if first is not None:
            first(study)
        while not study.settled():
            if time.monotonic() >= next_s:
                next_s += TERMINAL_INTERVAL_S if live else PIPE_INTERVAL_S
                _write_line(out, text_views.format_progress(study.state, study.stalled, study.now_s), live=live)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        if not stop_on_interrupt:
            return
        study.stop()
        study.wait(progress=False)
    finally:
        if live:
            out.write("\n")


def _write_line(out: TextIO, line: str, *, live: bool) -> None:
    import shutil

    if live:
        width = shutil.get_terminal_size().columns - 1
        out.write("\r" + line[:width].ljust(width))
    else:
        out.write(line + "\n")
    out.flush()


def _add_trust(commands: Any) -> None:
    parser = commands.add_parser("trust", help="allow a study folder from elsewhere to run on this computer")
    parser.add_argument("name", help="name of the study")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    parser.set_defaults(run=_trust)


def _trust(options: argparse.Namespace) -> int:
    from seer_nb.storage import layout
    from seer_nb.study.catalog import attach, trust
    from seer_nb.ui.cli.cloud import confirm

    attach(options.name)  # raises for an unknown study
    question = (
        f"The training function of study {options.name!r} in {layout.home() / options.name} will run with all your "
        "permissions.\nDo you know who wrote it?"
    )
    if not options.yes and not confirm(question):
        sys.stdout.write("nothing was changed\n")
        return 1
    trust(options.name)
    sys.stdout.write(f"study {options.name!r} is trusted: seer-nb resume {options.name} continues it\n")
    return 0


def _add_delete(commands: Any) -> None:
    parser = commands.add_parser("delete", help="delete the folder and the checkpoints of a study that has ended")
    parser.add_argument("name", help="name of the study")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    parser.set_defaults(run=_delete)


def _delete(options: argparse.Namespace) -> int:
    from seer_nb.study.catalog import attach
    from seer_nb.ui.cli.cloud import confirm

    study = attach(options.name)
    study.check_deletable()
    question = f"The folder {study.folder} and the checkpoints in {study.settings.store} will be deleted.\nDelete them?"
    if not options.yes and not confirm(question):
        sys.stdout.write("nothing was deleted\n")
        return 1
    study.delete()
    sys.stdout.write(f"study {study.name!r} is deleted\n")
    return 0
