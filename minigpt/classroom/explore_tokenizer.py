"""Tokens made visible: coloured pieces, vocabularies that grow, merges one at a time.

For 01_tokenizer.
"""

import html
from functools import cache

from minigpt import Tokenizer, arguments, corpus
from minigpt.arguments import integer, or_none, takes
from minigpt.classroom.controls import chooser, option_slider, slider, text_box
from minigpt.classroom.doors import as_many, listed, token
from minigpt.classroom.plots import lines, token_label
from minigpt.classroom.widgets import Explorer, Page

COLOURS = 5             # light backgrounds in turn, so that neighbours always differ
SIZES = (256, 300, 400, 512, 768, 1024, 2048)
METHODS = ("bpe", "substring", "bytes")
SHOWN_TOKENS = 300


@cache
def training_text() -> str:
    """The first 300,000 characters of the training part.

    Enough to choose a vocabulary from while a class waits.
    """
    return corpus.split([corpus.read_text("austen")])[0][0][:300_000]


@cache
def trained(method: str, vocab_size: int) -> Tokenizer:
    """A tokenizer for the explorers: the largest is trained once.

    The smaller ones are its beginning, as if trained alone.
    """
    if method == "bytes" or vocab_size == SIZES[-1]:
        return Tokenizer.train(training_text(), vocab_size, method)
    largest = trained(method, SIZES[-1])
    return Tokenizer(method, largest.vocab[:vocab_size], largest.merges[:vocab_size - 256])


def tiles(above: list[str], below: list | None = None) -> str:
    """Short texts as coloured tiles in a row, with smaller texts under them from `below`."""
    notes = below or [None] * len(above)
    pieces = "".join(
        f'<span class="minigpt-tile minigpt-tile-{place % COLOURS}"><b>{html.escape(label)}</b>'
        + (f"<small>{note}</small>" if note is not None else "") + "</span>"
        for place, (label, note) in enumerate(zip(above, notes, strict=True)))
    return f'<div class="minigpt-tiles">{pieces}</div>'


@takes(as_many("ids", "tokens"), tokens=listed("tokens", token),
       ids=or_none(listed("ids", integer(0))))
def coloured(tokens: list[bytes], ids: list[int] | None = None) -> Page:
    """Tokens as coloured tiles, each with its id below it where `ids` are given."""
    labels = [token_label(token) for token in tokens]
    return Page(tiles(labels, ids), " | ".join(labels))


@takes(text=arguments.text)
def byte_explorer(text: str = "cat Größe 🙂") -> Explorer:
    """Type, and see the bytes of each character."""
    def draw(text):
        shown = text[:SHOWN_TOKENS]
        bytes_below = [" ".join(map(str, character.encode())) for character in shown]
        return [f"<p>{len(text)} characters, {len(text.encode())} bytes</p>",
                tiles([token_label(character.encode()) for character in shown], bytes_below)]
    return Explorer(draw, {"text": text_box("text", text)})


@takes(text=arguments.text)
def token_explorer(text: str = "It is a truth universally acknowledged. Größe 🙂") -> Explorer:
    """Type, and see the tokens; change the method and the size of the vocabulary."""
    def draw(text, method, vocab_size):
        tokenizer = trained(method, 256 if method == "bytes" else vocab_size)
        ids = tokenizer.encode(text)
        n_bytes = len(text.encode())
        rate = n_bytes / max(1, len(ids))
        words = f"<p>{n_bytes} bytes, {len(ids)} tokens: {rate:.2f} bytes a token</p>"
        if method == "bytes":
            words += ('<p class="minigpt-note">Bytes are a vocabulary of 256, whatever the slider '
                      "says.</p>")
        if len(ids) > SHOWN_TOKENS:
            words += f"<p>The first {SHOWN_TOKENS} of them:</p>"
        ids = ids[:SHOWN_TOKENS]
        return [words, coloured([tokenizer.id_to_token(i) for i in ids], ids)]

    return Explorer(
        draw,
        {
            "text": text_box("text", text),
            "method": chooser("method", "bpe", METHODS),
            "vocab_size": option_slider("vocabulary", 1024, SIZES),
        },
        wait=0.05,
    )


@takes(text=arguments.text)
def merge_explorer(text: str = "the cat that sat there, the fat cat") -> Explorer:
    """Byte-pair merges, one at a time, on a sentence."""
    def draw(text, merges):
        tokenizer = trained("bpe", SIZES[-1])
        ids = merged(list(text.encode()), tokenizer, merges)
        said = "no merges yet: every byte is a token"
        if merges:
            left, right, new = (html.escape(token_label(tokenizer.vocab[i]))
                                for i in (*tokenizer.merges[merges - 1], 255 + merges))
            said = (
                f"merge {merges}: <b>{left}</b> + <b>{right}</b> become token {255 + merges}, "
                f"<b>{new}</b>"
            )
            if ids == merged(list(text.encode()), tokenizer, merges - 1):
                said += ". This pair does not stand in your text, so nothing changes"
        return [f"<p>{said}. {len(ids)} tokens.</p>", coloured([tokenizer.vocab[i] for i in ids])]
    return Explorer(draw, {"text": text_box("text", text), "merges": slider("merges", 3, 0, 400)})


def merged(ids: list[int], tokenizer: Tokenizer, how_many: int) -> list[int]:
    """`ids` after the first `how_many` merges of a tokenizer, each over the whole text."""
    for new_id, pair in enumerate(tokenizer.merges[:how_many], start=256):
        place = 0
        while place < len(ids) - 1:
            if (ids[place], ids[place + 1]) == pair:
                ids[place:place + 2] = [new_id]
            place += 1
    return ids


@takes(text=arguments.text, sizes=listed("sizes", integer(SIZES[0], SIZES[-1]), low=1))
def size_picture(text: str, sizes=SIZES):
    """Bytes per token against the size of the vocabulary, for the three methods.

    The text is one that none was trained on.
    """
    n_bytes = len(text.encode())
    curves = {method: (sizes, [n_bytes / max(1, len(trained(method, size).encode(text)))
                               for size in sizes])
              for method in ("bpe", "substring")}
    curves["bytes"] = ((sizes[0], sizes[-1]), (1.0, 1.0))
    ends = ", ".join(
        f"{method} from {values[0]:.1f} to {values[-1]:.1f}"
        for method, (_, values) in curves.items()
    )
    return lines(
        curves,
        x_label="tokens in the vocabulary",
        y_label="bytes per token",
        title="Bytes per token, by the size of the vocabulary",
        alt=f"Three curves of bytes per token, from {sizes[0]} to {sizes[-1]} tokens in the "
        f"vocabulary: {ends}.",
    )
