"""The recipes, and what of a preset may be changed."""

from dataclasses import FrozenInstanceError, replace

import pytest

from minigpt.model import GPTConfig
from minigpt.presets import PRESETS, Recipe, preset, recipe


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_whole_and_changes_nothing_by_being_asked_for(name):
    found = preset(name)
    assert found is PRESETS[name] and recipe(name) == found.recipe
    size = {key: value for key, value in found.size.items() if key != "method"}
    assert GPTConfig(**size).n_heads and set(found.budget) <= {"steps", "seconds"} and len(found.budget) == 1


def test_the_reference_is_the_references():
    """As README says of it: one layer of 256 channels, Adam, 16,384 steps."""
    size, given, budget = (getattr(preset("reference"), part) for part in ("size", "recipe", "budget"))
    assert (size["context_length"], size["d_model"], size["n_heads"], size["n_layers"], size["d_ff"]) == (32, 256, 4, 1, 1024)
    assert (given.optimizer, given.batches, given.batch_size, given.learning_rate) == ("adam", "random", 64, 1e-3)
    assert budget == {"steps": 16_384}


def test_what_is_given_takes_the_place_of_the_presets_and_muons_rate_moves_along():
    usual = preset("classroom").recipe
    assert recipe("classroom", batch_size=4) == replace(usual, batch_size=4)
    halved = recipe("classroom", learning_rate=usual.learning_rate / 2, label_smoothing=0.1, accumulate=2)
    assert halved.muon_learning_rate == pytest.approx(usual.muon_learning_rate / 2)
    assert (halved.label_smoothing, halved.accumulate, halved.batch_size) == (0.1, 2, usual.batch_size)


def test_a_recipe_never_changes():
    with pytest.raises(FrozenInstanceError):
        Recipe().batch_size = 4


@pytest.mark.parametrize("name, value", [("batch_size", 0), ("batch_size", 1 << 17), ("betas", (0.9,)), ("betas", (0.9, 1.0)),
                                         ("floor", 1.5), ("clip", 0), ("warmup", -1), ("decay", "step"), ("bfloat16", 1)])
def test_a_recipe_that_cannot_be_is_refused_by_its_entry(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        Recipe(**{name: value})
