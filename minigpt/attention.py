"""Causal multi-head attention: how a token gathers what it needs from the tokens before it.

Third stop of the pipeline: text -> token ids -> embeddings -> [attention, feed-forward] x n_layers -> logits. The idea and
the formula are those of Vaswani et al., "Attention Is All You Need" (2017), section 3.2. `attention` is the formula, to be
read and to be drawn; `MultiHeadAttention` is the layer that the model uses, which leaves the same sum to torch's fused
kernel. Shapes: B sequences, H heads, T tokens, C = d_model = H * d_head channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt.arguments import integer, number, shown


def causal_mask(T: int, device: torch.device | str | None = None) -> Tensor:
    """Which positions each of `T` positions may look at: itself and those before it.

    Returns (T, T) bool, True at [i, j] where position i may look at position j, that is j <= i.
    """
    integer("T", T, low=0)
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention, step by step: softmax(q k^T / sqrt(d_head), where allowed) v.

    `q` is (..., T_q, d_head), `k` and `v` are (..., T_k, d_head), `mask` is bool and broadcasts to (..., T_q, T_k), True
    where a query may look. Returns the output (..., T_q, d_head) and the weights (..., T_q, T_k), whose rows sum to 1.
    Raises TypeError for a mask that is not bool, ValueError for shapes that do not fit.
    Source: Vaswani et al. 2017, equation 1.
    """
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise TypeError(f"{name} must be a tensor of floating-point numbers, not {shown(tensor)}")
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"mask must be a bool tensor, True where a query may look, not {shown(mask)}")
    if q.dim() < 2 or q.shape[-1] != k.shape[-1] or k.shape != v.shape:
        raise ValueError("q, k and v must be (..., T, d_head) with one d_head, k and v alike, "
                         f"not {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}")
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5          # (..., T_q, T_k)
    weights = _masked(scores, mask).softmax(-1)                    # (..., T_q, T_k)
    return weights @ v, weights


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    try:
        return scores.masked_fill(~mask, float("-inf"))
    except RuntimeError:
        raise ValueError(f"mask must broadcast to the scores' shape {tuple(scores.shape)}, "
                         f"not {tuple(mask.shape)}") from None


class KeyValueCache:
    """The keys and values of the tokens that one attention layer has read, so that none is computed twice.

    Room for `capacity` tokens is taken once; `append` fills it and returns what is there.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.length = 0
        self.keys = self.values = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, H, T, d_head) keys and values; return all so far, (B, H, length, d_head) each."""
        if self.keys is None:
            B, H, _, d_head = k.shape
            self.keys, self.values = k.new_empty(B, H, self.capacity, d_head), v.new_empty(B, H, self.capacity, d_head)
        start, self.length = self.length, self.length + k.shape[-2]
        self.keys[:, :, start:self.length] = k
        self.values[:, :, start:self.length] = v
        return self.keys[:, :, :self.length], self.values[:, :, :self.length]


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

    def forward(self, x: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C). With a cache, the T tokens follow those that the cache holds, and join them."""
        q, k, v = self._heads(x)                                   # (B, H, T, d_head)
        dropout = self.dropout if self.training else 0.0
        if cache is None or cache.length == 0:
            if cache is not None:
                cache.append(k, v)
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
        else:
            T, (k, v) = q.shape[-2], cache.append(k, v)            # (B, H, length, d_head)
            mask = None if T == 1 else causal_mask(cache.length, x.device)[-T:]      # the newest token sees everything
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self._merge(out)

    def with_weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same output by way of `attention`, and the weights (B, H, T, T): for pictures, and to check `forward`."""
        q, k, v = self._heads(x)
        out, weights = attention(q, k, v, causal_mask(x.shape[1], x.device))
        return self._merge(out), weights

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, C) -> q, k, v stacked: (3, B, H, T, d_head)."""
        return self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)

    def _merge(self, out: Tensor) -> Tensor:
        """(B, H, T, d_head) -> (B, T, C)."""
        return F.dropout(self.projection(out.transpose(1, 2).flatten(2)), self.dropout, self.training)
