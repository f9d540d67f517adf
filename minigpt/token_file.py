"""A text as token ids in one file: written once, chunk by chunk, and mapped by all who read it.

For a text that is larger than memory, and for several processes that train on one. The operating
system fetches from the file what a batch needs, and every process of a machine reads the same
pages. The file also has the tokenizer, and of what it was made, so that it is never taken for
another text's. Layout: a header in JSON, filled up to 4,096 bytes; the ids of the part to train on
and of the part held out, 16 bits each; the tokenizer.
"""

import hashlib
import json
import mmap
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from minigpt import corpus, files
from minigpt.batches import TokenizedText, write_ids
from minigpt.tokenizer import Tokenizer
from minigpt.version import __version__

FORMAT = "minigpt tokens"
BEGINNING = f'{{"format": "{FORMAT}"'.encode()      # of a file, cut off or not
HEADER = 4096       # bytes


class MappedIds(np.memmap):
    """Ids in a file, (N,). What is read of them is a copy, and the file's pages are given back.

    They stay with the system, which may need their place for others; without this they would count
    as this process's memory, until the whole text did.
    """

    def __getitem__(self, index):
        """The ids at a slice, or at an array of places."""
        found = np.array(super().__getitem__(index))
        # Windows takes pages back by itself; a copy has no file.
        if hasattr(mmap, "MADV_DONTNEED") and self._mmap is not None:
            self._mmap.madvise(mmap.MADV_DONTNEED)
        return found


def key(sources: Sequence[str | os.PathLike], vocab_size: int, method: str) -> str:
    """What the tokens of these texts depend on, as 64 hexadecimal digits."""
    parts = [__version__, vocab_size, method, *map(corpus.digest, sources)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def check_free(path: Path) -> None:
    """Raise ValueError where a file of others stands in the way of a text's tokens."""
    if path.is_file():
        with open(path, "rb") as file:
            is_one = file.read(len(BEGINNING)) == BEGINNING
        files.check_replaces(path, "file of a text's tokens", is_one)


def written(path: Path, made_of: str, tokenizer: Tokenizer, training: Iterable[str],
            held_out: Iterable[str]) -> bool:
    """Write the ids of both parts of a text, which come in chunks. The file appears whole.

    `made_of`: its `key`. False, and a word, where the disk has no room: one can do without it.
    Raises OSError naming the file.
    """
    try:
        with files.writing(path) as file:
            file.write(bytes(HEADER))
            parts = [_write_part(file, tokenizer, chunks) for chunks in (training, held_out)]
            file.write(tokenizer.to_json().encode())
            file.seek(0)
            header = {"format": FORMAT, "made_of": made_of, "parts": parts}
            file.write(json.dumps(header).encode().ljust(HEADER))
    except OSError as error:
        if error.errno not in files.FULL:
            raise
        print(f"minigpt: {error.strerror}; the text is read once more, into the folder for "
              "temporary files", file=sys.stderr)
        return False
    return True


def _write_part(file, tokenizer: Tokenizer, chunks: Iterable[str]) -> dict:
    digest = hashlib.sha256()
    n_ids, n_bytes = write_ids(file, tokenizer, chunks, digest.update)
    return {"ids": n_ids, "bytes": n_bytes, "sha256": digest.hexdigest()}


def read(path: Path, made_of: str) -> tuple[Tokenizer, list[TokenizedText | None]] | None:
    """The tokenizer and both parts, mapped; None where there is no file of this `key`.

    A part without text is None.
    """
    header = header_of(path)
    if header.get("made_of") != made_of:
        return None
    start, texts = HEADER, []
    for part in header["parts"]:
        ids = MappedIds(path, np.uint16, "r", start, (part["ids"],))
        texts.append(TokenizedText(ids, part["bytes"]) if part["bytes"] else None)
        start += ids.nbytes
    with open(path, "rb") as file:
        file.seek(start)
        return Tokenizer.from_json(file.read().decode()), texts


def digest(ids: np.ndarray) -> str:
    """The SHA-256 of ids (N,), a million at a time: those in a file need not all be in memory."""
    found = hashlib.sha256()
    for start in range(0, len(ids), 1 << 20):
        found.update(ids[start:start + (1 << 20)].tobytes())
    return found.hexdigest()


def header_of(path: Path) -> dict:
    """What the file says of itself; nothing, where there is no such file or it is none of ours."""
    if not os.path.isfile(path):                        # to read a pipe may take for ever
        return {}
    try:
        with open(path, "rb") as file:
            header = json.loads(file.read(HEADER))
        return header if header["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
