"""The real model of 06: how fast it loads and writes, beside what reading its weights from memory once a token allows."""

from statistics import median

import torch

from benchmarks.measure import row, seconds
from minigpt import GPT
from minigpt.sampling import generate_ids

WRITTEN = 60            # tokens


def rows() -> list[dict]:
    """On all cores, as a notebook runs it."""
    GPT.pretrained("smollm2")                           # the first reading keeps what it found
    loading = median(seconds(GPT.pretrained, "smollm2") for _ in range(3))
    gpt = GPT.pretrained("smollm2")
    pairs = [(writing(gpt), reading(gpt.model)) for _ in range(3)]
    speed, most = 1 / median(ours for ours, _ in pairs), 1 / median(peer for _, peer in pairs)
    return [row("seconds to load the real model, of 2 allowed", loading, 2.0, 1.0),
            row("tokens per second of the real model, of 20 asked for", speed, 20.0, 1.0, at_least=True),
            row("tokens per second of the real model, against reading its weights once a token", speed, most, 0.5,
                at_least=True)]


def writing(gpt: GPT) -> float:
    """Seconds a token."""
    ids = generate_ids(gpt.model, gpt.tokenizer.encode("It is a truth universally"), WRITTEN + 1, seed=1)
    next(ids)                                           # the prompt is read
    return seconds(lambda: list(ids)) / WRITTEN


@torch.inference_mode()
def reading(model) -> float:
    """Seconds in which each number is added up once: whatever is computed, all of them have to come from memory."""
    matrices = [weight.detach().view(-1) if weight.is_contiguous() else weight.T.reshape(-1) for weight in model.parameters()]
    return median(seconds(lambda: [numbers.sum() for numbers in matrices]) for _ in range(20))
