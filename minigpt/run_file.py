"""A training run on disk: what `minigpt train` writes down beside the model, to be gone on with.

The file has the model's name and ".run" behind it. It holds the state of the run and the settings
that it was begun with, and goes when the model is finished. Beside it, in ".ids", lies the text
as the model reads it, and goes with it. Only files of these kinds are ever replaced or removed, and
only one training at a time may be for one model.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from torch import Tensor

from minigpt import files
from minigpt.training_state import TrainingState

KIND = "minigpt training run"


class RunFile:
    """The run that makes the model `out`, with all settings that it depends on."""

    def __init__(self, out: Path, settings: dict):
        out = Path(os.path.realpath(out))       # by whatever link: one model, one run
        self.path = out.with_name(out.name + ".run")
        self.tokens = out.with_name(out.name + ".ids")
        self.lock = out.with_name(f".{out.name}.run.lock")
        self.settings = settings

    @contextmanager
    def alone(self) -> Iterator[None]:
        """In here no other process trains for the same model. Raises ValueError if one does.

        The tokens stay where there is a run to go on with.
        """
        try:
            with FileLock(self.lock, timeout=0):
                try:
                    yield
                finally:
                    with suppress(OSError):         # Windows removes no file that is open
                        if not self.path.exists():
                            self.tokens.unlink(missing_ok=True)
                    with suppress(OSError):
                        self.lock.unlink()
        except Timeout:
            raise ValueError(f"another training is writing {self.path.stem}: wait for it, or "
                             "choose another name with --out") from None

    def check_lock(self) -> None:
        """Raise ValueError where a file that is not empty, and so no lock, is in the lock's place.
        """
        files.check_replaces(self.lock, "mark of a training under way", False)

    def check_free(self, restart: bool) -> None:
        """Raise ValueError for a run to go on with, unless to `restart`, or a file not of ours."""
        if not self.path.exists():
            return
        if files.kind_of(self.path) != KIND:
            raise ValueError(f"{self.path} is where the run would be written down, and is not one: "
                             "move it, or choose another name with --out")
        if not restart:
            step = int(files.load_tensors(self.path, KIND)[0]["progress"][0])
            raise ValueError(f"there is an unfinished run at step {step} in {self.path}: --resume "
                             "goes on with it, --restart throws it away and begins anew")

    def check_resumable(self) -> None:
        """Raise an error unless a run with these settings is there. The text is not looked at."""
        self._read()

    def load(self, state: TrainingState) -> None:
        """Set `state` to what was written. Raises an error for another run than this one."""
        state.load(self._read())

    def _read(self) -> dict[str, Tensor]:
        if not self.path.exists():
            raise FileNotFoundError(f"--resume: there is no run to go on with at {self.path}; "
                                    "leave --resume out to begin one")
        tensors, metadata = files.load_tensors(self.path, KIND)
        before = json.loads(metadata["settings"])
        if changed := [name for name, value in self.settings.items() if value != before.get(name)]:
            raise ValueError("--resume: the run was begun with other settings: " + ", ".join(
                f"{name} was {before.get(name)} and is {self.settings[name]}" for name in changed))
        return tensors

    def save(self, state: TrainingState) -> None:
        """Write the run down. Where that fails, say so and train on: the model matters more."""
        try:
            files.save_tensors(self.path, KIND, state.tensors(),
                               {"settings": json.dumps(self.settings)})
        except (OSError, ValueError) as error:
            print(f"minigpt: the run could not be written down at step {state.step}, and training "
                  f"goes on: {error}", file=sys.stderr)

    def give_way(self, write: Callable[[], None]) -> None:
        """`write` the model. Should the disk be too full for it, the run makes room."""
        try:
            write()
        except OSError as error:
            if error.errno not in files.FULL or not self.path.exists():
                raise
            content = self.path.read_bytes()
            self.path.unlink()
            try:
                write()
            except OSError:
                files.write_atomically(self.path, content)
                raise

    def remove(self) -> None:
        """The model is finished, and nothing is left to go on with."""
        self.path.unlink(missing_ok=True)
