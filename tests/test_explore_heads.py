"""The maps of a model's heads, driven without a browser: read back from the table that is shown."""

import re

import numpy as np
import pytest
import torch

from minigpt import GPT, attention, causal_mask
from minigpt.classroom import attention_explorer, head_explorer
from minigpt.classroom.explore_heads import SHOWN_TOKENS, map_in_words, queries_and_keys, telling_head

TEXT = "She was happy"


@pytest.fixture(scope="module", params=["learned", "rotary"])
def gpt(request):
    gpt = GPT.from_text("She was happy. He was not! " * 40, vocab_size=270, d_model=16, n_heads=2, n_layers=3, d_ff=32,
                        context_length=32, positions=request.param)
    for block in gpt.model.blocks:                      # untrained weights are so small that all heads look alike
        block.attention.qkv.weight.data.mul_(20)
    return gpt


def drawn(explorer) -> np.ma.MaskedArray:
    """The numbers in the cells, to two decimals; masked where the future is hatched."""
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row)
            for row in re.findall(r"<tr>(.*?)</tr>", explorer.output.value.partition("<tbody>")[2])]
    numbers = [[float(cell.replace("≈ ", "")) if cell else np.nan for cell in row] for row in rows]
    return np.ma.masked_invalid(numbers)


def test_with_the_mask_and_temperature_1_the_picture_is_the_models_own_attention(gpt):
    explorer = head_explorer(gpt, TEXT)
    for layer, head in ((1, 1), (2, 2), (3, 1)):
        explorer.controls["layer"].value, explorer.controls["head"].value = layer, head
        weights = gpt.attention_weights(TEXT)[layer - 1, head - 1].numpy()
        assert drawn(explorer).filled(0) == pytest.approx(weights, abs=0.0051)
        assert drawn(explorer).mask[0, 1:].all() and f"layer {layer}, head {head}" in explorer.output.value


def test_without_the_mask_the_future_has_weights_and_rows_still_sum_to_1(gpt):
    explorer = head_explorer(gpt, TEXT)
    explorer.controls["mask"].value = False
    weights = drawn(explorer)
    assert not weights.mask.any() and weights[0, 1:].sum() > 0.05
    assert weights.data.sum(1) == pytest.approx([1] * len(weights), abs=0.005 * len(weights))
    assert "The future is not hidden" in explorer.output.value


def test_a_low_temperature_chooses_and_a_high_one_averages(gpt):
    explorer = head_explorer(gpt, TEXT)
    sharpest = []
    for temperature in (0.1, 1, 10):
        explorer.controls["temperature"].value = temperature
        last = drawn(explorer)[-1]
        sharpest.append(last.max())
        assert last.sum() == pytest.approx(1, abs=0.005 * len(last))
    assert sharpest[0] > sharpest[1] > sharpest[2] and sharpest[2] < 2.1 / len(last)


def test_queries_and_keys_are_those_that_make_the_models_weights(gpt):
    q, k = queries_and_keys(gpt, gpt.tokenizer.encode(TEXT))
    _, weights = attention(q, k, k, causal_mask(q.shape[-2]))
    torch.testing.assert_close(weights, gpt.attention_weights(TEXT))
    assert not any(block.attention.qkv._forward_hooks for block in gpt.model.blocks)      # they were taken away again


@pytest.mark.parametrize("text", ["", " ", "<img src=x onerror=alert(1)>", "a$b$ é🙂\u202e", "x" * 5000])
@pytest.mark.parametrize("widget", [attention_explorer, head_explorer])
def test_whatever_is_typed_is_drawn_and_never_becomes_html(gpt, widget, text):
    explorer = widget(gpt, TEXT)
    explorer.controls["text"].value = text
    assert explorer.error is None and "<img" not in explorer.output.value
    assert explorer.output.value.count("<figure") == 1


def test_an_error_while_drawing_is_shown(gpt, monkeypatch):
    explorer = head_explorer(gpt, TEXT)
    monkeypatch.setattr(gpt.model, "attention_weights", lambda ids: 1 / 0)
    explorer.controls["mask"].value = False
    assert "ZeroDivisionError" in explorer.output.value and 'role="alert"' in explorer.output.value


def test_a_long_text_is_cut_and_the_page_says_so(gpt):
    explorer = attention_explorer(gpt, TEXT)
    assert "minigpt-note" not in explorer.output.value
    explorer.controls["text"].value = "She was happy. " * 20
    assert f"Only its last {SHOWN_TOKENS} are read here" in explorer.output.value
    assert explorer.output.value.count('<th scope="row">') == SHOWN_TOKENS
    assert f"for {SHOWN_TOKENS} tokens" in explorer.output.value


def test_the_first_row_shown_is_the_first_token_that_is_read(gpt):
    """Whatever was cut away, the first row gives all its weight to itself, as the text around it says."""
    explorer = attention_explorer(gpt, "She was happy. " * 20)
    first_row = explorer.output.value.partition("<tbody>")[2].partition("</tr>")[0]
    assert first_row.count("minigpt-hidden") == SHOWN_TOKENS - 1 and "#fde725" in first_row      # viridis at 1


def test_labels_of_every_script_stand_in_the_table_as_they_are(gpt):
    explorer = attention_explorer(GPT.from_text("源氏 🙂 नमस्ते " * 100, vocab_size=300, d_model=16, n_heads=2, n_layers=1,
                                                d_ff=32, context_length=32), "源氏 🙂 नमस्ते")
    labels = re.findall(r'<th scope="row">([^<]*)</th>', explorer.output.value)
    assert "".join(labels).replace("␣", " ").replace("◌", "") == "源氏 🙂 नमस्ते" and "U+" not in explorer.output.value


def test_the_explorer_opens_on_a_head_that_looks_at_another_token():
    weights = torch.eye(4).repeat(2, 2, 1, 1)                                   # every head looks at itself …
    weights[0, 1] = torch.tensor([[1., 0, 0, 0]] * 4)                           # … or at the first token …
    weights[1, 0] = torch.tensor([[1., 0, 0, 0], [.5, .5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])    # … but one
    assert telling_head(weights) == (2, 1)


def test_the_map_follows_a_new_model(gpt):
    from minigpt.classroom.model_changes import trained
    explorer = head_explorer(gpt, TEXT)
    before = explorer.output.value
    for block in gpt.model.blocks:
        block.attention.qkv.weight.data.mul_(0.2)
    explorer_of_now = head_explorer(gpt, TEXT)
    explorer_of_now.controls["layer"].value = explorer.controls["layer"].value
    explorer_of_now.controls["head"].value = explorer.controls["head"].value
    trained(gpt)
    assert explorer.output.value == explorer_of_now.output.value != before
    for block in gpt.model.blocks:                      # other tests have this model too
        block.attention.qkv.weight.data.mul_(5)


def test_the_words_for_a_map_are_true_of_one_token_and_of_two():
    one = map_in_words(["a"], torch.ones(1, 1), 1, 1, masked=False)
    assert one == "A full square of weights for 1 token in layer 1, head 1. The last token, a, looks most at a: 1.00."
    two = map_in_words(["a", "b"], torch.tensor([[.5, .5], [.7, .3]]), 1, 2, masked=False)
    assert "for 2 tokens" in two and "b, looks most at a: 0.70. The future is not hidden" in two
