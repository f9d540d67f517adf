"""Say clearly what is wrong with an argument.

Every public function of the package checks what it is given with one of these, so that a slip is answered with a
sentence ("temperature must be at least 0, not -1.0") and not with a stack trace from deep inside torch. Each check
returns the value, so that it fits on the line that uses it. They raise TypeError for the wrong kind of thing and
ValueError for the wrong amount of the right one.
"""

import math
import os
from numbers import Integral, Real
from pathlib import Path

import torch

SHOWN = 60      # characters of a bad value that an error message shows


def shown(value) -> str:
    """`repr(value)`, cut so that a pasted novel does not fill the screen."""
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def _allowed(low, high, open_low=False) -> str:
    above = "more than" if open_low else "at least"
    if low is not None and high is not None:
        return f"{above} {low} and at most {high}"
    return f"{above} {low}" if low is not None else f"at most {high}"


def integer(name: str, value, low: int | None = None, high: int | None = None, *, optional: bool = False) -> int | None:
    """A whole number from `low` to `high`, both included; None too where it is `optional`."""
    if optional and value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number{' or None' if optional else ''}, not {shown(value)}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{name} must be {_allowed(low, high)}, not {shown(value)}")
    return int(value)


def number(name: str, value, low: float | None = None, high: float | None = None, *, open_low: bool = False,
           optional: bool = False) -> float | None:
    """A finite number from `low` (not `low` itself, where `open_low`) to `high`; None too where it is `optional`."""
    if optional and value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number{' or None' if optional else ''}, not {shown(value)}")
    try:
        value = float(value)
    except OverflowError:           # a whole number of more than 308 digits
        value = math.inf
    below = low is not None and (value <= low if open_low else value < low)
    if not math.isfinite(value) or below or (high is not None and value > high):
        limits = "" if low is None and high is None else f" {_allowed(low, high, open_low)}"
        raise ValueError(f"{name} must be a finite number{limits}, not {value}")
    return value


def choice(name: str, value, allowed) -> str:
    """One of the `allowed` words."""
    if not isinstance(value, str) or value not in tuple(allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {shown(value)}")
    return value


def instance(name: str, value, kind: type, what: str | None = None):
    """A `kind` of thing: a bool, a GPTModel, … `what` says it in words where the type's name does not."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {what or 'a ' + kind.__name__}, not {shown(value)}")
    return value


def path(name: str, value) -> Path:
    """The path of a file, which need not exist."""
    instance(name, value, str | os.PathLike, "the path of a file")
    if not os.fspath(value) or "\0" in os.fspath(value):
        raise ValueError(f"{name} must be the path of a file, not {shown(value)}")
    return Path(value)


def text(name: str, value) -> str:
    """A string that UTF-8 can write, so one without lone surrogates (half of a character, as "\\ud83d")."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {shown(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        bad = f"U+{ord(value[error.start]):04X}"
        raise ValueError(f"{name} must be valid Unicode: character {error.start} is {bad}, "
                         "a lone surrogate (half of a character)") from None
    return value


def find_device(name: str) -> torch.device:
    """"cpu", "cuda", "cuda:1", "mps", or "auto" for the fastest that is there. ValueError for one that is not."""
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if name == "auto":
        name = next(kind for kind, count in there.items() if count)
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'mps', not {shown(name)}") from None
    if (device.index or 0) >= there.get(device.type, 0):
        raise ValueError(f"device must be one that this machine has ({', '.join(k for k, v in there.items() if v)}), "
                         f"not {shown(name)}")
    return device
