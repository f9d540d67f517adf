"""What a command says once its work is done."""

import os
import sys


def say(words: str) -> None:
    """Print it. Who reads may have enough, as "head" does: what was done is done all the same."""
    try:
        print(words, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
