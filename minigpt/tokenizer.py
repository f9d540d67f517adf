"""Text to token ids, and back: the model sees ids alone.

What a vocabulary holds is chosen in `vocabulary`; here it is used. Underneath are bytes, always:
every vocabulary holds all 256 of them, so every string can be encoded, and decoding gives it back
unchanged. The method says how a vocabulary is chosen, and how a text is cut into its tokens:

- "bytes": nothing but bytes. Token i is the byte i.
- "substring": frequent substrings of words. Encoding takes the longest token that fits, again and
  again.
- "bpe": byte-pair merges. Encoding repeats them in the order in which they were learned.

Plain Python is fast enough for this, because a text is mostly the same words over and over:
encoding remembers what it made of a word.
"""

import hashlib
import json
import operator
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice, pairwise
from pathlib import Path

import numpy as np

from minigpt import arguments
from minigpt.arguments import choice, instance, integer, shown, takes
from minigpt.files import check_replaces, read_ordinary, write_atomically
from minigpt.vocabulary import (
    BYTES,
    LARGEST,
    count_words,
    frequent_substrings,
    learn_merges,
    words,
)

# By which of the RULES each method cuts a text into words. New vocabularies take the first.
WORD_RULES = {"bpe": ("letters and marks", "letters"), "substring": ("spaces", "anything"),
              "bytes": ("anything",)}
METHODS = tuple(WORD_RULES)
FORMAT, VERSION = "minigpt tokenizer", 2
BEGINNING = f'{{"format": "{FORMAT}"'.encode()      # of a file
ENTRIES = {1: ("method", "vocab", "merges"), 2: ("method", "vocab", "merges", "word_rule")}
REMEMBERED = 1 << 20        # characters of all words whose ids are remembered; then it begins anew


# ---- guards --------------------------------------------------------------------------------------


def _tokens(name: str, value) -> tuple[bytes, ...]:
    instance(Iterable, "a list of bytes")(name, value)
    return tuple(instance(bytes, "a list of bytes")(name, token) for token in value)


def _pairs(name: str, value) -> tuple[tuple[int, int], ...]:
    try:
        return tuple((operator.index(left), operator.index(right)) for left, right in value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a list of pairs of ids, not {shown(value)}") from None


def _ids(name: str, value) -> list[int]:
    try:
        return list(map(operator.index, value.tolist() if hasattr(value, "tolist") else value))
    except TypeError:
        raise TypeError(f"{name} must be whole numbers, as encode gives them, "
                        f"not {shown(value)}") from None


VOCABULARY = {"vocab_size": integer(len(BYTES), LARGEST), "method": choice(METHODS)}


def _of_its_method(given: dict) -> None:
    """A relation for `takes`: each method has rules for words of its own."""
    choice(WORD_RULES[given["method"]], optional=True)("word_rule", given["word_rule"])


def _in_the_vocabulary(given: dict) -> None:
    """A relation for `takes`: the first id that is not in the vocabulary is named."""
    ids, size = given["ids"], given["self"].vocab_size
    if ids and not 0 <= min(ids) <= max(ids) < size:
        integer(0, size - 1)("ids", next(i for i in ids if not 0 <= i < size))


class Tokenizer:
    """A vocabulary, and the rule that cuts text into its tokens. `train` or `load` makes one.

    It never changes. Two tokenizers are equal if their methods, vocabularies, merges and rules for
    words are.
    """

    @takes(_of_its_method, method=choice(METHODS), vocab=_tokens, merges=_pairs)
    def __init__(self, method: str, vocab: Iterable[bytes],
                 merges: Iterable[tuple[int, int]] = (), word_rule: str | None = None):
        """From its parts; `word_rule` None is the one that `train` would take.

        Raises ValueError where they make no tokenizer: a byte is missing, …
        """
        _check_parts(method, vocab, merges)
        self._method, self._vocab, self._merges = method, vocab, merges
        self._word_rule = word_rule or _word_rule(method, vocab)
        # A loaded .vocab may hold empty tokens, which encoding never makes, and a token twice, of
        # which it makes the first.
        self._ids = {token: i for i, token in reversed(list(enumerate(vocab))) if token}
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._lengths = _lengths_by_beginning(self._ids)
        self._remembered, self._remembered_characters = {}, 0

    # ---- the vocabulary --------------------------------------------------------------------------

    @property
    def method(self) -> str:
        """"bpe", "substring" or "bytes"."""
        return self._method

    @property
    def vocab(self) -> tuple[bytes, ...]:
        """The bytes of every token; the place of a token is its id.

        Ids 0 to 255 are the bytes themselves, except in a vocabulary from a `.vocab` file, which
        keeps its own order.
        """
        return self._vocab

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return len(self._vocab)

    @property
    def merges(self) -> tuple[tuple[int, int], ...]:
        """The pairs of ids that "bpe" merges: the i-th makes token 256 + i. Else empty."""
        return self._merges

    @property
    def word_rule(self) -> str:
        """By which of `vocabulary.RULES` a text is cut into words before it is cut into tokens."""
        return self._word_rule

    def id_to_token(self, token_id: int) -> bytes:
        """The bytes of a token. Raises ValueError for an id outside the vocabulary."""
        return self._vocab[integer(0, self.vocab_size - 1)("token_id", token_id)]

    @takes(token=instance(bytes, "bytes, as b'the'"))
    def token_to_id(self, token: bytes) -> int:
        """The id of the token with these bytes. Raises ValueError if there is none."""
        if token not in self._ids:
            raise ValueError(f"token must be in the vocabulary, not {shown(token)}")
        return self._ids[token]

    def __eq__(self, other) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple:
        return self._method, self._vocab, self._merges, self._word_rule

    def __repr__(self) -> str:
        return f"Tokenizer(method={self._method!r}, vocab_size={self.vocab_size})"

    # ---- text -> ids -> text ---------------------------------------------------------------------

    @takes(text=arguments.text)
    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens, in time proportional to its length. `decode` gives it back.

        Raises ValueError for a text with a lone surrogate (half of a character), which UTF-8 cannot
        write.
        """
        return list(chain.from_iterable(map(self._encode_words, words([text], self._word_rule))))

    @takes(chunks=arguments.chunks)
    def encode_chunks(self, chunks: Iterable[str]) -> Iterator[np.ndarray]:
        """The ids of a text that comes in chunks, as arrays of uint16.

        Together they equal `encode("".join(chunks))`. Memory does not grow with the number of
        chunks. A chunk may end anywhere, also inside a word.
        """
        for block in words(chunks, self._word_rule):
            yield np.fromiter(self._encode_words(block), np.uint16)

    def decode(self, ids: Iterable[int]) -> str:
        """The text that the tokens spell; where their bytes are no UTF-8, it has U+FFFD ("�").

        Raises ValueError for an id outside the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    @takes(_in_the_vocabulary, ids=_ids)
    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the tokens, joined. Raises ValueError for an id outside the vocabulary."""
        return b"".join(map(self._vocab.__getitem__, ids))

    def _encode_words(self, block: list[str]) -> Iterator[int]:
        if self._remembered_characters > REMEMBERED:
            # a new one, as another thread may still read the old one
            self._remembered, self._remembered_characters = {}, 0
        remembered = self._remembered
        for word in set(block).difference(remembered):
            remembered[word] = self._encode_word(word.encode())
            self._remembered_characters += len(word)
        return chain.from_iterable(map(remembered.__getitem__, block))

    def _encode_word(self, word: bytes) -> list[int]:
        if self._method == "substring":
            return self._longest_matches(word)
        return self._apply_merges(list(word))

    def _longest_matches(self, word: bytes) -> list[int]:
        """At each place the longest token that fits. A single byte always does."""
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
        """Of all neighbours the pair learned first is merged, until none was learned."""
        never = len(self._merges)
        ranks = [self._ranks.get(pair, never) for pair in pairwise(ids)]
        while (rank := min(ranks, default=never)) < never:
            place = ranks.index(rank)
            ids[place:place + 2] = [len(BYTES) + rank]
            del ranks[place]
            if place > 0:
                ranks[place - 1] = self._ranks.get((ids[place - 1], ids[place]), never)
            if place < len(ranks):
                ranks[place] = self._ranks.get((ids[place], ids[place + 1]), never)
        return ids

    # ---- training --------------------------------------------------------------------------------

    @classmethod
    @takes(text=arguments.chunks, **VOCABULARY,
           progress=instance(Callable, "a function of merges and their number", optional=True))
    def train(cls, text: str | Iterable[str], vocab_size: int = 1024, method: str = "bpe",
              *, progress: Callable[[Iterable, int], Iterable] | None = None) -> "Tokenizer":
        """Choose a vocabulary for a text, or for chunks of one that is too large for memory.

        `vocab_size` is from 256 to 65,536. The vocabulary is smaller where there is no more to
        choose: "bytes" always has 256 tokens, and a short text runs out of substrings, or of pairs
        to merge. Of equally frequent ones, "bpe" takes the pair with the smallest ids, and
        "substring" the one that comes first in the order of bytes.

        Only the distinct words are kept in memory. If even they come to over 8 million characters
        (in prose they don't, but a file may hold anything), the rare ones are dropped.

        `progress` may show how far "bpe" is: it takes the merges, which come as they are learned,
        with their number, and gives them back, as `lambda merges, n: tqdm(merges, total=n)` does.
        """
        if method == "bytes":
            for _ in text:                  # only to refuse what is no text
                pass
            return cls(method, BYTES)
        counts = count_words(words(text, WORD_RULES[method][0]))
        how_many = vocab_size - len(BYTES)
        if method == "substring":
            return cls(method, BYTES + tuple(frequent_substrings(counts, how_many)))
        merges = islice(learn_merges(counts), how_many)
        return cls._from_merges(merges if progress is None else progress(merges, how_many))

    @classmethod
    def _from_merges(cls, merges: Iterable[tuple[int, int]]) -> "Tokenizer":
        vocab, learned = list(BYTES), []
        for left, right in merges:
            vocab.append(vocab[left] + vocab[right])
            learned.append((left, right))
        return cls("bpe", vocab, learned)

    # ---- files -----------------------------------------------------------------------------------

    def to_json(self) -> str:
        """All there is to this tokenizer, as text for `from_json`. Its tokens are Latin-1 there."""
        content = {"method": self._method,
                   "vocab": [token.decode("latin-1") for token in self._vocab],
                   "merges": [list(pair) for pair in self._merges],
                   "word_rule": self._word_rule}
        header = {"format": FORMAT, "version": VERSION, "checksum": _checksum(content)}
        return json.dumps(header | content)

    @classmethod
    @takes(text=instance(str))
    def from_json(cls, text: str) -> "Tokenizer":
        """The tokenizer that `to_json` wrote. Raises ValueError that says what is wrong with it."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is not JSON ({error})") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"it is JSON, but does not say that its format is {FORMAT!r}")
        version = content.get("version")
        if version not in (1, VERSION):
            raise ValueError(f"its format has version {shown(version)}, "
                             f"and this minigpt reads the versions 1 and {VERSION}")
        try:
            parts = {name: content[name] for name in ENTRIES[version]}
            if content["checksum"] != _checksum(parts):
                raise ValueError("it is damaged: its checksum does not match its content")
            if version == 1 and parts["method"] == "bpe":
                parts["word_rule"] = "letters"          # there was no other then
            parts["vocab"] = [token.encode("latin-1") for token in parts["vocab"]]
            return cls(**parts)
        except KeyError as error:
            raise ValueError(f"it lacks the entry {error}") from None
        except (TypeError, AttributeError):
            raise ValueError("its vocab must be a list of strings, its merges a list of pairs of "
                             "ids") from None

    @takes(path=arguments.path)
    def save(self, path: str | os.PathLike) -> None:
        """Write a file for `load`. At every moment the old file or the new one is there, whole.

        Raises ValueError where a file is there that is no tokenizer, OSError that names the file
        where it can't be written.
        """
        content = self.to_json().encode()
        check_replaces(path, "file of a tokenizer", _is_a_tokenizers(path))
        write_atomically(path, content)

    @classmethod
    @takes(path=arguments.path)
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """Read a file that `save` wrote, or a `.vocab` of the reference implementation.

        A `.vocab` is (length in 1 byte, bytes)*. Its tokens keep their ids, empty and repeated ones
        too (encoding never produces them); those of the 256 bytes that it lacks are added behind
        them. Raises OSError where the file can't be read, and ValueError that names it and says
        what is wrong with it.
        """
        content = read_ordinary(path, "file of a tokenizer")
        try:
            if path.suffix.lower() == ".vocab" and not content.startswith(b'{"'):
                return cls("substring", _parse_reference(content))
            return cls.from_json(content.decode())
        except UnicodeDecodeError:
            raise ValueError(f"{path} is no file of a tokenizer: it is no text") from None
        except ValueError as error:
            raise ValueError(f"{path} is no file of a tokenizer: {error}") from None


def _is_a_tokenizers(path: Path) -> bool:
    """Whether a file is a tokenizer's, a damaged one's too, or a `.vocab`."""
    content = path.read_bytes() if path.is_file() else b""
    if path.suffix.lower() == ".vocab" and content:
        with suppress(ValueError):
            return bool(_parse_reference(content))
    return content.startswith(BEGINNING)


def _word_rule(method: str, tokens: Iterable[bytes]) -> str:
    """Only a loaded .vocab may have tokens that reach across a space: then it parts no words."""
    if method == "substring" and any(b" " in token and token != b" " for token in tokens):
        return "anything"
    return WORD_RULES[method][0]


def _lengths_by_beginning(tokens: Iterable[bytes]) -> dict[bytes, list[int]]:
    """For the first two bytes of a text, how long a token may be that fits there, longest first."""
    lengths = defaultdict(lambda: {1})
    for token in tokens:
        lengths[token[:2]].add(len(token))
    return {beginning: sorted(lengths[beginning], reverse=True) for beginning in lengths}


# ---- reading -------------------------------------------------------------------------------------


def _check_parts(method: str, vocab: tuple[bytes, ...],
                 merges: tuple[tuple[int, int], ...]) -> None:
    """Raise ValueError unless these are the parts of a tokenizer, so that nothing fails later."""
    tokens = set(vocab)
    missing = [byte for byte in BYTES if byte not in tokens]
    if missing:
        raise ValueError(f"its vocabulary lacks {len(missing)} of the 256 single bytes, "
                         f"{missing[0]} for one")
    if len(vocab) > LARGEST:
        raise ValueError(f"its vocabulary must have at most {LARGEST} tokens, not {len(vocab)}")
    if method != "substring" and (vocab[:256] != BYTES or len(tokens) < len(vocab)):
        raise ValueError("its vocabulary must begin with the 256 bytes in order, "
                         "and hold no token twice")
    n_merges = len(vocab) - 256 if method == "bpe" else 0
    if len(merges) != n_merges or (method == "bytes" and len(vocab) > 256):
        raise ValueError(f"it has {len(vocab)} tokens and {len(merges)} merges, "
                         f"which does not suit {method!r}")
    for new_id, (left, right) in enumerate(merges, start=256):
        earlier = 0 <= left < new_id and 0 <= right < new_id
        if not (earlier and vocab[left] + vocab[right] == vocab[new_id]):
            raise ValueError(f"its token {new_id} is not what the merge of the tokens {left} and "
                             f"{right} makes")


def _parse_reference(content: bytes) -> list[bytes]:
    if not content:
        raise ValueError("it is empty")
    vocab, place = [], 0
    while place < len(content):
        length = content[place]
        token = content[place + 1:place + 1 + length]
        if len(token) < length:
            raise ValueError(f"it is cut off: token {len(vocab)} has {len(token)} of its {length} "
                             "bytes")
        vocab.append(token)
        place += 1 + length
    present = set(vocab)
    return vocab + [byte for byte in BYTES if byte not in present]


def _checksum(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
