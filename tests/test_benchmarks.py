"""The program around the benchmarks; what they measure is measured, and not tested."""

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import __main__ as benchmarks  # noqa: E402

ROW = {"what": "nothing", "ours": 1.0, "peer": 1.0, "ratio": 1.0, "target": 1.0, "at_least": True, "met": True}


def test_a_disk_that_is_full_leaves_the_results_of_before(tmp_path, monkeypatch, capsys):
    results = tmp_path / "results.json"
    monkeypatch.setattr(benchmarks, "RESULTS", results)
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(rows=lambda: [ROW]))
    assert benchmarks.main(["step"]) == 0 and '"nothing"' in results.read_text()
    before = results.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="results.json: No space left on device; the file that was there is unchanged"):
        benchmarks.main(["step"])
    assert results.read_bytes() == before
