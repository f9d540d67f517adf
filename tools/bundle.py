"""A folder from which a room without a network is set up: the project, and a wheel of everything that it needs.

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
LEFT_OUT = (".venv", ".git", "bundle", "book", "student", "teach", "course", "answers", "build", "results.json", "wheels",
            "__pycache__", ".*_cache", ".hypothesis", ".ipynb_checkpoints", ".coverage*", "*.egg-info", "*.part")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"      # as in run.py, which needs to run before anything is installed


class Unavailable(RuntimeError):
    """What pip could not get."""


def requirements() -> list[str]:
    """What `run.py lab` installs, and what builds the project itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [*project["build-system"]["requires"], *project["project"]["dependencies"],
            *project["project"]["optional-dependencies"]["notebook"]]


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
    if pip_wheel(folder, "--find-links", str(folder), "-c", str(ROOT / "constraints.txt"), *requirements()):
        raise Unavailable("The wheels could not be collected: pip's last lines above say why.")
    (folder / "made-for.json").write_text(json.dumps(made_for(), indent=1) + "\n", encoding="utf-8")


def bundle(out: Path) -> None:
    """Makes the folder `out`, whole or not at all."""
    unfinished = out.with_name(out.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(ROOT, unfinished, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT, out.name))
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
