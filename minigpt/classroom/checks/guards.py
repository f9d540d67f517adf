"""What a call of a student's function must leave as it was, and what it must not remember.

It is the same for every exercise. An answer can be right and do harm all the same: seed everybody's
random numbers, leave a model in another mode, hand out the same tensor twice. Nothing here knows
what the function computes.
"""

import copy
import random
from contextlib import contextmanager

import numpy
import torch
from torch import Tensor, nn

# ----------------------------------------------------------------------------------- random numbers


@contextmanager
def random_numbers_put_back():
    """Whatever is drawn or seeded inside, the caller's random numbers go on undisturbed."""
    python, arrays = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(arrays)


def seed_all(seed: int) -> None:
    """Seeds the generators of Python, NumPy and torch.

    Of torch the CPU's alone: torch.manual_seed would wake the GPU's.
    """
    torch.random.default_generator.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)


class SeedWatch:
    """Notices a function that seeds the random numbers itself.

    They come out the same whatever they were before. It looks at the first `CALLS`, for looking
    takes longer than most of what it looks at.
    """

    CALLS = 60

    def __init__(self, seed: int):
        self.seeds = random.Random(seed)
        self.seen = set()
        self.calls = 0

    @contextmanager
    def around(self):
        """Around a call; gives a function that tells whether it has set a seed."""
        self.calls += 1
        if self.calls > self.CALLS:
            yield lambda: False
            return
        with random_numbers_put_back():
            self.seed_anew()
            yield self.found_a_seed

    def seed_anew(self) -> None:
        """Before a call: another state of all three generators than ever before."""
        seed_all(self.seeds.getrandbits(32))

    def found_a_seed(self) -> bool:
        """After a call: whether a generator is where an earlier call has left it.

        Each call began elsewhere.
        """
        states = {("torch", torch.random.default_generator.initial_seed()),
                  ("Python", hash(random.getstate()[1][:-1])),
                  ("NumPy", numpy.random.get_state()[1].tobytes())}
        known = bool(states & self.seen)
        self.seen |= states
        return known


# ------------------------------------------------------------------------------------ what is given

def handed_over(value):
    """What the function gets: a copy of a tensor or a list, all else as it is.

    The copy may come back in its answer.
    """
    return copy.deepcopy(value) if isinstance(value, (Tensor, list)) else value


def kept(value):
    """What is needed to see afterwards whether the call has changed `value`."""
    if isinstance(value, nn.Module):
        return Snapshot(value)
    return copy.deepcopy(value) if isinstance(value, (Tensor, list, dict, set)) else value


class Snapshot:
    """A model's numbers, modes and switches at one moment."""

    def __init__(self, model: nn.Module):
        self.numbers = {name: (id(value), value.detach().clone()) for name, value in _named(model)}
        self.training = [part.training for part in model.modules()]
        self.learning = [parameter.requires_grad for parameter in model.parameters()]

    def harm(self, model: nn.Module, what: str) -> str | None:
        """A sentence about what has become of the model since then; None where nothing has."""
        now = {name: (id(value), value.detach()) for name, value in _named(model)}
        was, is_now = ({name: place for name, (place, _) in numbers.items()}
                       for numbers in (self.numbers, now))
        if was != is_now:
            return (f"{what} has other weights after the call than before: some were put in their "
                    "place. Training would never see them. Make every part once, in __init__, and "
                    "only use it afterwards.")
        for name, (_, value) in self.numbers.items():
            if not torch.equal(value, now[name][1]):
                return (f"{what} has changed: {name} holds other numbers after the call. Only "
                        "training may change weights.")
        modes = [part.training for part in model.modules()]
        if modes != self.training:
            return (f"{what} came in {_mode(self.training)} mode and goes in {_mode(modes)} mode, "
                    "and what runs next has no idea. Put it back as it was.")
        if [parameter.requires_grad for parameter in model.parameters()] != self.learning:
            return (f"{what} can no longer learn: requires_grad of its weights was changed. "
                    "torch.no_grad() is enough.")
        return None


def _named(model: nn.Module):
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _mode(modes: list[bool]) -> str:
    return "training" if modes[0] else "eval"


def unchanged(before, after) -> bool:
    """Whether an input still is what it was; what cannot be compared counts as unchanged."""
    if isinstance(before, Tensor):
        return before.dtype == after.dtype and torch.equal(before, after)
    if isinstance(before, (list, dict, set)):
        return before == after
    return True


@contextmanager
def other_numbers(tensors: list[Tensor]):
    """The same tensors with their numbers in another order, and afterwards as they were.

    What was remembered is wrong now.
    """
    tensors = [value for value in tensors if value.dim() and value.dtype != torch.bool]
    before = [value.detach().clone() for value in tensors]
    with torch.no_grad():
        for value, numbers in zip(tensors, before, strict=True):
            value.copy_(numbers.flip(-1))
        yield
        for value, numbers in zip(tensors, before, strict=True):
            value.copy_(numbers)


# ---------------------------------------------------------------------------------- what comes back

class Answers:
    """All that came back so far: nobody's tensor or list may be handed out a second time."""

    def __init__(self):
        self.kept: list = []             # kept alive, so that nothing new can lie in the same place
        self.places: set[int] = set()

    def handed_out_again(self, result) -> bool:
        """Whether `result` is, or shares its numbers with, an earlier one."""
        parts = result if isinstance(result, tuple) else (result,)
        places = {part.untyped_storage().data_ptr() if isinstance(part, Tensor) else id(part)
                  for part in parts
                  if isinstance(part, (list, dict)) or isinstance(part, Tensor) and part.numel()}
        known = bool(places & self.places)
        self.kept.append(result)
        self.places |= places
        return known


# ----------------------------------------------------------------------------------------- switches

@contextmanager
def switches_put_back():
    """torch's switches for the whole program are put back.

    Gives a function that tells which one was left turned, if any.
    """
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()

    def turned() -> str | None:
        if torch.is_grad_enabled() != grad:
            return ("leaves gradients switched off for every cell after it. "
                    "`with torch.no_grad():` puts them back")
        if torch.get_default_dtype() != dtype:
            return ("changes torch's default dtype for every cell after it. Give the dtype where "
                    "you make a tensor")
        return None
    try:
        yield turned
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
