"""The playground's widgets, driven without a browser: set a value, read what is shown."""

import html
import re

import pytest

from minigpt import GPT
from minigpt.classroom import attention_explorer, next_token, talk


@pytest.fixture(scope="module")
def gpt():
    return GPT.from_text("She was happy. He was not! " * 40, vocab_size=270, d_model=16, n_heads=2, n_layers=2, d_ff=32,
                         context_length=32)


def test_the_button_writes_what_generate_returns(gpt):
    widget = talk(gpt, "She was")
    for name, value in {"length": 20, "temperature": 0.5, "top_k": 5, "top_p": 0.9, "seed": 7}.items():
        widget.controls[name].value = value
    widget.button.click()
    expected = gpt.generate("She was", 20, temperature=0.5, top_k=5, top_p=0.9, seed=7)
    assert re.sub("<[^>]*>", "", widget.text.value) == "She was" + html.escape(expected)


def test_what_is_typed_is_shown_as_text_and_never_as_html(gpt):
    widget = talk(gpt)
    widget.controls["prompt"].value = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202e é🙂"
    widget.controls["length"].value = 10
    widget.button.click()
    assert "<script" not in widget.text.value and "<img" not in widget.text.value
    assert "&lt;script&gt;" in widget.text.value and "é🙂" in widget.text.value


def test_an_empty_and_a_very_long_prompt_are_answered(gpt):
    widget = talk(gpt, "")
    assert "role=\"log\"" in widget.text.value
    widget.controls["prompt"].value = "x" * 100_000
    widget.button.click()
    assert len(widget.text.value) < 20_000 and "Error" not in widget.text.value


def test_an_error_while_writing_is_shown(gpt, monkeypatch):
    widget = talk(gpt)
    monkeypatch.setattr(gpt, "stream", lambda *arguments, **named: 1 / 0)
    widget.button.click()
    assert "ZeroDivisionError" in widget.text.value and 'role="alert"' in widget.text.value


def shown_probabilities(explorer) -> list[float]:
    return [float(p) for p in re.findall(r">(\d\.\d{3})<", explorer.output.value)]


def test_the_bars_follow_the_temperature_and_keep_their_order(gpt):
    explorer = next_token(gpt, "She")
    for temperature in (0.3, 1.0, 2.0):
        explorer.controls["temperature"].value = temperature
        tokens, probabilities = gpt.next_token_probs("She", temperature)
        assert shown_probabilities(explorer) == pytest.approx(probabilities[:10].tolist(), abs=5e-4)
    explorer.controls["temperature"].value = 0.0
    assert shown_probabilities(explorer) == [1.0] and explorer.output.value.count("0 (cut)") == 9


def test_top_k_cuts_all_but_k_bars(gpt):
    explorer = next_token(gpt, "She")
    explorer.controls["top_k"].value = 3
    assert explorer.output.value.count("0 (cut)") == 7 and sum(shown_probabilities(explorer)) == pytest.approx(1, abs=2e-3)


def test_the_attention_picture_shows_the_chosen_head_and_hides_the_future(gpt):
    explorer = attention_explorer(gpt, "She was happy")
    for layer, head in ((1, 1), (2, 2)):
        explorer.controls["layer"].value, explorer.controls["head"].value = layer, head
        picture = explorer.draw(**explorer.values)
        drawn = picture.figure.axes[0].images[0].get_array()
        weights = gpt.attention_weights("She was happy")[layer - 1, head - 1].numpy()
        assert drawn.filled(0) == pytest.approx(weights, abs=1e-6)
        assert drawn.mask[0, 1:].all() and not drawn.mask[-1].any()
        assert f"layer {layer}, head {head}" in picture.alt
