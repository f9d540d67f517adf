"""How every check talks to a student's function: call it safely, look at what comes back, say what is wrong.

A check runs the student's function on fresh random inputs and compares with an independent truth. Only once the two
differ does it go looking for the reason: it computes what each well-known slip *would* have given, and the one that
equals the student's answer is named. So a right answer can never be refused for looking suspicious.

The functions below know nothing of tokens or attention. The checks themselves stand in the files beside this one.
"""

import copy
import ctypes
import functools
import linecache
import random
import secrets
import textwrap
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor, nn

from minigpt.arguments import shown
from minigpt.classroom.checks.passed import note

TIME_LIMIT = 3.0        # seconds of computing for one check; right answers need 0.2, an endless loop needs a limit
TOLERANCE = 1e-4        # how far apart two float32 computations of the same numbers may be


class Mistake(AssertionError):
    """What a check raises. A notebook shows its sentences alone, without a traceback through the check's own code."""

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython prints in place of a traceback."""
        return textwrap.wrap(f"✗ {self}", width=110, break_long_words=False, break_on_hyphens=False)


def fresh_seed() -> int:
    """A seed that no earlier cell has any influence on: each run of a check tries other numbers."""
    return secrets.randbits(31)


@contextmanager
def own_randomness():
    """Fresh random numbers inside, and the notebook's own generators left alone: later cells see no difference."""
    python, arrays = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            seed = fresh_seed()
            torch.random.default_generator.manual_seed(seed)
            random.seed(seed)
            numpy.random.seed(seed)
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(arrays)


def check(success: str):
    """Makes a check of a function that takes a `Student`: prints one line starting with ✓, or raises `Mistake`."""
    def decorate(body):
        @functools.wraps(body)
        def run(student) -> None:
            name = getattr(student, "__name__", "")
            note(name, good=False)
            with own_randomness(), time_limit():
                body(Student(student, check=body.__name__))
            note(name, good=True)
            print(f"✓ {success}")
        del run.__wrapped__             # so that help() shows the signature that a student uses
        return run
    return decorate


class Student:
    """A student's function, or class, and its name in messages. Call it with named inputs, in its own order."""

    def __init__(self, answer, check: str):
        name = getattr(answer, "__name__", type(answer).__name__)
        if not callable(answer):
            raise Mistake(f"{check} takes your function itself, not what it returns ({shown(answer)}): "
                          f"write {check}(my_function), without calling it.")
        self.answer = answer
        self.name = "your function" if name == "<lambda>" else name
        self.check = check

    def __call__(self, hint: str = "", **inputs):
        """What the student's function returns. Raises `Mistake` where it fails, hangs, or changes an input."""
        return ask(self.answer, self.name, hint, **inputs)

    def module(self, hint: str = "", **inputs) -> nn.Module:
        """An instance of the student's nn.Module, with parameters unlike their first values, in eval mode.

        At first a LayerNorm only normalises and a bias is 0, so that swapping two of them would change nothing: small
        random numbers make every parameter count.
        """
        if isinstance(self.answer, nn.Module):
            raise Mistake(f"{self.check} takes your class itself, and builds its own: "
                          f"write {self.check}({self.name}), not {self.check}({self.name}(…)).")
        module = ask(self.answer, self.name, hint, **inputs)
        if not isinstance(module, nn.Module):
            raise Mistake(f"{self.name} makes a {type(module).__name__}, which has no parameters to train: "
                          f"start it with `class {self.name}(nn.Module):` and `super().__init__()`.")
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return module.eval()


def ask(function, name: str, hint: str = "", **inputs):
    """`function(*inputs)`, with everything that can go wrong on the way turned into a sentence."""
    before = {key: copy.deepcopy(value) for key, value in inputs.items()}
    call = f"{name}({', '.join(inputs)})"
    given = ", ".join(f"{key} = {described(value)}" for key, value in before.items())
    try:
        result = function(*inputs.values())
    except NotImplementedError as error:
        raise Mistake(f"{name} is not written yet: put your own code where `raise NotImplementedError()` stands, "
                      "then run this cell again.") from error
    except TookTooLong:
        raise Mistake(f"{call} was still running when its time was up, with {given}. "
                      "Does every turn of your loop come closer to its end?") from None
    except Exception as error:
        raise Mistake(f"{call} stopped with {type(error).__name__}: {first_line(error)}{where(error)} "
                      f"It was called with {given}.{' ' + hint if hint else ''}") from error
    changed = [key for key, value in inputs.items() if not unchanged(before[key], value)]
    if result is None and changed:
        raise Mistake(f"{name} changes {changed[0]} in place and returns None. Leave {changed[0]} as it is, "
                      "build something new, and `return` it.")
    if result is None or result is Ellipsis:
        raise Mistake(f"{name} returns {result}: fill in the part between the comments, end it with `return`, "
                      "then run this cell again.")
    if changed:
        raise Mistake(f"{name} changes its input {changed[0]} in place, so whoever called it loses the original. "
                      "Work on a copy, or use operations that make a new one.")
    return result


class TookTooLong(BaseException):
    """Raised inside a function that does not come back (no Exception, so that `except Exception` misses it)."""


@contextmanager
def time_limit():
    """Interrupts what runs inside with `TookTooLong`, wherever it is, once it has used `TIME_LIMIT`."""
    thread, lock, finished, start = threading.get_ident(), threading.Lock(), threading.Event(), time.process_time()

    def watch():
        while not finished.wait(0.1):
            with lock:
                if time.process_time() - start > TIME_LIMIT and not finished.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TookTooLong))
                    return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        with lock:
            finished.set()


def first_line(error: Exception) -> str:
    """The first line of an error's message, ending like a sentence."""
    line = (str(error).strip().splitlines() or ["(no message)"])[0]
    line = line if len(line) <= 160 else line[:160] + "…"
    return line if line.endswith((".", "!", "?", "…")) else line + "."


def where(error: Exception) -> str:
    """The line of the student's own code in which an error arose, where there is source to show."""
    frame, found = error.__traceback__, ""
    while frame is not None:
        package = frame.tb_frame.f_globals.get("__name__", "").split(".")[0]
        if package not in ("minigpt", "torch"):
            line = linecache.getline(frame.tb_frame.f_code.co_filename, frame.tb_lineno).strip()
            found = f" The line is `{line}`." if line else found
        frame = frame.tb_next
    return found


def unchanged(before, after) -> bool:
    """Whether an input still is what it was before the call. What cannot be compared counts as unchanged."""
    if isinstance(before, Tensor):
        return before.shape == after.shape and bool(torch.equal(before, after))
    if isinstance(before, (list, dict, set)):
        return before == after
    return True


def described(value) -> str:
    """An input, short enough for a sentence."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    if isinstance(value, nn.Module):
        return f"a {type(value).__name__}"
    if isinstance(value, (set, frozenset, tuple)) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)}"
    return shown(value)


def article(value) -> str:
    """The type of a wrong answer: "a list", "an int"."""
    kind = type(value).__name__
    if kind == "bytes":
        return kind
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def tensor(value, what: str, shape: tuple[int, ...], axes: str, dtype: str = "float") -> Tensor:
    """`value` as a detached tensor, once it is one, of this shape and this kind ("float", "int64" or "bool")."""
    has, holds = ("have", "hold") if what.endswith("s") else ("has", "holds")
    if not isinstance(value, Tensor):
        raise Mistake(f"{what} should be a tensor; what comes is {article(value)}.")
    if tuple(value.shape) != shape:
        same_numbers = sorted(value.shape) == sorted(shape)
        raise Mistake(f"{what} {has} shape {tuple(value.shape)}; right is {axes} = {shape} here."
                      + (" The sizes are right and their order is not: which two axes are swapped?"
                         if same_numbers else ""))
    right_kind = value.is_floating_point() if dtype == "float" else value.dtype == getattr(torch, dtype)
    if not right_kind:
        wanted = "floating-point numbers" if dtype == "float" else f"torch.{dtype}"
        raise Mistake(f"{what} {holds} {value.dtype}, where {wanted} should be.")
    return value.detach()


def pair(value, name: str, what: str) -> tuple:
    """The two results of a function that returns two."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        got = f"{len(value)} things" if isinstance(value, (tuple, list)) else f"one {type(value).__name__}"
        raise Mistake(f"{name} returns {got}; it should return two: `return {what}`.")
    return tuple(value)


def same(answer: Tensor, right: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Equal up to rounding, with NaN equal to nothing."""
    return answer.shape == right.shape and torch.allclose(answer.double(), right.double(), rtol=tolerance,
                                                          atol=tolerance)


def accuse(answer: Tensor, suspects: dict[str, Tensor], tolerance: float = TOLERANCE) -> None:
    """Raises the message of the first suspect whose numbers are the student's."""
    for message, wrong in suspects.items():
        if same(answer, wrong, tolerance):
            raise Mistake(message)


def difference(answer: Tensor, right: Tensor, what: str) -> Mistake:
    """The message for a mistake that nobody has foreseen: where the two differ most, and by how much."""
    gap = (answer.double() - right.double()).abs().nan_to_num(nan=float("inf"))
    place = [int(index) for index in numpy.unravel_index(int(gap.argmax()), tuple(gap.shape))] if gap.dim() else []
    at = f" at {place}" if place else ""
    return Mistake(f"{what} is not right: the largest difference is{at}, where yours is "
                   f"{float(answer[tuple(place)]):.4g} and {float(right[tuple(place)]):.4g} is right.")


@dataclass(frozen=True)
class Try:
    """One input, what the student made of it, and what is right: for answers that are no tensors."""

    inputs: tuple
    answer: object
    right: object

    @property
    def wrong(self) -> bool:
        """Whether the two differ."""
        return self.answer != self.right


def shortest_wrong(tries: list[Try]) -> Try:
    """Of the tries that went wrong the one with the shortest input: the one to show."""
    return min((one for one in tries if one.wrong), key=lambda one: len(one.inputs[0]))


def explanation(tries: list[Try], suspects: dict) -> str | None:
    """The first suspect {reason: function with that mistake} that gives the student's answer in every single try."""
    for reason, function in suspects.items():
        if all(function(*one.inputs) == one.answer for one in tries):
            return reason
    return None


def is_nan(answer: Tensor) -> bool:
    """Whether any number is NaN."""
    return bool(answer.isnan().any())


def one_of(*choices):
    """A random choice, from the check's own randomness."""
    return random.choice(choices)
