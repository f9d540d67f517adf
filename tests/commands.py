"""Runs `minigpt …` in a process of its own, cheaply: all are forked from one server that has imported torch already.

A command can be made to send itself a signal in the middle of a step of training, so that a test decides where it is hit.
"""

import multiprocessing
import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"      # spawn on Windows
CONTEXT = multiprocessing.get_context(METHOD)
# torch._dynamo: the first optimizer imports it
CONTEXT.set_forkserver_preload(["minigpt.__main__", "torch._dynamo", "tqdm.auto"])      # the first optimizer needs the second

TINY = ("--d-model", "16", "--n-heads", "2", "--n-layers", "1", "--d-ff", "32", "--context-length", "8",
        "--vocab-size", "280", "--batch-size", "4")
TEXT = "It is a truth universally acknowledged, that a single man in possession of a good fortune — é🙂.\n" * 12


@dataclass
class Result:
    """How a command ended: its exit status (minus the number of the signal that killed it), and all that it printed."""

    status: int
    output: str


def start(*arguments, output, at_step=None, send=None, cwd=None):
    """Start a command; what it prints goes to the file `output`. In its step `at_step` it sends itself the signal `send`."""
    process = CONTEXT.Process(target=_main, args=([str(a) for a in arguments], str(output), at_step, send, cwd))
    process.start()
    return process


def run(*arguments, at_step=None, send=None, cwd=None) -> Result:
    """Run a command to its end."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        process = start(*arguments, output=output, at_step=at_step, send=send, cwd=cwd)
        process.join(120)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"minigpt {arguments} did not end")
        return Result(process.exitcode, output.read_text(encoding="utf-8", errors="replace"))


def _main(arguments, output, at_step, send, cwd):
    import sys

    import torch

    from minigpt import __main__, batches
    torch.set_num_threads(1)
    if cwd:
        os.chdir(cwd)
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = (open(number, "w", encoding="cp1252", closefd=False) for number in (1, 2))
    windows = batches._windows                                      # called once in each step
    steps = iter(range(1, 1_000_000))

    def windows_or_signal(*arguments):
        if next(steps) == at_step:
            signal.raise_signal(send)
        return windows(*arguments)

    if at_step == 0:                                                # before there is a vocabulary
        __main__.GPT.from_files = lambda *arguments, **named: signal.raise_signal(send)
    if at_step is not None:
        batches._windows = windows_or_signal
    status = __main__.main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
