"""The tokenizer: by hand on tiny texts, against slow and evident versions of it, against the `tokenizers` library on
the shipped text, and on broken files. How a vocabulary is chosen is in test_vocabulary.py, and what holds for every
string in test_tokenizer_properties.py."""

import copy
import json
import pickle
import random
import re
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import safetensors
import tokenizers
import torch

from minigpt import tokenizer, vocabulary
from minigpt.corpus import data_folder
from minigpt.tokenizer import METHODS, Tokenizer
from minigpt.vocabulary import BYTES, RULES, Rule


@pytest.fixture(scope="module")
def austen():
    return (data_folder() / "austen.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def excerpt(austen):
    return austen[:100_000]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks, words and what is remembered much smaller than they are, so that texts need not be large."""
    monkeypatch.setattr(vocabulary, "BLOCK", 1000)
    monkeypatch.setattr(tokenizer, "REMEMBERED", 5000)
    for rule, pattern in {"spaces": "[^ ]{1,100}| ", "anything": "(?s:.{1,100})"}.items():
        monkeypatch.setitem(RULES, rule, Rule(re.compile(pattern), 101))


@pytest.fixture(scope="module", params=METHODS)
def trained(request, excerpt):
    return Tokenizer.train(excerpt, 600, request.param)


# ---- the slow and evident versions -----------------------------------------------------------------------------------


def slow_merge(ids, pair, new_id):
    place = 0
    while place + 1 < len(ids):
        if (ids[place], ids[place + 1]) == pair:
            ids = ids[:place] + [new_id] + ids[place + 2:]
        place += 1
    return ids


def slow_encode_bpe(text, merges, rule="letters and marks"):
    ids = []
    for word in RULES[rule].pattern.findall(text):
        word = list(word.encode())
        for number, pair in enumerate(merges):
            word = slow_merge(word, pair, 256 + number)
        ids += word
    return ids


def slow_longest_match(text, vocab):
    ids = []
    for word in text.replace(" ", "\0 \0").split("\0"):
        rest = word.encode()
        while rest:
            token = max((token for token in vocab if rest.startswith(token)), key=len)
            ids.append(vocab.index(token))
            rest = rest[len(token):]
    return ids


def test_bpe_encodes_as_merging_step_by_step_does(austen):
    trained = Tokenizer.train(austen[:100_000], 600)
    text = austen[100_000:110_000] + " aaaaaaa Größe 🙂🙂"
    assert trained.encode(text) == slow_encode_bpe(text, trained.merges)


def test_substring_encodes_by_the_longest_match(austen):
    trained = Tokenizer.train(austen[:100_000], 600, "substring")
    text = austen[100_000:104_000] + "  Größe  🙂🙂 "
    assert trained.encode(text) == slow_longest_match(text, trained.vocab)


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_bytes_are_their_own_ids():
    trained = Tokenizer.train("whatever", 1024, "bytes")
    assert trained.vocab_size == 256
    assert trained.encode("aé") == [97, 195, 169]


def test_bpe_by_hand():
    trained = Tokenizer.train("ab abc abcd", 259)
    # " a" is in two words, "ab" in three; then "abc" and " ab" are in two each, and (32, 256) comes before (256, 99)
    assert trained.merges == ((97, 98), (32, 256), (257, 99))
    assert trained.vocab[256:] == (b"ab", b" ab", b" abc")
    assert trained.encode("ab abc  abcab") == [256, 258, 32, 258, 256]


def test_substring_by_hand():
    trained = Tokenizer.train("ab abc abcd", 259, "substring")
    assert trained.vocab[256:] == (b"ab", b"abc", b"bc")
    assert trained.encode("abcd  bcab") == [257, 100, 32, 32, 258, 256]


def test_the_vocabulary_is_smaller_where_the_text_has_no_more_to_choose():
    assert Tokenizer.train("ab", 300).vocab[256:] == (b"ab",)
    assert Tokenizer.train("abc", 300, "substring").vocab[256:] == (b"ab", b"abc", b"bc")
    for method in METHODS:
        assert Tokenizer.train("", 65_536, method).vocab == BYTES


def test_the_largest_vocabulary_fits_into_16_bits():
    largest = Tokenizer("substring", (*BYTES, *(f"{number:05}".encode() for number in range(65_280))))
    assert largest.vocab_size == 65_536
    assert np.concatenate(list(largest.encode_chunks(["65279a"]))).tolist() == [65_535, 97]
    assert largest.decode(np.array([65_535], np.uint16)) == "65279"


def test_progress_is_given_the_merges_while_they_are_learned(excerpt):
    seen = []

    def watched(merges, how_many):
        for merge in merges:
            seen.append((merge, how_many))
            yield merge

    trained = Tokenizer.train(excerpt, 300, progress=watched)
    assert trained == Tokenizer.train(excerpt, 300)
    assert seen == [(merge, 44) for merge in trained.merges]


def test_training_on_chunks_equals_training_on_the_whole(excerpt):
    chunks = [excerpt[start:start + 777] for start in range(0, len(excerpt), 777)]
    for method in METHODS:
        assert Tokenizer.train(iter(chunks), 600, method) == Tokenizer.train(excerpt, 600, method)


# ---- the library that everybody uses ---------------------------------------------------------------------------------


def library_tokenizer(text, vocab_size):
    """The same tokenizer made by the `tokenizers` library, which writes bytes as visible characters.

    The library breaks ties as we do, by the smaller pair of ids. Its bytes would be numbered in the order of those
    characters; given as special tokens, in our order, they have our ids, and nothing remains that differs.
    """
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    alphabet = [chr(byte) if byte in visible else chr(256 + hidden.index(byte)) for byte in range(256)]
    splitting = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(RULES["letters and marks"].pattern.pattern), "isolated"),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=alphabet, show_progress=False)
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = splitting
    theirs.train_from_iterator([text], trainer)
    model = json.loads(theirs.to_str())["model"]
    vocab, merges = model["vocab"], [tuple(merge) for merge in model["merges"]]
    encoder = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))    # one without special tokens
    encoder.pre_tokenizer = splitting
    tokens = sorted(vocab, key=vocab.get)
    return (encoder, tuple(bytes(map(alphabet.index, token)) for token in tokens),
            tuple((vocab[left], vocab[right]) for left, right in merges))


def test_bpe_equals_the_tokenizers_library_on_the_shipped_text(austen):
    ours = Tokenizer.train(austen, 2048)
    encoder, vocab, merges = library_tokenizer(austen, 2048)
    assert ours.merges == merges
    assert ours.vocab == vocab
    assert ours.encode(austen) == encoder.encode(austen).ids


def test_bpe_equals_the_tokenizers_library_on_shakespeare_with_the_vocabulary_of_austen(austen):
    shakespeare = (data_folder() / "shakespeare.txt").read_text(encoding="utf-8")[:300_000]
    encoder, _, _ = library_tokenizer(austen[:500_000], 1024)
    assert Tokenizer.train(austen[:500_000], 1024).encode(shakespeare) == encoder.encode(shakespeare).ids


# ---- the vocabulary, and equality ------------------------------------------------------------------------------------


def test_ids_and_tokens_lead_to_each_other(trained):
    assert trained.vocab_size == len(trained.vocab)
    assert trained.vocab[:256] == BYTES
    for token_id, token in enumerate(trained.vocab):
        assert trained.id_to_token(token_id) == token
        assert trained.token_to_id(token) == token_id


def test_what_is_not_in_the_vocabulary_is_named(trained):
    with pytest.raises(ValueError, match=f"token_id must be at least 0 and at most {trained.vocab_size - 1}, not -1"):
        trained.id_to_token(-1)
    with pytest.raises(ValueError, match=f"not {trained.vocab_size}"):
        trained.id_to_token(trained.vocab_size)
    with pytest.raises(ValueError, match="token must be in the vocabulary, not b'never seen'"):
        trained.token_to_id(b"never seen")
    with pytest.raises(ValueError, match="b''"):
        trained.token_to_id(b"")
    with pytest.raises(TypeError, match="token must be bytes, as b'the', not 'the'"):
        trained.token_to_id("the")


def test_equal_parts_make_equal_tokenizers(excerpt):
    one, same = Tokenizer.train(excerpt, 300), Tokenizer.train(excerpt, 300)
    assert one == same and hash(one) == hash(same)
    assert one != Tokenizer.train(excerpt, 301)
    assert one != Tokenizer("substring", one.vocab)
    assert one != "a tokenizer"
    vocab = (*BYTES, b"ab", b"bc", b"abc")
    merges = [(97, 98), (98, 99)]
    assert Tokenizer("bpe", vocab, [*merges, (97, 257)]) != Tokenizer("bpe", vocab, [*merges, (256, 99)])


def test_a_tokenizer_says_what_it_is(trained):
    assert repr(trained) == f"Tokenizer(method='{trained.method}', vocab_size={trained.vocab_size})"


def test_copies_are_equal_and_encode_alike(trained):
    trained.encode("something to remember")
    for other in copy.deepcopy(trained), pickle.loads(pickle.dumps(trained)):
        assert other == trained and other.encode("some text") == trained.encode("some text")


# ---- decoding --------------------------------------------------------------------------------------------------------


def test_ids_may_be_any_whole_numbers(trained):
    ids = trained.encode("Größe 🙂")
    for same in (tuple(ids), iter(ids), np.array(ids, np.uint16), torch.tensor(ids), list(torch.tensor(ids)),
                 list(np.array(ids))):
        assert trained.decode(same) == "Größe 🙂"


def test_broken_utf8_is_shown_as_the_replacement_character_and_kept_in_the_bytes(trained):
    assert trained.decode([0xF0, 0x9F, 65]) == "\ufffdA"
    assert trained.decode_bytes([0xF0, 0x9F, 65]) == b"\xf0\x9fA"


def test_a_megabyte_of_random_bytes_survives_decoding_and_encoding(trained):
    noise = random.Random(0).randbytes(1_000_000)
    assert trained.decode_bytes(noise) == noise                 # the bytes are ids of themselves
    text = trained.decode(noise)
    assert text == noise.decode(errors="replace")
    assert trained.decode(trained.encode(text)) == text


def test_an_id_outside_the_vocabulary_is_named(trained):
    for wrong in -1, trained.vocab_size, 65_536, 10**30:
        with pytest.raises(ValueError, match=f"ids must be at least 0 and at most {trained.vocab_size - 1}, not {wrong}"):
            trained.decode([65, wrong, 66])


@pytest.mark.parametrize("wrong", [None, 65, 1.5, [1.5], ["a"], "abc", [[65]], torch.tensor(65), [None]])
def test_ids_that_are_no_whole_numbers_are_refused(trained, wrong):
    with pytest.raises(TypeError, match="ids must be whole numbers"):
        trained.decode(wrong)


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocab_size, error", [
    (0, ValueError), (-1, ValueError), (65_537, ValueError), (300.0, TypeError), ("300", TypeError), (None, TypeError),
    (True, TypeError), (float("nan"), TypeError), (float("inf"), TypeError)])
def test_a_wrong_vocabulary_size_is_refused(vocab_size, error):
    with pytest.raises(error, match="vocab_size must be"):
        Tokenizer.train("text", vocab_size)


@pytest.mark.parametrize("method", ["", "BPE", "words", None, 3, ["bpe"]])
def test_an_unknown_method_is_refused(method):
    with pytest.raises(ValueError, match="method must be one of 'bpe', 'substring', 'bytes'"):
        Tokenizer.train("text", 300, method)


@pytest.mark.parametrize("wrong", [None, 5, b"bytes", ["a", b"b"], [None]])
@pytest.mark.parametrize("method", METHODS)
def test_a_text_that_is_no_string_is_refused(wrong, method):
    with pytest.raises(TypeError, match="text must be"):
        Tokenizer.train(wrong, 300, method)


@pytest.mark.parametrize("wrong", [None, 5, b"bytes", ["a"]])
def test_only_a_string_can_be_encoded(trained, wrong):
    with pytest.raises(TypeError, match="text must be a str"):
        trained.encode(wrong)


def test_chunks_are_an_iterable_of_strings(trained):
    for wrong in None, 5:
        with pytest.raises(TypeError, match="chunks must be a str or an iterable of them"):
            trained.encode_chunks(wrong)
    with pytest.raises(TypeError, match="chunks must be a str, not b'bytes'"):
        list(trained.encode_chunks([b"bytes"]))


def test_a_lone_surrogate_is_refused_with_its_place(trained):
    with pytest.raises(ValueError, match="character 3 is U\\+D83D, a lone surrogate"):
        trained.encode("abc\ud83d")
    with pytest.raises(ValueError, match="lone surrogate"):
        list(trained.encode_chunks(["abc", "\ude42"]))
    with pytest.raises(ValueError, match="lone surrogate"):
        Tokenizer.train("\ud83d" * 2)


# ---- any text, in chunks or at once, in time and memory that don't run away ------------------------------------------


EXTREMES = {
    "empty": "",
    "one character": "x",
    "two characters": "é🙂",
    "NUL": "\0" * 100 + "a\0b",
    "only spaces": " " * 5000,
    "only newlines": "\n" * 5000,
    "all that is white": " \t\n\r\x0b\x0c\x1c\x85\u2028\u3000" * 300,
    "only emoji": "🙂👍\U0001f3fd👩\u200d👩\u200d👧" * 300,
    "combining marks": "e\u0301\u0323" * 700 + "\u0301" * 700,
    "right to left": "שלום עולם مرحبا \u202eabc\u202c " * 99,
    "private and unassigned": "\ue000\U0010ffff\ufffe\u0378" * 50,
    "one word": "abc" * 50_000,
    "no space": "a,b" * 50_000,
    "digits": "1234567890" * 300,
    "apostrophes": "'" * 999 + "a'b'c'd'" * 99,
}


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("method", METHODS)
def test_extreme_texts_round_trip_and_can_be_trained_on(name, method, excerpt):
    text = EXTREMES[name]
    for trained in Tokenizer.train(text, 400, method), Tokenizer.train(excerpt, 400, method):
        ids = trained.encode(text)
        assert trained.decode(ids) == text
        chunks = [text[start:start + 1009] for start in range(0, len(text), 1009)]
        assert np.concatenate(list(trained.encode_chunks(chunks))).tolist() == ids
        assert set(ids) <= set(range(trained.vocab_size))


def test_ten_megabytes_without_a_space(trained):
    piece = "".join(random.Random(0).choices(["lorem", "ipsum", "dolor", "sit", ",\n"], k=2000))[:4096]
    text = piece * (10_000_000 // len(piece))
    ids = trained.encode(text)
    assert len(ids) <= len(text) and trained.decode(ids) == text


@pytest.mark.parametrize("alphabet", ["a", "etaoinshr", " \n", "🙂👍é"])
def test_time_is_proportional_to_the_text(trained, alphabet):
    text = "".join(random.Random(0).choices(alphabet, k=48_000))

    def seconds(text):
        start = time.process_time()
        trained._remembered = {}
        trained.decode(trained.encode(text))
        return time.process_time() - start

    # four times the text: four times the time; were it quadratic, sixteen times, and in each of five tries
    assert any(seconds(text) < 9 * seconds(text[:12_000]) + 0.02 for _ in range(5))


def test_each_distinct_word_is_encoded_once(excerpt, monkeypatch):
    trained = Tokenizer.train(excerpt, 600)
    worked_on = []
    encode_word = trained._encode_word
    monkeypatch.setattr(trained, "_encode_word", lambda word: worked_on.append(word) or encode_word(word))
    trained.encode(excerpt * 3)
    trained.encode(excerpt)
    assert len(worked_on) == len(set(worked_on)) == len(set(RULES["letters and marks"].pattern.findall(excerpt * 3)))


def test_what_encoding_remembers_is_bounded(trained, small_blocks):
    text = "".join(random.Random(0).choices("abcdefghijklmnop ", k=50_000))
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert 1000 < sum(map(len, trained._remembered)) <= 5000 + 1000 + RULES[trained.word_rule].look_ahead
    assert trained.encode(text) == ids


def test_threads_may_share_a_tokenizer(trained, austen, small_blocks, monkeypatch):
    monkeypatch.setattr(tokenizer, "REMEMBERED", 0)         # everything is forgotten all the time
    texts = [austen[start:start + 10_000] for start in range(0, 80_000, 10_000)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(trained.encode, texts)) == [trained.encode(text) for text in texts]


def test_memory_does_not_grow_with_the_number_of_chunks(trained, small_blocks):
    def peak(chunks):
        generator = random.Random(0)
        stream = ("".join(generator.choices("etaoinshrdlu,. ", k=2000)) for _ in range(chunks))
        tracemalloc.start()
        total = sum(map(len, trained.encode_chunks(stream)))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest, total

    few, many = peak(10), peak(40)
    assert many[1] > 3 * few[1]
    assert many[0] < 1.5 * few[0]


def test_encode_chunks_gives_16_bit_ids_while_the_chunks_still_come(trained, monkeypatch):
    monkeypatch.setattr(vocabulary, "BLOCK", 1 << 17)
    taken = []
    chunks = (taken.append(number) or "some words " * 20_000 for number in range(10))
    first = next(trained.encode_chunks(chunks))
    assert first.dtype == np.uint16 and taken == [0]


def test_no_chunks_are_an_empty_text(trained):
    assert np.concatenate(list(trained.encode_chunks([]))).tolist() == []
    assert trained.encode("") == [] and trained.decode([]) == "" and trained.decode_bytes([]) == b""


# ---- files -----------------------------------------------------------------------------------------------------------


def test_save_and_load_give_the_same_back(trained, tmp_path):
    path = tmp_path / "Größe 🙂.json"
    trained.save(path)
    loaded = Tokenizer.load(str(path))
    assert loaded == trained and loaded.merges == trained.merges
    assert loaded.encode("Größe 🙂 truth") == trained.encode("Größe 🙂 truth")
    assert Tokenizer.from_json(trained.to_json()) == trained


def test_the_file_describes_itself(excerpt):
    trained = Tokenizer.train(excerpt, 300)
    content = json.loads(trained.to_json())
    assert list(content) == ["format", "version", "checksum", "method", "vocab", "merges", "word_rule"]
    assert (content["format"], content["version"], content["method"]) == ("minigpt tokenizer", 2, "bpe")
    assert content["word_rule"] == trained.word_rule == "letters and marks"
    assert [token.encode("latin-1") for token in content["vocab"]] == list(trained.vocab)
    assert content["merges"] == [list(pair) for pair in trained.merges]
    assert trained.to_json().isascii()                      # so that no default encoding can spoil it


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(trained, tmp_path, monkeypatch):
    path = tmp_path / "words.json"
    Tokenizer("bytes", BYTES).save(path)
    for step in "fsync", "replace":
        with monkeypatch.context() as broken:
            broken.setattr(f"os.{step}", full_disk)
            with pytest.raises(OSError, match="words.json"):
                trained.save(path)
        assert Tokenizer.load(path) == Tokenizer("bytes", BYTES)
        assert list(tmp_path.iterdir()) == [path]


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_a_truncated_file_is_refused(trained, tmp_path):
    trained.save(tmp_path / "whole.json")
    content = (tmp_path / "whole.json").read_bytes()
    for path in tmp_path / "cut.json", tmp_path / "cut.vocab":
        for length in [0, 1, 2, 3, *range(4, len(content), len(content) // 40), len(content) - 1]:
            path.write_bytes(content[:length])
            with pytest.raises(ValueError, match=f"{path.name} is no file of a tokenizer: it is"):
                Tokenizer.load(path)


def test_a_flipped_byte_is_noticed(trained, tmp_path):
    path = tmp_path / "flipped.json"
    content = trained.to_json().encode()
    generator = random.Random(0)
    for _ in range(400):
        place, flip = generator.randrange(len(content)), generator.randrange(1, 256)
        path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1:])
        try:
            assert Tokenizer.load(path) == trained          # white space for white space
        except ValueError as error:
            assert "flipped.json is no file of a tokenizer" in str(error)


GOOD = {"method": "bpe", "vocab": [*map(chr, range(256)), "ab", "abc"], "merges": [[97, 98], [256, 99]]}


def write(parts, version=1, **other):
    header = {"format": "minigpt tokenizer", "version": version, "checksum": tokenizer._checksum(parts)}
    return json.dumps(header | parts | other)


MARKED = "हिन्दी cafe\u0301 don't 👍🏽, "


def test_a_vocabulary_keeps_the_rule_that_it_was_chosen_by(tmp_path):
    """A file of version 1 does not say it: then words were cut by letters alone."""
    vocab, merges = (trained := Tokenizer.train(MARKED * 20, 400)).vocab, trained.merges
    parts = {"method": "bpe", "vocab": [token.decode("latin-1") for token in vocab], "merges": merges}
    (tmp_path / "old.json").write_text(write(parts))
    old = Tokenizer.load(tmp_path / "old.json")
    assert old.word_rule == "letters" and old == Tokenizer("bpe", vocab, merges, "letters") != trained
    words = RULES["letters"].pattern.findall(MARKED)
    assert old.encode(MARKED) == [i for word in words for i in trained.encode(word)] != trained.encode(MARKED)
    assert old.decode(old.encode(MARKED)) == MARKED
    again = Tokenizer.from_json(old.to_json())
    assert again == old and again.word_rule == "letters" and again.encode(MARKED) == old.encode(MARKED)
    assert Tokenizer.from_json(trained.to_json()).encode(MARKED) == trained.encode(MARKED)


def test_the_model_that_ships_keeps_its_rule_and_its_ids():
    with safetensors.safe_open(data_folder() / "pretrained.safetensors", "np") as file:
        shipped = Tokenizer.from_json(file.metadata()["tokenizer"])
    assert shipped.word_rule == "letters"
    assert shipped.encode(MARKED) == slow_encode_bpe(MARKED, shipped.merges, "letters")


def test_the_good_parts_that_are_spoiled_below_are_good():
    assert Tokenizer.from_json(write(GOOD)).encode("abcab") == [257, 256]


@pytest.mark.parametrize("text, complaint", [
    ("", "it is not JSON"),
    ("{", "it is not JSON"),
    ("[" * 100_000, "it is not JSON"),
    ("[]", "it is JSON, but does not say that its format is 'minigpt tokenizer'"),
    ("null", "does not say that its format"),
    ("{}", "does not say that its format"),
    (write(GOOD, format="another"), "does not say that its format"),
    (write(GOOD, version=3), "its format has version 3, and this minigpt reads the versions 1 and 2"),
    (write(GOOD, version=None), "version None"),
    (write(GOOD, version=2), "it lacks the entry 'word_rule'"),
    (write(GOOD | {"word_rule": "syllables"}, version=2), "word_rule must be one of 'letters and marks', 'letters', not "),
    (write(GOOD | {"word_rule": "anything"}, version=2), "word_rule must be one of 'letters and marks', 'letters', not "),
    (write(GOOD | {"word_rule": "letters"}, version=2, word_rule="spaces"), "it is damaged"),
    (write(GOOD, checksum="0"), "it is damaged: its checksum does not match its content"),
    (write(GOOD | {"merges": []}, merges=GOOD["merges"]), "it is damaged"),
    (json.dumps({"format": "minigpt tokenizer", "version": 1}), "it lacks the entry 'method'"),
    (json.dumps({"format": "minigpt tokenizer", "version": 1} | GOOD), "it lacks the entry 'checksum'"),
    (write(GOOD | {"method": "words"}), "method must be one of 'bpe', 'substring', 'bytes', not 'words'"),
    (write(GOOD | {"method": "substring"}), "258 tokens and 2 merges, which does not suit 'substring'"),
    (write(GOOD | {"method": "bytes", "merges": []}), "258 tokens and 0 merges, which does not suit 'bytes'"),
    (write({"method": "bytes", "vocab": GOOD["vocab"][:257], "merges": []}), "257 tokens and 0 merges"),
    (write(GOOD | {"merges": GOOD["merges"][:1]}), "258 tokens and 1 merges, which does not suit 'bpe'"),
    (write(GOOD | {"merges": [[97, 98], [97, 99]]}), "257 is not what the merge of the tokens 97 and 99 makes"),
    (write(GOOD | {"merges": [[97, 98], [-2, 99]]}), "its token 257 is not"),
    (write(GOOD | {"merges": [[97, 98], [256, -159]]}), "its token 257 is not"),
    (write(GOOD | {"merges": [[97, 98], [256, 258]]}), "its token 257 is not"),
    (write(GOOD | {"vocab": [*GOOD["vocab"][:256], "abc", "ab"], "merges": [[-1, 99], [97, 98]]}), "its token 256 is not"),
    (write(GOOD | {"vocab": [*GOOD["vocab"][:256], "abc", "bc"], "merges": [[97, -1], [98, 99]]}), "its token 256 is not"),
    (write(GOOD | {"merges": [[257, 98], [256, 99]]}), "its token 256 is not"),
    (write(GOOD | {"merges": [[97, 98], [256]]}), "its merges a list of pairs of ids"),
    (write(GOOD | {"merges": [[97, 98], ["a", "bc"]]}), "its merges a list of pairs of ids"),
    (write(GOOD | {"merges": [[97, 98], 5]}), "its merges a list of pairs of ids"),
    (write(GOOD | {"merges": [[97, 98], [256.0, 99]]}), "its merges a list of pairs of ids"),
    (write(GOOD | {"merges": None}), "its merges a list of pairs of ids"),
    (write(GOOD | {"vocab": None}), "its vocab must be a list of strings"),
    (write(GOOD | {"vocab": [1, 2]}), "its vocab must be a list of strings"),
    (write(GOOD | {"vocab": ["ő"]}), "latin-1"),
    (write(GOOD | {"vocab": GOOD["vocab"][1:]}), "its vocabulary lacks 1 of the 256 single bytes, b'\\x00' for one"),
    (write(GOOD | {"vocab": []}), "lacks 256 of the 256 single bytes"),
    (write(GOOD | {"vocab": GOOD["vocab"][::-1]}), "its vocabulary must begin with the 256 bytes in order"),
    (write(GOOD | {"vocab": [*GOOD["vocab"][:256], "ab", "ab"], "merges": [[97, 98], [97, 98]]}), "no token twice"),
    (write({"method": "substring", "vocab": GOOD["vocab"][:256] + ["ab"] * 65_281, "merges": []}),
     "its vocabulary must have at most 65536 tokens, not 65537"),
])
def test_what_is_wrong_with_a_text_is_said(text, complaint, tmp_path):
    with pytest.raises(ValueError) as caught:
        Tokenizer.from_json(text)
    assert complaint in str(caught.value)
    (tmp_path / "wrong.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        Tokenizer.load(tmp_path / "wrong.json")
    assert complaint in str(caught.value) and "wrong.json is no file of a tokenizer: " in str(caught.value)


@pytest.mark.parametrize("wrong", [None, 5, b"{}"])
def test_from_json_reads_strings(wrong):
    with pytest.raises(TypeError, match="text must be a str"):
        Tokenizer.from_json(wrong)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x02ab\x01c", b"PK\x03\x04", b"\x80\x04\x95", b"some text"])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "other.bin").write_bytes(content)
    with pytest.raises(ValueError, match="other.bin is no file of a tokenizer"):
        Tokenizer.load(tmp_path / "other.bin")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OSError, match=tmp_path.name):
        Tokenizer.load(tmp_path)


# ---- the reference's files -------------------------------------------------------------------------------------------


def reference_file(path, tokens):
    path.write_bytes(b"".join(bytes([len(token)]) + token for token in tokens))
    return path


def test_a_reference_vocabulary_keeps_its_ids_and_gets_the_bytes_it_lacks(tmp_path):
    tokens = [b"the", b" ", b"t", b"", b"h", b"the", b"e", "é".encode()]
    loaded = Tokenizer.load(reference_file(tmp_path / "old.vocab", tokens))
    assert loaded.method == "substring" and loaded.merges == ()
    assert loaded.vocab[:8] == tuple(tokens)
    assert sorted([b" ", b"t", b"h", b"e", *loaded.vocab[8:]]) == list(BYTES)
    assert loaded.encode("the thé") == [0, 1, 2, 4, 7]
    assert loaded.decode([0, 3, 5]) == "thethe"
    assert loaded.token_to_id(b"the") == 0 and loaded.id_to_token(5) == b"the"
    assert loaded.decode(loaded.encode("Zoë 🙂\0")) == "Zoë 🙂\0"


def test_a_reference_vocabulary_survives_our_own_format(tmp_path):
    loaded = Tokenizer.load(reference_file(tmp_path / "OLD.VOCAB", [b"the", b"", b"the", b"x" * 255]))
    loaded.save(tmp_path / "new.vocab")                     # whatever we call it, it is told by its content
    assert Tokenizer.load(tmp_path / "new.vocab") == loaded
    assert Tokenizer.load(tmp_path / "new.vocab").encode("the" + "x" * 256)[:2] == [0, 3]


def test_tokens_of_a_reference_vocabulary_that_reach_across_spaces_are_produced(tmp_path):
    loaded = Tokenizer.load(reference_file(tmp_path / "old.vocab", [b"of the", b" ", b"of"]))
    assert loaded.encode("of the of") == [0, 1, 2]
    assert np.concatenate(list(loaded.encode_chunks("of the of"))).tolist() == [0, 1, 2]


def test_a_vocabulary_with_all_bytes_gets_none_added(tmp_path):
    assert Tokenizer.load(reference_file(tmp_path / "old.vocab", [*BYTES, b"ab"])).vocab == (*BYTES, b"ab")


@pytest.mark.parametrize("content, complaint", [
    (b"", "it is empty"),
    (b"\x03the\x05wo", "it is cut off: token 1 has 2 of its 5 bytes"),
    (b"\x03the\x01", "it is cut off: token 1 has 0 of its 1 bytes"),
    (b"\x01a" * 65_400, "at most 65536 tokens, not 65655"),
])
def test_a_broken_reference_vocabulary_is_refused(content, complaint, tmp_path):
    (tmp_path / "old.vocab").write_bytes(content)
    with pytest.raises(ValueError, match=f"old.vocab is no file of a tokenizer: .*{complaint}"):
        Tokenizer.load(tmp_path / "old.vocab")


def test_a_vocab_gives_way_to_a_tokenizer_and_somebodys_words_do_not(tmp_path):
    path, saved = tmp_path / "a.vocab", Tokenizer.train("of a test", 256, "bytes")
    path.write_bytes(b"\x03abc\x01d")
    saved.save(path)
    assert Tokenizer.load(path) == saved
    path.write_text("a list of difficult words")
    with pytest.raises(ValueError, match="a.vocab is there and is no file of a tokenizer, and stays"):
        saved.save(path)
    assert path.read_text() == "a list of difficult words"
