"""A wheel in an environment of its own, offline and far from the repository: everything that ships is in it and works.

The wheel is built from the source distribution, so both are tried. What minigpt needs is lent by the environment that runs
the tests, by its path alone: an editable minigpt that is installed there is not seen.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from test_offline import NO_NETWORK

FILES = ("setup.py", "pyproject.toml", "LICENSE", "README.md", "minigpt", "data", "notebooks")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2]))"


def build(kind: str, folder: Path, target: Path) -> Path:
    """A source distribution or a wheel of what lies in `folder`."""
    target.mkdir(exist_ok=True)
    run = subprocess.run([sys.executable, "-c", BUILD, kind, str(target)], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return target / run.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, repository):
    folder = tmp_path_factory.mktemp("build")
    clone = folder / "clone"
    clone.mkdir()
    for name in FILES:
        copy = shutil.copytree if (repository / name).is_dir() else shutil.copy
        copy(repository / name, clone / name)
    (clone / "data" / "my diary.txt").write_text("what a user keeps in data/ is nobody's business")
    (clone / "build" / "lib" / "minigpt").mkdir(parents=True)
    (clone / "build" / "lib" / "minigpt" / "old.py").write_text("left by an earlier build")
    assert build("wheel", clone, folder / "direct").is_file()
    with tarfile.open(build("sdist", clone, folder)) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    wheel = build("wheel", source, folder)
    assert contents(wheel) == contents(next((folder / "direct").iterdir()))
    return wheel


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if "dist-info" not in name}


@pytest.fixture(scope="module")
def python(tmp_path_factory, wheel):
    """The Python of a fresh environment in which the wheel is installed, and another package's folder called data."""
    folder = tmp_path_factory.mktemp("fresh é")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    show = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True,
                          capture_output=True, text=True, encoding="utf-8", env=os.environ | {"PYTHONUTF8": "1"})
    packages = Path(show.stdout.strip())
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    (packages / "data").mkdir()
    (packages / "data" / "austen.txt").write_text("another package's")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return python


def run(python, code, cwd, *arguments):
    """(exit status, what it printed, what it complained of) of some code, without a network and far from the repository."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, "-c", NO_NETWORK + code, *arguments], cwd=cwd, capture_output=True, text=True,
                          encoding="utf-8", timeout=300, env=kept | {"PYTHONUTF8": "1"})
    return done.returncode, done.stdout, done.stderr


def test_a_wheel_carries_what_ships_and_nothing_else(wheel, repository):
    ours = {f"minigpt/data/{name}" for name in ("README.md", "austen.txt", "shakespeare.txt", "pretrained.safetensors")}
    ours |= {f"minigpt/notebooks/{path.name}" for path in (repository / "notebooks").glob("*.ipynb")}
    ours |= {path.relative_to(repository).as_posix() for path in (repository / "minigpt").rglob("*")
             if path.is_file() and path.name != "ruff.toml" and not {"__pycache__", ".ruff_cache"} & set(path.parts)}
    assert contents(wheel).keys() == ours
    for name in ours:
        path = repository / name
        assert contents(wheel)[name] == (path if path.exists() else repository / name.removeprefix("minigpt/")).read_bytes()


def test_the_pretrained_model_the_texts_and_the_command_line_work(python, tmp_path):
    status, printed, complaints = run(python, """
import minigpt
from minigpt import GPT, corpus
from minigpt.__main__ import main

gpt = GPT.pretrained()
assert len(gpt.generate("It is a truth", 20, seed=1)) > 20
for name in corpus.NAMES:
    assert len(corpus.read_text(name)) > 1_000_000
assert main(["evaluate", str(corpus.data_folder() / "pretrained.safetensors"), "austen", "--held-out"]) == 0
print(minigpt.__file__)
""", tmp_path)
    assert status == 0, complaints
    assert Path(printed.splitlines()[-1]).is_relative_to(python.parent.parent)


@pytest.mark.parametrize("edition", ["student", "teach"])
def test_the_copies_of_the_notebooks_are_written_where_one_stands(python, tmp_path, repository, edition):
    code = f"import runpy; sys.argv = sys.argv[:1]; runpy.run_module('minigpt.classroom.{edition}', run_name='__main__')"
    status, printed, complaints = run(python, code, tmp_path)
    assert status == 0, complaints
    assert str(tmp_path / edition) in printed
    assert (sorted(path.name for path in (tmp_path / edition).iterdir())
            == sorted(path.name for path in (repository / "notebooks").glob("*.ipynb")))


TRAIN = "GPT.from_text('ab ' * 200, vocab_size=256, d_model=8, d_ff=8, n_heads=1).train(steps=1, progress=False)"


@pytest.mark.parametrize(("missing", "code"), [
    ("matplotlib", f"{TRAIN}.plot()"),
    ("ipywidgets", "import minigpt.classroom"),
    ("IPython", "from minigpt.classroom import predict"),
    ("nbformat", "import minigpt.classroom.student"),
])
def test_without_the_notebook_extra_it_says_what_to_install(python, tmp_path, missing, code):
    status, _, complaints = run(python, f"""
sys.modules[{missing!r}] = None                     # what an import then meets is what it meets where it is missing
from minigpt import GPT
{code}
""", tmp_path)
    assert status == 1
    assert complaints.splitlines()[-1] == (
        f"ModuleNotFoundError: the notebooks' side of minigpt needs {missing}, which is not installed: "
        'pip install "minigpt[notebook]" (in a clone: python3 run.py setup)')


def test_a_home_that_cannot_be_written_to_leaves_the_first_cell_clean(python, tmp_path):
    nowhere = tmp_path / "a file"
    nowhere.write_text("no folder can be made in here")
    status, _, complaints = run(python, """
import os
for name in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
    os.environ[name] = sys.argv[1]
os.environ.pop("MPLCONFIGDIR", None)
from minigpt.classroom import bars
""", tmp_path, str(nowhere))
    assert (status, complaints) == (0, "")


def test_the_parts_of_the_web_page_are_in_it(wheel, repository):
    packed = {name for name in contents(wheel) if name.startswith("minigpt/page/")}
    assert packed == {f"minigpt/page/{part.name}" for part in (repository / "minigpt" / "page").iterdir() if part.is_file()}
