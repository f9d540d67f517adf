"""The book: notebooks, guide and reference as a web site that is read without Python and without a network.

    python -m tools.book [FOLDER]           (python3 run.py book; FOLDER is book/ where none is given)

The pages are gathered in a folder of their own, in the places that they have in the repository, so that a link leads to
the same page here and there. The README is the first page. Of a notebook are folded: solutions, and the cells that only
ask a question. Then Sphinx does the rest: docs/conf.py says how.
"""

import argparse
import os
import pkgutil
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from sphinx.cmd.build import build_main

import minigpt
from minigpt.console import say, sentence, typed_folder
from tools.folders import LITTER, made_anew, others_work, read_list, some, write_list

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "data/README.md", "tests/README.md")
LINKED = ("LICENSE", "LICENSE-TEXT", "CITATION.cff")         # what a page links to, and is no page
MARKER = ".minigpt-book"     # in every book, a list of its files: nothing else is replaced by one
CONTENTS = """

```{toctree}
:hidden:
:caption: The notebooks

%(notebooks)s
```

```{toctree}
:hidden:
:caption: Teach with it

%(guide)s
docs/deploy
```

```{toctree}
:hidden:
:caption: The package

%(reference)s
```

```{toctree}
:hidden:
:caption: Look things up

docs/model_card
data/README
benchmarks/README
docs/accessibility
CONTRIBUTING
tests/README
CHANGELOG
```
"""


class NotMade(RuntimeError):
    """Sphinx did not make the pages; it has said why, and `code` is its exit code."""

    def __init__(self, code: int):
        super().__init__("the book was not made")
        self.code = code


def gather(source: Path) -> None:
    """Everything that the book is made of, in the folder `source`."""
    shutil.copytree(ROOT / "docs", source / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conf.py", "_static"):
        shutil.move(source / "docs" / name, source / name)
    for name in (*PAGES, *LINKED):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    minigpt.GPT.pretrained().save_page(source / "play.html", title="A GPT that has read Jane Austen")
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    (source / "notebooks").mkdir()
    for notebook in notebooks:
        nbformat.write(folded(nbformat.read(notebook, as_version=4)), source / "notebooks" / notebook.name)
    contents = CONTENTS % {
        "notebooks": "\n".join(f"notebooks/{notebook.stem}" for notebook in notebooks),
        "guide": "\n".join(f"docs/teaching/{page}" for page in guide_pages()),
        "reference": "\n".join(f"reference/{name}" for name in write_reference(source / "reference"))}
    first = (ROOT / "README.md").read_text(encoding="utf-8").replace("`play.html`", '<a href="play.html">play.html</a>')
    (source / "index.md").write_text(first + contents, encoding="utf-8")
    for page in source.rglob("*.md"):
        page.write_text(to_the_first_page(page.read_text(encoding="utf-8")), encoding="utf-8")


def guide_pages() -> list[str]:
    """The pages of the teacher's guide, the first one first, then the lessons, then the others."""
    names = [path.stem for path in (ROOT / "docs" / "teaching").glob("*.md")]
    return sorted(names, key=lambda name: (name != "README", not name[0].isdigit(), name))


def folded(notebook):
    """The notebook with what JupyterLab folds folded here too: solutions, and cells that only ask a question."""
    for cell in notebook.cells:
        if cell.metadata.get("jupyter", {}).get("source_hidden") or re.match(r"(predict|hints)\(", cell.source):
            cell.metadata.setdefault("tags", []).append("hide-input")
    return notebook


def to_the_first_page(text: str) -> str:
    """Links to the main README, which is the first page here and so has another name."""
    return re.sub(r"\]\(((?:\.\./)*)README\.md(#[\w-]*)?\)", r"](\1index.md\2)", text)


def write_reference(folder: Path) -> list[str]:
    """A page for each module of the core; the words are the modules' own. Returns their names."""
    folder.mkdir()
    names = [module.name for module in pkgutil.iter_modules(minigpt.__path__) if not module.ispkg and module.name[0] != "_"]
    for name in names:
        title = f"minigpt.{name}"
        (folder / f"{name}.rst").write_text(f"{title}\n{'=' * len(title)}\n\n.. automodule:: {title}\n", encoding="utf-8")
    return names


def build(out: Path) -> None:
    """Makes the book in `out`, in place of what was there, or leaves that as it is.

    Raises OSError naming `out` where it cannot be written, before the work, and NotMade where Sphinx fails.
    """
    with made_anew(out) as new, tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.mkdir()
        gather(source)
        code = build_main(["-q", "-W", "--keep-going", "-d", str(Path(folder, "doctrees")), str(source), str(new)])
        if code:
            raise NotMade(code)
        write_list(new, MARKER)
        if refused := refusal(out):                 # somebody may have put something there meanwhile
            raise FileExistsError(refused)


def refusal(out: Path) -> str:
    """Why no book is made in `out`; "" where one can be."""
    if out.exists() and read_list(out, MARKER) is None:
        return f"{out} exists and is no book made by this: it is left alone. Delete it yourself, or choose another folder."
    if out.exists() and (work := others_work(out, MARKER, LITTER)):
        return f"{out} holds what is no part of the book ({some(work)}): it is left alone. Move that, or choose another folder."
    return ""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py book", description="Make the web site of the notebooks, the guide and the "
                                     "reference, to be read without Python and without a network.")
    parser.add_argument("folder", nargs="?", type=typed_folder, default=ROOT / "book", help="where to make it (default: book)")
    try:
        out = Path(os.path.realpath(parser.parse_args(arguments).folder))
        if refused := refusal(out):
            print(refused, file=sys.stderr)
            return 1
        build(out)
    except NotMade as error:
        print("The book was not made: Sphinx says why above.")
        return error.code
    except OSError as error:
        print(f"The book was not made: {sentence(error)}", file=sys.stderr)
        return 1
    say(f"The book is in {out}: open {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
