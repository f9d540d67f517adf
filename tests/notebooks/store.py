"""Runs notebooks from top to bottom and stores what they show, clean.

    python -m tests.notebooks.store notebooks/01_tokenizer.ipynb ...

What is stored is what strict `pytest --nbval` compares, so this is run after every change to a notebook or to what it
shows. Widget views and their state are left out: they need the kernel that made them, and break the page on code hosts.
The HTML that stands beside each of them stays. A notebook that fails is left as it was.
"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(notebook, folder: Path, seconds: float = 600) -> None:
    """Runs every cell of `notebook` in a fresh kernel that starts in `folder`, and keeps the outputs in it."""
    client = NotebookClient(notebook, timeout=seconds, kernel_name="python3", record_timing=False,
                            coalesce_streams=True, store_widget_state=False,
                            resources={"metadata": {"path": str(folder)}})
    client.execute()


def clean(notebook) -> None:
    """Leaves what a reader sees and a comparison needs: no widget state, no editor's leavings, counts from 1 up."""
    mark = notebook.metadata.get("minigpt", {})             # by which tools/translate knows what it has written
    notebook.metadata = nbformat.from_dict(METADATA | ({"minigpt": mark} if "translated" in mark else {}))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for cell in notebook.cells:
        for key in ("execution", "collapsed", "scrolled", "editable", "slideshow", "trusted"):
            cell.metadata.pop(key, None)
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET_VIEW, None)
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            if "execution_count" in output:
                output.execution_count = count


def write(notebook, path: Path) -> None:
    """Writes `notebook` to `path`, whole or not at all."""
    nbformat.validate(notebook)
    unfinished = path.with_name(f".{path.name}.part")
    nbformat.write(notebook, unfinished)
    os.replace(unfinished, path)


def store(path: Path) -> float:
    """Runs the notebook at `path` and writes it back with clean outputs. Returns the seconds that it ran."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    execute(notebook, path.parent)
    seconds = time.perf_counter() - start
    clean(notebook)
    write(notebook, path)
    return seconds


def main(paths: list[str]) -> int:
    failed = 0
    for path in map(Path, paths):
        try:
            print(f"{path}: stored, {store(path):.1f} s", flush=True)
        except CellExecutionError as error:
            failed += 1
            print(f"{path}: not stored\n{error}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
