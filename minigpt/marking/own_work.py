"""What is to be seen in the text of an answer before anybody runs it: that it is not the student's.

It finds what is written plainly: the checks patched, torch or the package changed, a look at the
program that runs it, at files or at the notebook, and the package's answer copied. That the
package's answer is *called*, under whatever name, is found in the worker. Whoever hides a trick
from this gains little: the worker has nothing to find, and its numbers must be right all the same.
"""

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterable, Iterator

from minigpt.marking.cells import Cell
from minigpt.marking.worker import part

# What an answer, and the cells that it needs, may import. Two more are refused below.
MAY_IMPORT = set("""
    __future__ abc array bisect cmath codecs collections contextlib copy dataclasses datetime
    decimal enum fractions functools heapq io itertools json lzma math matplotlib minigpt numbers
    numpy operator pathlib pprint random re regex statistics string struct tempfile textwrap time
    torch tqdm typing unicodedata warnings
""".split())
PROGRAM = set("""
    sys os gc inspect ctypes atexit signal threading multiprocessing subprocess socket builtins
    importlib settrace setprofile _getframe _exit f_back f_locals f_globals tb_frame gi_frame
    cr_frame globals locals vars exit quit breakpoint input
    __builtins__ __globals__ __code__ __closure__ __dict__ __defaults__ __kwdefaults__ __wrapped__
    __self__ __func__ __subclasses__ __bases__ __base__ __mro__ __module__ __loader__ __spec__
    __reduce__ __reduce_ex__ __getattribute__ __setattr__ __file__ __path__
""".split())
RUNS_TEXT = {"exec", "eval", "compile", "__import__"}
FILES = set("""
    open open_code FileIO read_text read_bytes write_text write_bytes fromfile tofile memmap loadtxt
    savetxt genfromtxt unlink iterdir glob rglob
""".split())
NOTEBOOK = {"get_ipython", "In", "Out"}
ONLY_NAMES = RUNS_TEXT | NOTEBOOK | {"input", "exit", "quit", "vars"}   # model.eval() is no eval()
TELLING = 25        # characters of a comment, or a docstring's line, that come by no chance twice
LONG = 40           # parts of a function's code that come by no chance twice


def refusal(name: str, check: str, answer: list[Cell], notebook: list[Cell],
            package: Iterable[str], worked: list[Cell], reads_files: bool) -> str:
    """Why this answer earns nothing, in a sentence; "" where nothing is to be seen.

    `answer` are the cells that it needs, `notebook` all that the student has written before the
    test, `package` the parts that are the answer, `worked` the teacher's own solutions.
    """
    modules = imported(notebook)
    for cell in notebook:
        if sentence := patched(cell, check) or changed(cell, modules):
            return sentence
    if sentence := copied(name, answer, package, worked):
        return sentence
    return next((sentence for cell in answer
                 for sentence in reached_for(cell, name, reads_files)), "")


# ----------------------------------------------------------------------------- what it reaches for

def reached_for(cell: Cell, name: str, reads_files: bool) -> Iterator[str]:
    """Sentences about what an answer has no need of."""
    for node in ast.walk(cell.tree) if cell.tree else ():
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from wrongly_imported(node, name)
        word = {ast.Name: "id", ast.Attribute: "attr", ast.alias: "name"}.get(type(node))
        if word is None:
            continue
        word = getattr(node, word)
        if word in ONLY_NAMES and isinstance(node, ast.Attribute):
            continue
        if word in RUNS_TEXT:
            yield f"{name} runs a text as code (`{word}`): write the code itself."
        if word in NOTEBOOK:
            yield (f"{name} looks at the notebook around it (`{word}`): an answer is made from its "
                   "inputs alone.")
        if word in FILES and not reads_files:
            yield (f"{name} reads or writes files (`{word}`): an answer is made from its inputs "
                   "alone.")
        if word in PROGRAM and isinstance(
                getattr(node, "ctx", ast.Load()), ast.Load):
            yield (f"{name} reaches for the program that runs it (`{word}`): an answer only "
                   "computes its result from its inputs.")


def wrongly_imported(node: ast.Import | ast.ImportFrom, name: str) -> Iterator[str]:
    """Sentences about an import."""
    modules = ([node.module or ""] if isinstance(node, ast.ImportFrom)
               else [alias.name for alias in node.names])
    for module in modules:
        inside = module + "."
        if inside.startswith(("minigpt.classroom.", "minigpt.marking.")) and (
                module != "minigpt.classroom"):
            yield (f"{name} takes something from {module}, which checks and marks: write your own.")
        elif module.split(".")[0] not in MAY_IMPORT:
            yield (f"{name} imports {module}, which an answer has no need of: write it without.")


# --------------------------------------------------------------------------------- what it changes

def patched(cell: Cell, check: str) -> str:
    """A sentence where a cell gives the check's name to something else."""
    for node in ast.walk(cell.tree) if check and cell.tree else ():
        given = ((isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == check)
                 or (isinstance(node, ast.Name) and node.id == check
                     and not isinstance(node.ctx, ast.Load))
                 or (isinstance(node, ast.alias) and node.asname == check != node.name))
        if given:
            return (f"`{check}` means something else in this notebook: the check is not yours to "
                    "write.")
    return ""


def imported(cells: list[Cell]) -> set[str]:
    """The names that mean a module, or a part of one, anywhere in the notebook."""
    names = {(alias.asname or alias.name).split(".")[0]
             for cell in cells if cell.tree for node in ast.walk(cell.tree)
             if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
    for cell in cells:                                          # other = torch
        for node in cell.tree.body if cell.tree else ():
            if isinstance(node, ast.Assign) and root(node.value) in names:
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def root(node: ast.expr) -> str:
    """`torch` of `torch.nn.functional`; "" of what is no such chain."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def changed(cell: Cell, modules: set[str]) -> str:
    """A sentence where a cell puts something else in the place of a part of torch or minigpt."""
    for node in ast.walk(cell.tree) if cell.tree else ():
        target = None
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            target = node
        elif (isinstance(node, ast.Call) and root(node.func) in ("setattr", "delattr")
              and node.args):
            target = node.args[0]
        if target is not None and root(target) in modules:
            return (f"`{ast.unparse(node)[:60]}` is changed in this notebook: what torch, minigpt "
                    "and the checks are made of stays as it is.")
    return ""


# ---------------------------------------------------------------------------- what it is a copy of

def copied(name: str, answer: list[Cell], package: Iterable[str], worked: list[Cell]) -> str:
    """A sentence where the answer holds the package's source: its words, or its code.

    A short function can be written in one way only, and so can our own worked solution.
    """
    text = "\n".join(" ".join(line.split()) for cell in answer for line in cell.code.splitlines())
    ours = {shape(function) for cell in worked for function in functions(cell.tree)}
    for part_name in package:
        owner = part(part_name.rpartition(".")[0])
        for line in telling_lines(source_of(owner if isinstance(owner, type) else part(part_name))):
            if line in text:
                return (f"{name} holds a line of {part_name} (“{line[:50]}…”): write your own in "
                        "your own words.")
        original, = ast.parse(source_of(part(part_name))).body
        if length(original) < LONG or shape(original) in ours:
            continue
        for cell in answer:
            if any(shape(function) == shape(original) for function in functions(cell.tree)):
                return (f"{name} is {part_name} with other names or other comments: write your "
                        "own.")
    return ""


def source_of(what) -> str:
    """The text of a function or class of the package."""
    return textwrap.dedent(inspect.getsource(inspect.unwrap(what)))


def functions(tree: ast.Module | None) -> Iterator[ast.FunctionDef]:
    """All functions of a cell, also those of its classes."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)) if tree else ()


def telling_lines(source: str) -> Iterator[str]:
    """Lines of the docstrings and comments of a function or a class, those that are long."""
    lines = [line for node in ast.walk(ast.parse(source))
             if isinstance(node, ast.FunctionDef | ast.ClassDef)
             for line in (ast.get_docstring(node) or "").splitlines()]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            lines.append(token.string.lstrip("# "))
    return (" ".join(line.split()) for line in lines if len(line.strip()) >= TELLING)


def body(function: ast.FunctionDef) -> list[ast.stmt]:
    """Its statements, without the docstring."""
    return function.body[1:] if ast.get_docstring(function) else function.body


def length(function: ast.FunctionDef) -> int:
    """How much there is of it."""
    return sum(1 for statement in body(function) for _ in ast.walk(statement))


def shape(function: ast.FunctionDef) -> str:
    """Its code with every name replaced by its number, without annotations and comments."""
    numbers: dict[str, str] = {}
    words = []
    for statement in body(function):
        for node in ast.walk(statement):
            words.append(type(node).__name__)
            if isinstance(node, ast.Name | ast.arg):
                name = getattr(node, "id", None) or node.arg
                words.append(numbers.setdefault(name, str(len(numbers))))
            elif isinstance(node, ast.Attribute):
                words.append(node.attr)
            elif isinstance(node, ast.Constant):
                words.append(repr(node.value))
    return " ".join(words)
