"""What marks in nbgrader's place: `course/nbgrader_config.py` names it.

nbgrader's own preprocessor runs what was handed in from top to bottom, and reads the marks off the
outputs of its test cells. `Mark` leaves the notebook as it is and writes those outputs: the
points of a test, or an error whose text is the sentence for the student. Everything else is
nbgrader's: its gradebook, its feedback pages, marks changed by hand.
"""

from pathlib import Path

import nbformat
from nbformat.v4 import new_output
from nbgrader import utils
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Unicode

from minigpt.marking.cells import Cell
from minigpt.marking.judge import NoPoints, Notebook


class BesideTheSource(NbGraderPreprocessor):
    """What looks at a notebook that was handed in beside the course's own."""

    source = Unicode(help="the folder with the course's own notebooks, a folder for each "
                          "assignment").tag(config=True)

    def own(self, resources):
        """The course's own notebook."""
        course = resources["nbgrader"]
        path = Path(self.source, course["assignment"], f"{course['notebook']}.ipynb")
        return nbformat.read(path, as_version=4)


class PutBack(BesideTheSource):
    """Puts an empty cell where a solution was deleted.

    nbgrader puts tests back that were deleted, each behind the solution before it, and stops where
    that is gone.
    """

    def preprocess(self, nb, resources):
        """Adds the cells."""
        place = 0
        for cell in self.own(resources).cells:
            names = list(map(name, nb.cells))
            if name(cell) and name(cell) in names:
                place = names.index(name(cell)) + 1
            elif utils.is_solution(cell):
                nb.cells.insert(place, nbformat.from_dict({**cell, "source": ""}))
                place += 1
        return nb, resources


class Mark(BesideTheSource):
    """Marks the test cells of one notebook that was handed in."""

    def preprocess(self, nb, resources):
        """Writes the outputs of the test cells."""
        handed_in = notebook(nb, self.own(resources))
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        for place, cell in enumerate(code):
            if is_test(cell):
                cell.outputs = outputs(handed_in, place)
                cell.execution_count = None
        return nb, resources


def notebook(handed_in, source) -> Notebook:
    """The cells of a notebook that was handed in, and the solutions of the teacher's own."""
    ours = [cell for cell in source.cells if cell.cell_type == "code"]
    return Notebook(
        [Cell(name(cell), cell.source) for cell in handed_in.cells if cell.cell_type == "code"],
        tests={name(cell) for cell in ours if is_test(cell)},
        worked={name(cell): cell.source for cell in ours if utils.is_solution(cell)},
        given=[cell.source for cell in ours])


def name(cell) -> str:
    """The cell's name in the gradebook; "" where it has none."""
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def is_test(cell) -> bool:
    """Whether its outputs decide about points. nbgrader has put back its text, if it was changed.
    """
    return cell.cell_type == "code" and utils.is_grade(cell) and not utils.is_solution(cell)


def outputs(handed_in: Notebook, place: int) -> list:
    """What the test cell at `place` shows on the feedback page, and what nbgrader reads off it."""
    printed, last, error = handed_in.run_test(place)
    shown = [new_output("stream", name="stdout", text=printed)] if printed else []
    if error is not None:
        said = str(error) or "this test has failed"
        shown.append(new_output("error", ename="no points" if isinstance(error, NoPoints)
                                else type(error).__name__, evalue=said, traceback=[f"✗ {said}"]))
    elif last is not None:
        shown.append(new_output("execute_result", data={"text/plain": last}, execution_count=None))
    return shown
