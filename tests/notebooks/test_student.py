"""The students' copies: solutions, outputs and the teacher's notes gone, everything else there, and nobody's work lost.
"Run all" reaches the end of an unsolved one. The teacher's copies: outputs gone, all else there.
"""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from minigpt.classroom import editions, student, teach

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

SOLVED = """def my_double(x):
    ### BEGIN SOLUTION
    twice = 2 * x
    return twice
    ### END SOLUTION

assert my_double(2) == 4"""


NOTES = """Before.

> **Ask the class:** what do you see?
> And why?

> A remark for everybody.

> **For the teacher:** two minutes.

After."""


def small_notebook():
    cells = {
        "title": new_markdown_cell("# Title"),
        "notes": new_markdown_cell(NOTES),
        "note": new_markdown_cell("> **Ask the class:** who is ready?"),
        "empty": new_code_cell(""),
        "solution": new_code_cell(SOLVED, outputs=[nbformat.v4.new_output("stream", text="✓\n")], execution_count=1,
                                  metadata={"jupyter": {"source_hidden": True}}),
        "compare": new_code_cell("mine = my_double(3)\nassert mine == 6"),
        "further": new_code_cell("print(mine)"),
        "other": new_code_cell("twice = mine = 1"),
        "free": new_code_cell("%matplotlib inline\nprint(mine, twice)",
                              outputs=[nbformat.v4.new_output("stream", text="1\n")], execution_count=5),
        "inside": new_code_cell("def later():\n    return my_double(1)"),
        "skipped": new_code_cell("if not passed('my_double'):\n    my_double = sum", metadata={"tags": ["skipped"]}),
        "after": new_code_cell("my_double([1])"),
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


def test_the_stub_stands_where_the_solution_stood():
    assert student.cut("def f():\n    if x:\n        ### BEGIN SOLUTION\n        a\n\n        b\n"
                       "        ### END SOLUTION\n    ### BEGIN SOLUTION\n    ### END SOLUTION\n    c", "f") == (
        "def f():\n    if x:\n        # YOUR CODE HERE\n        raise NotImplementedError()\n"
        "    # YOUR CODE HERE\n    raise NotImplementedError()\n    c")


@pytest.mark.parametrize("source", ["### BEGIN SOLUTION\nx = 1", "### END SOLUTION\n### BEGIN SOLUTION\nx = 1"])
def test_a_solution_without_an_end_is_refused_and_not_given_away(source):
    with pytest.raises(ValueError, match="the cell one has a BEGIN SOLUTION or an END SOLUTION without the other"):
        student.cut(source, "one")


def test_everything_else_stays_as_it_was():
    before, after = small_notebook(), student.student_copy(small_notebook())
    assert set(by_id(before)) - set(by_id(after)) == {"note"}
    for name in ("title", "other", "empty", "skipped", "after"):
        assert by_id(before)[name] == by_id(after)[name]
    assert by_id(before)["free"].source == by_id(after)["free"].source
    assert before == small_notebook()                          # the original is not touched


@pytest.mark.parametrize("edition", [student.student_copy, editions.without_outputs])
def test_no_output_gives_a_prediction_away(edition):
    assert editions.has_run(small_notebook())
    for cell in edition(small_notebook()).cells:
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None


def test_notes_for_the_teacher_are_not_for_students():
    assert by_id(student.student_copy(small_notebook()))["notes"].source == (
        "Before.\n\n> A remark for everybody.\n\nAfter.")
    assert by_id(editions.without_outputs(small_notebook()))["notes"].source == NOTES


# ---- written into a folder -------------------------------------------------------------------------------------------

class Folder:
    """`notebooks/` with one notebook in it, and the copies of an edition beside it."""

    def __init__(self, path: Path, edition):
        self.edition, self.source, self.target = edition, path / "notebooks", path / edition.__name__
        self.copy = self.target / "one.ipynb"
        self.source.mkdir()
        self.change()

    def change(self, old: str = "", new: str = ""):
        """The notebook again, with other words in it."""
        (self.source / "one.ipynb").write_text(nbformat.writes(small_notebook()).replace(old, new), encoding="utf-8")

    def write(self) -> str:
        (line,) = self.edition.write_copies(self.source, self.target)
        return line

    def work(self, change):
        """Somebody opens the copy, changes it and saves it."""
        notebook = nbformat.read(self.copy, as_version=4)
        change(notebook)
        nbformat.write(notebook, self.copy)
        return self.copy.read_bytes()


@pytest.fixture
def students(tmp_path):
    return Folder(tmp_path, student)


@pytest.fixture
def teachers(tmp_path):
    return Folder(tmp_path, teach)


def run_a_cell(notebook):
    by_id(notebook)["free"].update(execution_count=1, outputs=[nbformat.v4.new_output("stream", text="1\n")])


def answer_in_words(notebook):
    by_id(notebook)["title"].source = "# My work"


def add_a_cell(notebook):
    notebook.cells.append(new_code_cell("mine"))


def run_an_import(notebook):                                    # it shows nothing but its number
    by_id(notebook)["other"].execution_count = 1


@pytest.mark.parametrize("change", [run_a_cell, answer_in_words, add_a_cell, run_an_import])
def test_a_copy_that_a_student_worked_in_is_never_written_over(students, change):
    assert students.write() == "one.ipynb: written"
    assert students.write() == "one.ipynb: up to date"
    mine = students.work(change)
    students.change("# Title", "# New title")
    assert "left as it is" in students.write()
    assert students.copy.read_bytes() == mine


def test_a_copy_that_nobody_touched_follows_its_notebook(students):
    students.write()
    students.work(lambda notebook: notebook.metadata.update(language_info={"version": "3.11"}))     # opened, and saved
    students.change("# Title", "# New title")
    assert students.write() == "one.ipynb: written"
    assert "# New title" in students.copy.read_text(encoding="utf-8")


def test_what_the_last_lesson_put_out_goes_before_the_next(teachers):
    teachers.write()
    teachers.work(run_a_cell)
    teachers.change("# Title", "# New title")
    assert teachers.write() == "one.ipynb: written"
    copy = nbformat.read(teachers.copy, as_version=4)
    assert not editions.has_run(copy) and by_id(copy)["title"].source == "# New title"


def test_what_the_teacher_changed_stays_without_the_outputs(teachers):
    teachers.write()
    teachers.work(answer_in_words)
    teachers.work(run_a_cell)
    assert "outputs cleared, your changes kept" in teachers.write()
    copy = nbformat.read(teachers.copy, as_version=4)
    assert not editions.has_run(copy) and by_id(copy)["title"].source == "# My work"
    assert "left as it is" in teachers.write()


@pytest.mark.parametrize("content", [
    "", "{", "[]", "{}", "5", "null", "notes", "[" * 100_000, '{"nbformat": "x"}', '{"nbformat": 99}',
    '{"nbformat": 3, "worksheets": 5}', '{"nbformat": 4, "nbformat_minor": 5, "metadata": 5, "cells": 5}',
    '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [5]}',
    '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code", "source": "", "metadata": {}}]}',
    '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "raw", "source": "", "metadata": 5}]}',
    '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code", "source": 5}]}'],
    ids=range(16))
@pytest.mark.parametrize("edition", [student, teach])
def test_a_file_that_is_no_notebook_is_left_alone(edition, content, tmp_path):
    folder = Folder(tmp_path, edition)
    folder.write()
    folder.copy.write_text(content)
    assert "left as it is, and it is no notebook" in folder.write()
    assert folder.copy.read_text() == content


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("make, said", [(os.mkdir, "is a folder, not a notebook"), (os.mkfifo, "is not an ordinary file")])
def test_what_is_no_file_is_named(students, make, said):
    students.target.mkdir(parents=True)
    make(students.copy)
    with pytest.raises(OSError, match=said):
        students.write()


OTHER = {student: teach, teach: student}


@pytest.mark.parametrize("edition", [student, teach])
def test_a_copy_of_another_edition_and_a_notebook_that_is_no_copy_are_left_alone(edition, tmp_path):
    folder, other = Folder(tmp_path, edition), OTHER[edition]
    (told,) = other.write_copies(folder.source, folder.target)
    assert told == "one.ipynb: written"
    folder.work(run_a_cell)
    theirs = folder.copy.read_bytes()
    assert f"left alone: it is a copy of another kind ({other.__name__.rpartition('.')[2]})" in folder.write()
    assert folder.copy.read_bytes() == theirs
    for change in (run_a_cell, answer_in_words):
        for mark in ({}, {"minigpt": "a string"}):
            notebook = small_notebook()
            notebook.metadata.update(mark)
            change(notebook)
            nbformat.write(notebook, folder.copy)
            theirs = folder.copy.read_bytes()
            assert "left alone: it is no copy that this has written" in folder.write()
            assert folder.copy.read_bytes() == theirs


def forget_the_edition(notebook):                               # as copies were before there were names
    del notebook.metadata["minigpt"]["edition"]


def test_an_older_copy_for_a_student_is_renewed_where_nothing_is_lost(students):
    students.write()
    students.work(forget_the_edition)
    students.change("# Title", "# New title")
    assert students.write() == "one.ipynb: written"
    students.work(forget_the_edition)
    mine = students.work(answer_in_words)
    assert "left alone" in students.write() and students.copy.read_bytes() == mine


def test_an_older_copy_of_the_teachers_is_renewed_where_its_cells_tell_that_it_is_one(teachers):
    teachers.write()
    teachers.work(forget_the_edition)
    teachers.work(run_a_cell)
    assert teachers.write() == "one.ipynb: written", "the outputs of the last lesson are gone"
    teachers.work(forget_the_edition)
    mine = teachers.work(run_a_cell)
    teachers.change("# Title", "# New title")
    assert "left alone" in teachers.write() and teachers.copy.read_bytes() == mine


@pytest.mark.parametrize("edition", [student, teach])
@pytest.mark.parametrize("road", ["straight", "by a link"])
def test_the_notebooks_themselves_are_no_place_for_copies(edition, road, tmp_path):
    folder = Folder(tmp_path, edition)
    before = (folder.source / "one.ipynb").read_bytes()
    if road == "by a link":
        (tmp_path / "link").symlink_to(folder.source)
    with pytest.raises(ValueError, match="is the folder of the notebooks themselves: name another one"):
        edition.write_copies(folder.source, tmp_path / "link" if road == "by a link" else folder.source)
    assert (folder.source / "one.ipynb").read_bytes() == before


def test_where_no_copy_is_written_the_command_does_not_say_that_they_are_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["teach", str(tmp_path / "student")])
    monkeypatch.setattr(editions.corpus, "data_folder", lambda: tmp_path / "data")
    folder = Folder(tmp_path, student)
    student.write_copies(folder.source, tmp_path / "student")
    assert teach.main() == 1
    assert "The teacher's copies were not written" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["teach", str(folder.source)])
    assert teach.main() == 1
    assert "is the folder of the notebooks themselves" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["student", str(tmp_path / "student")])
    folder.copy = tmp_path / "student" / "one.ipynb"
    folder.work(answer_in_words)
    assert student.main() == 0, "work of one's own is no failure"


def test_whoever_has_read_enough_ends_it_quietly(tmp_path):
    """As `… | head -1` does, or here `true`: the pipe is shut before the first word."""
    readable, pipe = os.pipe()
    os.close(readable)
    run = subprocess.run([sys.executable, "-m", "minigpt.classroom.student"], cwd=tmp_path, stdout=pipe,
                         stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(pipe)
    assert (run.returncode, run.stderr) == (0, "")
    assert len(list((tmp_path / "student").glob("*.ipynb"))) == len(NOTEBOOKS)


def test_a_folder_without_notebooks_is_no_success(tmp_path):
    with pytest.raises(FileNotFoundError, match="there are no notebooks in"):
        student.write_copies(tmp_path, tmp_path / "student")


@pytest.mark.parametrize(("module", "folder"), [("student", "student"), ("teach", "teach"), ("student", "for Ann é")])
def test_the_command_writes_into_the_folder_that_it_names(module, folder, tmp_path):
    arguments = [] if module == folder else [folder]
    run = command(module, *arguments, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert str(tmp_path / folder) in run.stdout
    assert sorted(path.name for path in (tmp_path / folder).iterdir()) == [path.name for path in NOTEBOOKS]


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """The command line of the students' copies, in an empty folder: (exit status, what it says of what is wrong)."""
    Folder(tmp_path, student)
    monkeypatch.setattr(editions.corpus, "data_folder", lambda: tmp_path / "data")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["student", *words])
        try:
            code = student.main()
        except SystemExit as ended:
            code = ended.code
        return code, capsys.readouterr().err
    return run


@pytest.mark.parametrize("word", ["b.txt", "b.txt/inside", "a link"])
def test_a_folder_that_is_none_is_named(told, word):
    Path("b.txt").write_text("a file")
    Path("a link").symlink_to("nowhere")
    place = word.removesuffix("/inside")
    assert told(word) == (
        1, f"The students' copies could not be written: {place} is there and is no folder: name another one\n")


def test_a_folder_that_cannot_be_made_is_named_and_has_no_number(told):
    name = "x" * 300
    assert told(name) == (
        1, f"The students' copies could not be written: cannot make the folder {name}: File name too long\n")


@pytest.mark.parametrize("word", ["", " ", "-", "~nobody-has-this-name/b"])
def test_a_word_that_names_no_folder_is_refused(told, tmp_path, word):
    before = sorted(tmp_path.rglob("*"))
    code, said = told(word)
    assert code == 2 and "argument folder: " in said and sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a device that is always full")
def test_where_nothing_can_be_said_the_command_ends_with_a_sentence(tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        run = subprocess.run([sys.executable, "-m", "minigpt.classroom.student"], cwd=tmp_path, stdout=full,
                             stderr=subprocess.PIPE, text=True, timeout=300, env=env)
    assert (run.returncode, run.stderr) == (
        1, "Standard output can't be written: No space left on device. What was done is done.\n")
    assert len(list((tmp_path / "student").glob("*.ipynb"))) == len(NOTEBOOKS)


def command(module, *arguments, cwd):
    return subprocess.run([sys.executable, "-m", f"minigpt.classroom.{module}", *arguments], cwd=cwd, timeout=300,
                          capture_output=True, text=True, encoding="utf-8", env=os.environ | {"PYTHONUTF8": "1"})


# ---- the notebooks that ship -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_solution_is_left_in_any_copy(path):
    copy = student.student_copy(nbformat.read(path, as_version=4))
    nbformat.validate(copy)
    text = nbformat.writes(copy)
    assert "SOLUTION" not in text and "Ask the class" not in text and "For the teacher" not in text


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
