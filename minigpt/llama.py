"""What has changed since GPT-2: the parts of a Llama, the architecture of most open models today.

Three parts differ from `model.py`, and none has biases: a norm that does not centre (RMSNorm), a
feed-forward with a gate (SwiGLU), and attention in which several heads share their keys and values.
Rotary positions, the residual stream, the tied head and the forward pass itself are `GPTModel`'s.
Source: Touvron et al., "LLaMA: Open and Efficient Foundation Language Models" (2023), for the first
two; Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head
Checkpoints" (2023), for the third. Shapes: B sequences, T tokens, C = d_model channels, H heads of
d_head channels, G groups of heads, each with one head of keys and values.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt.arguments import instance, integer, number, shown, takes
from minigpt.model import GPTConfig, GPTModel, channels_pair
from minigpt.self_attention import (
    KeyValueCache,
    attention,
    causal_mask,
    heads_divide,
    rotate,
    rotations,
)


def _groups_divide(given: dict) -> None:
    n_heads, n_groups = given["n_heads"], given["n_groups"]
    if n_heads % n_groups:
        raise ValueError(f"n_groups must divide n_heads: {n_heads} heads cannot be shared out "
                         f"equally to {n_groups} groups")


def _as_llamas_are(given: dict) -> None:
    for name, only in {"dropout": 0.0, "positions": "rotary", "tied": True}.items():
        if given[name] != only:
            raise ValueError(f"{name} must be {only!r}, as these parts know nothing else, not "
                             f"{shown(given[name])}")


@takes(heads_divide, channels_pair, _groups_divide, _as_llamas_are, vocab_size=integer(1, 1 << 20),
       context_length=integer(1, 1 << 16), d_model=integer(1, 1 << 14),
       n_heads=integer(1, 1 << 14), n_layers=integer(1, 1000), d_ff=integer(1, 1 << 16),
       n_groups=integer(1, 1 << 14), rotary_base=number(1), norm_eps=number(0))
@dataclass(frozen=True)
class LlamaConfig(GPTConfig):
    """The size of a Llama: a `GPTConfig` with rotary positions and a tied head, and three numbers.

    n_groups: G, heads of keys and values, must divide n_heads; rotary_base: how slowly the last
    pair of channels turns; norm_eps: what keeps RMSNorm's root away from 0. Raises TypeError or
    ValueError for a size that cannot be.
    """

    positions: str = "rotary"
    tied: bool = True
    n_groups: int = 4
    rotary_base: float = 10_000.0
    norm_eps: float = 1e-5

    def parameter_counts(self) -> dict[str, int]:
        """How many numbers each part of such a model has, without making one."""
        C, layers = self.d_model, self.n_layers
        shared = self.n_groups * (C // self.n_heads)            # channels of all keys
        return {"token embedding": self.vocab_size * C,
                "position embedding": 0,
                "attention": layers * (C * (C + 2 * shared) + C * C),
                "feed-forward": layers * 3 * C * self.d_ff,
                "norms": (2 * layers + 1) * C,
                "head": 0}


class RMSNorm(nn.Module):
    """Each token's channels divided by their root mean square: LayerNorm without mean and bias.

    Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019): it is the scaling that helps,
    not the centring.
    """

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(d_model)), eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C). Squares are summed in float32, whatever `x` is."""
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)      # (..., 1)
        return (wide * scale).to(x.dtype) * self.weight


class SwiGLU(nn.Module):
    """A feed-forward with a gate: one map makes candidates, another says how much of each passes.

    Shazeer, "GLU Variants Improve Transformer" (2020), with the gate bent by SiLU, x * sigmoid(x).
    Without biases.
    """

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False)
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class GroupedHeads(nn.Module):
    """Attention whose H query heads come in G groups; a group shares one head of keys and values.

    The cache, which grows with every token that is read, holds G heads and not H. One matrix makes
    queries, keys and values.
    """

    def __init__(self, config: LlamaConfig):
        super().__init__()
        C, d_head = config.d_model, config.d_model // config.n_heads
        self.n_heads, self.n_groups = config.n_heads, config.n_groups
        self.qkv = nn.Linear(C, (config.n_heads + 2 * config.n_groups) * d_head, bias=False)
        self.projection = nn.Linear(C, C, bias=False)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None,
                rotation: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C). With a cache, the T tokens follow those in it, and join them."""
        q, k, v = self._heads(x, rotation)            # (B, H, T, d_head), (B, G, T, d_head) twice
        start, T = 0, x.shape[1]
        if cache is not None:
            start = cache.length
            k, v = cache.append(k, v)                 # (B, G, start + T, d_head) each
        mask = None
        if start and T > 1:                           # a single newest token may look at everything
            mask = causal_mask(start + T, x.device)[start:]     # (T, start + T)
        out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=start == 0, enable_gqa=True)
        return self._merge(out)

    def with_weights(self, x: Tensor, rotation: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same output by way of `attention`, and the weights (B, H, T, T).

        For pictures, and to check `forward`.
        """
        q, k, v = self._heads(x, rotation)
        n = self.n_heads // self.n_groups
        k, v = k.repeat_interleave(n, dim=1), v.repeat_interleave(n, dim=1)     # (B, H, T, d_head)
        out, weights = attention(q, k, v, causal_mask(x.shape[1], x.device))
        return self._merge(out), weights

    def _heads(self, x: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, C) -> q (B, H, T, d_head), and k and v (B, G, T, d_head)."""
        H, G = self.n_heads, self.n_groups
        heads = self.qkv(x).unflatten(-1, (H + 2 * G, -1)).transpose(1, 2)    # (B, H + 2 G, T, d)
        q, k, v = heads.split((H, G, G), dim=1)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return q, k, v

    def _merge(self, out: Tensor) -> Tensor:
        """(B, H, T, d_head) -> (B, T, C)."""
        return self.projection(out.transpose(1, 2).flatten(2))


class LlamaBlock(nn.Module):
    """A `TransformerBlock` of the other parts: the stream runs through it in the same way."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.norm1 = RMSNorm(config.d_model, config.norm_eps)
        self.attention = GroupedHeads(config)
        self.norm2 = RMSNorm(config.d_model, config.norm_eps)
        self.feed_forward = SwiGLU(config.d_model, config.d_ff)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None,
                rotation: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C). `cache` and `rotation` are the attention's."""
        x = x + self.attention(self.norm1(x), cache, rotation)
        return x + self.feed_forward(self.norm2(x))

    def with_weights(self, x: Tensor, rotation: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same output, and the attention weights (B, H, T, T)."""
        out, weights = self.attention.with_weights(self.norm1(x), rotation)
        x = x + out
        return x + self.feed_forward(self.norm2(x)), weights


class LlamaModel(GPTModel):
    """The whole network, of the other parts. What is done with them is `GPTModel.forward`."""

    @takes(config=instance(LlamaConfig))
    def __init__(self, config: LlamaConfig):
        nn.Module.__init__(self)                      # GPTModel's own would make GPT-2's parts
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding = self.head = None    # rotary, and tied
        self.register_buffer("rotation", rotations(                             # (T, d_head / 2, 2)
            config.context_length, config.d_model // config.n_heads, config.rotary_base),
            persistent=False)
        self.blocks = nn.ModuleList(LlamaBlock(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
