"""What a command is told, and what it says, also where nobody listens any more."""

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path


def typed_folder(word: str) -> Path:
    """The folder that was typed, for argparse; "~" is one's home folder."""
    if not word.strip() or word == "-":
        raise argparse.ArgumentTypeError(f"must be the name of a folder, not {word!r}")
    try:
        return Path(word).expanduser()
    except RuntimeError:                # of a user that there is not
        raise argparse.ArgumentTypeError(f"{word} is in no home folder that is here") from None


def sentence(error: Exception) -> str:
    """What an error says; of an OSError without its number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def give_up(stream) -> None:
    """Nothing that `stream` still holds is written: Python would complain of it at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def tell(words: str) -> None:
    """Say it beside the output, if somebody listens; from within a signal too."""
    # The reader may be gone, or the signal came while something else was being printed.
    with suppress(OSError, RuntimeError, ValueError):
        print(words, file=sys.stderr, flush=True)


def say(words: str) -> None:
    """Print it. Who reads may have enough, as "head" does: what was done is done all the same.

    Where it can't be written at all, as on a full disk, the command ends with a sentence.
    """
    try:
        print(words, flush=True)
    except OSError as error:
        give_up(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            sys.exit(f"Standard output can't be written: {sentence(error)}. What was done is done.")
