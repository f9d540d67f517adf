"""Files that are written whole or not at all, and that notice when they have been damaged.

`GPT` keeps a model here, `minigpt train --resume` a training run. The format is safetensors (numbers and strings, nothing
that could be executed), with two additions in its metadata: what kind of file it is, and a SHA-256 over every byte of
it, so that a single flipped bit is an error and not a slightly different model.
"""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

FORMAT_VERSION = 1
BLANK = "0" * 64      # stands where the checksum goes, while the checksum is computed


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
    """Write `content` to `path`, so that at every moment the old file or the new one is there, whole.

    Raises OSError naming the file when it cannot be written; the old one is then untouched.
    """
    path = Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())      # mkstemp's files are for their owner alone; this one is an ordinary file
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            kept = "; the file that was there is unchanged" if path.exists() else ""
            raise type(error)(error.errno, f"cannot write {path}: {error.strerror}{kept}") from error
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def save_tensors(path: str | os.PathLike, kind: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and strings to a safetensors file of our own `kind`, atomically, with a checksum."""
    metadata = metadata | {"format": kind, "format_version": str(FORMAT_VERSION), "sha256": BLANK}
    content = safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                                     metadata)
    checksum = hashlib.sha256(content).hexdigest()
    write_atomically(path, content.replace(_entry(BLANK), _entry(checksum), 1))


def load_tensors(path: str | os.PathLike, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file that `save_tensors` wrote: its tensors and its strings.

    Raises FileNotFoundError or another OSError where it cannot be read, ValueError naming the file and the reason where it
    is damaged, of another kind, or of a newer format.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a {kind} file")
    content = path.read_bytes()
    metadata = _metadata(path, content, kind)
    version = metadata.get("format_version", "")
    if version.isdecimal() and int(version) > FORMAT_VERSION:
        raise ValueError(f"{path} has format version {version}, and this minigpt reads up to {FORMAT_VERSION}: "
                         "update minigpt")
    found = metadata.get("sha256", "")
    blanked = content.replace(_entry(found), _entry(BLANK), 1)
    if hashlib.sha256(blanked).hexdigest() != found:
        raise ValueError(f"{path} is damaged: its checksum does not match its content")
    return safetensors.torch.load(content), metadata


def _entry(checksum: str) -> bytes:
    return f'"sha256":"{checksum}"'.encode()


def _metadata(path: Path, content: bytes, kind: str) -> dict[str, str]:
    try:
        # safe_open reads metadata from files only; deserialize checks the same header in memory, but hands no strings out.
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        reason = "it is empty" if not content else f"it is damaged or not a safetensors file ({error})"
        raise ValueError(f"{path} is not a {kind} file: {reason}") from None
    if metadata.get("format") != kind:
        raise ValueError(f"{path} is not a {kind} file: it is a safetensors file that says "
                         f"{metadata.get('format', 'nothing')!r} of its format")
    return metadata
