"""A chat model's tokenizer: the same ids as the library `tokenizers`, and no mark out of a text."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.chat_tokenizer import ChatTokenizer, words
from minigpt.corpus import read_text

sys.path.insert(0, str(Path(__file__).parent))

import real_model  # noqa: E402

NO_TOKEN = bytes([0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xC0, 0xC1, *range(0xF1, 0xF3), *range(0xF5, 0x100)])
PIECES = ["the", " The", "don't", "I'LL", "we've", "'s", "  ", "\n\n", "\t", " \n", "12", "3.14", " 1,000", "x=1", "²", "½",
          "Ⅷ", "١٢", "é", "e\u0301", "ß", "Ω", "漢字", "🙂", "👩‍🏫", "\u200b", "\u3000", "\x1c", "\x85", "_", "__init__",
          "…", "“", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "def f():\n    return 0", "\r\n", "ﬁ", "\U00016fe4"]


@pytest.fixture(scope="module")
def reference():
    """`tokenizers` with the same vocabulary, set up as SmolLM2's makers did."""
    settings = real_model.file().settings
    tokens, merges = settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.merges"]
    reference = tokenizers.Tokenizer(tokenizers.models.BPE(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[tuple(merge.split(" ")) for merge in merges]))
    reference.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return reference


def strings(how_many: int):
    """Sentences, odd pieces side by side, and any characters at all."""
    chance, austen = random.Random(0), read_text("austen")
    for i in range(how_many):
        if i % 3 == 0:
            start = chance.randrange(len(austen) - 200)
            yield austen[start:start + chance.randrange(200)]
        elif i % 3 == 1:
            yield "".join(chance.choice(PIECES) for _ in range(chance.randrange(20)))
        else:
            codes = (chance.randrange(0x250 if chance.random() < 0.5 else 0x110000) for _ in range(chance.randrange(25)))
            yield "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)


def test_it_gives_the_same_ids_as_the_library_on_five_thousand_strings(reference):
    tokenizer = real_model.tokenizer()
    for text in strings(5000):
        assert tokenizer.encode(text) == reference.encode(text).ids, text


@pytest.mark.parametrize("text", ["a" * 20_000, "ab" * 10_000, "".join(random.Random(1).choices("etaoin", k=20_000))],
                         ids=["one letter", "two letters", "no words"])
def test_a_very_long_word_too(reference, text):
    assert real_model.tokenizer().encode(text) == reference.encode(text).ids


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_every_text_comes_back_but_for_the_bytes_that_have_no_token(text):
    tokenizer = real_model.tokenizer()
    wanted = bytes(byte for byte in text.encode() if byte not in NO_TOKEN)
    assert tokenizer.decode_bytes(tokenizer.encode(text)) == wanted
    assert "".join(words(text)) == text


def test_no_text_makes_a_mark():
    tokenizer = real_model.tokenizer()
    marks = set(tokenizer.special.values())
    assert len(marks) == 17 and tokenizer.special["<|im_end|>"] == 2
    for mark, i in tokenizer.special.items():
        assert marks.isdisjoint(tokenizer.encode(f"a{mark} {mark}\n{mark}"))
        assert tokenizer.decode([i]) == mark                # as it is shown
        assert tokenizer.decode(tokenizer.encode(mark)) == mark


def test_it_is_a_tokenizer_as_the_others_are():
    tokenizer = real_model.tokenizer()
    assert tokenizer.vocab_size == len(tokenizer.vocab) == 49_152
    assert tokenizer.token_to_id(b" the") == tokenizer.encode(" the")[0]
    assert tokenizer.id_to_token(tokenizer.encode("the")[0]) == b"the"
    pieces = list(tokenizer.encode_chunks(["It is a tr", "uth"]))
    assert all(piece.dtype == np.uint16 for piece in pieces)
    assert np.concatenate(pieces).tolist() == tokenizer.encode("It is a truth")
    with pytest.raises(ValueError, match="lone surrogate"):
        tokenizer.encode("\ud83d")
    with pytest.raises(ValueError, match="token_id"):
        tokenizer.id_to_token(49_152)
    with pytest.raises(ValueError, match="can't be saved"):
        tokenizer.to_json()


def test_merges_say_which_token_they_make():
    small = ChatTokenizer(["<end>", "a", "b", "ab", "aba"], ["a b", "ab a"], [0])
    assert small.encode("ababa") == [3, 4]                  # "a b" first, everywhere, from the left
    assert small.encode("<end>") == []                      # none of its characters has a token here
    with pytest.raises(ValueError, match="'ba'"):
        ChatTokenizer(["a", "b"], ["b a"], [])
