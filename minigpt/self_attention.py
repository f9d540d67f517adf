"""Causal multi-head attention: how a token gathers what it needs from the tokens before it.

It stands between the embeddings and the feed-forward of every block. The idea and the formula are
those of Vaswani et al., "Attention Is All You Need" (2017), section 3.2. `attention` is the
formula, to be read and to be drawn; `MultiHeadAttention` is the layer that the model uses, which
leaves the same sum to torch's fused kernel. Shapes: B sequences, H heads, T tokens, C = d_model
channels, d_head = C / H of them a head.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt.arguments import integer, number, or_none, takes
from minigpt.device import a_device


@takes(T=integer(0, 1 << 16), device=or_none(a_device))
def causal_mask(T: int, device: torch.device | str | None = None) -> Tensor:
    """Which positions each of `T` positions may look at: itself and those before it.

    Returns (T, T) bool, True at [i, j] where position i may look at position j, that is j <= i.
    """
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention, step by step: softmax(q k^T / sqrt(d_head), where allowed) v.

    `q` is (..., T_q, d_head), `k` and `v` are (..., T_k, d_head), `mask` is bool and broadcasts to
    (..., T_q, T_k), True where a query may look. Returns the output (..., T_q, d_head) and the
    weights (..., T_q, T_k), whose rows sum to 1. Source: Vaswani et al. 2017, equation 1.
    """
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5           # (..., T_q, T_k)
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)  # (..., T_q, T_k)
    return weights @ v, weights


def rotations(T: int, d_head: int, base: float = 10_000.0) -> Tensor:
    """Rotary positions: how each position turns each pair of channels, as cosine and sine.

    Returns (T, d_head / 2, 2). Early pairs turn fast, late ones slowly, as the hands of a clock:
    from 1 radian a position down to nearly 1 / `base`. The product of a query and a key that were
    turned depends on the distance between their positions alone. Source: Su et al., "RoFormer:
    Enhanced Transformer with Rotary Position Embedding" (2021).
    """
    speeds = base ** (-torch.arange(0, d_head, 2) / d_head)     # (d_head / 2,) radians a position
    angles = torch.arange(T)[:, None] * speeds                  # (T, d_head / 2)
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Queries or keys (..., T, d_head) turned by their positions' `rotation` (T, d_head / 2, 2).

    A pair of neighbouring channels is a point in the plane, so a complex number, which a product
    turns.
    """
    wide = torch.promote_types(x.dtype, torch.float32)          # no complex number is of bfloat16s
    pairs = torch.view_as_complex(x.to(wide).view(*x.shape[:-1], -1, 2))  # (..., T, d_head / 2)
    turned = pairs * torch.view_as_complex(rotation.to(wide))
    return torch.view_as_real(turned).view(x.shape).to(x.dtype)


class KeyValueCache:
    """The keys and values of the tokens that one attention layer has read: none is made twice.

    Room for `capacity` tokens is taken once; `append` fills it and returns what is there.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.length = 0
        self.keys = self.values = torch.empty(0)        # later (B, H, capacity, d_head) each

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of T tokens, (B, H, T, d_head); return all so far, their T now `length`."""
        B, H, T, d_head = keys.shape
        if self.length == 0:
            room = (B, H, self.capacity, d_head)
            self.keys, self.values = keys.new_empty(room), values.new_empty(room)
        start, end = self.length, self.length + T
        self.keys[:, :, start:end], self.values[:, :, start:end] = keys, values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


def heads_divide(given: dict) -> None:
    """A relation for `takes`: the heads can share the channels out evenly."""
    d_model, n_heads = given["d_model"], given["n_heads"]
    if d_model % n_heads:
        raise ValueError(f"n_heads must divide d_model: {d_model} channels cannot be shared "
                         f"among {n_heads} heads")


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each on its own d_model / n_heads channels of q, k and v.

    One matrix makes all queries, keys and values (fused QKV, without biases: they are not missed);
    a second mixes the heads' outputs. `dropout` acts on the weights and on the output, in training
    only. Raises ValueError where n_heads does not divide d_model.
    """

    @takes(heads_divide, d_model=integer(1, 1 << 14), n_heads=integer(1), dropout=number(0, 1))
    def __init__(self, d_model: int, n_heads: int, dropout: float = 0.0):
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.projection = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None,
                rotation: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C). With a cache, the T tokens follow those that it holds, and join.

        `rotation` is for rotary positions: what `rotations` gives, for these T tokens.
        """
        q, k, v = self._heads(x, rotation)            # (B, H, T, d_head) each
        start, T = 0, x.shape[1]
        if cache is not None:
            start = cache.length
            k, v = cache.append(k, v)                 # (B, H, start + T, d_head) each
        mask = None
        if start and T > 1:                           # a single newest token may look at everything
            mask = causal_mask(start + T, x.device)[start:]  # (T, start + T)
        out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=start == 0,
                                             dropout_p=self.dropout if self.training else 0.0)
        return self._merge(out)

    def with_weights(self, x: Tensor, rotation: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same output by way of `attention`, and the weights (B, H, T, T).

        For pictures, and to check `forward`.
        """
        q, k, v = self._heads(x, rotation)
        out, weights = attention(q, k, v, causal_mask(x.shape[1], x.device))
        return self._merge(out), weights

    def _heads(self, x: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, C) -> q, k and v, (B, H, T, d_head) each."""
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.n_heads, C // self.n_heads)
        qkv = qkv.permute(2, 0, 3, 1, 4)                # (3, B, H, T, d_head)
        if rotation is None:
            return qkv[0], qkv[1], qkv[2]
        q, k = rotate(qkv[:2], rotation)
        return q, k, qkv[2]

    def _merge(self, out: Tensor) -> Tensor:
        """(B, H, T, d_head) -> (B, T, C)."""
        out = self.projection(out.transpose(1, 2).flatten(2))
        return F.dropout(out, self.dropout) if self.training else out
