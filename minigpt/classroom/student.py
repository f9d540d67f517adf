"""The students' copies of the notebooks: solutions cut out, everything else as it was.

    python -m minigpt.classroom.student            # notebooks/*.ipynb -> student/*.ipynb

nbgrader's ClearSolutions cuts what stands between `### BEGIN SOLUTION` and `### END SOLUTION`. The cell is unfolded,
its outputs are cleared, and it is tagged `raises-exception`, so that "run all" goes on after the check has said what is
missing. The same goes for the later cells that use what the student is to write, such as those that compare it with the
package: `dependents` finds them by the names that they use.

A copy that is there already is never written over: a student may have worked in it.
"""

import ast
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
BEGIN = "### BEGIN SOLUTION"
MAY_FAIL = "raises-exception"               # Jupyter's own tag: an error in such a cell doesn't stop the ones after it


def student_copy(notebook):
    """A copy of `notebook` with its solutions cut to stubs that raise NotImplementedError."""
    from nbgrader.preprocessors import ClearSolutions  # nothing else needs it

    after = dependents(notebook)
    notebook = nbformat.from_dict(notebook)
    exercises = {cell.id for cell in notebook.cells if is_exercise(cell)}
    notebook, _ = ClearSolutions(enforce_metadata=False).preprocess(notebook, {})
    for cell in notebook.cells:
        if cell.id in exercises:
            cell.outputs, cell.execution_count = [], None
            cell.metadata.get("jupyter", {}).pop("source_hidden", None)
        if cell.id in exercises | after:
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), MAY_FAIL]
    return notebook


def is_exercise(cell) -> bool:
    return cell.cell_type == "code" and BEGIN in cell.source


def dependents(notebook) -> set[str]:
    """Ids of the cells that need a solution: they use a name that an exercise, or such a cell, was last to set."""
    unsolved, found = set(), set()
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        used, assigned = names(cell.source)
        if is_exercise(cell):
            unsolved |= assigned
        elif used & unsolved:
            found.add(cell.id)
            unsolved |= assigned
        else:
            unsolved -= assigned
    return found


def names(source: str) -> tuple[set[str], set[str]]:
    """(names that the code reads, also inside its functions; names that it sets for the cells after it)."""
    lines = ["" if line.startswith(("%", "!")) else line for line in source.splitlines()]      # IPython's own
    tree = ast.parse("\n".join(lines))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assigned, inside = set(), list(tree.body)
    while inside:
        node = inside.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assigned.add(node.name)                             # what is set in its body stays there
        elif isinstance(node, ast.Import | ast.ImportFrom):
            assigned |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            assigned.add(node.id)
        elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            inside.extend(ast.iter_child_nodes(node))
    return used, assigned


def write_copies(source: Path, target: Path) -> list[str]:
    """Writes the copy of each notebook in `source` into `target`, and returns a line about each."""
    target.mkdir(parents=True, exist_ok=True)
    told = []
    for path in sorted(source.glob("*.ipynb")):
        text = nbformat.writes(student_copy(nbformat.read(path, as_version=4))) + "\n"
        copy = target / path.name
        if not copy.exists():
            copy.write_text(text, encoding="utf-8", newline="\n")
            told.append(f"{copy.name}: written")
        elif copy.read_text(encoding="utf-8") == text:
            told.append(f"{copy.name}: up to date")
        else:
            told.append(f"{copy.name}: left as it is, for somebody may have worked in it. "
                        "Rename it to get a fresh copy.")
    return told


def main() -> int:
    try:
        print("\n".join(write_copies(ROOT / "notebooks", ROOT / "student")))
    except ImportError as error:
        print(f"the students' copies need nbgrader ({error}): python3 run.py student installs it", file=sys.stderr)
        return 1
    print(f"The students' copies are in {ROOT / 'student'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
