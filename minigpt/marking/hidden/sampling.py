"""Hidden questions about the sampling half of 04_training_and_sampling. The truth is the package's.
"""

import random
from dataclasses import asdict

import torch

from minigpt import GPTConfig, GPTModel
from minigpt.marking.hidden.framework import Case, agrees, questions, shaken
from minigpt.sampling import generate_ids, next_token_probs


@questions("check_next_token_probs", "minigpt.sampling.next_token_probs",
           "minigpt.gpt.GPT.next_token_probs")
def probabilities(odd: bool):
    """Logits (B, V) and settings; odd: greedy, one token, equal ones, large ones."""
    if odd:
        V = random.randint(5, 9)
        cases = [(clear(3, V), 0, None, None), (clear(2, V), 0, 2, 0.5),
                 (torch.tensor([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0]]), 0, None, None),
                 (torch.randn(2, 1), 1.0, None, 0.5), (clear(1, V), 1.0, V, 1.0),
                 (torch.stack([torch.randperm(V) for _ in range(3)]).float() + 2000, 0.5, 1, None),
                 (clear(2, V), 1.0, 1, 0.01)]
    else:
        cases = [(clear(4, random.randint(6, 12)), random.uniform(0.5, 2.5), top_k, top_p)
                 for top_k, top_p in ((None, None), (3, None), (None, 0.6), (4, 0.7), (None, 0.9))]
    for logits, temperature, top_k, top_p in cases:
        yield Case(f"logits of shape {tuple(logits.shape)}, temperature = {temperature:.2g}, "
                   f"top_k = {top_k} and top_p = {top_p}",
                   (logits.clone(), temperature, top_k, top_p),
                   greedy(logits) if temperature == 0 else next_token_probs(
                       logits, temperature, top_k, top_p))


def greedy(logits: torch.Tensor):
    """Whether rows have all probability where their largest logit is: with ties, on any of them."""
    largest = logits == logits.amax(-1, keepdim=True)
    one_each = torch.ones(len(logits))
    return lambda answer: (isinstance(answer, torch.Tensor) and answer.shape == logits.shape
                           and agrees((answer * largest).sum(-1), one_each)
                           and agrees(answer.abs().sum(-1), one_each))


def clear(B: int, V: int) -> torch.Tensor:
    """Logits in any order with steps of about 0.4 between them: no ties, whatever is rounded.

    Uneven steps, so that no sum of probabilities is just a top_p.
    """
    steps = torch.stack([torch.randperm(V) for _ in range(B)]) * 0.41
    return steps + torch.rand(B, V) * 0.05


@questions("check_generate", "minigpt.sampling.generate_ids", "minigpt.gpt.GPT.generate",
           "minigpt.gpt.GPT.stream")
def generations(odd: bool):
    """A model and ids, greedily; odd: one id, none to come, more ids than the model can read.

    How much it is shown of those is free, so that one looks at the last token alone.
    """
    for T, n in [(1, 1), (4, 0), (14, 3), (1, 20), (9, 1)] if odd else [(3, 5), (5, 3), (2, 6)]:
        config = GPTConfig(vocab_size=random.choice((9, 30)), context_length=7, d_model=8,
                           n_heads=2, n_layers=1, d_ff=8)
        model, ids = shaken(GPTModel(config)), torch.randint(config.vocab_size, (1, T))
        if T + n > config.context_length + 1:           # the last step has to leave something out
            forget_all_but_the_last(model)
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        new = list(generate_ids(model, ids[0].tolist(), n, 0))
        right = torch.cat([ids, torch.tensor([new], dtype=torch.int64)], 1)
        yield Case(f"{T} ids, a context of 7 and max_new_tokens = {n}",
                   (asdict(config), weights, False, ids, n),
                   lambda answer, right=right: isinstance(answer, list)
                   and agrees(answer[0], right), "model")


@torch.no_grad()
def forget_all_but_the_last(model: GPTModel) -> None:
    """Makes what follows hang on the last token, wherever it stands, and on no other."""
    model.position_embedding.weight.zero_()
    for block in model.blocks:
        block.attention.projection.weight.zero_()
