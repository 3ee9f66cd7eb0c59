"""The cell magic ``%%seer``, which makes a study of a cell that defines ``train`` and ``space``."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import similar_words
from seer_nb.study.study import Study

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_INNER_SCOPES = (*_DEFINITIONS, ast.Lambda, ast.comprehension)
"""Nodes with a scope of their own: names bound inside are not bound in the notebook."""
MAX_EPOCHS = 27
STUDY_PARTS = ("train", "space")
"""Variables that become a study."""


class CellNames(NamedTuple):
    """Names in the code of a cell."""

    bound: frozenset[str]
    """Names that the cell defines, assigns or imports."""
    mentioned: frozenset[str]
    """Names that the cell binds or uses."""
    blank: bool
    """Whether the cell holds nothing but comments."""


def cell_names(code: str) -> CellNames:
    """Collect the names in a cell's code, which must be plain Python."""
    tree = ast.parse(code)
    bound = frozenset(_bound(_walk_outer_scope(tree.body)))
    used = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return CellNames(bound, bound | used, not tree.body)


def _walk_outer_scope(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes and their descendants, except those in inner scopes."""
    for node in nodes:
        yield node
        if not isinstance(node, _INNER_SCOPES):
            yield from _walk_outer_scope(ast.iter_child_nodes(node))


def _bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, _DEFINITIONS):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@magics_class
class SeerMagics(Magics):
    """The magics that ``%load_ext seer_nb`` registers."""

    @magic_arguments("%seer")
    @argument("--deadline", required=True, help='time for the study, such as "10min"')
    @argument("--budget", required=True, help="dollars for the study, such as 0.50")
    @argument("--metric", required=True, help="keyword of run.report that is optimised")
    @argument(
        "--mode",
        choices=("max", "min"),
        default="max",
        help="whether larger or smaller values are better; default: max",
    )
    @argument(
        "--max-epochs", type=int, default=MAX_EPOCHS, help=f"epochs of a fully trained trial; default: {MAX_EPOCHS}"
    )
    @argument("--policy", default="seer", help="name of the policy; default: seer")
    @argument("--name", default=None, help="name of the study; default: made from the function's name and the time")
    @argument("--seed", type=int, default=0, help="random seed; default: 0")
    @argument("--provider", default=None, help="variable that holds a provider; default: this machine")
    @argument("--start", action="store_true", help="start the study at once, without the button")
    @line_cell_magic
    def seer(self, line: str, cell: str | None = None) -> None:
        """Make a study of the cell's ``train`` and ``space``, show it, and assign it to ``study``.

        If the cell does not define one of the two, the definition of an earlier cell is used. ``%seer`` without a cell
        shows this help.
        """
        assert self.shell is not None
        if cell is None or not {"-h", "--help"}.isdisjoint(line.split()):
            sys.stdout.write(SeerMagics.seer.parser.format_help().removeprefix("::").lstrip("\n"))
            return
        options = parse_argstring(SeerMagics.seer, line)
        before = {name: self.shell.user_ns.get(name) for name in STUDY_PARTS}
        result = self.shell.run_cell(cell)
        if not result.success:
            return
        self._report_earlier(cell_names(self.shell.transform_cell(cell)), before)
        study = self._study(options)
        self.shell.user_ns["study"] = study
        if options.start:
            study.start()
        display(study)

    def _report_earlier(self, cell: CellNames, before: dict[str, Any]) -> None:
        """Print which parts come from an earlier cell, because a misspelt name would silently fall back to one.

        Raises:
            UsageError: The cell neither defines nor mentions any of the parts.
        """
        assert self.shell is not None
        namespace = self.shell.user_ns
        # An object that changed, for example by a star import, counts as the cell's own.
        earlier = [name for name in STUDY_PARTS if name not in cell.bound and namespace.get(name) is before[name]]
        misspelt = {name: similar_words(name, cell.bound) for name in earlier}
        defines = "".join(f"; the cell defines {found[0]!r}, not {name!r}" for name, found in misspelt.items() if found)
        if len(earlier) == len(STUDY_PARTS) and not cell.blank and cell.mentioned.isdisjoint(STUDY_PARTS):
            raise UsageError(
                f"%%seer: the cell defines neither 'train' nor 'space'{defines}; define them in the cell, or use "
                "those of an earlier cell with a cell that holds only a comment"
            )
        found = " and ".join(repr(name) for name in earlier if name in namespace)
        if found:
            sys.stdout.write(f"%%seer: using {found} of an earlier cell{defines}\n")

    def _study(self, options: argparse.Namespace) -> Study:
        return Study(
            self._defined("train", "def train(config, run): ..."),
            self._defined("space", 'space = {"lr": seer.loguniform(1e-4, 1e-1)}'),
            metric=options.metric,
            mode=options.mode,
            max_epochs=options.max_epochs,
            deadline=options.deadline,
            budget=options.budget,
            policy=options.policy,
            name=options.name,
            seed=options.seed,
            provider=None if options.provider is None else self._defined(options.provider, "seer.Local()"),
        )

    def _defined(self, name: str, example: str) -> Any:
        assert self.shell is not None
        if name not in self.shell.user_ns:
            raise UsageError(f"%%seer: {short_repr(name)} is not defined; define it in the cell, for example {example}")
        return self.shell.user_ns[name]


def load(shell: Any) -> None:
    """Register ``%%seer`` with an IPython shell."""
    shell.register_magics(SeerMagics)
