"""Hidden questions about the exercises of 05_bug_hunt that no other notebook has."""

import copy
import random
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch.nn import functional as F

from minigpt import GPT, GPTConfig, GPTModel, Tokenizer
from minigpt.marking.hidden.framework import Case, agrees, questions, shaken
from minigpt.marking.hidden.tokenizer import text


@questions("check_byte_encode")
def encodings(odd: bool):
    """Texts; odd: no text, line ends, marks that look alike, the byte 0."""
    texts = ["", "\ufeffx", "a\r\nb\rc", "cafe\u0301 ﬁ", "\x00 \t", " x ", "🙂" * 70]
    for given in texts if odd else [text() for _ in range(6)]:
        yield Case(f"the text {given[:30]!r}", (given,), list(given.encode()))


@questions("check_training_step")
def training_steps(odd: bool):
    """Steps in a row on a model; odd: with momentum, windows shorter than the context."""
    for _ in range(2):
        config = GPTConfig(vocab_size=random.choice((5, 11)), context_length=6, d_model=8,
                           n_heads=2, n_layers=1, d_ff=8)
        model, rate, momentum = shaken(GPTModel(config)), random.uniform(0.2, 0.6), 0.9 * odd
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        shape = (1, random.randint(1, 5)) if odd else (3, 6)
        batches = [tuple(torch.randint(config.vocab_size, shape) for _ in range(2))
                   for _ in range(3)]
        losses, after = trained(copy.deepcopy(model), rate, momentum, batches)
        yield Case(f"three steps on batches of shape {shape}",
                   (asdict(config), weights, rate, momentum, batches),
                   lambda answer, losses=losses, after=after: agrees(answer, [losses, after]),
                   "steps")


def trained(model: GPTModel, rate: float, momentum: float, batches) -> tuple[list[float], dict]:
    """The losses and the weights of gradient descent with momentum, written out."""
    moved, losses = {}, []
    for x, y in batches:
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, gradient in zip(model.parameters(), gradients):
                moved[p] = momentum * moved.get(p, 0) + gradient
                p -= rate * moved[p]
    return losses, dict(model.state_dict())


@questions("check_load", reads_files=True)
def loadings(odd: bool) -> Iterator[Case]:
    """A saved model of its own size and vocabulary; odd: with parts that most have not."""
    with tempfile.TemporaryDirectory() as folder:
        for n, method in enumerate(("substring", "bytes") if odd else ("bpe", "bpe")):
            tokenizer = Tokenizer.train(" ".join(text() for _ in range(20)),
                                        256 if method == "bytes" else 262, method)
            more = {"tied": True, "positions": "rotary", "d_ff": 0} if odd else {"d_ff": 16}
            model = shaken(GPTModel(GPTConfig(vocab_size=tokenizer.vocab_size, d_model=8,
                                              n_heads=2, n_layers=n + 1, dropout=0.1,
                                              context_length=random.randint(5, 9), **more)))
            path = Path(folder) / f"{method}{n}.safetensors"
            GPT(tokenizer, model).save(path)
            yield Case(f"a model with {method} tokens", (str(path),),
                       [asdict(model.config), tokenizer.vocab, dict(model.state_dict()), False],
                       "loaded")
