"""Hidden questions about the training half of 04_training_and_sampling."""

import math
import random
from collections import Counter
from dataclasses import asdict

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt import GPTConfig, GPTModel, training
from minigpt.batches import TokenizedText
from minigpt.marking.hidden.framework import (
    Case,
    agrees,
    gradients_agree,
    gradients_of,
    one_number,
    questions,
    shaken,
)


@questions("check_batch", "minigpt.batches.random_batch", "minigpt.batches.epoch_batch",
           "minigpt.batches._windows")
def batches(odd: bool):
    """Texts in which every id occurs once, so that it shows where a row comes from."""
    settings = ([(6, 5, 3), (2, 1, 1), (40, 39, 2), (300, 1, 4), (9, 3, 600)] if odd
                else [(random.randint(400, 900), random.randint(3, 9), 12) for _ in range(4)])
    for N, T, B in settings:
        ids = 70_000 + torch.randperm(N)
        yield Case(f"{N} ids, context_length = {T} and batch_size = {B}", (ids, T, B),
                   lambda answer, ids=ids, T=T, B=B: is_batch(answer, ids, T, B))


def is_batch(answer, ids: Tensor, T: int, B: int) -> bool:
    """Whether x are windows of ids, y the ids one later, and the starts are as by chance."""
    if not (isinstance(answer, (list, tuple)) and len(answer) == 2
            and all(isinstance(part, Tensor) and part.shape == (B, T)
                    and part.dtype == torch.int64 for part in answer)):
        return False
    place = {value: i for i, value in enumerate(ids.tolist())}
    starts = [place.get(value, -1) for value in answer[0][:, 0].tolist()]
    possible = len(ids) - T
    if not all(0 <= start < possible for start in starts):
        return False
    places = torch.tensor(starts)[:, None] + torch.arange(T)
    if not (torch.equal(answer[0], ids[places]) and torch.equal(answer[1], ids[places + 1])):
        return False
    if B < 10 * possible:                       # too few to count: but not all in one place
        return possible < 100 or len(set(starts)) > 1
    counts = Counter(starts)                    # by chance once in a hundred million times
    fair = B / possible
    return all(abs(counts[start] - fair) < 6 * fair ** 0.5 for start in range(possible))


@questions("check_cross_entropy")
def losses(odd: bool):
    """Logits and targets; odd also: one token, one row, logits near 1000, gradients."""
    shapes = [(1, 1), (1, 9), (6, 6), (3, 300)] if odd else [(4, 7), (9, 5), (6, 20), (12, 11)]
    for N, V in shapes:
        logits = torch.randn(N, V) * 2 + (random.choice((-1000, 1000)) if odd else 0)
        targets = torch.randint(V, (N,))
        given = logits.clone()
        right = F.cross_entropy(logits.requires_grad_(), targets)
        said = f"logits of shape {(N, V)}"
        if not odd:
            yield Case(said, (given, targets), right.detach())
            continue
        wanted = gradients_of(right, torch.tensor(1.0), [logits])
        yield Case(f"{said} near {float(given.mean()):.0f}, and their gradient",
                   (torch.tensor(1.0), given, targets),
                   lambda answer, right=right, wanted=wanted: gradients_agree(
                       answer, right, wanted), "differentiated")


@questions("check_evaluate", "minigpt.training.evaluate", "minigpt.gpt.GPT.evaluate")
def evaluations(odd: bool):
    """A model and a text; odd: one of two ids, of whole windows, of one more; dropout on."""
    for T, N in ([(4, 2), (4, 9), (4, 8), (1, 7), (31, 5)] if odd
                 else [(random.randint(4, 8), random.randint(30, 60)) for _ in range(4)]):
        config = GPTConfig(vocab_size=random.choice((7, 20)), context_length=T, d_model=8,
                           n_heads=2, n_layers=1, d_ff=8, dropout=0.5 if odd else 0.0)
        model, mode = shaken(GPTModel(config)), bool(odd and N != 9)
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        ids, n_bytes = torch.randint(config.vocab_size, (N,)), random.randint(N, 3 * N)
        right = training.evaluate(model, TokenizedText(ids, n_bytes))
        yield Case(f"{N} ids and a model that reads {T}",
                   (asdict(config), weights, mode, ids, n_bytes),
                   lambda answer, right=right, mode=mode: isinstance(answer, list)
                   and not isinstance(answer[0], Tensor) and agrees(answer[0], right)
                   and answer[1] == mode, "model")


@questions("check_learning_rate", "minigpt.training.learning_rate")
def rates(odd: bool):
    """Steps of a schedule; odd: without a warm-up, with one of one step, its first and its last."""
    for _ in range(5):
        steps, peak = random.randint(14, 80), random.uniform(1e-3, 1e-2)
        warmup, floor = random.randint(2, 9), peak * random.uniform(0.05, 0.4)
        if odd:
            warmup, floor = random.choice((0, 1, steps - 2)), random.choice((0.0, peak))
        chosen = ({0, warmup, steps - 1} if odd else
                  {random.randrange(warmup), *random.sample(range(warmup, steps), 4)})
        for step in chosen:
            right = peak * (step + 1) / warmup if step < warmup else floor + (peak - floor) * (
                1 + math.cos(math.pi * (step - warmup) / (steps - 1 - warmup))) / 2
            yield Case(f"step {step} of {steps}, warmup = {warmup}",
                       (step, steps, warmup, peak, floor),
                       lambda answer, right=right, peak=peak: one_number(answer) is not None
                       and abs(one_number(answer) - right) < 1e-4 * peak)
