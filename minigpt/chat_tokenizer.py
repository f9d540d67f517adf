"""The tokenizer of a chat model: byte-pair merges, and special tokens that no text can make.

Three things differ from ours. Words are cut as GPT-2 cuts them, and every digit is a word of its
own. Ids are not in the order of the merges, so each merge says which token it makes. And beside the
tokens that spell text there are special ones, the marks of a conversation such as `<|im_start|>`:
`encode` never makes them, whatever is typed, so that nobody can end the assistant's turn, or begin
the system's, from inside a message. The program that lays out the conversation adds them by id.
Vocabulary and merges are read from the model's file; nothing is trained here.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from unicodedata import category

import numpy as np

from minigpt import arguments
from minigpt.arguments import takes
from minigpt.tokenizer import Tokenizer

REMEMBERED = 1 << 16            # words whose ids encoding remembers; beyond them it begins anew


class ChatTokenizer(Tokenizer):
    """A vocabulary, its merges and its special tokens, as a GGUF file lists them.

    A few bytes may have no token: in SmolLM2's vocabulary these are six control characters that
    nobody types, and fifteen bytes that begin no character in use. They are left out of what
    `encode` makes, as the library `tokenizers` does it; every other text comes back unchanged.
    """

    def __init__(self, tokens: Sequence[str], merges: Sequence[str], special: Iterable[int]):
        """`tokens` in the order of their ids, `merges`, each "left right"; `special` are ids.

        Tokens and merges are written as GPT-2 writes bytes. Raises ValueError where a merge names
        or makes a token that there is not.
        """
        special, byte_of = set(special), _bytes_by_character()
        ids = {token: i for i, token in enumerate(tokens)}
        self._method = "bpe"
        self._merges, self._word_rule = (), "GPT-2's"   # see `_made`, and `words` below
        self._vocab = tuple(
            token.encode() if i in special else bytes(map(byte_of.__getitem__, token))
            for i, token in enumerate(tokens))
        self._ids = {token: i for i, token in enumerate(self._vocab)}
        self.special = {tokens[i]: i for i in sorted(special)}
        self._byte_ids = {byte: ids[character] for character, byte in byte_of.items()
                          if character in ids}
        try:
            pairs = (merge.split(" ") for merge in merges)
            self._made = {(ids[left], ids[right]): (rank, ids[left + right])
                          for rank, (left, right) in enumerate(pairs)}
        except KeyError as error:
            raise ValueError(f"its merges use the token {error}, which its vocabulary "
                             "lacks") from None
        self._remembered: dict[str, list[int]] = {}

    def _parts(self) -> tuple:
        return self._vocab, tuple(self._made.items()), tuple(self.special.items())

    @takes(text=arguments.text)
    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens, none of them special. ValueError for a lone surrogate."""
        return list(chain.from_iterable(map(self._encode_word, words(text))))

    @takes(chunks=arguments.chunks)
    def encode_chunks(self, chunks: Iterable[str]) -> Iterator[np.ndarray]:
        """The same for a text in chunks, as one array of uint16: the text is held in memory."""
        yield np.array(self.encode("".join(chunks)), np.uint16)

    def to_json(self) -> str:
        """Refused with a ValueError: this vocabulary is kept by the file that it was read from."""
        raise ValueError("a chat model's tokenizer can't be saved: it stays in the file that it "
                         "was read from")

    def _encode_word(self, word: str) -> list[int]:
        if word not in self._remembered:
            if len(self._remembered) >= REMEMBERED:
                self._remembered = {}
            found = (self._byte_ids.get(byte) for byte in word.encode())
            self._remembered[word] = self._merge([i for i in found if i is not None])
        return self._remembered[word]

    def _merge(self, ids: list[int]) -> list[int]:
        """Of all pairs of neighbours the one learned first is merged, until none was learned.

        Of equals the leftmost comes first. A queue has every pair with its rank and its place, so
        that time grows with the length of a word, not its square.
        """
        following = list(range(1, len(ids) + 1))    # the place of the next token
        before = list(range(-1, len(ids) - 1))
        queue = [(*self._made[pair], place, *pair) for place, pair in enumerate(pairwise(ids))
                 if pair in self._made]
        heapify(queue)
        while queue:
            _, made, place, left, right = heappop(queue)
            after = following[place]
            if ids[place] != left or after == len(ids) or ids[after] != right:
                continue                            # one of the two has been merged meanwhile
            ids[place], ids[after], following[place] = made, None, following[after]
            if following[place] < len(ids):
                before[following[place]] = place
            for start in (before[place], place):
                if start >= 0 and following[start] < len(ids):
                    pair = ids[start], ids[following[start]]
                    if pair in self._made:
                        heappush(queue, (*self._made[pair], start, *pair))
        return [i for i in ids if i is not None]


def _bytes_by_character() -> dict[str, int]:
    """GPT-2's way to write bytes: printable ones as themselves, the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1),
                 *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return ({chr(byte): byte for byte in printable}
            | {chr(0x100 + i): byte for i, byte in enumerate(others)})


SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"   # as Unicode has it
WORD = re.compile(
    r"'(?:[stmd]|re|ve|ll)"             # what English contracts
    r"| ?[^\W_]+"                       # letters
    rf"| ?(?:[^\w{SPACE}]|_)+"          # anything else that is not white space
    rf"|[{SPACE}]+(?![^{SPACE}])"       # white space; the last one belongs to the word behind it
    rf"|[{SPACE}]+")


def words(text: str) -> Iterator[str]:
    """The words that a text is cut into before anything is merged; joined they are the text."""
    for piece in digits().split(text):  # what is between two digits, and each digit, in turn
        yield from WORD.findall(piece)


@cache
def digits() -> re.Pattern:
    """One digit: any character of Unicode's categories that begin with N.

    Python's `re` has no name for them. It gets them as ranges, which are fast.
    """
    codes = [code for code in range(0x110000) if category(chr(code))[0] == "N"]
    starts = [code for before, code in pairwise([-1, *codes]) if code > before + 1]
    ends = [code for code, after in pairwise([*codes, 0x110001]) if after > code + 1]
    ranges = "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends))
    return re.compile(f"([{ranges}])")
