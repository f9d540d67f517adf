"""The teacher's guide and the notebooks are in step: cells are there, minutes add up, every question has its answer, and
what is made from the project is as the project makes it now."""

import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import guide  # noqa: E402

PAGES = {page.path.stem: page for page in guide.pages()}
LESSONS = {name: page for name, page in PAGES.items() if page.head}
SECTIONS = ("They will be able to", "They must know", "What the lesson looks like", "Minute by minute", "When time runs out",
            "If something fails", "On the board", "Predictions, and what to say", "Homework", "Exam questions")
ROW = re.compile(r"^\| (\d+) \| `([\w-]+)` \| *([^|]*?) *\| *([^|]*?) *\|$", re.M)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return found[1] if found else ""


def in_words(text: str) -> str:
    """What must agree on every machine: the words. A number in a check's sentence may differ in its last digit."""
    return re.sub(r"\d+(\.\d+)?", "#", text)


# ---- rules: each gives a list of complaints --------------------------------------------------------------------------

def the_minutes_add_up(lesson) -> list[str]:
    rows = ROW.findall(section(lesson.text, "Minute by minute"))
    total = sum(int(minutes) for minutes, *_ in rows)
    return [] if total == lesson.head["minutes"] else [f"{total} minutes, not {lesson.head['minutes']}"]


def its_cells_are_there_and_in_order(lesson) -> list[str]:
    ids = [cell.id for cell in lesson.cells]
    named = [cell for _, cell, *_ in ROW.findall(section(lesson.text, "Minute by minute"))]
    complaints = [f"no cell {cell}" for cell in named if cell not in ids]
    order = [ids.index(cell) for cell in named if cell in ids]
    return complaints + ([] if order == sorted(order) and len(set(order)) == len(order) else ["cells out of order"])


def the_class_sees_or_hears_something_in_every_row(lesson) -> list[str]:
    return [f"{cell}: nothing to see" for _, cell, sees, says in ROW.findall(lesson.text) if not (sees + says).strip()]


def every_question_for_the_class_has_its_answer(lesson) -> list[str]:
    complaints = []
    for cell in lesson.questions:
        block = re.search(rf"<!-- made: ask {cell} -->(?:(?!<!-- ).)*<!-- end -->\n\n\*Answer\.\* \S", lesson.text, re.S)
        complaints += [] if block else [f"{cell}: no answer"]
    asked = re.findall(r"<!-- made: ask ([\w-]+) -->", lesson.text)
    return complaints + [f"{cell}: no such question" for cell in asked if cell not in lesson.questions]


def it_has_three_exam_questions_with_answers(lesson) -> list[str]:
    exam = section(lesson.text, "Exam questions")
    questions = re.split(r"^\d\. ", exam, flags=re.M)[1:]
    complaints = [f"{len(questions)} exam questions"] if len(questions) != 3 else []
    return complaints + [f"no answer to {question[:40]}" for question in questions if "*Answer.* " not in question]


def it_has_every_section(lesson) -> list[str]:
    wanted = SECTIONS + (("Mistakes to expect",) if lesson.checks else ()) + (("Ask the class",) if lesson.questions else ())
    return [f"no {title}" for title in wanted if not section(lesson.text, title).strip()]


def it_says_what_to_do_without_projector_network_and_kernel(lesson) -> list[str]:
    advice = section(lesson.text, "If something fails")
    return [word for word in ("projector", "network", "kernel") if f" {word}" not in advice]


def its_predictions_and_mistakes_are_made(lesson) -> list[str]:
    wanted = ["predictions"] + (["checks"] if lesson.checks else [])
    return [kind for kind in wanted if f"<!-- made: {kind} -->" not in lesson.text]


def what_is_made_is_fresh(lesson) -> list[str]:
    return [] if in_words(guide.made(lesson)) == in_words(lesson.text) else ["run python -m tools.guide, and read the difference"]


def its_links_lead_somewhere(lesson) -> list[str]:
    return [link for link in LINK.findall(lesson.text)
            if not link.startswith("http") and not (lesson.path.parent / link).exists()]


RULES = (the_minutes_add_up, its_cells_are_there_and_in_order, the_class_sees_or_hears_something_in_every_row,
         every_question_for_the_class_has_its_answer, it_has_three_exam_questions_with_answers, it_has_every_section,
         it_says_what_to_do_without_projector_network_and_kernel, its_predictions_and_mistakes_are_made,
         what_is_made_is_fresh, its_links_lead_somewhere)


@pytest.mark.parametrize("name", LESSONS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_lesson_keeps_the_rule(name, rule):
    assert rule(LESSONS[name]) == []


def spoiled(old: str, new: str):
    def spoil(text):
        assert old in text, f"{old!r} is not there to be spoiled"
        return text.replace(old, new, 1)
    return spoil


BREAKS = [
    (the_minutes_add_up, spoiled("| 10 | `talk`", "| 11 | `talk`")),
    (its_cells_are_there_and_in_order, spoiled("| `limits` |", "| `no-such-cell` |")),
    (its_cells_are_there_and_in_order, spoiled("| `limits` |", "| `talk` |")),
    (the_class_sees_or_hears_something_in_every_row, lambda text: re.sub(r"(\| `limits` \|).*", r"\1  |  |", text)),
    (every_question_for_the_class_has_its_answer, spoiled("*Answer.* There is none", "There is none")),
    (every_question_for_the_class_has_its_answer, spoiled("made: ask limits-read", "made: ask no-such-cell")),
    (it_has_three_exam_questions_with_answers, spoiled("*Answer.* To lie", "To lie")),
    (it_has_three_exam_questions_with_answers, spoiled("\n3. ", "\n")),
    (it_has_every_section, spoiled("## Homework\n", "## At home\n")),
    (it_says_what_to_do_without_projector_network_and_kernel, spoiled("*The projector.*", "*The wall.*")),
    (its_predictions_and_mistakes_are_made, spoiled("<!-- made: predictions -->", "")),
    (what_is_made_is_fresh, spoiled("<!-- end -->", "by hand\n<!-- end -->")),
    (its_links_lead_somewhere, spoiled("(without_laptops.md)", "(gone.md)")),
]


@pytest.mark.parametrize(("rule", "spoil"), BREAKS, ids=[f"{rule.__name__}-{i}" for i, (rule, _) in enumerate(BREAKS)])
def test_the_rule_notices_a_break(rule, spoil):
    lesson = LESSONS["00_play"]
    assert rule(replace(lesson, text=spoil(lesson.text)))


def test_every_rule_has_a_break_that_it_notices():
    assert {rule for rule, _ in BREAKS} == set(RULES)


# ---- the guide as a whole ------------------------------------------------------------------------------------------------

def test_the_lessons_cover_every_notebook_once_and_from_end_to_end():
    taught = {}
    for name in sorted(LESSONS):
        lesson = LESSONS[name]
        taught.setdefault(lesson.head["notebook"], []).extend(cell.id for cell in lesson.cells)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert taught[path.stem] == [cell.id for cell in nbformat.read(path, as_version=4).cells], path.stem


def test_the_first_page_lists_every_lesson_with_its_minutes_and_every_other_page():
    text = PAGES["README"].text
    for name, lesson in LESSONS.items():
        assert re.search(rf"\]\({name}\.md\) \| {lesson.head['minutes']} \|", text), name
    for name in set(PAGES) - set(LESSONS) - {"README"}:
        assert f"({name}.md)" in text, name


@pytest.mark.parametrize("name", sorted(set(PAGES) - set(LESSONS)))
def test_the_other_pages_are_fresh_and_their_links_lead_somewhere(name):
    assert what_is_made_is_fresh(PAGES[name]) == [] and its_links_lead_somewhere(PAGES[name]) == []


@pytest.mark.parametrize(("name", "title", "minutes"), [
    ("plans", "Ninety minutes", 90), ("without_laptops", "First lesson: it talks", 45),
    ("without_laptops", "Second lesson: attention with people", 45)])
def test_the_minutes_of_a_plan_add_up(name, title, minutes):
    rows = re.findall(r"^\| (\d+) \|", section(PAGES[name].text, title), re.M)
    assert sum(map(int, rows)) == minutes


def test_a_plan_names_cells_of_the_lesson_that_it_links_to():
    for link, words in re.findall(r"\]\((\w+)\.md\)(.*?) \|$", section(PAGES["plans"].text, "Ninety minutes"), re.M):
        ids = {cell.id for cell in LESSONS[link].cells}
        assert set(re.findall(r"`([\w-]+)`", words)) <= ids, link


def test_the_readme_leads_to_the_guide():
    assert "docs/teaching/README.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_notebook_leads_to_its_pages():
    missing = [lesson.path.name for lesson in LESSONS.values() if f"docs/teaching/{lesson.path.name}" not in opening(lesson)]
    assert missing == []


def opening(lesson) -> str:
    return nbformat.read(ROOT / "notebooks" / f"{lesson.head['notebook']}.ipynb", as_version=4).cells[0].source


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_ends_with_its_licence(path):
    prose = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    last = prose[-1].strip().splitlines()[-1]
    assert "CC BY 4.0" in last and "MIT" in last


# ---- the sketches and the dice ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", guide.SKETCHES)
def test_a_sketch_is_as_the_code_draws_it_now(name):
    stored, drawn = (numpy.asarray(Image.open(file).convert("L"), dtype=float)
                     for file in (guide.GUIDE / "sketches" / f"{name}.png", io.BytesIO(guide.png(name))))
    assert stored.shape == drawn.shape and abs(stored - drawn).mean() < 1      # of 255: another system may smooth otherwise


def test_every_sketch_is_on_a_page():
    assert {name for page in PAGES.values() for name in re.findall(r"made: sketch (\w+)", page.text)} == set(guide.SKETCHES)


@pytest.mark.parametrize("temperature", [0.3, 0.5, 1.0, 2.0, 7.0])
def test_the_dice_draw_with_the_models_probabilities(temperature):
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0])
    counts = guide.shares(logits, temperature)
    assert sum(counts) == 36
    exact = (logits / temperature).softmax(-1) * 36
    assert all(abs(count - wanted) < 1 for count, wanted in zip(counts, exact.tolist()))


def test_the_answer_about_the_finished_code_of_05_speaks_of_what_the_notebook_shows():
    page = LESSONS["05_bug_hunt"]
    sources = "\n".join(cell.source for cell in page.cells if cell.cell_type == "code")
    shown = set(re.findall(r"^show_source\((?:\w+\.)*(\w+)\)", sources, re.M))
    answer = re.search(r"ask finished-intro.*?\*Answer\.\* (.*?)\n", page.text, re.S)[1]
    assert {name for name in re.findall(r"`(\w+)`:", answer)} == shown
    experiments = dict(re.findall(r"^\| (\d+) \| [^|]+ \| [^|]+ \| ([^|]+) \|$", "\n".join(
        cell.source for cell in page.cells if cell.id == "recap"), re.M))
    for number, reason in re.findall(r"(\d+) \(([^)]+)\)", answer):        # each reason shares a word with the notebook's cause
        assert set(re.findall(r"\w{4,}", reason)) & set(re.findall(r"\w{4,}", experiments[number])), (number, reason)
