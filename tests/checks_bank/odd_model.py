"""More answers to 03, along the kinds that slip through: small and long inputs, weights replaced or shared, gradients lost."""

import torch
from torch import nn
from torch.nn import functional as F

from checks_bank import model as model_bank
from checks_bank.register import right, wrong
from minigpt import FeedForward, MultiHeadAttention, TransformerBlock
from minigpt.classroom.checks import check_block, check_feed_forward, check_gpt, check_layer_norm

# ----------------------------------------------------------------------------------------------------------- layer norm


@right(check_layer_norm)
def norm_by_std(x, weight, bias):
    deviation = (x.std(-1, keepdim=True, unbiased=False) ** 2 + 1e-5).sqrt()
    return torch.lerp(bias, bias + weight, (x - x.mean(-1, keepdim=True)) / deviation)


@right(check_layer_norm)
def norm_by_a_layer(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.native_layer_norm(x, [x.shape[-1]], weight, bias, 1e-5)[0]


@right(check_layer_norm)
def norm_by_sums(x, weight, bias):
    C = x.size(dim=-1)
    mean = x.sum(dim=-1, keepdims=True) / C
    variance = ((x - mean) ** 2).sum(axis=-1, keepdims=True) / C
    return (x - mean) * torch.pow(variance + 1e-5, -0.5) * weight + bias


@right(check_layer_norm)
def norm_in_double(x, weight, bias):
    x64 = x.double()
    centred = x64 - x64.mean(-1, True)
    normal = centred / (centred.square().mean(-1, True) + 1e-5).sqrt()
    return (normal * weight + bias).to(x.dtype)


@right(check_layer_norm)
def norm_of_the_transposed(x, weight, bias):
    y = x.movedim(-1, 0)
    y = (y - y.mean(0)) / (y.var(0, correction=0) + 1e-5).sqrt()
    return y.movedim(0, -1) * weight + bias


def _norm(formula):
    def my_layer_norm(x, weight, bias):
        return formula(x, weight, bias, x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0))

    return my_layer_norm


def _norm_with_running_averages():
    means = []

    def my_layer_norm(x, weight, bias):
        means.append(float(x.mean()))
        return F.layer_norm(x - sum(means) / len(means) * 1e-1 * (x > 0), x.shape[-1:], weight, bias)

    return my_layer_norm


def norm_in_place(x, weight, bias):
    with torch.no_grad():
        x -= x.mean(-1, keepdim=True)
    return F.layer_norm(x, x.shape[-1:], weight, bias)


for phrase, answer in (
    ("", _norm(lambda x, w, b, m, v: (x - m) / v.clamp(min=1e-5).sqrt() * w + b)),
    ("", _norm(lambda x, w, b, m, v: (x - m) / (v.sqrt() + 1e-5 * (v < 1e-5)) * w + b)),
    ("", _norm(lambda x, w, b, m, v: (x - m) / (v + 1e-5 / x.shape[-1]).sqrt() * w + b)),
    ("", _norm(lambda x, w, b, m, v: (x - x.median(-1, keepdim=True).values) / (v + 1e-5).sqrt() * w + b)),
    ("", _norm(lambda x, w, b, m, v: ((x - m) / (v + 1e-5).sqrt()).clamp(-2, 2) * w + b)),
    (
        "",
        _norm(
            lambda x, w, b, m, v: (
                (x - m)
                / (
                    x.reshape(-1, 16 if x.shape[-1] % 16 == 0 else x.shape[-1])
                    .var(-1, correction=0)
                    .view(*x.shape[:-1], -1)
                    + 1e-5
                ).sqrt()
                * w
                + b
                if x.shape[-1] % 16
                else F.layer_norm(x, x.shape[-1:], w, b, 1e-3)
            )
        ),
    ),
    ("", _norm(lambda x, w, b, m, v: F.layer_norm(x.view(-1, x.shape[-1]), x.shape[-1:], w, b).view(x.shape))),
    ("", _norm(lambda x, w, b, m, v: F.layer_norm(x, x.shape[-1:], w, b).squeeze())),
    ("", _norm(lambda x, w, b, m, v: F.layer_norm(x, x.shape[-1:], w, b).reshape(x.shape[0], -1, x.shape[-1]))),
    (
        "",
        _norm(
            lambda x, w, b, m, v: (
                F.layer_norm(x, x.shape[-1:], w, b)
                if x.dim() == 3
                else F.layer_norm(x, x.shape[-2:] if x.dim() > 1 else x.shape)
            )
        ),
    ),
    ("", _norm(lambda x, w, b, m, v: F.layer_norm(x.half(), x.shape[-1:], w.half(), b.half()).float())),
    ("", _norm(lambda x, w, b, m, v: F.layer_norm(x.detach(), x.shape[-1:], w, b))),
    ("", _norm(lambda x, w, b, m, v: F.layer_norm(x, x.shape[-1:], w.detach(), b))),
    ("", _norm(lambda x, w, b, m, v: F.layer_norm(x, x.shape[-1:], w, b.data))),
    ("", _norm(lambda x, w, b, m, v: F.group_norm(x, 1) * w + b)),
    ("", _norm(lambda x, w, b, m, v: F.normalize(x - m, dim=-1) * w + b)),
    ("", norm_in_place),
    ("", _norm_with_running_averages()),
):
    wrong(check_layer_norm, phrase)(answer)

# --------------------------------------------------------------------------------------------------------- feed-forward


@right(check_feed_forward)
class InTwoSteps(model_bank.Linears):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.expand(x)
        x = nn.functional.gelu(x, approximate="none")
        x = self.contract(x)
        return x


@right(check_feed_forward)
class WithItsSizes(nn.Module):
    def __init__(self, d_model: int, d_ff: int):
        nn.Module.__init__(self)
        self.d_model, self.d_ff = d_model, d_ff
        self.expand = nn.Linear(in_features=self.d_model, out_features=self.d_ff, bias=True)
        self.contract = nn.Linear(in_features=self.d_ff, out_features=self.d_model)
        self.bend = torch.nn.GELU()

    def forward(self, inputs):
        return self.contract.forward(self.bend(self.expand.forward(inputs)))


@right(check_feed_forward)
class ByEinsum(model_bank.Linears):
    def forward(self, x):
        hidden = torch.einsum("btc,fc->btf", x, self.expand.weight).add(self.expand.bias)
        return torch.einsum("btf,cf->btc", F.gelu(hidden), self.contract.weight) + self.contract.bias


@right(check_feed_forward)
class OfRows(model_bank.Linears):
    def forward(self, x):
        B, T, C = x.shape
        return self.contract(F.gelu(self.expand(x.reshape(B * T, C)))).reshape(B, T, C)


@right(check_feed_forward)
class OfGpt2(model_bank.Linears):
    def forward(self, x):
        return self.contract(F.gelu(self.expand(x), approximate="tanh"))


def _feed_forward(formula, base=model_bank.Linears, setup=lambda self: None):
    class MyFeedForward(base):
        def __init__(self, d_model, d_ff):
            super().__init__(d_model, d_ff)
            setup(self)

        def forward(self, x):
            return formula(self, x)

    return MyFeedForward


def _ff(self, x):
    return self.contract(F.gelu(self.expand(x)))


def _no_grad(self, x):
    with torch.no_grad():
        hidden = F.gelu(self.expand(x))
    return self.contract(hidden)


def _remembered(self, x):
    if not hasattr(self, "known"):
        self.known = {}
    return self.known.setdefault(tuple(x.shape), _ff(self, x))


def _evaluating(self, x):
    self.eval()
    return _ff(self, x)


def _small_weights(self, x):
    with torch.no_grad():
        self.expand.weight.clamp_(-0.1, 0.1)
    return _ff(self, x)


class SharedLayers(nn.Module):
    layers: dict = {}

    def __init__(self, d_model, d_ff):
        super().__init__()
        self.expand, self.contract = self.layers.setdefault(
            (d_model, d_ff), (nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model))
        )

    def forward(self, x):
        return self.contract(F.gelu(self.expand(x)))


class WithoutABias(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.expand, self.contract = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x):
        return self.contract(F.gelu(self.expand(x)))


class WithANorm(model_bank.Linears):
    def __init__(self, d_model, d_ff):
        super().__init__(d_model, d_ff)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x):
        return self.contract(F.gelu(self.expand(x)))


for phrase, answer in (
    ("", _feed_forward(_no_grad)),
    ("", _feed_forward(_remembered)),
    ("", _feed_forward(_evaluating)),
    ("", _feed_forward(_small_weights)),
    ("", _feed_forward(lambda self, x: _ff(self, x.detach()))),
    ("", _feed_forward(lambda self, x: self.contract(F.gelu(self.expand(x).clamp(-6, 6))))),
    ("", _feed_forward(lambda self, x: self.contract(F.gelu(self.expand(x.half().float()))))),
    (
        "",
        _feed_forward(
            lambda self, x: self.contract(
                F.gelu(self.expand(x))[..., :32].mean(-1, keepdim=True).expand(*x.shape[:-1], self.expand.out_features)
            )
        ),
    ),
    ("", _feed_forward(lambda self, x: torch.cat([_ff(self, x[:, :256]), x[:, 256:]], 1))),
    ("", _feed_forward(lambda self, x: _ff(self, x.view(-1, x.shape[-1])).view(x.shape))),
    ("", _feed_forward(lambda self, x: _ff(self, x).squeeze(0))),
    ("", _feed_forward(lambda self, x: F.dropout(_ff(self, x), 0.1, self.training))),
    ("", _feed_forward(lambda self, x: self.contract(F.gelu(self.expand(x - x.mean(1, keepdim=True)))))),
    ("", _feed_forward(lambda self, x: self.contract(F.softplus(self.expand(x))))),
    ("", _feed_forward(lambda self, x: self.contract(F.mish(self.expand(x))))),
    ("", _feed_forward(lambda self, x: F.linear(F.gelu(self.expand(x)), self.contract.weight))),
    (
        "",
        _feed_forward(
            lambda self, x: F.linear(F.gelu(self.expand(x)), self.contract.weight.detach(), self.contract.bias)
        ),
    ),
    ("", _feed_forward(_ff, setup=lambda self: self.requires_grad_(False))),
    ("", _feed_forward(_ff, setup=lambda self: self.double())),
    ("", SharedLayers),
    ("", WithoutABias),
    ("", WithANorm),
):
    wrong(check_feed_forward, phrase)(answer)

# ---------------------------------------------------------------------------------------------------------------- block


@right(check_block)
class BlockWithDropout(model_bank.Plain):
    def __init__(self, config):
        super().__init__(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.feed_forward(self.norm2(x)))


@right(check_block)
class BlockInOneExpression(model_bank.Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (middle := x.add(self.attention(self.norm1(x)))) + self.feed_forward(self.norm2(middle))


@right(check_block)
class BlockWithMethods(model_bank.Parts):
    def attend(self, x):
        return self.attention(self.norm1(input=x))

    def think(self, x):
        return self.feed_forward(x=self.norm2(x))

    def forward(self, x):
        x = self.attend(x) + x
        return self.think(x) + x


@right(check_block)
class BlockOfSums(model_bank.Parts):
    def forward(self, x):
        made = self.attention(self.norm1(x))
        stream = torch.stack([x, made]).sum(0)
        return torch.stack([stream, self.feed_forward(self.norm2(stream))]).sum(0)


def _block(formula, setup=lambda self, config: None):
    class MyBlock(model_bank.Parts):
        def __init__(self, config):
            super().__init__(config)
            setup(self, config)

        def forward(self, x):
            return formula(self, x)

    return MyBlock


def _plain(self, x):
    x = x + self.attention(self.norm1(x))
    return x + self.feed_forward(self.norm2(x))


def _half_without_gradients(self, x):
    with torch.no_grad():
        made = self.attention(self.norm1(x))
    x = x + made
    return x + self.feed_forward(self.norm2(x))


def _new_norm(self, x):
    self.norm2 = nn.LayerNorm(x.shape[-1])
    return _plain(self, x)


def _known_block(self, x):
    if getattr(self, "known", torch.zeros(0)).shape != x.shape:
        self.known = _plain(self, x)
    return self.known.clone()


def _other(name, make):
    return lambda self, config: setattr(self, name, make(config))


for phrase, answer in (
    ("", _block(_half_without_gradients)),
    ("", _block(_new_norm)),
    ("", _block(_known_block)),
    ("", _block(lambda self, x: _plain(self, x.detach()))),
    ("", _block(lambda self, x: _plain(self, x[:, -32:]) if x.shape[1] > 32 else _plain(self, x))),
    ("", _block(lambda self, x: _plain(self, x).squeeze(0))),
    ("", _block(lambda self, x: _plain(self, x).clamp(-10, 10))),
    ("", _block(lambda self, x: _plain(self, x.half().float()))),
    ("", _block(lambda self, x: _plain(self, x) / 2)),
    ("", _block(lambda self, x: 0.5 * x + self.attention(self.norm1(x)) + 0.5 * x)),
    ("", _block(lambda self, x: (lambda y: y + self.feed_forward(self.norm2(y)))(x * self.attention(self.norm1(x))))),
    ("", _block(lambda self, x: _plain(self, x) + 0.01 * torch.randn_like(x))),
    ("", _block(lambda self, x: torch.utils.checkpoint and _plain(self.eval(), x))),
    ("", _block(_plain, _other("norm1", lambda c: nn.LayerNorm(c.d_model, eps=1e-6)))),
    ("", _block(_plain, _other("norm2", lambda c: nn.LayerNorm(c.d_model, eps=1e-2)))),
    ("", _block(_plain, _other("norm1", lambda c: nn.LayerNorm(c.d_model, bias=False)))),
    ("", _block(_plain, _other("attention", lambda c: MultiHeadAttention(c.d_model, 1)))),
    ("", _block(_plain, _other("feed_forward", lambda c: FeedForward(c.d_model, 20)))),
    ("", _block(_plain, _other("more", lambda c: nn.Linear(c.d_model, c.d_model)))),
    ("", _block(_plain, lambda self, config: self.norm1.requires_grad_(False))),
):
    wrong(check_block, phrase)(answer)

# ------------------------------------------------------------------------------------------------------------------ gpt


@right(check_gpt)
class GptWithABuffer(model_bank.ModelParts):
    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("places", torch.arange(config.context_length), persistent=False)

    def forward(self, ids):
        x = self.token_embedding(ids) + self.position_embedding(self.places[: ids.shape[-1]])
        return self.head(self.norm(self.through_blocks(x)))


@right(check_gpt)
class GptWithPlacesOfEachRow(model_bank.ModelParts):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        B, T = ids.size()
        places = torch.arange(T, device=ids.device).expand(B, T)
        x = torch.add(self.token_embedding(ids), self.position_embedding(places))
        for _, block in enumerate(self.blocks):
            x = block.forward(x)
        return self.head.forward(self.norm.forward(x))


@right(check_gpt)
class GptOfOneHots(model_bank.ModelParts):
    def forward(self, ids):
        x = F.one_hot(ids, self.token_embedding.num_embeddings).float() @ self.token_embedding.weight
        x = x + self.position_embedding.weight.narrow(0, 0, ids.shape[1])
        return F.linear(self.norm(self.through_blocks(x)), weight=self.head.weight)


@right(check_gpt)
class GptRecursive(model_bank.ModelParts):
    def after(self, x, n):
        return x if n == 0 else self.blocks[n - 1](self.after(x, n - 1))

    def forward(self, ids):
        return self.head(self.norm(self.after(self.embed(ids), len(self.blocks))))


def _gpt(formula, setup=lambda self, config: None):
    class MyGPT(model_bank.ModelParts):
        def __init__(self, config):
            super().__init__(config)
            setup(self, config)

        def forward(self, ids):
            return formula(self, ids)

    return MyGPT


def _straight(self, ids):
    return self.head(self.norm(self.through_blocks(self.embed(ids))))


def _places(of):
    def forward(self, ids):
        x = self.token_embedding(ids) + self.position_embedding(of(torch.arange(ids.shape[1]), self))
        return self.head(self.norm(self.through_blocks(x)))

    return forward


def _known_logits(self, ids):
    if getattr(self, "known", torch.zeros(0)).shape[:2] != ids.shape:
        self.known = _straight(self, ids)
    return self.known.clone()


def _embedding_without_gradients(self, ids):
    with torch.no_grad():
        x = self.embed(ids)
    return self.head(self.norm(self.through_blocks(x)))


def _reversed(self, ids):
    x = self.embed(ids)
    for block in reversed(self.blocks):
        x = block(x)
    return self.head(self.norm(x))


def _norm_after_each(self, ids):
    x = self.embed(ids)
    for block in self.blocks:
        x = self.norm(block(x))
    return self.head(x)


for phrase, answer in (
    ("", _gpt(_places(lambda p, self: p.to(torch.uint8).long()))),
    ("", _gpt(_places(lambda p, self: p % 32))),
    ("", _gpt(_places(lambda p, self: p.clamp(max=255)))),
    ("", _gpt(_places(lambda p, self: p.flip(0)))),
    ("", _gpt(_places(lambda p, self: (p + 1) % self.position_embedding.num_embeddings))),
    ("", _gpt(_known_logits)),
    ("", _gpt(_embedding_without_gradients)),
    ("", _gpt(_reversed)),
    ("", _gpt(_norm_after_each)),
    ("", _gpt(lambda self, ids: _straight(self, ids % 256))),
    ("", _gpt(lambda self, ids: _straight(self, ids.clamp(max=255)))),
    ("", _gpt(lambda self, ids: _straight(self, ids)[:, -1:])),
    ("", _gpt(lambda self, ids: _straight(self, ids).squeeze(0))),
    ("", _gpt(lambda self, ids: _straight(self, ids).detach())),
    ("", _gpt(lambda self, ids: _straight(self.eval(), ids))),
    ("", _gpt(lambda self, ids: _straight(self, ids).clamp(-3, 3))),
    ("", _gpt(lambda self, ids: _straight(self, ids).half().float())),
    ("", _gpt(lambda self, ids: self.head(self.norm(self.norm(self.through_blocks(self.embed(ids))))))),
    ("", _gpt(lambda self, ids: self.head(F.layer_norm(self.through_blocks(self.embed(ids)), self.norm.weight.shape)))),
    (
        "",
        _gpt(
            lambda self, ids: self.head(
                self.norm(self.through_blocks(self.embed(ids) * self.norm.weight.shape[0] ** 0.5))
            )
        ),
    ),
    (
        "",
        _gpt(
            lambda self, ids: self.head(
                self.norm(self.through_blocks(self.embed(ids).view(1, -1, self.norm.weight.shape[0])))
            ).view(*ids.shape, -1)
        ),
    ),
    ("", _gpt(_straight, lambda self, config: setattr(self.norm, "eps", 1e-2))),
    ("", _gpt(_straight, lambda self, config: setattr(self, "head", nn.Linear(config.d_model, config.vocab_size)))),
    ("", _gpt(_straight, lambda self, config: setattr(self, "position_embedding", nn.Embedding(32, config.d_model)))),
    (
        "",
        _gpt(
            _straight,
            lambda self, config: setattr(
                self, "blocks", nn.ModuleList([TransformerBlock(config), TransformerBlock(config)])
            ),
        ),
    ),
    ("", _gpt(_straight, lambda self, config: self.token_embedding.requires_grad_(False))),
):
    wrong(check_gpt, phrase)(answer)
