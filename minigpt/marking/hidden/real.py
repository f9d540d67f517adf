"""Hidden questions about 06_real_model."""

import random

import torch
from torch.nn import functional as F

from minigpt import causal_mask
from minigpt.llama import SwiGLU
from minigpt.marking.hidden.framework import Case, questions, shaken, sizes
from minigpt.marking.hidden.model import module_case


@questions("check_rms_norm", "minigpt.llama.RMSNorm.forward")
def rms_norms(odd: bool):
    """Tensors (B, T, C); odd: of one channel, of zeros, tiny."""
    for B, T, C in sizes(odd, 3):
        x, weight = torch.randn(B, T, C) * 3 + 2, torch.randn(C) + 1
        if odd:
            x *= random.choice((1e-3, 1.0))
            x[0, 0] = 0.0
        yield Case(f"x of shape {(B, T, C)}", (x, weight), F.rms_norm(x, (C,), weight, 1e-5))


@questions("check_swiglu", "minigpt.llama.SwiGLU.forward")
def swiglus(odd: bool):
    """Sizes d_model and d_ff. A gradient is not asked for: the notebook does not train it."""
    for B, T, d_model, d_ff in sizes(odd, 4):
        truth, x = shaken(SwiGLU(d_model, d_ff)), torch.randn(B, T, d_model) * 2
        yield module_case(f"d_model = {d_model}, d_ff = {d_ff}, x of shape {tuple(x.shape)}",
                          (d_model, d_ff), truth, x, False)


@questions("check_grouped_heads", "minigpt.llama.GroupedHeads.forward",
           "minigpt.llama.GroupedHeads.with_weights")
def grouped_heads(odd: bool):
    """Queries, and fewer heads of keys and values; odd: one group, as many groups as heads."""
    for B, T, d, G, n in ([(1, 1, 8, 1, 3), (2, 6, 8, 3, 1), (3, 9, 16, 1, 1), (1, 40, 2, 2, 5)]
                          if odd else [(2, *shape) for shape in sizes(False, 4)]):
        q = torch.randn(B, G * n, T, d) * 2
        k, v = torch.randn(B, G, T, d) * 2, torch.randn(B, G, T, d)
        mask = causal_mask(T)
        yield Case(f"q of shape {tuple(q.shape)} and {G} groups", (q, k, v, mask),
                   F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True))


@questions("check_dequantise")
def dequantised(odd: bool):
    """Packed bytes, scales and minimums; odd: one block, many, all bits set."""
    for N in (1, 60) if odd else random.sample(range(2, 9), 4):
        packed = torch.randint(256, (N, 16), dtype=torch.uint8)
        if odd:
            packed[0] = 255
        scale, minimum = torch.rand(N, 1) * 0.2 + 0.01, -torch.rand(N, 1)
        counts = torch.cat([packed & 15, packed >> 4], -1).float()
        yield Case(f"{N} blocks", (packed, scale, minimum), counts * scale + minimum)
