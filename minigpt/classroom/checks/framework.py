"""How every check calls a student's function, looks at what comes back, and says what is wrong.

A check runs the student's function on fresh random inputs and compares with an independent truth.
Only once the two differ does it go looking for the reason: it computes what each well-known slip
*would* have given, and the one that equals the student's answer is named. So a right answer can
never be refused for looking suspicious.

The functions below know nothing of tokens or attention. The checks themselves stand in the files
beside this one; what a call must leave alone stands in `guards.py`, and odd inputs in `cases.py`.
"""

import copy
import ctypes
import dis
import functools
import inspect
import linecache
import random
import re
import secrets
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType

import numpy
import torch
from torch import Tensor, nn

from minigpt.arguments import TRAINING_SEED, or_none, shown
from minigpt.classroom.checks import guards
from minigpt.classroom.checks.passed import note

TIME_LIMIT = 3.0    # seconds of computing for one check: a right answer needs 0.5
TOLERANCE = 1e-4    # how far apart two float32 computations of the same numbers may be

# Each is told how every check ended: its name, and what it said; "" where it passed.
listeners: list[Callable[[str, str], None]] = []


class Mistake(AssertionError):
    """What a check raises: a notebook shows its sentences alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython prints in place of a traceback."""
        return textwrap.wrap(f"✗ {self}", width=110, break_long_words=False, break_on_hyphens=False)


def fresh_seed() -> int:
    """A seed that no earlier cell has any influence on: each run of a check tries other numbers."""
    return secrets.randbelow(1_000_000)


def check(success: str, repeatable: bool = True):
    """Makes a check of a function that takes a `Student`.

    It prints one line starting with ✓, or raises `Mistake`. `repeatable`: whether the same inputs
    must give the same answer, which a random batch need not.
    """
    def decorate(body):
        @functools.wraps(body)
        def run(student, seed: int | None = None) -> None:
            seed = or_none(TRAINING_SEED)("seed", seed)
            seed = fresh_seed() if seed is None else seed
            name = getattr(student, "__name__", "")
            note(name, good=False)
            try:
                with guards.random_numbers_put_back(), time_limit():
                    guards.seed_all(seed)
                    student = Student(student, body.__name__, seed, repeatable)
                    with explained(student):
                        body(student)
                        student.own_work()
            except Mistake as mistake:
                _tell(body.__name__, str(mistake))
                raise
            note(name, good=True)
            _tell(body.__name__, "")
            print(f"✓ {success}")
        del run.__wrapped__                 # so that help() shows the signature that a student uses
        return run
    return decorate


def _tell(check: str, said: str) -> None:
    for listener in listeners:
        try:
            listener(check, said)
        except Exception:       # who listens is not the student's business
            continue


@contextmanager
def explained(student: "Student"):
    """Whatever ends a check early becomes a `Mistake` that says all that is known about it."""
    try:
        yield
    except Mistake as mistake:
        sentence = readable(str(student.forgetful() or mistake))
        raise Mistake(student.with_the_rest(sentence)) from mistake.__cause__
    except TookTooLong:
        raise Mistake(f"{student.name} needs too long: the check's time was up before it had seen "
                      "enough answers.") from None
    except Exception as error:
        sentence = readable(f"{student.check} can't make sense of what {student.name} gives back "
                            f"({type(error).__name__}: {first_line(error)})")
        raise Mistake(student.with_the_rest(sentence)) from error


def readable(message: str) -> str:
    """A message without what means nothing to a person: addresses, and folders of the moment."""
    folder = re.escape(tempfile.gettempdir()) + r"[\\/]+[^\s\\/'\"]+[\\/]+"
    return re.sub(rf" at 0x[0-9a-fA-F]*|{folder}", "", message)


class Student:
    """A student's function, or class, and its name in messages.

    Call it with named inputs, in its own order.
    """

    def __init__(self, answer, check: str, seed: int, repeatable: bool = True):
        name = getattr(answer, "__name__", type(answer).__name__)
        if not callable(answer):
            raise Mistake(f"{check} takes your function itself, not what it returns "
                          f"({described(answer)}): write {check}(my_function), without calling "
                          "it.")
        self.answer = answer
        self.name = "your function" if name == "<lambda>" else name
        self.check = check
        self.seed = seed
        self.repeatable = repeatable
        self.seeds = guards.SeedWatch(seed)
        self.answers = guards.Answers()
        self.weights: list[Tensor] | None = None                # of another module that it has made
        self.given: dict = {}                                   # what the last call was handed
        self.last: Asked | None = None                          # the last call that came back
        self.unmoved = False                                    # ask_module: another x, same result

    def __call__(self, hint: str = "", changes: tuple[str, ...] = (), **inputs):
        """What the student's function returns. Raises `Mistake` where it fails or does harm.

        `hint` is shown where the inputs were too much for it; `changes` names the inputs that it is
        meant to change.
        """
        return self.ask(self.answer, hint, changes, **inputs)

    def ask(self, function, hint: str = "", changes: tuple[str, ...] = (), **inputs):
        """The same for another function of the student's, such as a module of the class."""
        self.given = {key: guards.handed_over(value) for key, value in inputs.items()}
        tensors = [value for value in self.given.values() if isinstance(value, Tensor)]
        first = self.last is None
        if tensors and self._may_ask_twice(function, inputs) and (first or random.random() < 0.3):
            with guards.other_numbers(tensors):
                self._call(function, hint, changes)
        before = {key: value if value is self.given[key] else copy.deepcopy(value)
                  for key, value in inputs.items()}
        result = self._call(function, hint, changes)
        self.last = Asked(function, before, copied(result))
        if self.answers.handed_out_again(result):
            raise Mistake(f"{self.name} hands out one and the same {type(result).__name__} in two "
                          "calls: whoever still holds the first finds other things in it. Make a "
                          "new one in each call.")
        return result

    def _may_ask_twice(self, function, inputs: dict) -> bool:
        """Not where a model is asked, or handed over.

        A model writes down what it is shown, or draws its dropout.
        """
        models = [value for value in (function, *inputs.values()) if isinstance(value, nn.Module)]
        return self.repeatable and not models

    def _call(self, function, hint: str, changes):
        with self.seeds.around() as set_a_seed, guards.switches_put_back() as turned:
            result = ask(function, self.name, hint, changes, self.given)
            if sentence := turned():
                raise Mistake(f"{self.name} {sentence}.")
            if set_a_seed():
                raise Mistake(f"{self.name} sets the seed of the random numbers, so that whatever "
                              "is drawn after it, in any cell, is the same again: set no seed "
                              "inside, that is for whoever calls.")
        return result

    def module(self, hint: str = "", **inputs) -> nn.Module:
        """An instance of the student's nn.Module, in eval mode, its parameters shaken.

        At first a LayerNorm only normalises and a bias is 0, so that swapping two of them would
        change nothing: small random numbers make every parameter count.
        """
        if isinstance(self.answer, nn.Module):
            raise Mistake(f"{self.check} takes your class itself, and builds its own: write "
                          f"{self.check}({self.name}), not {self.check}({self.name}(…)).")
        self.given = inputs
        module = self._call(self.answer, hint, ())
        if not isinstance(module, nn.Module):
            raise Mistake(f"{self.name} makes a {type(module).__name__}, which has no parameters "
                          f"to train: start it with `class {self.name}(nn.Module):` and "
                          "`super().__init__()`.")
        if self.weights is None:
            self.weights = list(self._call(self.answer, hint, ()).parameters())
            places = {id(weight) for weight in self.weights}
            if any(id(weight) in places for weight in module.parameters()):
                raise Mistake(f"Two {self.name} share their weights: training one would change the "
                              "other. Make every part anew in __init__, as an attribute of self.")
        for name, weight in module.named_parameters():
            if not weight.requires_grad:
                raise Mistake(f"{name} of {self.name} can't learn: its requires_grad is off. Leave "
                              "it as nn.Parameter makes it, on.")
        shake(module)
        return module.eval()

    def ask_module(self, module: nn.Module, x: Tensor):
        """What a module makes of x, at times after another input of the same shape."""
        other, earlier = x.detach().flip(-1), None
        if random.random() < 0.5 and not torch.equal(other, x):
            earlier = self.ask(module, x=other)
        result = self.ask(module, x=x)
        self.unmoved = (isinstance(earlier, Tensor) and isinstance(result, Tensor)
                        and equal(earlier, result))
        return result

    def forgetful(self) -> Mistake | None:
        """Asks the last question again: who answers otherwise remembers, or draws at random."""
        if self.last is None or not self._may_ask_twice(self.last.function, self.last.inputs):
            return None
        try:
            again = self.last.function(*map(guards.handed_over, self.last.inputs.values()))
        except (Exception, TookTooLong):
            return None
        if equal(again, self.last.result):
            return None
        return Mistake(f"{self.name} was asked the same twice, and gives two answers: it remembers "
                       "something from one call to the next, or draws at random. Start from "
                       "nothing in each call; keep no list, tensor or number outside.")

    def with_the_rest(self, message: str) -> str:
        """A message, and with it what may be the cause, and how to get the same inputs again."""
        if not self.given or "is not written yet" in message:
            return message
        for name, value in numbers_from_elsewhere(self.answer).items():
            message += (f" It reads `{name}`, which is {value} in another cell: take sizes from "
                        "the inputs.")
        return f"{message} For the same inputs again: {self.check}(…, seed={self.seed})."

    def own_work(self) -> None:
        """Refuses an answer that only calls one that was written before, in another cell."""
        code = getattr(self.answer, "__code__", None)
        for name in names_read(self.answer):
            other = getattr(self.answer, "__globals__", {}).get(name)
            if (name.startswith("my_") and other is not self.answer
                    and isinstance(other, FunctionType)
                    and other.__code__.co_filename != getattr(code, "co_filename", "")
                    and parameters(other) == parameters(self.answer)):
                raise Mistake(f"{self.name} only hands its inputs on to {name}, which you have "
                              "written before. That is right, and teaches nothing new: write this "
                              "one out.")


@dataclass(frozen=True)
class Asked:
    """One call: of which function, with which inputs, and a copy of what came.

    The copy is from before anybody could change it.
    """

    function: object
    inputs: dict
    result: object


def ask(function, name: str, hint: str, changes, inputs: dict):
    """`function(*inputs)`, with everything that can go wrong on the way turned into a sentence."""
    watched = inputs | ({"itself": function} if isinstance(function, nn.Module) else {})
    before = {key: guards.kept(value) for key, value in watched.items() if key not in changes}
    call = f"{name}({', '.join(inputs)})"
    given = ", ".join(f"{key} = {described(value)}" for key, value in inputs.items())
    try:
        result = function(*inputs.values())
    except TookTooLong:
        raise Mistake(f"{call} was still running when its time was up, with {given}. Does every "
                      "turn of your loop come closer to its end?") from None
    except Exception as error:
        raise stopped(error, name, call, given, hint) from error
    changed = [key for key, value in before.items() if not guards.unchanged(value, watched[key])]
    if result is None and changed:
        raise Mistake(f"{name} changes {changed[0]} in place and returns None. Leave {changed[0]} "
                      "as it is, build something new, and `return` it.")
    if result is None or result is Ellipsis:
        raise Mistake(f"{name} returns {result}, for {given}: fill in the part between the "
                      "comments, end it with `return` (on every way through it), then run this "
                      "cell again.")
    if changed:
        raise Mistake(f"{name} changes its input {changed[0]} in place, so whoever called it loses "
                      "the original. Work on a copy, or use operations that make a new one.")
    for key, value in before.items():
        if isinstance(value, guards.Snapshot):
            harm = value.harm(watched[key], f"Your {names_of_module(key, name)}")
            if harm:
                raise Mistake(harm)
    return result


def names_of_module(key: str, name: str) -> str:
    """What to call a module in a message: the input's own name, or the student's class."""
    return name if key == "itself" else key


def stopped(error: Exception, name: str, call: str, given: str, hint: str) -> Mistake:
    """The message for an error in the student's code."""
    if isinstance(error, NotImplementedError) and not raised_by(error, "torch"):
        return Mistake(f"{name} is not written yet: put your own code where `raise "
                       "NotImplementedError()` stands, then run this cell again.")
    if isinstance(error, NotImplementedError) and "ModuleList" in str(error):
        return Mistake(f"{call} calls a list of layers (nn.ModuleList) as if it were a "
                       f"layer.{where(error)} Take them one after the other: `for block in "
                       "self.blocks: x = block(x)`.")
    if isinstance(error, RecursionError):
        hint = "It calls itself once too often: does every call come nearer to the end?"
    elif isinstance(error, (NameError, AttributeError, ImportError)):
        hint = f"Is that a typo{suggestion(error)}?"
    elif error.__traceback__.tb_next is None:
        hint = ""                                   # it was never entered: the arguments do not fit
    return Mistake(f"{call} stopped with {type(error).__name__}: {first_line(error)}{where(error)} "
                   f"It was called with {given}.{' ' + hint if hint else ''}")


def raised_by(error: Exception, package: str) -> bool:
    """Whether it was a line of this package that raised the error."""
    frame = error.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    return frame.tb_frame.f_globals.get("__name__", "").split(".")[0] == package


def suggestion(error: Exception) -> str:
    """The name that is most like one that does not exist, as Python itself suggests it."""
    import traceback
    last = "".join(traceback.TracebackException.from_exception(error).format_exception_only())
    _, found, likely = last.rpartition("Did you mean: ")
    return f": do you mean {likely.strip().rstrip('?')}" if found else ""


class TookTooLong(BaseException):
    """Raised inside a function that does not come back.

    It is no Exception, so that `except Exception` misses it.
    """


@contextmanager
def time_limit():
    """Interrupts what runs inside with `TookTooLong`, once it has used `TIME_LIMIT`.

    Again and again, since a bare `except:` in the student's loop catches it.
    """
    thread, start = threading.get_ident(), time.process_time()
    lock, finished = threading.Lock(), threading.Event()

    def watch():
        pause = 0.1
        while not finished.wait(pause):
            with lock:
                if time.process_time() - start > TIME_LIMIT and not finished.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread), ctypes.py_object(TookTooLong))
                    pause = 1.0

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


# ----------------------------------------------------------------------- what a function is made of

def functions_of(answer) -> list[FunctionType]:
    """A function itself, or the methods that a class defines."""
    candidates = vars(answer).values() if isinstance(answer, type) else [inspect.unwrap(answer)]
    return [one for one in candidates if isinstance(one, FunctionType)]


def names_read(answer) -> set[str]:
    """The global names that an answer reads, also in what is nested in it."""
    codes, names = [function.__code__ for function in functions_of(answer)], set()
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        names |= {step.argval for step in dis.get_instructions(code)
                  if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return names


def numbers_from_elsewhere(answer) -> dict[str, int]:
    """The whole numbers that an answer reads from the notebook.

    They are sizes of another cell, that happen to have its names.
    """
    found = {name: function.__globals__.get(name)
             for function in functions_of(answer) for name in names_read(answer)}
    return {name: value for name, value in sorted(found.items()) if type(value) is int}


def parameters(function) -> list[str]:
    """The names of a function's parameters; none where it does not tell."""
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


# ------------------------------------------------------------------------------- inputs and answers

def described(value) -> str:
    """An input, short enough for a sentence."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    if isinstance(value, nn.Module):
        return f"a {type(value).__name__}"
    if isinstance(value, (set, frozenset, tuple)) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)}"
    if type(value).__repr__ is object.__repr__:
        return article(value)
    return readable(shown(value))


def article(value) -> str:
    """The type of a wrong answer: "a list", "an int"."""
    kind = type(value).__name__
    if kind == "bytes":
        return kind
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def tensor(value, what: str, shape: tuple[int, ...], axes: str, dtype: str = "float32") -> Tensor:
    """A detached copy of `value`, once it is a tensor of this shape and dtype.

    "float" is any floating-point one.
    """
    has, holds = ("have", "hold") if plural(what) else ("has", "holds")
    if not isinstance(value, Tensor):
        raise Mistake(f"{what} should be a tensor; what comes is {article(value)}.")
    if tuple(value.shape) != shape:
        same_numbers = sorted(value.shape) == sorted(shape)
        raise Mistake(f"{what} {has} shape {tuple(value.shape)}; right is {axes} = {shape} here."
                      + (" The sizes are right and their order is not: which two axes are swapped?"
                         if same_numbers else ""))
    if dtype == "float":
        wanted, right_kind = "floating-point numbers", value.is_floating_point()
    else:
        wanted, right_kind = f"torch.{dtype}", value.dtype == getattr(torch, dtype)
    if not right_kind:
        raise Mistake(f"{what} {holds} {value.dtype}, where {wanted} should be.")
    return value.detach().clone()


def plural(what: str) -> bool:
    """Whether a subject such as "Your weights" takes a plural verb."""
    return what.endswith("s") and not what.endswith("ss")


def pair(value, name: str, what: str) -> tuple:
    """The two results of a function that returns two."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        got = (f"{len(value)} things" if isinstance(value, (tuple, list))
               else f"one {type(value).__name__}")
        raise Mistake(f"{name} returns {got}; it should return two: `return {what}`.")
    return tuple(value)


def one_number(value) -> float | None:
    """A number of Python's, NumPy's or torch's as a float; None for what is not one number."""
    if isinstance(value, (bool, str)):
        return None
    if isinstance(value, (Tensor, numpy.ndarray)) and value.ndim > 0:
        return None
    if isinstance(value, Tensor):
        return float(value.detach())
    return float(value) if isinstance(value, (int, float, numpy.number, numpy.ndarray)) else None


def shake(module: nn.Module) -> None:
    """Moves every parameter away from where it began."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))


def same(answer: Tensor, right: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Equal up to rounding, with NaN equal to nothing."""
    return answer.shape == right.shape and torch.allclose(
        answer.double(), right.double(), rtol=tolerance, atol=tolerance)


def equal(one, other) -> bool:
    """Whether two answers to the same question are the same, up to rounding.

    What cannot be compared counts as the same.
    """
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.allclose(
            one.double(), other.double(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(equal, one, other))
    if type(one) is type(other) and isinstance(one, (str, bytes, int, dict)):
        return one == other
    return True


def copied(result):
    """A copy of an answer: of its tensors, alone or in a tuple, or of a list or a dictionary."""
    if isinstance(result, Tensor):
        return result.detach().clone()
    if isinstance(result, (tuple, list)):
        return type(result)(map(copied, result)) if type(result) in (tuple, list) else result
    return dict(result) if isinstance(result, dict) else result


def accuse(answer: Tensor, suspects: dict[str, Tensor], tolerance: float = TOLERANCE) -> None:
    """Raises the message of the first suspect whose numbers are the student's."""
    for message, wrong in suspects.items():
        if same(answer, wrong, tolerance):
            raise Mistake(message)


def look_at_rounding(answer: Tensor, right: Tensor, what: str) -> None:
    """Raises the mistake of numbers that are nearly right."""
    if same(answer, right, 2e-2):
        raise Mistake(f"{what} is nearly right, to two digits or three: something is rounded on "
                      "the way, in numbers of 16 bits or by an approximation. Keep float32 all "
                      "through.")


def difference(answer: Tensor, right: Tensor, what: str) -> Mistake:
    """The message for an unforeseen mistake: where the two differ most, and by how much."""
    look_at_rounding(answer, right, what)
    gap = (answer.double() - right.double()).abs().nan_to_num(nan=float("inf"))
    largest = numpy.unravel_index(int(gap.argmax()), tuple(gap.shape))   # () for a single number
    place = [int(index) for index in largest]
    at = f" at {place}" if place else ""
    return Mistake(f"{what} is not right: the largest difference is{at}, where yours is "
                   f"{float(answer[tuple(place)]):.4g} and {float(right[tuple(place)]):.4g} is "
                   "right.")


def look_at_gradients(what: str, answer: Tensor, right: Tensor, mine: dict[str, Tensor],
                      truth: dict[str, Tensor], exact: bool = True) -> None:
    """Raises the mistake in the gradients of an answer that is right.

    Without them nothing before it learns.

    `mine` and `truth` hold, by the same names, the leaves that the answer and the right one were
    computed from. Where it is not `exact`, it is enough that a gradient arrives. What torch itself
    refuses to differentiate (numbers that were written over) says so loudly wherever it is trained,
    and is let pass.
    """
    cut = ("`torch.no_grad()`, `.detach()`, `.data`, `.item()`, `math` and NumPy all cut the "
           "gradient off.")
    if not answer.requires_grad:
        raise Mistake(f"{what} {'are' if plural(what) else 'is'} right, and no gradient gets "
                      f"through it, so nothing before it could learn. {cut}")
    direction = torch.randn_like(right)
    wanted = gradients(right, direction, [truth[name] for name in mine])
    try:
        found = gradients(answer, direction, list(mine.values()))
    except RuntimeError:
        return
    for name, one, other in zip(mine, found, wanted, strict=True):
        scale = max(float(other.abs().max()), 1e-2)       # below it a gradient of 0 is rounding
        arrives = bool(one.any()) or not bool(other.abs().max() > TOLERANCE)
        if not arrives or exact and not same(one / scale, other / scale, 1e-3):
            raise Mistake(f"{what} {'are' if plural(what) else 'is'} right, and the gradient of "
                          f"{name} is not: it would learn the wrong thing, or nothing. {cut}")


def gradients(value: Tensor, direction: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of the leaves, of which 0 is one too."""
    return torch.autograd.grad((value * direction).sum(), leaves, retain_graph=True,
                               materialize_grads=True, allow_unused=True)


@dataclass(frozen=True)
class Try:
    """One input, what the student made of it, and what is right: for answers without tensors."""

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
    """The first reason whose function gives the student's answer in every single try.

    `suspects`: {reason: function with that mistake}.
    """
    for reason, function in suspects.items():
        if all(function(*one.inputs) == one.answer for one in tries):
            return reason
    return None


def is_nan(answer: Tensor) -> bool:
    """Whether any number is NaN."""
    return bool(answer.isnan().any())
