"""The road from a notebook to another language and back to a notebook that runs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from babel.messages.pofile import read_po, write_po
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.notebooks import store  # noqa: E402
from tools import translate  # noqa: E402

QUESTIONS = """[predictions.sum]
question = "What is 1 + 1?"
why = "Count."
[predictions.sum.answers]
two = true
three = "One too many."

[predictions.half]
question = "Half of 3?"
number = 1.5
why = "Cut it."
[predictions.half.tempting]
"2" = "Rounded."

[hints]
add = ["Use plus.", "`+`"]
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small notebook with its questions."""
    monkeypatch.setattr(translate, "QUESTIONS", tmp_path)
    (tmp_path / "small.toml").write_text(QUESTIONS, encoding="utf-8")
    cells = [new_markdown_cell("# Title\n\nOne paragraph.\n\n$$\nx\n\ny\n$$\n\n```python\na = 1\n\nb = 2\n```", id="opening"),
             new_code_cell('predict("small/sum")', id="sum"), new_code_cell("print('small/sum')", id="code")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "small.ipynb")
    return tmp_path


def translated(file: Path, words) -> None:
    """Fills in a PO file: every text as `words` makes it."""
    with open(file, "rb") as source:
        catalog = read_po(source)
    for message in catalog:
        if message.id:
            message.string = words(message.id)
    with open(file, "wb") as target:
        write_po(target, catalog)


def run(*arguments):
    return translate.main([str(argument) for argument in arguments])


def test_text_becomes_the_other_language_and_code_stays(small):
    assert run("extract", small / "small.ipynb", "de", small / "de.po") == 0
    translated(small / "de.po", lambda text: f"<{text}>")
    assert run("apply", small / "small.ipynb", small / "de.po", small / "small_de.ipynb") == 0
    opening, question, code = nbformat.read(small / "small_de.ipynb", as_version=4).cells
    assert opening.source == "<# Title>\n\n<One paragraph.>\n\n$$\nx\n\ny\n$$\n\n```python\na = 1\n\nb = 2\n```"
    assert question.source == 'predict("small_de/sum")' and code.source == "print('small/sum')"
    texts = tomllib.loads((small / "small_de.toml").read_text(encoding="utf-8"))
    assert texts["predictions"]["sum"] == {"question": "<What is 1 + 1?>", "why": "<Count.>",
                                           "answers": {"<two>": True, "<three>": "<One too many.>"}}
    assert texts["predictions"]["half"]["number"] == 1.5 and texts["predictions"]["half"]["tempting"] == {"2": "<Rounded.>"}
    assert texts["hints"]["add"] == ["<Use plus.>", "`+`"]


def test_what_is_not_translated_stays_english(small):
    run("extract", small / "small.ipynb", "de", small / "de.po")
    run("apply", small / "small.ipynb", small / "de.po", small / "small_de.ipynb")
    sources = [[cell.source for cell in nbformat.read(small / name, as_version=4).cells][0]
               for name in ("small.ipynb", "small_de.ipynb")]
    assert sources[0] == sources[1]


def test_a_changed_paragraph_is_looked_at_again_and_the_rest_is_kept(small, capsys):
    run("extract", small / "small.ipynb", "de", small / "de.po")
    translated(small / "de.po", lambda text: f"<{text}>")
    notebook = nbformat.read(small / "small.ipynb", as_version=4)
    notebook.cells[0].source = notebook.cells[0].source.replace("One paragraph.", "One paragraphs.")
    nbformat.write(notebook, small / "small.ipynb")
    run("extract", small / "small.ipynb", "de", small / "de.po")
    assert "11 texts, 10 of them translated" in capsys.readouterr().out.splitlines()[-1]
    run("apply", small / "small.ipynb", small / "de.po", small / "small_de.ipynb")
    source = nbformat.read(small / "small_de.ipynb", as_version=4).cells[0].source
    assert "<# Title>" in source and "One paragraphs." in source and "<One paragraph" not in source


@pytest.mark.parametrize("source", ["", "one", "a\n\nb", "\n\na\n\n\nb\n", "```\na\n\nb\n```\n\nc", "$$a\n\nb$$"])
def test_the_blocks_give_the_text_back(source):
    assert "".join(translate.blocks(source)) == source


@pytest.mark.parametrize("arguments", [("extract", "no.ipynb", "de", "de.po"), ("apply", "small.ipynb", "no.po", "out.ipynb"),
                                       ("apply", "small.ipynb", "small.toml", "out.ipynb")])
def test_a_file_that_cannot_be_read_is_named(small, monkeypatch, capsys, arguments):
    monkeypatch.chdir(small)
    assert run(*arguments) == 1
    assert next(name for name in ("no.ipynb", "no.po", "small.toml") if name in arguments) in capsys.readouterr().err
    assert not (small / "out.ipynb").exists()


def everything(folder: Path) -> dict:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(("out", "word"), [("small.ipynb", "has the name of the notebook"),
                                           ("elsewhere/small.ipynb", "has the name of the notebook"),
                                           ("other.ipynb", "questions of another notebook"), ("mine.ipynb", "is no translation"),
                                           ("notes.txt", "is no translation")])
def test_nothing_of_anybodys_is_written_over_by_a_translation(small, capsys, out, word):
    (small / "other.toml").write_text(QUESTIONS, encoding="utf-8")
    (small / "notes.txt").write_text("notes")
    shutil.copy(small / "small.ipynb", small / "mine.ipynb")
    run("extract", small / "small.ipynb", "de", small / "de.po")
    before = everything(small)
    assert run("apply", small / "small.ipynb", small / "de.po", small / out) == 1
    assert word in capsys.readouterr().err and everything(small) == before


def test_a_translation_is_made_again_also_once_it_is_stored(small):
    run("extract", small / "small.ipynb", "de", small / "de.po")
    for mark in ("<", "["):
        translated(small / "de.po", lambda text, mark=mark: mark + text)
        assert run("apply", small / "small.ipynb", small / "de.po", small / "small_de.ipynb") == 0
        notebook = nbformat.read(small / "small_de.ipynb", as_version=4)
        store.clean(notebook)
        nbformat.write(notebook, small / "small_de.ipynb")
    assert "[# Title" in (small / "small_de.ipynb").read_text() and "[Count." in (small / "small_de.toml").read_text()


def test_a_disk_that_is_full_leaves_the_translators_file_whole_and_is_a_sentence(small, monkeypatch, capsys):
    run("extract", small / "small.ipynb", "de", small / "de.po")
    translated(small / "de.po", lambda text: f"<{text}>")
    before = everything(small)
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert run("extract", small / "small.ipynb", "de", small / "de.po") == 1
    assert "de.po: No space left on device; the file that was there is unchanged" in capsys.readouterr().err
    assert run("apply", small / "small.ipynb", small / "de.po", small / "small_de.ipynb") == 1
    assert "small_de.ipynb: No space left on device" in capsys.readouterr().err
    assert everything(small) == before


@pytest.mark.parametrize("program", [["-m", "tools.translate"], ["tests/mutation.py"]])
def test_the_help_needs_no_docstrings(program):
    """Which `python -OO` takes out."""
    done = subprocess.run([sys.executable, "-OO", *program, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "usage" in done.stdout, done.stderr


def test_notebook_00_goes_the_whole_road_and_runs(tmp_path, monkeypatch):
    """In a made-up language, in which every letter e is an ë: what is not code, not a link and not a formula."""
    for name in ("minigpt", "data"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)          # by which the package knows that it lies in a clone
    monkeypatch.setattr(translate, "QUESTIONS", tmp_path / "minigpt" / "classroom" / "questions")
    kept = re.compile(r"(`[^`]*`|\]\([^)]*\)|\$[^$]*\$)")

    def words(text):
        return "".join(part if kept.fullmatch(part) else part.replace("e", "ë") for part in kept.split(text))

    source, file, out = ROOT / "notebooks" / "00_play.ipynb", tmp_path / "xx.po", tmp_path / "00_play_xx.ipynb"
    assert run("extract", source, "xx", file) == 0
    translated(file, words)
    assert run("apply", source, file, out) == 0
    notebook = nbformat.read(out, as_version=4)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "e" not in "".join(part for part in kept.split(prose) if not kept.fullmatch(part))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = "\n".join(output.data["text/html"] for cell in notebook.cells for output in cell.get("outputs", [])
                      if "text/html" in output.get("data", {}))
    assert "Two and two makë" not in shown and "tëmpëraturë" in shown, "the questions are translated, code in them is not"
