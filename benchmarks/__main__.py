"""Run the benchmarks: `python -m benchmarks [NAME ...]`. Prints one table and writes `benchmarks/results.json`."""

import importlib  # noqa: I001  (minigpt comes before torch: it sets how threads wait)
import json
import platform
import sys
import time
from pathlib import Path

import minigpt  # noqa: F401
import torch
from minigpt.files import write_atomically

NAMES = ("startup", "step", "busy", "sampling", "live_curve", "tokenizer", "page", "wall", "reach",
         "real", "ranks")
RESULTS = Path(__file__).with_name("results.json")


def main(names: list[str]) -> int:
    """Measure, print, write; exit status 1 where a target was missed."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    began, rows = time.perf_counter(), []
    print(machine(), flush=True)
    print(f"{'what':<96}{'ours':>10}{'peer':>10}{'ratio':>8}   target")
    for name in names or NAMES:
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            rows.append(row)
            sign, verdict = ("≥" if row["at_least"] else "≤"), ("" if row["met"] else "   MISSED")
            print(f"{row['what']:<96}{row['ours']:>10.4g}{row['peer']:>10.4g}{row['ratio']:>8.3g}   {sign} {row['target']:g}"
                  f"{verdict}", flush=True)
    minutes = (time.perf_counter() - began) / 60
    results = json.dumps({"machine": machine(), "minutes": minutes, "rows": rows}, indent=1) + "\n"
    write_atomically(RESULTS, results.encode())
    print(f"{minutes:.1f} minutes; written to {RESULTS.name}")
    return 0 if all(row["met"] for row in rows) else 1


def machine() -> str:
    """What these figures were measured on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
    return f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
