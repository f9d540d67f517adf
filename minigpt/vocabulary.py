"""How a vocabulary is chosen: which pieces of text deserve a number of their own.

It stands between the corpus, which gives the text, and the tokenizer, which uses what is chosen
here. There are three steps, and 01_tokenizer builds each of them:

1. `words`: the text is cut into words, and no token will reach across their borders;
2. `count_words`: a text is mostly the same words over and over, so each is looked at once, with
   its count;
3. `learn_merges` (byte-pair encoding: Gage 1994; for language models Sennrich, Haddow and Birch
   2016; on bytes, within words that carry their leading space: GPT-2, Radford et al. 2019), or
   `frequent_substrings`.

Cutting into words takes time in proportion to the text, whatever the text: no word is longer than a
fixed number of characters, a line of a million "a" included.
"""

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import regex

LARGEST = 1 << 16           # tokens in a vocabulary: their ids fit into 16 bits
BYTES = tuple(bytes([byte]) for byte in range(256))     # the beginning of every vocabulary
LONGEST_SUBSTRING = 16      # bytes
BLOCK = 1 << 19             # characters that are cut into words at a time
DISTINCT = 1 << 23          # characters of all distinct words; beyond them rare ones are dropped
END = -1                    # stands behind the last token of a word: no pair reaches across


# ---- text -> words -------------------------------------------------------------------------------


class Rule(NamedTuple):
    """What is a word. All words together are always the whole text."""

    pattern: re.Pattern | regex.Pattern     # finds the words, one after the other
    # So many characters, counted from its first, decide where a word ends: of the longest word (in
    # "letters" 1 space + 32 + 1 apostrophe + 32), and one to see that it ends.
    look_ahead: int


# What belongs to the character before it: accents and vowel signs (\p{M}), the skin tone of an
# emoji, and what joins two letters or two emoji, or keeps them apart (U+200D, U+200C). That is most
# of what Unicode calls "Extend" (unicode.org/reports/tr29).
MARK = r"\p{M}\p{Emoji_Modifier}\u200C\u200D"
LETTER, DIGIT, SPACE = r"\p{L}\p{Nl}\p{No}", r"\p{Nd}", r"\p{White_Space}"
SYMBOL = rf"^{SPACE}{LETTER}{DIGIT}"        # all the rest, marks among it


def _stretch(kind: str, marked: str) -> str:
    """1 to 32 characters of a kind, with their marks: not cut before a mark or behind a joiner.

    Where there is no other place, because it is nothing but marks, the cut comes after 32 all the
    same.
    """
    return rf"[{kind}](?:[{marked}]{{0,31}}(?![{MARK}]|(?<=\u200D)[{kind}])|[{marked}]{{31}})"


LETTERS = _stretch(LETTER, LETTER + MARK)
DIGITS = _stretch(DIGIT, DIGIT + MARK)
SYMBOLS = _stretch(SYMBOL, SYMBOL)

# Whatever a library's version of Unicode, nothing is lost, and decoding gives every text back. Two
# versions may find different words only where a text has characters that one of them does not know
# yet. "letters" goes by the version of Python itself, "letters and marks" by that of `regex`.
RULES = {
    # Nearly GPT-2's pattern; that contractions stay whole, and punctuation takes newlines along,
    # saves 2 % of the tokens of a novel. JavaScript reads the same pattern, with the flags "gu".
    "letters and marks": Rule(regex.compile(
        rf" ?{LETTERS}(?:['’]{LETTERS})?"           # letters, and an apostrophe's: " don't"
        rf"| ?{DIGITS}"
        rf"| ?{SYMBOLS}\n{{0,4}}"                    # maybe ending a paragraph: '."\n\n'
        rf"|[{SPACE}]{{0,32}}\n"                     # empty lines
        rf"|[{SPACE}]{{1,32}}(?![^{SPACE}])|[{SPACE}]"), 67),   # the last belongs to the next word
    # The rule of earlier vocabularies, which keep it. It parts marks from their letters, and takes
    # U+001C to U+001F for spaces; nothing else differs.
    "letters": Rule(re.compile(
        r" ?[^\W\d_]{1,32}(?:['’][^\W\d_]{1,32})?"
        r"| ?\d{1,32}"
        r"| ?(?:[^\s\w]|_){1,32}\n{0,4}"
        r"|\s{0,32}\n"
        r"|\s{1,32}(?!\S)|\s"), 67),
    "spaces": Rule(re.compile(r"[^ ]{1,65536}| "), 65_537),     # the space is a word of its own
    "anything": Rule(re.compile(r"[\s\S]{1,65536}"), 65_537),
}


def words(chunks: Iterable[str], rule: str) -> Iterator[list[str]]:
    """The words of a text that comes in chunks, block by block. The chunks may end anywhere."""
    pattern, look_ahead = RULES[rule]
    undecided = ""
    for block in _blocks(chunks):
        found = pattern.findall(undecided + block)
        undecided = ""
        while found and len(undecided) < look_ahead:    # what the next block could still change
            undecided = found.pop() + undecided
        yield found
    yield pattern.findall(undecided)


def _blocks(chunks: Iterable[str]) -> Iterator[str]:
    """The same text in parts that are neither tiny nor huge."""
    waiting, size = [], 0
    for chunk in chunks:
        for start in range(0, len(chunk), BLOCK):
            waiting.append(chunk[start:start + BLOCK])
            size += len(waiting[-1])
            if size >= BLOCK:
                yield "".join(waiting)
                waiting, size = [], 0
    yield "".join(waiting)


def count_words(blocks: Iterable[list[str]]) -> dict[bytes, int]:
    """How often each word occurs; without rare words, should too many different ones come."""
    counts, size = Counter(), 0
    for block in blocks:
        size += sum(map(len, set(block).difference(counts)))
        counts.update(block)
        if size > DISTINCT:
            common, counts, size = counts.most_common(), Counter(), 0
            for word, frequency in common:
                if size + len(word) > DISTINCT // 2:
                    break
                counts[word] = frequency
                size += len(word)
    return {word.encode(): frequency for word, frequency in counts.items()}


# ---- byte pairs ----------------------------------------------------------------------------------


def learn_merges(counts: dict[bytes, int]) -> Iterator[tuple[int, int]]:
    """The most frequent pair of neighbouring tokens, again and again: the i-th makes token 256 + i.

    `counts` has the words and how often each occurs. Of equally frequent pairs the one with the
    smaller ids comes first. It goes on until no token has a neighbour, or until the vocabulary is
    the largest that can be: take as many as you want.
    """
    row = _Row(counts)
    queue = []                                  # no pair is in it twice: places are never compared
    beginnings = np.arange(len(row.ids), dtype=np.int32)    # of pairs that are new: at first, all
    for new_id in range(len(BYTES), LARGEST):
        for pair, places, frequency in row.pairs(beginnings):
            heapq.heappush(queue, (-frequency, pair, places))
        found = _most_frequent(queue, row)
        if found is None:
            return
        pair, places = found
        yield pair
        beginnings = row.merge(pair, places, new_id)


def _most_frequent(queue: list, row: "_Row") -> tuple[tuple[int, int], np.ndarray] | None:
    """Take the most frequent pair from the queue, with its places; None where there is none.

    Where a pair occurs is found once, when its younger token is made: later merges can only make it
    rarer. So the queue has each pair with its count, or with a larger one that it had before, and
    what comes to the front is counted again. If its count still holds, it is the most frequent.
    """
    while queue:
        queued, pair, places = heapq.heappop(queue)
        places, frequency = row.find(pair, places)
        if frequency == -queued:
            return pair, places
        if frequency:
            heapq.heappush(queue, (-frequency, pair, places))
    return None


class _Row:
    """The tokens of all words in a row, each word with an END behind it. A merge leaves gaps."""

    def __init__(self, counts: dict[bytes, int]):
        lengths = np.fromiter(map(len, counts), np.int64, len(counts))
        content = np.frombuffer(b"".join(counts), np.uint8).astype(np.int32)
        self.ids = np.insert(content, lengths.cumsum(), END)                    # (N,)
        # (N,) each: where the right neighbour is, where the left one is
        self.after = np.arange(1, len(self.ids) + 1, dtype=np.int32)
        self.before = self.after - 2
        frequencies = np.fromiter(counts.values(), np.int64, len(counts))
        self.weights = frequencies.repeat(lengths + 1)              # (N,) how often the word occurs

    def pairs(self, places: np.ndarray) -> Iterator[tuple[tuple[int, int], np.ndarray, int]]:
        """(pair, where it begins, how often it occurs) for all pairs that begin at these places."""
        places = places[self.ids[places] != END]
        places = places[self.ids[self.after[places]] != END]
        if not len(places):
            return
        left, right = self.ids[places], self.ids[self.after[places]]
        pairs = left.astype(np.uint32) << 16 | right.astype(np.uint32)      # two ids in one number
        order = pairs.argsort(kind="stable")                # equal pairs together, left to right
        places, pairs = places[order], pairs[order]
        starts = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1]))
        frequencies = np.add.reduceat(self.weights[places], starts).tolist()
        borders = pairwise([*starts.tolist(), len(places)])
        for pair, (start, stop), frequency in zip(pairs[starts].tolist(), borders, frequencies):
            yield divmod(pair, 1 << 16), places[start:stop], frequency

    def find(self, pair: tuple[int, int], places: np.ndarray) -> tuple[np.ndarray, int]:
        """At which of these places the pair begins, and how often it occurs."""
        left, right = pair
        places = places[self.ids[places] == left]
        places = places[self.ids[self.after[places]] == right]
        return places, int(self.weights[places].sum())

    def merge(self, pair: tuple[int, int], places: np.ndarray, new_id: int) -> np.ndarray:
        """Replace the pair at these places. Gives the places where a pair with `new_id` begins."""
        if pair[0] == pair[1]:
            places = self._without_overlaps(places)
        gaps = self.after[places]
        self.ids[places], self.ids[gaps] = new_id, END
        self.after[places] = self.after[gaps]
        self.before[self.after[places]] = places
        left = self.before[places]
        return np.append(places, left[self.ids[left] != new_id])

    def _without_overlaps(self, places: np.ndarray) -> np.ndarray:
        """Of a row of equal tokens, which is full of pairs, every second pair from its left end."""
        number = np.arange(len(places))
        begins_row = np.insert(self.after[places[:-1]] != places[1:], 0, True)
        return places[(number - np.maximum.accumulate(number * begins_row)) % 2 == 0]


# ---- substrings ----------------------------------------------------------------------------------


def frequent_substrings(counts: dict[bytes, int], how_many: int) -> list[bytes]:
    """The most frequent substrings of 2 to 16 bytes of the words, most frequent first.

    It looks at all substrings of 2 bytes, then of 3, and so on. A place in the text is given up
    once the substring that starts there is too rare: a longer one occurs no more often.
    """
    if not how_many:
        return []
    data = np.frombuffer(b"".join(counts), np.uint8)
    lengths = np.fromiter(map(len, counts), np.int64)
    # for each place: where its word ends, and how often that word occurs
    ends = lengths.cumsum().repeat(lengths)
    weights = np.fromiter(counts.values(), np.float64).repeat(lengths)
    places, group = np.arange(len(data)), data.astype(np.int64)     # a group: the same substring
    found, rarest = [], 0
    for length in range(2, LONGEST_SUBSTRING + 1):
        inside = places + length <= ends[places]
        places, group = places[inside], group[inside]
        _, first, group = np.unique(group * 256 + data[places + length - 1],
                                    return_index=True, return_inverse=True)
        totals = np.bincount(group, weights[places])
        for number in np.flatnonzero(totals >= rarest):
            start = places[first[number]]
            found.append((-totals[number], data[start:start + length].tobytes()))
        found = sorted(found)[:how_many]
        if len(found) == how_many:
            rarest = -found[-1][0]
        frequent = (totals >= rarest)[group]
        places, group = places[frequent], group[frequent]
    return [substring for _, substring in found]
