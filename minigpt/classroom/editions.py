"""What the students' copies (`student.py`) of `notebooks/` and the teacher's (`teach.py`) share.

Their outputs are cleared, so that a prediction is one. Each copy remembers which edition it is and
with which cells it was written: so one that nobody has touched can be renewed when its notebook
changes, nobody's work is ever written over, and no other notebook is touched.
"""

import argparse
import copy
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat

from minigpt import corpus
from minigpt.console import say, sentence, typed_folder
from minigpt.files import read_ordinary, write_atomically

# edition(notebook) makes a copy; renewed(there, fresh) says what becomes of the one that is there,
# given a fresh one.
Edition = Callable[[nbformat.NotebookNode], nbformat.NotebookNode]
Renewed = Callable[[nbformat.NotebookNode, nbformat.NotebookNode], nbformat.NotebookNode]

# What a Python kernel says of itself. ipykernel is not asked: where it is imported, tqdm takes the
# process for a notebook.
PYTHON = {"name": "python", "version": platform.python_version(), "mimetype": "text/x-python",
          "codemirror_mode": {"name": "ipython", "version": 3}, "pygments_lexer": "ipython3",
          "nbconvert_exporter": "python", "file_extension": ".py"}
NOT_OURS = "left alone"


def without_outputs(notebook):
    """A copy of `notebook` in which no cell has run.

    It says which Python its kernel is: JupyterLab would write that in, and so mark a notebook that
    was only opened as changed.
    """
    notebook = copy.deepcopy(notebook)
    notebook.metadata["language_info"] = nbformat.from_dict(PYTHON)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def has_run(notebook) -> bool:
    """Whether any cell shows that it ran."""
    return any(cell.outputs or cell.execution_count
               for cell in notebook.cells if cell.cell_type == "code")


def mark(notebook) -> dict:
    """What a copy remembers of itself: its `edition`, and its `cells`. Empty for what is no copy.
    """
    found = notebook.metadata.get("minigpt")
    return found if isinstance(found, dict) else {}


def as_written(notebook) -> bool:
    """Whether the cells are still those that the copy was written with, whatever they put out."""
    return mark(notebook).get("cells") == fingerprint(notebook)


def same_edition(there, fresh) -> bool:
    """Whether the notebook that is there is an earlier copy of the same edition.

    Older copies do not say which edition they are. They count where nothing is lost with them, and
    where their cells tell.
    """
    if "edition" in mark(there) or "cells" not in mark(there):
        return mark(there).get("edition") == mark(fresh)["edition"]
    same_cells = mark(there)["cells"] == mark(fresh)["cells"]
    return as_written(there) and (same_cells or not has_run(there))


def fingerprint(notebook) -> str:
    """Changes with the kind, the order and the text of the cells."""
    cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def write_copies(name: str, edition: Edition, renewed: Renewed, source: Path,
                 target: Path) -> list[str]:
    """Writes the `edition` of each notebook in `source` into `target`; returns a line about each.

    `name` is what its copies remember. Raises FileNotFoundError where `source` has no notebooks,
    ValueError where `target` is the same folder, OSError naming what can't be written or is no
    folder.
    """
    paths = sorted(source.glob("*.ipynb"))
    if not paths:
        raise FileNotFoundError(f"there are no notebooks in {source}")
    _make_folder(target)
    if target.samefile(source):
        raise ValueError(f"{target} is the folder of the notebooks themselves: name another one")
    return [f"{path.name}: {write_copy(name, edition(_read(path)), renewed, target / path.name)}"
            for path in paths]


def _make_folder(path: Path) -> None:
    for place in (path, *path.parents):
        if os.path.lexists(place) and not os.path.isdir(place):
            raise NotADirectoryError(f"{place} is there and is no folder: name another one")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make the folder {path}: {error.strerror}"
        raise type(error)(error.errno, message) from error


def write_copy(name: str, fresh, renewed: Renewed, path: Path) -> str:
    """Writes the copy `fresh` to `path`, or what `renewed` makes of the one there; says which."""
    fresh.metadata["minigpt"] = {"edition": name, "cells": fingerprint(fresh)}
    new, told = fresh, "written"
    if path.exists():
        there = _read_any(path)
        if there is None:
            return "left as it is, and it is no notebook. Rename it to get a fresh copy."
        if not same_edition(there, fresh):
            return f"{NOT_OURS}: it is {_whose(there)}. Rename it to get a fresh copy."
        new = renewed(there, fresh)
        if new == there:
            return ("up to date" if new == fresh
                    else "left as it is, with your work. Rename it to get a fresh copy.")
        if new != fresh:
            told = "outputs cleared, your changes kept. Rename it to get a fresh copy."
    write_atomically(path, (nbformat.writes(new) + "\n").encode())
    return told


def _whose(there) -> str:
    edition = mark(there).get("edition")
    return f"a copy of another kind ({edition})" if edition else "no copy that this has written"


def _read(path: Path):
    return nbformat.read(path, as_version=4)


def _read_any(path: Path):
    """The notebook in a file that anybody may have written; None where it is none.

    Raises OSError where the file can't be read.
    """
    content = read_ordinary(path, "notebook")
    try:
        notebook = nbformat.convert(nbformat.reader.reads(content.decode()), to_version=4)
        return notebook if _has_its_parts(notebook) else None
    except Exception:       # nbformat raises whatever it stumbles over, also RecursionError
        return None


def _has_its_parts(notebook) -> bool:
    """Whether all is there that is read here. What else a program has put in, its schema or not, is
    no matter. Raises AttributeError where a part is missing.
    """
    return isinstance(notebook.metadata, dict) and isinstance(notebook.cells, list) and all(
        isinstance(cell.metadata, dict) and isinstance(cell.cell_type, str)
        and isinstance(cell.source, str)
        and (cell.cell_type != "code" or isinstance(cell.outputs, list)
             and isinstance(cell.execution_count, int | None)) for cell in notebook.cells)


def main(write: Callable[[Path, Path], list[str]], name: str, title: str) -> int:
    """The command line of both: writes the copies, says what became of each, returns the status."""
    parser = argparse.ArgumentParser(prog=f"python -m minigpt.classroom.{name}",
                                     description=f"Write {title}.")
    parser.add_argument("folder", nargs="?", type=typed_folder, default=Path(name),
                        help=f"where to write (default: {name})")
    target = parser.parse_args().folder
    try:
        notebooks = corpus.data_folder().with_name("notebooks")     # what ships lies side by side
        told = write(notebooks, target)
    except (OSError, ValueError) as error:
        print(f"{title} could not be written: {sentence(error)}", file=sys.stderr)
        return 1
    say("\n".join(told))
    if all(NOT_OURS in line for line in told):
        print(f"{title} were not written: {target.resolve()} has other notebooks. Name another "
              "folder.", file=sys.stderr)
        return 1
    say(f"{title} are in {target.resolve()}")
    return 0
