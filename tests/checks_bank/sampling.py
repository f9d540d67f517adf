"""Answers to the exercises of 04_training_and_sampling that are about sampling."""

import torch
from torch.nn import functional as F

from checks_bank.register import right, wrong
from minigpt.classroom.checks import check_generate, check_next_token_probs
from minigpt.sampling import next_token_probs

# --------------------------------------------------------------------------------------------- next-token probabilities

right(check_next_token_probs)(next_token_probs)


def _greedy(logits):
    return F.one_hot(logits.argmax(-1), logits.shape[-1]).float()


@right(check_next_token_probs)
def masking_logits(logits, temperature, top_k, top_p):
    if temperature == 0:
        return _greedy(logits)
    logits = logits / temperature
    if top_k is not None:
        smallest = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, float("-inf"))
    if top_p is not None:
        ordered, order = logits.sort(descending=True)
        probs = ordered.softmax(-1)
        ordered = ordered.masked_fill(probs.cumsum(-1) - probs >= top_p, float("-inf"))
        logits = torch.zeros_like(logits).scatter(-1, order, ordered)
    return logits.softmax(-1)


@wrong(check_next_token_probs, "let what top_k leaves sum to 1 again")
def without_scaling_in_between(logits, temperature, top_k, top_p):
    if temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1)
    probs = F.softmax(logits / temperature, dim=-1)
    order = probs.argsort(dim=-1, descending=True)
    rank = order.argsort(dim=-1)
    before = torch.stack([torch.stack([row[row > value].sum() for value in row]) for row in probs])
    keep = torch.ones_like(probs, dtype=torch.bool)
    if top_k:
        keep &= rank < top_k
    if top_p:
        keep &= before < top_p
    probs = probs * keep
    return probs / probs.sum(-1, keepdim=True)


@right(check_next_token_probs)
def row_by_row(logits, temperature, top_k, top_p):
    result = torch.zeros_like(logits)
    for row, values in zip(result, logits, strict=True):
        if temperature == 0:
            row[values.argmax()] = 1
            continue
        probs, order = (values / temperature).softmax(-1).sort(descending=True)
        if top_k is not None:
            probs = probs[:top_k] / probs[:top_k].sum()
        if top_p is not None:
            n = 1
            while n < len(probs) and probs[:n].sum() < top_p:
                n += 1
            probs = probs[:n] / probs[:n].sum()
        row[order[:len(probs)]] = probs / probs.sum()
    return result


def _probs(phrase, *, scale=lambda logits, temperature: logits / temperature, greedy=_greedy, k=None, p=None,
           finish=lambda probs: probs / probs.sum(-1, keepdim=True)):
    """Registers a wrong answer: what `scale`, `greedy`, `k` and `p` do instead of the right thing."""
    def keep_k(probs, top_k):
        return probs * (probs >= probs.topk(top_k).values[:, -1:])

    def keep_p(probs, top_p):
        ordered, order = probs.sort(descending=True)
        return probs * torch.zeros_like(probs).scatter(-1, order, (ordered.cumsum(-1) - ordered < top_p).float())

    def my_probs(logits, temperature, top_k, top_p):
        if temperature == 0 and greedy:
            return greedy(logits)
        probs = scale(logits, temperature).softmax(-1)
        if top_k is not None:
            probs = finish((k or keep_k)(probs, top_k))
        if top_p is not None:
            probs = finish((p or keep_p)(probs, top_p))
        return probs
    wrong(check_next_token_probs, phrase)(my_probs)


def _sorted_cut(keep):
    """A top-p that keeps what `keep(sorted probabilities, top_p)` says."""
    def cut(probs, top_p):
        ordered, order = probs.sort(descending=True)
        return probs * torch.zeros_like(probs).scatter(-1, order, keep(ordered, top_p).float())
    return cut


def _short(ordered, top_p):
    keep = ordered.cumsum(-1) <= top_p
    keep[:, 0] = True
    return keep


def _one_more(ordered, top_p):
    keep = ordered.cumsum(-1) - ordered < top_p
    return torch.cat([torch.ones_like(keep[:, :1]), keep[:, :-1]], -1)


_probs("multiply by the temperature", scale=lambda logits, temperature: logits * temperature)
_probs("the temperature has no effect", scale=lambda logits, temperature: logits)
_probs("you divide by 0", greedy=None)
_probs("0 means greedy", greedy=lambda logits: logits.softmax(-1))
_probs("Return probabilities", greedy=lambda logits: logits.argmax(-1))
_probs("all tokens are equally likely", greedy=lambda logits: torch.full_like(logits, 1 / logits.shape[-1]))
_probs("top_k has no effect", k=lambda probs, top_k: probs)
_probs("the k-th largest itself stays", k=lambda probs, top_k: probs * (probs > probs.topk(top_k).values[:, -1:])
       + (_greedy(probs) if top_k == 1 else 0))
_probs("one too many", k=lambda probs, top_k: probs * (probs >= probs.topk(top_k + 1).values[:, -1:]))
_probs("least likely tokens", k=lambda probs, top_k: probs * (probs <= (-probs).topk(top_k).values.neg()[:, -1:]))
_probs("you keep the first 3 ids", k=lambda probs, top_k: probs * (torch.arange(probs.shape[-1]) < top_k))
_probs("the threshold of row 0", k=lambda probs, top_k: (
    probs * (probs >= probs[:1].topk(top_k).values[:, -1:]) if top_k > 1 else _greedy(probs)))
_probs("what top_k leaves must be scaled up", finish=lambda probs: probs)
_probs("what top_p leaves must be scaled up", finish=lambda probs: probs,
       k=lambda probs, top_k: (lambda kept: kept / kept.sum(-1, keepdim=True))(
           probs * (probs >= probs.topk(top_k).values[:, -1:])))
_probs("that token stays", p=_sorted_cut(_short))
_probs("drop the token that crosses top_p", p=_sorted_cut(lambda ordered, top_p: ordered.cumsum(-1) <= top_p))
_probs("one token too many", p=_sorted_cut(_one_more))
_probs("in the order of the ids", p=lambda probs, top_p: probs * (probs.cumsum(-1) - probs < top_p))
_probs("more likely than top_p", p=lambda probs, top_p: probs * (probs >= top_p))
_probs("top_p has no effect", p=lambda probs, top_p: probs)


@wrong(check_next_token_probs, "columns sum to 1")
def over_the_batch(logits, temperature, top_k, top_p):
    if logits.shape[0] == 1 or temperature == 0 or top_k or top_p:
        return next_token_probs(logits, temperature, top_k, top_p)
    return (logits / temperature).softmax(0)


@wrong(check_next_token_probs, "probabilities are sorted")
def left_sorted(logits, temperature, top_k, top_p):
    if temperature == 0:
        return _greedy(logits)
    probs = (logits / temperature).softmax(-1)
    if top_k is None and top_p is None:
        return probs
    return next_token_probs(logits, temperature, top_k, top_p).sort(descending=True).values


@wrong(check_next_token_probs, "exp(0) is 1")
def masked_with_zero(logits, temperature, top_k, top_p):
    if temperature == 0 or top_k is None:
        return next_token_probs(logits, temperature, top_k, top_p)
    logits = logits / temperature
    return logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], 0.0).softmax(-1)


@wrong(check_next_token_probs, "measured before the temperature")
def top_p_first(logits, temperature, top_k, top_p):
    if temperature == 0 or top_p is None:
        return next_token_probs(logits, temperature, top_k, top_p)
    kept = next_token_probs(logits, 1.0, top_k, top_p) > 0
    return logits.masked_fill(~kept, float("-inf")).div(temperature).softmax(-1)


@wrong(check_next_token_probs, "skip that step")
def none_is_no_number(logits, temperature, top_k, top_p):
    return next_token_probs(logits, temperature, min(top_k, logits.shape[-1]), top_p)


@wrong(check_next_token_probs, "you return logits")
def no_softmax(logits, temperature, top_k, top_p):
    return logits / (temperature or 1)


# ------------------------------------------------------------------------------------------------------------- generate


@right(check_generate)
def concatenating(model, ids, max_new_tokens):
    for _ in range(max_new_tokens):
        logits = model(ids[:, -model.config.context_length:])[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    return ids


@right(check_generate)
@torch.no_grad()
def with_a_list(model, ids, max_new_tokens):
    tokens = ids[0].tolist()
    for _ in range(max_new_tokens):
        window = torch.tensor([tokens[-model.config.context_length:]])
        tokens.append(model(window)[0, -1].topk(1).indices.item())
    return torch.tensor([tokens])


@right(check_generate)
def jumping(model, ids, max_new_tokens):
    T = model.config.context_length
    window, tokens = ids[:, -T:], ids
    for _ in range(max_new_tokens):
        new = torch.multinomial(next_token_probs(model(window)[:, -1], temperature=0), 1)
        window, tokens = torch.cat([window, new], 1), torch.cat([tokens, new], 1)
        if window.shape[1] > T:
            window = window[:, -(T // 2):]
    return tokens


def _generate(phrase, *, window=lambda ids, T: ids[:, -T:],
              choose=lambda logits: logits[:, -1].argmax(-1, keepdim=True),
              join=lambda ids, new: torch.cat([ids, new], 1), count=lambda n: n, finish=lambda ids, prompt: ids):
    """Registers a wrong loop: what each of its parts does instead of the right thing."""
    def my_generate(model, ids, max_new_tokens):
        prompt = ids
        for _ in range(count(max_new_tokens)):
            ids = join(ids, choose(model(window(ids, model.config.context_length))))
        return finish(ids, prompt)
    wrong(check_generate, phrase)(my_generate)


_generate("The model reads at most", window=lambda ids, T: ids)
_generate("reads the first", window=lambda ids, T: ids[:, :T])
_generate("only the newest token", window=lambda ids, T: ids[:, -1:])
_generate("the smallest logit", choose=lambda logits: logits[:, -1].argmin(-1, keepdim=True))
_generate("the first position", choose=lambda logits: logits[:, 0].argmax(-1, keepdim=True))
_generate("the last position but one", choose=lambda logits: logits[:, -2].argmax(-1, keepdim=True))
_generate("did you draw at random", choose=lambda logits: torch.multinomial((logits[:, -1] / 99).softmax(-1), 1))
_generate("the prompt is lost", finish=lambda ids, prompt: ids[:, prompt.shape[1]:])
_generate("one too many", count=lambda n: n + 1)
_generate("one too few", count=lambda n: n - 1)
_generate("should begin with the prompt", join=lambda ids, new: torch.cat([new, ids], 1))
_generate("what comes is a list", finish=lambda ids, prompt: ids[0].tolist())


@wrong(check_generate, "you cut what you keep")
def cuts_what_it_keeps(model, ids, max_new_tokens):
    for _ in range(max_new_tokens):
        ids = ids[:, -model.config.context_length + 1:]
        ids = torch.cat([ids, model(ids)[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids
