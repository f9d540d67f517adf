"""What all benchmarks share: a row of the table, and two things timed in turns, so that a noisy machine hits both alike."""

import time
from collections.abc import Callable, Iterable
from statistics import median


def row(what: str, ours: float, peer: float, target: float, at_least: bool = False) -> dict:
    """A measurement. `ratio` is ours / peer; `target` is the largest ratio that is good enough, or the smallest, where
    it must be `at_least` that."""
    ratio = ours / peer
    return {"what": what, "ours": ours, "peer": peer, "ratio": ratio, "target": target, "at_least": at_least,
            "met": ratio >= target if at_least else ratio <= target}


def seconds(function: Callable, *arguments, clock: Callable = time.perf_counter) -> float:
    """How long one call takes."""
    began = clock()
    function(*arguments)
    return clock() - began


def medians(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The median of each side."""
    ours, peer = zip(*pairs, strict=True)
    return median(ours), median(peer)


def in_turns(ours: Callable, peer: Callable, repeats: int = 5) -> tuple[float, float]:
    """The median seconds of each, measured one after the other, again and again."""
    return medians((seconds(ours), seconds(peer)) for _ in range(repeats))
