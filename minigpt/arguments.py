"""Guards at the door: say clearly what is wrong with an argument, before the work begins.

What a person calls declares what it takes, in one place above its body, and the body is left to the
idea:

    @takes(temperature=number(low=0), top_k=integer(low=1, optional=True))
    def next_token_probs(logits, temperature=1.0, top_k=None): ...

A slip is then answered with a sentence ("temperature must be a finite number at least 0, not -1.0")
and not with a stack trace from deep inside torch. A guard is a function of the argument's name and
its value: it returns the value that the body is to see, or raises TypeError for the wrong kind of
thing and ValueError for the wrong amount of the right one. Our own code, where it has checked or
loops, calls the function behind the guards, `function.__wrapped__`.
"""

import functools
import inspect
import math
import os
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any

SHOWN = 60                                   # characters of a bad value that an error message shows

Guard = Callable[[str, Any], Any]


def takes(*relations: Callable[[dict], None], **guards: Guard) -> Callable:
    """Decorates a function, or a class: its arguments pass their guards first.

    What is left to its default passes none. `relations` then see all arguments together, by name,
    and raise where two of them do not go together. It raises at the call for a generator function
    too, and `inspect.getsource` shows the body.
    """
    def decorate(function):
        if isinstance(function, type):
            function.__init__ = decorate(function.__init__)
            return function
        signature = inspect.signature(function)

        @functools.wraps(function)
        def guarded(*positional, **named):
            try:
                given = signature.bind(*positional, **named)
            except TypeError:
                return function(*positional, **named)   # one too few or many: Python's own words
            for name, value in given.arguments.items():         # in the order of the signature
                if name in guards:
                    given.arguments[name] = guards[name](name, value)
            if relations:
                given.apply_defaults()
                for check in relations:
                    check(given.arguments)
            return function(*given.args, **given.kwargs)

        return guarded
    return decorate


def shown(value) -> str:
    """`repr(value)`, cut so that a pasted novel does not fill the screen."""
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def integer(low: int | None = None, high: int | None = None, *, optional: bool = False) -> Guard:
    """A whole number from `low` to `high`, both included; None too where it is `optional`."""
    def guard(name, value):
        if optional and value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(f"{name} must be a whole number{' or None' if optional else ''}, "
                            f"not {shown(value)}")
        if (low is not None and value < low) or (high is not None and value > high):
            raise ValueError(f"{name} must be {_limits(low, high)}, not {shown(value)}")
        return int(value)
    return guard


def number(low: float | None = None, high: float | None = None, *, open_low: bool = False,
           optional: bool = False) -> Guard:
    """A finite number from `low` to `high`; None too where it is `optional`.

    `low` itself is not allowed where `open_low`.
    """
    def guard(name, value):
        if optional and value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name} must be a number{' or None' if optional else ''}, "
                            f"not {shown(value)}")
        try:
            value = float(value)
        except OverflowError:                               # a whole number of more than 308 digits
            value = math.inf
        below = low is not None and (value <= low if open_low else value < low)
        if not math.isfinite(value) or below or (high is not None and value > high):
            limits = "" if low is None and high is None else " " + _limits(low, high, open_low)
            raise ValueError(f"{name} must be a finite number{limits}, not {value}")
        return value
    return guard


def _limits(low, high, open_low=False) -> str:
    above = "more than" if open_low else "at least"
    if low is not None and high is not None:
        return f"{above} {low} and at most {high}"
    return f"{above} {low}" if low is not None else f"at most {high}"


def choice(allowed, *, optional: bool = False) -> Guard:
    """One of the `allowed` words; None too where it is `optional`."""
    def guard(name, value):
        if optional and value is None:
            return None
        if not isinstance(value, str) or value not in tuple(allowed):
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, "
                             f"not {shown(value)}")
        return value
    return guard


def instance(kind: type, what: str | None = None, *, optional: bool = False) -> Guard:
    """A `kind` of thing, such as a bool or a GPTModel.

    `what` says it in words where the type's name does not.
    """
    def guard(name, value):
        if not (optional and value is None) and not isinstance(value, kind):
            raise TypeError(f"{name} must be {what or 'a ' + kind.__name__}, not {shown(value)}")
        return value
    return guard


def or_none(guard: Guard) -> Guard:
    """None too."""
    return lambda name, value: None if value is None else guard(name, value)


flag = instance(bool)


def path(name: str, value) -> Path:
    """The path of a file, which need not exist; "~" is one's home folder."""
    instance(str | os.PathLike, "the path of a file")(name, value)
    word = os.fsdecode(value)
    if not word or "\0" in word or word.endswith(("/", os.sep)):
        raise ValueError(f"{name} must be the path of a file, not {shown(value)}")
    return Path(os.path.expanduser(word))


def text(name: str, value) -> str:
    """A string that UTF-8 can write.

    So one without lone surrogates (half of a character, as "\\ud83d").
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {shown(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        bad = f"U+{ord(value[error.start]):04X}"
        raise ValueError(f"{name} must be valid Unicode: character {error.start} is {bad}, "
                         "a lone surrogate (half of a character)") from None
    return value


def chunks(name: str, value) -> Iterable[str]:
    """A text in chunks, each of which is looked at when its turn comes; or the whole text."""
    if isinstance(value, str):
        return [text(name, value)]
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a str or an iterable of them, not {shown(value)}")
    return (text(name, chunk) for chunk in value)


def nonempty_text(name: str, value) -> str:
    """A text of one character at least."""
    if not text(name, value):
        raise ValueError(f"{name} must have at least one character, not ''")
    return value


SEED = integer(0, 2 ** 63 - 1, optional=True)   # of a text: None draws a new one
TRAINING_SEED = integer(0, 2 ** 32 - 1)         # of a run, in which each step makes its own from it
BATCH_SIZE = integer(1, 1 << 16)                # windows
MOST_STEPS = 1 << 40
