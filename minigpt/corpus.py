"""Where the text comes from. The pipeline begins here.

A book is one text: one of the two that ship with the project, by its name, or a UTF-8 file of your
own, by its path. A file is read and never executed. Small books are strings: `read_text`, then
`split` into what is trained on and what is held out. A book too large for memory comes in chunks
and exactly alike: `read_chunks` gives the same string in parts, and `split_position` the place
where `split` would cut it.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from minigpt import arguments, plain_text
from minigpt.arguments import instance, integer, nonempty_text, number, shown, takes

NAMES = ("austen", "shakespeare")       # the texts that ship in data/
NEARBY = 1000                           # characters in which `split` looks for a space
BETWEEN_WORDS = re.compile(r"(?<=\S) (?=\S)")


def data_folder() -> Path:
    """The folder `data/`: in the package, if a wheel brought it, else beside it, in the repository.

    The notebooks lie beside it, in `notebooks/`. Raises FileNotFoundError where there is neither.
    """
    package = Path(__file__).resolve().parent
    within, beside = package / "data", package.parent / "data"
    if within.is_dir():
        return within
    # A folder site-packages/data would be another's.
    if not (package.parent / "pyproject.toml").is_file() or not beside.is_dir():
        raise FileNotFoundError(f"the folder {within} with the texts is missing: install minigpt "
                                "from its wheel, or from a clone with pip install --editable .")
    return beside


# ---- reading -------------------------------------------------------------------------------------


def text_file(name: str, value) -> Path:
    """A guard: a file that is there, and does not show in its first bytes that it is no plain text.

    It is given by its path, in which "~" is one's home folder, or by one of `NAMES`.
    """
    what = f"one of {', '.join(map(repr, NAMES))} or the path of a text file"
    instance(str | os.PathLike, what)(name, value)
    if value in NAMES:
        return data_folder() / f"{value}.txt"
    try:
        path = arguments.path(name, value)
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"there is no file {path}: give the path of a text file, or the name of a text that "
            f"ships with minigpt ({', '.join(NAMES)})") from None
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENAMETOOLONG, errno.EINVAL):
            raise
        raise ValueError(f"{name} must be {what}, not {shown(value)}") from None
    if stat.S_ISDIR(mode):              # opened, it would raise another error on each platform
        raise IsADirectoryError(f"{path} is a folder, not a text file")
    if not stat.S_ISREG(mode):          # a pipe or a device has no end, or can't be read twice
        raise ValueError(f"{path} is not an ordinary file")
    plain_text.check_beginning(path)
    return path


def read_text(source: str | os.PathLike) -> str:
    """The whole book, one of `NAMES` or the path of a UTF-8 file ("./austen" for a file "austen").

    A byte order mark at its start is dropped, and every line ends in "\\n", whatever it ended in
    ("\\r\\n" on Windows). Raises FileNotFoundError or IsADirectoryError where there is no such
    file, and ValueError, which names the file and the first bad byte, where it is empty, holds a
    NUL byte as binary files do, or is not UTF-8.
    """
    return "".join(read_chunks(source))


@takes(source=text_file, start=integer(low=0), stop=integer(low=0, optional=True),
       size=integer(low=1, high=1 << 30))
def read_chunks(source: str | os.PathLike, start: int = 0, stop: int | None = None,
                size: int = 1 << 20) -> Iterator[str]:
    """The same text, `read_text(source)[start:stop]`, in memory that does not grow with its length.

    A chunk has at most `size` characters, and ends anywhere. A wrong argument, a missing file and
    one that is visibly no text raise at once, as in `read_text`; a bad byte further inside, when
    the reading gets there, after the chunks before it.
    """
    position = 0
    # Python's text mode drops the mark, turns "\r\n" into "\n" and joins characters whose bytes a
    # chunk would part. Positions count the characters that result: the way to `start` has to be
    # read, and is passed over.
    with open(source, encoding="utf-8-sig") as file:
        while stop is None or position < stop:
            try:
                chunk = file.read(size)
            except UnicodeDecodeError:
                raise plain_text.not_utf8(source) from None
            if "\0" in chunk:
                raise plain_text.not_utf8(source)
            if not chunk:
                return
            wanted = chunk[max(start - position, 0):None if stop is None else stop - position]
            if wanted:
                yield wanted
            position += len(chunk)


@takes(source=text_file)
def digest(source: str | os.PathLike) -> str:
    """The SHA-256 of the file's bytes, by which two machines know that they have the same text."""
    with open(source, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@takes(text=arguments.text)
def normalise(text: str) -> str:
    """A text as `read_text` would give it: without a byte order mark, each line ending in "\\n".

    What a person has read from a file without thinking of either is then the same text.
    """
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


# ---- what is held out ----------------------------------------------------------------------------


def _books(name: str, value) -> Sequence[str]:
    """A guard: a list of texts, none of them empty."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a list of texts (for one text, a list of one), "
                        f"not {shown(value)}")
    return [nonempty_text(f"{name}[{i}]", book) for i, book in enumerate(value)]


FRACTION = number(low=0, high=0.5)


@takes(books=_books, held_out=FRACTION)
def split(books: Sequence[str], held_out: float = 0.1) -> tuple[list[str], list[str]]:
    """(training parts, tails): the last `held_out` of *each* book is its tail, to be tested on.

    A tail has at most the fraction `held_out` (0 to 0.5) of its book's characters. It begins at the
    first space between two words from there on, so that no word is cut; where the next 1,000
    characters have none, it begins at the exact character. Together the parts are the book. A book
    of fewer than 1 / `held_out` characters has an empty tail. Raises TypeError or ValueError for
    another fraction, for an empty book, and for one text where a list of texts belongs.
    """
    training, tails = [], []
    for book in books:
        cut = _cut(len(book), held_out, lambda start, stop, book=book: book[start:stop])
        training.append(book[:cut])
        tails.append(book[cut:])
    return training, tails


@takes(held_out=FRACTION)
def split_position(source: str | os.PathLike, held_out: float = 0.1) -> int:
    """The character at which `split([read_text(source)], held_out)` cuts, in little memory.

    `read_chunks(source, stop=position)` is then the training part, and
    `read_chunks(source, start=position)` the tail.
    """
    length = sum(map(len, read_chunks(source)))
    return _cut(length, held_out, lambda start, stop: "".join(read_chunks(source, start, stop)))


def _cut(length: int, held_out: float, read: Callable[[int, int], str]) -> int:
    """Where the tail begins of a text of `length` characters, of which `read` gives a slice."""
    exact = length - int(length * held_out)
    before = exact - 1                  # the character before may be the end of a word
    space = BETWEEN_WORDS.search(read(before, exact + NEARBY))
    return before + space.start() if space else exact
