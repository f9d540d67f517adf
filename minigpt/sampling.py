"""Sampling: from logits to a choice of the next token, and on from a prompt, one token at a time.

It asks the model and knows nothing of text: ids go in and ids come out. `next_token_probs` is the
distribution (temperature; top-k: Fan et al., "Hierarchical Neural Story Generation", 2018; top-p:
Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020), `generate_ids` draws from it
again and again with a key/value cache. Shapes: B rows of logits, V tokens in the vocabulary.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from minigpt.arguments import SEED, flag, integer, number, shown, takes
from minigpt.model import GPTModel, evaluating, is_a_model

READ_AT_ONCE = 128      # tokens of a prompt whose logits stand in memory together
# The guards of whatever samples.
SETTINGS = {"temperature": number(0), "top_k": integer(1, optional=True),
            "top_p": number(0, 1, open_low=True, optional=True)}


def _logits(name, value) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"{name} must be a tensor of floating-point numbers, not {shown(value)}")
    if value.dim() == 0 or value.shape[-1] == 0:
        raise ValueError(f"{name} must be (B, V), not {tuple(value.shape)}")
    return value


def _prompt_ids(name, value) -> list[int]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be a list of whole numbers, not {shown(value)}")
    if not value:
        raise ValueError(f"{name} must hold at least one token to continue, not []")
    whole = integer(0)
    return [whole(name, i) for i in value]


@takes(logits=_logits, **SETTINGS)
def next_token_probs(logits: Tensor, temperature: float = 1.0, top_k: int | None = None,
                     top_p: float | None = None) -> Tensor:
    """The distribution of the next token: logits (B, V) -> probabilities (B, V), rows sum to 1.

    temperature divides the logits: below 1 bolder, above 1 flatter, 0 greedy (the first of the
    largest). Then top_k keeps the k most likely; then top_p the smallest set whose mass reaches it,
    the most likely first. What is left is scaled to sum to 1. None switches either off.
    """
    largest = _largest(logits)                                      # (B, 1)
    if temperature == 0:
        return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    limits = torch.finfo(logits.dtype)          # a tinier number would be 0, a larger one infinite
    temperature = min(max(temperature, limits.tiny), limits.max)
    # With a tiny one, all but the largest, which is 0 here, become -inf, and never NaN.
    probs = ((logits - largest) / temperature).softmax(-1)          # (B, V)
    if top_k is None and top_p is None:
        return probs
    sorted_probs, order = probs.sort(dim=-1, descending=True, stable=True)  # (B, V)
    if top_k is not None:
        sorted_probs[..., top_k:] = 0
    if top_p is not None:
        sorted_probs /= sorted_probs.sum(-1, keepdim=True)
        mass_before = sorted_probs.cumsum(-1) - sorted_probs
        sorted_probs[mass_before >= max(top_p, limits.tiny)] = 0    # what crosses top_p stays
    sorted_probs /= sorted_probs.sum(-1, keepdim=True)
    return torch.zeros_like(probs).scatter_(-1, order, sorted_probs)


def _largest(logits: Tensor) -> Tensor:
    """The largest of each row, (B, 1).

    Raises ValueError where it is no number: such logits choose nothing.
    """
    largest = logits.amax(-1, keepdim=True)
    for value in largest.flatten().tolist():                    # faster than isfinite()
        if not math.isfinite(value):
            raise ValueError(f"logits must be numbers, the largest of each row finite, not {value}")
    return largest


def _in_the_vocabulary(given: dict) -> None:
    integer(0, given["model"].config.vocab_size - 1)("ids", max(given["ids"]))


@takes(_in_the_vocabulary, model=is_a_model, ids=_prompt_ids, max_new_tokens=integer(0), seed=SEED,
       use_cache=flag, **SETTINGS)
def generate_ids(model: GPTModel, ids: Sequence[int], max_new_tokens: int, temperature: float = 1.0,
                 top_k: int | None = None, top_p: float | None = None, seed: int | None = None,
                 use_cache: bool = True) -> Iterator[int]:
    """Draw `max_new_tokens` ids that continue `ids` (one or more), each as soon as it is known.

    When the context is full the window jumps: its last half is kept, read afresh, and grows again.
    A window that slid by one would have to be read afresh for every token, since the places in it
    change; jumping keeps the cost a token flat. With and without the cache the rule, and so the
    text, is the same. Equal seeds give equal ids; None draws a new one.
    """
    context_length, device = model.config.context_length, next(model.parameters()).device
    generator = torch.Generator(device)
    generator.manual_seed(generator.seed() if seed is None else seed)
    window = unread = list(ids[-context_length:])
    cache = model.new_cache() if use_cache else None
    for _ in range(max_new_tokens):
        logits = last_logits(model, unread if use_cache else window, cache)  # (1, V)
        token = draw(next_token_probs.__wrapped__(logits, temperature, top_k, top_p), generator)
        yield token
        window, unread = [*window, token], [token]
        if len(window) > context_length:
            window = unread = window[-max(1, context_length // 2):]
            cache = model.new_cache() if use_cache else None


@torch.inference_mode()
def last_logits(model: GPTModel, ids: list[int], cache) -> Tensor:
    """Logits (1, V) of the token after `ids`, in eval mode, without gradients.

    With a cache, a long prompt is read in pieces: a large vocabulary's logits for all of it would
    fill the memory.
    """
    device = next(model.parameters()).device
    with evaluating(model):
        size = READ_AT_ONCE if cache else len(ids)
        for piece in (ids[start:start + size] for start in range(0, len(ids), size)):
            logits = model(torch.tensor([piece], device=device), cache)[:, -1]      # (1, V)
    return logits


def draw(probs: Tensor, generator: torch.Generator) -> int:
    """A token drawn from the distribution (1, V).

    The probabilities are added up, token after token, and the first at which the sum exceeds a
    random share of the whole is drawn. `torch.multinomial` draws alike, in six times the time.
    """
    totals = probs.cumsum(-1)                                   # (1, V)
    share = torch.rand(1, 1, generator=generator, device=probs.device) * totals[:, -1:]
    return int(torch.searchsorted(totals, share, right=True))
