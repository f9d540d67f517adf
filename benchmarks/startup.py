"""What `import minigpt` costs over `import torch`, in fresh processes; and how soon a notebook has something to move."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import nbformat
from nbclient import NotebookClient

from benchmarks.measure import row

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"

PROGRAM = """
import time; began = time.perf_counter()
import torch; middle = time.perf_counter()
import minigpt; print(middle - began, time.perf_counter() - middle)
"""


def rows() -> list[dict]:
    """Seconds that the import adds, of the 0.1 s that it may; and the first widget's, of 5 s, where they are the most."""
    times = [tuple(map(float, subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
                       .stdout.split())) for _ in range(7)]
    return [row("import minigpt after import torch, of 0.1 s allowed (s)", median(added for _, added in times), 0.1, 1.0),
            row("run-all to the first widget of the notebook where it takes longest, of 5 s allowed (s)",
                max(map(first_widget, sorted(NOTEBOOKS.glob("0*.ipynb")))), 5, 1.0)]


def first_widget(path: Path) -> float:
    """Seconds from run-all, in a kernel that has started, to the first widget."""
    notebook = nbformat.read(path, 4)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}})
    with client.setup_kernel():
        began = time.perf_counter()
        for i, cell in enumerate(notebook.cells):
            done = client.execute_cell(cell, i)
            if any(WIDGET in output.get("data", {}) for output in done.get("outputs", [])):
                return time.perf_counter() - began
    raise ValueError(f"{path} has no widget")
