"""SmolLM2's file and tokenizer for the tests that need the real thing, read once. `run.py test` has them installed."""

from functools import cache

from minigpt import GPT
from minigpt.gguf_file import open_gguf
from minigpt.smollm2 import read_tokenizer, weights_file


@cache
def file():
    return open_gguf(weights_file())


@cache
def tokenizer():
    return read_tokenizer(file())


@cache
def gpt():
    return GPT.pretrained("smollm2")
