"""One training step at the reference's configuration, against the same model as it is usually written.

The peer: the model out of torch's own encoder layers, Adam, and a batch that a Python loop assembles sequence by
sequence. The other measure is the machine's own: how much of its float32 matrix rate the step makes use of. Both once as the
reference preset trains, in float32, and once more with products in bfloat16, where the processor has instructions for it.
"""

import time
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.measure import in_turns, row
from minigpt import GPTConfig, GPTModel, corpus
from minigpt.device import processor_has_bfloat16
from minigpt.presets import preset
from minigpt.training import train_step
from minigpt.training_state import TrainingState

SIZE = GPTConfig()
BATCH = 64
FLOPS = 6 * (12 * SIZE.d_model ** 2 + SIZE.d_model * SIZE.vocab_size) * BATCH * SIZE.context_length      # of one step


class Plain(nn.Module):
    """The same network, with torch's encoder layer as its block."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(256, 256), nn.Embedding(32, 256)
        layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 1, norm=nn.LayerNorm(256), enable_nested_tensor=False)
        self.head = nn.Linear(256, 256)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(32))

    def forward(self, ids):
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(self.blocks(x, mask=self.mask, is_causal=True))


def rows() -> list[dict]:
    """The step against the plain one, and against the machine's matrix rate; in bfloat16 too, where the processor has it."""
    found = against_plain_and_rate("float32", bfloat16=False)
    if processor_has_bfloat16():
        found += against_plain_and_rate("bfloat16", bfloat16=True)
    return found


def against_plain_and_rate(products: str, bfloat16: bool) -> list[dict]:
    ids = torch.tensor(list(corpus.read_text("austen").encode()))
    state = TrainingState(GPTModel(SIZE), replace(preset("reference").recipe, bfloat16=bfloat16))
    plain = Plain()
    adam = torch.optim.Adam(plain.parameters(), 1e-3, (0.9, 0.99))

    def our_step():
        train_step(state, ids, 1.0)

    def plain_step():
        starts = torch.randint(len(ids) - 33, (BATCH,)).tolist()
        x = torch.stack([ids[start:start + 32] for start in starts])
        y = torch.stack([ids[start + 1:start + 33] for start in starts])
        loss = F.cross_entropy(plain(x).flatten(0, 1), y.flatten())
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.item()

    our_step(), plain_step()
    ours, peer = in_turns(our_step, plain_step, 41)
    a, b = torch.randn(2048, 256), torch.randn(256, 1024)             # the feed-forward's shape, the step's largest
    again, product = in_turns(our_step, lambda: a @ b, 41)
    rate = 2 * 2048 * 256 * 1024 / product
    return [row(f"a step of the reference's model in {products}, against a plain PyTorch implementation (s)", ours, peer, 0.85),
            row(f"the same step's GFLOP/s in {products}, against the machine's float32 matrix rate", FLOPS / again / 1e9,
                rate / 1e9, 0.8, at_least=True)]


def time_of_steps(steps: int) -> float:
    """Seconds a step of the reference preset, over a run of `steps`."""
    ids = torch.tensor(list(corpus.read_text("austen").encode()))
    state = TrainingState(GPTModel(SIZE), preset("reference").recipe)
    train_step(state, ids, 1.0)
    began = time.perf_counter()
    for _ in range(steps):
        train_step(state, ids, 1.0)
    return (time.perf_counter() - began) / steps
