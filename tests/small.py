"""What several tests of training share: a small model, a text with something to learn, and a run."""

from dataclasses import replace

import numpy as np
import torch

from minigpt.batches import TokenizedText
from minigpt.model import GPTConfig, GPTModel
from minigpt.presets import Recipe
from minigpt.training import training_loop
from minigpt.training_state import TrainingState

T, V = 8, 20
ADAM = Recipe(batches="random", optimizer="adam", batch_size=4, learning_rate=1e-2, warmup=3, decay="cosine", floor=0.1)
MUON = replace(ADAM, batches="epochs", optimizer="muon")
SIXTEEN_BITS = replace(MUON, bfloat16=True)


def a_model(dropout=0.0, seed=0, **size):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPTModel(GPTConfig(**{"vocab_size": V, "context_length": T, "d_model": 16, "n_heads": 2, "n_layers": 1,
                                     "d_ff": 32, "dropout": dropout} | size))


def a_text(n=203, seed=0, bytes_per_token=1):
    ids = np.random.default_rng(seed).integers(0, V, n).astype(np.uint16)
    ids[1::2] = ids[:-1:2]                                              # something to learn: every token comes twice
    return TokenizedText(ids, (n - 1) * bytes_per_token)


def run(model, recipe=ADAM, steps=6, text=None, validation=None, seed=0, **arguments):
    state = TrainingState(model, recipe, seed)
    return list(training_loop(state, text or a_text(), validation, steps=steps, **arguments)), state


def processor_has(monkeypatch, bfloat16):
    """torch computes in bfloat16 on every processor; on one without the instructions it is merely slow."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bfloat16})


def copies(tensors):
    return {name: tensor.clone() for name, tensor in tensors.items()}


def weights_of(model):
    return copies(model.state_dict())


def same(tensors, others):
    return tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)
