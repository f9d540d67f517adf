"""The sliders of 04, driven without a browser."""

import re

import pytest
import torch

from minigpt.classroom import descent_explorer, sampling_explorer, schedule_explorer
from minigpt.training import learning_rate


@pytest.mark.parametrize(("rate", "words"), [(0.01, "; it is still on its way"), (0.3, "has arrived"),
                                             (0.99, "swings from side to side, and is still on its way"),
                                             (1.0, "never settles"), (1.05, "runs away"), (1.05, "the first 8 of 20 steps in it"),
                                             (1.0, ", and 20 steps in it")])
def test_the_descent_follows_its_rate(rate, words):
    explorer = descent_explorer()
    explorer.controls["rate"].value = rate
    assert explorer.error is None and words in explorer.output.value
    w = explorer.draw(rate).figure.axes[0].lines[1].get_xdata()
    assert list(w[:2]) == pytest.approx([4.0, 4.0 - rate * 8])


def test_the_schedule_is_the_packages_own():
    explorer = schedule_explorer()
    for name, value in {"steps": 100, "warmup": 10, "peak": 0.02, "floor": 0.5}.items():
        explorer.controls[name].value = value
    drawn = explorer.draw(**explorer.values).figure.axes[0].lines[0].get_ydata()
    peak = explorer.controls["peak"].value
    assert explorer.error is None
    assert list(drawn) == pytest.approx([learning_rate(step, 100, 10, peak, 0.5 * peak) for step in range(100)])
    explorer.controls["decay"].value = "linear"
    drawn = explorer.draw(**explorer.values).figure.axes[0].lines[0].get_ydata()
    assert list(drawn) == pytest.approx([learning_rate(step, 100, 10, peak, 0.5 * peak, "linear") for step in range(100)])
    for warmup in (0, 200):                             # none at all, and one longer than the run
        explorer.controls["warmup"].value = warmup
        explorer.controls["steps"].value = 50
        assert explorer.error is None


def test_the_five_bars_follow_the_knobs():
    explorer = sampling_explorer(["a", "b", "<i>"], torch.tensor([2.0, 1.0, 0.0]))
    assert re.findall(r">(\d\.\d{3})<", explorer.output.value) == ["0.665", "0.245", "0.090"]
    explorer.controls["top_k"].value = 2
    assert re.findall(r">(\d\.\d{3})<", explorer.output.value) == ["0.731", "0.269"]
    assert "0 (cut)" in explorer.output.value and "<i>" not in explorer.output.value
    explorer.controls["temperature"].value = 0.0
    assert re.findall(r">(\d\.\d{3})<", explorer.output.value) == ["1.000"]


def test_the_schedule_is_told_as_it_is():
    explorer = schedule_explorer()
    for values, words in (({}, "climbs in a straight line to 0.01 over 40 steps, then falls from 0.01 along half a cosine"),
                          ({"warmup": 0}, "The rate falls from 0.01 along"),
                          ({"warmup": 1}, "to 0.01 over 1 step, then falls from 0.01 along"),
                          ({"warmup": 0, "floor": 1.0}, "The rate stays at 0.01."),
                          ({"warmup": 200, "steps": 50}, "The rate climbs in a straight line to 0.0025 over 50 steps.")):
        for name, value in values.items():
            explorer.controls[name].value = value
        assert words in explorer.draw(**explorer.values).alt
