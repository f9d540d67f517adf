"""Where the text comes from: the first station of the pipeline, before the tokenizer turns text into token ids.

A book is one text: one of the two that ship with the project, by its name, or a UTF-8 file of your own, by its path. A
file is read and never executed. Small books are strings: `read_text`, then `split` into what is trained on and what is
held out. A book too large for memory comes piece by piece and exactly alike: `read_chunks` gives the pieces of the same
string, and `split_position` the place where `split` would cut it.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from minigpt import arguments

NAMES = ("austen", "shakespeare")       # the texts that ship in data/
NEARBY = 1000                           # characters in which the split looks for a space between two words

UTF8_BOM = b"\xef\xbb\xbf"              # "byte order mark": Windows programs write it at the start of UTF-8 files
NOT_PLAIN_TEXT = {                      # how files begin that people take for text files
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a zip archive, as .docx, .odt and .epub files are",
    b"{\\rtf": "a document in rich text format",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
ADVICE = "Open it in the program that wrote it and save it as plain text with the encoding UTF-8."


def data_folder() -> Path:
    """The folder `data/`: within the package where a wheel brought it, beside the package in the repository.

    The notebooks lie beside it, in `notebooks/`. Raises FileNotFoundError where there is neither.
    """
    package = Path(__file__).resolve().parent
    within, beside = package / "data", package.parent / "data"
    if within.is_dir():
        return within
    if not (package.parent / "pyproject.toml").is_file() or not beside.is_dir():      # site-packages/data is another's
        raise FileNotFoundError(f"the folder {within} with the texts is missing: install minigpt from its wheel, or from "
                                "a clone with pip install --editable .")
    return beside


def read_text(source: str | os.PathLike) -> str:
    """The whole book, one of `NAMES` or the path of a UTF-8 file (for a file that is called as a name: "./austen").

    A byte order mark at its start is dropped, and every line ends in "\\n", whatever it ended in ("\\r\\n" on Windows).
    Raises FileNotFoundError or IsADirectoryError where there is no such file, and ValueError, which names the file and
    the first bad byte, where it is empty, holds a NUL byte as binary files do, or is not UTF-8.
    """
    return "".join(read_chunks(source))


def read_chunks(source: str | os.PathLike, start: int = 0, stop: int | None = None,
                size: int = 1 << 20) -> Iterator[str]:
    """The same text, `read_text(source)[start:stop]`, piece by piece, in memory that does not grow with the text.

    A piece has about `size` characters and ends right before a space between two words (" " with no other whitespace
    beside it), so that a word and the space that leads it are never parted: a tokenizer that treats such words one by
    one makes of the pieces just what it makes of the whole. A piece becomes longer where there is no such space: a text
    without any comes in one piece.

    A wrong argument, a missing file and one that is visibly no text raise at once, as in `read_text`; a bad byte
    further inside, when the reading gets there, after the pieces before it.
    """
    start = arguments.integer("start", start, 0)
    stop = arguments.integer("stop", stop, 0, optional=True)
    size = arguments.integer("size", size, 1)
    path = _path(source)
    _check_beginning(path)
    return _cut_between_words(_blocks(path, start, stop, size))


def split(books: Sequence[str], held_out: float = 0.1) -> tuple[list[str], list[str]]:
    """(training parts, held-out tails): the last `held_out` of *each* book, so that each is trained on and tested on.

    A tail has at most the fraction `held_out` (0 to 0.5) of its book's characters. It begins at the first space
    between two words from there on, so that no word is cut; where the next 1,000 characters have none, it begins at
    the exact character. Together the parts are the book. A book of fewer than 1 / `held_out` characters has an empty
    tail. Raises TypeError or ValueError for another fraction, for an empty book, and for one text where a list of
    texts belongs.
    """
    if isinstance(books, str | bytes) or not isinstance(books, Sequence):
        raise TypeError(f"books must be a list of texts (for one text, a list of one), not {arguments.shown(books)}")
    held_out = _fraction(held_out)
    training, tails = [], []
    for number, book in enumerate(books):
        if not arguments.text(f"books[{number}]", book):
            raise ValueError(f"books[{number}] must have at least one character, not ''")
        cut = _cut(len(book), held_out, lambda start, stop, book=book: book[start:stop])
        training.append(book[:cut])
        tails.append(book[cut:])
    return training, tails


def split_position(source: str | os.PathLike, held_out: float = 0.1) -> int:
    """The character at which `split([read_text(source)], held_out)` cuts, found without holding the text in memory.

    `read_chunks(source, stop=position)` is then the training part, `read_chunks(source, start=position)` the tail.
    """
    held_out = _fraction(held_out)
    length = sum(len(piece) for piece in read_chunks(source))
    return _cut(length, held_out, lambda start, stop: "".join(read_chunks(source, start, stop)))


def _fraction(held_out: float) -> float:
    return arguments.number("held_out", held_out, 0, 0.5)


def _cut(length: int, held_out: float, read: Callable[[int, int], str]) -> int:
    """Where the tail begins of a text of `length` characters, of which `read(start, stop)` gives a slice."""
    exact = length - int(length * held_out)
    nearby = read(exact - 1, exact + NEARBY)            # with the character before, which may be the end of a word
    return next((exact - 1 + i for i in range(1, len(nearby)) if _between_words(nearby, i)), exact)


def _between_words(text: str, position: int) -> bool:
    """Whether `text[position]` (not the first) is a space with no other whitespace beside it."""
    return text[position] == " " and len(text[position - 1:position + 2].split()) == 2


def _path(source: str | os.PathLike) -> Path:
    if isinstance(source, str) and source in NAMES:
        return data_folder() / f"{source}.txt"
    if not isinstance(source, str | os.PathLike):
        raise TypeError(_no_source(source))
    return Path(source)


def _no_source(source) -> str:
    return (f"source must be one of {', '.join(map(repr, NAMES))} or the path of a text file, "
            f"not {arguments.shown(source)}")


def _check_beginning(path: Path) -> None:
    """Refuse what is not there, and what shows in its first bytes that it is not plain text."""
    try:
        _check_is_file(path)
        with open(path, "rb") as file:
            beginning = file.read(8)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"there is no file {path}: give the path of a text file, or the name of a text that "
                                f"ships with minigpt ({', '.join(NAMES)})") from None
    if beginning in (b"", UTF8_BOM):
        raise ValueError(f"{path} is empty: there is no text in it")
    for signature, what in NOT_PLAIN_TEXT.items():
        if beginning.startswith(signature):
            raise ValueError(f"{path} is {what} (its first bytes are {signature.hex(' ').upper()}), "
                             f"not plain text in UTF-8. {ADVICE}")


def _check_is_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except ValueError:                                  # a NUL in the path
        raise ValueError(_no_source(str(path))) from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):       # a text in the place of a path
            raise ValueError(_no_source(str(path))) from None
        raise
    if stat.S_ISDIR(mode):                              # opened, it would raise another error on each platform
        raise IsADirectoryError(f"{path} is a folder, not a text file")
    if not stat.S_ISREG(mode):                          # a pipe or a device has no end, or can't be read twice
        raise ValueError(f"{path} is not an ordinary file")


def _blocks(path: Path, start: int, stop: int | None, size: int) -> Iterator[str]:
    """`text[start:stop]` of the file in blocks of at most `size` characters, cut anywhere."""
    position = 0
    # Python's text mode drops the mark, turns "\r\n" into "\n" and joins characters whose bytes a block would part.
    # Positions count the characters that result, so the way to `start` has to be read, and is passed over.
    with open(path, encoding="utf-8-sig") as file:
        while stop is None or position < stop:
            try:
                block = file.read(size)
            except UnicodeDecodeError:
                raise _not_utf8(path) from None
            if "\0" in block:
                raise _not_utf8(path)
            if not block:
                return
            yield block[max(start - position, 0):None if stop is None else stop - position]
            position += len(block)


def _cut_between_words(blocks: Iterator[str]) -> Iterator[str]:
    """The same text cut anew, each piece ending right before the last space between two words that it has."""
    waiting = ""
    for block in blocks:
        low = max(len(waiting) - 1, 1)                  # all before was searched; the last one needed what follows it
        waiting += block
        cut = _last_between_words(waiting, low)
        if cut is not None:
            yield waiting[:cut]
            waiting = waiting[cut:]
    if waiting:
        yield waiting


def _last_between_words(text: str, low: int) -> int | None:
    """The last position from `low` on (at least 1) of a space between two words."""
    position = text.rfind(" ", low)
    while position >= 0 and not _between_words(text, position):
        position = text.rfind(" ", low, position)
    return position if position >= 0 else None


def _not_utf8(path: Path) -> ValueError:
    """The error for a file that has a byte which text in UTF-8 can't have: it says where, and what to do."""
    position = 0
    with open(path, "rb") as file:
        for line in file:                               # no other character has the byte "\n" in it: lines decode alone
            text, nul, _ = line.partition(b"\0")
            try:
                text.decode("utf-8")
            except UnicodeDecodeError as error:
                position += error.start
                break
            if nul:
                position += len(text)
                break
            position += len(line)
        file.seek(position)
        bad = file.read(1).hex().upper()
    return ValueError(f"{path} is not plain text in UTF-8: its byte {position} is 0x{bad}. {ADVICE}")
