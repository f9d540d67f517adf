"""Answers to the exercises of 03_model."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from checks_bank.register import right, wrong
from minigpt import FeedForward, GPTModel, MultiHeadAttention, TransformerBlock
from minigpt.classroom.checks import check_block, check_feed_forward, check_gpt, check_layer_norm

# ----------------------------------------------------------------------------------------------------------- layer norm


@right(check_layer_norm)
def by_torch(x, weight, bias):
    return F.layer_norm(x, x.shape[-1:], weight, bias)


@right(check_layer_norm)
def by_hand(x, weight, bias):
    mean = x.mean(-1, keepdim=True)
    variance = x.var(-1, keepdim=True, correction=0)
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


@right(check_layer_norm)
def from_squares(x, weight, bias):
    centred = x - x.mean(dim=-1, keepdim=True)
    return weight * centred * torch.rsqrt((centred * centred).mean(dim=-1, keepdim=True) + 1e-5) + bias


@right(check_layer_norm)
def row_by_row(x, weight, bias):
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        mean = sum(row) / len(row)
        variance = sum((value - mean) ** 2 for value in row) / len(row)
        rows.append((row - mean) / math.sqrt(variance + 1e-5) * weight + bias)
    return torch.stack(rows).reshape(x.shape)


def _layer_norm(phrase, formula):
    """Registers one wrong formula."""
    def answer(x, weight, bias):
        return formula(x, weight, bias, x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0))
    answer.__name__ = "my_layer_norm"
    wrong(check_layer_norm, phrase)(answer)


_layer_norm("torch's default", lambda x, w, b, m, v: (x - m) / (x.var(-1, keepdim=True) + 1e-5).sqrt() * w + b)
_layer_norm("outside the root", lambda x, w, b, m, v: (x - m) / (v.sqrt() + 1e-5) * w + b)
_layer_norm("There is no eps in your root", lambda x, w, b, m, v: (x - m) / v.sqrt() * w + b)
_layer_norm("by the variance", lambda x, w, b, m, v: (x - m) / (v + 1e-5) * w + b)
_layer_norm("That is RMSNorm", lambda x, w, b, m, v: x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * w + b)
_layer_norm("You don't subtract the mean.", lambda x, w, b, m, v: x / (v + 1e-5).sqrt() * w + b)
_layer_norm("over the positions", lambda x, w, b, m, v: F.layer_norm(x.mT, x.shape[1:2]).mT * w + b)
_layer_norm("positions and channels together", lambda x, w, b, m, v: F.layer_norm(x, x.shape[1:]) * w + b)
_layer_norm("that is batch norm", lambda x, w, b, m, v: (
    (x - x.mean((0, 1))) / (x.var((0, 1), correction=0) + 1e-5).sqrt() * w + b))
_layer_norm("over everything at once", lambda x, w, b, m, v: F.layer_norm(x, x.shape) * w + b)
_layer_norm("Weight and bias are missing", lambda x, w, b, m, v: (x - m) / (v + 1e-5).sqrt())
_layer_norm("The bias is missing", lambda x, w, b, m, v: (x - m) / (v + 1e-5).sqrt() * w)
_layer_norm("The weight is missing", lambda x, w, b, m, v: (x - m) / (v + 1e-5).sqrt() + b)
_layer_norm("changed places", lambda x, w, b, m, v: (x - m) / (v + 1e-5).sqrt() * b + w)
_layer_norm("multiply first", lambda x, w, b, m, v: ((x - m) / (v + 1e-5).sqrt() + b) * w)
_layer_norm("Your eps is 1e-06", lambda x, w, b, m, v: F.layer_norm(x, x.shape[-1:], w, b, 1e-6))
_layer_norm("nothing is divided", lambda x, w, b, m, v: (x - m) * w + b)
_layer_norm("Keep the axis", lambda x, w, b, m, v: (x - x.mean(-1)) / (v + 1e-5).sqrt() * w + b)
_layer_norm("changes its input x in place", lambda x, w, b, m, v: x.sub_(m).div_((v + 1e-5).sqrt()) * w + b)


# --------------------------------------------------------------------------------------------------------- feed-forward

right(check_feed_forward)(FeedForward)


class Linears(nn.Module):
    """The two layers, to be used in one way or another."""

    def __init__(self, d_model, d_ff):
        super().__init__()
        self.expand, self.contract = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)


@right(check_feed_forward)
class WithALayerForTheGelu(Linears):
    def __init__(self, d_model, d_ff):
        super().__init__(d_model, d_ff)
        self.gelu = nn.GELU()

    def forward(self, x):
        return self.contract(self.gelu(self.expand(x)))


@right(check_feed_forward)
class ByTheFormula(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.contract = nn.Linear(d_ff, d_model)
        self.expand = nn.Linear(d_model, d_ff)

    def forward(self, x):
        hidden = self.expand(x)
        return self.contract(hidden * 0.5 * (1 + torch.erf(hidden / 2 ** 0.5)))


@right(check_feed_forward)
class ByFunctions(Linears):
    def forward(self, x):
        hidden = F.gelu(F.linear(x, self.expand.weight, self.expand.bias))
        return F.linear(hidden, self.contract.weight, self.contract.bias)


@right(check_feed_forward)
class ByMatrices(Linears):
    def forward(self, x):
        hidden = F.gelu(x @ self.expand.weight.T + self.expand.bias)
        return hidden @ self.contract.weight.T + self.contract.bias


@right(check_feed_forward)
class WithDropoutOfNothing(Linears):
    def __init__(self, d_model, d_ff, dropout=0.0):
        super().__init__(d_model, d_ff)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.dropout(self.contract.forward(F.gelu(self.expand.forward(x))))


@right(check_feed_forward)
class FromTheNormalDistribution(Linears):
    def forward(self, x):
        hidden = self.expand(x)
        return self.contract(hidden * torch.distributions.Normal(0.0, 1.0).cdf(hidden))


def _feed_forward(phrase, formula):
    """Registers a feed-forward that computes `formula(x, expand, contract)`."""
    class MyFeedForward(nn.Module):
        def __init__(self, d_model, d_ff):
            super().__init__()
            self.expand, self.contract = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)

        def forward(self, x):
            return formula(x, self.expand, self.contract)
    wrong(check_feed_forward, phrase)(MyFeedForward)


_feed_forward("two matrices in a row", lambda x, expand, contract: contract(expand(x)))
_feed_forward("ReLU between", lambda x, expand, contract: contract(expand(x).relu()))
_feed_forward("SiLU between", lambda x, expand, contract: contract(F.silu(expand(x))))
_feed_forward("tanh between", lambda x, expand, contract: contract(expand(x).tanh()))
_feed_forward("sigmoid between", lambda x, expand, contract: contract(expand(x).sigmoid()))
_feed_forward("comes after the second", lambda x, expand, contract: F.gelu(contract(expand(x))))
_feed_forward("second GELU", lambda x, expand, contract: F.gelu(contract(F.gelu(expand(x)))))
_feed_forward("before the first", lambda x, expand, contract: contract(expand(F.gelu(x))))
_feed_forward("x is added", lambda x, expand, contract: x + contract(F.gelu(expand(x))))
_feed_forward("normalised first", lambda x, expand, contract: contract(F.gelu(expand(F.layer_norm(x, x.shape[-1:])))))
_feed_forward("still d_ff", lambda x, expand, contract: F.gelu(expand(x)))
_feed_forward("dropout is on outside training", lambda x, expand, contract: F.dropout(contract(F.gelu(expand(x))), 0.1))
_feed_forward("returns None", lambda x, expand, contract: print(end=""))


@wrong(check_feed_forward, "plain list hides them")
class Hidden(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.layers = [nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)]

    def forward(self, x):
        return self.layers[1](F.gelu(self.layers[0](x)))


@wrong(check_feed_forward, "should have two nn.Linear")
class SameLayerTwice(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.linear = nn.Linear(d_model, d_model)

    def forward(self, x):
        return self.linear(F.gelu(self.linear(x)))


@wrong(check_feed_forward, "use the d_ff that you were given")
class AlwaysFourTimes(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.expand, self.contract = nn.Linear(d_model, 4 * d_model), nn.Linear(4 * d_model, d_model)

    def forward(self, x):
        return self.contract(F.gelu(self.expand(x)))


@wrong(check_feed_forward, "super().__init__()")
class NotAModule:
    def __init__(self, d_model, d_ff):
        self.expand, self.contract = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)

    def __call__(self, x):
        return self.contract(F.gelu(self.expand(x)))


# ---------------------------------------------------------------------------------------------------------------- block

right(check_block)(TransformerBlock)


class Parts(nn.Module):
    """The four parts, to be put together in one way or another."""

    def __init__(self, config):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.d_model), nn.LayerNorm(config.d_model)
        self.attention = MultiHeadAttention(config.d_model, config.n_heads, config.dropout)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, config.dropout)


@right(check_block)
class Plain(Parts):
    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


@right(check_block)
class StepByStep(Parts):
    def forward(self, x):
        residual = x
        x = self.norm1(x)
        x = self.attention(x)
        x = residual + x
        residual = x
        x = self.feed_forward(self.norm2(x))
        x += residual
        return x


@right(check_block)
class WithoutAndWith(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.d_model)
        self.attention = MultiHeadAttention(config.d_model, config.n_heads)
        self.feed_forward = self.norm2 = None
        if config.d_ff:
            self.norm2, self.feed_forward = nn.LayerNorm(config.d_model), FeedForward(config.d_model, config.d_ff)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x if self.feed_forward is None else x + self.feed_forward(self.norm2(x))


def _block(phrase, formula):
    """Registers a block whose forward is `formula(self, x)`."""
    class MyBlock(Parts):
        def forward(self, x):
            return formula(self, x)
    wrong(check_block, phrase)(MyBlock)


def _post_norm(self, x):
    x = self.norm1(x + self.attention(x))
    return self.norm2(x + self.feed_forward(x))


_block("post-norm, as in the first Transformer", _post_norm)
_block("post-norm, as in the first Transformer", lambda self, x: (
    lambda y: y + self.norm2(self.feed_forward(y)))(x + self.norm1(self.attention(x))))
_block("norm2 comes after the feed-forward", lambda self, x: (
    lambda y: y + self.norm2(self.feed_forward(y)))(x + self.attention(self.norm1(x))))
_block("norm2 comes at the very end", lambda self, x: (
    lambda y: self.norm2(y + self.feed_forward(y)))(x + self.attention(self.norm1(x))))
_block("residual connection around the attention is missing", lambda self, x: (
    lambda y: y + self.feed_forward(self.norm2(y)))(self.attention(self.norm1(x))))
_block("residual connection around the feed-forward is missing", lambda self, x: (
    self.feed_forward(self.norm2(x + self.attention(self.norm1(x))))))
_block("norm1 is used twice and norm2 never", lambda self, x: (
    lambda y: y + self.feed_forward(self.norm1(y)))(x + self.attention(self.norm1(x))))
_block("changed places", lambda self, x: (
    lambda y: y + self.feed_forward(self.norm1(y)))(x + self.attention(self.norm2(x))))
_block("norm2 is never used", lambda self, x: (
    lambda y: y + self.feed_forward(y))(x + self.attention(self.norm1(x))))
_block("norm1 is never used", lambda self, x: (
    lambda y: y + self.feed_forward(self.norm2(y)))(x + self.attention(x)))
_block("beside the attention", lambda self, x: (
    x + self.attention(self.norm1(x)) + self.feed_forward(self.norm2(x))))
_block("feed_forward is never used", lambda self, x: x + self.attention(self.norm1(x)))
_block("adds to norm1(x)", lambda self, x: (
    lambda n: (lambda y: y + self.feed_forward(self.norm2(y)))(n + self.attention(n)))(self.norm1(x)))
_block("adds to norm2(x)", lambda self, x: (
    lambda n: n + self.feed_forward(n))(self.norm2(x + self.attention(self.norm1(x)))))
_block("what the attention made is lost", lambda self, x: (
    x + self.feed_forward(self.norm2(x + self.attention(self.norm1(x))))))
_block("changes its input x in place", lambda self, x: (
    lambda y: y + self.feed_forward(self.norm2(y)))(x.add_(self.attention(self.norm1(x)).detach())))


@wrong(check_block, "one and the same module")
class SharedNorm(Plain):
    def __init__(self, config):
        super().__init__(config)
        self.norm2 = self.norm1


@wrong(check_block, "has no part self.norm2")
class OtherNames(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm1, self.ln2 = nn.LayerNorm(config.d_model), nn.LayerNorm(config.d_model)
        self.attention = MultiHeadAttention(config.d_model, config.n_heads)
        self.feed_forward = FeedForward(config.d_model, config.d_ff)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.ln2(x))


class AttentionWithoutMask(MultiHeadAttention):
    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return self.projection(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@wrong(check_block, "the future is visible")
class WithoutMask(Plain):
    def __init__(self, config):
        super().__init__(config)
        self.attention = AttentionWithoutMask(config.d_model, config.n_heads, config.dropout)


@wrong(check_block, "has no attention.projection.bias")
class WithTorchsAttention(Plain):
    def __init__(self, config):
        super().__init__(config)
        self.attention = nn.MultiheadAttention(config.d_model, config.n_heads, batch_first=True)


@wrong(check_block, "dropout is on outside training")
class AlwaysDropout(Parts):
    def forward(self, x):
        x = x + F.dropout(self.attention(self.norm1(x)), 0.1)
        return x + self.feed_forward(self.norm2(x))


@wrong(check_block, "norm2 is still there")
class OrphanNorm(WithoutAndWith):
    def __init__(self, config):
        super().__init__(config)
        self.norm2 = nn.LayerNorm(config.d_model)


@wrong(check_block, "Skip the second half")
class ForgetsThatThereIsNone(WithoutAndWith):
    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


# ------------------------------------------------------------------------------------------------------------------ gpt

right(check_gpt)(GPTModel)


class ModelParts(nn.Module):
    """The parts of a model, to be put together in one way or another."""

    def __init__(self, config):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding = nn.Embedding(config.context_length, config.d_model)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def embed(self, ids):
        return self.token_embedding(ids) + self.position_embedding(torch.arange(ids.shape[1]))

    def through_blocks(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@right(check_gpt)
class Straight(ModelParts):
    def forward(self, ids):
        return self.head(self.norm(self.through_blocks(self.embed(ids))))


@right(check_gpt)
class WithWeights(ModelParts):
    def forward(self, ids):
        B, T = ids.shape
        x = self.token_embedding(ids)
        x = x + self.position_embedding.weight[:T]
        for i in range(len(self.blocks)):
            x = self.blocks[i](x)
        return self.head(self.norm(x))


@wrong(check_gpt, "one and the same tensor")
class Tied(ModelParts):
    def __init__(self, config):
        super().__init__(config)
        self.head.weight = self.token_embedding.weight
        self.blocks = nn.Sequential(*self.blocks)

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.embed(ids))))


def _gpt(phrase, formula):
    """Registers a model whose forward is `formula(self, ids)`."""
    class MyGPT(ModelParts):
        def forward(self, ids):
            return formula(self, ids)
    wrong(check_gpt, phrase)(MyGPT)


_gpt("The positions are missing", lambda self, ids: (
    self.head(self.norm(self.through_blocks(self.token_embedding(ids))))))
_gpt("self.norm is never used", lambda self, ids: self.head(self.through_blocks(self.embed(ids))))
_gpt("the final norm first", lambda self, ids: (
    lambda x: self.head(x) + 0 * self.norm(x).sum())(self.through_blocks(self.embed(ids))))
_gpt("returns probabilities", lambda self, ids: self.head(self.norm(self.through_blocks(self.embed(ids)))).softmax(-1))
_gpt("returns log-probabilities", lambda self, ids: (
    self.head(self.norm(self.through_blocks(self.embed(ids)))).log_softmax(-1)))
_gpt("blocks[1] is never used", lambda self, ids: self.head(self.norm(self.blocks[0](self.embed(ids)))))
_gpt("blocks[1] should read", lambda self, ids: (
    lambda x: self.head(self.norm(self.blocks[0](x) + self.blocks[1](x))))(self.embed(ids)))
_gpt("looked up with the ids", lambda self, ids: self.head(self.norm(self.through_blocks(
    self.token_embedding(ids) + self.position_embedding(ids % self.position_embedding.num_embeddings)))))
_gpt("multiplied; add them", lambda self, ids: self.head(self.norm(self.through_blocks(
    self.token_embedding(ids) * self.position_embedding(torch.arange(ids.shape[1]))))))
_gpt("right is (B, T, vocab_size)", lambda self, ids: self.norm(self.through_blocks(self.embed(ids))))
_gpt("embedding of position 0", lambda self, ids: self.head(self.norm(self.through_blocks(
    self.token_embedding(ids) + self.position_embedding(torch.zeros_like(ids))))))


@wrong(check_gpt, "share their weights")
class OneBlock(Straight):
    def __init__(self, config):
        super().__init__(config)
        self.blocks = nn.ModuleList([TransformerBlock(config)] * config.n_layers)


@wrong(check_gpt, "asks for n_layers = 2 blocks")
class AlwaysOneLayer(Straight):
    def __init__(self, config):
        super().__init__(config)
        self.blocks = nn.ModuleList([TransformerBlock(config)])


@wrong(check_gpt, "the future is visible")
class NoisyNeighbours(Straight):
    def __init__(self, config):
        super().__init__(config)
        self.blocks[0].register_forward_hook(lambda block, inputs, x: x + x.mean(1, keepdim=True))
