"""What `import minigpt` costs over `import torch`, each in fresh processes, in turns."""

import subprocess
import sys
from statistics import median

from benchmarks.measure import row

PROGRAM = """
import time; began = time.perf_counter()
import torch; middle = time.perf_counter()
import minigpt; print(middle - began, time.perf_counter() - middle)
"""


def rows() -> list[dict]:
    """One row: seconds that the import adds, of the 0.1 s that it may."""
    times = [tuple(map(float, subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
                       .stdout.split())) for _ in range(7)]
    return [row("import minigpt after import torch, of 0.1 s allowed (s)", median(added for _, added in times), 0.1, 1.0)]
