"""What every test needs: one thread a process, so that tests side by side share the cores. Said before torch starts."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that the project lies in."""
    return Path(__file__).resolve().parents[1]
