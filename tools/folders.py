"""A folder that is made anew: `bundle` and `book` put the new one in the old one's place with it, whole or not at all.

A list of what was written into it tells later what somebody else has left there.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

LITTER = (".DS_Store", "Thumbs.db")     # what a file manager leaves
SHOWN = 8                               # so many names are told


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


def write_list(folder: Path, name: str) -> None:
    """Writes the file `name` in `folder`: the digest of every other file in it."""
    digests = {path: digest(folder / path) for path in files_in(folder) if path != name}
    (folder / name).write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


def read_list(folder: Path, name: str) -> dict[str, str] | None:
    """What `write_list` wrote; None where there is no such list."""
    try:
        digests = json.loads((folder / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return digests if isinstance(digests, dict) else None


def others_work(folder: Path, name: str, ignored: tuple[str, ...]) -> list[str]:
    """What is not, or no more, as the list `name` says: files, and folders of which no file is in the list.

    Files and folders whose names fit one of the patterns `ignored` do not count.
    """
    digests = read_list(folder, name) or {}
    ours = {parent for path in (name, *digests) for parent in Path(path).parents}
    found = {}
    for path in files_in(folder, ignored):
        if path != name and digests.get(path) != digest(folder / path):
            new = [parent for parent in Path(path).parents if parent not in ours]
            found[new[-1].as_posix() if new else path] = None
    return list(found)


def some(names: list[str]) -> str:
    """The first few of them, in words."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def files_in(folder: Path, ignored: tuple[str, ...] = ()) -> list[str]:
    """The paths of all files in `folder`, and of the links, which are not followed. Raises OSError where one can't be seen."""
    found = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if any(fnmatch(entry.name, pattern) for pattern in ignored):
                continue
            inside = files_in(Path(entry.path), ignored) if entry.is_dir(follow_symlinks=False) else None
            found += [entry.name] if inside is None else [f"{entry.name}/{path}" for path in inside]
    return found


def digest(path: Path) -> str:
    """Changes with what is in a file, or with where a link leads; "" for what is neither, such as a pipe."""
    if path.is_symlink():
        return "link to " + os.readlink(path)
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
