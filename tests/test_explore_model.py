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


def test_the_lengths_are_those_of_the_models_own_stream():
    gpt = GPT.from_text("She was happy. He was not! " * 40, vocab_size=270, d_model=16, n_heads=2, n_layers=1, d_ff=0,
                        context_length=32, positions="learned")
    norms = explore.residual_norms(gpt, "She was")
    ids = torch.tensor([gpt.tokenizer.encode("She was")])
    model = gpt.model.eval()
    x = model.token_embedding(ids) + model.position_embedding.weight[:ids.shape[1]]
    added = model.blocks[0](x) - x
    assert list(norms) == ["embeddings", "attention 1"]
    expected = [vectors.norm(dim=-1).mean().item() for vectors in (x, added)]
    assert list(norms.values()) == pytest.approx(expected, rel=1e-4)
    assert not any(block._forward_pre_hooks or block.attention._forward_hooks for block in model.blocks)


@pytest.mark.parametrize(("amount", "units", "words"), [
    (0.0012, explore.UNITS_OF_TIME, "1.2 ms"), (1.05, explore.UNITS_OF_TIME, "1.05 s"),
    (7200, explore.UNITS_OF_TIME, "2 hours"), (2e-5, explore.UNITS_OF_TIME, "0.02 ms"),
    (500 * 86_400, explore.UNITS_OF_TIME, "500 days"), (2.5e9, explore.UNITS_OF_MEMORY, "2.5 GB"),
    (63.7e6, explore.UNITS_OF_MEMORY, "63.7 MB"), (900, explore.UNITS_OF_MEMORY, "0.9 kB")])
def test_amounts_are_told_in_units_that_fit(amount, units, words):
    assert explore.measured(amount, units) == words


def test_a_loss_that_does_not_fall_is_not_said_to_fall():
    assert "falls from 4.16 to 0.02" in explore.overfit_picture([4.16, 1.0, 0.02], 64).alt
    assert "Over 3 steps the loss falls from 4.16 to 3.00 nats per token, with a low of 0.02 on the way." in (
        explore.overfit_picture([4.16, 0.02, 3.0], 64).alt)
    assert "Over 1 step the loss is 4.16 nats per token." in explore.overfit_picture([4.16], 64).alt
    assert "the loss has not been measured" in explore.overfit_picture([], 64).alt
    assert "with 1 layer and" in explore.sizes_picture(explore.GPTConfig(n_layers=1)).alt
    assert "rises from 0.02 to 4.16" in explore.overfit_picture([0.02, 1.0, 4.16], 64).alt
