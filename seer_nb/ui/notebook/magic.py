"""``%%seer``: a cell that defines ``train`` and ``space`` becomes a study."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from seer_nb._utils.text import show
from seer_nb._utils.validation import alike
from seer_nb.study.study import Study

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_INNER = (*_DEFINITIONS, ast.Lambda, ast.comprehension)
"""What is bound within these is not bound in the notebook."""


class Names(NamedTuple):
    """Those of a cell."""

    bound: frozenset[str]
    """What it defines, assigns or imports."""
    mentioned: frozenset[str]
    """These, and what it only uses."""
    blank: bool
    """Whether there is nothing in it but comments."""


def names(code: str) -> Names:
    """Those in a cell's code, which is plain Python."""
    tree = ast.parse(code)
    bound = frozenset(_bound(_outside(tree.body)))
    used = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return Names(bound, bound | used, not tree.body)


def _outside(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes, and those within them but for definitions."""
    for node in nodes:
        yield node
        if not isinstance(node, _INNER):
            yield from _outside(ast.iter_child_nodes(node))


def _bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, _DEFINITIONS):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


MAX_EPOCHS = 27
MADE_OF = ("train", "space")
"""The variables that become a study."""


@magics_class
class SeerMagics(Magics):
    """The magic of ``%load_ext seer_nb``."""

    @magic_arguments("%seer")
    @argument("--deadline", required=True, help='time, such as "10min"')
    @argument("--budget", required=True, help="dollars, such as 0.50")
    @argument("--metric", required=True, help="keyword of run.report that is optimised")
    @argument("--mode", choices=("max", "min"), default="max", help="whether more or less is better; default: max")
    @argument("--max-epochs", type=int, default=MAX_EPOCHS, help=f"epochs of a full training; default: {MAX_EPOCHS}")
    @argument("--policy", default="seer", help="default: seer")
    @argument("--name", default=None, help="of the study; default: by the function and the time")
    @argument("--seed", type=int, default=0, help="default: 0")
    @argument("--provider", default=None, help="a variable that holds one; default: this machine")
    @argument("--start", action="store_true", help="start at once, instead of by the button")
    @line_cell_magic
    def seer(self, line: str, cell: str | None = None) -> None:
        """Make a study of the ``train`` and ``space`` that the cell defines, and show it; it is left as ``study``.

        What the cell does not define is taken from an earlier one. ``%seer`` without a cell shows this help.
        """
        assert self.shell is not None
        if cell is None or not {"-h", "--help"}.isdisjoint(line.split()):
            sys.stdout.write(SeerMagics.seer.parser.format_help().removeprefix("::").lstrip("\n"))
            return
        options = parse_argstring(SeerMagics.seer, line)
        before = {name: self.shell.user_ns.get(name) for name in MADE_OF}
        result = self.shell.run_cell(cell)
        if not result.success:
            return
        self._tell_earlier(names(self.shell.transform_cell(cell)), before)
        study = self._study(options)
        self.shell.user_ns["study"] = study
        if options.start:
            study.start()
        display(study)

    def _tell_earlier(self, cell: Names, before: dict[str, Any]) -> None:
        """Say which of its parts the cell has not defined: a misspelt one would else be an earlier one in silence."""
        assert self.shell is not None
        there = self.shell.user_ns
        # Also what came by a star-import, say, is the cell's own.
        earlier = [name for name in MADE_OF if name not in cell.bound and there.get(name) is before[name]]
        misspelt = {name: alike(name, cell.bound) for name in earlier}
        defines = "".join(
            f"; the cell defines {found[0]!r}, which is not {name!r}" for name, found in misspelt.items() if found
        )
        if len(earlier) == len(MADE_OF) and not cell.blank and cell.mentioned.isdisjoint(MADE_OF):
            raise UsageError(
                f"%%seer finds neither 'train' nor 'space' in its cell{defines}: define them in it, or leave it empty "
                "but for a comment to use those of an earlier cell"
            )
        found = " and ".join(repr(name) for name in earlier if name in there)
        if found:
            sys.stdout.write(f"%%seer: {found} as defined in an earlier cell{defines}\n")

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
            raise UsageError(f"%%seer finds no {show(name)} in this notebook: define it in the cell, such as {example}")
        return self.shell.user_ns[name]


def load(shell: Any) -> None:
    """Make ``%%seer`` known."""
    shell.register_magics(SeerMagics)
