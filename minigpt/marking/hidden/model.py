"""Hidden questions about 03_model. The truth is the package's, with the same weights."""

import random

import torch
from torch import nn
from torch.nn import functional as F

from minigpt import FeedForward, GPTConfig, GPTModel, TransformerBlock
from minigpt.marking.hidden.framework import (
    Case,
    gradients_agree,
    gradients_of,
    questions,
    shaken,
    sizes,
    somewhere_else,
)


@questions("check_layer_norm")
def layer_norms(odd: bool):
    """Tensors of any shape; odd also: one axis, five, tiny numbers, none that differ."""
    shapes = ([(6,), (1, 1, 4), (2, 1, 3, 1, 5), (3, 300), (2, 1), (3, 2, 4)] if odd
              else [(*shape, random.randint(5, 9)) for shape in sizes(False, 2)])
    for shape in shapes:
        x = torch.randn(shape) * 3 + random.choice((-20, 2))
        if odd:
            x = torch.randn(shape) * 0.003
            x.view(-1, shape[-1])[0] = 1.5
        weight, bias = torch.randn(2, shape[-1])
        yield Case(f"x of shape {shape}", (somewhere_else(x), weight, bias),
                   F.layer_norm(x, shape[-1:], weight, bias))


def module_case(said: str, arguments: tuple, truth: nn.Module, x, odd: bool, others=()):
    """One question to a class: with the weights of `truth` it gives what that gives.

    Or what one of the `others` gives. Odd: and it has their gradients.
    """
    weights = {name: value.detach().clone() for name, value in truth.state_dict().items()}
    out = truth(x)
    direction = torch.randn_like(out)
    leaves = dict(truth.named_parameters(remove_duplicate=False))
    wanted = gradients_of(out, direction, [leaves[name] for name in sorted(weights)])

    def is_right(answer):
        return gradients_agree(answer, out, wanted if odd else None) or any(
            gradients_agree(answer, other, None) for other in others)

    return Case(said, (arguments, weights, x.detach().clone(), direction), is_right, "module")


@questions("check_feed_forward", "minigpt.model.FeedForward.forward")
def feed_forwards(odd: bool):
    """Sizes d_model and d_ff."""
    for B, T, d_model, d_ff in sizes(odd, 4):
        truth, x = shaken(FeedForward(d_model, 3 * d_ff)), torch.randn(B, T, d_model) * 2
        by_tanh = truth.contract(F.gelu(truth.expand(x), approximate="tanh"))   # GPT-2's, as good
        yield module_case(f"d_model = {d_model}, d_ff = {3 * d_ff}, x of shape {tuple(x.shape)}",
                          (d_model, 3 * d_ff), truth, x, odd, [by_tanh])


def a_config(odd: bool, **more) -> GPTConfig:
    """A small configuration."""
    n_heads, d = (1, 1) if odd and random.random() < 0.3 else random.sample(range(2, 5), 2)
    return GPTConfig(**{"vocab_size": 30, "context_length": 9, "d_model": n_heads * d,
                        "n_heads": n_heads, "n_layers": 1, "d_ff": random.randint(7, 19),
                        "dropout": 0.3 if odd else 0.0} | more)


@questions("check_block", "minigpt.model.TransformerBlock.forward",
           "minigpt.model.TransformerBlock.with_weights")
def blocks(odd: bool):
    """Configurations, and tensors (B, T, C)."""
    for shape in ((1, 1), (3, 3), (2, 9)) if odd else ((2, 5), (3, 4), (4, 6)):
        config = a_config(odd)
        truth, x = shaken(TransformerBlock(config)), torch.randn(*shape, config.d_model)
        yield module_case(f"{config} and x of shape {tuple(x.shape)}", (config,), truth, x, odd)


@questions("check_gpt", "minigpt.model.GPTModel.forward", "minigpt.model.GPTModel._embed")
def models(odd: bool):
    """Configurations, and ids (B, T)."""
    for T in (1, 9, 3) if odd else (5, 7, 8):
        config = a_config(odd, n_layers=random.choice((1, 3, 4) if odd else (2, 3)))
        truth = shaken(GPTModel(config))
        ids = torch.randint(config.vocab_size, (random.randint(1, 3), T))
        yield module_case(f"{config} and ids of shape {tuple(ids.shape)}", (config,), truth, ids,
                          odd)
