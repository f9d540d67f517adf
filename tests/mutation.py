"""How good are the tests? Break the finished code in one small place at a time, and see whether a test turns red.

    python tests/mutation.py --sample 40 --seed 1             # a sample; without --sample every place, which takes hours
    python tests/mutation.py sampling model                   # of these modules alone
    python tests/mutation.py sampling --only "121 False"      # the changes whose description begins so: a survivor again

A broken copy is called a mutant (DeMillo, Lipton and Sayward, "Hints on Test Data Selection", 1978). One that no test
notices has survived, and is listed: either a test is missing, or the change makes no difference, which a person decides.
Why not a library: our guards stand in decorators, and mutmut 3 changes nothing outside of functions (its README says so);
cosmic-ray starts its test command anew for every mutant, which for us is seconds of importing torch each time. Here a
mutant is a fork of a process that has imported torch already.
A mutant runs in a copy of the package in a temporary folder, so that the working tree is never touched. Tests that take
the least time run first; one that takes far more than it should counts as failed, by the time that it computes, so that
a busy machine makes no difference.
"""

import argparse
import ast
import itertools
import math
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

import hypothesis  # noqa: E402, F401
import numpy  # noqa: E402, F401
import psutil  # noqa: E402
import pytest  # noqa: E402
import safetensors.torch  # noqa: E402, F401
import torch  # noqa: E402, F401

REPOSITORY = Path(__file__).resolve().parents[1]
MEMORY = 4 << 30    # bytes that a mutant may take
TESTS = {       # the files that may notice, those that fail the soonest first
    "vocabulary": ["test_vocabulary.py", "test_tokenizer_properties.py"],
    "tokenizer": ["test_tokenizer.py", "test_tokenizer_properties.py", "test_arguments.py"],
    "self_attention": ["test_self_attention.py", "test_model.py", "test_arguments.py"],
    "model": ["test_model.py", "test_self_attention.py", "test_reference_mistakes.py", "test_arguments.py"],
    "presets": ["test_presets.py", "test_arguments.py"],
    "batches": ["test_batches.py", "test_gpt.py", "test_arguments.py"],
    "pace": ["test_pace.py", "test_training.py"],
    "training_state": ["test_training_state.py", "test_training.py", "test_arguments.py"],
    "training": ["test_training.py", "test_training_state.py", "test_memory.py", "test_arguments.py"],
    "sampling": ["test_sampling.py", "test_reference_mistakes.py", "test_arguments.py"],
    "progress": ["test_progress.py", "test_gpt.py", "test_run_file.py"],
}
SWAPS = {
    ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn],
    ast.NotIn: [ast.In], ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mult], ast.Mod: [ast.FloorDiv], ast.Pow: [ast.Mult], ast.MatMult: [], ast.BitOr: [ast.BitAnd],
    ast.BitAnd: [ast.BitOr], ast.LShift: [ast.RShift], ast.RShift: [ast.LShift], ast.And: [ast.Or], ast.Or: [ast.And],
}


def changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    """Every small change of one node: what it is in words, and a function that makes it."""
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            for other in SWAPS[type(operator)]:
                yield f"{name(operator)} -> {name(other)}", lambda n, i=i, other=other: n.ops.__setitem__(i, other())
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign):
        for other in SWAPS[type(node.op)]:
            yield f"{name(node.op)} -> {name(other)}", lambda n, other=other: setattr(n, "op", other())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not removed", lambda n: setattr(n, "op", ast.UAdd()) or setattr(n, "operand", called("bool", n.operand))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "minus removed", lambda n: setattr(n, "op", ast.UAdd())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
        yield "~ removed", lambda n: setattr(n, "op", ast.UAdd())
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"{node.value} -> {not node.value}", lambda n: setattr(n, "value", not n.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        for step in (1, -1):
            yield f"{node.value} -> {node.value + step}", lambda n, step=step: setattr(n, "value", n.value + step)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition -> True", lambda n: setattr(n, "test", ast.Constant(True))
        yield "condition -> False", lambda n: setattr(n, "test", ast.Constant(False))
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "return -> return None", lambda n: setattr(n, "value", ast.Constant(None))
    for field in ("body", "orelse", "finalbody"):
        statements = getattr(node, field, None)
        for i, statement in enumerate(statements if isinstance(statements, list) else []):
            if not isinstance(statement, ast.Pass | ast.Return | ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef) \
                    and not is_docstring(statement):
                yield (f"dropped: {ast.unparse(statement).splitlines()[0][:70]}",
                       lambda n, field=field, i=i: getattr(n, field).__setitem__(i, ast.Pass()))


def name(operator) -> str:
    return operator.__name__ if isinstance(operator, type) else type(operator).__name__


def called(function: str, argument: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(function, ast.Load()), [argument], [])


def is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def mutants(source: str) -> list[tuple[int, int, str]]:
    """Every small change that `changed` can make of a module: (place in the tree, number there, what it is in words)."""
    return [(place, number, f"{getattr(node, 'lineno', 1)} {description}")
            for place, node in enumerate(ast.walk(ast.parse(source)))
            for number, (description, _) in enumerate(changes(node))]


def changed(source: str, place: int, number: int) -> str:
    """The source with that change."""
    tree = ast.parse(source)
    node = next(itertools.islice(ast.walk(tree), place, None))
    change = list(changes(node))[number][1]
    change(node)
    return ast.unparse(ast.fix_missing_locations(tree))


def copy_of_the_repository(folder: str) -> Path:
    """A folder with all that the tests need. All mutants share it, so that only the first compiles the tests."""
    for part in ("minigpt", "tests"):
        shutil.copytree(REPOSITORY / part, Path(folder) / part, ignore=shutil.ignore_patterns("__pycache__", "browser"))
    for shared in ("data", "pyproject.toml"):
        os.symlink(REPOSITORY / shared, Path(folder) / shared)
    return Path(folder)


def outcome(copy: Path, module: str, source: str, known: dict[str, float], limit: float) -> dict[str, float] | str:
    """How long each test computes with this source in the module's place, or what it was that failed."""
    path = copy / "minigpt" / f"{module}.py"
    original = path.read_bytes()
    path.write_text(source, encoding="utf-8")
    forget_compiled(path)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=run_tests, args=(copy, TESTS[module], known, sender))
    process.start()
    sender.close()
    try:
        return answer(receiver, psutil.Process(process.pid), limit)
    except (EOFError, psutil.NoSuchProcess):
        return "the process ended"
    finally:
        process.kill()
        process.join()
        path.write_bytes(original)
        forget_compiled(path)


def answer(receiver, process: psutil.Process, limit: float) -> dict[str, float] | str:
    """What `run_tests` sends at its end, unless it computes for longer than it said that its test should."""
    end, allowed = time.monotonic() + limit, math.inf
    while time.monotonic() < end and process.cpu_times().user < allowed:
        if receiver.poll(1):
            message = receiver.recv()
            if not isinstance(message, float):
                return message
            allowed = message
    return "time"


def forget_compiled(path: Path) -> None:
    """Python takes a compiled module for its source where their seconds and sizes agree, as those of mutants may."""
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def run_tests(folder: Path, files: list[str], known: dict[str, float], sender) -> None:
    """In a process of its own, forked from one that has imported all that is slow to import, but nothing of the package."""
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)              # for the processes that tests start
    sys.path.insert(0, str(folder))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    hypothesis.settings.register_profile("first failure", database=None, phases=[hypothesis.Phase.explicit,
                                                                                 hypothesis.Phase.generate])
    hypothesis.settings.load_profile("first failure")
    stopwatch = Stopwatch(known, sender)
    paths = [f"tests/{file}" for file in files]
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-k", "not bad_option", *paths], [stopwatch])
    sender.send(stopwatch.seconds if status == 0 else stopwatch.failed or "import")
    os._exit(0)


class Stopwatch:
    """A plug-in of pytest that takes the time of each test, and with the known times runs the quick ones first."""

    def __init__(self, known: dict[str, float], sender):
        self.known, self.sender = known, sender
        self.seconds, self.failed = {}, ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        # by its order of magnitude, so that tests that share a fixture stay side by side
        items.sort(key=lambda item: round(math.log10(self.known.get(item.nodeid, 0) + 0.01)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        began = time.process_time()
        if self.known:
            self.sender.send(began + 10 + 10 * self.known.get(item.nodeid, 0))
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - began

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed = report.nodeid


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", choices=[[], *TESTS], help="default: all of them")
    parser.add_argument("--sample", type=int, help="so many mutants, chosen by chance, and not all")
    parser.add_argument("--only", default="", help="changes alone whose line and description begin with this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3000, help="after which a mutant counts as noticed (default: 3000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return sample(copy_of_the_repository(folder), options)


def known_seconds(copy: Path, module: str, source: str, limit: float) -> dict[str, float]:
    """How long each test takes without any change. They run twice: the quick ones first is another order."""
    seconds = {}
    for _ in range(2):
        seconds = outcome(copy, module, ast.unparse(ast.parse(source)), seconds, limit)
        if isinstance(seconds, str):
            raise SystemExit(f"the tests of {module} fail without any change ({seconds}): mend that first")
    return seconds


def sample(copy: Path, options: argparse.Namespace) -> int:
    sources = {module: (copy / "minigpt" / f"{module}.py").read_text("utf-8") for module in options.modules or TESTS}
    known = {module: known_seconds(copy, module, source, options.seconds) for module, source in sources.items()}
    places = [(module, *mutant) for module, source in sources.items() for mutant in mutants(source)
              if mutant[-1].startswith(options.only)]
    chosen = random.Random(options.seed).sample(places, min(options.sample or len(places), len(places)))
    survivors, began = [], time.time()
    for count, (module, place, number, description) in enumerate(chosen, 1):
        source = changed(sources[module], place, number)
        end = outcome(copy, module, source, known[module], options.seconds)
        killed = isinstance(end, str)
        print(f"{count}/{len(chosen)} {'killed' if killed else 'SURVIVED'} {module}.py:{description}",
              f"({end.rpartition('::')[-1]})" if killed else "", flush=True)
        survivors += [] if killed else [f"{module}.py:{description}"]
    print(f"\n{len(chosen) - len(survivors)} of {len(chosen)} mutants killed ({len(places)} exist) in "
          f"{(time.time() - began) / 60:.0f} minutes; survivors:", *sorted(survivors) or ["none"], sep="\n  ")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
