"""Which cells of a notebook an answer needs: those that set the names that it reads.

Python's own symbol tables say what a cell reads of other cells, and what it sets for them. Only
what is needed is run when an answer is marked: no training, no picture, no other exercise.
"""

import ast
import symtable
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Cell:
    """One code cell: its name in nbgrader ("" where it has none), and its text."""

    name: str
    text: str

    @cached_property
    def code(self) -> str:
        """The text without IPython's own lines. It may be no Python all the same."""
        return "\n".join("" if line.lstrip().startswith(("%", "!")) else line
                         for line in self.text.splitlines())

    @cached_property
    def tree(self) -> ast.Module | None:
        """None where it is no Python."""
        try:
            return ast.parse(self.code)
        except (SyntaxError, ValueError, RecursionError):
            return None

    @cached_property
    def reads(self) -> set[str]:
        """The names that it reads of other cells, also inside its functions."""
        if self.tree is None:
            return set()
        table = symtable.symtable(self.code, "cell", "exec")
        return {symbol.get_name() for scope in _scopes(table) for symbol in scope.get_symbols()
                if symbol.is_referenced() and (scope is table or symbol.is_global())}

    @cached_property
    def sets(self) -> set[str]:
        """The names that it sets for the cells after it."""
        if self.tree is None:
            return set()
        table = symtable.symtable(self.code, "cell", "exec")
        return {symbol.get_name() for scope in _scopes(table) for symbol in scope.get_symbols()
                if (symbol.is_assigned() or symbol.is_imported())
                and (scope is table or symbol.is_declared_global())}

    @cached_property
    def surely_sets(self) -> set[str]:
        """Those of them that do not hang on an `if`, a loop or an error."""
        if self.tree is None:
            return set()
        found = set()
        for statement in self.tree.body:
            if not isinstance(statement, ast.If | ast.For | ast.While | ast.Try):
                found |= Cell("", ast.unparse(statement)).sets
        return found


def _scopes(table: symtable.SymbolTable) -> Iterable[symtable.SymbolTable]:
    yield table
    for inner in table.get_children():
        yield from _scopes(inner)


def needed(cells: list[Cell], place: int, names: Iterable[str]) -> list[int]:
    """The places, before `place`, of the cells that set `names`, and of what those cells need.

    In the order of the notebook.
    """
    found: set[int] = set()
    wanted = [(place, name) for name in names]
    seen = set()
    while wanted:
        before, name = item = wanted.pop()
        if item in seen:
            continue
        seen.add(item)
        for i in range(before - 1, -1, -1):
            if name not in cells[i].sets:
                continue
            if i not in found:
                found.add(i)
                wanted += [(i, other) for other in cells[i].reads]
            if name in cells[i].surely_sets:
                break
    return sorted(found)
