"""The command seer-nb."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

import seer_nb as seer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seer_nb.providers.base import Provider
    from seer_nb.study.study import Study
    from seer_nb.testing.loopback import LoopbackCloud


REFRESH_S = 0.25
HEADLESS_S = 5.0
"""Where the output is not a terminal: a line every so many seconds."""
DEMO = {"deadline": ("60s", "120s"), "budget": ("$0.01", "$0.05")}
"""Of the demo here, and on a cloud, whose machines have to boot."""
CLOUD_BOOT_S = 5.0
INTERRUPTED = 130
"""The shell's exit code for Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    from seer_nb._utils.text import printable
    from seer_nb.errors import SeerError

    try:
        code = int(options.run(options) or 0)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output, such as head, has seen enough; Python must not complain of it at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (SeerError, ValueError, TypeError, OSError) as error:
        print(f"seer-nb: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("seer-nb: interrupted", file=sys.stderr)
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    from seer_nb import __version__
    from seer_nb.ui.cli import cloud, doctor

    parser = argparse.ArgumentParser(
        prog="seer-nb", description="Tune PyTorch models when time and money are both limited."
    )
    parser.add_argument("--version", action="version", version=f"seer-nb {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="tune a small network on this machine's cores, within a minute")
    for limit, (usual, on_cloud) in DEMO.items():
        demo.add_argument(f"--{limit}", default=None, help=f"default: {usual}, or {on_cloud} with --cloud")
    demo.add_argument("--price", default="$0.05", help="notional price of a worker and hour; default: %(default)s")
    demo.add_argument("--workers", type=int, default=None, help="default: one a core")
    demo.add_argument("--policy", default="seer", help="default: %(default)s")
    demo.add_argument("--name", default=None, help="name of the study; default: made from the time")
    demo.add_argument("--cloud", action="store_true", help="on a cloud on this computer, as on EC2; nothing is rented")
    demo.set_defaults(run=_demo)
    listing = commands.add_parser("studies", help="list the studies in ./seer_studies, or in SEER_HOME")
    listing.set_defaults(run=_studies)
    for word, text in _ON_ONE.items():
        one = commands.add_parser(word, help=text)
        one.add_argument("name", help="of the study")
        if word == "export":
            one.add_argument("path", help="its suffix says the format: csv parquet json md tex html xlsx")
            one.add_argument("--table", default="results", choices=TABLES, help="default: %(default)s")
        elif word == "adjust":
            one.add_argument("--budget", default=None, help='dollars for the whole study, such as "$0.80"')
            one.add_argument("--deadline", default=None, help='time for the whole study, such as "15min"')
        one.set_defaults(run=_on_one, word=word)
    for add_to in (doctor.add, cloud.add_machines, cloud.add_prices, cloud.add_iam_policy, add):
        add_to(commands)
    return parser


_ON_ONE = {
    "show": "print a study's state",
    "watch": "follow a study until it ends",
    "pause": "save all trials and hand all machines back",
    "resume": "go on with a study",
    "stop": "save, hand all machines back, and end a study",
    "adjust": "change a study's budget or deadline",
    "export": "write a study's table of results, or another one, to a file",
}
TABLES = ("results", "curves", "spending", "events")


def _demo(options: argparse.Namespace) -> int:
    if not options.cloud:
        return _demo_on(options, seer.Local(max_workers=options.workers, price_per_hour=options.price), None)
    with seer.loopback_cloud(CLOUD_BOOT_S) as cloud:
        print(f"{cloud}: EC2 and S3 on this computer; its machines are processes, at the prices of real ones")
        code = _demo_on(options, cloud.provider(max_machines=options.workers or 2), cloud.store)
        print(f"{len(cloud.machines())} machines were rented; {_living(cloud)} live on")
        return code


def _living(cloud: LoopbackCloud) -> int:
    return sum(machine.state != "terminated" for machine in cloud.machines())


def _demo_on(options: argparse.Namespace, provider: Provider, store: str | None) -> int:
    from seer_nb.ui.cli import demo as demo_command

    study = demo_command.study(
        name=options.name or time.strftime("demo-%Y%m%d-%H%M%S"),
        deadline=options.deadline or DEMO["deadline"][options.cloud],
        budget=options.budget or DEMO["budget"][options.cloud],
        provider=provider,
        policy=options.policy,
        store=store,
    ).start()
    print(f"study {study.name!r}: an MLP on handwritten digits; Ctrl-C stops it, with its results kept")
    _watch(study, stop_on_interrupt=True)
    from seer_nb.views import plotly_curves

    print(study._summary())  # noqa: SLF001 - the command line is a view like the others
    for path in ("results.csv", "results.html"):
        study.export(path)
    plotly_curves.write_figure(study.plot_curves(), "curves.html")
    print("written: results.csv, results.html, curves.html")
    print(f"open it again: seer-nb show {study.name}, or seer_nb.attach({study.name!r}) in Python")
    return 0


def _studies(_: argparse.Namespace) -> None:
    from seer_nb._utils.text import printable
    from seer_nb.study.catalog import studies

    table = studies()
    print(printable(table.to_string(index=False)) if len(table) else "no studies here")


def _on_one(options: argparse.Namespace) -> None:
    from seer_nb.study.catalog import attach

    study = attach(options.name)
    if options.word == "export":
        print(f"written: {study.export(options.path, table=options.table)}")
        return
    if options.word == "adjust":
        _adjust(study, options)
        return
    if options.word in {"pause", "resume", "stop"}:
        _tell(study, options.word)
        return
    if options.word == "watch":
        _watch(study, stop_on_interrupt=False)
    print(study._summary())  # noqa: SLF001 - the command line is a view like the others


def _adjust(study: Study, options: argparse.Namespace) -> None:
    study.adjust(budget=options.budget, deadline=options.deadline)
    print(f"study {study.name!r} was told its new limits")


def _tell(study: Study, word: str) -> None:
    from seer_nb.study.study import refuse_late

    if word != "resume":
        refuse_late(study.name, study.status, word)
    getattr(study, word)()
    print(f"study {study.name!r} was told to {word}")


def _watch(study: Study, *, stop_on_interrupt: bool, out: TextIO | None = None) -> None:
    """Show progress until the study has ended."""
    from seer_nb.views import text as text_views

    out = out or sys.stdout
    live = out.isatty()
    try:
        while True:
            try:
                study.wait(timeout=REFRESH_S if live else HEADLESS_S)
            except TimeoutError:
                _line(out, text_views.progress_line(study.state, study.stuck, study._now_s()), live=live)  # noqa: SLF001
            else:
                break
    except KeyboardInterrupt:
        if not stop_on_interrupt:
            return
        study.stop()
        study.wait()
    finally:
        if live:
            out.write("\n")


def _line(out: TextIO, line: str, *, live: bool) -> None:
    import shutil

    if live:
        width = shutil.get_terminal_size().columns - 1
        out.write("\r" + line[:width].ljust(width))
    else:
        out.write(line + "\n")
    out.flush()


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("trust", help="have a study's folder that was moved here run as your own")
    parser.add_argument("name", help="of the study")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from seer_nb.storage import layout
    from seer_nb.study.catalog import attach, trust

    attach(options.name)  # raises if there is none
    if not options.yes and not _agreed(options.name, str(layout.home() / options.name)):
        sys.stdout.write("nothing was changed\n")
        return 1
    trust(options.name)
    sys.stdout.write(f"study {options.name!r} is yours: seer-nb resume {options.name} goes on with it\n")
    return 0


def _agreed(name: str, folder: str) -> bool:
    sys.stdout.write(
        f"The function of study {name!r} in {folder} will be run as you, and can then do all that you can.\n"
        "Do you know who wrote it? [y/N] "
    )
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
