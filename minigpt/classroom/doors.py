"""Guards of the classroom's own doors, for what only a notebook hands over.

Tokens, numbers to be drawn, a model that can be asked. Like those of `minigpt.arguments`, on which
they stand, each is a function of the argument's name and its value.
"""

import textwrap
from collections.abc import Callable, Collection, Mapping
from numbers import Integral, Real

import numpy as np
from torch import Tensor

from minigpt import GPT, arguments
from minigpt.arguments import Guard, instance, shown

# ---- a model to ask


class Missing(FileNotFoundError):
    """What a cell says that needs the real model where there is none: its sentence alone."""

    def _render_traceback_(self) -> list[str]:
        return textwrap.wrap(f"✗ {self}", width=110, break_long_words=False)


class NotHere:
    """Stands where the real model would, and says how to get it when asked for anything."""

    def __init__(self, message: str):
        self.__dict__["message"] = message

    def __getattr__(self, name: str):
        if name.startswith("_"):                # a notebook asks each object how it is to be shown
            raise AttributeError(name)
        raise Missing(self.message)

    def __repr__(self) -> str:
        return self.message


def model_of(kind: type[GPT]) -> Guard:
    """A `kind` of GPT, with its tokenizer; where the real one is missing, it says so."""
    def guard(name, value):
        if isinstance(value, NotHere):
            raise Missing(value.message)
        return instance(kind)(name, value)
    return guard


a_gpt = model_of(GPT)


# ---- tokens, and lists of things

def token(name: str, value) -> bytes:
    """The bytes of one token."""
    return instance(bytes | bytearray, "the bytes of a token, such as b' the',")(name, value)


NO_LISTS = (str, bytes, bytearray, Mapping, set, frozenset)         # a set has no order


def anything(name: str, value):
    """Whatever comes."""
    return value


def listed(what: str, entry: Guard = anything, low: int = 0, high: int | None = None) -> Guard:
    """A list of `low` to `high` entries, each of which passes the guard `entry`; or a tensor."""
    def guard(name, value):
        single = isinstance(value, NO_LISTS) or getattr(value, "ndim", 1) == 0
        if single or not isinstance(value, Collection):
            raise TypeError(f"{name} must be a list of {what}, not {shown(value)}")
        if len(value) < low or (high is not None and len(value) > high):
            limits = f"at least {low}" if high is None else f"{low} to {high}"
            raise ValueError(f"{name} must be a list of {limits} {what}, not of {len(value)}")
        return [entry(f"{name}[{i}]", part) for i, part in enumerate(value)]
    return guard


def as_many(many: str, few: str) -> Callable[[dict], None]:
    """A relation: the argument `many` has one entry for each of `few`."""
    def check(given):
        if given[many] is not None and len(given[many]) != len(given[few]):
            raise ValueError(f"{many} must be as many as {few}, {len(given[few])}, not "
                             f"{len(given[many])}")
    return check


# ---- numbers

def finite(name: str, value):
    """A finite number, which stays a whole one where it is."""
    as_float = arguments.number()(name, value)
    return int(value) if isinstance(value, Integral) else as_float


def a_number(name: str, value) -> float:
    """A number that came of a computation, which may have ended in one that is not finite."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {shown(value)}")
    return float(value)


def in_order(low: str, high: str) -> Callable[[dict], None]:
    """A relation: of two numbers, the argument `low` is not above `high`."""
    def check(given):
        if None not in (given[low], given[high]) and given[low] > given[high]:
            raise ValueError(f"{low} must be at most {high}, {given[high]}, not {given[low]}")
    return check


def array(dimensions: int, *, infinite: bool = False) -> Guard:
    """Numbers for a picture, from a list, an array or a tensor (also one with a gradient).

    Of so many dimensions; with `infinite`, some may be none that is finite.
    """
    def guard(name, value):
        shape = ("a number", "a list of numbers", "a table of numbers")[dimensions]
        try:
            numbers = value.detach().double().cpu() if isinstance(value, Tensor) else value
            numbers = np.asarray(numbers, dtype=float)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"{name} must be {shape}, not {shown(value)}") from None
        if value is None or isinstance(value, str | bytes) or numbers.ndim != dimensions:
            kind = TypeError if numbers.ndim == 0 else ValueError
            raise kind(f"{name} must be {shape}, not {shown(value)}")
        if not infinite and not np.isfinite(numbers).all():
            bad = numbers[~np.isfinite(numbers)][0]
            raise ValueError(f"{name} must hold finite numbers alone, not {bad}")
        return numbers
    return guard


def tensor(dimensions: int, shape: str) -> Guard:
    """A tensor of so many dimensions, of finite real numbers; `shape` says in words which."""
    def guard(name, value):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor {shape}, not {shown(value)}")
        if value.ndim != dimensions or not value.is_floating_point():
            raise ValueError(f"{name} must be a tensor {shape} of floats, not {value.dtype} of "
                             f"shape {tuple(value.shape)}")
        if not value.isfinite().all():
            raise ValueError(f"{name} must hold finite numbers alone, not "
                             f"{value[~value.isfinite()][0].item()}")
        return value.detach().float().cpu()
    return guard
