"""The widgets of 06_real_model."""

import asyncio
import sys
from pathlib import Path

import pytest
import torch

from minigpt import GPT
from minigpt.classroom import attention_explorer, bits_explorer, chat, head_explorer, next_token, switched_off, talk
from minigpt.classroom import explore_real as real
from minigpt.classroom.doors import Missing
from minigpt.classroom.explore_heads import queries_and_keys

sys.path.insert(0, str(Path(__file__).parent))

import real_model  # noqa: E402


@pytest.fixture(scope="module")
def ours():
    return GPT.pretrained()


# ------------------------------------------------------------------------------------------------------------------ bits

@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_number_is_wrong_by_half_a_scale_at_most(bits):
    weight = torch.randn(5, 64)
    blocks = weight.view(5, 2, 32)
    scale = (blocks.amax(-1) - blocks.amin(-1)) / (2 ** bits - 1)
    error = (real.in_bits(weight, bits) - weight).abs().view(5, 2, 32).amax(-1)
    assert (error <= scale * 0.5 + 0.01).all()                  # float16 rounds the minimum a little too
    assert len(real.in_bits(weight, bits)[0, :32].unique()) <= 2 ** bits


def test_four_bits_are_what_llama_cpp_would_store():
    import gguf
    torch.manual_seed(0)                    # where two counts are equally near, each may take its own
    weight = torch.randn(6, 64)
    kind = gguf.GGMLQuantizationType.Q4_1
    theirs = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(weight.numpy(), kind), kind).copy())
    torch.testing.assert_close(real.in_bits(weight, 4), theirs, atol=0.02, rtol=0)


def test_a_block_of_equal_numbers_stays_as_it_is():
    assert torch.allclose(real.in_bits(torch.full((1, 32), 0.25), 2), torch.full((1, 32), 0.25))


def test_fewer_bits_cost_more_and_the_model_itself_is_left_alone(ours):
    text, before = "She was very happy with her sister, and said so.", {n: p.clone() for n, p in ours.model.named_parameters()}
    whole = ours.evaluate(text)
    eight, two = real.losses_in_bits(ours, text, "everything", (8, 2))
    assert abs(eight - whole) < 0.02 < two - whole
    assert all(torch.equal(before[name], p) for name, p in ours.model.named_parameters())
    for part, names in (("attention", ".attention."), ("feed-forward", ".feed_forward."), ("token embeddings", "embedding")):
        rounded = dict(real.gpt_in_bits(ours, 2, part).model.named_parameters())
        changed = {name for name, p in rounded.items() if not torch.equal(p, before[name])}
        assert changed and all(names in name for name in changed)


def test_the_size_on_disk_counts_scales_and_minimums(ours):
    matrices = sum(p.numel() for p in ours.model.parameters() if p.dim() == 2)
    rest = ours.model.n_parameters - matrices
    assert real.megabytes(ours, 4) == pytest.approx((matrices * 5 / 8 + rest * 4) / 1e6)


def test_the_explorer_follows_its_sliders(ours):
    explorer = bits_explorer(ours, "She was very happy with her sister, and said so.", "<b>She")
    losses = {}
    for bits in (8, 2):
        explorer.controls["bits"].value = bits
        losses[bits] = float(explorer.output.value.split("<b>")[1].split("</b>")[0])
    assert explorer.error is None and losses[2] > losses[8] + 0.05
    assert "&lt;b&gt;She" in explorer.output.value and "MB" in explorer.output.value
    explorer.controls["part"].value = "attention"
    assert "MB" not in explorer.output.value
    assert "alt=" in explorer.still


# ------------------------------------------------------------------------------------------------------------- real model

def test_switched_off_heads_add_nothing_and_come_back():
    gpt = real_model.gpt()
    ids, seen = torch.tensor([gpt.tokenizer.encode("The cat sat")]), []
    block = gpt.model.blocks[3]
    before = gpt.model(ids)
    with switched_off(gpt, [(3, 0), (3, 8)]):
        hook = block.attention.projection.register_forward_hook(lambda layer, inputs, out: seen.append(inputs[0]))
        changed = gpt.model(ids)
        hook.remove()
    parts = seen[0].unflatten(-1, (9, 64))
    assert (parts[..., [0, 8], :] == 0).all() and (parts[..., 1:8, :] != 0).any()
    assert not torch.allclose(before, changed)
    assert torch.equal(gpt.model(ids), before)


def test_queries_and_keys_make_the_weights_of_both_models(ours):
    for gpt in (ours, real_model.gpt()):
        q, k = queries_and_keys(gpt, gpt.tokenizer.encode("The cat sat on the mat"))
        weights = gpt.attention_weights("The cat sat on the mat")
        scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5)
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        torch.testing.assert_close(scores.masked_fill(~mask, float("-inf")).softmax(-1), weights, atol=1e-4, rtol=1e-4)


def test_the_widgets_of_the_other_notebooks_take_it():
    gpt = real_model.gpt()
    assert "Paris" in next_token(gpt, "The capital of France is").output.value
    attention = attention_explorer(gpt, "The cat sat")
    attention.controls["layer"].value, attention.controls["head"].value = 30, 9
    assert attention.error is None and "layer 30, head 9" in attention.output.value
    assert head_explorer(gpt, "The cat sat").error is None
    written = talk(gpt, "The capital of France is")
    assert "The capital of France is" in written.text.value


def test_a_conversation_in_the_panel():
    panel = chat(real_model.gpt())
    assert panel.said == [("you", "What is the capital of France?"), ("SmolLM2", "The capital of France is Paris.")]
    assert "Paris." in panel.still
    panel.controls["message"].value, panel.controls["length"].value = "<script>alert(1)</script>", 20
    panel.send()
    assert len(panel.said) == 4 and "<script>" not in panel.shown.value and "&lt;script&gt;" in panel.shown.value
    panel.controls["system"].value = "You are a pirate."
    panel.restart()
    assert panel.said == [] and "pirate" in panel.gpt.tokenizer.decode(panel.chat.ids)


def test_stop_breaks_an_answer_off_and_the_next_one_comes():
    panel = chat(real_model.gpt())
    panel.controls["message"].value, panel.controls["length"].value = "Tell me a long story.", 500

    async def press():
        panel.send()
        while not (len(panel.said) == 4 and panel.said[-1][1]):
            await asyncio.sleep(0.01)
        panel.stop()
        await asyncio.sleep(0.1)
        broken_off = panel.said[-1][1]
        await asyncio.sleep(0.3)
        assert panel.said[-1][1] == broken_off                  # nothing comes any more
        assert panel.gpt.tokenizer.decode(panel.chat.ids).endswith(broken_off + "<|im_end|>\n")
        panel.controls["message"].value, panel.controls["length"].value = "Hello", 20
        panel.send()
        await panel.task
    asyncio.run(press())
    assert panel.said[-2] == ("you", "Hello") and panel.said[-1][1]


def test_an_error_shows_in_the_panel():
    panel = chat(real_model.gpt())
    panel.controls["message"].value = "\ud83d"
    panel.send()
    assert "lone surrogate" in panel.shown.value and 'role="alert"' in panel.shown.value


def test_without_the_weights_everything_says_how_to_get_them(monkeypatch):
    monkeypatch.setattr("minigpt.smollm2.PACKAGE", "no_such_package")
    missing = real.real_model()
    assert "python3 run.py setup real" in repr(missing)
    for use in (lambda: missing.model, lambda: missing.generate("a"), lambda: chat(missing), lambda: next_token(missing, "a")):
        with pytest.raises(Missing, match="python3 run.py setup real") as caught:
            use()
        assert "Traceback" not in "\n".join(caught.value._render_traceback_())
