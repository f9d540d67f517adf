"""Answers of the bank as a student hands them in: cells of a notebook, which hold what they need and no more."""

import ast
import copy
import functools
import inspect
import sys
import types
from pathlib import Path

from minigpt.marking.cells import Cell
from minigpt.marking.judge import Answer, Notebook

NAME = "my_answer"


def cells(answer) -> list[Cell] | None:
    """The cells of a bank's answer, which set `my_answer` last. None where it can't be written as cells: a closure."""
    plain = answer if isinstance(answer, type) else inspect.unwrap(answer)
    inside_a_function = "<locals>" in plain.__qualname__ and isinstance(plain, type)
    if inside_a_function or isinstance(answer, functools.partial) or getattr(plain, "__closure__", None) or (
            isinstance(plain, types.FunctionType) and any(map(callable, plain.__defaults__ or ()))):
        return None
    if plain.__module__.startswith(("minigpt.", "torch.")):
        module, *inside = plain.__module__, *plain.__qualname__.split(".")
        return [Cell("solution", f"import {module} as other\n{NAME} = other.{'.'.join(inside)}")]
    end = text_of_lambda(plain) if plain.__name__ == "<lambda>" else plain.__qualname__
    return [*statements(plain.__module__), Cell("solution", f"{NAME} = {end}")]


def text_of_lambda(function) -> str:
    """Its text: that of the smallest one around the places from which its code comes."""
    places = [(line, column) for line, _, column, _ in function.__code__.co_positions() if line and column]
    around = [node for node in ast.walk(tree_of(function.__module__)) if isinstance(node, ast.Lambda)
              and (node.lineno, node.col_offset) <= min(places) and max(places) <= (node.end_lineno, node.end_col_offset)]
    return ast.unparse(max(around, key=lambda node: (node.lineno, node.col_offset)))


@functools.cache
def tree_of(module: str) -> ast.Module:
    """A module of the bank, without its own marks and with what it takes from other banks under its plain name."""
    tree = ast.parse(Path(sys.modules[module].__file__).read_text(encoding="utf-8"))
    return ast.fix_missing_locations(PlainNames().visit(tree))


class PlainNames(ast.NodeTransformer):
    """`tokenizer_bank.merge` becomes `merge`; decorators of the bank go."""

    def visit_Attribute(self, node):
        if isinstance(node.value, ast.Name) and node.value.id.endswith("_bank"):
            return ast.copy_location(ast.Name(node.attr, node.ctx), node)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node):
        node.decorator_list = [one for one in node.decorator_list if "check" not in ast.unparse(one)]
        return self.generic_visit(node)

    visit_ClassDef = visit_FunctionDef


@functools.cache
def statements(module: str) -> list[Cell]:
    """The statements of a module of the bank, a cell each: of other banks that it uses too."""
    before, own = [], []
    for node in tree_of(module).body:
        if isinstance(node, ast.ImportFrom) and node.module == "checks_bank":
            for alias in node.names:
                before += statements(f"checks_bank.{alias.name}")
        elif isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign):
            if not ast.unparse(node).startswith(("from checks_bank", "from minigpt.classroom")):
                own.append(Cell("", ast.unparse(copy.deepcopy(node))))
    return before + own


def handed_in(check: str, answer_cells: list[Cell], worked: dict[str, str] | None = None) -> Answer:
    """The answer of a notebook with these cells, and the two tests of `check` behind them."""
    return notebook(check, answer_cells, worked).answer(NAME, check, len(answer_cells))


def notebook(check: str, answer_cells: list[Cell], worked: dict[str, str] | None = None) -> Notebook:
    """A notebook with these cells, and the two tests of `check` behind them, worth 2 points each."""
    tests = [Cell("test", f"{check}({NAME})"),
             Cell("more", f"from minigpt.marking.judge import more_questions\nmore_questions({NAME}, {check}, 2)")]
    return Notebook([*answer_cells, *tests], {"test", "more"}, worked or {})


def points(of: Notebook) -> tuple[float, str]:
    """(the points of both tests, as nbgrader counts them; what the student is told)."""
    (printed, _, wrong), (said, last, wrong_too) = map(of.run_test, (len(of.cells) - 2, len(of.cells) - 1))
    return 2 * (wrong is None) + float(last or 0), " ".join(map(str, (wrong or printed, wrong_too or said)))
