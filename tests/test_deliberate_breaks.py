"""The package is broken on purpose, one line at a time, and the check of that part has to notice and to say what it is.

So the checks that students rely on would notice the same mistakes in the finished code, and in their own. Each break
takes something out of the source of one function; one that no longer fits the source fails here, and wants a look.
"""

import inspect
import textwrap

import pytest

from minigpt import batches, model, sampling, self_attention, training
from minigpt.classroom import checks
from minigpt.model import FeedForward, GPTModel, TransformerBlock
from minigpt.self_attention import MultiHeadAttention

CHECKED = {
    checks.check_causal_mask: lambda T: self_attention.causal_mask(T),
    checks.check_attention: lambda *inputs: self_attention.attention(*inputs),
    checks.check_feed_forward: lambda *sizes: model.FeedForward(*sizes),
    checks.check_block: lambda config: model.TransformerBlock(config),
    checks.check_gpt: lambda config: model.GPTModel(config),
    checks.check_batch: lambda *inputs: batches.random_batch(*inputs),
    checks.check_learning_rate: lambda *inputs: training.learning_rate(*inputs),
    checks.check_evaluate: lambda model, ids, n_bytes: training.evaluate(model, batches.TokenizedText(ids, n_bytes)),
    checks.check_next_token_probs: lambda *inputs: sampling.next_token_probs(*inputs),
}

BREAKS = {      # what is broken: owner, function, code, what it becomes, the check that notices, what it says
    "no causal mask": (self_attention, "causal_mask", ".tril()", "", checks.check_causal_mask, "hides nothing"),
    "mask has no effect": (self_attention, "attention", ".masked_fill(~mask, float(\"-inf\"))", "",
                           checks.check_attention, "The mask has no effect"),
    "mask is not used by the layer": (MultiHeadAttention, "forward", "is_causal=start == 0", "is_causal=False",
                                      checks.check_block, "the future is visible"),
    "mask is not used by the model": (MultiHeadAttention, "forward", "is_causal=start == 0", "is_causal=False",
                                      checks.check_gpt, "the future is visible"),
    "no scale": (self_attention, "attention", " / q.shape[-1] ** 0.5", "", checks.check_attention,
                 "Did you divide the scores by √d?"),
    "no softmax": (self_attention, "attention", ".softmax(-1)", "", checks.check_attention, "softmax has not been applied"),
    "no GELU": (FeedForward, "forward", "F.gelu", "", checks.check_feed_forward, "There is no GELU"),
    "dropout in eval mode": (FeedForward, "forward", " if self.training else out", "", checks.check_block,
                             "dropout is on outside training"),
    "no residual around the attention": (TransformerBlock, "forward", "x + self.attention", "self.attention", checks.check_block,
                                         "residual connection around the attention is missing"),
    "no residual around the feed-forward": (TransformerBlock, "_feed_forward", "x + ", "", checks.check_block,
                                            "residual connection around the feed-forward is missing"),
    "no norm before the attention": (TransformerBlock, "forward", "self.norm1(x)", "x", checks.check_block,
                                     "norm1 is never used"),
    "no norm before the feed-forward": (TransformerBlock, "_feed_forward", "self.norm2(x)", "x", checks.check_block,
                                        "norm2 is never used"),
    "no final norm": (GPTModel, "forward", "self.norm(x)", "x", checks.check_gpt, "self.norm is never used"),
    "no positions": (GPTModel, "_embed", " + self.position_embedding.weight[start:end]", "", checks.check_gpt,
                     "The positions are missing"),
    "no shift": (batches, "_windows", "1:]", ":-1]", checks.check_batch, "Your y is x"),
    "last window never drawn": (batches, "random_batch", "len(ids) - context_length", "max(1, len(ids) - context_length - 1)",
                                checks.check_batch, "the last window is never drawn"),
    "warm-up starts at 0": (training, "learning_rate", "(step + 1)", "step", checks.check_learning_rate,
                            "the first step would teach nothing"),
    "floor one step too late": (training, "learning_rate", "steps - 1 - warmup", "steps - warmup",
                                checks.check_learning_rate, "one step too late"),
    "no eval mode in validation": (training, "evaluating", "model.eval()", "pass", checks.check_evaluate,
                                   "asked in training mode"),
    "gradients in validation": (training, "evaluate", "@torch.no_grad()", "", checks.check_evaluate,
                                "with gradients on"),
    "mode not put back": (training, "evaluating", "model.train()", "pass", checks.check_evaluate,
                          "goes in eval mode"),
    "no temperature": (sampling, "next_token_probs", " / temperature", "", checks.check_next_token_probs,
                       "the temperature has no effect"),
    "top-p drops the token that crosses": (sampling, "next_token_probs", "cumsum(-1) - sorted_probs", "cumsum(-1)",
                                           checks.check_next_token_probs, "drop the token that crosses top_p"),
}


@pytest.fixture
def broken(monkeypatch):
    """Replaces one piece of a function's source, in memory."""
    def replace(owner, name: str, code: str, instead: str):
        function = inspect.unwrap(getattr(owner, name))
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(code) == 1, f"{name} no longer has {code!r} exactly once: choose another break"
        names = dict(function.__globals__)
        exec(source.replace(code, instead), names)
        monkeypatch.setattr(owner, name, names[name])
    return replace


@pytest.mark.parametrize("check", CHECKED, ids=lambda check: check.__name__)
def test_the_package_as_it_is_passes_every_check(check):
    check(CHECKED[check])


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize("what", BREAKS)
def test_a_break_of_the_package_is_noticed_and_named(what, broken):
    owner, name, code, instead, check, phrase = BREAKS[what]
    broken(owner, name, code, instead)
    with pytest.raises(checks.Mistake) as caught:
        check(CHECKED[check])
    assert phrase in str(caught.value)
