"""Every argument of every public function: the wrong kind, NaN, infinite, negative, zero, too large, empty.

The answer is always a TypeError or ValueError, raised by our own code and not from inside torch, whose sentence names the
argument, what it must be, and the value. `ROWS` is the table; the public names are found by inspection, so that a new
function or a new argument without a row fails. What belongs to a notebook (minigpt.classroom) is tested with the notebooks.
"""

import inspect
import itertools
import math
import re
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

import minigpt
from minigpt import (
    batches,
    causal_mask,
    corpus,
    gpt,
    model,
    presets,
    sampling,
    self_attention,
    tokenizer,
    training,
    training_state,
)
from minigpt.__main__ import main
from minigpt.arguments import shown
from minigpt.progress import History
from minigpt.training_state import TrainingState

PACKAGE = Path(minigpt.__file__).parent
MODULES = [corpus, tokenizer, self_attention, model, presets, batches, training, training_state, sampling, gpt]
TEXT = "the cat sat on the mat. " * 8

# What the package makes and its users only read, and guards.
NOT_FOR_USERS = {"Report", "Preset", "TrainingDiverged", "text_file", "heads_divide", "channels_pair",
                 "check_length", "check_size", "is_a_model", "token_ids", "GPT.adopt"}
# What stands behind the doors, and trusts who calls it: torch's own errors are good enough there.
INSIDE = {"attention", "rotations", "rotate", "KeyValueCache", "KeyValueCache.append", "MultiHeadAttention.forward",
          "MultiHeadAttention.with_weights", "FeedForward.forward", "TransformerBlock.forward",
          "TransformerBlock.with_weights", "evaluating", "train_step", "next_batch", "share_of_peak", "evaluate_if_due", "report",
          "dropout_seeded", "parts", "write_ids", "check_rows", "check_budget",
          "make_optimizers", "TrainingState.check", "TrainingState.watched",
          "last_logits", "draw"}


@dataclass
class Row:
    """How to call one function: good arguments, and for each argument what is wrong."""

    function: object
    good: dict
    bad: dict
    names: dict = field(default_factory=dict)        # argument -> what the message calls it, where that differs


@dataclass
class Bad:
    """A wrong value that the message shows in its own way, for instance a tensor by its shape."""

    value: object
    shown: str = ""


def integers(low, high=None, optional=False):
    """Values that no argument takes that is a whole number from `low` to `high`."""
    huge = [] if high is None else [high + 1, 10 ** 30]
    return ["three", 2.5, math.nan, math.inf, True, [1], b"1", low - 1, -10 ** 30, *huge] + ([] if optional else [None])


def numbers(low, high=None, open_low=False, optional=False):
    """Values that no argument takes that is a finite number from `low` to `high`."""
    return (["half", math.nan, math.inf, -math.inf, True, [0.5], 1j, low - 0.1, Bad(10 ** 400, "inf"), Bad(-10 ** 400, "inf")]
            + ([] if high is None else [high * 1.01 + 0.01]) + ([low] if open_low else []) + ([] if optional else [None]))


NOT_TEXT = [None, 5, b"bytes", ["a", 3], Bad("half \ud83d", "U+D83D")]
NOT_WORDS = [5, math.nan, "", "nonsense", ["bpe"], np.array(["a", "b"])]
NOT_FLAGS = [None, 1, 0.0, "yes"]
NOT_PATHS = [None, 5, math.nan, ["a"], b"name", "", "a\0b"]
NOT_DEVICES = [5, math.nan, "", "nonsense", "cuda:99", "cpu:7", "meta"]
NOT_BOOKS = [5, math.nan, b"bytes", Bad([5], "5"), "", [], ["a", ""]]
SEEDS_64, SEEDS_32 = integers(0, 2 ** 63 - 1, optional=True), integers(0, 2 ** 32 - 1)
TEMPERATURE, TOP_K, TOP_P = numbers(0), integers(1, optional=True), numbers(0, 1, open_low=True, optional=True)
IDS = [Bad(torch.zeros(1, 9, dtype=torch.int64), "9"), Bad(torch.full((1, 2), 400), "400"),
       Bad(torch.full((1, 2), -1), "-1")]
FLAT_IDS = [None, "abc", 5, [0, 0], torch.zeros(9), torch.zeros(2, 2, dtype=torch.int64), torch.zeros(9, dtype=torch.bool),
            np.zeros(9), np.array(["a"])]
LOGITS = [None, "abc", [1.0], torch.tensor([1, 2]), Bad(torch.tensor(1.0), "()"), Bad(torch.zeros(2, 0), "(2, 0)"),
          Bad(torch.tensor([[0.0, math.nan]]), "nan"), Bad(torch.tensor([[0.0, math.inf]]), "inf"),
          Bad(torch.full((1, 2), -math.inf), "-inf")]

torch.manual_seed(0)
CONFIG = minigpt.GPTConfig(vocab_size=256, context_length=8, d_model=4, n_heads=2, n_layers=1, d_ff=4)
MODEL = minigpt.GPTModel(CONFIG)
TOKENIZER = minigpt.Tokenizer.train(TEXT, 256, "bytes")
TOKENIZED = batches.TokenizedText(np.arange(40, dtype=np.uint16), 40)
RECIPE = presets.Recipe(batch_size=2)
STATE = TrainingState(MODEL, RECIPE)
OTHER_STATE = TrainingState(minigpt.GPTModel(minigpt.GPTConfig(d_model=4, n_heads=1, d_ff=0)), RECIPE)
SIZE = {"vocab_size": 256, "method": "bytes", "d_model": 4, "n_heads": 2, "n_layers": 1, "d_ff": 4, "context_length": 8,
        "dropout": 0.0, "positions": "learned"}
Gpt = minigpt.GPT.from_text(TEXT, **SIZE)

SIZES = {"vocab_size": integers(256, 65_536, optional=True), "method": NOT_WORDS, "d_model": integers(1, 1 << 14, optional=True),
         "n_heads": [*integers(1, 1 << 14, optional=True), 3], "n_layers": integers(1, 1000, optional=True),
         "d_ff": integers(0, 1 << 16, optional=True), "context_length": integers(1, 1 << 16, optional=True),
         "dropout": numbers(0, 0.99, optional=True), "positions": NOT_WORDS, "tied": [5, "yes", 1.0]}
MAKING = {"progress": NOT_FLAGS, "preset": NOT_WORDS + [None], "seed": SEEDS_32, "device": NOT_DEVICES + [None]}
TRAINING = {"steps": integers(1, optional=True), "seconds": numbers(0, open_low=True, optional=True),
            "text": NOT_BOOKS, "preset": NOT_WORDS + [None], "batch_size": integers(1, optional=True),
            "learning_rate": numbers(0, open_low=True, optional=True),
            "label_smoothing": numbers(0, 0.99, optional=True), "accumulate": integers(1, optional=True), "seed": SEEDS_32,
            "evaluations": integers(1)}
SAMPLING = {"prompt": NOT_TEXT, "max_new_tokens": integers(0), "temperature": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P,
            "seed": SEEDS_64}
SHORT = {"prompt": "the", "max_new_tokens": 2, "seed": 1}


def steps_or_seconds(function):
    """`function`, with the good steps left out when a test tries its seconds."""
    def call(**arguments):
        if arguments.get("seconds") is not None:
            arguments["steps"] = None
        return function(**arguments)
    return call


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The test runs in a folder with a book, a model and a tokenizer, so that the table needs no paths."""
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text(TEXT)
    Gpt.save("a.safetensors")
    TOKENIZER.save("a.json")


ROWS = {
    "read_text": Row(corpus.read_text, {"source": "book.txt"}, {"source": [None, 5, math.nan, [], b"a", "a\0b", "a" * 5000]}),
    "read_chunks": Row(corpus.read_chunks, {"source": "book.txt"},
                       {"source": [None, 5, math.nan, [], b"a", "a\0b", "a" * 5000], "start": integers(0),
                        "stop": integers(0, optional=True), "size": integers(1)}),
    "digest": Row(corpus.digest, {"source": "book.txt"}, {"source": [None, 5, math.nan, [], b"a", "a\0b", "a" * 5000]}),
    "split": Row(corpus.split, {"books": [TEXT]},
                 {"books": [None, 5, "one text", b"a", {1: 2}, Bad([5], "5"), Bad([""], "''"), Bad(["a", "\ud83d"], "U+D83D")],
                  "held_out": numbers(0, 0.5)}),
    "normalise": Row(corpus.normalise, {"text": TEXT}, {"text": NOT_TEXT}),
    "split_position": Row(corpus.split_position, {"source": "book.txt"},
                          {"source": [None, 5, math.nan, [], b"a", "a\0b"], "held_out": numbers(0, 0.5)}),

    "Tokenizer": Row(minigpt.Tokenizer, {"method": "bytes", "vocab": tokenizer.BYTES},
                     {"method": NOT_WORDS + [None],
                      "vocab": [None, 5, Bad("abc", "'a'"), Bad([1], "1"), Bad(["a"], "'a'"), Bad([], "256"), Bad([b"a"], "255")],
                      "merges": [None, 5, "abc", [1], [(1,)], [(1, 2, 3)], [("a", "b")], Bad([(1, 2)], "1 merges")],
                      "word_rule": NOT_WORDS},
                     {"vocab": "vocab|vocabulary"}),
    "Tokenizer.train": Row(minigpt.Tokenizer.train, {"text": TEXT, "vocab_size": 260},
                           {"text": [None, 5, math.nan, Bad(b"bytes", "98"), Bad([b"a"], "b'a'"), Bad([5], "5"),
                                     Bad("\ud83d", "U+D83D")],
                            "vocab_size": integers(256, 65_536), "method": NOT_WORDS + [None], "progress": [5, "tqdm", True]}),
    "Tokenizer.encode": Row(TOKENIZER.encode, {"text": TEXT}, {"text": NOT_TEXT}),
    "Tokenizer.encode_chunks": Row(lambda chunks: list(TOKENIZER.encode_chunks(chunks)), {"chunks": [TEXT]},
                                   {"chunks": [None, 5, Bad([5], "5"), Bad([None], "None"), Bad(b"ab", "97"),
                                               Bad(["\ud83d"], "U+D83D")]},
                                   {"chunks": "chunks|text"}),
    "Tokenizer.decode": Row(TOKENIZER.decode, {"ids": [1]},
                            {"ids": [None, 5, "abc", [1.0], [math.nan], [None], Bad([256], "256"), Bad([-1], "-1"),
                                     Bad([10 ** 30], str(10 ** 30))]}),
    "Tokenizer.decode_bytes": Row(TOKENIZER.decode_bytes, {"ids": [1]},
                                  {"ids": [None, 5, "abc", [1.0], [math.nan], [None], Bad([256], "256"), Bad([-1], "-1")]}),
    "Tokenizer.id_to_token": Row(TOKENIZER.id_to_token, {"token_id": 1}, {"token_id": integers(0, 255)}),
    "Tokenizer.token_to_id": Row(TOKENIZER.token_to_id, {"token": b"a"}, {"token": [None, 5, "a", ["a"], b"", b"the cat"]}),
    "Tokenizer.to_json": Row(TOKENIZER.to_json, {}, {}),
    "Tokenizer.from_json": Row(minigpt.Tokenizer.from_json, {"text": TOKENIZER.to_json()}, {"text": [None, 5, b"{}", [1]]}),
    "Tokenizer.save": Row(TOKENIZER.save, {"path": "b.json"}, {"path": NOT_PATHS}),
    "Tokenizer.load": Row(minigpt.Tokenizer.load, {"path": "a.json"}, {"path": NOT_PATHS}),

    "causal_mask": Row(causal_mask, {"T": 3}, {"T": integers(0, 1 << 16), "device": NOT_DEVICES}),
    "MultiHeadAttention": Row(minigpt.MultiHeadAttention, {"d_model": 4, "n_heads": 2},
                              {"d_model": integers(1), "n_heads": [*integers(1), 3, 5], "dropout": numbers(0, 1)}),

    "GPTConfig": Row(minigpt.GPTConfig, {}, {
        "vocab_size": integers(1, 1 << 20), "context_length": integers(1, 1 << 16), "d_model": integers(1, 1 << 14),
        "n_heads": [*integers(1, 1 << 14), 3], "n_layers": integers(1, 1000), "d_ff": integers(0, 1 << 16),
        "dropout": numbers(0, 0.99), "positions": NOT_WORDS + [None], "tied": [None, 5, "yes"]}),
    "FeedForward": Row(minigpt.FeedForward, {"d_model": 4, "d_ff": 4},
                       {"d_model": integers(1), "d_ff": integers(1), "dropout": numbers(0, 1)}),
    "TransformerBlock": Row(minigpt.TransformerBlock, {"config": CONFIG}, {"config": [None, 5, "abc", {"d_model": 4}]}),
    "GPTModel": Row(minigpt.GPTModel, {"config": CONFIG}, {"config": [None, 5, "abc", {"d_model": 4}]}),
    "GPTModel.forward": Row(MODEL, {"ids": torch.zeros(1, 2, dtype=torch.int64)},
                            {"ids": IDS}),
    "GPTModel.attention_weights": Row(MODEL.attention_weights, {"ids": torch.zeros(1, 2, dtype=torch.int64)}, {"ids": IDS}),
    "GPTModel.new_cache": Row(MODEL.new_cache, {}, {}),

    "Recipe": Row(presets.Recipe, {}, {
        "batches": NOT_WORDS + [None], "optimizer": NOT_WORDS + [None], "batch_size": integers(1),
        "learning_rate": numbers(0, open_low=True),
        "muon_learning_rate": numbers(0, open_low=True), "betas": [None, 5, "ab", [0.9, 0.9], (0.9,), Bad((0.9, 1.0), "1.0"),
                                                                   Bad((math.nan, 0.9), "nan"), Bad((-0.1, 0.9), "-0.1")],
        "weight_decay": numbers(0), "warmup": integers(0), "decay": NOT_WORDS + [None], "floor": numbers(0, 1),
        "label_smoothing": numbers(0, 0.99), "clip": numbers(0, open_low=True), "bfloat16": NOT_FLAGS,
        "accumulate": integers(1)}),
    "TokenizedText": Row(batches.TokenizedText, {"ids": torch.arange(9), "n_bytes": 8},
                         {"ids": FLAT_IDS, "n_bytes": integers(1)}),
    "random_batch": Row(batches.random_batch, {"ids": torch.arange(9), "context_length": 4, "batch_size": 2},
                        {"ids": [*FLAT_IDS, Bad(torch.arange(4), "4"), Bad(torch.arange(0), "0")], "context_length": integers(1),
                         "batch_size": integers(1), "generator": [5, "abc", 0]}),
    "epoch_batch": Row(batches.epoch_batch, {"ids": torch.arange(9), "context_length": 4, "batch_size": 2, "step": 0},
                       {"ids": [*FLAT_IDS, Bad(torch.arange(4), "4"), Bad(torch.arange(0), "0")],
                        "context_length": integers(1), "batch_size": integers(1), "step": integers(0), "seed": SEEDS_32}),
    "learning_rate": Row(training.learning_rate, {"step": 1, "steps": 9, "warmup": 2, "peak": 1.0, "floor": 0.1},
                         {"step": integers(0, 8), "steps": integers(1), "warmup": integers(0),
                          "peak": numbers(0, open_low=True), "floor": numbers(0, 1), "decay": NOT_WORDS + [None]}),
    "evaluate": Row(training.evaluate, {"model": MODEL, "text": TOKENIZED},
                    {"model": [None, 5, "abc", torch.nn.Linear(2, 2)], "text": [None, "the", TOKENIZED.ids],
                     "batch_size": integers(1)}),
    "TrainingState": Row(TrainingState, {"model": MODEL, "recipe": RECIPE},
                         {"model": [None, 5, "abc", torch.nn.Linear(2, 2)], "recipe": [None, 5, "classroom"],
                          "seed": SEEDS_32}),
    "TrainingState.tensors": Row(STATE.tensors, {}, {}),
    "TrainingState.load": Row(STATE.load, {"tensors": STATE.tensors()},
                              {"tensors": [None, 5, "abc", {}, Bad({"progress": torch.zeros(3)}, "{'progress': (3,)}"),
                                          Bad(OTHER_STATE.tensors(), "{'model.token")]}),
    "training_loop": Row(steps_or_seconds(lambda **arguments: next(training.training_loop(**arguments))),
                         {"state": TrainingState(MODEL, RECIPE), "text": TOKENIZED, "steps": 1000},
                         {"state": [None, 5, MODEL], "text": [None, "the", TOKENIZED.ids],
                          "validation": ["the", TOKENIZED.ids, 5], "steps": integers(1, optional=True),
                          "seconds": numbers(0, open_low=True, optional=True), "evaluations": integers(1)}),

    "next_token_probs": Row(sampling.next_token_probs, {"logits": torch.zeros(1, 3)},
                            {"logits": LOGITS, "temperature": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P}),
    "generate_ids": Row(sampling.generate_ids, {"model": MODEL, "ids": [1], "max_new_tokens": 2}, {
        "model": [None, 5, "abc", torch.nn.Linear(2, 2)],
        "ids": [None, 5, {1, 2}, torch.tensor([1]), "abc", Bad([1.0], "1.0"), Bad([True], "True"),
                [], Bad([256], "256"), Bad([-1], "-1")],
        "max_new_tokens": integers(0), "temperature": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P, "seed": SEEDS_64,
        "use_cache": NOT_FLAGS}),

    "GPT": Row(minigpt.GPT, {"tokenizer": TOKENIZER, "model": MODEL},
               {"tokenizer": [None, 5, "bpe"], "model": [None, 5, torch.nn.Linear(2, 2), Bad(minigpt.GPTModel(
                   minigpt.GPTConfig(vocab_size=300, context_length=8, d_model=4, n_heads=2, d_ff=0)), "300")]}),
    "GPT.from_text": Row(minigpt.GPT.from_text, {"text": TEXT, **SIZE}, {"text": [None, *NOT_BOOKS], **SIZES, **MAKING}),
    "GPT.from_files": Row(minigpt.GPT.from_files, {"sources": ["book.txt"], **SIZE},
                          {"sources": [None, 5, "book.txt", b"a", [], Bad([5], "5")],
                           "tokens": [path for path in NOT_PATHS if path is not None], **SIZES, **MAKING},
                          {"sources": "sources?"}),
    "GPT.pretrained": Row(minigpt.GPT.pretrained, {}, {"name": NOT_WORDS + [None], "bfloat16": [*NOT_FLAGS, Bad(True, "True")]}),
    "GPT.training_loop": Row(steps_or_seconds(lambda **arguments: next(Gpt.training_loop(**arguments))), {"steps": 1}, TRAINING),
    "GPT.train": Row(steps_or_seconds(Gpt.train), {"steps": 1, "progress": False}, {**TRAINING, "progress": NOT_FLAGS}),
    "GPT.evaluate": Row(Gpt.evaluate, {"text": "the"}, {"text": [*NOT_TEXT, ""]}),
    "GPT.generate": Row(Gpt.generate, SHORT, SAMPLING),
    "GPT.stream": Row(Gpt.stream, SHORT, SAMPLING),
    "GPT.next_token_probs": Row(Gpt.next_token_probs, {"prompt": "the"},
                                {"prompt": NOT_TEXT, "temperature": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P}),
    "GPT.attention_weights": Row(Gpt.attention_weights, {"prompt": "the"}, {"prompt": NOT_TEXT}),
    "GPT.save": Row(Gpt.save, {"path": "b.safetensors"}, {"path": NOT_PATHS, "half": NOT_FLAGS}),
    "GPT.save_page": Row(Gpt.save_page, {"path": "b.html"}, {"path": [*NOT_PATHS, "b.safetensors"],
                                                            "title": [*NOT_TEXT[1:], "", " "], "history": [5, "a", []]}),
    "GPT.trained": Row(Gpt.trained, {"history": History()}, {"history": [None, 5, []]}),
    "GPT.load": Row(minigpt.GPT.load, {"path": "a.safetensors"}, {"path": NOT_PATHS, "device": NOT_DEVICES + [None]}),
    "tokenize": Row(batches.tokenize, {"tokenizer": TOKENIZER, "chunks": [TEXT]},
                    {"tokenizer": [None, 5, "bpe"], "chunks": [None, 5, Bad([5], "5")]}),
    "preset": Row(presets.preset, {"name": "classroom"}, {"name": NOT_WORDS + [None]}, {"name": "preset"}),
    "recipe": Row(presets.recipe, {"name": "classroom"},
                  {"name": NOT_WORDS + [None], "batch_size": integers(1, optional=True),
                   "learning_rate": numbers(0, open_low=True, optional=True),
                   "label_smoothing": numbers(0, 0.99, optional=True), "accumulate": integers(1, optional=True)},
                  {"name": "preset"}),
}
CASES = [(name, argument, value) for name, row in ROWS.items() for argument, values in row.bad.items() for value in values]


def public_functions():
    """The functions, classes and methods that the package offers, each with its arguments."""
    things = {name: thing for module in MODULES for name, thing in vars(module).items()
              if callable(thing) and getattr(thing, "__module__", "") == module.__name__}
    for owner, thing in list(things.items()):
        if inspect.isclass(thing):
            things |= {f"{owner}.{name}": getattr(thing, name) for name, member in vars(thing).items()
                       if inspect.isfunction(member) or isinstance(member, classmethod | staticmethod)}
    for name, thing in things.items():
        if not any(part.startswith("_") for part in name.split(".")) and name not in NOT_FOR_USERS | INSIDE:
            yield name, parameters(thing) - {"self"}


def parameters(function):
    kinds = inspect.signature(function).parameters.values()
    return {p.name for p in kinds if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def test_every_public_name_and_each_of_its_arguments_has_a_row():
    public = dict(public_functions())
    assert set(minigpt.__all__) <= set(public) | INSIDE
    missing = {name: arguments for name, arguments in public.items() if arguments and name not in ROWS}
    assert not missing
    allowed = {"GPTModel.forward": {"cache"}, "TrainingState": {"batches_before", "ranks", "compiled"},
               "evaluate": {"ranks"}}                                                   # what our own code makes
    assert {name: arguments - set(ROWS[name].bad) for name, arguments in public.items()
            if name in ROWS and arguments - set(ROWS[name].bad) - allowed.get(name, set())} == {}
    assert set(ROWS) <= set(public)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "GPT.pretrained"])
def test_good_arguments_are_taken(files, name):
    ROWS[name].function(**ROWS[name].good)


@pytest.mark.parametrize("name, arguments", [(name, list(cases)) for name, cases in
                                             itertools.groupby(CASES, key=lambda case: case[0])],
                         ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_argument_is_answered_with_a_sentence_that_names_it(files, name, arguments):
    row, wrong = ROWS[name], []
    for _, argument, value in arguments:
        value, says = (value.value, value.shown) if isinstance(value, Bad) else (value, shown(value))
        called = row.names.get(argument, argument)
        case = f"{name}({argument}={shown(value)})"
        try:
            row.function(**row.good | {argument: value})
        except (TypeError, ValueError) as error:
            place = traceback.extract_tb(error.__traceback__)[-1].filename
            if not Path(place).is_relative_to(PACKAGE):
                wrong.append(f"{case} fails inside {place}: {error}")
            elif not re.search(rf"\b(?:{called})\b.*?\b(must|lacks|does not suit)\b", str(error), re.DOTALL):
                wrong.append(f"{case} is not named with what is allowed: {error}")
            elif says not in str(error):
                wrong.append(f"{case}: the message does not show {says}: {error}")
        except Exception as error:
            wrong.append(f"{case} raises {error!r}")
        else:
            wrong.append(f"{case} is taken in silence")
    assert not wrong, "\n" + "\n".join(wrong)


def test_train_passes_on_no_argument_that_training_loop_lacks():
    with pytest.raises(TypeError, match="epochs"):
        Gpt.train(steps=1, progress=False, epochs=3)


# The command line ---------------------------------------------------------------------------------------------------

WORDS = ["three", "nan", "inf", "-1", "0", ""]
TRAIN = ["train", "book.txt", "--out", "b.safetensors", "--steps", "1", "--batch-size", "2", "--evaluations", "1"] + [
    word for name, value in SIZE.items() for word in ("--" + name.replace("_", "-"), str(value))]
SAMPLE, EVALUATE = ["sample", "a.safetensors", "--max-new-tokens", "2"], ["evaluate", "a.safetensors", "book.txt"]
OPTIONS = [
    *[(TRAIN, option, value) for option in ("--steps", "--batch-size", "--accumulate", "--context-length", "--d-model",
                                            "--n-heads", "--n-layers", "--vocab-size", "--evaluations", "--save-every")
      for value in WORDS],
    *[(TRAIN, option, value) for option in ("--d-ff", "--seed") for value in WORDS if value != "0"],
    *[(TRAIN, "--learning-rate", value) for value in WORDS],
    *[(TRAIN, option, value) for option in ("--dropout", "--label-smoothing") for value in [*WORDS, "1.5"] if value != "0"],
    *[(TRAIN, option, value) for option in ("--method", "--preset", "--positions", "--device")
      for value in ("nonsense", "", "7")],
    *[(TRAIN, "--out", value) for value in ("", ".", "nowhere/b.safetensors")],
    (TRAIN, "--n-heads", "3"), (TRAIN, "--d-model", "100000"), (TRAIN, "--vocab-size", "70000"), (TRAIN, "--seed", str(2 ** 32)),
    *[(SAMPLE, option, value) for option in ("--top-k", "--top-p") for value in WORDS],
    *[(SAMPLE, option, value) for option in ("--max-new-tokens", "--temperature", "--seed") for value in WORDS if value != "0"],
    *[(SAMPLE, "--device", value) for value in ("nonsense", "", "7")], (SAMPLE, "--top-p", "1.1"), (SAMPLE, "--prompt", "\ud83d"),
    *[(EVALUATE, "--device", value) for value in ("nonsense", "", "7")],
]


def run(capsys, words):
    """The exit status of a command, and what it says."""
    try:
        status = main(words)
    except SystemExit as stop:                          # argparse's own way out
        status = stop.code
    return status, capsys.readouterr().err


@pytest.mark.parametrize("words", [TRAIN, SAMPLE, EVALUATE], ids=["train", "sample", "evaluate"])
def test_a_right_command_ends_with_status_0(files, capsys, words):
    assert run(capsys, words)[0] == 0


@pytest.mark.parametrize("words, option, value", OPTIONS, ids=[f"{words[0]} {option} {value!r}"
                                                                for words, option, value in OPTIONS])
def test_a_bad_option_ends_with_status_2_and_a_sentence_that_names_it(files, capsys, words, option, value):
    status, said = run(capsys, [*words, f"{option}={value}"])
    assert status == 2
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert re.search(option.removeprefix("--").replace("-", "[-_]"), last), last


@pytest.mark.parametrize("words", [[], ["nonsense"], ["train"], ["sample"], ["evaluate", "a.safetensors"],
                                   [*TRAIN, "--seconds", "1"], [*TRAIN, "extra", "--nonsense"],
                                   ["train", "no.txt", *TRAIN[2:]], ["sample", "no.safetensors"], ["sample", "book.txt"],
                                   ["evaluate", "a.safetensors", "no.txt"], ["evaluate", "a.safetensors", "a.safetensors"],
                                   [*TRAIN, "--resume"]], ids=" ".join)
def test_a_wrong_command_ends_with_status_2_and_says_why(files, capsys, words):
    status, said = run(capsys, words)
    assert status == 2
    assert said.strip() and "Traceback" not in said


def test_the_table_has_several_wrong_values_for_every_argument():
    assert len(CASES) > 800
    assert all(len(values) >= 3 for row in ROWS.values() for values in row.bad.values())
