"""Sliders and boxes, as the kernel sees them. Their looks and keys are tested in a browser."""

import pytest
from traitlets import TraitError

from minigpt.classroom.controls import log_slider, option_slider, slider, text_box


def test_a_slider_counts_in_whole_numbers_where_its_numbers_are():
    assert slider("n", 3, 0, 9).value == 3 and isinstance(slider("n", 3, 0, 9).value, int)
    assert isinstance(slider("t", 1, 0.1, 2.0).value, float)
    assert log_slider("learning rate", 1e-3, 1e-5, 1e-1).value == pytest.approx(1e-3)


def test_a_slider_stays_within_its_ends():
    temperature = slider("temperature", 0.8, 0.0, 2.0, 0.05)
    for asked, got in ((3.0, 2.0), (-1, 0.0), (0.73, 0.73)):
        temperature.value = asked
        assert temperature.value == got
    layers = slider("layers", 3, 0, 9)
    for asked, got in ((12, 9), (-1, 0), (0, 0)):
        layers.value = asked
        assert layers.value == got and isinstance(layers.value, int)
    with pytest.raises(TraitError, match="temperature must be a finite number, not nan"):
        temperature.value = float("nan")


def test_an_option_slider_has_the_options_values_and_nothing_else():
    top_k = option_slider("top-k", "off", (1, 2, "off"))
    assert (top_k.value, top_k.index, top_k.labels) == ("off", 2, ["1", "2", "off"])
    seen = []
    top_k.observe(lambda change: seen.append(change["new"]), "value")
    top_k.index = 0                                     # as the page sets it
    assert top_k.value == 1 and seen == [1]
    top_k.value = 2
    assert top_k.index == 1
    with pytest.raises(TraitError, match="top-k must be one of 1, 2, off, not 7"):
        top_k.value = 7


def test_a_text_box_takes_what_is_committed_and_tells_of_enter():
    box, heard = text_box("prompt", "It is", follow=False), []
    box.on_enter(heard.append)
    box._handle_custom_msg({"committed": "She was"}, [])
    assert box.value == "She was" and heard == []
    box._handle_custom_msg({"committed": "She is", "enter": True}, [])
    assert box.value == "She is" and heard == ["She is"]
