"""The model's explorers and the arithmetic behind them."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from minigpt import GPT, GPTConfig, GPTModel
from minigpt.classroom import explore_model as explore


@pytest.mark.parametrize("config", [GPTConfig(), GPTConfig(50, 8, 12, 3, 4, 0),
                                    GPTConfig(64, 16, 32, 4, 2, 64, positions="rotary")])
def test_the_parts_add_up_to_the_model(config):
    assert sum(config.parameter_counts().values()) == GPTModel(config).n_parameters


def test_operations_are_those_that_torch_counts():
    config = GPTConfig(64, 16, 32, 4, 2, 128)
    model, ids = GPTModel(config), torch.randint(64, (3, 16))
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
    # Torch's counter knows that the first layer's input needs no gradient, and counts attention's backward once more.
    assert explore.flops_per_token(config) * ids.numel() == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_the_size_explorer_shows_the_counts_of_its_sliders():
    explorer = explore.size_explorer()
    for name, value in {"vocab_size": 512, "d_model": 64, "n_layers": 3, "d_ff": 0, "context_length": 32}.items():
        explorer.controls[name].value = value
    expected = GPTModel(GPTConfig(512, 32, 64, 4, 3, 0)).n_parameters
    assert explorer.error is None and f"{expected:,} parameters" in explorer.output.value


def test_layer_norm_ends_at_mean_0_whatever_came_in():
    explorer = explore.norm_explorer()
    explorer.controls["scale"].value, explorer.controls["shift"].value = 3.0, -4.0
    picture = explorer.draw(**explorer.values)
    before, after = ([bar.get_width() for bar in axes.containers[0]] for axes in picture.figure.axes)
    assert before == pytest.approx([2.0, -7.0, -2.5, 5.0, -4.0])
    assert sum(after) == pytest.approx(0, abs=1e-5) and sum(x * x for x in after) / 5 == pytest.approx(1, abs=1e-3)


def test_the_stream_is_the_sum_of_what_its_parts_add():
    gpt = GPT.from_text("She was happy. He was not! " * 40, vocab_size=270, d_model=16, n_heads=2, n_layers=2, d_ff=32,
                        context_length=32)
    norms = explore.residual_norms(gpt, "She was")
    assert list(norms) == ["embeddings", "attention 1", "feed-forward 1", "attention 2", "feed-forward 2"]
    bars = [bar.get_width() for bar in explore.residual_picture(gpt, "She was").figure.axes[0].containers[0]]
    assert bars == pytest.approx(list(norms.values()))
