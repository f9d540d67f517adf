"""Causal multi-head attention: how a token gathers what it needs from the tokens before it.

Third stop of the pipeline: text -> token ids -> embeddings -> [attention, feed-forward] x n_layers -> logits. The idea and
the formula are those of Vaswani et al., "Attention Is All You Need" (2017), section 3.2. `attention` is the formula, to be
read and to be drawn; `MultiHeadAttention` is the layer that the model uses, which leaves the same sum to torch's fused
kernel. Shapes: B sequences, H heads, T tokens, C = d_model = H * d_head channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt.arguments import find_device, instance, integer, number, shown


def causal_mask(T: int, device: torch.device | str | None = None) -> Tensor:
    """Which positions each of `T` positions may look at: itself and those before it.

    Returns (T, T) bool, True at [i, j] where position i may look at position j, that is j <= i.
    """
    integer("T", T, low=0, high=1 << 16)
    if not (device is None or isinstance(device, torch.device)):
        device = find_device(device)
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention, step by step: softmax(q k^T / sqrt(d_head), where allowed) v.

    `q` is (..., T_q, d_head), `k` and `v` are (..., T_k, d_head), `mask` is bool and broadcasts to (..., T_q, T_k), True
    where a query may look. Returns the output (..., T_q, d_head) and the weights (..., T_q, T_k), whose rows sum to 1.
    Raises TypeError for a mask that is not bool, ValueError for shapes that do not fit, or a query that may look nowhere.
    Source: Vaswani et al. 2017, equation 1.
    """
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise TypeError(f"{name} must be a tensor of floating-point numbers, not {shown(tensor)}")
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"mask must be a bool tensor, True where a query may look, not {shown(mask)}")
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"q, k and v must be of one dtype, not {q.dtype}, {k.dtype}, {v.dtype}")
    if (q.dim() < 2 or k.shape != v.shape or q.shape[:-2] != k.shape[:-2] or q.shape[-1] != k.shape[-1]
            or q.shape[-1] == 0):
        raise ValueError("q, k and v must be (..., T, d_head) with one d_head, k and v alike, "
                         f"not {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}")
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5          # (..., T_q, T_k)
    weights = _masked(scores, mask).softmax(-1)                    # (..., T_q, T_k)
    return weights @ v, weights


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    try:
        mask = mask.expand(scores.shape)
    except RuntimeError:
        raise ValueError(f"mask must broadcast to the scores' shape {tuple(scores.shape)}, "
                         f"not {tuple(mask.shape)}") from None
    if not mask.any(-1).all():
        raise ValueError("mask must let every query look at one key at least, not at none")
    return scores.masked_fill(~mask, float("-inf"))


def check_activations(x, d_model: int) -> None:
    """Raise TypeError or ValueError unless `x` is (..., d_model)."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a tensor of floating-point numbers, not {shown(x)}")
    if x.shape[-1:] != (d_model,):
        raise ValueError(f"x must be (..., {d_model}), not {tuple(x.shape)}")


def rotations(T: int, d_head: int, base: float = 10_000.0) -> Tensor:
    """Rotary positions: by how much each position turns each pair of channels, (T, d_head / 2, 2) cosines and sines.

    Early pairs turn fast, late ones slowly, as the hands of a clock; the larger the `base`, the slower the last one, and
    the further apart are two places that look alike to it. The product of a query and a key that were turned
    depends on the distance between their positions alone. Source: Su et al., "RoFormer: Enhanced Transformer with Rotary
    Position Embedding" (2021).
    """
    integer("T", T, low=0, high=1 << 16)
    number("base", base, low=1)
    if integer("d_head", d_head, low=2) % 2:
        raise ValueError(f"d_head must be even, a number of pairs, not {d_head}")
    speeds = float(base) ** (-torch.arange(0, d_head, 2) / d_head)    # (d_head / 2,) radians a position
    angles = torch.arange(T)[:, None] * speeds                     # (T, d_head / 2)
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Queries or keys (..., T, d_head) turned by their positions' `rotation` (T, d_head / 2, 2).

    A pair of neighbouring channels is a point in the plane, so a complex number, which a product turns.
    """
    instance("x", x, Tensor)
    instance("rotation", rotation, Tensor)
    if not (x.is_floating_point() and rotation.is_floating_point()) or x.dim() < 2 \
            or rotation.shape != (x.shape[-2], x.shape[-1] // 2, 2) or x.shape[-1] % 2:
        raise ValueError(f"rotation must be (T, d_head / 2, 2) for x (..., T, d_head), floating-point numbers, not "
                         f"{tuple(rotation.shape)} of {rotation.dtype} for {tuple(x.shape)} of {x.dtype}")
    if x.dtype.itemsize < 4:                                       # complex numbers have no fewer bits than two floats
        return rotate(x.float(), rotation).to(x.dtype)
    pairs = torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))                              # (..., T, d_head / 2)
    turned = pairs * torch.view_as_complex(rotation.to(x.dtype))
    return torch.view_as_real(turned).view(x.shape)


class KeyValueCache:
    """The keys and values of the tokens that one attention layer has read, so that none is computed twice.

    Room for `capacity` tokens is taken once; `append` fills it and returns what is there.
    """

    def __init__(self, capacity: int):
        self.capacity = integer("capacity", capacity, low=1)
        self.length = 0
        self.keys = self.values = torch.empty(0)                   # (B, H, capacity, d_head) each, from the first append on

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of T tokens, (B, H, T, d_head) each; return all so far, (B, H, length, d_head) each.

        Raises ValueError where there is no room for them, or where they are not shaped like those before.
        """
        instance("keys", keys, Tensor)
        instance("values", values, Tensor)
        if keys.dim() != 4 or keys.shape != values.shape:
            raise ValueError(f"keys and values must be (B, H, T, d_head) both, not {tuple(keys.shape)} and "
                             f"{tuple(values.shape)}")
        B, H, T, d_head = keys.shape
        if self.length == 0:
            room = (B, H, self.capacity, d_head)
            self.keys, self.values = keys.new_empty(room), values.new_empty(room)
        start, end = self.length, self.length + T
        if (B, H, d_head) != (*self.keys.shape[:2], self.keys.shape[3]) or end > self.capacity:
            raise ValueError(f"keys must be {(*self.keys.shape[:2], T, self.keys.shape[3])} with T at most "
                             f"{self.capacity - start}, not {tuple(keys.shape)}")
        self.keys[:, :, start:end], self.values[:, :, start:end] = keys, values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each on its own d_model / n_heads channels of q, k and v.

    One matrix makes all queries, keys and values (fused QKV, no bias: the keys' bias would cancel in the softmax, and the
    others are not missed); a second mixes the heads' outputs. `dropout` acts on the weights and on the output, in
    training only. Raises ValueError where n_heads does not divide d_model.
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float = 0.0):
        super().__init__()
        integer("d_model", d_model, low=1)
        integer("n_heads", n_heads, low=1)
        if d_model % n_heads:
            raise ValueError(f"n_heads must divide d_model: {d_model} channels cannot be shared among {n_heads} heads")
        self.n_heads = n_heads
        self.dropout = number("dropout", dropout, low=0, high=1)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.projection = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, rotation: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C). With a cache, the T tokens follow those that the cache holds, and join them.

        `rotation` is for rotary positions: what `rotations` gives, for these T tokens.
        """
        if cache is not None:
            instance("cache", cache, KeyValueCache)
        q, k, v = self._heads(x, rotation)                         # (B, H, T, d_head) each
        read_before = 0
        if cache is not None:
            read_before = cache.length
            k, v = cache.append(k, v)                              # (B, H, length, d_head) each
        mask = None
        if read_before and x.shape[1] > 1:                         # a single newest token may look at everything
            mask = causal_mask(read_before + x.shape[1], x.device)[read_before:]             # (T, length)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=read_before == 0,
                                             dropout_p=self.dropout if self.training else 0.0)
        return self._merge(out)

    def with_weights(self, x: Tensor, rotation: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same output by way of `attention`, and the weights (B, H, T, T): for pictures, and to check `forward`."""
        q, k, v = self._heads(x, rotation)
        out, weights = attention(q, k, v, causal_mask(x.shape[1], x.device))
        return self._merge(out), weights

    def _heads(self, x: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, C) -> q, k and v, (B, H, T, d_head) each."""
        check_activations(x, self.qkv.in_features)
        if x.dim() != 3:
            raise ValueError(f"x must be (B, T, {self.qkv.in_features}), not {tuple(x.shape)}")
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.n_heads, C // self.n_heads).permute(2, 0, 3, 1, 4)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return q, k, v

    def _merge(self, out: Tensor) -> Tensor:
        """(B, H, T, d_head) -> (B, T, C)."""
        out = self.projection(out.transpose(1, 2).flatten(2))
        return F.dropout(out, self.dropout) if self.training else out
