"""Text to token ids, and back. The first step of the pipeline: everything after it sees only the ids.

Underneath are always bytes: every vocabulary holds all 256 of them, so every string can be encoded, and decoding gives
it back unchanged. What else the vocabulary holds is chosen by one of three methods:

- "bytes": nothing else. Token i is the byte i.
- "substring": the most frequent substrings of words. Encoding takes the longest token that fits, again and again.
- "bpe": byte-pair merges. The most frequent pair of neighbouring tokens becomes a new token, again and again; encoding
  repeats those merges in the order in which they were learned. (Gage 1994; for language models Sennrich, Haddow and
  Birch 2016; on bytes and within words that carry their leading space: GPT-2, Radford et al. 2019.)

It is fast although it is plain Python, because text is mostly the same words over and over: training works on the
distinct words with their counts, and encoding remembers what it has made of each word. No word is longer than a fixed
number of characters, which is why time grows in proportion to the text, whatever the text.
"""

import hashlib
import heapq
import json
import operator
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from minigpt import arguments
from minigpt.files import write_atomically

METHODS = ("bpe", "substring", "bytes")
BYTES = tuple(bytes([byte]) for byte in range(256))
LARGEST = 65_536                        # tokens: their ids fit into 16 bits
LONGEST_SUBSTRING = 16                  # bytes

# What each method takes for a word. All words together are always the whole text. For "bpe" this is nearly GPT-2's pattern,
# but contractions stay whole and punctuation takes the newlines behind it along, which saves 2 % of the tokens of a novel.
WORDS = {
    "bpe": re.compile(
        r" ?[^\W\d_]{1,32}(?:['’][^\W\d_]{1,32})?"      # letters, and what an apostrophe adds to them: " don't"
        r"| ?\d{1,32}"                                  # digits
        r"| ?(?:[^\s\w]|_){1,32}\n{0,4}"                # punctuation and symbols, maybe ending a paragraph: '."\n\n'
        r"|\s{0,32}\n"                                  # empty lines
        r"|\s{1,32}(?!\S)|\s"),                         # spaces, but the last one belongs to the word behind it
    "substring": re.compile(r"[^ ]{1,65536}| "),        # split at spaces; the space is a word of its own
    "bytes": re.compile(r"(?s:.{1,65536})"),
}
# No pattern looks further than this many characters ahead, so a block of text decides on all its words but the last few.
LOOK_AHEAD = {"bpe": 67, "substring": 65_537, "bytes": 65_537}
BLOCK = 1 << 19                         # characters that are cut into words at a time

FORMAT, VERSION = "minigpt tokenizer", 1

REMEMBERED = 1 << 22                    # characters of all words together whose ids encoding remembers, before it forgets them
DISTINCT = 1 << 23                      # characters of all distinct words together, beyond which training drops rare ones


class Tokenizer:
    """A vocabulary, and the rule that cuts text into its tokens. `train`, `load` and `from_json` make one; it never changes.

    Two tokenizers are equal if their methods, vocabularies and merges are.
    """

    def __init__(self, method: str, vocab: Iterable[bytes], merges: Iterable[tuple[int, int]] = ()):
        """From its parts. Raises ValueError if they make no tokenizer: a byte is missing, a token stands there twice, …"""
        self._method = arguments.choice("method", method, METHODS)
        self._vocab = tuple(vocab)
        self._merges = tuple((left, right) for left, right in merges)
        _check_parts(method, self._vocab, self._merges)
        self._ids = {token: i for i, token in reversed(list(enumerate(self._vocab))) if token}
        # a pair of ids -> (which merge it is, the id it becomes)
        self._ranks = {(left, right): (rank, self._ids[self._vocab[left] + self._vocab[right]])
                       for rank, (left, right) in enumerate(self._merges)}
        self._lengths = sorted({len(token) for token in self._ids}, reverse=True)
        # a space is a token of its own, unless a vocabulary from elsewhere has tokens that reach across spaces
        across_spaces = method == "substring" and any(b" " in token and token != b" " for token in self._ids)
        self._words = "bytes" if across_spaces else method
        self._remembered, self._remembered_characters = {}, 0

    # ---- the vocabulary --------------------------------------------------------------------------------------------------

    @property
    def method(self) -> str:
        """"bpe", "substring" or "bytes"."""
        return self._method

    @property
    def vocab(self) -> tuple[bytes, ...]:
        """The bytes of every token; the place of a token is its id. Ids 0 to 255 are the bytes themselves (but for a vocabulary
        loaded from a `.vocab` file, which keeps its own order)."""
        return self._vocab

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return len(self._vocab)

    @property
    def merges(self) -> tuple[tuple[int, int], ...]:
        """The pairs of ids that "bpe" merges, first learned first. Empty for the other methods.

        A merge makes the token `vocab[left] + vocab[right]`: nearly always the next new id, but where two pairs spell the same
        bytes ("a" + "bc", "ab" + "c"), the second makes the token of the first.
        """
        return self._merges

    def id_to_token(self, token_id: int) -> bytes:
        """The bytes of a token. Raises ValueError for an id outside the vocabulary."""
        return self._vocab[arguments.integer("token_id", token_id, 0, self.vocab_size - 1)]

    def token_to_id(self, token: bytes) -> int:
        """The id of the token with these bytes. Raises ValueError if there is none."""
        if not isinstance(token, bytes):
            raise TypeError(f"token must be bytes, as b'the', not {arguments.shown(token)}")
        if token not in self._ids:
            raise ValueError(f"token must be in the vocabulary, and {arguments.shown(token)} is not")
        return self._ids[token]

    def __eq__(self, other) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return (self._method, self._vocab, self._merges) == (other._method, other._vocab, other._merges)

    def __hash__(self) -> int:
        return hash((self._method, self._vocab, self._merges))

    def __repr__(self) -> str:
        return f"Tokenizer(method={self._method!r}, vocab_size={self.vocab_size})"

    # ---- text -> ids -> text ---------------------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens, in time proportional to its length. `decode` gives the text back.

        Raises ValueError for a text with a lone surrogate (half of a character), which UTF-8 cannot write.
        """
        text = arguments.text("text", text)
        return list(chain.from_iterable(map(self._encode_words, _words([text], self._words))))

    def encode_chunks(self, chunks: Iterable[str]) -> Iterator[np.ndarray]:
        """The ids of a text that comes in chunks, as arrays of uint16; together they equal `encode("".join(chunks))`.

        Memory does not grow with the number of chunks, and a chunk may end anywhere, also inside a word.
        """
        for words in _words(chunks, self._words):
            yield np.fromiter(self._encode_words(words), np.uint16)

    def decode(self, ids: Iterable[int]) -> str:
        """The text that the tokens spell. Where their bytes are no valid UTF-8, it has U+FFFD instead ("�").

        Raises ValueError for an id outside the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the tokens, joined. Raises ValueError for an id outside the vocabulary."""
        try:
            ids = list(map(operator.index, ids.tolist() if hasattr(ids, "tolist") else ids))
        except TypeError:
            raise TypeError(f"ids must be whole numbers, as encode gives them, not {arguments.shown(ids)}") from None
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            wrong = next(i for i in ids if not 0 <= i < self.vocab_size)
            raise ValueError(f"ids must be at least 0 and at most {self.vocab_size - 1}, not {wrong}")
        return b"".join(map(self._vocab.__getitem__, ids))

    def _encode_words(self, words: list[str]) -> Iterator[int]:
        if self._remembered_characters > REMEMBERED:
            self._remembered, self._remembered_characters = {}, 0       # not cleared: another thread may be reading it
        remembered = self._remembered
        for word in set(words).difference(remembered):
            remembered[word] = self._encode_word(word.encode())
            self._remembered_characters += len(word)
        return chain.from_iterable(map(remembered.__getitem__, words))

    def _encode_word(self, word: bytes) -> list[int]:
        if self._method == "substring":
            return self._longest_matches(word)
        return self._apply_merges(list(word))

    def _longest_matches(self, word: bytes) -> list[int]:
        ids, start = [], 0
        while start < len(word):
            for length in self._lengths:                    # a few lookups; the last, of length 1, always succeeds
                found = self._ids.get(word[start:start + length])
                if found is not None:
                    break
            ids.append(found)
            start += length
        return ids

    def _apply_merges(self, ids: list[int]) -> list[int]:
        """Of all pairs of neighbours, the one learned first is merged, until no pair is left that was learned."""
        never = (len(self._ranks), None)
        while len(ids) > 1:
            pair = min(pairwise(ids), key=lambda pair: self._ranks.get(pair, never))
            if pair not in self._ranks:
                break
            ids = _merge(ids, pair, self._ranks[pair][1])
        return ids

    # ---- training --------------------------------------------------------------------------------------------------------

    @classmethod
    def train(cls, text: str | Iterable[str], vocab_size: int = 1024, method: str = "bpe") -> "Tokenizer":
        """Choose a vocabulary for a text, or for an iterable of its pieces if it is too large for memory.

        `vocab_size` is from 256 to 65,536. The vocabulary is smaller than that where the text has no more to offer: "bytes" always
        has 256 tokens, and a short text has few substrings and few pairs to merge. Of equally frequent candidates, "bpe" takes
        the pair with the smallest ids, "substring" what comes first in the order of bytes.

        Only the distinct words are kept in memory. Should even they come to more than 8 million characters (prose doesn't, but
        anything may be in a file), the rare ones are dropped.
        """
        vocab_size = arguments.integer("vocab_size", vocab_size, len(BYTES), LARGEST)
        method = arguments.choice("method", method, METHODS)
        pieces = [text] if isinstance(text, str) else text
        if method == "bytes":
            return cls(method, BYTES)
        counts = {word.encode(): count for word, count in _count(_words(pieces, method)).items()}
        if method == "substring":
            return cls(method, BYTES + tuple(_frequent_substrings(counts, vocab_size - len(BYTES))))
        return cls(method, *_learn_merges(counts, vocab_size))

    # ---- files -----------------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """All there is to this tokenizer, as text that `from_json` reads.

        Tokens are written as Latin-1 reads their bytes, one character a byte, so that English is readable.
        """
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
            raise ValueError(f"it is not valid JSON ({error})") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"it is JSON, but not of the format {FORMAT!r}")
        version = content.get("version")
        if version != VERSION:
            raise ValueError(f"it has version {arguments.shown(version)} of the format, and this minigpt reads version {VERSION}")
        try:
            parts = {name: content[name] for name in ("method", "vocab", "merges")}
            if _checksum(parts) != content["checksum"]:
                raise ValueError("it is damaged: its checksum does not match its content")
            vocab = [token.encode("latin-1") for token in parts["vocab"]]
            return cls(parts["method"], vocab, [(left, right) for left, right in parts["merges"]])
        except KeyError as error:
            raise ValueError(f"it lacks the entry {error}") from None
        except (TypeError, AttributeError):
            raise ValueError("its vocab must be a list of strings and its merges a list of pairs of ids") from None

    def save(self, path: str | os.PathLike) -> None:
        """Write a file that `load` reads. Whatever happens meanwhile, the old file or the new one is there, whole."""
        write_atomically(path, self.to_json().encode())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """Read a file that `save` wrote, or a `.vocab` file of the reference implementation: (length in 1 byte, bytes) repeated.

        The tokens of a `.vocab` file keep their ids, also the empty and repeated ones (which encoding never produces); of the 256
        bytes, those that the file lacks are added behind them.

        Raises FileNotFoundError or another OSError where the file can't be read, ValueError naming it and the reason where it is wrong.
        """
        path = Path(path)
        data = path.read_bytes()
        try:
            if path.suffix.lower() == ".vocab" and not data.startswith(b'{"'):
                return cls("substring", _read_reference_vocabulary(data))
            return cls.from_json(data.decode())
        except ValueError as error:
            raise ValueError(f"{path} is not a tokenizer's file: {error}") from None


# ---- text -> words -----------------------------------------------------------------------------------------------------------


def _words(pieces: Iterable[str], method: str) -> Iterator[list[str]]:
    """The words of a text, block by block; where its pieces end makes no difference."""
    held = ""
    for block in _blocks(pieces):
        words = WORDS[method].findall(held + block)
        held = ""
        while words and len(held) < LOOK_AHEAD[method]:     # the next block may change these
            held = words.pop() + held
        yield words
    yield WORDS[method].findall(held)


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


def _count(blocks: Iterable[list[str]]) -> Counter[str]:
    """How often each word occurs. From time to time rare words are dropped, if there are far too many different ones."""
    counts = Counter()
    for words in blocks:
        counts.update(words)
        if sum(map(len, counts)) > DISTINCT:
            common, counts, size = counts.most_common(), Counter(), 0
            for word, count in common:
                size += len(word)
                if size > DISTINCT // 2:
                    break
                counts[word] = count
    return counts


# ---- choosing a vocabulary ---------------------------------------------------------------------------------------------------


def _frequent_substrings(counts: dict[bytes, int], how_many: int) -> list[bytes]:
    """The most frequent substrings of 2 to 16 bytes of the words, most frequent first.

    From one length to the next, only the places go on where the substring is still frequent enough: a longer one that starts there
    occurs at most as often.
    """
    data = np.frombuffer(b"".join(counts), np.uint8)
    lengths = np.fromiter(map(len, counts), np.int64)
    ends = np.repeat(lengths.cumsum(), lengths)                             # for each place in data, where its word ends
    weights = np.repeat(np.fromiter(counts.values(), np.float64), lengths)  # and how often the word occurs
    places, group = np.arange(len(data)), data.astype(np.int64)             # places with the same substring are a group
    found, threshold = [], 0
    for length in range(2, LONGEST_SUBSTRING + 1):
        fits = places + length <= ends[places]
        places, group = places[fits], group[fits]
        _, first, group = np.unique(group * 256 + data[places + length - 1], return_index=True, return_inverse=True)
        totals = np.bincount(group, weights[places], minlength=len(first))
        found += [(-totals[g], data[places[first[g]]:][:length].tobytes()) for g in np.flatnonzero(totals >= threshold)]
        found = sorted(found)[:how_many]
        if len(found) == how_many and found:
            threshold = -found[-1][0]
        frequent = (totals >= threshold)[group]
        places, group = places[frequent], group[frequent]
    return [substring for _, substring in found]


def _learn_merges(counts: dict[bytes, int], vocab_size: int) -> tuple[list[bytes], list[tuple[int, int]]]:
    """A vocabulary of `vocab_size` tokens at most, and the merges that make it, the most frequent pair of neighbours at a time."""
    words, frequencies = [list(word) for word in counts], list(counts.values())
    pair_counts, where = Counter(), defaultdict(set)        # where: the words that a pair is in (or once was)
    for index, (word, frequency) in enumerate(zip(words, frequencies, strict=True)):
        for pair in pairwise(word):
            pair_counts[pair] += frequency
            where[pair].add(index)
    queue = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(queue)
    vocab, merges = list(BYTES), []
    ids = {token: i for i, token in enumerate(vocab)}
    while queue and len(vocab) < vocab_size:
        count, pair = heapq.heappop(queue)
        if -count != pair_counts[pair]:                     # it has become rarer since it was put into the queue
            if pair_counts[pair] > 0:
                heapq.heappush(queue, (-pair_counts[pair], pair))
            continue
        token = vocab[pair[0]] + vocab[pair[1]]
        new_id = ids.setdefault(token, len(vocab))
        if new_id == len(vocab):
            vocab.append(token)
        merges.append(pair)
        more_frequent = set()
        for index in where.pop(pair):
            merged = _merge(words[index], pair, new_id)
            for old in pairwise(words[index]):
                pair_counts[old] -= frequencies[index]
            for new in pairwise(merged):
                pair_counts[new] += frequencies[index]
                if new_id in new:
                    where[new].add(index)
                    more_frequent.add(new)
            words[index] = merged
        for new in more_frequent:
            heapq.heappush(queue, (-pair_counts[new], new))
    return vocab, merges


def _merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """`ids` with every occurrence of the pair, from left to right, replaced by the new id."""
    left, right = pair
    merged, start, last = [], 0, len(ids) - 1
    while start <= last:
        if start < last and ids[start] == left and ids[start + 1] == right:
            merged.append(new_id)
            start += 2
        else:
            merged.append(ids[start])
            start += 1
    return merged


# ---- reading -----------------------------------------------------------------------------------------------------------------


def _check_parts(method: str, vocab: tuple[bytes, ...], merges: tuple[tuple[int, int], ...]) -> None:
    """Raise ValueError unless these are the parts of a tokenizer, so that encode and decode never fail later."""
    tokens = set(vocab)
    missing = [byte for byte in BYTES if byte not in tokens]
    if missing:
        raise ValueError(f"its vocabulary lacks {len(missing)} of the 256 single bytes, first {missing[0]}")
    if len(vocab) > LARGEST:
        raise ValueError(f"its vocabulary has {len(vocab)} tokens, at most {LARGEST} are possible")
    if method == "substring":
        made = tokens
    else:
        if vocab[:256] != BYTES or len(tokens) < len(vocab):
            raise ValueError("its vocabulary must begin with the 256 bytes in order and hold no token twice")
        if not all(0 <= i < len(vocab) for pair in merges for i in pair):
            raise ValueError("a merge names an id outside the vocabulary")
        made = {vocab[left] + vocab[right] for left, right in merges} | set(BYTES)
    if made != tokens or (merges and method != "bpe") or len(set(merges)) < len(merges):
        raise ValueError(f"its merges do not make its vocabulary, with the method {method!r}")


def _read_reference_vocabulary(data: bytes) -> list[bytes]:
    if not data:
        raise ValueError("it is empty")
    vocab, start = [], 0
    while start < len(data):
        token = data[start + 1:start + 1 + data[start]]
        if len(token) < data[start]:
            raise ValueError(f"it is cut off: its token {len(vocab)} should have {data[start]} bytes and has {len(token)}")
        vocab.append(token)
        start += 1 + len(token)
    present = set(vocab)
    return vocab + [byte for byte in BYTES if byte not in present]


def _checksum(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
