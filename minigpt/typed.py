"""What is typed on a command line, as files: patterns spelled out, standard input in a file."""

import glob
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minigpt import corpus, files, plain_text

STANDARD_INPUT = "-"
ITS_NAME = "standard input"


@contextmanager
def text_files(words: list[str]) -> Iterator[list[str | Path]]:
    """The texts that were typed: paths or names, patterns spelled out, standard input in a file.

    What is wrong with standard input is said of it, and not of the file that it is in.
    """
    if words.count(STANDARD_INPUT) > 1:
        raise ValueError(f"standard input ({STANDARD_INPUT}) can be read once, not "
                         f"{words.count(STANDARD_INPUT)} times")
    with tempfile.TemporaryDirectory() as folder:
        piped = Path(folder) / ITS_NAME
        if STANDARD_INPUT in words:
            _write_down(piped)
        try:
            yield [source for word in words for source in _spelled_out(word, piped)]
        except (ValueError, OSError) as error:
            if str(piped) not in str(error):
                raise
            raise ValueError(str(error).replace(str(piped), ITS_NAME)) from error


def one_file(word: str) -> str:
    """The file that was typed, its pattern spelled out. Raises ValueError where several fit."""
    found = _spelled_out(word, None)
    if len(found) > 1:
        raise ValueError(f"{word} must be one file, and fits {len(found)}: {found[0]}, {found[1]}"
                         f"{' …' if len(found) > 2 else ''}")
    return str(found[0])


def piped_prompt() -> str:
    """What another program, or a file, gives to standard input, without its last line break."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):           # there is no standard input
        return ""
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return ""
    with text_files([STANDARD_INPUT]) as (piped,):
        empty = piped.read_bytes() in (b"", plain_text.UTF8_BOM)
        return "" if empty else corpus.read_text(piped).removesuffix("\n")


def _spelled_out(word: str, piped: Path | None) -> list[str | Path]:
    """A shell spells patterns out by itself; Windows' command line does not."""
    if word == STANDARD_INPUT and piped:
        return [piped]
    if not glob.has_magic(word) or os.path.exists(word):
        return [word]
    return sorted(map(Path, glob.glob(os.path.expanduser(word)))) or [word]


def _write_down(path: Path) -> None:
    """Standard input, which can be read once, in a file, which can be read again."""
    if sys.stdin is None:
        raise ValueError(f"there is nothing on standard input ({STANDARD_INPUT}): it is closed")
    with files.temporary_room():
        path.write_bytes(sys.stdin.buffer.read())
