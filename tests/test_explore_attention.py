"""The widgets of 02_attention, driven without a browser: set a value, read what is shown."""

import pytest
import torch

from minigpt import attention
from minigpt.classroom import (
    cost_explorer,
    mixing_desk,
    query_explorer,
    saturation_explorer,
)
from minigpt.classroom.explore_attention import (
    KEYS,
    TOKENS,
    VALUES,
    measured_variance,
    saturated,
    saturation_picture,
)


def picture(explorer):
    shown = explorer.draw(**explorer.values)
    return shown[0] if isinstance(shown, list) else shown


# ---------------------------------------------------------------------------------------------------------- mixing desk

def test_equal_scores_mix_the_plain_average():
    desk = mixing_desk()
    assert "3 bars: 0.33 of she, 0.33 of was, 0.33 of glad." in desk.output.value
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
    assert "without the division 0." in explorer.still and len(saturation_picture().figure.axes) == 8


# ------------------------------------------------------------------------------------------------------------------ cost

def test_the_lines_of_the_cost_cross_at_twice_the_channels():
    explorer = cost_explorer()
    for d_model in (64, 4096):
        explorer.controls["d_model"].value = d_model
        matrices, square = (line.get_ydata() for line in picture(explorer).figure.axes[0].lines[:2])
        lengths = picture(explorer).figure.axes[0].lines[0].get_xdata()
        assert ((square > matrices) == (lengths > 2 * d_model)).all() and explorer.error is None


def test_a_weight_that_is_not_0_is_not_shown_as_0():
    desk = mixing_desk()
    desk.controls["score_0"].value, desk.controls["score_1"].value = 4.0, -4.0
    assert "0.0003 of was" in desk.output.value and "0.00 of" not in desk.output.value


def test_what_is_said_of_the_query_is_true_of_this_query():
    explorer = query_explorer()
    assert "the largest to she." in explorer.output.value
    explorer.controls["first"].value = explorer.controls["second"].value = 0.0
    assert "nobody is ahead." in explorer.output.value


def test_the_legend_hides_no_arrow():
    figure = picture(query_explorer()).figure
    figure.canvas.draw()
    (legend,) = figure.legends
    assert legend.get_window_extent().y1 <= figure.axes[0].get_window_extent().y0
