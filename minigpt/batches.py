"""Batches: a text as token ids, and the windows of it that a training step reads.

Between the tokenizer and training. A window is context_length ids; its targets are the same ids one
place later, so that every token of it is asked for the one that follows. Shapes: N ids in the text,
B windows, T = context_length.
"""

import functools
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from minigpt import arguments
from minigpt.arguments import BATCH_SIZE, TRAINING_SEED, instance, integer, shown, takes
from minigpt.files import temporary_room
from minigpt.tokenizer import Tokenizer

START = "\n"    # what a text is taken to follow: its first token too is predicted from one before


def token_ids(name, value) -> np.ndarray | Tensor:
    """A guard: (N,) whole numbers, as a tensor or an array."""
    if isinstance(value, Tensor):
        whole = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    else:
        whole = isinstance(value, np.ndarray) and value.dtype.kind in "iu"
    if not whole or value.ndim != 1:
        raise TypeError(f"{name} must be a tensor or array of whole numbers in one dimension, "
                        f"not {shown(value)}")
    return value


@takes(ids=token_ids, n_bytes=integer(1))
@dataclass(frozen=True)
class TokenizedText:
    """A text as the model reads it: its `ids` (N,), and its length in bytes.

    The first id is a line break's: what the text is taken to follow.
    """

    ids: np.ndarray | Tensor
    n_bytes: int

    @property
    def bytes_per_token(self) -> float:
        """What a loss in nats per token is divided by, to be one in nats per byte."""
        return self.n_bytes / max(1, len(self.ids) - 1)


@takes(tokenizer=instance(Tokenizer), chunks=arguments.chunks)
def tokenize(tokenizer: Tokenizer, chunks: Iterable[str]) -> TokenizedText | None:
    """The ids of a text in chunks, as uint16 in a temporary file; None where there is no text.

    The file is memory-mapped. Memory does not grow with the text, and the file goes when nobody
    needs it any more. `token_file` has one that stays.
    """
    with temporary_room(), tempfile.TemporaryFile() as file:
        _, n_bytes = write_ids(file, tokenizer, chunks)
        file.flush()
        return TokenizedText(np.memmap(file, np.uint16, mode="c"), n_bytes) if n_bytes else None


def write_ids(file: BinaryIO, tokenizer: Tokenizer, chunks: Iterable[str],
              look: Callable[[bytes], None] = lambda content: None) -> tuple[int, int]:
    """Write the ids of a text in chunks, as uint16: how many they are, and the text's bytes.

    The chunks may end anywhere: the ids are those of the whole. `look` sees what is written.
    """
    lengths = np.array([len(token) for token in tokenizer.vocab])
    n_ids = n_bytes = 0
    for ids in chain([np.array(tokenizer.encode(START), np.uint16)],
                     tokenizer.encode_chunks.__wrapped__(tokenizer, chunks)):
        content = ids.tobytes()
        file.write(content)
        look(content)
        n_ids += len(ids)
        n_bytes += int(lengths[ids].sum())
    return n_ids, n_bytes - len(START)


def check_length(name: str, ids, context_length: int) -> None:
    """Raise ValueError unless there is one window, and a token that follows it."""
    if len(ids) <= context_length:
        raise ValueError(f"{name} must hold at least context_length + 1 = {context_length + 1} "
                         f"tokens, not {len(ids)}: take a longer text or a shorter context")


def _one_window(given: dict) -> None:
    check_length("ids", given["ids"], given["context_length"])


@takes(_one_window, ids=token_ids, context_length=integer(1), batch_size=BATCH_SIZE,
       generator=instance(torch.Generator, optional=True))
def random_batch(ids, context_length: int, batch_size: int, generator: torch.Generator | None = None
                 ) -> tuple[Tensor, Tensor]:
    """`batch_size` windows of `ids` (N,), from anywhere, and for each token the one that follows.

    Returns x and y, both (batch_size, context_length) int64, y one token later than x. Each of the
    N - context_length possible starts is equally likely. Raises ValueError where `ids` is too short
    for a single window.
    """
    starts = torch.randint(len(ids) - context_length, (batch_size,), generator=generator)
    return _windows(ids, starts, context_length)


@takes(_one_window, ids=token_ids, context_length=integer(1), batch_size=BATCH_SIZE,
       step=integer(0, 1 << 53), seed=TRAINING_SEED)
def epoch_batch(ids, context_length: int, batch_size: int, step: int, seed: int = 0
                ) -> tuple[Tensor, Tensor]:
    """The batch of one `step` of a run that goes through the text window by window.

    An epoch, a pass over the text, cuts `ids` (N,) from a random offset on into windows, and takes
    them in random order; fewer than two windows' worth at the ends is left out, another part each
    time. No window comes twice in an epoch, which is worth about a tenth of the steps. Returns x
    and y as `random_batch`.
    """
    spare = len(ids) - 1 - context_length          # by how much the text is longer than one window
    n_windows = max(1, spare // context_length)    # one fewer than fit: room for the offset
    first = step * batch_size
    epochs = range(first // n_windows, (first + batch_size - 1) // n_windows + 1)
    starts = []
    for epoch in epochs:
        offset, order = _epoch(len(ids) - 1, context_length, n_windows, seed, epoch)
        begin, end = (max(0, place - epoch * n_windows) for place in (first, first + batch_size))
        starts.append(order[begin:end].long() * context_length + offset)
    return _windows(ids, torch.cat(starts), context_length)         # starts of (B,) windows


@functools.lru_cache(maxsize=2)
def _epoch(n_tokens: int, context_length: int, n_windows: int, seed: int, epoch: int
           ) -> tuple[Tensor, Tensor]:
    """Where the first window of an epoch begins, (), and the order of all, (n_windows,).

    The order is in 32 bits: of a text of gigabytes it is the largest thing in memory.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    offset = torch.randint(n_tokens - n_windows * context_length + 1, (), generator=generator)
    return offset, torch.randperm(n_windows, generator=generator, dtype=torch.int32)


def _windows(ids, starts: Tensor, context_length: int) -> tuple[Tensor, Tensor]:
    """The windows that begin at `starts` (B,), and the tokens one place later: (B, T) each."""
    places = starts[:, None] + torch.arange(context_length + 1)  # (B, T + 1)
    windows = torch.as_tensor(ids[places], dtype=torch.int64)
    return windows[:, :-1], windows[:, 1:]
