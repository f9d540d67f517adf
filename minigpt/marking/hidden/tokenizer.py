"""Hidden questions about 01_tokenizer."""

import random
from collections import Counter
from itertools import pairwise

from minigpt.classroom.checks.tokenizer import longest_match, merge
from minigpt.marking.hidden.framework import Case, questions

BYTES = [bytes([value]) for value in range(256)]
WORDS = ("sense", "and", "sensibility", "Größe", "naïve", "你好", "🙂", "a", "the", "ß")
BROKEN = (b"caf\xc3", b"\xff ok", b"\xe2\x82", b"\x80\x80 x", b"\xf0\x9f\x99 \xc3\xa9")


def text() -> str:
    """Some words, which nobody has seen together."""
    return " ".join(random.choices(WORDS, k=random.randint(3, 9)))


def ids(high: int, length: int) -> list[int]:
    """Random ids from a few."""
    start = random.choice((0, 90, 250, 66_000))
    return random.choices(range(start, start + high), k=length)


@questions("check_decode", "minigpt.tokenizer.Tokenizer.decode",
           "minigpt.tokenizer.Tokenizer.decode_bytes")
def decode(odd: bool):
    """Ids of bytes in any order; and odd: text that is none, and no text."""
    for spelled in (b"", *BROKEN) if odd else (text().encode() for _ in range(6)):
        vocab = (*random.sample(BYTES, 256), b"the", "ß".encode())
        place = {token: i for i, token in enumerate(vocab)}
        given = [place[bytes([value])] for value in spelled]
        yield Case(f"ids that spell {spelled!r}", (given, vocab), spelled.decode(errors="replace"))


@questions("check_longest_match", "minigpt.tokenizer.Tokenizer._longest_matches",
           "minigpt.tokenizer.Tokenizer._encode_word")
def matches(odd: bool):
    """Texts of a few letters; and odd: none, one byte, bytes that are no text, long tokens."""
    texts = ([b"", b"\xff", b" \r\n\x00 ", bytes(random.choices(b"\xc3\xa9\n\x00", k=40)),
              bytes(random.choices(b"ab", k=200))] if odd
             else [bytes(random.choices(b"abc ", k=random.randint(8, 30))) for _ in range(12)])
    for given in texts:
        longer = {bytes(random.choices(b"abc ", k=random.randint(2, 6))) for _ in range(15)}
        if odd and len(given) > 3:
            longer |= {given[:3], given[2:len(given) // 2 + 3]}
        vocab = longer | set(BYTES)
        yield Case(f"the text {given[:40]!r}", (given, vocab), longest_match(given, vocab))


@questions("check_pair_counts")
def pair_counts(odd: bool):
    """Lists of ids; and odd: none, one, all alike, a long one."""
    lists = ([[], ids(9, 1), [7] * 40, [3, 3, 3], ids(3, 300)] if odd
             else [ids(4, random.randint(5, 25)) for _ in range(8)])
    for given in lists:
        yield Case(f"ids = {given[:12]}", (given,), counts_are(given))


def counts_are(given: list[int]):
    """Whether the counts are those of `given`; what is counted as 0 may be left out."""
    right = dict(Counter(pairwise(given)))
    return lambda answer: isinstance(answer, dict) and right == {
        pair: n for pair, n in answer.items() if n}


@questions("check_merge", "minigpt.tokenizer.Tokenizer._apply_merges")
def merges(odd: bool):
    """Lists and pairs that occur; and odd: no list, one id, a pair of the same in a run."""
    if odd:
        lists = [([], (1, 2)), ([1], (1, 2)), ([5] * 9, (5, 5)), ([5] * 10, (5, 5)),
                 ([1, 2], (1, 2)), ([4, 5, 6], (1, 2)), (ids(2, 300), None)]
    else:
        lists = [(ids(3, random.randint(6, 25)), None) for _ in range(10)]
    for given, pair in lists:
        pair = pair or random.choice(list(pairwise(given)))
        new_id = random.randint(70_000, 80_000)
        yield Case(f"ids = {given[:12]} and the pair {pair}", (given, pair, new_id),
                   merge(given, pair, new_id))
