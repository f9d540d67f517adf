"""Answers to the exercises of 06_real_model."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from checks_bank.register import right, wrong
from minigpt import attention
from minigpt.classroom.checks import check_dequantise, check_grouped_heads, check_rms_norm, check_swiglu
from minigpt.llama import SwiGLU

# ------------------------------------------------------------------------------------------------------------- RMS norm


@right(check_rms_norm)
def by_torch(x, weight):
    return F.rms_norm(x, x.shape[-1:], weight, 1e-5)


@right(check_rms_norm)
def by_hand(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


@right(check_rms_norm)
def token_by_token(x, weight):
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        root = math.sqrt(sum(float(value) ** 2 for value in row) / len(row) + 1e-5)
        rows.append(row / root * weight)
    return torch.stack(rows).reshape(x.shape)


@right(check_rms_norm)
def by_the_norm_of_a_vector(x, weight):
    return x / (x.norm(dim=-1, keepdim=True) ** 2 / x.shape[-1] + 1e-5) ** 0.5 * weight


@right(check_rms_norm)
def by_a_layer_of_torchs(x, weight):
    layer = nn.RMSNorm(x.shape[-1], eps=1e-5)
    layer.weight = nn.Parameter(weight)
    return layer(x).detach()


@right(check_rms_norm)
def by_einsum(x, weight):
    mean = torch.einsum("...c,...c->...", x, x) / x.shape[-1]
    return torch.einsum("...c,c,...->...c", x, weight, (mean + 1e-5).rsqrt())


@right(check_rms_norm)
def with_the_channels_in_front(x, weight):
    turned = x.movedim(-1, 0)
    divided = turned / torch.sqrt((turned * turned).mean(0) + 1e-5)
    return divided.movedim(0, -1) * weight


def _rms_norm(phrase, formula):
    """Registers one wrong formula: `s` is the mean of the squares."""
    def answer(x, weight):
        return formula(x, weight, x.square().mean(-1, keepdim=True))
    answer.__name__ = "my_rms_norm"
    wrong(check_rms_norm, phrase)(answer)


_rms_norm("that is LayerNorm", lambda x, w, s: F.layer_norm(x, x.shape[-1:]) * w)
_rms_norm("measured from the mean", lambda x, w, s: x / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt() * w)
_rms_norm("RMSNorm only divides", lambda x, w, s: (x - x.mean(-1, keepdim=True)) / (s + 1e-5).sqrt() * w)
_rms_norm("add the squares up", lambda x, w, s: x / (x.square().sum(-1, keepdim=True) + 1e-5).sqrt() * w)
_rms_norm("divides by C − 1", lambda x, w, s: (
    x / (x.square().sum(-1, keepdim=True) / (x.shape[-1] - 1) + 1e-5).sqrt() * w))
_rms_norm("divide by its square root", lambda x, w, s: x / (s + 1e-5) * w)
_rms_norm("You multiply by the root mean square", lambda x, w, s: x * (s + 1e-5).sqrt() * w)
_rms_norm("the mean of |x|", lambda x, w, s: x / (x.abs().mean(-1, keepdim=True) + 1e-5) * w)
_rms_norm("outside the root", lambda x, w, s: x / (s.sqrt() + 1e-5) * w)
_rms_norm("NaN or infinite", lambda x, w, s: x / s.sqrt() * w)
_rms_norm("There is no eps in your root", lambda x, w, s: (x / s.sqrt()).nan_to_num() * w)
_rms_norm("over the positions", lambda x, w, s: x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt() * w)
_rms_norm("over the batch", lambda x, w, s: x / (x.square().mean(0, keepdim=True) + 1e-5).sqrt() * w)
_rms_norm("over positions and channels", lambda x, w, s: (
    x / (x.square().mean((1, 2), keepdim=True) + 1e-5).sqrt() * w))
_rms_norm("over everything at once", lambda x, w, s: x / (x.square().mean() + 1e-5).sqrt() * w)
_rms_norm("The weight is missing", lambda x, w, s: x / (s + 1e-5).sqrt())
_rms_norm("before it is normalised", lambda x, w, s: (
    (x * w) / ((x * w).square().mean(-1, keepdim=True) + 1e-5).sqrt()))
_rms_norm("You add the weight", lambda x, w, s: x / (s + 1e-5).sqrt() + w)
_rms_norm("You use 1 + weight", lambda x, w, s: x / (s + 1e-5).sqrt() * (1 + w))
_rms_norm("Your eps is 1e-06", lambda x, w, s: F.rms_norm(x, x.shape[-1:], w, 1e-6))
_rms_norm("Keep the axis", lambda x, w, s: x / (x.square().mean(-1) + 1e-5).sqrt() * w)
_rms_norm("changes its input x in place", lambda x, w, s: x.div_((s + 1e-5).sqrt()) * w)
_rms_norm("the largest difference is", lambda x, w, s: x / (s + 1e-5).sqrt() * w * 1.5)


# --------------------------------------------------------------------------------------------------------------- SwiGLU

right(check_swiglu)(SwiGLU)


class _Maps(nn.Module):
    """gate, up and down, as asked for."""

    def __init__(self, d_model, d_ff, bias=False):
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=bias)
        self.up = nn.Linear(d_model, d_ff, bias=bias)
        self.down = nn.Linear(d_ff, d_model, bias=bias)


@right(check_swiglu)
class ByHand(_Maps):
    def forward(self, x):
        opened = self.gate(x)
        return self.down(self.up(x) * opened / (1 + torch.exp(-opened)))


@right(check_swiglu)
class OfMatrices(_Maps):
    def forward(self, x):
        opened, passed = x @ self.gate.weight.T, x @ self.up.weight.T
        return (opened * torch.sigmoid(opened) * passed) @ self.down.weight.T


@right(check_swiglu)
class WithTorchsSilu(_Maps):
    def forward(self, x):
        return self.down(self.up(x) * nn.SiLU()(self.gate(x)))


@right(check_swiglu)
class WithAFunction(_Maps):
    def forward(self, x):
        hidden = F.silu(F.linear(x, self.gate.weight)) * F.linear(x, self.up.weight)
        return F.linear(hidden, self.down.weight)


@right(check_swiglu)
class BothMapsAtOnce(_Maps):
    def forward(self, x):
        both = F.linear(x, torch.cat([self.gate.weight, self.up.weight]))
        opened, passed = both.chunk(2, dim=-1)
        return self.down(F.silu(opened) * passed)


@right(check_swiglu)
class TokenByToken(_Maps):
    def forward(self, x):
        rows = [self.down(F.silu(self.gate(row)) * self.up(row)) for row in x.reshape(-1, x.shape[-1])]
        return torch.stack(rows).reshape(x.shape)


def _swiglu(phrase, formula, base=_Maps):
    """Registers a feed-forward that computes `formula(self, x, gate(x), up(x))`."""
    class MySwiGLU(base):
        def forward(self, x):
            return formula(self, x, self.gate(x), self.up(x))
    wrong(check_swiglu, phrase)(MySwiGLU)


_swiglu("have changed places", lambda self, x, g, u: self.down(g * F.silu(u)))
_swiglu("There is no SiLU", lambda self, x, g, u: self.down(g * u))
_swiglu("bent by a sigmoid", lambda self, x, g, u: self.down(g.sigmoid() * u))
_swiglu("bent by a GELU", lambda self, x, g, u: self.down(F.gelu(g) * u))
_swiglu("bent by a ReLU", lambda self, x, g, u: self.down(F.relu(g) * u))
_swiglu("bent by a tanh", lambda self, x, g, u: self.down(g.tanh() * u))
_swiglu("Both ways are bent", lambda self, x, g, u: self.down(F.silu(g) * F.silu(u)))
_swiglu("comes after the product", lambda self, x, g, u: self.down(F.silu(g * u)))
_swiglu("The two are added", lambda self, x, g, u: self.down(F.silu(g) + u))
_swiglu("`up` is never used", lambda self, x, g, u: self.down(F.silu(g)))
_swiglu("The gate is never used: everything", lambda self, x, g, u: self.down(u))
_swiglu("as in an ordinary feed-forward", lambda self, x, g, u: self.down(F.silu(u)))
_swiglu("belongs to the block, which adds it", lambda self, x, g, u: x + self.down(F.silu(g) * u))
_swiglu("another SiLU at the end", lambda self, x, g, u: F.silu(self.down(F.silu(g) * u)))
_swiglu("still d_ff", lambda self, x, g, u: F.silu(g) * u)
_swiglu("the largest difference is", lambda self, x, g, u: 2 * self.down(F.silu(g) * u))


class _WithBias(_Maps):
    def __init__(self, d_model, d_ff):
        super().__init__(d_model, d_ff, bias=True)


class _Shared(_Maps):
    def __init__(self, d_model, d_ff):
        super().__init__(d_model, d_ff)
        self.up = self.gate


class _OtherNames(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.w1 = nn.Linear(d_model, d_ff, bias=False)

    def forward(self, x):
        return x


class _TurnedAround(_Maps):
    def __init__(self, d_model, d_ff):
        super().__init__(d_ff, d_model)


_swiglu("has a bias", lambda self, x, g, u: self.down(F.silu(g) * u), _WithBias)
_swiglu("one and the same module", lambda self, x, g, u: self.down(F.silu(g) * u), _Shared)
_swiglu("it should lead from", lambda self, x, g, u: self.down(F.silu(g) * u), _TurnedAround)
wrong(check_swiglu, "has no part self.gate")(_OtherNames)


# -------------------------------------------------------------------------------------------------------- grouped heads


@right(check_grouped_heads)
def interleaved(q, k, v, mask):
    n = q.shape[1] // k.shape[1]
    return attention(q, k.repeat_interleave(n, dim=1), v.repeat_interleave(n, dim=1), mask)[0]


@right(check_grouped_heads)
def by_torchs_own(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)


@right(check_grouped_heads)
def head_by_head(q, k, v, mask):
    n = q.shape[1] // k.shape[1]
    heads = [attention(q[:, i], k[:, i // n], v[:, i // n], mask)[0] for i in range(q.shape[1])]
    return torch.stack(heads, dim=1)


@right(check_grouped_heads)
def by_broadcasting(q, k, v, mask):
    B, H, T, d = q.shape
    groups = q.view(B, k.shape[1], -1, T, d)
    scores = groups @ k[:, :, None].transpose(-2, -1) / math.sqrt(d)
    return (scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v[:, :, None]).view(B, H, T, d)


@right(check_grouped_heads)
def group_by_group(q, k, v, mask):
    n = q.shape[1] // k.shape[1]
    parts = [attention(heads, k[:, g:g + 1].expand_as(heads), v[:, g:g + 1].expand_as(heads), mask)[0]
             for g, heads in enumerate(q.split(n, dim=1))]
    return torch.cat(parts, dim=1)


@right(check_grouped_heads)
def by_indexing(q, k, v, mask):
    place = torch.arange(q.shape[1]) * k.shape[1] // q.shape[1]
    return attention(q, k[:, place], v[:, place], mask)[0]


@right(check_grouped_heads)
def by_einsum_over_groups(q, k, v, mask):
    B, H, T, d = q.shape
    scores = torch.einsum("bgntd,bgsd->bgnts", q.view(B, k.shape[1], -1, T, d), k) / d ** 0.5
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.einsum("bgnts,bgsd->bgntd", weights, v).reshape(B, H, T, d)


def _grouped(phrase, formula):
    """Registers a wrong answer; `each` shares a tensor's heads out rightly."""
    def answer(q, k, v, mask):
        n = q.shape[1] // k.shape[1]
        return formula(q, k, v, mask, lambda heads: heads.repeat_interleave(n, dim=1), n)
    answer.__name__ = "my_grouped_attention"
    wrong(check_grouped_heads, phrase)(answer)


_grouped("dealt out like cards", lambda q, k, v, m, each, n: (
    attention(q, k.repeat(1, n, 1, 1), v.repeat(1, n, 1, 1), m)[0]))
_grouped("your values do not", lambda q, k, v, m, each, n: attention(q, each(k), v.repeat(1, n, 1, 1), m)[0])
_grouped("your keys do not", lambda q, k, v, m, each, n: attention(q, k.repeat(1, n, 1, 1), each(v), m)[0])
_grouped("All heads use the first group", lambda q, k, v, m, each, n: (
    attention(q, k[:, :1].expand_as(q), v[:, :1].expand_as(q), m)[0]))
_grouped("the mean of the groups", lambda q, k, v, m, each, n: (
    attention(q, k.mean(1, True).expand_as(q), v.mean(1, True).expand_as(q), m)[0]))
_grouped("reverse order", lambda q, k, v, m, each, n: attention(q, each(k.flip(1)), each(v.flip(1)), m)[0])
_grouped("look into the future", lambda q, k, v, m, each, n: F.scaled_dot_product_attention(q, each(k), each(v)))
_grouped("Your mask is turned around", lambda q, k, v, m, each, n: attention(q, each(k), each(v), m.T)[0])
_grouped("not divided by √d", lambda q, k, v, m, each, n: F.scaled_dot_product_attention(q, each(k), each(v), m, scale=1))
_grouped("divide by its root", lambda q, k, v, m, each, n: (
    F.scaled_dot_product_attention(q, each(k), each(v), m, scale=1 / q.shape[-1])))
_grouped("There is no softmax", lambda q, k, v, m, each, n: (
    (q @ each(k).mT / q.shape[-1] ** 0.5).masked_fill(~m, 0) @ each(v)))
_grouped("q meets k", lambda q, k, v, m, each, n: attention(q, each(v), each(v), m)[0])
_grouped("handed over are the values", lambda q, k, v, m, each, n: attention(q, each(k), each(k), m)[0])
_grouped("only the output is wanted", lambda q, k, v, m, each, n: attention(q, each(k), each(v), m))
_grouped("Give the keys and values as many heads", lambda q, k, v, m, each, n: attention(q, k, v, m)[0])
_grouped("right is (B, H, T, d)", lambda q, k, v, m, each, n: attention(q, each(k), each(v), m)[0].transpose(1, 2))
_grouped("the largest difference is", lambda q, k, v, m, each, n: 2 * attention(q, each(k), each(v), m)[0])


# ----------------------------------------------------------------------------------------------------------- dequantise


@right(check_dequantise)
def low_then_high(packed, scale, minimum):
    return torch.cat([packed & 15, packed >> 4], -1) * scale + minimum


@right(check_dequantise)
def by_division(packed, scale, minimum):
    counts = torch.cat((packed % 16, packed // 16), dim=1).float()
    return torch.addcmul(minimum, counts, scale)


@right(check_dequantise)
def byte_by_byte(packed, scale, minimum):
    out = torch.empty(len(packed), 32)
    for row in range(len(packed)):
        for i, byte in enumerate(packed[row].tolist()):
            out[row, i], out[row, i + 16] = byte % 16, byte // 16
    return out * scale + minimum


@right(check_dequantise)
def by_a_shift_each(packed, scale, minimum):
    counts = (packed[:, None, :] >> torch.tensor([[0], [4]])) & 15              # (N, 2, 16)
    return counts.reshape(len(packed), 32) * scale + minimum


@right(check_dequantise)
def by_a_table(packed, scale, minimum):
    bytes_ = torch.arange(256)
    table = torch.stack([bytes_ % 16, bytes_ // 16], -1)[packed.long()]         # (N, 16, 2)
    return table.transpose(1, 2).reshape(len(packed), -1) * scale + minimum


@right(check_dequantise)
def by_numpy(packed, scale, minimum):
    numbers = packed.numpy()
    counts = np.concatenate([numbers & 15, numbers >> 4], axis=1).astype("float32")
    return torch.from_numpy(counts) * scale + minimum


@right(check_dequantise)
def into_its_halves(packed, scale, minimum):
    out = minimum.expand(len(packed), 32).clone()
    out[:, :16] += (packed & 0x0F) * scale
    out[:, 16:] += torch.bitwise_right_shift(packed, 4) * scale
    return out


def _dequantise(phrase, formula):
    """Registers a wrong answer: `low` and `high` are the halves, as float32."""
    def answer(packed, scale, minimum):
        return formula(packed, scale, minimum, (packed & 15).float(), (packed >> 4).float())
    answer.__name__ = "my_dequantise"
    wrong(check_dequantise, phrase)(answer)


def _cat(low, high):
    return torch.cat([low, high], -1)


_dequantise("Your numbers alternate", lambda p, s, m, low, high: torch.stack([low, high], -1).flatten(1) * s + m)
_dequantise("alternate with the low ones", lambda p, s, m, low, high: torch.stack([high, low], -1).flatten(1) * s + m)
_dequantise("come before the low ones", lambda p, s, m, low, high: _cat(high, low) * s + m)
_dequantise("The minimum is missing", lambda p, s, m, low, high: _cat(low, high) * s)
_dequantise("You subtract the minimum", lambda p, s, m, low, high: _cat(low, high) * s - m)
_dequantise("have changed places", lambda p, s, m, low, high: _cat(low, high) * m + s)
_dequantise("before you multiply by the scale", lambda p, s, m, low, high: (_cat(low, high) + m) * s)
_dequantise("the format Q4_0", lambda p, s, m, low, high: (_cat(low, high) - 8) * s + m)
_dequantise("16 times too large", lambda p, s, m, low, high: _cat(low, (p & 240).float()) * s + m)
_dequantise("the low halves twice", lambda p, s, m, low, high: _cat(low, low) * s + m)
_dequantise("the high halves twice", lambda p, s, m, low, high: _cat(high, high) * s + m)
_dequantise("still whole bytes", lambda p, s, m, low, high: _cat(p.float(), high) * s + m)
_dequantise("divide by the scale", lambda p, s, m, low, high: _cat(low, high) / s + m)
_dequantise("these are the counts", lambda p, s, m, low, high: _cat(low, high))
_dequantise("there are 16 counts", lambda p, s, m, low, high: _cat((p % 15).float(), high) * s + m)
_dequantise("right is (N, 32)", lambda p, s, m, low, high: low * s + m)
_dequantise("the largest difference is", lambda p, s, m, low, high: _cat(low, high) * s + m + 0.5)
