"""Hidden questions about 02_attention. The truth is torch's own attention, and the package's."""

import random

import torch
from torch.nn import functional as F

from minigpt import attention, causal_mask
from minigpt.marking.hidden.framework import (
    Case,
    agrees,
    gradients_agree,
    gradients_of,
    questions,
    sizes,
    somewhere_else,
)


@questions("check_average")
def averages(odd: bool):
    """Tensors (T, C)."""
    for T, C in [*sizes(odd, 2), *([(300, 2)] if odd else [])]:
        x = torch.randn(T, C) + random.choice((0, 3))
        right = x.cumsum(0) / torch.arange(1, T + 1)[:, None]
        yield Case(f"x of shape {(T, C)}", (somewhere_else(x) if odd else x,),
                   lambda answer, right=right: isinstance(answer, torch.Tensor)
                   and agrees(answer.float(), right))         # float64 is as good here


@questions("check_causal_mask", "minigpt.self_attention.causal_mask")
def masks(odd: bool):
    """Sizes T: ordinary ones, and 1 and more than 255."""
    for T in (1, 2, random.randint(257, 300)) if odd else random.sample(range(3, 40), 5):
        yield Case(f"T = {T}", (T,), torch.ones(T, T, dtype=torch.bool).tril())


@questions("check_attention", "minigpt.self_attention.attention",
           "minigpt.self_attention.MultiHeadAttention.with_weights",
           "minigpt.llama.GroupedHeads.with_weights")
def attentions(odd: bool):
    """Queries, keys, values and a mask; odd also: other masks, large scores, gradients."""
    for B, H, T, d in sizes(odd, 4):
        mask = causal_mask(T)
        if odd:
            mask = (torch.rand(T, T) < 0.5) | torch.eye(T, dtype=torch.bool)
        yield from attention_case(torch.randn(3, B, H, T, d), mask, odd)
    if odd:
        large = torch.full((2, 2, 4, 16), 12.0)     # every score about 576 or -576: e^89 overflows
        for sign in (1, -1):
            near = sign * large
            near[..., 0] += torch.randint(2, (2, 2, 4))
            yield from attention_case(torch.stack([large, near, torch.randn(large.shape)]),
                                      causal_mask(4), False)


def attention_case(qkv, mask, with_gradients: bool):
    """One question about q, k and v, (3, B, H, T, d)."""
    q, k, v = (part.clone().requires_grad_() for part in qkv)
    right, said = attention(q, k, v, mask), f"q, k and v of shape {tuple(q.shape)}"
    given = tuple(part.detach().clone() for part in (q, k, v))
    if not with_gradients:
        yield Case(said, (*given, mask), tuple(part.detach() for part in right))
        return
    direction = torch.randn_like(right[0])
    wanted = gradients_of(right[0], direction, [q, k, v])
    yield Case(f"{said}, and its gradients", (direction, *given, mask),
               lambda answer: gradients_agree(answer, right, wanted), "differentiated")


@questions("check_split_heads", "minigpt.self_attention.MultiHeadAttention._heads",
           "minigpt.llama.GroupedHeads._heads")
def splits(odd: bool):
    """Tensors (B, T, C) and a number of heads."""
    for B, T, n_heads, d in sizes(odd, 4):
        x = torch.randn(B, T, n_heads * d)
        right = torch.stack(x.chunk(n_heads, -1), 1)
        yield Case(f"x of shape {tuple(x.shape)} and n_heads = {n_heads}",
                   (somewhere_else(x) if odd else x.clone(), n_heads), right)
        if odd:
            x.requires_grad_()
            out = torch.stack(x.chunk(n_heads, -1), 1)
            direction = torch.randn_like(out)
            wanted = gradients_of(out, direction, [x])
            yield Case(f"x of shape {tuple(x.shape)}, and its gradient",
                       (direction, x.detach().clone(), n_heads),
                       lambda answer, out=out, wanted=wanted: gradients_agree(answer, out, wanted),
                       "differentiated")


@questions("check_multi_head", "minigpt.self_attention.MultiHeadAttention.forward",
           "minigpt.self_attention.MultiHeadAttention.with_weights")
def multi_heads(odd: bool):
    """Inputs (B, T, C) and the weights of the two layers, and the gradients of both."""
    for B, T, n_heads, d in sizes(odd, 4, range(2, 6)):
        C = n_heads * d
        x, qkv = torch.randn(B, T, C), torch.randn(3 * C, C) * (2 / C) ** 0.5
        projection, bias = torch.randn(C, C) / C ** 0.5, torch.randn(C)
        given = tuple(part.clone() for part in (x, qkv, projection, bias))
        x.requires_grad_(), qkv.requires_grad_()
        q, k, v = (part.unflatten(-1, (n_heads, -1)).transpose(1, 2)
                   for part in F.linear(x, qkv).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out = F.linear(mixed.transpose(1, 2).flatten(2), projection, bias)
        direction = torch.randn_like(out)
        wanted = gradients_of(out, direction, [x, qkv])
        said = f"x of shape {tuple(x.shape)} and n_heads = {n_heads}"
        yield Case(said, (direction, *given, n_heads),
                   lambda answer, out=out, wanted=wanted if odd else None: gradients_agree(
                       answer, out, wanted), "linears")
