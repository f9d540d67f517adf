"""What a wheel carries besides the package: the texts, the model that ships, and the notebooks.

In the repository they lie beside the package, in `data/` and `notebooks/`; in a wheel they lie in it, as `minigpt/data/`
and `minigpt/notebooks/`. `minigpt.corpus.data_folder` finds them in both. All else stands in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = ("data/README.md", "data/austen.txt", "data/shakespeare.txt", "data/pretrained.safetensors",
           "notebooks/*.ipynb")


def carried() -> list[str]:
    """Their paths, relative to this folder."""
    return sorted(str(path) for pattern in CARRIED for path in Path().glob(pattern))


class BuildWithData(build_py):
    def run(self):
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)       # what an earlier build left is not of this one
        super().run()
        for source, target in self.copies():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def copies(self) -> list[tuple[str, Path]]:
        """(file, where it goes). None in an editable installation, which reads them where they are."""
        return [] if self.editable_mode else [(path, Path(self.build_lib, "minigpt", path)) for path in carried()]

    def get_outputs(self, include_bytecode=True) -> list[str]:
        return super().get_outputs(include_bytecode) + [str(target) for _, target in self.copies()]

    def get_source_files(self) -> list[str]:        # so that a source distribution has them too
        return super().get_source_files() + carried()


setup(cmdclass={"build_py": BuildWithData})
