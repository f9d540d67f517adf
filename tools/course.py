"""An nbgrader course of the notebooks: what `run.py course` writes into course/.

    python -m tools.course                              # writes it
    python -m tools.course autograde 02_attention       # nbgrader in that folder, whatever it can do

Each notebook with exercises becomes an assignment, `source/<name>/<name>.ipynb`: every exercise a
cell to be solved, its check a locked test of its own, and a second one whose questions are hidden.
Both are marked by `minigpt.marking`, which `nbgrader_config.py` puts in the place of nbgrader's own
execution. What somebody has changed is left as it is, and so is an assignment that has been
released or handed in: its tests are the ones that the class has.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

from minigpt import corpus
from minigpt.classroom import editions, student
from minigpt.console import say
from minigpt.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
POINTS = 4      # for each ● of an exercise: half for its check, half for the hidden questions
DOTS = re.compile(r"^#+ Your turn · .*?(●+)", re.M)
CHECK = re.compile(r"\s*^(check_\w+)\((\w+)\)\s*\Z", re.M)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)[^)]*\)")      # to files that nobody hands out
SKIPPED = re.compile(r"; where you skipped something, the\s+folded cell below its\s+hints has put the "
                     r"package's in its place|, or unfold \*Skipped it\?\* below its hints and run that cell")
SHOWN_LATER = "*Here the solved notebook shows the package's own code.*"
GO_ON = ("*Skipped it? Go on all the same. The cells that need it stop with an error, and no other; and when this is marked, "
         "what builds on it gets a right one in its place.*")
MORE = """\
# More questions to {name}, which are not shown, are asked here when it is marked.
### BEGIN HIDDEN TESTS
from minigpt.marking.judge import more_questions
more_questions({name}, {check}, {points})
### END HIDDEN TESTS
"""
CONFIG = '''\
"""nbgrader's settings for this course. Written by `run.py course`; what you change in it stays."""

from pathlib import Path

c = get_config()                                                        # noqa: F821

HERE = Path(__file__).resolve().parent
c.CourseDirectory.root = str(HERE)
c.CourseDirectory.course_id = "minigpt"
# The course's own notebooks are solved, and what their hidden tests ask is in `minigpt.marking`. It also marks, and runs
# nothing of a student's where the marks are made.
c.Autograde.sanitize_preprocessors = [
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.DeduplicateIds",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "minigpt.marking.autograde.PutBack",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Autograde.autograde_preprocessors = [
    "minigpt.marking.autograde.Mark",
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.BesideTheSource.source = str(HERE / "source")
c.OverwriteCells.add_missing_cells = True       # a test that somebody has deleted is put back
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\\nraise NotImplementedError()"}
'''


def has_exercises(notebook) -> bool:
    return any(map(student.is_exercise, notebook.cells))


def assignment(notebook):
    """The notebook as nbgrader's source: solved, with the tests of each exercise behind it."""
    copy = editions.without_outputs(notebook)
    unsolved, dots, cells = student.dependents(notebook), 0, []
    for cell in copy.cells:
        if cell.id in unsolved:
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), student.MAY_FAIL]
        if cell.cell_type == "markdown":
            dots = len(found[1]) if (found := DOTS.search(cell.source)) else dots
            cell.source = SKIPPED.sub("", LINK.sub(r"\1", student.NOTE.sub("", cell.source))).rstrip()
            cells += [cell] if cell.source else []
        elif student.is_exercise(cell):
            cells += exercise(cell, POINTS * dots)
        elif "skipped" in cell.metadata.get("tags", []):
            cells.append(new_markdown_cell(GO_ON, id=cell.id))
        elif shows_source(cell.source):
            cells += without_source(cell)
        else:
            cells.append(cell)
    copy.cells = cells
    return copy


def exercise(cell, points: int) -> list:
    """The cell to be solved, its check, and the hidden questions: half of the points for each."""
    call = CHECK.search(cell.source)
    if not call or not points:
        raise ValueError(f"the cell {cell.id} does not end with its check, or no card before it says how hard it is")
    check, name = call.groups()
    base = cell.id.removesuffix("-solution")
    cell.source = CHECK.sub("", cell.source)
    cell.metadata.pop("jupyter", None)
    cell.metadata["nbgrader"] = grading(cell.id, solution=True)
    more = MORE.format(name=name, check=check, points=points // 2).rstrip()
    return [cell, test(f"{base}-check", f"{check}({name})", points // 2), test(f"{base}-more", more, points // 2)]


def test(cell_id: str, source: str, points: int):
    """A locked cell that decides about points. Alone it stops no "run all"."""
    metadata = {"nbgrader": grading(cell_id, grade=True, locked=True, points=points), "tags": [student.MAY_FAIL]}
    return new_code_cell(source, id=cell_id, metadata=metadata)


def grading(cell_id: str, **more) -> dict:
    """nbgrader's metadata of a cell."""
    return {"schema_version": 3, "grade_id": cell_id, "cell_type": "code", "grade": False, "solution": False,
            "task": False, "locked": False} | more


def shows_source(source: str) -> bool:
    return "\nshow_source(" in "\n" + source


def without_source(cell) -> list:
    """The cell without what shows the package's code, and a word about that."""
    cell.source = re.sub(r"^show_source\(.*\)\n?", "", cell.source, flags=re.M).rstrip()
    return [*([cell] if cell.source else []),
            new_markdown_cell(SHOWN_LATER, id=f"{cell.id}-later" if cell.source else cell.id)]


def write(source: Path, course: Path) -> list[str]:
    """Writes the course of the notebooks in `source`; returns a line about each file.

    Raises OSError where one can't be written, ValueError for an exercise that can't be marked.
    """
    told = [write_config(course / "nbgrader_config.py")]
    for path in sorted(source.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if has_exercises(notebook):
            told.append(f"{path.stem}: {write_assignment(assignment(notebook), course, path.stem)}")
    return told


def write_assignment(fresh, course: Path, name: str) -> str:
    given_out = [course / "release" / name, *course.glob(f"submitted/*/{name}")]
    path = course / "source" / name / f"{name}.ipynb"
    if path.exists() and any(folder.exists() for folder in given_out):
        return "left as it is: the class has it."
    path.parent.mkdir(parents=True, exist_ok=True)
    return editions.write_copy("course", fresh, student.renewed, path)


def write_config(path: Path) -> str:
    if path.exists():
        same = path.read_text(encoding="utf-8") == CONFIG
        return f"{path.name}: " + ("up to date" if same else "left as it is, with your changes. Rename it to get a fresh one.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, CONFIG.encode())
    return f"{path.name}: written"


def nbgrader(arguments: list[str], course: Path) -> int:
    """Runs nbgrader in the course, with the programs beside this Python, of which it needs one; returns its status."""
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return subprocess.call([sys.executable, "-m", "nbgrader", *arguments], cwd=course, env=os.environ | {"PATH": programs})


def main(arguments: list[str], course: Path = ROOT / "course") -> int:
    if arguments and not course.exists():
        print(f"There is no course in {course} yet: run it without {arguments[0]} first.", file=sys.stderr)
        return 1
    if arguments:
        return nbgrader(arguments, course)
    try:
        told = write(corpus.data_folder().with_name("notebooks"), course)
    except (OSError, ValueError) as error:
        print(f"The course could not be written: {error}", file=sys.stderr)
        return 1
    say("\n".join(told))
    say(f"The course is in {course}. What comes next is in docs/teaching/marking.md.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
