"""How fast the tokenizer is: against the `tokenizers` library and a plain count of substrings, on the Austen text and on
one without spaces.

Ours and the peer take turns, and each figure is a median, so that what else the machine does hits both alike. Where a
text is compared with its quarter, it is the time of the processor, which other programs change little.
"""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import tokenizers

from benchmarks.measure import medians, row, seconds
from minigpt.corpus import read_text
from minigpt.tokenizer import Tokenizer
from minigpt.vocabulary import RULES

VOCAB_SIZE = 2048
REPEATS = 5
LINEAR = 7      # times a quarter's time, at most: 4 and what memory costs that no longer fits the caches; not 16


def rows() -> list[dict]:
    """All measurements: dicts of `what`, `ours`, `peer`, `ratio` (ours / peer) and `target`, the largest good ratio."""
    text = read_text("austen")
    growth = memory(text)                   # first, while this process is still small
    return [*against_the_library(text), *against_the_library(without_spaces(2_000_000), "2 MB without spaces", 3.0),
            against_plain_counting(text), *linear(text), growth]


# ---- against others --------------------------------------------------------------------------------------------------


def library_tokenizer() -> tokenizers.Tokenizer:
    """An untrained one of the library's that splits text just as ours does."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(RULES["letters and marks"].pattern.pattern), "isolated"),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return library


def train_library(text: str) -> tokenizers.Tokenizer:
    library = library_tokenizer()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=VOCAB_SIZE, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator([text], trainer)
    return library


def without_spaces(n_bytes: int) -> str:
    """A text like Chinese, of about so many bytes: words of 1 to 4 of 4,000 characters, some much more frequent than
    others, and now and then a comma or a full stop. Nearly all its stretches of 32 characters are different.
    """
    generator = random.Random(0)
    characters, frequent = [chr(0x4E00 + i) for i in range(4000)], [1 / (i + 5) for i in range(4000)]
    words = ["".join(generator.choices(characters, frequent, k=generator.choice((1, 2, 2, 2, 3, 4)))) for _ in range(30_000)]
    ends = generator.choices(("", "，", "。"), (20, 2, 1), k=n_bytes // 7)
    chosen = generator.choices(words, [1 / (i + 3) for i in range(30_000)], k=n_bytes // 7)
    return "".join(word + end for word, end in zip(chosen, ends, strict=True))


def against_the_library(text: str, what: str = "2 MB", encoding_target: float = 1.0) -> list[dict]:
    training = medians((seconds(Tokenizer.train, text, VOCAB_SIZE), seconds(train_library, text))
                       for _ in range(REPEATS))
    ours, library = Tokenizer.train(text, VOCAB_SIZE).to_json(), train_library(text).to_str()
    # a new tokenizer each time, which remembers no word yet
    encoding = medians((seconds(Tokenizer.from_json(ours).encode, text),
                        seconds(tokenizers.Tokenizer.from_str(library).encode, text)) for _ in range(REPEATS))
    return [row(f"encode {what} with 2,048 byte-pair tokens, against the tokenizers library (s)", *encoding,
                encoding_target),
            row(f"train 2,048 byte-pair tokens on {what}, against the tokenizers library (s)", *training, 3.0)]


def plain_substrings(text: str) -> list[bytes]:
    """The reference's way: every substring of every distinct word into one table."""
    counts = Counter()
    for word, count in Counter(text.split(" ")).items():
        word = word.encode()
        for start in range(len(word)):
            for stop in range(start + 2, min(start + 16, len(word)) + 1):
                counts[word[start:stop]] += count
    return sorted(counts, key=lambda substring: (-counts[substring], substring))[:VOCAB_SIZE - 256]


def against_plain_counting(text: str) -> dict:
    assert Tokenizer.train(text, VOCAB_SIZE, "substring").vocab[256:] == tuple(plain_substrings(text))
    times = medians((seconds(Tokenizer.train, text, VOCAB_SIZE, "substring"), seconds(plain_substrings, text))
                    for _ in range(3))
    return row("choose 2,048 substrings on 2 MB, against a plain table of all of them (s)", *times, 0.5)


# ---- against itself --------------------------------------------------------------------------------------------------


def linear(text: str) -> Iterator[dict]:
    """Four times the text should take four times as long, also without a space in it and with no word twice."""
    letters = "".join(random.Random(0).choices("etaoinshrdlu", k=1 << 19))
    texts = {"prose": text, "letters without a space": letters, "one letter": "a" * (1 << 19)}
    for method in "bpe", "substring", "bytes":
        trained = Tokenizer.train(text, VOCAB_SIZE, method)
        for name, whole in texts.items():
            times = with_quarter(encode_anew, trained, whole)
            yield row(f"encode {name}, {method}, against a quarter of it (s)", *times, LINEAR)
        times = with_quarter(decode, trained, trained.encode(text))
        yield row(f"decode prose, {method}, against a quarter of it (s)", *times, LINEAR)


def with_quarter(function: Callable, trained: Tokenizer, whole: str | list[int]) -> tuple[float, float]:
    quarter = whole[:len(whole) // 4]
    return medians((seconds(function, trained, whole, clock=time.process_time),
                    seconds(function, trained, quarter, clock=time.process_time)) for _ in range(3))


def encode_anew(trained: Tokenizer, text: str) -> None:
    Tokenizer(trained.method, trained.vocab, trained.merges, trained.word_rule).encode(text)


def decode(trained: Tokenizer, ids: list[int]) -> None:
    for _ in range(5):
        trained.decode(ids)


def endless_text(text: str) -> Iterator[str]:
    """The words of a text in random order, with numbers that never came before, a chunk of about 1 MB at a time."""
    generator, words = random.Random(0), text.split(" ")
    while True:
        yield " ".join(generator.choices(words, k=180_000)) + "".join(f" {generator.random()}" for _ in range(1000))


def memory(text: str, megabytes: int = 50) -> dict:
    """The most memory of this process while a long text is encoded to 16-bit ids on disk, against its first 10 MB."""
    process, written, early, late = psutil.Process(), 0, 0, 0
    trained = Tokenizer.train(text, VOCAB_SIZE)

    def chunks():
        nonlocal written
        for chunk in endless_text(text):
            if written > megabytes * 1e6:
                return
            written += len(chunk.encode())
            yield chunk

    with tempfile.TemporaryFile() as file:
        for ids in trained.encode_chunks(chunks()):
            file.write(ids.tobytes())
            used = process.memory_info().rss / 1e6
            early, late = (max(early, used), late) if written <= 10e6 else (early, max(late, used))
    return row(f"memory while {megabytes} MB are encoded, against the first 10 MB (MB)", late, early, 1.1)

