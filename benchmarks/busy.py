"""How much a busy laptop slows training: the same steps alone, and with another program that keeps one core spinning."""

import subprocess
import sys

from benchmarks.measure import row

STEPS = 15
PROGRAM = f"from benchmarks.step import time_of_steps; print(time_of_steps({STEPS}))"


def rows() -> list[dict]:
    """Seconds a step with a spinning neighbour, against seconds a step without."""
    alone, beside = [], []
    for _ in range(3):
        alone.append(seconds_a_step())
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            beside.append(seconds_a_step())
        finally:
            neighbour.kill()
            neighbour.wait()
    return [row("a step beside a program that spins on one core, against a step alone (s)", sorted(beside)[1],
                sorted(alone)[1], 2.5)]


def seconds_a_step() -> float:
    """Measured in a fresh process, as a user starts it: nothing set, two threads where there are two cores."""
    return float(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout)
