"""What holds of every tokenizer and every string: nothing is ever lost. Over 20,000 examples in each run."""

import re
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
import regex
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from minigpt import vocabulary
from minigpt.corpus import data_folder
from minigpt.tokenizer import Tokenizer
from minigpt.vocabulary import BYTES, RULES, Rule

# All of Unicode; and, so that long tokens, several blanks and parts of characters meet, pieces of what is trained on.
ANYTHING = st.text(max_size=40)
PIECES = [" the", "the", "ing", " ", "  ", "\n", "\n\n", ".", '."', "'s", "’", "truth", "Größe", "🙂", "👩\u200d👧",
          "e\u0301", "שלום", "\0", "_", "12", "\x1c", "\u3000"]
FAMILIAR = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
TEXTS = ANYTHING | FAMILIAR | st.tuples(ANYTHING, FAMILIAR, ANYTHING).map("".join)

KINDS = [(method, size) for method in ("bpe", "substring") for size in (256, 257, 300, 1000, 4000)] + [("bytes", 256)]
NAMES = [f"{method}-{size}" for method, size in KINDS]


@pytest.fixture(scope="module", params=KINDS, ids=NAMES)
def trained(request):
    text = (data_folder() / "austen.txt").read_text(encoding="utf-8")[:60_000]
    text += " Größe 🙂🙂 👩\u200d👧 e\u0301e\u0301 שלום \0\0  \n\n" * 50
    return Tokenizer.train(text, request.param[1], request.param[0])


@settings(max_examples=1600, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 60), max_size=3))
@example("", [])
@example("\U0010ffff", [1])
def test_every_string_comes_back(trained, text, cuts):
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert trained.decode_bytes(ids) == text.encode()
    assert all(0 <= token_id < trained.vocab_size for token_id in ids)
    # and cut anywhere into chunks, it gives the same ids
    chunks = [text[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(text) + 60])]
    assert np.concatenate(list(trained.encode_chunks(chunks))).tolist() == ids


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_can_be_decoded_and_what_they_show_as_comes_back(trained, content):
    assert trained.decode_bytes(content) == content             # the bytes are ids of themselves
    text = trained.decode(content)
    assert text == content.decode(errors="replace")
    assert trained.decode(trained.encode(text)) == text


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_ids_can_be_decoded(trained, data):
    ids = data.draw(st.lists(st.integers(0, trained.vocab_size - 1), max_size=20))
    assert trained.decode_bytes(ids) == b"".join(trained.vocab[token_id] for token_id in ids)


@settings(max_examples=500, deadline=None)
@given(TEXTS)
@pytest.mark.parametrize("rule", RULES)
def test_the_words_put_together_are_the_text(rule, text):
    words = RULES[rule].pattern.findall(text)
    assert "".join(words) == text and "" not in words


MARKS = regex.compile(r"[\p{M}\p{Emoji_Modifier}\u200c\u200d\x1c-\x1f]")


@settings(max_examples=3000, deadline=None)
@given(TEXTS | st.text(st.characters(codec="utf-8", exclude_categories=["Cn"])) | st.text(st.sampled_from("aB9½'_ \n🙂漢")))
def test_without_marks_the_words_are_those_of_the_earlier_rule(text):
    text = MARKS.sub("", text)          # and without the four characters that the earlier rule takes for spaces
    assume(all(unicodedata.category(character) != "Cn" for character in text))      # not known to both versions of Unicode
    assert RULES["letters and marks"].pattern.findall(text) == RULES["letters"].pattern.findall(text)


@settings(max_examples=1000, deadline=None)
@given(st.text(st.sampled_from("aaक9.' \n\u0301\u0301\u200d\u200c\ufe0fि्👩👩🏽"), max_size=200))
def test_a_mark_begins_a_word_only_where_there_is_nothing_to_mark_or_32_characters_are_full(text):
    words = RULES["letters and marks"].pattern.findall(text)
    for left, right in pairwise(words):
        if regex.match(r"[\p{M}\p{Emoji_Modifier}\u200c\u200d]", right):
            assert left[-1].isspace() or regex.search(r"[\p{M}\p{Emoji_Modifier}\u200c\u200d]{31}$|(\u200d.){15}", left)


@settings(max_examples=1000, deadline=None)
@given(text=st.text(st.sampled_from("aB9.'_ \n\té🙂") | st.sampled_from("\u0301\u200d\u200c\ufe0fहि्👩🏽"), max_size=400),
       block=st.integers(1, 90),
       step=st.integers(1, 50))
@pytest.mark.parametrize("rule", ["letters and marks", "letters", "spaces"])
def test_the_words_of_a_text_in_chunks_are_those_of_the_whole(rule, text, block, step):
    with pytest.MonkeyPatch.context() as small:
        small.setattr(vocabulary, "BLOCK", block)
        small.setitem(RULES, "spaces", Rule(re.compile("[^ ]{1,9}| "), 10))
        chunks = [text[start:start + step] for start in range(0, len(text), step)]
        assert [word for words in vocabulary.words(chunks, rule) for word in words] == RULES[rule].pattern.findall(text)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(256, 400), st.sampled_from(["bpe", "substring", "bytes"]), TEXTS)
def test_whatever_it_was_trained_on_every_string_comes_back_from_what_was_saved(text, size, method, other):
    trained = Tokenizer.train(text, size, method)
    assert 256 <= trained.vocab_size <= size and len(set(trained.vocab)) == trained.vocab_size
    loaded = Tokenizer.from_json(trained.to_json())
    assert loaded == trained
    assert loaded.decode(loaded.encode(other)) == other
    assert loaded.encode(other) == trained.encode(other)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=5), min_size=1, max_size=8), TEXTS)
def test_with_any_reference_vocabulary_every_string_comes_back(tmp_path_factory, tokens, text):
    path = tmp_path_factory.getbasetemp() / "any.vocab"
    path.write_bytes(b"".join(bytes([len(token)]) + token for token in tokens))
    loaded = Tokenizer.load(path)
    assert loaded.vocab[:len(tokens)] == tuple(tokens)
    assert loaded.decode(loaded.encode(text)) == text


@settings(max_examples=300, deadline=None)
@given(ANYTHING, st.integers(0xD800, 0xDFFF), ANYTHING)
def test_a_lone_surrogate_is_always_refused(before, surrogate, after):
    with pytest.raises(ValueError, match=f"character {len(before)} is U\\+{surrogate:04X}"):
        Tokenizer("bytes", BYTES).encode(before + chr(surrogate) + after)
