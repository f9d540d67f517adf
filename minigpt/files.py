"""Files that are written whole or not at all, and that notice when they have been damaged.

`GPT` keeps a model here, `minigpt train --resume` a training run. The format is safetensors
(numbers and strings, nothing that could be executed), with two additions in its metadata: what kind
of file it is, and a SHA-256 over every byte of it, so that a single flipped bit is an error and not
a slightly different model.
"""

import contextlib
import errno
import glob
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

FORMAT_VERSION = "1"
BLANK = "0" * 64      # stands where the checksum goes, while the checksum is computed
ABANDONED = 60        # seconds after which an unfinished file is one whose writer was killed
UNFINISHED = ".unfinished"
FULL = (errno.ENOSPC, errno.EDQUOT)
LONGEST_NAME = 255    # bytes, on most file systems


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
    """Write `content` to `path`: at every moment the old file or the new one is there, whole.

    A symbolic link stays one, and what it points to is written. Raises OSError naming the file when
    it cannot be written, or is no ordinary file (a folder, a device); nothing is then changed.
    """
    with writing(path) as file:
        file.write(content)


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write to in here, which is at `path` afterwards, as `write_atomically` does it."""
    with _explained(path):
        target = _target(path)
        _remove_abandoned(target)
        temporary = _temporary(target)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # mkstemp's files are for their owner alone; this one is as it was, or an ordinary one.
            os.chmod(temporary, target.stat().st_mode if target.exists() else 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def check_writable(path: str | os.PathLike) -> None:
    """Raise the OSError that `write_atomically` would, while there is nothing yet to lose."""
    with _explained(path):
        os.unlink(_temporary(_target(path)))


@contextlib.contextmanager
def _explained(path: str | os.PathLike) -> Iterator[None]:
    """In here, an OSError is one that names `path` and says that nothing was lost."""
    try:
        yield
    except OSError as error:
        kept = "; the file that was there is unchanged" if os.path.isfile(path) else ""
        message = f"cannot write {path}: {error.strerror}{kept}"
        raise type(error)(error.errno, message) from error


@contextlib.contextmanager
def temporary_room() -> Iterator[None]:
    """In here, the error of a full disk names the folder for temporary files (TMPDIR's)."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        message = (f"cannot write to the folder for temporary files, {tempfile.gettempdir()}: "
                   f"{error.strerror}")
        raise OSError(error.errno, message) from error


def check_replaces(path: str | os.PathLike, what: str, is_one: bool) -> None:
    """Raise ValueError where a file that is not `what` would be replaced by it.

    An empty file may be, as a program makes it that keeps a name for another.
    """
    if not is_one and os.path.isfile(path) and os.path.getsize(path):
        raise ValueError(f"{path} is there and is no {what}, and stays: choose another name, or "
                         "move it")


def _target(path: str | os.PathLike) -> Path:
    """Where `path` leads, links followed. Raises OSError unless it is a file, or a new name."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():             # it leads round in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is not an ordinary file")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return target


def _temporary(target: Path) -> str:
    """A new, empty file beside `target`."""
    handle, temporary = tempfile.mkstemp(UNFINISHED, _beginning(target), target.parent)
    os.close(handle)
    return temporary


def _beginning(target: Path) -> str:
    """How the names of its unfinished files begin: eight letters and an ending have to fit too."""
    name, room = target.name, LONGEST_NAME - len("..") - 8 - len(UNFINISHED)
    while len(os.fsencode(name)) > room:
        name = name[:-1]
    return f".{name}."


def _remove_abandoned(path: Path) -> None:
    """Delete what killed processes left of their attempts to write `path`: it would pile up."""
    drawn = "[a-z0-9_]" * 8                             # by tempfile
    for unfinished in path.parent.glob(f"{glob.escape(_beginning(path))}{drawn}{UNFINISHED}"):
        with contextlib.suppress(OSError):
            if time.time() - unfinished.stat().st_mtime > ABANDONED:
                unfinished.unlink()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def save_tensors(path: str | os.PathLike, kind: str, tensors: dict[str, Tensor],
                 metadata: dict[str, str]) -> None:
    """Write tensors and strings to a safetensors file of our own `kind`, atomically.

    It has a checksum. Equal tensors and strings make equal files, byte for byte. Raises ValueError
    where a file of another kind is there, OSError naming the file when it cannot be written.
    """
    check_replaces(path, f"{kind} file", kind_of(path) == kind)
    metadata = metadata | {"format": kind, "format_version": FORMAT_VERSION, "sha256": BLANK}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = _in_order(safetensors.torch.save(tensors, metadata))
    checksum = hashlib.sha256(content).hexdigest()
    write_atomically(path, content.replace(_entry(BLANK), _entry(checksum), 1))


def load_tensors(path: str | os.PathLike, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file that `save_tensors` wrote: its tensors and its strings.

    Raises FileNotFoundError or another OSError where it cannot be read, ValueError naming the file
    and the reason where it is damaged, of another kind, or of another format version.
    """
    path = Path(path)
    content = read_ordinary(path, f"{kind} file")
    metadata = _metadata(path, content, kind)
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{path} has format version {metadata.get('format_version')!r}, and this "
                         f"minigpt reads version {FORMAT_VERSION!r}: update minigpt")
    found = metadata.get("sha256")
    if hashlib.sha256(content.replace(_entry(found), _entry(BLANK), 1)).hexdigest() != found:
        raise ValueError(f"{path} is damaged: its checksum does not match its content")
    try:
        return safetensors.torch.load(content), metadata
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def read_ordinary(path: Path, what: str) -> bytes:
    """The bytes of a file. Raises an OSError that names it where it is none, and no `what`."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a {what}")
    if not path.is_file():                      # to read a pipe may take for ever
        raise OSError(f"{path} is not an ordinary file, and so no {what}")
    return path.read_bytes()


def kind_of(path: str | os.PathLike) -> str | None:
    """What kind of file of ours this says that it is, damaged or not; None for one of others."""
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            header = file.read(8 + int.from_bytes(file.peek(8)[:8], "little"))
        return _header(header)[0]["__metadata__"]["format"]
    except (OSError, OverflowError, MemoryError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _entry(checksum: str) -> bytes:
    return f'"sha256":"{checksum}"'.encode()


def _header(content: bytes) -> tuple[dict, int]:
    """The header of a safetensors file, and where the tensors begin.

    8 bytes give its length, then comes JSON.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), end


def _in_order(content: bytes) -> bytes:
    """The same safetensors file with its strings sorted by name.

    The library writes them in an order left to chance.
    """
    header, end = _header(content)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)                                  # the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + content[end:]


def _metadata(path: Path, content: bytes, kind: str) -> dict[str, str]:
    try:
        metadata = _header(content)[0].get("__metadata__", {})
        found = metadata.get("format")
    except (ValueError, AttributeError, RecursionError):
        reason = "it is damaged or not a safetensors file" if content else "it is empty"
        raise ValueError(f"{path} is not a {kind} file: {reason}") from None
    if found != kind:
        raise ValueError(f"{path} is not a {kind} file: it is a safetensors file that says "
                         f"{found!r} of its format")
    return metadata
