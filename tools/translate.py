"""A notebook into another language, by way of a PO file, which every translator's editor opens.

    python -m tools.translate extract notebooks/00_play.ipynb de 00_play.de.po
    python -m tools.translate apply notebooks/00_play.ipynb 00_play.de.po notebooks/00_play_de.ipynb

`extract` keeps what a PO file of that name has already: what is still in the notebook stays, what was changed is marked
"fuzzy" for a second look. `apply` writes the notebook with what is translated, and leaves the rest in English; then
store it like any other (`python -m tests.notebooks.store`).

Translated are the text of the notebook, paragraph by paragraph, and its questions and hints, which stand in
minigpt/classroom/questions. Code, what code prints, the checks' sentences and the labels of the widgets stay English.
"""

import argparse
import io
import re
import sys
import tomllib
from pathlib import Path

import nbformat
import tomli_w
from babel.messages.catalog import Catalog
from babel.messages.pofile import PoFileError, read_po, write_po

from minigpt.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = ROOT / "minigpt" / "classroom" / "questions"
FENCED = re.compile(r"^(`{3,}|~{3,}|\$\$).*?^\1", re.M | re.S)
NAMES = {"number", "tolerance"}         # in a question, what is no text


class Unreadable(ValueError):
    """A file that is not what it should be; says which, and what is wrong."""


class Taken(ValueError):
    """A name at which something else is, that would be lost."""


def blocks(source: str) -> list[str]:
    """A Markdown text as paragraphs and the white space between them: "".join gives it back."""
    inside = [range(*found.span()) for found in FENCED.finditer(source)]
    pieces, start = [], 0
    for gap in re.finditer(r"\n{2,}", source):
        if not any(gap.start() in span for span in inside):
            pieces += [source[start:gap.start()], gap.group()]
            start = gap.end()
    return [*pieces, source[start:]]


def has_words(block: str) -> bool:
    """Whether there is anything to translate: a formula alone, or a picture's rule, has nothing."""
    return bool(re.search(r"[^\W\d_]{2,}", FENCED.sub("", block)))


def strings(value, path: tuple[str, ...] = ()):
    """The texts in a questions file, (path, text): also the options of a question, which are keys there."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from strings(item, (*path, str(i)))
    elif isinstance(value, dict):
        for key, item in value.items():
            if path[-1:] == ("answers",):
                yield (*path, key, "option"), key
            if key not in NAMES:
                yield from strings(item, (*path, key))


def with_strings(value, translated, path: tuple[str, ...] = ()):
    """The same file with `translated(path, text)` in place of every text."""
    if isinstance(value, str):
        return translated(path, value)
    if isinstance(value, list):
        return [with_strings(item, translated, (*path, str(i))) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    options = path[-1:] == ("answers",)
    return {translated((*path, key, "option"), key) if options else key:
            item if key in NAMES else with_strings(item, translated, (*path, key)) for key, item in value.items()}


def read_notebook(path: Path):
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise Unreadable(f"{path} is not a notebook that can be read: {error}") from None


def read_questions(name: str) -> dict:
    """The questions of a notebook, or none."""
    file = QUESTIONS / f"{name}.toml"
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise Unreadable(f"{file} does not hold questions that can be read: {error}") from None


def read_catalog(path: Path) -> Catalog:
    try:
        with open(path, "rb") as file:
            return read_po(file, abort_invalid=True)
    except (OSError, ValueError, PoFileError) as error:
        raise Unreadable(f"{path} is not a PO file that can be read: {error}") from None


def messages(notebook, questions: dict):
    """(context, text) of everything that a translator gets. The context is a cell's id, or a question's key."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield from ((cell.id, block) for block in blocks(cell.source) if has_words(block))
    yield from ((".".join(path), text) for path, text in strings(questions) if has_words(text))


def extract(notebook: Path, language: str, file: Path) -> str:
    """Writes the PO file of a notebook; says how much of it is there to do."""
    catalog = read_catalog(file) if file.exists() else Catalog(locale=language, project="minigpt", fuzzy=False)
    template = Catalog()
    for context, text in messages(read_notebook(notebook), read_questions(notebook.stem)):
        template.add(text, context=context, locations=[(notebook.name, 0)])
    catalog.update(template)
    content = io.BytesIO()
    write_po(content, catalog, width=100, include_lineno=False)
    write_atomically(file, content.getvalue())
    done = sum(bool(message.string) and not message.fuzzy for message in catalog if message.id)
    return f"{file}: {len(template)} texts, {done} of them translated"


def apply(notebook: Path, file: Path, out: Path) -> str:
    """Writes the translated notebook, without outputs, and its questions under its own name."""
    catalog, translated, questions = read_catalog(file), read_notebook(notebook), read_questions(notebook.stem)
    check_free(notebook, out)

    def words(context: str, text: str) -> str:
        message = catalog.get(text, context=context)
        return message.string if message and message.string and not message.fuzzy else text

    for cell in translated.cells:
        if cell.cell_type == "markdown":
            cell.source = "".join(words(cell.id, block) for block in blocks(cell.source))
        else:
            cell.outputs, cell.execution_count = [], None
            cell.source = re.sub(rf'^(predict|hints)\("{notebook.stem}/', rf'\1("{out.stem}/', cell.source, flags=re.M)
    translated.metadata["minigpt"] = {"translated": notebook.stem}
    write_atomically(out, (nbformat.writes(translated) + "\n").encode())
    if questions:
        texts = with_strings(questions, lambda path, text: words(".".join(path), text))
        write_atomically(questions_file(out), (heading(notebook) + tomli_w.dumps(texts)).encode())
    return f"{out}: written; run it once with: python -m tests.notebooks.store {out}"


def check_free(notebook: Path, out: Path) -> None:
    """Raises Taken unless `out`, and the file of its questions, are new, or an earlier translation of this notebook."""
    if out.stem == notebook.stem:
        raise Taken(f"{out} has the name of the notebook that it is made from: choose another name")
    if out.exists() and translation_of(out) != notebook.stem:
        raise Taken(f"{out} is there, and is no translation of {notebook.stem}: choose another name")
    file = questions_file(out)
    if file.exists() and not file.read_text(encoding="utf-8").startswith(heading(notebook)):
        raise Taken(f"{file} is there, and holds the questions of another notebook: choose another name than {out.name}")


def translation_of(out: Path) -> str | None:
    """The name of the notebook that `out` is a translation of, if it is one."""
    try:
        found = read_notebook(out).metadata.get("minigpt")
    except Unreadable:
        return None
    return found.get("translated") if isinstance(found, dict) else None


def questions_file(notebook: Path) -> Path:
    return QUESTIONS / f"{notebook.stem}.toml"


def heading(notebook: Path) -> str:
    """The first line of translated questions."""
    return f"# Translated from {notebook.stem}.toml by tools/translate.py: change the PO file, and not this.\n\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.translate", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    extracting = commands.add_parser("extract", help="notebook -> PO file")
    extracting.add_argument("notebook", type=Path)
    extracting.add_argument("language", help="such as de or pt_BR")
    extracting.add_argument("file", type=Path)
    applying = commands.add_parser("apply", help="notebook and PO file -> notebook")
    applying.add_argument("notebook", type=Path)
    applying.add_argument("file", type=Path)
    applying.add_argument("out", type=Path)
    given = vars(parser.parse_args(arguments))
    command = {"extract": extract, "apply": apply}[given.pop("command")]
    try:
        told = command(**given)
    except (Unreadable, Taken, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
