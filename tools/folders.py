"""A folder that is made anew: `bundle` and `book` put the new one in the old one's place with it, whole or not at all."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def made_anew(out: Path) -> Iterator[Path]:
    """In here, a name beside `out` at which to make the folder; afterwards it is `out`. What was there is deleted last.

    Where anything fails, all is as it was. Raises OSError naming `out` where no folder can be made beside it.
    """
    beside = _beside(out)
    new, old = beside / "new", beside / "old"
    try:
        yield new
        _replace(out, new, old)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        with contextlib.suppress(OSError):
            beside.rmdir()                  # it stays where the old folder could not be put back out of it
        raise
    shutil.rmtree(beside, ignore_errors=True)


def _beside(out: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part"))
    except OSError as error:
        raise type(error)(error.errno, f"cannot write {out}: {error.strerror}") from None


def _replace(out: Path, new: Path, old: Path) -> None:
    was_there = out.exists()
    if was_there:
        out.rename(old)
    try:
        new.rename(out)
    except BaseException:
        if was_there:
            old.rename(out)
        raise
