"""The classroom's doors: what a notebook hands over by mistake is answered at the call, in a sentence.

It names the argument, what is allowed, and the value. `BAD` is the table; the public names are found by inspection, so that a
new function with arguments and without a row fails.
"""

import inspect
import math
import re
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

import minigpt
from minigpt import GPT, GPTConfig, classroom
from minigpt.classroom import doors, slider
from minigpt.classroom.plots import new_figure

PACKAGE = Path(minigpt.__file__).parent
# Tested elsewhere: checks with their exercises, the wall with the wall, questions and hints in test_prediction.
ELSEWHERE = {"Mistake", "join", "export_predictions", "hints", "predict", "show_source"}
SIZE = {"vocab_size": 270, "d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 32, "context_length": 16}
HALF = "\ud83d"                                         # a lone surrogate
FIGURE = new_figure()[0]
PLOT = {"alt": "x", "x_label": "x", "y_label": "y"}
LABELLED = {"row_labels": ["a"], "column_labels": ["b"], "alt": "x"}


class Ours:
    """Stands in the table for a small GPT."""


def an(argument: str, *bad, **good):
    """A row: values that the argument does not take, beside good ones of the others."""
    return [(argument, value, good) for value in bad]


NO_GPT = (None, "gpt", object(), GPTConfig())
NO_TEXT = (None, 5, HALF, b"a")
ABOUT_A_GPT = {name: an("gpt", *NO_GPT) + an(word, *NO_TEXT, gpt=Ours)
               for name, word in (("talk", "prompt"), ("next_token", "prompt"), ("attention_explorer", "text"),
                                  ("head_explorer", "text"))}
READ_WHOLE = {name: an("gpt", *NO_GPT, text="a") + an("text", *NO_TEXT, "", "abcd " * 40, gpt=Ours)
              for name in ("residual_norms", "residual_picture")}
BAD = ABOUT_A_GPT | READ_WHOLE | {
    "chat": an("gpt", *NO_GPT, Ours),
    "live_training": an("gpt", *NO_GPT) + an("seconds", "60", 0, 2.5, None, gpt=Ours) + an("size", {"dmodel": 8}, gpt=Ours),
    "bits_explorer": an("gpt", *NO_GPT, text="a"),
    "bits_picture": an("gpt", *NO_GPT, Ours, text="a"),
    "losses_in_bits": an("gpt", *NO_GPT, Ours, text="a", part="attention"),
    "switched_off": an("gpt", *NO_GPT, heads=[]) + an("heads", None, 3, [3], [(0,)], [(1, 0)], [(0, 2)], [(0, -1)], gpt=Ours),
    "flops_per_token": an("config", Ours, None, {}),
    "overfit_picture": an("losses", None, 3, "abc", [None], vocab_size=8) + an("vocab_size", 0, None, 2.5, losses=[1.0]),
    "byte_explorer": an("text", *NO_TEXT), "token_explorer": an("text", *NO_TEXT), "merge_explorer": an("text", *NO_TEXT),
    "size_picture": an("text", *NO_TEXT) + an("sizes", None, 300, [], [255], [2049], ["a"], text="a"),
    "coloured": an("tokens", "abc", b"abc", None, ["a"], [1], {b"a"}) + an("ids", [1, 2], ["a"], 3, tokens=[b"a"]),
    "token_label": an("token", "a", None, 65),
    "probability_bars": an("tokens", [], "a", ["a"], probabilities=[1.0])
    + an("probabilities", None, [], [0.5, 0.5], [math.nan], ["a"], tokens=[b"a"]),
    "mixing_desk": an("tokens", [], None, "she", [5], [HALF, "a", "b"])
    + an("vectors", None, [[1.0]], torch.ones(3), torch.ones(2, 2), torch.ones(3, 2, dtype=int), torch.full((3, 2), math.nan)),
    "query_explorer": an("tokens", [], None, "she", list("abcd")) + an("keys", None, torch.ones(3, 3), torch.ones(2, 2)),
    "descent_explorer": an("rate", None, "0.1", math.nan),
    "schedule_explorer": an("steps", 0, None, 2.5) + an("warmup", -1, "4") + an("peak", 0, None, math.inf)
    + an("floor", -1, 2, None),
    "sampling_explorer": an("tokens", [], "ab", [1, 2], logits=torch.ones(2))
    + an("logits", [1.0, 2.0], None, torch.ones(3), torch.ones(1, 2), torch.tensor([1.0, math.nan]), tokens=["a", "b"]),
    "checkbox": an("label", None, 5, value=True) + an("value", 1, None, "yes", label="x"),
    "chooser": an("options", None, 3, [], "ab", label="x", value="a") + an("value", "c", None, label="x", options=["a", "b"]),
    "option_slider": an("options", None, 3, [], "ab", label="x", value=1) + an("value", 3, None, label="x", options=(1, 2)),
    "slider": an("value", None, "3", math.nan, label="x", low=0, high=9) + an("low", 10, None, label="x", value=3, high=9)
    + an("step", 0, -1, "1", label="x", value=3, low=0, high=9),
    "log_slider": an("low", 0, -1, 10, None, label="x", value=3, high=9),
    "text_box": an("label", *NO_TEXT, value="") + an("value", *NO_TEXT, label="x") + an("follow", 1, label="x", value=""),
    "Page": an("html", None, 5, words="") + an("words", None, 5, html=""),
    "Explorer": an("draw", None, "x", controls={}) + an("controls", None, [], {1: slider("x", 1, 0, 2)}, {"n": 3}, draw=str)
    + an("wait", -1, None, draw=str, controls={}),
    "Picture": an("figure", None, "x", alt="x") + an("alt", None, 5, "", figure=FIGURE),
    "new_figure": an("width", 0, None, "8", math.nan) + an("rows", 0, 1.5, None),
    "bars": an("labels", None, [], "ab", 3, values=[1.0], alt="x")
    + an("values", None, "a", [None], ["a"], 3, [1.0, 2.0], [math.nan], {}, {"a": ["x"]}, [[1.0]], labels=["a"], alt="x")
    + an("alt", None, "", labels=["a"], values=[1]) + an("show_values", "abc", 3, None, labels=["a"], values=[1], alt="x")
    + an("limit", "1", math.nan, labels=["a"], values=[1], alt="x"),
    "heat_map": an("matrix", None, "a", [1.0], [["a"]], [[1.0, 2.0]], 3, **LABELLED)
    + an("low", "0", 2, matrix=[[1.0]], high=1, **LABELLED) + an("show_values", "abc", 3, matrix=[[1.0]], **LABELLED),
    "lines": an("series", None, [], {"a": 3}, {"a": ([1], None)}, {"a": ([1], [1, 2])}, {"a": (["x"], [1])}, **PLOT)
    + an("levels", {"a": "x"}, [1], {"a": math.nan}, series={}, **PLOT) + an("x_label", None, series={}, alt="x", y_label="y"),
    "passed": an("name", None, len, [1]),
}
ROWS = [(name, *row) for name, rows in BAD.items() for row in rows]


@pytest.fixture(scope="module")
def ours():
    return GPT.from_text("abcd " * 200, **SIZE | {"d_model": 20})


def public() -> set[str]:
    """What `minigpt.classroom` exports and takes arguments."""
    found = {name: thing for name, thing in vars(classroom).items() if callable(thing) and name not in ELSEWHERE}
    return {name for name, thing in found.items() if inspect.signature(thing).parameters}


def test_every_door_has_its_rows():
    assert {name for name in public() if not name.startswith(("_", "check_"))} == set(BAD)


@pytest.mark.parametrize(("name", "argument", "value", "good"), ROWS,
                         ids=[f"{name}-{argument}-{i}" for i, (name, argument, *_) in enumerate(ROWS)])
def test_what_is_wrong_is_answered_at_the_call_in_a_sentence(ours, name, argument, value, good):
    given = {key: ours if thing is Ours else thing for key, thing in (good | {argument: value}).items()}
    given |= given.pop("size", {})
    with pytest.raises((TypeError, ValueError)) as caught:
        getattr(classroom, name)(**given)
    sentence = str(caught.value)
    assert re.search(rf"\b{argument}\b", sentence) and " must " in sentence, sentence
    assert re.search(", not |lone surrogate|it is empty", sentence), sentence
    raised_in = traceback.extract_tb(caught.value.__traceback__)[-1].filename
    assert Path(raised_in).is_relative_to(PACKAGE), raised_in


def test_a_check_takes_its_seed_as_it_has_said_it():
    for seed in ("a", -1, 2 ** 32, 1.5):
        with pytest.raises((TypeError, ValueError), match="seed must be "):
            classroom.check_average(lambda x: x, seed=seed)


# ---- the guards themselves

@pytest.mark.parametrize("values", [[1, 2], (1, 2), range(1, 3), np.array([1, 2]), torch.tensor([1, 2]), {1: 0, 2: 0}.keys()])
def test_a_list_may_be_of_any_kind_that_has_an_order(values):
    assert [int(value) for value in doors.listed("numbers")("x", values)] == [1, 2]


def test_numbers_for_a_picture_come_from_tensors_of_all_kinds():
    for values in (torch.tensor([0.5], requires_grad=True), torch.tensor([0.5], dtype=torch.bfloat16), [torch.tensor(0.5)]):
        assert doors.array(1)("x", values).tolist() == [0.5]


def test_a_loss_may_be_no_finite_number_and_may_come_as_a_tensor():
    assert doors.a_number("x", torch.tensor(1.5, requires_grad=True)) == 1.5 and math.isnan(doors.a_number("x", math.nan))


def test_a_whole_number_stays_one():
    assert isinstance(doors.finite("x", np.int64(3)), int) and isinstance(doors.finite("x", 3.0), float)
