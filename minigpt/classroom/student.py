"""The students' copies of the notebooks: no solutions, no outputs, no notes for the teacher.

    python -m minigpt.classroom.student            # writes student/*.ipynb; another folder: name it

What stands between `### BEGIN SOLUTION` and `### END SOLUTION` becomes a stub. Its cell is unfolded
and tagged `raises-exception`, so that "run all" goes on after the check has said what is missing.
The same goes for the later cells that use what the student is to write, such as those that compare
it with the package: `dependents` finds them by the names that they use. A cell "skipped it?"
(tagged `skipped`) sets such a name to the package's, and ends that.

A copy that a student has worked in is never written over.
"""

import ast
import functools
import re
import sys

from minigpt.classroom import editions

BEGIN = "### BEGIN SOLUTION"
SOLUTION = re.compile(r"^([ \t]*)### BEGIN SOLUTION[ \t]*\n"
                      r"(?:.*\n)*?[ \t]*### END SOLUTION[ \t]*$", re.M)
STUB = r"\1# YOUR CODE HERE" "\n" r"\1raise NotImplementedError()"
# A whole block quote:
NOTE = re.compile(r"^> \*\*(?:Ask the class|For the teacher)\b.*(?:\n>.*)*\n*", re.M)
# Jupyter's own tag: an error in such a cell doesn't stop the ones after it.
MAY_FAIL = "raises-exception"
# What is set inside these is not seen outside.
OWN_SCOPE = ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def student_copy(notebook):
    """A copy of `notebook` for a student.

    Raises ValueError, which names the cell, for a solution without an end.
    """
    copy = editions.without_outputs(notebook)
    unsolved = dependents(notebook)
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            cell.source = NOTE.sub("", cell.source).rstrip()
        elif is_exercise(cell):
            cell.source = cut(cell.source, cell.id)
            cell.metadata.get("jupyter", {}).pop("source_hidden", None)
            unsolved.add(cell.id)
        if cell.id in unsolved:
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), MAY_FAIL]
    copy.cells = [cell for cell in copy.cells if cell.source or cell.cell_type == "code"]
    return copy


def is_exercise(cell) -> bool:
    return cell.cell_type == "code" and BEGIN in cell.source


def cut(source: str, cell_id: str) -> str:
    """The code of an exercise with a stub in place of each solution."""
    source = SOLUTION.sub(STUB, source)
    if "SOLUTION" in source:
        raise ValueError(f"the cell {cell_id} has a BEGIN SOLUTION or an END SOLUTION without the "
                         "other")
    return source


def dependents(notebook) -> set[str]:
    """Ids of the cells that need a solution.

    They use a name that an exercise, or such a cell, was last to set.
    """
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
    """(names that the code reads, its functions too; names that it sets for the cells after it)."""
    lines = ["" if line.startswith(("%", "!")) else line        # IPython's own
             for line in source.splitlines()]
    tree = ast.parse("\n".join(lines))
    used = {node.id for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assigned, inside = set(), list(tree.body)
    while inside:
        node = inside.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assigned.add(node.name)             # what is set in its body stays there
        elif isinstance(node, ast.Import | ast.ImportFrom):
            assigned |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            assigned.add(node.id)
        elif not isinstance(node, OWN_SCOPE):
            inside.extend(ast.iter_child_nodes(node))
    return used, assigned


def renewed(there, fresh):
    """A student's copy as it is once anybody has run or changed it; until then a fresh one."""
    return fresh if editions.as_written(there) and not editions.has_run(there) else there


# (source, target) -> what to say
write_copies = functools.partial(editions.write_copies, "student", student_copy, renewed)


def main() -> int:
    return editions.main(write_copies, "student", "The students' copies")


if __name__ == "__main__":
    sys.exit(main())
