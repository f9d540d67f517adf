"""One model on several processes: tokens a second with one and two, and what a step sends; and what to expect of many GPUs.

Measured is the classroom's model, each process on one core, beside one process on two threads. What is sent is read from the
counters of the loopback device, which the processes speak over. `expected` is arithmetic, from the assumptions below.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.measure import row

STEPS = 40
ROWS = (16, 64)             # of a batch: the classroom's, and four times as many


def rows() -> list[dict]:
    """Two processes against one process on two threads, and against one on one; and the bytes that a process sends."""
    found = []
    for batch_size in ROWS:
        two, one_on_two, one = (measured(*how, batch_size) for how in ((2, 1), (1, 2), (1, 1)))
        what = f"tokens a second, {batch_size} rows: two processes, against one "
        found += [row(what + "on two threads", two["tokens"], one_on_two["tokens"], 0.7, at_least=True),
                  row(what + "on one thread", two["tokens"], one["tokens"], 1.2, at_least=True)]
    return [*found, row("MB that each of two processes sends a step, against 4 bytes a weight",
                        two["bytes"] / 1e6, sent_bytes(two["weights"], 2) / 1e6, 1.1)]


def measured(processes: int, threads: int, batch_size: int) -> dict:
    """What rank 0 of so many processes tells of a short training."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m", "benchmarks.ranks",
             str(batch_size)]
    done = subprocess.run(words, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[1])
    return json.loads(done.stdout.splitlines()[-1])


def work(batch_size: int) -> dict:
    """What a process that was started for it does."""
    import psutil

    from minigpt import GPT, corpus, presets
    from minigpt.ranks import joined
    from minigpt.training import train_step
    from minigpt.training_state import TrainingState

    with joined("cpu") as ranks:
        with ranks.together():
            gpt = GPT.from_text(corpus.read_text("austen")[:200_000])
        recipe = replace(presets.preset("classroom").recipe, batch_size=batch_size)
        state = TrainingState(gpt.model, recipe, ranks=ranks)
        for _ in range(3):
            train_step(state, gpt.training_text.ids, 1.0)
        seconds, before = [], psutil.net_io_counters(pernic=True)["lo"].bytes_sent
        for _ in range(STEPS):
            began = time.perf_counter()
            train_step(state, gpt.training_text.ids, 1.0)
            seconds.append(time.perf_counter() - began)
        sent = psutil.net_io_counters(pernic=True)["lo"].bytes_sent - before
        return {"tokens": state.tokens_a_step / median(seconds), "bytes": sent / STEPS / ranks.size,
                "weights": gpt.model.n_parameters, "rank": ranks.rank}


# ---- on paper --------------------------------------------------------------------------------------------------------

def sent_bytes(weights: float, processes: int) -> float:
    """What a process sends to average gradients of 4 bytes a weight in a ring: each part goes round twice."""
    return 2 * (processes - 1) / processes * 4 * weights


@dataclass(frozen=True)
class Wire:
    """What joins the GPUs: bytes a second that one sends."""

    name: str
    bytes_a_second: float


WIRES = (Wire("NVLink, 450 GB/s", 450e9), Wire("InfiniBand, 50 GB/s", 50e9), Wire("Ethernet, 1.25 GB/s", 1.25e9))
FLOPS = 0.4 * 989e12                            # 40 % of what an H100 multiplies in bfloat16
MODELS = (25e6, 125e6, 1.3e9)                   # weights
BATCHES = (2 ** 19, 2 ** 22)                    # tokens a step, of all GPUs together


def expected(weights: float, batch: float, gpus: int, wire: Wire) -> dict:
    """Seconds of a step in computing and in sending, and tokens a second.

    Forward and back take 6 operations a weight and token. `worst` is where sending begins when computing has ended, `best`
    where all of it goes on meanwhile.
    """
    computing = 6 * weights * batch / gpus / FLOPS
    sending = sent_bytes(weights, gpus) / wire.bytes_a_second
    return {"computing": computing, "sending": sending,
            "worst": batch / (computing + sending), "best": batch / max(computing, sending)}


def table() -> str:
    """The expectations for 8, 64 and 512 GPUs, in Markdown."""
    lines = ["| tokens a step | GPUs | wires | computing | sending | in use | million tokens a second: 25 million weights "
             "| 125 million | 1.3 billion |", "|---|---|---|---|---|---|---|---|---|"]
    for batch in BATCHES:
        for gpus in (8, 64, 512):
            for wire in WIRES[:1] if gpus == 8 else WIRES[1:]:
                small, middle, large = (expected(weights, batch, gpus, wire) for weights in MODELS)
                used = [middle[case] * 6 * MODELS[1] / gpus / FLOPS for case in ("worst", "best")]
                cells = [f"{batch / 2 ** 20:g} × 2²⁰", gpus, wire.name, milliseconds(middle["computing"]),
                         milliseconds(middle["sending"]), f"{used[0]:.0%} to {used[1]:.0%}",
                         *(f"{two_digits(found['worst'] / 1e6)} to {two_digits(found['best'] / 1e6)}"
                           for found in (small, middle, large))]
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def milliseconds(seconds: float) -> str:
    return f"{two_digits(1000 * seconds)} ms"


def two_digits(number: float) -> str:
    return f"{number:.2g}" if number < 10 else f"{float(f'{number:.2g}'):,.0f}"


if __name__ == "__main__":
    result = work(int(sys.argv[1]))
    if result["rank"] == 0:
        print(json.dumps(result))
