"""The playground's widgets, driven without a browser: set a value, read what is shown."""

import html
import re

import pytest

from minigpt import GPT
from minigpt.classroom import next_token, talk


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
    assert "minigpt-written" in widget.text.value
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


def test_enter_in_the_box_writes(gpt):
    widget = talk(gpt, "She")
    widget.controls["length"].value = 10
    widget.controls["prompt"]._handle_custom_msg({"committed": "He was", "enter": True}, [])
    assert "<b><bdi>He was</bdi></b>" in widget.text.value


def test_the_finished_text_is_announced_once(gpt):
    widget, said = talk(gpt, "She"), []
    widget.announcer.observe(lambda change: said.append(change["new"]), "words")
    widget.controls["length"].value = 30
    widget.button.click()
    assert said == ["She" + gpt.generate("She", 30, seed=1)]
    assert "role=\"log\"" not in widget.text.value and "aria-live" not in widget.text.value


def test_a_space_at_the_end_of_a_prompt_is_pointed_out(gpt):
    widget, explorer = talk(gpt, "She was"), next_token(gpt, "She was")
    assert widget.note.value == "" and "ends with a space" not in explorer.output.value
    widget.controls["prompt"].value = explorer.controls["prompt"].value = "She was "
    assert "ends with a space" in widget.note.value and "ends with a space" in explorer.output.value
    bytes_only = GPT.from_text("She was happy. " * 40, vocab_size=256, method="bytes", d_model=16, n_heads=2, n_layers=1,
                               d_ff=32, context_length=32)
    assert talk(bytes_only, "She was ").note.value == ""


def test_at_temperature_0_the_others_stand_in_the_models_order(gpt):
    explorer = next_token(gpt, "She")
    rows = re.findall(r'minigpt-token">([^<]*)<', explorer.output.value)
    explorer.controls["temperature"].value = 0.0
    assert re.findall(r'minigpt-token">([^<]*)<', explorer.output.value) == rows
