"""What the files of hidden questions share: a case, a set of them, and when two values agree."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minigpt.marking.asking import NO_GRADIENTS

TOLERANCE = 1e-4        # as in classroom.checks: two float32 computations of the same numbers


@dataclass(frozen=True)
class Case:
    """One question: how it is asked (a function of `asking`), the inputs, what is right.

    `right` is a value, or a function that says whether a value is right. `said` describes the
    inputs in a sentence.
    """

    said: str
    inputs: tuple
    right: object
    how: str = "plain"

    def is_right(self, answer) -> bool:
        """Whether the answer is right."""
        return bool(self.right(answer) if callable(self.right) else agrees(answer, self.right))


@dataclass(frozen=True)
class Questions:
    """The cases of an exercise, and which parts of the package are its answer, by dotted name.

    `reads_files`: whether an answer to it must be able to.
    """

    cases: Callable[[bool], Iterator[Case]]
    package: tuple[str, ...]
    reads_files: bool


QUESTIONS: dict[str, Questions] = {}        # by the name of the exercise's check


def questions(check: str, *package: str, reads_files: bool = False):
    """Registers `cases(odd)` as the hidden questions beside a check."""
    def decorate(cases):
        QUESTIONS[check] = Questions(cases, package, reads_files)
        return cases
    return decorate


def agrees(answer, right) -> bool:
    """Whether two values are the same, up to rounding; a list may stand for a tuple."""
    if isinstance(right, Tensor):
        return (isinstance(answer, Tensor) and answer.dtype == right.dtype
                and answer.shape == right.shape
                and torch.allclose(answer.double(), right.double(), TOLERANCE, TOLERANCE))
    if isinstance(right, (list, tuple)):
        return (isinstance(answer, (list, tuple)) and len(answer) == len(right)
                and all(map(agrees, answer, right)))
    if isinstance(right, dict):
        return (isinstance(answer, dict) and answer.keys() == right.keys()
                and all(agrees(answer[key], right[key]) for key in right))
    if isinstance(right, float):
        number = one_number(answer)
        return number is not None and abs(number - right) <= TOLERANCE * max(abs(right), 1e-3)
    return type(answer) is type(right) and answer == right


def one_number(value) -> float | None:
    """A number, or a tensor without axes, as a float; None for anything else."""
    if isinstance(value, Tensor) and value.dim() == 0:
        value = value.item()
    return float(value) if isinstance(value, (int, float)) and value is not True else None


def gradients_agree(answer, out, gradients: list[Tensor] | None) -> bool:
    """Whether [result, gradients] are right: each gradient up to its own size.

    Where None is right, nobody looks at the gradients; what torch refuses to differentiate passes,
    as in the classroom's checks.
    """
    if not (isinstance(answer, list) and len(answer) == 2):
        return False
    result, found = answer
    if not agrees(result, out) or gradients is None or found == NO_GRADIENTS:
        return agrees(result, out)
    return (isinstance(found, list) and len(found) == len(gradients)
            and all(_same_direction(one, other) for one, other in zip(found, gradients)))


def _same_direction(one, other: Tensor) -> bool:
    scale = max(float(other.abs().max()), 1e-2)                 # a gradient of 0 has its rounding
    return (isinstance(one, Tensor) and one.shape == other.shape
            and torch.allclose(one.double() / scale, other.double() / scale, 1e-3, 1e-3))


def gradients_of(out: Tensor, direction: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """The truth about gradients."""
    return list(torch.autograd.grad((out * direction).sum(), leaves, allow_unused=True,
                                    materialize_grads=True))


def shaken(module: nn.Module) -> nn.Module:
    """The module in eval mode, with random numbers in every parameter."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.eval()


def sizes(odd: bool, count: int, ordinary: range = range(2, 8)) -> Iterator[list[int]]:
    """Sizes of axes: all different; or, where odd, all 1, all alike, and one of them large."""
    if not odd:
        for _ in range(4):
            yield random.sample(ordinary, count)
        return
    yield [1] * count
    yield [random.choice(ordinary)] * count
    for large in range(count):
        yield [31 if axis == large else random.randint(1, 3) for axis in range(count)]


def somewhere_else(x: Tensor) -> Tensor:
    """The same numbers with gaps between them in memory, as in a slice of something larger."""
    return torch.stack([x, torch.zeros_like(x)], dim=-1)[..., 0]
