"""The students' copies: solutions gone, everything else there, and "run all" reaches the end of an unsolved one."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from minigpt.classroom import student

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

SOLVED = """def my_double(x):
    ### BEGIN SOLUTION
    twice = 2 * x
    return twice
    ### END SOLUTION

assert my_double(2) == 4"""


def small_notebook():
    cells = {
        "title": new_markdown_cell("# Title"),
        "solution": new_code_cell(SOLVED, outputs=[nbformat.v4.new_output("stream", text="✓\n")], execution_count=1,
                                  metadata={"jupyter": {"source_hidden": True}}),
        "compare": new_code_cell("mine = my_double(3)\nassert mine == 6"),
        "further": new_code_cell("print(mine)"),
        "other": new_code_cell("twice = mine = 1"),
        "free": new_code_cell("%matplotlib inline\nprint(mine, twice)",
                              outputs=[nbformat.v4.new_output("stream", text="1\n")], execution_count=5),
        "inside": new_code_cell("def later():\n    return my_double(1)"),
    }
    for name, cell in cells.items():
        cell.id = name
    return new_notebook(cells=list(cells.values()))


def by_id(notebook) -> dict:
    return {cell.id: cell for cell in notebook.cells}


def may_fail(notebook) -> set[str]:
    return {cell.id for cell in notebook.cells if "raises-exception" in cell.metadata.get("tags", [])}


def test_the_solution_is_cut_to_a_stub_that_says_it_is_not_written():
    cell = by_id(student.student_copy(small_notebook()))["solution"]
    assert "2 * x" not in cell.source and "SOLUTION" not in cell.source
    assert "raise NotImplementedError" in cell.source and "assert my_double(2) == 4" in cell.source
    assert cell.outputs == [] and not cell.metadata.get("jupyter", {}).get("source_hidden")


def test_cells_that_use_a_solution_may_fail_and_the_others_may_not():
    assert may_fail(student.student_copy(small_notebook())) == {"solution", "compare", "further", "inside"}


def test_everything_else_stays_as_it_was():
    before, after = small_notebook(), student.student_copy(small_notebook())
    assert list(by_id(before)) == list(by_id(after))
    for name in ("title", "other", "free"):
        assert by_id(before)[name] == by_id(after)[name]
    assert by_id(before)["solution"].source == SOLVED          # the original is not touched


def test_a_copy_that_somebody_worked_in_is_left_alone(tmp_path):
    (tmp_path / "notebooks").mkdir()
    nbformat.write(small_notebook(), tmp_path / "notebooks" / "one.ipynb")
    copy = tmp_path / "student" / "one.ipynb"
    assert "written" in student.write_copies(tmp_path / "notebooks", tmp_path / "student")[0]
    assert "up to date" in student.write_copies(tmp_path / "notebooks", tmp_path / "student")[0]
    mine = copy.read_text(encoding="utf-8").replace("# Title", "# My work")
    copy.write_text(mine, encoding="utf-8")
    assert "left as it is" in student.write_copies(tmp_path / "notebooks", tmp_path / "student")[0]
    assert copy.read_text(encoding="utf-8") == mine


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_solution_is_left_in_any_copy(path):
    copy = student.student_copy(nbformat.read(path, as_version=4))
    nbformat.validate(copy)
    assert "SOLUTION" not in nbformat.writes(copy)


def test_an_unsolved_copy_runs_to_its_end_and_each_stub_is_refused_kindly(tmp_path):
    from nbclient import NotebookClient

    original = nbformat.read(ROOT / "notebooks" / "02_attention.ipynb", as_version=4)
    copy = student.student_copy(original)
    NotebookClient(copy, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    exercises = {cell.id for cell in original.cells if student.is_exercise(cell)}
    assert len(exercises) >= 4
    for cell in copy.cells:
        errors = [output for output in cell.get("outputs", []) if output.output_type == "error"]
        if cell.id in exercises:
            assert [error.ename for error in errors] == ["Mistake"], cell.id
            assert "not written yet" in errors[0].evalue, cell.id
        elif errors:
            assert cell.id in student.dependents(original), f"{cell.id}: {errors[0].ename}: {errors[0].evalue}"
    ran = [cell for cell in copy.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in ran)
