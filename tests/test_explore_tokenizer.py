"""The tokenizer's explorers, driven without a browser."""

import re

from minigpt.classroom import explore_tokenizer as explore


def shown_ids(explorer) -> list[int]:
    return [int(number) for number in re.findall(r"<small>(\d+)<", explorer.output.value)]


def test_the_tokens_shown_are_those_of_the_chosen_tokenizer():
    explorer = explore.token_explorer("It is é🙂")
    for method, size in (("bpe", 512), ("substring", 300), ("bytes", 2048)):
        explorer.controls["method"].value, explorer.controls["vocab_size"].value = method, size
        tokenizer = explore.trained(method, 256 if method == "bytes" else size)
        assert tokenizer.vocab_size == (256 if method == "bytes" else size)
        assert shown_ids(explorer) == tokenizer.encode("It is é🙂")


def test_the_bytes_shown_are_those_of_the_typed_characters():
    explorer = explore.byte_explorer()
    explorer.controls["text"].value = "a<é🙂"
    notes = re.findall(r"<small>([\d ]+)<", explorer.output.value)
    assert notes == ["97", "60", "195 169", "240 159 153 130"]
    assert "4 characters, 8 bytes" in explorer.output.value and "&lt;" in explorer.output.value


def test_a_smaller_tokenizer_is_the_one_that_is_trained_alone():
    for method in ("bpe", "substring"):
        alone = explore.Tokenizer.train(explore.training_text(), 300, method)
        assert explore.trained(method, 300) == alone


def test_typed_html_is_shown_as_text():
    explorer = explore.token_explorer()
    explorer.controls["text"].value = "<script>alert(1)</script><img src=x onerror=1>"
    assert "<script" not in explorer.output.value and "<img" not in explorer.output.value


def test_empty_and_long_texts_are_shown():
    explorer = explore.token_explorer("")
    assert "0 bytes, 0 tokens" in explorer.output.value
    explorer.controls["text"].value = "word " * 20_000
    assert len(shown_ids(explorer)) == explore.SHOWN_TOKENS and explorer.error is None


def test_merges_are_applied_one_at_a_time():
    explorer = explore.merge_explorer("the cat")
    explorer.controls["merges"].value = 0
    assert "7 tokens" in explorer.output.value
    largest = explore.trained("bpe", 2048)
    counts = []
    for merges in range(0, 60, 5):
        explorer.controls["merges"].value = merges
        ids = explore.merged(list(b"the cat"), largest, merges)
        assert b"".join(largest.vocab[i] for i in ids) == b"the cat" and f"{len(ids)} tokens" in explorer.output.value
        counts.append(len(ids))
    assert counts == sorted(counts, reverse=True) and counts[-1] < 7


def test_the_size_picture_shows_what_the_tokenizers_make_of_the_text():
    text = "It is a truth universally acknowledged. " * 5
    picture = explore.size_picture(text, (256, 300, 2048))
    curves = {line.get_label(): line.get_ydata() for line in picture.figure.axes[0].get_lines()}
    for method in ("bpe", "substring"):
        expected = [len(text) / len(explore.trained(method, size).encode(text)) for size in (256, 300, 2048)]
        assert list(curves[method]) == expected


def test_a_slider_that_does_nothing_and_a_merge_that_changes_nothing_say_so():
    explorer = explore.token_explorer("cat")
    assert "whatever the slider" not in explorer.output.value
    explorer.controls["method"].value = "bytes"
    assert "whatever the slider" in explorer.output.value
    merges = explore.merge_explorer("zzz")
    assert "nothing changes" in merges.output.value
    merges.controls["text"].value = " a the"
    assert "nothing changes" not in merges.output.value


def test_the_size_picture_says_what_its_curves_show():
    picture = explore.size_picture("It is a truth universally acknowledged. " * 5, (256, 2048))
    for line in picture.figure.axes[0].get_lines():
        first, *_, last = line.get_ydata()
        assert f"{line.get_label()} from {first:.1f} to {last:.1f}" in picture.alt
