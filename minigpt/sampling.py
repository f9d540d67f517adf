"""Sampling: from logits to a choice of the next token, and from a prompt to a text, one token at a time.

Last stop of the pipeline. Nothing here knows of text: ids go in and ids come out. `next_token_probs` is the distribution
(temperature; top-k: Fan et al., "Hierarchical Neural Story Generation", 2018; top-p: Holtzman et al., "The Curious Case of
Neural Text Degeneration", 2020), `generate_ids` draws from it again and again with a key/value cache.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from minigpt.arguments import instance, integer, number, shown
from minigpt.model import GPTModel, check_model

MAX_SEED = 2 ** 63 - 1
READ_AT_ONCE = 512          # tokens of a prompt whose logits stand in memory together


def next_token_probs(logits: Tensor, temperature: float = 1.0, top_k: int | None = None,
                     top_p: float | None = None) -> Tensor:
    """The distribution to draw the next token from: logits (B, V) -> probabilities (B, V), rows summing to 1.

    temperature: divides the logits; below 1 bolder differences, above 1 flatter; 0 is greedy, all on the largest (the
    first of equals). Then top_k: only the k most likely (1 or more). Then top_p: only the smallest set whose mass reaches
    top_p (more than 0, at most 1), the most likely first. What is left is scaled to sum to 1. None switches either off.
    """
    check_sampling_arguments(temperature, top_k, top_p)
    largest = _largest(logits)                                                                 # (B, 1)
    if temperature == 0:
        return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    # The largest is moved to 0 first: with a tiny temperature the others then become -inf, never NaN.
    temperature = max(temperature, torch.finfo(logits.dtype).tiny)                             # a tinier one would be 0
    probs = ((logits - largest) / temperature).softmax(-1)                                     # (B, V)
    if top_k is None and top_p is None:
        return probs
    sorted_probs, order = probs.sort(dim=-1, descending=True, stable=True)                     # (B, V)
    if top_k is not None:
        sorted_probs[..., top_k:] = 0
    if top_p is not None:
        sorted_probs /= sorted_probs.sum(-1, keepdim=True)
        mass_before = sorted_probs.cumsum(-1) - sorted_probs
        sorted_probs[mass_before >= top_p] = 0      # the token that crosses top_p stays: the mass before it falls short
    sorted_probs /= sorted_probs.sum(-1, keepdim=True)
    return torch.zeros_like(probs).scatter_(-1, order, sorted_probs)


def _largest(logits: Tensor) -> Tensor:
    """The largest of each row, (B, 1), once it is sure that these are logits."""
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise TypeError(f"logits must be a tensor of floating-point numbers, not {shown(logits)}")
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must be (B, V), not {tuple(logits.shape)}")
    largest = logits.amax(-1, keepdim=True)
    for value in largest.flatten().tolist():                                                   # faster than isfinite().all()
        if not math.isfinite(value):
            raise ValueError(f"logits must be numbers, the largest of each row finite, not {value}")
    return largest


def check_sampling_arguments(temperature, top_k, top_p) -> None:
    """Raise TypeError or ValueError for settings that mean nothing."""
    number("temperature", temperature, low=0)
    integer("top_k", top_k, low=1, optional=True)
    number("top_p", top_p, low=0, high=1, open_low=True, optional=True)


def generate_ids(model: GPTModel, ids: Sequence[int], max_new_tokens: int, temperature: float = 1.0,
                 top_k: int | None = None, top_p: float | None = None, seed: int | None = None,
                 use_cache: bool = True) -> Iterator[int]:
    """Draw up to `max_new_tokens` ids that continue `ids` (one or more), each as soon as it is known.

    When the context is full the window jumps: its last half is kept, read afresh, and grows again. Learned positions
    belong to places in the window, so a window that slid by one would have to be read afresh for every token; jumping
    keeps the cost a token flat. With and without the cache the rule, and so the text, is the same. Equal seeds give
    equal ids; None draws a new one.
    """
    check_sampling_arguments(temperature, top_k, top_p)
    integer("max_new_tokens", max_new_tokens, low=0)
    integer("seed", seed, low=0, high=MAX_SEED, optional=True)
    instance("use_cache", use_cache, bool)
    check_model(model)
    vocab_size = model.config.vocab_size
    ids = [integer("ids", i, low=0, high=vocab_size - 1) for i in instance("ids", ids, Sequence, "a list of whole numbers")]
    if not ids:
        raise ValueError("ids must hold at least one token to continue, not []")
    use_cache = use_cache and len(model.blocks) > 0                  # without blocks there is nothing to remember
    return _generate(model, ids, max_new_tokens, (temperature, top_k, top_p), seed, use_cache)


def _generate(model, ids, max_new_tokens, settings, seed, use_cache) -> Iterator[int]:
    context_length = model.config.context_length
    device = next(model.parameters()).device
    generator = torch.Generator(device)
    _ = generator.seed() if seed is None else generator.manual_seed(seed)
    window = ids[-context_length:]
    cache, new = model.new_cache() if use_cache else None, window
    for _ in range(max_new_tokens):
        logits = last_logits(model, torch.tensor([new if use_cache else window], device=device), cache)      # (1, V)
        token = draw(next_token_probs(logits, *settings), generator)
        yield token
        window.append(token)
        new = [token]
        if len(window) > context_length:
            window = window[-max(1, context_length // 2):]
            cache, new = model.new_cache() if use_cache else None, window


def draw(probs: Tensor, generator: torch.Generator) -> int:
    """A token from its distribution (1, V): the first at which the running total exceeds a random share of the whole.

    The same as `torch.multinomial`, at a sixth of the time.
    """
    totals = probs.cumsum(-1)                                                                # (1, V)
    share = torch.rand(1, 1, generator=generator, device=probs.device) * totals[:, -1:]
    return int(torch.searchsorted(totals, share, right=True))


@torch.inference_mode()
def last_logits(model: GPTModel, ids: Tensor, cache) -> Tensor:
    """Logits (B, V) of the token after `ids` (B, T), in eval mode, without gradients.

    With a cache, a long prompt is read in pieces: a large vocabulary's logits for all of it would fill the memory.
    """
    was_training = model.training
    if was_training:
        model.eval()
    try:
        for piece in ids.split(READ_AT_ONCE, dim=1) if cache else [ids]:
            logits = model(piece, cache)[:, -1]
        return logits
    finally:
        if was_training:
            model.train()
