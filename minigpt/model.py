"""The model: token ids in, for every position the logits of the next token out.

A GPT is token plus position embeddings, a stack of blocks that each add something to the stream of
activations, a last norm, and a linear head: Radford et al., "Language Models are Unsupervised
Multitask Learners" (2019), with the norm before each part (Xiong et al., "On Layer Normalization in
the Transformer Architecture", 2020). It knows nothing of text, training or sampling. Shapes: B
sequences, T tokens, C = d_model channels, V tokens in the vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt.arguments import choice, flag, instance, integer, number, shown, takes
from minigpt.self_attention import KeyValueCache, MultiHeadAttention, heads_divide, rotations

POSITIONS = ("learned", "rotary")
LARGEST = 1 << 31               # numbers of a model; in float32 they take 8.6 GB


def channels_pair(given: dict) -> None:
    """A relation for `takes`: rotary positions turn pairs of channels."""
    d_head = given["d_model"] // given["n_heads"]
    if given["positions"] == "rotary" and d_head % 2:
        raise ValueError("positions can be 'rotary' with an even number of channels a head only, "
                         f"not {d_head}: change d_model or n_heads")


@takes(heads_divide, channels_pair, vocab_size=integer(1, 1 << 20),
       context_length=integer(1, 1 << 16), d_model=integer(1, 1 << 14), n_heads=integer(1, 1 << 14),
       n_layers=integer(1, 1000), d_ff=integer(0, 1 << 16), dropout=number(0, 0.99),
       positions=choice(POSITIONS), tied=flag)
@dataclass(frozen=True)
class GPTConfig:
    """The size of a model. The defaults are the reference's.

    Raises TypeError or ValueError for a size that cannot be.

    vocab_size: V, tokens in the vocabulary; context_length: the most tokens that it sees at once;
    d_model: C, channels of a token; n_heads: attention heads, must divide d_model; n_layers:
    blocks; d_ff: channels inside the feed-forward (0 leaves it out); dropout: the share of
    activations set to 0 while it trains; positions: "learned", a vector for each place that is
    added to the token's, or "rotary", queries and keys turned by their place; tied: whether the
    head's matrix is the token embedding's (Press and Wolf, "Using the Output Embedding to Improve
    Language Models", 2017).
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

    def parameter_counts(self) -> dict[str, int]:
        """How many numbers each part of such a model learns, without making one."""
        C, layers = self.d_model, self.n_layers
        return {"token embedding": self.vocab_size * C,
                "position embedding": self.context_length * C if self.positions == "learned" else 0,
                "attention": layers * (3 * C * C + C * C + C),
                "feed-forward": layers * (2 * C * self.d_ff + self.d_ff + C) if self.d_ff else 0,
                "norms": (layers * (4 if self.d_ff else 2) + 2) * C,
                "head": 0 if self.tied else self.vocab_size * C}


def check_size(name: str, config: GPTConfig) -> None:
    """Raise ValueError for a model so large that the memory would not hold it."""
    n_parameters = sum(config.parameter_counts().values())
    if n_parameters > LARGEST:
        raise ValueError(f"{name} must be of a model of at most {LARGEST:,} numbers, not "
                         f"{n_parameters:,}: take fewer channels or layers")


def _not_too_large(given: dict) -> None:
    check_size("config", given["config"])


class FeedForward(nn.Module):
    """What a token does with what it has gathered: widen to d_ff, GELU, back to d_model.

    Each token does so by itself. GELU: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016).
    """

    @takes(d_model=integer(1, 1 << 14), d_ff=integer(1, 1 << 16), dropout=number(0, 1))
    def __init__(self, d_model: int, d_ff: int, dropout: float = 0.0):
        super().__init__()
        self.expand = nn.Linear(d_model, d_ff)
        self.contract = nn.Linear(d_ff, d_model)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        out = self.contract(F.gelu(self.expand(x)))             # (..., d_ff) in between
        return F.dropout(out, self.dropout) if self.training else out


class TransformerBlock(nn.Module):
    """Attention, then feed-forward.

    Each reads a normalised copy of the stream and adds its result to the stream.
    """

    @takes(config=instance(GPTConfig))
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.d_model)
        self.attention = MultiHeadAttention(config.d_model, config.n_heads, config.dropout)
        self.norm2 = self.feed_forward = None           # without the one, no norm before it
        if config.d_ff:
            self.norm2 = nn.LayerNorm(config.d_model)
            self.feed_forward = FeedForward(config.d_model, config.d_ff, config.dropout)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None,
                rotation: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C). `cache` and `rotation` are the attention's."""
        return self._feed_forward(x + self.attention(self.norm1(x), cache, rotation))

    def with_weights(self, x: Tensor, rotation: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same output, and the attention weights (B, H, T, T)."""
        out, weights = self.attention.with_weights(self.norm1(x), rotation)
        return self._feed_forward(x + out), weights

    def _feed_forward(self, x: Tensor) -> Tensor:
        return x if self.feed_forward is None else x + self.feed_forward(self.norm2(x))


class GPTModel(nn.Module):
    """The whole network. `GPTModel(config)(ids)` turns ids (B, T) into logits (B, T, V)."""

    @takes(_not_too_large, config=instance(GPTConfig))
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding, rotation = None, None
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.context_length, config.d_model)
        else:
            rotation = rotations(config.context_length, config.d_model // config.n_heads)
        self.register_buffer("rotation", rotation, persistent=False)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.head = None
        if not config.tied:
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.apply(_initialise)

    def forward(self, ids: Tensor, cache: list[KeyValueCache] | None = None) -> Tensor:
        """Logits of the next token at every position: ids (B, T), int64 -> (B, T, V).

        With a `cache`, as `new_cache` makes it, the ids follow those that it holds. Raises
        ValueError for ids outside the vocabulary, and for more tokens than the context holds.
        """
        x, rotation = self._embed(ids, cache[0].length if cache else 0)  # (B, T, C)
        for block, block_cache in zip(self.blocks, cache or [None] * len(self.blocks)):
            x = block(x, block_cache, rotation)                          # (B, T, C)
        x = self.norm(x)
        return F.linear(x, self.token_embedding.weight) if self.head is None else self.head(x)

    def attention_weights(self, ids: Tensor) -> Tensor:
        """What each head of each layer looks at: ids (B, T) -> (n_layers, B, n_heads, T, T)."""
        (x, rotation), weights = self._embed(ids), []
        for block in self.blocks:
            x, block_weights = block.with_weights(x, rotation)
            weights.append(block_weights)
        return torch.stack(weights)

    def new_cache(self) -> list[KeyValueCache]:
        """Empty key/value caches for `forward`, one a layer, with room for a full context."""
        return [KeyValueCache(self.config.context_length) for _ in self.blocks]

    @property
    def n_parameters(self) -> int:
        """How many numbers training may change."""
        return sum(p.numel() for p in self.parameters())

    def _embed(self, ids: Tensor, start: int = 0) -> tuple[Tensor, Tensor | None]:
        """What the blocks read, (B, T, C), and the places' rotation where positions are rotary."""
        end = start + ids.shape[1]
        if end > self.config.context_length:
            raise ValueError(f"ids must fit the context of {self.config.context_length} tokens, "
                             f"not {end}")
        try:
            tokens = self.token_embedding(ids)                           # (B, T, C)
        except IndexError:
            raise ValueError("ids must be at least 0 and less than vocab_size = "
                             f"{self.config.vocab_size}, not {ids.min()} to {ids.max()}") from None
        if self.position_embedding is None:
            return tokens, self.rotation[start:end]
        return tokens + self.position_embedding.weight[start:end], None  # (B, T, C) + (T, C)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In here the model is in eval mode, without dropout; afterwards in the mode that it was in."""
    was_training = model.training
    if was_training:                                   # setting it takes a walk through all modules
        model.eval()
    try:
        yield
    finally:
        if was_training:
            model.train()


def is_a_model(name: str, value) -> nn.Module:
    """A guard: a GPTModel, or what wraps one as torch.compile does."""
    if not isinstance(getattr(value, "config", None), GPTConfig):
        raise TypeError(f"{name} must be a GPTModel, not {shown(value)}")
    return value


def _initialise(module: nn.Module) -> None:
    """Small random weights (GPT-2's 0.02).

    So the first guess is nearly uniform, and the first loss nearly ln V.
    """
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
