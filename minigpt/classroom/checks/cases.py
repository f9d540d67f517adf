"""Inputs of all kinds that an answer has to stand: odd sizes, and odd places in memory."""

import random

import torch
from torch import Tensor


def one_of(*choices):
    """A random choice, from the check's own randomness."""
    return random.choice(choices)


def sizes(trial: int, count: int, high: int = 6) -> list[int]:
    """`count` sizes of axes: all different, all equal, all 1, or as they come.

    All different, so that a swap shows; all equal, so that one hides.
    """
    kind = trial % 4
    if kind == 0:
        return random.sample(range(2, max(high, count + 1) + 1), count)
    if kind == 1:
        return [random.randint(2, high)] * count
    if kind == 2:
        return [one_of(1, 1, random.randint(2, high)) for _ in range(count)]
    return [random.randint(1, high) for _ in range(count)]


def laid_out(x: Tensor, kind: str | None = None) -> Tensor:
    """The same numbers in another place in memory: transposed, or with gaps.

    A slice of something larger has such gaps.
    """
    if x.dim() == 0:
        return x
    kind = kind or one_of("as it is", "transposed", "with gaps")
    if kind == "transposed":
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if kind == "with gaps":
        return torch.stack([x, torch.zeros_like(x)], dim=-1)[..., 0]
    return x


LARGE = (range(65_534, 70_000), range(200, 300), range(10, 130), range(998, 1030), range(5),
         range(32_766, 32_780))


def large_ids(trial: int, n: int, different: int = 4) -> list[int]:
    """`n` ids from a few that need more than 8 bits, or more than 16, or have several digits."""
    few = random.sample(LARGE[trial % len(LARGE)], different)
    return random.choices(few, k=n)


def another(number: int) -> int:
    """An equal number that is another object, so that `is` does not do for `==`."""
    return int(str(number))
