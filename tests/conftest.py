"""What every test needs: one thread a process, so that tests side by side share the cores. Said before torch starts.
And signals that are heard: a shell's background begins without Ctrl-C, and what `nohup` starts without SIGHUP."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):                                               # Windows has none
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that the project lies in."""
    return Path(__file__).resolve().parents[1]
