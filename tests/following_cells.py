"""The cells of a notebook that need what an exercise has made: run with another answer in its place.

A right answer has to do more than pass its check: the notebook goes on with it.
"""

import ast
import copy
import functools
from pathlib import Path

import matplotlib
import nbformat

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
OF_THE_REAL_MODEL = ("load-run", "load-agrees", "induction-")          # take seconds each, and more for every answer


class Notebook:
    """A notebook's code cells, and which names each of them reads and sets."""

    def __init__(self, path: Path):
        self.name = path.stem
        cells = [cell for cell in nbformat.read(path, as_version=4).cells
                 if cell.cell_type == "code" and "skipped" not in cell.metadata.get("tags", [])]
        self.cells = [(cell.id, ast.parse(cell.source)) for cell in cells]
        self.names = [names(tree) for _, tree in self.cells]

    def exercise(self, check: str) -> tuple[int, str] | None:
        """The place of the cell that calls this check, and the name of what it checks."""
        for place, (_, tree) in enumerate(self.cells):
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and getattr(node.func, "id", None) == check:
                    return place, node.args[0].id
        return None

    def needed(self, place: int) -> set[int]:
        """The cells before `place` that set what it reads, and what those read.

        What a function reads may be set after it, until it is called.
        """
        found, wanted = set(), [(place, name) for name in self.names[place][0]]
        while wanted:
            before, name = wanted.pop()
            setter = next((i for i in (*range(before - 1, -1, -1), *range(before + 1, place))
                           if name in self.names[i][1]), None)
            if setter is not None and setter not in found:
                found.add(setter)
                wanted += [(setter, other) for other in self.names[setter][0]]
        return found

    @functools.cache                                                    # noqa: B019  (a handful of notebooks, for one run)
    def before(self, place: int) -> dict:
        """What the notebook's own cells have made that the cell at `place` needs."""
        scope = {"__name__": "__main__"}
        for i in sorted(self.needed(place)):
            run(self.cells[i], scope)
        return scope

    def run_with(self, place: int, name: str, answer) -> None:
        """The cells that follow the exercise at `place` and read `name`, or what was made with it: with `answer` for it.

        Each runs once, after those before it, and until what it reads is set anew.
        """
        made = {name: answer}
        for later in range(place + 1, len(self.cells)):
            (cell, tree), (read, written) = self.cells[later], self.names[later]
            if cell.startswith(OF_THE_REAL_MODEL):
                continue
            if not made.keys() & read:
                made = {key: value for key, value in made.items() if key not in written}
                continue
            scope = dict(self.before(later)) | made
            for key, value in scope.items():
                if isinstance(value, (list, dict, set)) and not key.startswith("__"):
                    scope[key] = copy.copy(value)
            run(self.cells[later], scope)
            made |= {key: scope[key] for key in written - bound(tree)}


def run(cell: tuple, scope: dict) -> None:
    """A cell, without what it would show: pictures and widgets are other tests' business."""
    matplotlib.use("agg")
    name, tree = cell
    exec(compile(tree, f"<{name}>", "exec"), scope)


def names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """(the names that a cell reads, also inside its functions; the names that it sets for the cells after it)."""
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    written, inside = set(), list(tree.body)
    while inside:
        node = inside.pop()
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            written.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            written |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            written.add(node.id)
        elif not isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            inside.extend(ast.iter_child_nodes(node))
    return read - bound(tree), written


def bound(tree: ast.Module) -> set[str]:
    """The names that a loop, a comprehension or a function of the cell gives a meaning of its own."""
    targets = [node.target for node in ast.walk(tree) if isinstance(node, (ast.For, ast.comprehension))]
    found = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.Lambda)):
            found |= {argument.arg for argument in function.args.args}
    return found


@functools.cache
def notebooks() -> list[Notebook]:
    """All of them, in their order."""
    return [Notebook(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]


def exercises(check: str) -> list[tuple[Notebook, int, str]]:
    """Where what this check looks at is asked for: the notebook, the cell, and the name."""
    return [(notebook, *found) for notebook in notebooks() if (found := notebook.exercise(check))]
