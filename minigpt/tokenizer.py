"""Text to token ids, and back: the first step of the pipeline. All that comes after it sees ids alone.

Underneath are bytes, always: every vocabulary holds all 256 of them, so every string can be encoded, and decoding gives
it back unchanged. What else a vocabulary holds is chosen by one of three methods:

- "bytes": nothing else. Token i is the byte i.
- "substring": the most frequent substrings of words. Encoding takes the longest token that fits, again and again.
- "bpe": byte-pair merges. The most frequent pair of neighbouring tokens becomes a new token, again and again; encoding
  repeats those merges in the order in which they were learned. (Gage 1994; for language models Sennrich, Haddow and
  Birch 2016; on bytes, within words that carry their leading space: GPT-2, Radford et al. 2019.)

Plain Python is fast enough for this, because a text is mostly the same words over and over: training looks at each
distinct word once, with its count, and encoding remembers what it made of a word. No word is longer than a fixed number
of characters, so that time grows in proportion to the text whatever the text, a line of a million "a" included.
"""

import hashlib
import heapq
import json
import operator
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise, repeat

import numpy as np

from minigpt import arguments
from minigpt.files import write_atomically

METHODS = ("bpe", "substring", "bytes")
BYTES = tuple(bytes([byte]) for byte in range(256))
LARGEST = 65_536                # tokens in a vocabulary: their ids fit into 16 bits
LONGEST_SUBSTRING = 16          # bytes
FORMAT, VERSION = "minigpt tokenizer", 1

# What each method takes for a word. All words together are always the whole text. For "bpe" this is nearly GPT-2's
# pattern; that contractions stay whole, and punctuation takes newlines along, saves 2 % of the tokens of a novel.
WORDS = {
    "bpe": re.compile(
        r" ?[^\W\d_]{1,32}(?:['’][^\W\d_]{1,32})?"      # letters, and what an apostrophe adds to them: " don't"
        r"| ?\d{1,32}"                                  # digits
        r"| ?(?:[^\s\w]|_){1,32}\n{0,4}"                # punctuation and symbols, maybe ending a paragraph: '."\n\n'
        r"|\s{0,32}\n"                                  # empty lines
        r"|\s{1,32}(?!\S)|\s"),                         # spaces; the last one belongs to the word behind it
    "substring": re.compile(r"[^ ]{1,65536}| "),        # split at spaces; the space is a word of its own
    "bytes": re.compile(r"(?s:.{1,65536})"),
}
# No pattern looks further ahead than this many characters: a block of text decides about all its words but the last.
LOOK_AHEAD = {"bpe": 67, "substring": 65_537, "bytes": 65_537}
BLOCK = 1 << 19                 # characters that are cut into words at a time

REMEMBERED = 1 << 20            # characters of all words whose ids encoding remembers; beyond them it begins anew
DISTINCT = 1 << 23              # characters of all distinct words in training; beyond them it drops the rare ones


class Tokenizer:
    """A vocabulary, and the rule that cuts text into its tokens. `train`, `load` and `from_json` make one.

    It never changes. Two tokenizers are equal if their methods, vocabularies and merges are.
    """

    def __init__(self, method: str, vocab: Iterable[bytes], merges: Iterable[tuple[int, int]] = ()):
        """From its parts. Raises ValueError where they make no tokenizer: a byte is missing, …"""
        self._method = arguments.choice("method", method, METHODS)
        self._vocab = _tokens(vocab)
        self._merges = _pairs(merges)
        _check_parts(method, self._vocab, self._merges)
        # only a loaded .vocab has empty tokens, which are never produced, and tokens twice: then the first of them is
        self._ids = {token: i for i, token in reversed(list(enumerate(self._vocab))) if token}
        self._ranks = {pair: rank for rank, pair in enumerate(self._merges)}
        self._lengths = _lengths_by_beginning(self._ids)
        # and only a loaded .vocab may have tokens that reach across a space
        across_spaces = method == "substring" and any(b" " in token and token != b" " for token in self._ids)
        self._words = "bytes" if across_spaces else method
        self._remembered, self._remembered_characters = {}, 0

    # ---- the vocabulary ----------------------------------------------------------------------------------------------

    @property
    def method(self) -> str:
        """"bpe", "substring" or "bytes"."""
        return self._method

    @property
    def vocab(self) -> tuple[bytes, ...]:
        """The bytes of every token; the place of a token is its id.

        Ids 0 to 255 are the bytes themselves, except in a vocabulary from a `.vocab` file, which keeps its own order.
        """
        return self._vocab

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return len(self._vocab)

    @property
    def merges(self) -> tuple[tuple[int, int], ...]:
        """The pairs of ids that "bpe" merges, first learned first: the i-th makes token 256 + i. Else empty."""
        return self._merges

    def id_to_token(self, token_id: int) -> bytes:
        """The bytes of a token. Raises ValueError for an id outside the vocabulary."""
        return self._vocab[arguments.integer("token_id", token_id, 0, self.vocab_size - 1)]

    def token_to_id(self, token: bytes) -> int:
        """The id of the token with these bytes. Raises ValueError if there is none."""
        if not isinstance(token, bytes):
            raise TypeError(f"token must be bytes, as b'the', not {arguments.shown(token)}")
        if token not in self._ids:
            raise ValueError(f"token must be in the vocabulary, not {arguments.shown(token)}")
        return self._ids[token]

    def __eq__(self, other) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return (self._method, self._vocab, self._merges) == (other._method, other._vocab, other._merges)

    def __hash__(self) -> int:
        return hash((self._method, self._vocab, self._merges))

    def __repr__(self) -> str:
        return f"Tokenizer(method={self._method!r}, vocab_size={self.vocab_size})"

    # ---- text -> ids -> text -----------------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens, in time proportional to its length. `decode` gives the text back.

        Raises ValueError for a text with a lone surrogate (half of a character), which UTF-8 cannot write.
        """
        text = arguments.text("text", text)
        return list(chain.from_iterable(map(self._encode_words, _words([text], self._words))))

    def encode_chunks(self, chunks: Iterable[str]) -> Iterator[np.ndarray]:
        """The ids of a text that comes in chunks, as arrays of uint16; together they equal `encode("".join(chunks))`.

        Memory does not grow with the number of chunks. A chunk may end anywhere, also inside a word.
        """
        words = _words(_pieces("chunks", chunks), self._words)
        return (np.fromiter(self._encode_words(block), np.uint16) for block in words)

    def decode(self, ids: Iterable[int]) -> str:
        """The text that the tokens spell; where their bytes are not valid UTF-8, it has U+FFFD ("�") instead.

        Raises ValueError for an id outside the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the tokens, joined. Raises ValueError for an id outside the vocabulary."""
        try:
            numbers = list(map(operator.index, ids.tolist() if hasattr(ids, "tolist") else ids))
        except TypeError:
            raise TypeError(f"ids must be whole numbers, as encode gives them, not {arguments.shown(ids)}") from None
        if numbers and not 0 <= min(numbers) <= max(numbers) < self.vocab_size:
            wrong = next(number for number in numbers if not 0 <= number < self.vocab_size)
            raise ValueError(f"ids must be at least 0 and at most {self.vocab_size - 1}, not {wrong}")
        return b"".join(map(self._vocab.__getitem__, numbers))

    def _encode_words(self, words: list[str]) -> Iterator[int]:
        if self._remembered_characters > REMEMBERED:
            self._remembered, self._remembered_characters = {}, 0   # a new one: another thread may still read the old
        remembered = self._remembered
        for word in set(words).difference(remembered):
            remembered[word] = self._encode_word(word.encode())
            self._remembered_characters += len(word)
        return chain.from_iterable(map(remembered.__getitem__, words))

    def _encode_word(self, word: bytes) -> list[int]:
        return self._longest_matches(word) if self._method == "substring" else self._apply_merges(list(word))

    def _longest_matches(self, word: bytes) -> list[int]:
        """At each place the longest token that fits: from long to short, is it in the vocabulary? A single byte is."""
        ids, place = [], 0
        while place < len(word):
            for length in self._lengths.get(word[place:place + 2], (1,)):
                token_id = self._ids.get(word[place:place + length])
                if token_id is not None:
                    break
            ids.append(token_id)
            place += len(self._vocab[token_id])
        return ids

    def _apply_merges(self, ids: list[int]) -> list[int]:
        """Of all pairs of neighbours the one learned first is merged, until there is none that was learned."""
        never = len(self._merges)
        while len(ids) > 1:
            rank = min(map(self._ranks.get, pairwise(ids), repeat(never)))
            if rank == never:
                break
            ids = _merge(ids, self._merges[rank], len(BYTES) + rank)
        return ids

    # ---- training ----------------------------------------------------------------------------------------------------

    @classmethod
    def train(cls, text: str | Iterable[str], vocab_size: int = 1024, method: str = "bpe") -> "Tokenizer":
        """Choose a vocabulary for a text, or for an iterable of its pieces where it is too large for memory.

        `vocab_size` is from 256 to 65,536. The vocabulary is smaller where there is no more to choose: "bytes" always
        has 256 tokens, and a short text runs out of substrings, or of pairs to merge. Of equally frequent ones, "bpe"
        takes the pair with the smallest ids, and "substring" the one that comes first in the order of bytes.

        Only the distinct words are kept in memory. If even they come to over 8 million characters (in prose they don't,
        but a file may hold anything), the rare ones are dropped.
        """
        vocab_size = arguments.integer("vocab_size", vocab_size, len(BYTES), LARGEST)
        method = arguments.choice("method", method, METHODS)
        pieces = _pieces("text", text)
        if method == "bytes":
            for _ in _blocks(pieces):       # only to refuse what is no text
                pass
            return cls(method, BYTES)
        counts = _count(_words(pieces, method))
        if method == "substring":
            return cls(method, BYTES + tuple(_frequent_substrings(counts, vocab_size - len(BYTES))))
        return cls(method, *_learn_merges(counts, vocab_size))

    # ---- files -------------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """All there is to this tokenizer, as text for `from_json`. Tokens are written a character a byte (Latin-1)."""
        content = {"method": self._method, "vocab": [token.decode("latin-1") for token in self._vocab],
                   "merges": [list(pair) for pair in self._merges]}
        return json.dumps({"format": FORMAT, "version": VERSION, "checksum": _checksum(content), **content})

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """The tokenizer that `to_json` wrote. Raises ValueError that says what is wrong with the text."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, not {arguments.shown(text)}")
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is not JSON ({error})") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"it is JSON, but does not say that its format is {FORMAT!r}")
        if content.get("version") != VERSION:
            raise ValueError(f"its format has version {arguments.shown(content.get('version'))}, "
                             f"and this minigpt reads version {VERSION}")
        try:
            parts = {name: content[name] for name in ("method", "vocab", "merges")}
            if content["checksum"] != _checksum(parts):
                raise ValueError("it is damaged: its checksum does not match its content")
            return cls(parts["method"], [token.encode("latin-1") for token in parts["vocab"]], parts["merges"])
        except KeyError as error:
            raise ValueError(f"it lacks the entry {error}") from None
        except (TypeError, AttributeError):
            raise ValueError("its vocab must be a list of strings, its merges a list of pairs of ids") from None

    def save(self, path: str | os.PathLike) -> None:
        """Write a file for `load`. At every moment the old file or the new one is there, whole. OSError if it can't."""
        write_atomically(arguments.path("path", path), self.to_json().encode())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """Read a file that `save` wrote, or a `.vocab` of the reference implementation: (length in 1 byte, bytes)*.

        The tokens of a `.vocab` keep their ids, empty and repeated ones too (encoding never produces them); those of
        the 256 bytes that it lacks are added behind them. Raises OSError where the file can't be read, and ValueError
        that names it and says what is wrong with it.
        """
        path = arguments.path("path", path)
        content = path.read_bytes()
        try:
            if path.suffix.lower() == ".vocab" and not content.startswith(b'{"'):
                return cls("substring", _parse_reference(content))
            return cls.from_json(content.decode())
        except ValueError as error:
            raise ValueError(f"{path} is no file of a tokenizer: {error}") from None


# ---- text -> words ---------------------------------------------------------------------------------------------------


def _words(pieces: Iterable[str], method: str) -> Iterator[list[str]]:
    """The words of a text, block by block. Where its pieces end makes no difference."""
    held = ""
    for block in _blocks(pieces):
        words = WORDS[method].findall(held + block)
        held = ""
        while words and len(held) < LOOK_AHEAD[method]:     # what the next block could still change
            held = words.pop() + held
        yield words
    yield WORDS[method].findall(held)


def _pieces(name: str, text: str | Iterable[str]) -> Iterable[str]:
    if not isinstance(text, Iterable):
        raise TypeError(f"{name} must be a str or an iterable of them, not {arguments.shown(text)}")
    return [text] if isinstance(text, str) else text


def _blocks(pieces: Iterable[str]) -> Iterator[str]:
    """The same text in pieces that are neither tiny nor huge."""
    waiting, size = [], 0
    for piece in pieces:
        piece = arguments.text("text", piece)
        for start in range(0, len(piece), BLOCK):
            waiting.append(piece[start:start + BLOCK])
            size += len(waiting[-1])
            if size >= BLOCK:
                yield "".join(waiting)
                waiting, size = [], 0
    yield "".join(waiting)


def _count(blocks: Iterable[list[str]]) -> dict[bytes, int]:
    """How often each word occurs; without rare words, should there be far too many different ones."""
    counts, size = Counter(), 0
    for words in blocks:
        size += sum(map(len, set(words).difference(counts)))
        counts.update(words)
        if size > DISTINCT:
            common, counts, size = counts.most_common(), Counter(), 0
            for word, count in common:
                if size + len(word) > DISTINCT // 2:
                    break
                counts[word] = count
                size += len(word)
    return {word.encode(): count for word, count in counts.items()}


def _lengths_by_beginning(tokens: Iterable[bytes]) -> dict[bytes, list[int]]:
    """For the first two bytes of a text, how long a token may be that fits there, longest first."""
    lengths = defaultdict(lambda: {1})
    for token in tokens:
        lengths[token[:2]].add(len(token))
    return {beginning: sorted(lengths[beginning], reverse=True) for beginning in lengths}


# ---- choosing a vocabulary -------------------------------------------------------------------------------------------


def _frequent_substrings(counts: dict[bytes, int], how_many: int) -> list[bytes]:
    """The most frequent substrings of 2 to 16 bytes of the words, most frequent first.

    It looks at all substrings of 2 bytes, then of 3, and so on. A place in the text is given up once the substring that
    starts there is too rare: a longer one occurs no more often.
    """
    if not how_many:
        return []
    data = np.frombuffer(b"".join(counts), np.uint8)
    lengths = np.fromiter(map(len, counts), np.int64)
    ends = lengths.cumsum().repeat(lengths)                             # for each place, where its word ends
    weights = np.fromiter(counts.values(), np.float64).repeat(lengths)  # and how often that word occurs
    places, group = np.arange(len(data)), data.astype(np.int64)         # places of a group have the same substring
    found, rarest = [], 0
    for length in range(2, LONGEST_SUBSTRING + 1):
        inside = places + length <= ends[places]
        places, group = places[inside], group[inside]
        _, first, group = np.unique(group * 256 + data[places + length - 1], return_index=True, return_inverse=True)
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


def _learn_merges(counts: dict[bytes, int], vocab_size: int) -> tuple[list[bytes], list[tuple[int, int]]]:
    """The vocabulary, and the merges that make it: each time the most frequent pair of neighbours in all the words.

    Only the words with that pair change, and with them the counts of a few pairs. The queue has each pair with its
    count, or with a larger one that it had before: so the first entry whose count still holds is the most frequent.
    """
    words, frequencies = [list(word) for word in counts], list(counts.values())
    pair_counts, where = Counter(), defaultdict(set)        # where: the words that have the pair, or had it once
    for index, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += frequencies[index]
            where[pair].add(index)
    queue = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(queue)
    vocab, merges = list(BYTES), []
    while queue and len(vocab) < vocab_size:
        count, pair = heapq.heappop(queue)
        if -count != pair_counts[pair]:                     # rarer by now
            if pair_counts[pair]:
                heapq.heappush(queue, (-pair_counts[pair], pair))
            continue
        new_id = len(vocab)
        vocab.append(vocab[pair[0]] + vocab[pair[1]])
        merges.append(pair)
        grown = set()
        for index in where.pop(pair):
            merged = _merge(words[index], pair, new_id)
            for old in pairwise(words[index]):
                pair_counts[old] -= frequencies[index]
            for new in pairwise(merged):
                pair_counts[new] += frequencies[index]
                if new_id in new:
                    where[new].add(index)
                    grown.add(new)
            words[index] = merged
        for new in grown:
            heapq.heappush(queue, (-pair_counts[new], new))
    return vocab, merges


def _merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """`ids` with each occurrence of the pair, from left to right, replaced by the new id."""
    left, right = pair
    merged, place, last = [], 0, len(ids) - 1
    while place <= last:
        if ids[place] == left and place < last and ids[place + 1] == right:
            merged.append(new_id)
            place += 2
        else:
            merged.append(ids[place])
            place += 1
    return merged


# ---- reading ---------------------------------------------------------------------------------------------------------


def _tokens(vocab: Iterable[bytes]) -> tuple[bytes, ...]:
    arguments.instance("vocab", vocab, Iterable, "a list of bytes")
    return tuple(arguments.instance("vocab", token, bytes, "a list of bytes") for token in vocab)


def _pairs(merges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    try:
        return tuple((operator.index(left), operator.index(right)) for left, right in merges)
    except (TypeError, ValueError):
        raise TypeError(f"merges must be a list of pairs of ids, not {arguments.shown(merges)}") from None


def _check_parts(method: str, vocab: tuple[bytes, ...], merges: tuple[tuple[int, int], ...]) -> None:
    """Raise ValueError unless these are the parts of a tokenizer, so that nothing fails later, when it is used."""
    tokens = set(vocab)
    missing = [byte for byte in BYTES if byte not in tokens]
    if missing:
        raise ValueError(f"its vocabulary lacks {len(missing)} of the 256 single bytes, {missing[0]} for one")
    if len(vocab) > LARGEST:
        raise ValueError(f"its vocabulary must have at most {LARGEST} tokens, not {len(vocab)}")
    if method != "substring" and (vocab[:256] != BYTES or len(tokens) < len(vocab)):
        raise ValueError("its vocabulary must begin with the 256 bytes in order, and hold no token twice")
    if len(merges) != (len(vocab) - 256 if method == "bpe" else 0) or (method == "bytes" and len(vocab) > 256):
        raise ValueError(f"it has {len(vocab)} tokens and {len(merges)} merges, which does not suit {method!r}")
    for new_id, (left, right) in enumerate(merges, start=256):
        if not (0 <= left < new_id and 0 <= right < new_id and vocab[left] + vocab[right] == vocab[new_id]):
            raise ValueError(f"its token {new_id} is not what the merge of the tokens {left} and {right} makes")


def _parse_reference(content: bytes) -> list[bytes]:
    if not content:
        raise ValueError("it is empty")
    vocab, place = [], 0
    while place < len(content):
        length = content[place]
        vocab.append(content[place + 1:place + 1 + length])
        if len(vocab[-1]) < length:
            raise ValueError(f"it is cut off: token {len(vocab) - 1} has {len(vocab[-1])} of its {length} bytes")
        place += 1 + length
    present = set(vocab)
    return vocab + [byte for byte in BYTES if byte not in present]


def _checksum(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
