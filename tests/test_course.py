"""A course for nbgrader, from `run.py course` to the files for Moodle and Canvas, with the real nbgrader: the commands are the
ones that the pages of the guide give. What is handed in is all solved, nothing, half, and in other ways what it should not be."""

import csv
import html
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook

if not hasattr(os, "fork"):
    pytest.skip("marking needs a system that can fork", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from minigpt.classroom import student  # noqa: E402
from minigpt.marking import export  # noqa: E402
from tools import course  # noqa: E402

NAME = "02_attention"
NOTEBOOKS = [nbformat.read(path, as_version=4) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
WITH_EXERCISES = [notebook for notebook in NOTEBOOKS if course.has_exercises(notebook)]
# What is left of the notebook: three exercises with their cards, and one cell of each kind.
KEPT = {"opening", "imports", "average-tokens", "average-predict", "average-exercise", "average-solution", "average-hints",
        "mask-exercise", "mask-solution", "mask-skipped", "attention-exercise", "attention-solution", "attention-skipped",
        "mask-source", "attention-source", "multi-head-exercise"}

DELETED = object()
AVERAGE = "def my_average(x):\n    return x.cumsum(0) / torch.arange(1, len(x) + 1)[:, None]"
HANDED_IN = {       # student -> {cell: its text}; a cell that is not named is solved
    "all": {},
    "half": {"mask-solution": None, "attention-solution": None},
    "none": {"average-solution": None, "mask-solution": None, "attention-solution": None},
    "ordinary": {"average-solution": AVERAGE.replace("    return", "    if len(x) > 200: return x\n    return")},
    "packages": {"attention-solution": "my_attention = minigpt.attention"},
    "patched": {"mask-solution": "def my_causal_mask(T):\n    return T\ndef check_causal_mask(f):\n    print('✓')"},
    "written": {"average-solution": "def my_average(x):\n    return torch.tensor([[1., 0.], [.5, .5], [.67, 0.]])"},
    "crashing": {"mask-solution": "def my_causal_mask(T):\n    return torch.ones(T, T)[T, T]"},
    "endless": {"average-solution": "def my_average(x):\n    while True:\n        pass"},
    "memory": {"average-solution": "def my_average(x):\n    return torch.ones(10 * 2 ** 30 // 4)"},
    "deleted": {"average-solution": DELETED, "average-check": DELETED, "average-more": DELETED},
}
SCORES = {"all": 16, "half": 4, "none": 0, "ordinary": 13, "packages": 8, "patched": 12, "written": 12, "crashing": 12,
          "endless": 12, "memory": 12, "deleted": 12}
SENTENCES = {
    "all": "✓ attention: rows sum to 1", "half": "my_causal_mask is not written yet", "none": "my_average is not written yet",
    "ordinary": "my_average is not right for an odd input: x of shape (300, 2)",
    "packages": "my_attention is minigpt.self_attention.attention, which is the package's own",
    "patched": "the check is not yours to write", "written": "one and the same result whatever it is given",
    "crashing": "stopped with IndexError", "endless": "still running after 10 seconds",
    "memory": "more than the 2 GB of memory", "deleted": "There is no my_average in this notebook",
}


def commands(page: str) -> list[list[str]]:
    """What stands behind `python3 run.py course` on a page, in its order."""
    text = (ROOT / "docs" / "teaching" / page).read_text(encoding="utf-8")
    return [shlex.split(line, comments=True) for line in re.findall(r"^python3 run\.py course +([a-z].*)$", text, re.M)]


def nbgrader(folder: Path, *arguments: str) -> str:
    """Runs `run.py course …` as run.py starts it; returns what it says. Jupyter's own folders lie beside the course."""
    settings = {f"JUPYTER_{name}_DIR": str(folder.parent / "jupyter") for name in ("CONFIG", "DATA", "RUNTIME")}
    code = ("import sys; from pathlib import Path; from tools import course; "
            f"sys.exit(course.main(sys.argv[1:], Path({str(folder)!r})))")
    run = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600,
                         encoding="utf-8", env=os.environ | settings | {"IPYTHONDIR": str(folder.parent / "ipython")})
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def cut_notebook(folder: Path) -> Path:
    """A folder with a notebook that has a few of the cells of the real one."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{NAME}.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id in KEPT]
    assert {cell.id for cell in notebook.cells} >= KEPT - {"mask-exercise", "attention-exercise"}
    folder.mkdir()
    nbformat.write(notebook, folder / f"{NAME}.ipynb")
    return folder


def hand_in(folder: Path, who: str, texts: dict) -> None:
    """Puts what a student did into `submitted/`: the students' copy with the cells filled in."""
    notebook = nbformat.read(folder / "release" / NAME / f"{NAME}.ipynb", as_version=4)
    solved = nbformat.read(folder / "source" / NAME / f"{NAME}.ipynb", as_version=4)
    answers = {cell.id: cell.source for cell in solved.cells if student.is_exercise(cell)} | texts
    notebook.cells = [cell for cell in notebook.cells if answers.get(cell.id) is not DELETED]
    for cell in notebook.cells:
        if answers.get(cell.id):
            cell.source = answers[cell.id].replace("    ### BEGIN SOLUTION\n", "").replace("    ### END SOLUTION", "")
    path = folder / "submitted" / who / NAME / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """The folder of a course after all commands of the page have run."""
    tmp = tmp_path_factory.mktemp("a class")
    folder = tmp / "course"
    course.write(cut_notebook(tmp / "notebooks"), folder)
    (released, *rest) = [command for command in commands("marking.md") if "NAME" not in command]
    assert released[0] == "generate_assignment"
    nbgrader(folder, *released)
    for who, texts in HANDED_IN.items():
        hand_in(folder, who, texts)
    for command in rest:
        nbgrader(folder, *command)
    return folder


def rows(path: Path) -> list[dict]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_score_is_exactly_what_it_must_be(marked):
    assert {row["ID number"]: float(row[f"{NAME} (of 16)"]) for row in rows(marked / "moodle.csv")} == SCORES


def test_canvas_gets_the_maximum_in_its_second_row(marked):
    maximum, *students = rows(marked / "canvas.csv")
    assert list(maximum)[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    assert maximum["Student"].strip() == "Points Possible" and maximum[NAME] == "16"
    assert {row["SIS Login ID"]: float(row[NAME]) for row in students} == SCORES


@pytest.mark.parametrize("who", HANDED_IN)
def test_the_feedback_page_says_why(marked, who):
    page = (marked / "feedback" / who / NAME / f"{NAME}.html").read_text(encoding="utf-8")
    assert SENTENCES[who] in re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", page)))


def test_what_students_get_has_no_solution_no_hidden_test_and_does_not_show_the_packages_answer(marked):
    text = (marked / "release" / NAME / f"{NAME}.ipynb").read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    for word in ("SOLUTION", "HIDDEN", "more_questions", "show_source(", "softmax(-1)", "= minigpt.", "cumsum",
                 "For the teacher"):
        assert word not in text, word
    stubs = [cell for cell in notebook.cells if "raise NotImplementedError()" in cell.source]
    assert [cell.id for cell in stubs] == ["average-solution", "mask-solution", "attention-solution"]
    assert all(not cell.get("outputs") for cell in notebook.cells)


def test_a_course_in_which_somebody_works_stays(marked):
    before = {path: path.read_bytes() for path in marked.rglob("*") if path.is_file()}
    source = marked.parent / "notebooks" / f"{NAME}.ipynb"
    notebook = nbformat.read(source, as_version=4)
    notebook.cells[0].source += "\nA new sentence."
    nbformat.write(notebook, source)
    assert course.write(source.parent, marked) == ["nbgrader_config.py: up to date", f"{NAME}: left as it is: the class has it."]
    assert {path: path.read_bytes() for path in marked.rglob("*") if path.is_file()} == before


def test_the_exchange_carries_it_to_a_student_and_back(tmp_path):
    """Every command of the page about a hub, by one person in both parts."""
    folder, desk = tmp_path / "course", tmp_path / "desk"
    exchange = tmp_path / "exchange"
    exchange.mkdir(), exchange.chmod(0o777), desk.mkdir()
    course.write(cut_notebook(tmp_path / "notebooks"), folder)
    text = (ROOT / "docs" / "teaching" / "marking_hub.md").read_text(encoding="utf-8")
    settings = re.search(r"```\n(c = get_config\(\).*?)```", text, re.S)[1].replace("/srv/nbgrader/exchange", str(exchange))
    (tmp_path / "jupyter").mkdir()
    (tmp_path / "jupyter" / "nbgrader_config.py").write_text(settings)          # where /etc/jupyter is on a hub
    ours = commands("marking_hub.md")
    students = [shlex.split(line) for line in re.findall(r"^nbgrader (\w+ .*)$", text, re.M)]
    assert [command[0] for command in ours] == ["generate_assignment", "release_assignment", "collect", "autograde",
                                                "generate_feedback", "release_feedback"]
    assert [command[0] for command in students] == ["fetch_assignment", "submit"]
    for command in ours[:2]:
        nbgrader(folder, *command)
    for command in students:
        nbgrader(desk, *command)
    for command in ours[2:4]:
        nbgrader(folder, *command)
    assert len(list(folder.glob(f"autograded/*/{NAME}/{NAME}.ipynb"))) == 1


@pytest.mark.parametrize("exporter", [export.Moodle, export.Canvas])
def test_what_could_not_be_marked_is_no_0_and_is_named(tmp_path, monkeypatch, caplog, exporter):
    """Autograde leaves a damaged file in the gradebook without a mark."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)        # where nbgrader finds alembic
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as gradebook:
        gradebook.add_assignment(NAME)
        gradebook.add_notebook(NAME, NAME)
        gradebook.add_grade_cell("check", NAME, NAME, max_score=4, cell_type="code")
        for who, score in (("Ada", 0.0), ("Zoë", None)):
            gradebook.add_student(who)
            gradebook.add_submission(NAME, who)
            gradebook.find_grade("check", NAME, NAME, who).auto_score = score
            gradebook.find_grade("check", NAME, NAME, who).needs_manual_grade = score is None
        gradebook.db.commit()
        table = exporter(parent=None)
        table.to = str(tmp_path / "marks.csv")
        table.export(gradebook)
        before = (tmp_path / "marks.csv").read_bytes()
        table.export(gradebook)                 # in the place of earlier marks
        monkeypatch.setenv("HOME", str(tmp_path))
        table.to = "~/at home.csv"
        table.export(gradebook)
        assert (tmp_path / "at home.csv").read_bytes() == before
        for theirs in ("name,grade\nAda,1\n", "\n", '"' * 200_000):
            (tmp_path / "grades.csv").write_text(theirs)
            table.to = str(tmp_path / "grades.csv")
            with pytest.raises(SystemExit, match="grades.csv is there and holds no such marks, and is left as it is"):
                table.export(gradebook)
            assert (tmp_path / "grades.csv").read_text() == theirs
        table.to = str(tmp_path / "no folder" / "marks.csv")
        with pytest.raises(SystemExit, match="could not be written"):
            table.export(gradebook)
    marks = {"Zoë" in line: line.rpartition(",")[2] for line in before.decode().splitlines()[-2:]}
    assert marks == {False: "0", True: ""}
    assert [record.getMessage() for record in caplog.records if "not marked" in record.getMessage()]


# ------------------------------------------------------------------------------------------- the conversion, without nbgrader

@pytest.mark.parametrize("notebook", WITH_EXERCISES, ids=lambda notebook: notebook.cells[0].source[2:4])
def test_every_exercise_becomes_a_cell_and_two_tests_with_points(notebook):
    made = course.assignment(notebook)
    exercises = [cell.id for cell in notebook.cells if student.is_exercise(cell)]
    by_name = {cell.metadata.nbgrader.grade_id: cell for cell in made.cells if "nbgrader" in cell.metadata}
    assert len(by_name) == 3 * len(exercises) and len({cell.id for cell in made.cells}) == len(made.cells)
    for name in exercises:
        base = name.removesuffix("-solution")
        solution, check, more = (by_name[key] for key in (name, f"{base}-check", f"{base}-more"))
        assert solution.metadata.nbgrader.solution and not solution.metadata.nbgrader.locked and "check_" not in solution.source
        for test in (check, more):
            assert test.metadata.nbgrader.grade and test.metadata.nbgrader.locked and test.metadata.nbgrader.points in (2, 4, 6)
        assert re.fullmatch(r"check_\w+\(\w+\)", check.source)
        visible = re.sub(r"### BEGIN HIDDEN TESTS.*### END HIDDEN TESTS", "", more.source, flags=re.S).strip()
        assert visible.startswith("#") and "\n" not in visible and "more_questions(" in more.source
    nbformat.validate(made)


@pytest.mark.parametrize("notebook", WITH_EXERCISES, ids=lambda notebook: notebook.cells[0].source[2:4])
def test_no_cell_gives_an_answer_away_or_speaks_of_one_that_is_gone(notebook):
    for cell in course.assignment(notebook).cells:
        assert not course.shows_source(cell.source) and "passed(" not in cell.source
        if cell.cell_type == "markdown":
            assert not re.search(r"folded\s+cell\s+below|Skipped it\?\* below|For the teacher|\]\((?!https?:|#)", cell.source)


def test_a_source_that_the_teacher_changed_stays_and_one_that_nobody_has_is_renewed(tmp_path):
    notebooks = cut_notebook(tmp_path / "notebooks")
    folder = tmp_path / "course"
    assert course.write(notebooks, folder) == ["nbgrader_config.py: written", f"{NAME}: written"]
    assert course.write(notebooks, folder) == ["nbgrader_config.py: up to date", f"{NAME}: up to date"]
    path = folder / "source" / NAME / f"{NAME}.ipynb"
    mine = nbformat.read(path, as_version=4)
    mine.cells[0].source += "\nOur class."
    nbformat.write(mine, path)
    (folder / "nbgrader_config.py").write_text("c = get_config()\n")
    told = course.write(notebooks, folder)
    assert "with your changes" in told[0] and "with your work" in told[1]
    assert "Our class." in path.read_text(encoding="utf-8")


def test_a_course_of_which_nobody_reads_the_list_is_written_all_the_same(tmp_path):
    """As in `… | true`."""
    readable, pipe = os.pipe()
    os.close(readable)
    code = f"import sys; from pathlib import Path; from tools import course; sys.exit(course.main([], Path({str(tmp_path)!r})))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(pipe)
    assert (run.returncode, run.stderr) == (0, "")
    assert (tmp_path / "source" / NAME / f"{NAME}.ipynb").exists()


def test_nbgrader_before_there_is_a_course_is_told_so(tmp_path, capsys):
    assert course.main(["autograde", NAME], tmp_path / "course") == 1
    assert "There is no course in" in capsys.readouterr().err
