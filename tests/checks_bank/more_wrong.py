"""More wrong answers: slips that have a name, sizes of another cell, the smallest and the largest cases."""

import unicodedata

import torch
from torch.nn import functional as F

from checks_bank import attention as attention_bank
from checks_bank import bugs as bugs_bank
from checks_bank import model as model_bank
from checks_bank import sampling as sampling_bank
from checks_bank import tokenizer as tokenizer_bank
from checks_bank import training as training_bank
from checks_bank.register import wrong
from minigpt import GPT, Tokenizer
from minigpt.classroom import checks

T, C, d = 3, 2, 64                                                       # as 02 leaves them behind


def average_of_three(x):
    average = torch.zeros(T, C)
    for i in range(T):
        average[i] = x[:i + 1].mean(0)
    return average


def attention_with_the_notebooks_d(q, k, v, mask):
    weights = (q @ k.mT / d ** 0.5).masked_fill(~mask, float("-inf")).softmax(-1)
    return weights @ v, weights


def attention_divided_by(divisor, hidden=float("-inf")):
    def my_attention(q, k, v, mask):
        weights = (q @ k.mT / (divisor or q.shape[-1] ** 0.5)).masked_fill(~mask, hidden).softmax(-1)
        return weights @ v, weights
    return my_attention


def attention_of_bare_exponentials(q, k, v, mask):
    powers = torch.exp(q @ k.mT / q.shape[-1] ** 0.5) * mask
    weights = powers / powers.sum(-1, keepdim=True)
    return weights @ v, weights


def in_another_cell(function):
    """As in a notebook, where each cell is a file of its own."""
    function.__code__ = function.__code__.replace(co_filename="<the cell of another exercise>")
    return function


@in_another_cell
def my_attention(q, k, v, mask):
    return attention_bank.plain(q, k, v, mask)


def my_scaled_attention(q, k, v, mask):
    return my_attention(q, k, v, mask)


@in_another_cell
def my_batch(ids, context_length, batch_size):
    return training_bank.stacked(ids, context_length, batch_size)


def my_window_batch(ids, context_length, batch_size):
    return my_batch(ids, context_length, batch_size)


def average_of_channels(x):
    average = torch.empty_like(x)
    for i in range(len(x)):
        average[i] = x[:i + 1].mean(1)
    return average


def left_sorted(logits, temperature, top_k, top_p):
    if temperature == 0:
        return sampling_bank.masking_logits(logits, 0, top_k, top_p)
    return sampling_bank.masking_logits(logits, temperature, top_k, top_p).sort(descending=True).values


def batch_moved_back(ids, context_length, batch_size):
    starts = torch.randint(len(ids), (batch_size, 1)).clamp(max=len(ids) - context_length - 1)
    windows = ids[starts + torch.arange(context_length + 1)]
    return windows[:, :-1], windows[:, 1:]


def batch_without_putting_back(ids, context_length, batch_size):
    starts = torch.randperm(len(ids) - context_length)[:batch_size, None]
    windows = ids[starts + torch.arange(context_length + 1)]
    return windows[:, :-1], windows[:, 1:]


def batch_in_order(ids, context_length, batch_size):
    starts = torch.randint(len(ids) - context_length, (batch_size, 1)).sort(0).values
    windows = ids[starts + torch.arange(context_length + 1)]
    return windows[:, :-1], windows[:, 1:]


def merge_as_text(ids, pair, new_id):
    text = str(ids).replace(f"{pair[0]}, {pair[1]}", str(new_id))
    return [int(number) for number in text.strip("[]").split(",") if number.strip()]


def merge_of_bytes(ids, pair, new_id):
    return tokenizer_bank.with_while(list(bytes(ids)), pair, new_id)


def at_most(limit):
    def my_longest_match(text, vocab):
        return tokenizer_bank.from_the_longest_down(text, {token for token in vocab if len(token) <= limit})
    return my_longest_match


def every_way(text, vocab):
    if not text:
        return []
    ways = [[text[:n], *every_way(text[n:], vocab)] for n in range(1, len(text) + 1) if text[:n] in vocab]
    return ways[-1]


def evaluate_to_the_last_id(model, ids, n_bytes):
    training, total = model.training, 0.0
    model.eval()
    with torch.no_grad():
        for start in range(0, len(ids), model.config.context_length):
            window = ids[start:start + model.config.context_length + 1]
            total += float(F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="sum"))
    model.train(training)
    return total / n_bytes


def evaluate_unshifted(model, ids, n_bytes):
    training, total = model.training, 0.0
    model.eval()
    with torch.no_grad():
        for window in ids[:-1].split(model.config.context_length):
            total += float(F.cross_entropy(model(window[None])[0], window, reduction="sum"))
    model.train(training)
    return total / n_bytes


def generate_and_return_at_once(model, ids, max_new_tokens):
    for _ in range(max_new_tokens):
        ids = torch.cat([ids, model(ids[:, -model.config.context_length:])[:, -1:].argmax(-1)], 1)
        return ids
    return ids


def generate_from_one_less(model, ids, max_new_tokens):
    for _ in range(max_new_tokens):
        ids = torch.cat([ids, model(ids[:, -(model.config.context_length - 1):])[:, -1:].argmax(-1)], 1)
    return ids


def filters_swapped(logits, temperature, top_k, top_p):
    probs = sampling_bank.masking_logits(logits, temperature, None, top_p)
    return probs if temperature == 0 or top_k is None else sampling_bank.masking_logits(probs.log(), 1.0, top_k, None)


def nearly_zero(logits, temperature, top_k, top_p):
    return sampling_bank.masking_logits(logits, temperature or 1e-3, top_k, top_p)


def ties_get_a_one_each(logits, temperature, top_k, top_p):
    if temperature == 0:
        return (logits == logits.amax(-1, keepdim=True)).float()
    return sampling_bank.masking_logits(logits, temperature, top_k, top_p)


class CallsTheList(model_bank.ModelParts):
    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.embed(ids))))


class OfTwoBlocks(model_bank.ModelParts):
    def forward(self, ids):
        return self.head(self.norm(self.blocks[1](self.blocks[0](self.embed(ids)))))


class SwitchesToEval(model_bank.Plain):
    def forward(self, x):
        self.eval()
        return super().forward(x)


class ReplacesItsLayer(model_bank.Linears):
    def forward(self, x):
        self.expand = torch.nn.Linear(x.shape[-1], self.expand.out_features)
        return self.contract(F.gelu(self.expand(x)))


class WithOtherNames(torch.nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.up, self.down = torch.nn.Linear(d_model, d_ff), torch.nn.Linear(d_ff, d_model)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


def with_a_typo(text):
    return list(text.encod("utf-8"))


def encoded(change):
    return lambda text: list(change(text).encode())


def decoded(how):
    return lambda ids, vocab: how(b"".join(vocab[i] for i in ids), ids)


def load_with(change):
    def my_load(path):
        gpt = GPT.load(path)
        return change(gpt) or gpt
    return my_load


def cross_entropy_of(logs):
    return lambda logits, targets: -logs(logits)[torch.arange(len(targets)), targets].mean()


def step_with(prepare):
    def my_step(model, optimizer, x, y):
        prepare(model, optimizer)
        return bugs_bank.zero_first(model, optimizer, x, y)
    return my_step


for check, phrase, answer in (
        (checks.check_average, "It reads `C`, which is 2 in another cell", average_of_three),
        (checks.check_average, "Positions lie along axis 0", average_of_channels),
        (checks.check_next_token_probs, "your probabilities are sorted", left_sorted),
        (checks.check_decode, "An id is a place in vocab", lambda ids, vocab: bytes(ids).decode(errors="replace")),
        (checks.check_average, "along the channels", lambda x: x.cumsum(1) / torch.arange(1, x.shape[1] + 1)),
        (checks.check_average, "[:, None]", lambda x: x.cumsum(0) / torch.arange(1, len(x) + 1)),
        (checks.check_causal_mask, "your mask says",
         lambda T: torch.arange(T).to(torch.uint8)[:, None] >= torch.arange(T).to(torch.uint8)),
        (checks.check_attention, "the divisor must come from the input", attention_divided_by(2 ** 0.5)),
        (checks.check_attention, "It reads `d`, which is 64 in another cell", attention_with_the_notebooks_d),
        (checks.check_attention, "Nothing is lower than -inf", attention_divided_by(None, -1e4)),
        (checks.check_attention, "exp of such a number is infinite", attention_of_bare_exponentials),
        (checks.check_attention, "which you have written before", my_scaled_attention),
        (checks.check_batch, "which you have written before", my_window_batch),
        (checks.check_batch, "Are starts beyond the last moved back", batch_moved_back),
        (checks.check_batch, "one may come twice", batch_without_putting_back),
        (checks.check_batch, "in the order of the text", batch_in_order),
        (checks.check_merge, "one text of digits", merge_as_text),
        (checks.check_merge, "ValueError", merge_of_bytes),
        (checks.check_longest_match, "do you start from the longest token", at_most(6)),
        (checks.check_evaluate, "still has a token to predict", evaluate_to_the_last_id),
        (checks.check_evaluate, "not shifted", evaluate_unshifted),
        (checks.check_generate, "Does `return` stand inside the loop?", generate_and_return_at_once),
        (checks.check_generate, "without a 1 taken off", generate_from_one_less),
        (checks.check_next_token_probs, "let what top_k leaves sum to 1", filters_swapped),
        (checks.check_next_token_probs, "0 is no small temperature", nearly_zero),
        (checks.check_next_token_probs, "argmax finds one of them", ties_get_a_one_each),
        (checks.check_gpt, "as if it were a layer", CallsTheList),
        (checks.check_block, "goes in eval mode", SwitchesToEval),
        (checks.check_feed_forward, "put in their place", ReplacesItsLayer),
        (checks.check_feed_forward, "the first is called expand", WithOtherNames),
        (checks.check_layer_norm, "any number of axes",
         lambda x, w, b: (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True, correction=0) + 1e-5).sqrt() * w + b),
        (checks.check_byte_encode, "Is that a typo", with_a_typo),
        (checks.check_byte_encode, "strip nothing", encoded(str.strip)),
        (checks.check_byte_encode, "normalised", encoded(lambda text: unicodedata.normalize("NFC", text))),
        (checks.check_byte_encode, "line ends", encoded(lambda text: text.replace("\r\n", "\n").replace("\r", "\n"))),
        (checks.check_byte_encode, "byte-order mark", encoded(lambda text: text.removeprefix("\ufeff"))),
        (checks.check_decode, "taken for characters", lambda ids, vocab: "".join(map(chr, ids))),
        (checks.check_decode, "strip nothing", decoded(lambda data, ids: data.decode(errors="replace").strip())),
        (checks.check_decode, "utf-8-sig", decoded(lambda data, ids: data.decode("utf-8-sig", errors="replace"))),
        (checks.check_decode, "normalised",
         decoded(lambda data, ids: unicodedata.normalize("NFC", data.decode(errors="replace")))),
        (checks.check_load, "the vocabulary is not the saved one",
         load_with(lambda gpt: setattr(gpt, "tokenizer", Tokenizer.train("another text", gpt.tokenizer.vocab_size, "bpe")))),
        (checks.check_load, "in training mode", load_with(lambda gpt: gpt.model.train() and None)),
        (checks.check_load, "the model alone", load_with(lambda gpt: gpt.model)),
        (checks.check_load, "can no longer learn", load_with(lambda gpt: gpt.model.requires_grad_(False) and None)),
        (checks.check_cross_entropy, "never goes by way of p", cross_entropy_of(lambda logits: logits.softmax(-1).log())),
        (checks.check_cross_entropy, "something keeps your p",
         cross_entropy_of(lambda logits: (logits.softmax(-1) + 1e-9).log())),
        (checks.check_cross_entropy, "every target from every row",
         lambda logits, targets: -logits.log_softmax(-1)[:, targets].mean()),
        (checks.check_training_step, "another mode", step_with(lambda model, optimizer: model.train(not model.training))),
        (checks.check_training_step, "more than once", step_with(lambda model, optimizer: optimizer.step())),
        (checks.check_learning_rate, "a square", lambda step, steps, warmup, peak, floor: (
            peak * ((step + 1) / warmup) ** 2 if step < warmup
            else training_bank.as_one_expression(step, steps, warmup, peak, floor))),
        (checks.check_learning_rate, "ZeroDivisionError", lambda step, steps, warmup, peak, floor: (
            min(peak * (step + 1) / warmup, training_bank.as_one_expression(max(step, warmup), steps, warmup, peak, floor)))),
        (checks.check_pair_counts, "first pair is missing", lambda ids: tokenizer_bank.loop_with_get(ids[1:])),
        (checks.check_pair_counts, "ValueError", lambda ids: tokenizer_bank.loop_with_get(list(bytes(ids)))),
        (checks.check_split_heads, "stopped with RuntimeError", lambda x, n_heads: (
            x.view(-1, n_heads, x.shape[-1] // n_heads).view(*x.shape[:2], n_heads, -1).transpose(1, 2))),
        (checks.check_multi_head, "its bias is lost", lambda x, qkv, projection, n_heads: (
            attention_bank.multi_head_in_pieces(x, qkv, lambda out: F.linear(out, projection.weight), n_heads))),
):
    wrong(check, phrase)(answer)
