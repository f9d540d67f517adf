"""The process in which a student's code runs: it is asked, and never knows what is right.

    python -m minigpt.marking.worker SOCKET [checks]

It imports what answers need, once, and waits at a socket. For each task it splits off a child, so
that every answer finds the program fresh, whatever the one before has changed. The child limits
itself: seconds of computing, memory, small files, nothing to read or print on, and no network
where the system lets it choose so. Then it runs the student's cells, and answers questions until
nobody asks any more.

Of the classroom nothing can be imported in it, neither the checks nor the hidden questions; and the
parts of the package that are the answer refuse to run. A worker with "checks" is for the
classroom's own check of an answer: what that says helps a student, and earns nothing by itself.
"""

import contextlib
import ctypes
import functools
import importlib
import inspect
import io
import linecache
import os
import pickle
import select
import signal
import socket
import struct
import sys
import traceback
from types import ModuleType

import torch
import torch._dynamo  # noqa: F401  (the first optimizer needs it, and it takes seconds)

from minigpt.marking import asking
from minigpt.marking.messages import pack

SECONDS = 10                    # of computing, for all that one answer is asked
MEMORY = 2 * 2 ** 30            # bytes, on top of what an empty worker has
FILE = 2 ** 20                  # bytes that a file may grow to
NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000      # of Linux, for unshare
SHUT = ("minigpt.classroom", "minigpt.marking", "nbgrader")
PACKAGES_OWN = "the package's own: "
REFUSES = """
def refuses(*inputs, **named):
    raise PermissionError({words!r})
"""


def main() -> None:
    """Waits for tasks until whoever started it is gone, which ends its standard input."""
    address, with_checks = sys.argv[1], sys.argv[2:] == ["checks"]
    torch.set_num_threads(1)
    if with_checks:
        importlib.import_module("minigpt.classroom")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)               # nobody waits for the children
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([door, sys.stdin], [], [])[0]:
            channel, _ = door.accept()
            child = os.fork()
            if child == 0:
                door.close()
                serve(channel)
            channel.sendall(struct.pack(">I", child))
            channel.close()


def serve(channel: socket.socket) -> None:
    """The whole life of a child."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        with open(os.devnull, "r+b", buffering=0) as nothing:
            for stream in (0, 1, 2):
                os.dup2(nothing.fileno(), stream)
        limit()
        task = receive(channel)
        (check if task["check"] else answer)(channel, task)
    except EOFError:            # nobody asks any more
        pass
    finally:
        os._exit(0)


def limit() -> None:
    """What this process may use from now on."""
    import resource  # which Windows lacks

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":         # macOS takes no such limit
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
        memory = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        ctypes.CDLL(None).unshare(NEW_USER | NEW_NETWORK)       # where it may, it has no network


def receive(channel: socket.socket):
    """What the judge sends: its own pickles, which may hold anything."""
    (length,) = struct.unpack(">I", exactly(channel, 4))
    return pickle.loads(exactly(channel, length))


def exactly(channel: socket.socket, length: int) -> bytes:
    """So many bytes. Raises EOFError where no more come."""
    received = bytearray()
    while len(received) < length:
        piece = channel.recv(min(length - len(received), 2 ** 20))
        if not piece:
            raise EOFError
        received += piece
    return bytes(received)


def send(channel: socket.socket, *reply) -> None:
    """A reply in the judge's safe form."""
    message = pack(list(reply))
    channel.sendall(struct.pack(">I", len(message)) + message)


# ------------------------------------------------------------------------------------- an answer

def answer(channel: socket.socket, task: dict) -> None:
    """Runs the cells, then answers questions: ["value", …] or ["error", kind, words, line]."""
    shut_the_classroom(task["passed"])
    for name in task["package"]:
        refuse(name)
    scope, told = run_cells(task["cells"])
    found = scope.get(task["name"])
    if found is None:
        send(channel, "missing", told)
        return
    send(channel, "own" if not whose(found) else "package", whose(found))
    while True:
        how, inputs = receive(channel)
        try:
            send(channel, "value", getattr(asking, how)(found, *inputs))
        except BaseException as error:      # SystemExit too
            send(channel, "error", type(error).__name__, str(error)[:500], line_of(error))


def run_cells(cells: list[tuple[str, str]]) -> tuple[dict, str]:
    """(what the cells have set, what the last one that stopped was stopped by).

    A cell that stops hides no other: a notebook goes on after it as well.
    """
    scope, told = {"__name__": "__main__"}, ""
    for name, code in cells:
        file = f"<{name}>"
        linecache.cache[file] = len(code), None, code.splitlines(True), file
        try:
            exec(compile(code, file, "exec"), scope)
        except BaseException as error:
            told = f"{type(error).__name__}: {str(error)[:200]}"
    return scope, told


def line_of(error: BaseException) -> str:
    """The last line of the student's own that the error went through."""
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__)
             if frame.filename.startswith("<")]
    return lines[-1] if lines else ""


def shut_the_classroom(passed: list[str]) -> None:
    """Puts a stage set in its place: every name is there, and does nothing.

    So that a notebook's first cell, which imports its widgets and checks, runs all the same.
    """
    sys.modules["minigpt.classroom"] = StageSet("minigpt.classroom")
    sys.modules["minigpt.classroom"].passed = set(passed).__contains__
    sys.meta_path.insert(0, Shut())


class StageSet(ModuleType):
    """A module in which every name means a function that does nothing."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return nothing


def nothing(*_inputs, **_named) -> None:
    """What a picture, a widget or a check is here."""


class Shut:
    """Finds no module of the classroom, of the marking, or of nbgrader."""

    def find_spec(self, name: str, _path=None, _target=None):
        """Refuses those, and leaves all others to Python's own finders."""
        if name.startswith(SHUT):
            raise ImportError(f"{name} can't be used by an answer")


def part(name: str):
    """The part of the package with this dotted name, without what guards and decorates it."""
    module, *inside = name.split(".")[1:]               # such as minigpt.gpt.GPT.generate
    return functools.reduce(getattr, inside, importlib.import_module(f"minigpt.{module}"))


def refuse(name: str) -> None:
    """Makes a function of the package refuse to run, under whatever name anybody knows it."""
    function = inspect.unwrap(part(name))
    space: dict = {}
    exec(REFUSES.format(words=PACKAGES_OWN + name), space)
    function.__code__ = space["refuses"].__code__


def whose(found) -> str:
    """The dotted name of a function or class of the package; "" of any other."""
    for inside in ("func", "__func__", "__wrapped__"):      # a partial, a method, a decorated one
        found = getattr(found, inside, found)
    module = str(getattr(found, "__module__", ""))
    own = module.startswith("minigpt.") and not module.startswith("minigpt.marking")
    return f"{module}.{getattr(found, '__qualname__', '')}" if own else ""


# --------------------------------------------------------------------------------------- a check

def check(channel: socket.socket, task: dict) -> None:
    """Runs the cells, then the classroom's check: ["passed", line] or ["mistake", sentence]."""
    from minigpt.classroom import checks
    from minigpt.classroom.checks.passed import note

    for name in task["passed"]:
        note(name, good=True)
    scope, told = run_cells(task["cells"])
    if task["name"] not in scope:
        send(channel, "missing", told)
        return
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            getattr(checks, task["check"])(scope[task["name"]])
    except BaseException as error:
        send(channel, "mistake", str(error))
    else:
        send(channel, "passed", printed.getvalue().strip().rpartition("\n")[2])


if __name__ == "__main__":
    main()
