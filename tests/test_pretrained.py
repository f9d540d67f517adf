"""The model that ships: what the README says of it is measured here."""

import re
from pathlib import Path

import pytest

from minigpt import GPT, corpus

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def gpt():
    return GPT.pretrained()


def test_its_held_out_loss_is_the_one_in_the_readme(gpt):
    said = float(re.search(r"The model that ships.*?\*\*([\d.]+) nats per byte", README.read_text("utf-8"), re.S)[1])
    (held_out,) = corpus.split([corpus.read_text("austen")])[1]
    assert gpt.evaluate(held_out) == pytest.approx(said, abs=0.0015)


def test_it_talks_and_ends_its_words(gpt):
    text = gpt.generate("It is a truth", 120, temperature=0.5, seed=1)
    words = re.findall(r"[a-z]+", text.lower())
    known = set(re.findall(r"[a-z]+", corpus.read_text("austen").lower()))
    assert len(words) > 40 and sum(word in known for word in words) > 0.9 * len(words)


def test_it_is_small_enough_to_ship():
    assert (corpus.data_folder() / "pretrained.safetensors").stat().st_size < 3_100_000
