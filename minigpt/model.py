"""The model: token ids in, for every position the logits of the next token out.

Fourth stop of the pipeline. A GPT is token plus position embeddings, a stack of blocks that each add something to the
stream of activations, a last norm, and a linear head: Radford et al., "Language Models are Unsupervised Multitask
Learners" (2019), with the norm before each part (Xiong et al., "On Layer Normalization in the Transformer Architecture",
2020). It knows nothing of text, training or sampling. Shapes: B sequences, T tokens, C = d_model channels, V tokens in
the vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt.arguments import choice, instance, integer, number, shown
from minigpt.attention import KeyValueCache, MultiHeadAttention, check_activations, rotations

POSITIONS = ("learned", "rotary")


@dataclass(frozen=True)
class GPTConfig:
    """The size of a model. The defaults are the reference's. Raises TypeError or ValueError for a size that cannot be.

    vocab_size: V, tokens in the vocabulary; context_length: the most tokens that it sees at once; d_model: C, channels
    of a token; n_heads: attention heads, must divide d_model; n_layers: blocks; d_ff: channels inside the feed-forward
    (0 leaves it out); dropout: the share of activations set to 0 while it trains; positions: "learned", a vector for each
    place that is added to the token's, or "rotary", queries and keys turned by their place; tied: whether the head's matrix
    is the token embedding's (Press and Wolf, "Using the Output Embedding to Improve Language Models", 2017).
    """

    vocab_size: int = 256
    context_length: int = 32
    d_model: int = 256
    n_heads: int = 4
    n_layers: int = 1
    d_ff: int = 1024
    dropout: float = 0.0
    positions: str = "learned"
    tied: bool = False

    def __post_init__(self):
        for name, low, high in (("vocab_size", 1, 1 << 20), ("context_length", 1, 1 << 16), ("d_model", 1, 1 << 14),
                                ("n_heads", 1, 1 << 14), ("n_layers", 0, 1000), ("d_ff", 0, 1 << 16)):
            integer(name, getattr(self, name), low, high)
        number("dropout", self.dropout, low=0, high=0.99)
        choice("positions", self.positions, POSITIONS)
        instance("tied", self.tied, bool)
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads must divide d_model: {self.d_model} channels cannot be shared "
                             f"among {self.n_heads} heads")
        if self.positions == "rotary" and self.d_model // self.n_heads % 2:
            raise ValueError(f"positions can be 'rotary' with an even number of channels a head only, "
                             f"not {self.d_model // self.n_heads}: change d_model or n_heads")

    def parameter_counts(self) -> dict[str, int]:
        """How many numbers each part of such a model learns, without making one."""
        C, layers = self.d_model, self.n_layers
        return {"token embedding": self.vocab_size * C,
                "position embedding": self.context_length * C if self.positions == "learned" else 0,
                "attention": layers * (3 * C * C + C * C + C),
                "feed-forward": layers * (2 * C * self.d_ff + self.d_ff + C) if self.d_ff else 0,
                "norms": (layers * (4 if self.d_ff else 2) + 2) * C,
                "head": 0 if self.tied else self.vocab_size * C}


class FeedForward(nn.Module):
    """What a token does with what it has gathered: widen to d_ff, GELU, back to d_model, each token by itself.

    GELU: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016).
    """

    def __init__(self, d_model: int, d_ff: int, dropout: float = 0.0):
        super().__init__()
        self.expand = nn.Linear(integer("d_model", d_model, low=1), integer("d_ff", d_ff, low=1))
        self.contract = nn.Linear(d_ff, d_model)
        self.dropout = number("dropout", dropout, low=0, high=1)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        check_activations(x, self.expand.in_features)
        out = self.contract(F.gelu(self.expand(x)))
        return F.dropout(out, self.dropout) if self.training else out


class TransformerBlock(nn.Module):
    """Attention, then feed-forward; each reads a normalised copy of the stream and adds its result to the stream."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        instance("config", config, GPTConfig)
        self.norm1 = nn.LayerNorm(config.d_model)
        self.attention = MultiHeadAttention(config.d_model, config.n_heads, config.dropout)
        has_feed_forward = config.d_ff > 0                         # without it, no norm is left waiting for it
        self.norm2 = nn.LayerNorm(config.d_model) if has_feed_forward else None
        self.feed_forward = FeedForward(config.d_model, config.d_ff, config.dropout) if has_feed_forward else None

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, rotation: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C). `cache` and `rotation` are the attention's."""
        check_activations(x, self.attention.qkv.in_features)
        x = x + self.attention(self.norm1(x), cache, rotation)
        return self._feed_forward(x)

    def with_weights(self, x: Tensor, rotation: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same output, and the attention weights (B, H, T, T)."""
        check_activations(x, self.attention.qkv.in_features)
        out, weights = self.attention.with_weights(self.norm1(x), rotation)
        return self._feed_forward(x + out), weights

    def _feed_forward(self, x: Tensor) -> Tensor:
        return x if self.feed_forward is None else x + self.feed_forward(self.norm2(x))


class GPTModel(nn.Module):
    """The whole network. `GPTModel(config)(ids)` turns ids (B, T) into logits (B, T, V)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = instance("config", config, GPTConfig)
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding, rotation = None, None
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.context_length, config.d_model)
        else:
            rotation = rotations(config.context_length, config.d_model // config.n_heads)     # (T, d_head / 2, 2)
        self.register_buffer("rotation", rotation, persistent=False)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.head = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.apply(_initialise)

    def forward(self, ids: Tensor, cache: list[KeyValueCache] | None = None) -> Tensor:
        """Logits of the next token at every position.

        `ids` is (B, T), whole numbers below vocab_size; T may be at most context_length, what `cache` holds included.
        Returns (B, T, V). Raises TypeError or ValueError for ids that do not fit.
        """
        if cache is not None and len(instance("cache", cache, list, "a list as new_cache makes it")) != len(self.blocks):
            raise ValueError(f"cache must be for {len(self.blocks)} blocks, as new_cache makes it, not for {len(cache)}")
        start = instance("cache", cache[0], KeyValueCache, "a list as new_cache makes it").length if cache else 0
        x, rotation = self._embed(ids, start)                      # (B, T, C)
        for i, block in enumerate(self.blocks):
            x = block(x, cache[i] if cache else None, rotation)    # (B, T, C)
        x = self.norm(x)
        return F.linear(x, self.token_embedding.weight) if self.head is None else self.head(x)      # (B, T, V)

    def attention_weights(self, ids: Tensor) -> Tensor:
        """What each head of each layer looks at: (n_layers, B, n_heads, T, T)."""
        (x, rotation), weights = self._embed(ids), []
        for block in self.blocks:
            x, block_weights = block.with_weights(x, rotation)
            weights.append(block_weights)
        B, T = ids.shape
        return torch.stack(weights) if weights else x.new_empty(0, B, self.config.n_heads, T, T)

    def new_cache(self) -> list[KeyValueCache]:
        """An empty key/value cache for `forward`, one for each layer, with room for a full context."""
        return [KeyValueCache(self.config.context_length) for _ in self.blocks]

    @property
    def n_parameters(self) -> int:
        """How many numbers training may change."""
        return sum(p.numel() for p in self.parameters())

    def _embed(self, ids: Tensor, start: int = 0) -> tuple[Tensor, Tensor | None]:
        """What the blocks read, (B, T, C), and the places' rotation where positions are rotary."""
        if not isinstance(ids, Tensor) or ids.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"ids must be an int64 tensor, not {shown(getattr(ids, 'dtype', ids))}")
        if ids.dim() != 2:
            raise ValueError(f"ids must be (B, T), not {tuple(ids.shape)}")
        end = start + ids.shape[1]
        if end > self.config.context_length:
            raise ValueError(f"ids must fit the context of {self.config.context_length} tokens, not {end}")
        try:
            tokens = self.token_embedding(ids)                     # (B, T, C)
        except IndexError:
            raise ValueError(f"ids must be at least 0 and less than vocab_size = {self.config.vocab_size}, "
                             f"not {ids.min()} to {ids.max()}") from None
        if self.position_embedding is None:
            return tokens, self.rotation[start:end]
        return tokens + self.position_embedding.weight[start:end], None                       # (B, T, C) + (T, C)


def check_model(model) -> None:
    """Raise TypeError unless `model` is a GPTModel, or wraps one as torch.compile does."""
    if not isinstance(getattr(model, "config", None), GPTConfig):
        raise TypeError(f"model must be a GPTModel, not {shown(model)}")


def _initialise(module: nn.Module) -> None:
    """Small random weights (GPT-2's 0.02), so that the first guess is nearly uniform and the first loss nearly ln V."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In here the model is in eval mode, without dropout; the mode that it was in is put back afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
