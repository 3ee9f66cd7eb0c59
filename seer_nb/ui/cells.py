"""Names in the code of a notebook's cell."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
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
