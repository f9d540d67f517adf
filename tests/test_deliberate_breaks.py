"""The package is broken on purpose, one part at a time, and the check of that part has to notice.

So the checks that students rely on would notice the same mistakes in the finished code, and in their own.
"""

import importlib
import inspect
import io
from contextlib import redirect_stdout

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import minigpt.model
import minigpt.sampling
import minigpt.training
from minigpt.classroom import checks
from minigpt.model import FeedForward, GPTModel, TransformerBlock

attention_module = importlib.import_module("minigpt.attention")     # `minigpt.attention` may also be the function


def evaluate(model, ids, n_bytes):
    return minigpt.training.evaluate(model, minigpt.training.TokenizedText(ids, n_bytes))


CHECKED = {
    checks.check_causal_mask: lambda T: attention_module.causal_mask(T),
    checks.check_attention: lambda q, k, v, mask: attention_module.attention(q, k, v, mask),
    checks.check_feed_forward: FeedForward,
    checks.check_block: TransformerBlock,
    checks.check_gpt: GPTModel,
    checks.check_batch: lambda *inputs: minigpt.training.random_batch(*inputs),
    checks.check_learning_rate: lambda *inputs: minigpt.training.learning_rate(*inputs),
    checks.check_evaluate: evaluate,
    checks.check_next_token_probs: lambda *inputs: minigpt.sampling.next_token_probs(*inputs),
}


def test_the_package_as_it_is_passes_every_check():
    for check, answer in CHECKED.items():
        check(answer)


def without_mask(patch):
    patch.setattr(attention_module, "causal_mask", lambda T, device=None: torch.ones(T, T, dtype=torch.bool))


def without_mask_in_the_fused_path(patch):
    fused = F.scaled_dot_product_attention
    patch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, is_causal=False, **settings: fused(q, k, v))


def mask_that_is_ignored(patch):
    patch.setattr(attention_module, "_masked", lambda scores, mask: scores)


def without_scale(patch):
    source, scale = inspect.getsource(attention_module.attention), " / q.shape[-1] ** 0.5"
    assert scale in source
    names = dict(vars(attention_module))
    exec(source.replace(scale, ""), names)
    patch.setattr(attention_module, "attention", names["attention"])


def without_shift(patch):
    def unshifted(ids, context_length, batch_size):
        starts = torch.randint(len(ids) - context_length, (batch_size, 1))
        x = ids[starts + torch.arange(context_length)]
        return x, x
    patch.setattr(minigpt.training, "random_batch", unshifted)


def without_the_last_window(patch):
    draw = torch.randint
    patch.setattr(torch, "randint", lambda n, *rest, **settings: draw(max(1, n - 1), *rest, **settings))


def without_first_residual(patch):
    patch.setattr(TransformerBlock, "forward",
                  lambda self, x, cache=None: self._feed_forward(self.attention(self.norm1(x), cache)))


def without_second_residual(patch):
    patch.setattr(TransformerBlock, "_feed_forward", lambda self, x: self.feed_forward(self.norm2(x)))


def without_first_norm(patch):
    patch.setattr(TransformerBlock, "forward",
                  lambda self, x, cache=None: self._feed_forward(x + self.attention(x, cache)))


def without_second_norm(patch):
    patch.setattr(TransformerBlock, "_feed_forward", lambda self, x: x + self.feed_forward(x))


def without_final_norm(patch):
    def forward(self, ids, cache=None):
        x = self._embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)
    patch.setattr(GPTModel, "forward", forward)


def without_positions(patch):
    patch.setattr(GPTModel, "_embed", lambda self, ids, start=0: self.token_embedding(ids))


def without_gelu(patch):
    patch.setattr(FeedForward, "forward", lambda self, x: self.contract(self.expand(x)))


def without_eval_mode(patch):
    patch.setattr(nn.Module, "eval", lambda self: self)


def without_no_grad(patch):
    patch.setattr(minigpt.training, "evaluate", minigpt.training.evaluate.__wrapped__)


def without_temperature(patch):
    probs = minigpt.sampling.next_token_probs
    patch.setattr(minigpt.sampling, "next_token_probs",
                  lambda logits, temperature, top_k, top_p: probs(logits, min(temperature, 1.0) and 1.0, top_k, top_p))


def floor_never_reached(patch):
    rate = minigpt.training.learning_rate
    patch.setattr(minigpt.training, "learning_rate",
                  lambda step, steps, warmup, peak, floor: rate(step, steps + 1, warmup, peak, floor))


BREAKS = [
    (without_mask, checks.check_causal_mask, "hides nothing"),
    (without_mask_in_the_fused_path, checks.check_block, "the future is visible"),
    (without_mask_in_the_fused_path, checks.check_gpt, "the future is visible"),
    (mask_that_is_ignored, checks.check_attention, "The mask has no effect"),
    (without_scale, checks.check_attention, "Did you divide the scores by √d?"),
    (without_shift, checks.check_batch, "Your y is x"),
    (without_the_last_window, checks.check_batch, "the last window is never drawn"),
    (without_first_residual, checks.check_block, "residual connection around the attention is missing"),
    (without_second_residual, checks.check_block, "residual connection around the feed-forward is missing"),
    (without_first_norm, checks.check_block, "norm1 is never used"),
    (without_second_norm, checks.check_block, "norm2 is never used"),
    (without_final_norm, checks.check_gpt, "self.norm is never used"),
    (without_positions, checks.check_gpt, "The positions are missing"),
    (without_gelu, checks.check_feed_forward, "There is no GELU"),
    (without_eval_mode, checks.check_evaluate, "asked in training mode"),
    (without_no_grad, checks.check_evaluate, "with gradients on"),
    (without_temperature, checks.check_next_token_probs, "the temperature has no effect"),
    (floor_never_reached, checks.check_learning_rate, "one step too late"),
]


@pytest.mark.parametrize(("break_it", "check", "phrase"), BREAKS,
                         ids=[f"{break_it.__name__}-{check.__name__}" for break_it, check, _ in BREAKS])
def test_a_broken_package_is_caught_and_the_break_is_named(break_it, check, phrase, monkeypatch):
    with monkeypatch.context() as patch:
        break_it(patch)
        with pytest.raises(checks.Mistake) as caught:
            check(CHECKED[check])
    assert phrase in str(caught.value)
    with redirect_stdout(io.StringIO()):
        check(CHECKED[check])                                           # mended: green again
