"""The widgets of 02_attention, driven without a browser: set a value, read what is shown."""

import re

import pytest
import torch

from minigpt import GPT
from minigpt.classroom import (
    attention_explorer,
    cost_explorer,
    head_explorer,
    mixing_desk,
    query_explorer,
    saturation_explorer,
)
from minigpt.classroom.explore_attention import (
    KEYS,
    TOKENS,
    VALUES,
    measured_variance,
    queries_and_keys,
    saturated,
    saturation_picture,
)
from minigpt.self_attention import attention, causal_mask

TEXT = "She was happy"


@pytest.fixture(scope="module", params=["learned", "rotary"])
def gpt(request):
    gpt = GPT.from_text("She was happy. He was not! " * 40, vocab_size=270, d_model=16, n_heads=2, n_layers=3, d_ff=32,
                        context_length=32, positions=request.param)
    for block in gpt.model.blocks:                      # untrained weights are so small that all heads look alike
        block.attention.qkv.weight.data.mul_(20)
    return gpt


def picture(explorer):
    shown = explorer.draw(**explorer.values)
    return shown[0] if isinstance(shown, list) else shown


def drawn(explorer):
    return picture(explorer).figure.axes[0].images[0].get_array()


# ---------------------------------------------------------------------------------------------------------- mixing desk

def test_equal_scores_mix_the_plain_average():
    desk = mixing_desk()
    assert "Three bars: 0.33 of she, 0.33 of was, 0.33 of glad." in desk.output.value
    assert "(1.33, 0)" in desk.output.value                              # the mean of (2, 0), (0, 1) and (2, -1)


def test_the_mix_is_the_softmax_of_the_scores_times_the_vectors():
    desk = mixing_desk()
    for i, score in enumerate((3, 1, 2)):
        desk.controls[f"score_{i}"].value = score
    weights = torch.tensor([3., 1., 2.]).softmax(-1)
    assert [bar.get_width() for bar in picture(desk).figure.axes[0].patches] == pytest.approx(weights.tolist())
    assert "<b>(1.82, −0.15)</b>" in desk.output.value and desk.error is None


# -------------------------------------------------------------------------------------------------------- query explorer

def test_the_query_of_the_example_gives_the_shares_on_the_board():
    explorer = query_explorer()
    assert "she 0.67, was 0.09, glad 0.24" in explorer.output.value


@pytest.mark.parametrize("query", [(0, 0), (4, 2), (-4, 4), (-0.5, 3)])
def test_the_shares_follow_the_query(query):
    explorer = query_explorer()
    explorer.controls["first"].value, explorer.controls["second"].value = query
    _, weights = attention(torch.tensor([query], dtype=torch.float) * 2 ** 0.5, KEYS, VALUES,
                           torch.ones(1, 3, dtype=torch.bool))           # the widget's scores are not divided by √d
    assert explorer.error is None
    for token, weight in zip(TOKENS, weights[0], strict=True):
        assert f"{token} {weight:.2f}" in explorer.output.value


# ------------------------------------------------------------------------------------------------------------ saturation

@pytest.mark.parametrize("d", [1, 8, 64, 512])
def test_the_measured_variance_of_a_dot_product_is_the_number_of_channels(d):
    assert measured_variance(d) == pytest.approx(d, rel=0.15)


def test_without_the_division_one_weight_takes_all_and_the_gradient_dies():
    explorer = saturation_explorer()
    explorer.controls["d"].value = 512
    weights, gradient, variance = saturated(512, divide=False)
    assert weights.max() > 0.99 and gradient.abs().max() < 0.01 and variance > 400
    assert "At d = 512, without the division" in explorer.output.value


def test_with_the_division_nothing_changes_as_d_grows():
    explorer = saturation_explorer()
    explorer.controls["divide"].value = True
    heights = []
    for d in (1, 16, 512):
        explorer.controls["d"].value = d
        heights.append([bar.get_height() for bar in picture(explorer).figure.axes[0].patches])
    assert heights[1] == pytest.approx(heights[0], abs=0.03) and heights[2] == pytest.approx(heights[0], abs=0.03)


@pytest.mark.parametrize("divide", [False, True])
def test_the_gradient_shown_is_the_one_that_autograd_computes(divide):
    weights, gradient, variance = saturated(16, divide)
    scores = (torch.tensor([0.5, -1.0, 1.5, 0.0, 1.0]) * variance ** 0.5).requires_grad_()
    scores.softmax(-1).max().backward()
    torch.testing.assert_close(gradient, scores.grad)


def test_readers_without_a_kernel_see_both_rows_at_four_sizes():
    explorer = saturation_explorer()
    assert "the bars collapse onto one" in explorer.still and len(saturation_picture().figure.axes) == 8


# ------------------------------------------------------------------------------------------------------------------ cost

def test_the_lines_of_the_cost_cross_at_twice_the_channels():
    explorer = cost_explorer()
    for d_model in (64, 4096):
        explorer.controls["d_model"].value = d_model
        matrices, square = (line.get_ydata() for line in picture(explorer).figure.axes[0].lines[:2])
        lengths = picture(explorer).figure.axes[0].lines[0].get_xdata()
        assert ((square > matrices) == (lengths > 2 * d_model)).all() and explorer.error is None


# ----------------------------------------------------------------------------------------------------- heads of a model

def test_with_the_mask_and_temperature_1_the_picture_is_the_models_own_attention(gpt):
    explorer = head_explorer(gpt, TEXT)
    for layer, head in ((1, 1), (2, 2), (3, 1)):
        explorer.controls["layer"].value, explorer.controls["head"].value = layer, head
        weights = gpt.attention_weights(TEXT)[layer - 1, head - 1].numpy()
        assert drawn(explorer).filled(0) == pytest.approx(weights, abs=1e-5)
        assert drawn(explorer).mask[0, 1:].all() and f"layer {layer}, head {head}" in explorer.output.value


def test_without_the_mask_the_future_has_weights_and_rows_still_sum_to_1(gpt):
    explorer = head_explorer(gpt, TEXT)
    explorer.controls["mask"].value = False
    weights = drawn(explorer)
    assert not weights.mask.any() and weights[0, 1:].sum() > 0.05
    assert weights.data.sum(1) == pytest.approx([1] * len(weights), abs=1e-5)
    assert "The future is not hidden" in explorer.output.value


def test_a_low_temperature_chooses_and_a_high_one_averages(gpt):
    explorer = head_explorer(gpt, TEXT)
    sharpest = []
    for temperature in (0.1, 1, 10):
        explorer.controls["temperature"].value = temperature
        last = drawn(explorer)[-1]
        sharpest.append(last.max())
        assert last.sum() == pytest.approx(1, abs=1e-5)
    assert sharpest[0] > sharpest[1] > sharpest[2] and sharpest[2] < 2 / len(last)


def test_queries_and_keys_are_those_that_make_the_models_weights(gpt):
    q, k = queries_and_keys(gpt, TEXT)
    _, weights = attention(q, k, k, causal_mask(q.shape[-2]))
    torch.testing.assert_close(weights, gpt.attention_weights(TEXT))
    assert not any(block.attention.qkv._forward_hooks for block in gpt.model.blocks)      # they were taken away again


@pytest.mark.parametrize("text", ["", " ", "<img src=x onerror=alert(1)>", "a$b$ é🙂\u202e", "x" * 5000])
@pytest.mark.parametrize("widget", [attention_explorer, head_explorer])
def test_whatever_is_typed_is_drawn_and_never_becomes_html(gpt, widget, text):
    explorer = widget(gpt, TEXT)
    explorer.controls["text"].value = text
    assert explorer.error is None and "onerror=alert" not in re.sub('alt="[^"]*"', "", explorer.output.value)
    assert explorer.output.value.count("<img") == 1


def test_an_error_while_drawing_is_shown(gpt, monkeypatch):
    explorer = head_explorer(gpt, TEXT)
    monkeypatch.setattr(gpt, "attention_weights", lambda text: 1 / 0)
    explorer.controls["layer"].value = 2
    assert "ZeroDivisionError" in explorer.output.value and 'role="alert"' in explorer.output.value
