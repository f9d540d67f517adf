"""Every notebook, as it is stored, keeps the rules of `rules.py`; and every rule notices what it is there for."""

import importlib.util
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).parents[2]
specification = importlib.util.spec_from_file_location("minigpt_notebook_rules", Path(__file__).with_name("rules.py"))
rules = importlib.util.module_from_spec(specification)
specification.loader.exec_module(rules)

NAMES = ("00_play", "01_tokenizer", "02_attention", "03_model", "04_training_and_sampling", "05_bug_hunt",
         "06_real_model")


@pytest.fixture(scope="module", params=NAMES)
def path(request):
    return ROOT / "notebooks" / f"{request.param}.ipynb"


@pytest.fixture(scope="module")
def notebook(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_there_are_seven_notebooks():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_notebook_keeps_the_rule(notebook, rule):
    assert rule(notebook) == []


def test_its_links_resolve(notebook, path):
    assert rules.links_resolve(notebook, path.parent) == []


def test_it_has_at_least_four_exercises(notebook, path):
    assert path.stem == "00_play" or len(rules.exercises(notebook)) >= 4


def test_its_card_and_the_readme_name_the_same_minutes(notebook, path):
    """One student alone needs them; what stands in the headings is a part of them."""
    card = re.search(r"\*\*Minutes\*\* (\d+(?: to \d+)?) for one person", notebook.cells[0].source).group(1)
    row = next(line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
               if line.startswith(f"| [{path.stem}]"))
    assert row.split("|")[3].strip() == card
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = sum(int(n) for n in re.findall(r"^#{2,4} .*?(\d+) minutes?\b", text, re.M))
    assert headings <= int(card.split()[-1])


def test_it_stays_small_enough_to_review(path):
    assert path.stat().st_size < 2_500_000


# The rules themselves: a small notebook that keeps them all, and one break for each.

SOLUTION = """def my_add(a, b):
    ### BEGIN SOLUTION
    return a + b
    ### END SOLUTION

check_add(my_add)"""
SKIPPED = """# Skipped it? Run this cell, and go on with the package's.
if not passed("my_add"):
    my_add = add"""
PICTURE = '<img alt="one bar" src="data:image/png;base64,aaaa">'


def shown(lines: int) -> str:
    body = "    a = 1\n" * (lines - 1)
    return f'**add.py**\n\n```python\ndef add():\n    """Adds."""\n{body}```'


def good():
    cells = [
        ("opening", new_markdown_cell("# Title\n\nYou will be able to add. 5 minutes. You need nothing.")),
        ("imports", new_code_cell("import minigpt\nfrom minigpt.classroom import hints")),
        ("picture", new_code_cell("show()", outputs=[new_output("display_data", {"text/html": PICTURE})])),
        ("turn", new_markdown_cell("## Your turn · 5 minutes · ●●○\n\nSee [above](#Title), [tests](test_notebook_files.py).")),
        ("add-solution", new_code_cell(SOLUTION, metadata={"jupyter": {"source_hidden": True}})),
        ("add-hints", new_code_cell('hints("small/add")')),
        ("add-skipped", new_code_cell(SKIPPED, metadata={"jupyter": {"source_hidden": True}, "tags": ["skipped"]})),
        ("add-agree", new_code_cell('assert my_add(1, 1) == 2, "look at the sign"')),
        ("source", new_code_cell("show_source(add)", outputs=[new_output("display_data", {"text/markdown": shown(5)})])),
        ("time", new_code_cell("print(seconds)", metadata={"tags": ["nbval-ignore-output"]})),
        ("band", new_code_cell("assert 0 < seconds < 9")),
        *[(f"more-{'abcd'[i]}", new_code_cell(f"print({i})")) for i in range(4)],
        ("recap", new_markdown_cell("## Recap\n\n| If you see | it means |\n|---|---|\n| `NameError` | run it |")),
    ]
    count = 0
    for name, cell in cells:
        cell.id = name
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
    return new_notebook(cells=[cell for _, cell in cells])


def cell(notebook, name):
    return next(cell for cell in notebook.cells if cell.id == name)


def put(name, key, value):
    return lambda notebook: cell(notebook, name).__setitem__(key, value)


def show(html, kind="text/html"):
    return put("picture", "outputs", [new_output("display_data", {kind: html})])


BREAKS = [
    ("it_was_run_in_order", put("band", "execution_count", 3)),
    ("it_was_run_in_order", put("band", "execution_count", None)),
    ("no_cell_ended_in_an_error", put("band", "outputs", [new_output("error", ename="NameError", evalue="x")])),
    ("no_cell_ended_in_an_error", put("band", "outputs", [new_output("stream", name="stderr", text="Warning")])),
    ("widgets_left_no_state", lambda notebook: notebook.metadata.update(widgets={})),
    ("widgets_left_no_state", show({"model_id": "1"}, rules.WIDGET_VIEW)),
    ("outputs_hold_nothing_that_runs", show("<p><script>alert(1)</script>")),
    ("outputs_hold_nothing_that_runs", show('<img alt="a" src="data:x" onerror="alert(1)">')),
    ("outputs_hold_nothing_that_runs", show('<a href=" JavaScript:alert(1)">a</a>')),
    ("outputs_hold_nothing_that_runs", show("alert(1)", "application/javascript")),
    ("nothing_is_fetched", show('<img alt="a" src="https://example.org/a.png">')),
    ("nothing_is_fetched", show("<p style=\"background: url('//example.org/a.png')\">a</p>")),
    ("nothing_is_fetched", put("turn", "source", "## A\n![words](https://example.org/a.png)")),
    ("no_path_of_a_machine", put("band", "source", "assert open('/home/me/x')")),
    ("no_path_of_a_machine", put("band", "outputs", [new_output("stream", text="saved /tmp/x.json")])),
    ("ids_are_words_and_unique", put("band", "id", "time")),
    ("ids_are_words_and_unique", put("band", "id", "a1b2c3d4")),
    ("headings_nest", put("recap", "source", "#### Recap")),
    ("headings_nest", put("recap", "source", "# Recap")),
    ("pictures_have_words", show('<img src="data:image/png;base64,aaaa">')),
    ("pictures_have_words", show("aaaa", "image/png")),
    ("pictures_have_words", put("turn", "source", "## A\n![](picture.png)")),
    ("most_cells_are_short", lambda notebook: [c.update(source="a\n" * 13) for c in notebook.cells[-4:-1]]),
    ("code_fits_the_screen", put("band", "source", f"assert {'0 + ' * 25}seconds")),
    ("shown_source_is_short", lambda notebook: put("source", "outputs", [
        new_output("display_data", {"text/markdown": shown(40)})])(notebook)),
    ("agreement_cells_say_where_to_look", put("add-agree", "source", "assert my_add(1, 1) == 2")),
    ("agreement_cells_say_where_to_look", put("band", "source", "assert_close(seconds, 3)\nassert seconds")),
    ("a_name_means_one_thing", lambda notebook: [put(one, "source", "total = 1")(notebook) for one in ("more-a", "more-b")]),
    ("questions_stand_in_their_file", put("add-hints", "source", "hints('add', 'plus')")),
    ("a_skipped_cell_stands_in_for_an_exercise", put("add-skipped", "source", SKIPPED.replace("my_add", "my_sum"))),
    ("a_skipped_cell_stands_in_for_an_exercise", put("add-skipped", "metadata", {"tags": ["skipped"]})),
    ("who_skips_an_exercise_can_go_on", lambda notebook: notebook.cells.remove(cell(notebook, "add-skipped"))),
    ("what_the_text_calls_is_imported", put("turn", "source", "## Your turn · 5 minutes · ●●○\n\nCall `predictions()`.")),
    ("it_opens_and_closes_as_the_others", put("opening", "source", "# Title\n\nYou will be able to add. You need it.")),
    ("it_opens_and_closes_as_the_others", put("recap", "source", "## Recap")),
    ("nearly_all_outputs_are_compared", put("band", "source", "print(seconds)")),
    ("nearly_all_outputs_are_compared", put("picture", "metadata", {"tags": ["nbval-ignore-output"]})),
    ("nearly_all_outputs_are_compared", put("more-a", "metadata", {"tags": ["nbval-skip"]})),
    ("exercises_are_complete", put("turn", "source", "## Your turn")),
    ("exercises_are_complete", put("add-hints", "source", "print()")),
    ("exercises_are_complete", put("add-solution", "metadata", {})),
    ("exercises_are_complete", put("add-solution", "source", "### BEGIN SOLUTION\n### END SOLUTION")),
    ("nothing_is_pasted_from_the_package", lambda notebook: put("band", "source", pasted())(notebook)),
]


def pasted() -> str:
    import inspect

    import minigpt
    return inspect.getsource(minigpt.causal_mask)


def test_the_small_good_notebook_keeps_every_rule(tmp_path):
    notebook = good()
    nbformat.validate(json.loads(nbformat.writes(notebook)), version=4)
    assert {rule.__name__: rule(notebook) for rule in rules.RULES if rule(notebook)} == {}
    assert rules.links_resolve(notebook, Path(__file__).parent) == []


@pytest.mark.parametrize(("rule", "spoil"), BREAKS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(BREAKS)])
def test_the_rule_notices_a_break(rule, spoil):
    notebook = good()
    spoil(notebook)
    assert getattr(rules, rule)(notebook)


def test_every_rule_has_a_break_that_it_notices():
    assert {rule.__name__ for rule in rules.RULES} == {name for name, _ in BREAKS}


@pytest.mark.parametrize("source", ["[gone](no_such_file.py)", "[gone](#Nowhere)", '<a href="gone.md">'])
def test_a_broken_link_is_noticed(source):
    notebook = good()
    put("turn", "source", source)(notebook)
    assert rules.links_resolve(notebook, Path(__file__).parent)
