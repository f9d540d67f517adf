"""More right answers, in other words: functions in place of layers, NumPy's numbers, loops, einsum, torch's own signatures."""

import codecs
import functools
import math
import re
from collections import Counter

import numpy
import torch
from torch import nn
from torch.nn import functional as F

from checks_bank import attention as attention_bank
from checks_bank import model as model_bank
from checks_bank import tokenizer as tokenizer_bank
from checks_bank import training as training_bank
from checks_bank.register import right
from minigpt import GPT, MultiHeadAttention
from minigpt.classroom import checks

# ------------------------------------------------------------------------------------------------------------ attention


@right(checks.check_average)
def average_by_numpy(x):
    return torch.from_numpy(numpy.cumsum(x.numpy(), 0) / numpy.arange(1, len(x) + 1)[:, None])


@right(checks.check_average)
def average_step_by_step(x):
    rows, total = [], torch.zeros(x.shape[1])
    for i, row in enumerate(x):
        total = total + row
        rows.append(total / (i + 1))
    return torch.stack(rows)


@right(checks.check_average)
def average_by_einsum(x):
    weights = torch.tril(torch.ones(len(x), len(x)))
    return torch.einsum("ij,jc->ic", weights / weights.sum(1)[:, None], x)


@right(checks.check_average)
def average_into_zeros(x):
    result = torch.zeros_like(x)
    for i in range(x.size(0)):
        result[i] = x[:i + 1].sum(dim=0) / (i + 1)
    return result


for answer in (lambda T: torch.ones(T, T).tril().bool(), lambda T: torch.arange(T).unsqueeze(0) <= torch.arange(T).unsqueeze(1),
               lambda T: torch.ones(T, T, dtype=torch.bool).triu(1).logical_not(),
               lambda T: torch.tensor([[j <= i for j in range(T)] for i in range(T)])):
    right(checks.check_causal_mask)(answer)

for answer in (lambda x, n_heads: x.reshape(x.size(0), x.size(1), n_heads, -1).permute(0, 2, 1, 3),
               lambda x, n_heads: torch.stack(torch.split(x, x.shape[-1] // n_heads, dim=-1), 1),
               lambda x, n_heads: torch.cat([part[:, None] for part in x.tensor_split(n_heads, -1)], 1),
               lambda x, n_heads: x.unflatten(2, (n_heads, x.shape[2] // n_heads)).swapaxes(1, 2)):
    right(checks.check_split_heads)(answer)


@right(checks.check_attention)
def attention_by_torch_and_again(q, k, v, mask):
    scores = torch.matmul(q, k.mT).div(q.shape[-1] ** 0.5).where(mask, -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, mask), F.softmax(scores, -1)


@right(checks.check_attention)
def attention_of_scaled_queries(q, k, v, mask):
    scores = (q * q.size(-1) ** -0.5) @ k.transpose(2, 3)
    scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    weights = torch.exp(scores.log_softmax(dim=-1))
    return weights.matmul(v), weights


@right(checks.check_attention)
def attention_of_bmm(q, k, v, mask):
    B, H, T, d = q.shape
    q, k, v = (part.reshape(B * H, T, d) for part in (q, k, v))
    weights = (torch.bmm(q, k.mT) / math.sqrt(d)).masked_fill(mask.logical_not(), -math.inf).softmax(2)
    return torch.bmm(weights, v).view(B, H, T, d), weights.view(B, H, T, T)


@right(checks.check_attention)
def attention_as_a_list(q, k, v, mask):
    return list(attention_bank.plain(q, k, v, mask))


def _mixed(x, qkv, n_heads):
    q, k, v = (part.unflatten(-1, (n_heads, -1)).transpose(1, 2) for part in qkv.split(x.shape[-1], -1))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)


for answer in (lambda x, qkv, projection, n_heads: F.linear(_mixed(x, F.linear(x, qkv.weight, qkv.bias), n_heads),
                                                            projection.weight, projection.bias),
               lambda x, qkv, projection, n_heads: projection.forward(_mixed(x, qkv.forward(x), n_heads)),
               lambda x, qkv, projection, n_heads: (
                   _mixed(x, x @ qkv.weight.T, n_heads) @ projection.weight.T + projection.bias),
               lambda x, qkv, projection, n_heads: projection(torch.stack(
                   [_mixed(row[None], qkv(row[None]), n_heads)[0] for row in x]))):
    right(checks.check_multi_head)(answer)

# ---------------------------------------------------------------------------------------------------------------- model

for answer in (lambda x, weight, bias: torch.addcmul(bias, weight, (x - x.mean(-1, True)) * (
                   x.var(-1, unbiased=False, keepdim=True) + 1e-5).rsqrt()),
               lambda x, weight, bias: (lambda variance, mean: (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias)(
                   *torch.var_mean(x, -1, correction=0, keepdim=True)),
               lambda x, weight, bias: F.layer_norm(x, weight.shape, weight, bias, eps=1e-5),
               lambda x, weight, bias: (
                   (x - x.mean(-1)[..., None])
                   / (((x - x.mean(-1)[..., None]) ** 2).mean(-1)[..., None] + 1e-5) ** 0.5 * weight + bias)):
    right(checks.check_layer_norm)(answer)


@right(checks.check_block)
class BlockByCallingForward(model_bank.Parts):
    def forward(self, x):
        x = x + self.attention.forward(self.norm1.forward(x))
        return x + self.feed_forward.forward(self.norm2.forward(x))


@right(checks.check_block)
class BlockByFunctions(model_bank.Parts):
    def forward(self, x):
        def norm(x, layer):
            return F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias)
        x = x + self.attention(norm(x, self.norm1))
        return x + self.feed_forward.contract(F.gelu(self.feed_forward.expand(norm(x, self.norm2))))


@right(checks.check_block)
class BlockWithWeights(model_bank.Parts):
    def forward(self, x):
        out, _ = self.attention.with_weights(self.norm1(x))
        return torch.add(x + out, self.feed_forward(self.norm2(x + out)))


@right(checks.check_block)
class BlockWithItsConfig(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.feed_forward = model_bank.FeedForward(config.d_model, config.d_ff, config.dropout)
        self.norm2 = nn.LayerNorm(config.d_model)
        self.attention = MultiHeadAttention(d_model=config.d_model, n_heads=config.n_heads, dropout=config.dropout)
        self.norm1 = nn.LayerNorm(config.d_model)

    def forward(self, x):
        for norm, part in ((self.norm1, self.attention), (self.norm2, self.feed_forward)):
            x = x + part(norm(x))
        return x


@right(checks.check_gpt)
class GptByFunctions(model_bank.ModelParts):
    def forward(self, ids):
        x = F.embedding(ids, self.token_embedding.weight)
        x = x + F.embedding(torch.arange(ids.size(1)), self.position_embedding.weight)
        x = F.layer_norm(self.through_blocks(x), x.shape[-1:], self.norm.weight, self.norm.bias)
        return F.linear(x, self.head.weight)


@right(checks.check_gpt)
class GptInSequence(model_bank.ModelParts):
    def __init__(self, config):
        super().__init__(config)
        self.blocks = nn.Sequential(*self.blocks)

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.embed(ids))))


@right(checks.check_gpt)
class GptWithDropout(model_bank.ModelParts):
    def __init__(self, config):
        super().__init__(config)
        self.config, self.dropout = config, nn.Dropout(config.dropout)

    def forward(self, ids):
        return self.head(self.norm(self.through_blocks(self.dropout(self.embed(ids)))))


@right(checks.check_gpt)
class GptReduced(model_bank.ModelParts):
    def forward(self, ids):
        x = self.token_embedding.weight[ids] + self.position_embedding.weight[None, :ids.shape[1]]
        return self.norm(functools.reduce(lambda x, block: block(x), self.blocks, x)) @ self.head.weight.mT

# ------------------------------------------------------------------------------------------------------------ tokenizer


@right(checks.check_longest_match)
def match_by_pattern(text, vocab):
    if not text:
        return []
    found = [token for token in vocab if token in text]
    pattern = b"|".join(re.escape(token) for token in sorted(found, key=len, reverse=True))
    return re.findall(pattern, text, re.DOTALL)


@right(checks.check_longest_match)
def match_by_lengths(text, vocab):
    lengths, tokens, i = sorted({len(token) for token in vocab}, reverse=True), [], 0
    while i < len(text):
        tokens.append(next(text[i:i + n] for n in lengths if text[i:i + n] in vocab))
        i += len(tokens[-1])
    return tokens


@right(checks.check_longest_match)
def match_by_prefixes(text, vocab):
    prefixes, tokens, i = {token[:n] for token in vocab for n in range(1, len(token) + 1)}, [], 0
    while i < len(text):
        best, n = 1, 1
        while i + n <= len(text) and text[i:i + n] in prefixes:
            best, n = (n if text[i:i + n] in vocab else best), n + 1
        tokens.append(text[i:i + best])
        i += best
    return tokens


@right(checks.check_longest_match)
def match_in_a_view(text, vocab):
    longest, tokens, data = max(map(len, vocab)), [], memoryview(text)
    while len(data):
        tokens.append(max((bytes(data[:n]) for n in range(1, longest + 1) if bytes(data[:n]) in vocab), key=len))
        data = data[len(tokens[-1]):]
    return tokens


@right(checks.check_pair_counts)
def counts_by_setdefault(ids):
    counts = {}
    for i in range(1, len(ids)):
        counts.setdefault((ids[i - 1], ids[i]), 0)
        counts[ids[i - 1], ids[i]] += 1
    return counts


@right(checks.check_pair_counts)
def counts_by_update(ids):
    counts = Counter()
    counts.update(tuple(ids[i:i + 2]) for i in range(len(ids) - 1))
    return dict(counts)


@right(checks.check_pair_counts)
def counts_of_a_list(ids):
    pairs = list(zip(ids[:-1], ids[1:], strict=True))
    return {pair: pairs.count(pair) for pair in set(pairs)}


@right(checks.check_pair_counts)
def counts_by_numpy(ids):
    if len(ids) < 2:
        return {}
    pairs, counts = numpy.unique(numpy.stack([ids[:-1], ids[1:]], 1), axis=0, return_counts=True)
    return {tuple(pair): count for pair, count in zip(pairs.tolist(), counts, strict=True)}


for answer in (lambda ids, pair, new_id: tokenizer_bank.with_while(list(ids), tuple(pair), new_id),
               lambda ids, pair, new_id: tokenizer_bank.with_an_iterator(ids, pair, int(new_id))):
    right(checks.check_merge)(answer)


@right(checks.check_merge)
def merge_by_popping(ids, pair, new_id):
    rest, merged = ids[::-1], []
    while rest:
        first = rest.pop()
        if first == pair[0] and rest and rest[-1] == pair[1]:
            rest.pop()
            first = new_id
        merged.append(first)
    return merged


@right(checks.check_merge)
def merge_in_a_copy(ids, pair, new_id):
    ids, i = ids.copy(), 0
    while i < len(ids) - 1:
        if ids[i] == pair[0] and ids[i + 1] == pair[1]:
            ids[i:i + 2] = [new_id]
        i += 1
    return ids


for answer in (lambda ids, vocab: codecs.decode(b"".join([vocab[i] for i in ids]), "utf8", "replace"),
               lambda ids, vocab: "".join(codecs.iterdecode((vocab[i] for i in ids), "utf-8", errors="replace")),
               lambda ids, vocab: functools.reduce(lambda data, i: data + vocab[i], ids, b"").decode(errors="replace"),
               lambda ids, vocab: bytes(value for i in ids for value in vocab[i]).decode("UTF-8", "replace")):
    right(checks.check_decode)(answer)

# ------------------------------------------------------------------------------------------------- training, sampling


@right(checks.check_batch)
def batch_by_multinomial(ids, context_length, batch_size):
    starts = torch.multinomial(torch.ones(len(ids) - context_length), batch_size, replacement=True)
    places = starts[:, None] + torch.arange(context_length)
    return ids[places], ids[places + 1]


@right(checks.check_batch)
def batch_by_rand(ids, context_length, batch_size):
    starts = (torch.rand(batch_size) * (len(ids) - context_length)).long()
    return tuple(torch.stack([ids[i + shift:i + shift + context_length] for i in starts]) for shift in (0, 1))


@right(checks.check_batch)
def batch_by_random_(ids, context_length, batch_size):
    starts = torch.empty(batch_size, 1, dtype=torch.int64).random_(len(ids) - context_length)
    windows = ids[starts + torch.arange(context_length + 1)]
    return windows[:, :-1].clone(), windows[:, 1:].clone()


@right(checks.check_batch)
def batch_by_take(ids, context_length, batch_size):
    places = torch.randint(0, ids.numel() - context_length, (batch_size, 1)) + torch.arange(context_length)[None]
    return ids.take(places), ids.take(places + 1)


for answer in (lambda logits, targets: F.nll_loss(F.log_softmax(logits, 1), targets),
               lambda logits, targets: -(F.one_hot(targets, logits.shape[-1]) * logits.log_softmax(-1)).sum(-1).mean(),
               lambda logits, targets: nn.CrossEntropyLoss()(logits, targets),
               lambda logits, targets: (torch.logsumexp(logits, 1)
                                        - logits.gather(1, targets[:, None])[:, 0]).sum() / len(targets)):
    right(checks.check_cross_entropy)(answer)


@right(checks.check_learning_rate)
def rate_by_numpy(step, steps, warmup, peak, floor):
    progress = numpy.float64(step - warmup) / (steps - 1 - warmup)
    return numpy.where(step < warmup, peak * (step + 1) / max(1, warmup),
                       floor + (peak - floor) * (1 + numpy.cos(numpy.pi * progress)) / 2)


for answer in (lambda step, steps, warmup, peak, floor: numpy.float64(
                   training_bank.as_one_expression(step, steps, warmup, peak, floor)),
               lambda step, steps, warmup, peak, floor: torch.tensor(
                   training_bank.as_one_expression(step, steps, warmup, peak, floor), dtype=torch.float64),
               lambda step, steps, warmup, peak, floor: (
                   peak / warmup * (step + 1) if step + 1 <= warmup else
                   (peak + floor) / 2
                   + (peak - floor) / 2 * math.cos((step - warmup) * math.pi / (steps - warmup - 1)))):
    right(checks.check_learning_rate)(answer)

for answer in (lambda model, ids, n_bytes: numpy.float64(training_bank.window_by_window(model, ids, n_bytes)),
               lambda model, ids, n_bytes: numpy.float32(training_bank.window_by_window(model, ids, n_bytes)),
               lambda model, ids, n_bytes: float(torch.cat(
                   training_bank._evaluate(model, ids, model.config.context_length)).double().sum()) / n_bytes,
               lambda model, ids, n_bytes: math.fsum(torch.cat(
                   training_bank._evaluate(model, ids, model.config.context_length)).tolist()) / n_bytes):
    right(checks.check_evaluate)(answer)


def _filtered(logits, temperature, top_k, top_p, greedy):
    if temperature == 0:
        return greedy(logits)
    probs = torch.softmax(logits / temperature, dim=-1)
    values, places = torch.sort(probs, dim=-1, descending=True)
    if top_k is not None:
        values = torch.where(torch.arange(values.shape[-1]) < top_k, values, 0.0)
        values = values / values.sum(dim=-1, keepdim=True)
    if top_p is not None:
        values = torch.where(values.cumsum(-1) - values < top_p, values, torch.zeros(()))
    return torch.zeros_like(probs).scatter_(1, places, values / values.sum(dim=-1, keepdim=True))


for greedy in (lambda logits: torch.eye(logits.shape[-1])[logits.argmax(-1)],
               lambda logits: F.one_hot(logits.topk(1).indices[:, 0], logits.shape[-1]).to(logits.dtype),
               lambda logits: (torch.arange(logits.shape[-1]) == logits.argmax(-1, keepdim=True)).float(),
               lambda logits: (lambda best: best / best.sum(-1, keepdim=True))(
                   (logits == logits.amax(-1, keepdim=True)).float())):
    right(checks.check_next_token_probs)(functools.wraps(_filtered)(functools.partial(_filtered, greedy=greedy)))


def my_lower_triangle(T):
    return torch.ones(T, T).tril()


@right(checks.check_causal_mask)
def my_mask_by_a_helper(T):
    return my_lower_triangle(T).bool()


@right(checks.check_generate)
def generate_in_an_empty(model, ids, max_new_tokens):
    T = ids.shape[1]
    result = torch.empty(1, T + max_new_tokens, dtype=torch.int64)
    result[:, :T] = ids
    with torch.inference_mode():
        for end in range(T, T + max_new_tokens):
            result[0, end] = model(result[:, max(0, end - model.config.context_length):end])[0, -1].argmax()
    return result


for pick in (lambda logits: logits[:, -1, :].max(dim=-1, keepdim=True).indices, lambda logits: logits[:, [-1]].argmax(-1),
             lambda logits: logits.softmax(-1)[:, -1].argmax().view(1, 1)):
    def generate_step_by_step(model, ids, max_new_tokens, pick=pick):
        while max_new_tokens > 0:
            ids = torch.hstack([ids, pick(model(ids[:, -model.config.context_length:]))])
            max_new_tokens -= 1
        return ids
    right(checks.check_generate)(generate_step_by_step)

# ------------------------------------------------------------------------------------------------------------------ bugs

for answer in (lambda text: [*bytes(text, "utf-8")], lambda text: list(numpy.frombuffer(text.encode(), numpy.uint8)),
               lambda text: list(map(int, text.encode("utf8"))), lambda text: list(bytearray(text, encoding="utf-8"))):
    right(checks.check_byte_encode)(answer)


@right(checks.check_training_step)
def step_with_a_closure(model, optimizer, x, y):
    def closure():
        optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        return loss
    return optimizer.step(closure).item()


@right(checks.check_training_step)
def step_that_empties_by_hand(model, optimizer, x, y):
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = None
    loss = F.cross_entropy(model(x).mT, y)
    loss.backward()
    optimizer.step()
    return numpy.float32(loss.detach())


@right(checks.check_training_step)
def step_with_autograd(model, optimizer, x, y):
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    for p, gradient in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
        p.grad = gradient
    optimizer.step()
    return loss.detach().numpy()


@right(checks.check_training_step)
def step_that_keeps_zeros(model, optimizer, x, y):
    optimizer.zero_grad(set_to_none=False)
    logits = model(x)
    loss = -logits.log_softmax(-1).gather(-1, y[..., None]).mean()
    loss.backward()
    optimizer.step()
    return float(loss)


for answer in (lambda path: GPT.load(path, device="cpu"), lambda path: GPT.load(str(path)), lambda path: (
        lambda gpt: GPT(gpt.tokenizer, gpt.model))(GPT.load(path))):
    right(checks.check_load)(answer)


@right(checks.check_load)
def load_with_the_mode_set(path):
    gpt = GPT.load(path)
    gpt.model.train(False)
    return gpt
