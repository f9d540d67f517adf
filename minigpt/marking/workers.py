"""The judge's end of the line to the workers: starts them, asks, waits, and gives up in time.

Whatever a student's code does to its process, here it is one of three things: an answer in plain
values, a sentence about an error, or `Gone`.
"""

import atexit
import functools
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minigpt.marking.messages import LARGEST, Unreadable, unpack
from minigpt.marking.worker import SECONDS, exactly

PATIENCE = 6 * SECONDS      # seconds to wait, also for one that sleeps or shares the machine
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "VIRTUAL_ENV")


class Gone(Exception):
    """The process is no more, or does not answer: its text says what is known."""


class Workshop:
    """One program that splits off a worker for each task; "checks": with the classroom's checks."""

    def __init__(self, *options: str):
        self.folder = tempfile.TemporaryDirectory(prefix="marking-")
        self.address = str(Path(self.folder.name, "door"))
        own = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minigpt.marking.worker", self.address, *options],
            cwd=self.folder.name, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=own | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "HOME": self.folder.name})
        if self.process.stdout.readline() != b"ready\n":
            self.close()
            raise RuntimeError("the process that runs the answers did not start: its error stands "
                               "above")

    def close(self) -> None:
        """Ends it, and leaves nothing behind."""
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def worker(self, task: dict) -> "Worker":
        """A new process for one task."""
        channel = socket.socket(socket.AF_UNIX)
        channel.settimeout(PATIENCE)
        channel.connect(self.address)
        (number,) = struct.unpack(">I", exactly(channel, 4))
        return Worker(channel, number, task)


@functools.cache
def _kept(*options: str) -> Workshop:
    workshop = Workshop(*options)
    atexit.register(workshop.close)
    return workshop


def workshop(*options: str) -> Workshop:
    """The workshop of this program, started when it is first needed, and again if it has died."""
    if _kept(*options).process.poll() is not None:
        _kept.cache_clear()
    return _kept(*options)


class Worker:
    """One process with one student's code; a context, at whose end it is no more."""

    def __init__(self, channel: socket.socket, number: int, task: dict):
        self.channel, self.number, self.start = channel, number, time.monotonic()
        self.send(task)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_error) -> None:
        self.channel.close()
        try:
            os.killpg(self.number, signal.SIGKILL)      # whatever it has started goes with it
        except (ProcessLookupError, PermissionError):
            pass

    def send(self, request) -> None:
        """Something of ours, for the worker alone."""
        message = pickle.dumps(request)
        try:
            self.channel.sendall(struct.pack(">I", len(message)) + message)
        except OSError:
            raise Gone(self.reason()) from None

    def reply(self) -> list:
        """The next reply. Raises `Gone` where none comes, or one that is not in our form."""
        self.channel.settimeout(max(0.1, self.start + PATIENCE - time.monotonic()))
        try:
            (length,) = struct.unpack(">I", exactly(self.channel, 4))
            if length > LARGEST:
                raise Gone(f"its result is larger than {LARGEST // 2 ** 20} MB")
            reply = unpack(exactly(self.channel, length))
        except TimeoutError:
            raise Gone(f"it did not answer within {PATIENCE} seconds") from None
        except (EOFError, OSError):
            raise Gone(self.reason()) from None
        except Unreadable:
            raise Gone("what it sends is no answer") from None
        if not (isinstance(reply, list) and reply and isinstance(reply[0], str)):
            raise Gone("what it sends is no answer")
        return reply

    def reason(self) -> str:
        """Why it is no more."""
        if time.monotonic() - self.start > 0.9 * SECONDS:
            return (f"it was still running after {SECONDS} seconds of computing. Does every turn "
                    "of its loop come closer to its end?")
        return ("it ended the process that it ran in. An answer returns its result, and ends "
                "nothing")
