"""How a vocabulary is chosen: words, their counts, merges and substrings, by hand and against slow and evident versions.

The same against the `tokenizers` library is in test_tokenizer.py; what holds for every string, of the words too, in
test_tokenizer_properties.py.
"""

import random
from collections import Counter
from itertools import islice, pairwise

import numpy as np
import pytest

from minigpt import vocabulary
from minigpt.corpus import data_folder
from minigpt.tokenizer import Tokenizer
from minigpt.vocabulary import RULES, count_words, frequent_substrings, learn_merges, merge, words


@pytest.fixture(scope="module")
def excerpt():
    return (data_folder() / "austen.txt").read_text(encoding="utf-8")[:100_000]


def counted(text, rule="letters"):
    return count_words(words([text], rule))


# ---- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, expected", [
    ("I don't know.", ["I", " don't", " know", "."]),
    ("the ladies’ maids'", ["the", " ladies", "’", " maids", "'"]),
    ('"Oh!" said he.\n\n"Well"', ['"', "Oh", '!"', " said", " he", ".\n\n", '"', "Well", '"']),
    ("in 1813, at 3pm", ["in", " 1813", ",", " at", " 3", "pm"]),
    ("a  b\n  c\td", ["a", " ", " b", "\n", " ", " c", "\t", "d"]),
    ("end\n\n\nnext\n ", ["end", "\n\n\n", "next", "\n", " "]),
    ("_so_ 🙂🙂 né", ["_", "so", "_", " 🙂🙂", " né"]),
    ("x" * 70, ["x" * 32, "x" * 32, "x" * 6]),
    (" " * 70 + "x", [" " * 32, " " * 32, " " * 5, " x"]),
])
def test_what_the_rule_of_letters_takes_for_words(text, expected):
    assert RULES["letters"].pattern.findall(text) == expected


def test_chunks_become_blocks_that_are_neither_tiny_nor_huge(monkeypatch):
    monkeypatch.setattr(vocabulary, "BLOCK", 3)
    assert list(vocabulary._blocks(["a", "", "bc", "d", "efghijklm", "n"])) == ["abc", "defg", "hij", "klm", "n"]


def test_training_drops_rare_words_when_there_are_far_too_many(monkeypatch):
    monkeypatch.setattr(vocabulary, "DISTINCT", 4000)
    monkeypatch.setattr(vocabulary, "BLOCK", 1000)
    text = "".join(f"gold{number:05} silver " for number in range(2000))
    counts = counted(text, "spaces")
    assert sum(map(len, counts)) < 4000 + 2 * 1000 and counts[b"silver"] == 2000 and counts[b" "] == 4000
    assert b" silver" in Tokenizer.train(text, 300).vocab


def test_the_common_words_that_fit_into_half_of_the_memory_are_kept(monkeypatch):
    monkeypatch.setattr(vocabulary, "DISTINCT", 8)
    full = [["aa"] * 3 + ["bb"] * 2, ["cc"] * 3 + ["dd"]]                                 # 8 characters: not too many
    assert count_words(full) == {b"aa": 3, b"bb": 2, b"cc": 3, b"dd": 1}
    assert count_words([*full, ["e"]]) == {b"aa": 3, b"cc": 3}                       # 9: half of 8 are kept
    assert count_words([*full, ["e"], ["ffff", "aa"]]) == {b"aa": 4, b"cc": 3, b"ffff": 1}
    assert count_words([*full, ["e"], ["ffff", "g"]]) == {b"aa": 3, b"cc": 3}


# ---- substrings ------------------------------------------------------------------------------------------------------


def slow_substrings(text, how_many):
    counts = Counter()
    for word in text.split(" "):
        word = word.encode()
        counts.update(word[i:j] for i in range(len(word)) for j in range(i + 2, min(i + 16, len(word)) + 1))
    return sorted(counts, key=lambda substring: (-counts[substring], substring))[:how_many]


@pytest.mark.parametrize("how_many", [0, 1, 44, 644])
@pytest.mark.parametrize("length", [0, 1, 2, 30, 5000])
def test_the_substrings_are_the_most_frequent_ones(excerpt, length, how_many):
    text = excerpt[:length] + " é🙂é aaaaaaaaaaaaaaaaaaaaaa" * (length > 2)
    assert frequent_substrings(counted(text, "spaces"), how_many) == slow_substrings(text, how_many)


def test_equally_frequent_substrings_come_in_the_order_of_their_bytes():
    assert frequent_substrings({b"zy": 1, b"ba": 1, b"yx": 1}, 2) == [b"ba", b"yx"]


def test_places_whose_substring_is_too_rare_already_are_not_looked_at_again(excerpt, monkeypatch):
    looked_at, unique = [], np.unique
    monkeypatch.setattr(np, "unique", lambda places, **options: looked_at.append(len(places)) or unique(places, **options))
    frequent_substrings({excerpt.encode(): 1}, 44)          # one word, so long that it does not end before its places do
    assert looked_at[0] > 0.9 * len(excerpt) and looked_at[4] < 0.1 * len(excerpt)


# ---- byte pairs ------------------------------------------------------------------------------------------------------


def slow_merges(text, how_many):
    tokens = [list(word.encode()) for word in RULES["letters"].pattern.findall(text)]
    merges = []
    while len(merges) < how_many:
        counts = Counter(pair for word in tokens for pair in pairwise(word))
        if not counts:
            break
        merges.append(min(counts, key=lambda pair: (-counts[pair], pair)))
        tokens = [slow_merge(word, merges[-1], 255 + len(merges)) for word in tokens]
    return merges


def slow_merge(ids, pair, new_id):
    place = 0
    while place + 1 < len(ids):
        if (ids[place], ids[place + 1]) == pair:
            ids = ids[:place] + [new_id] + ids[place + 2:]
        place += 1
    return ids


@pytest.mark.parametrize("how_many", [0, 1, 44, 244])
@pytest.mark.parametrize("length", [0, 1, 2, 30, 5000])
def test_the_merges_are_those_of_the_most_frequent_pairs(excerpt, length, how_many):
    text = excerpt[:length] + " é🙂é aaaaaaaaaaaaaaaaaaaaaa" * (length > 2)
    assert list(islice(learn_merges(counted(text)), how_many)) == slow_merges(text, how_many)


def test_the_merges_are_right_on_many_tiny_texts_with_many_ties():
    generator = random.Random(0)
    for _ in range(300):
        text = "".join(generator.choices(generator.choice(["a", "ab", "aab ", "abc", "a\n.b'"]), k=generator.randrange(120)))
        assert list(islice(learn_merges(counted(text)), 34)) == slow_merges(text, 34), text


def test_merges_go_on_until_no_token_has_a_neighbour():
    assert list(learn_merges({b"ab": 2, b"abc": 1, b"x": 9})) == [(97, 98), (256, 99)]
    assert list(learn_merges({b"aaaaa": 1})) == [(97, 97), (256, 97), (256, 257)]
    assert list(learn_merges({b"x": 9})) == list(learn_merges({})) == []


def test_equally_frequent_pairs_come_in_the_order_of_their_ids():
    assert list(islice(learn_merges({b"zy": 1, b"ba": 1, b"yx": 1}), 2)) == [(98, 97), (121, 120)]


@pytest.mark.parametrize("letters", ["with its spaces", "one word after the other as long as words may be"])
def test_a_pair_is_counted_again_only_where_it_was_made_and_when_it_might_win(excerpt, letters, monkeypatch):
    """Were each merge looked for in all the words, the places looked at were 500 times the text, and not 10 times."""
    looked_at, find = [], vocabulary._Row.find
    monkeypatch.setattr(vocabulary._Row, "find",
                        lambda row, pair, places: looked_at.append(len(places)) or find(row, pair, places))
    counts = counted(excerpt if "spaces" in letters else "".join(filter(str.isalpha, excerpt)))
    assert len(list(islice(learn_merges(counts), 500))) == 500
    assert sum(looked_at) < 10 * sum(map(len, counts))


@pytest.mark.parametrize("ids, merged", [
    ([], []), ([1], [1]), ([1, 2], [9]), ([2, 1], [2, 1]), ([1, 1, 2, 1, 2, 2, 1], [1, 9, 9, 2, 1])])
def test_a_merge_replaces_each_occurrence(ids, merged):
    assert merge(ids, (1, 2), 9) == merged


def test_a_merge_of_twins_goes_from_left_to_right():
    assert merge([1, 1, 1], (1, 1), 9) == [9, 1] and merge([1, 1, 1, 1], (1, 1), 9) == [9, 9]
