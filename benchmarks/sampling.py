"""Time while it writes: a token against the products that it cannot avoid, past the context against within it, the shipped
model on one core, and `transformers`' GPT-2 of the same size."""

import time
from itertools import islice
from statistics import median

import torch
import transformers
from torch.nn import functional as F

from benchmarks.measure import in_turns, row, seconds
from minigpt import GPT, GPTConfig, GPTModel
from minigpt.sampling import generate_ids

CONFIG = GPTConfig(vocab_size=2048, context_length=256, d_model=192, n_heads=3, n_layers=2, d_ff=768)


def rows() -> list[dict]:
    """All on one thread: a token is too little work for two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = GPTModel(CONFIG).eval()
        return [unavoidable(), past_the_context(model), *shipped(), against_transformers(model)]
    finally:
        torch.set_num_threads(threads)


def write(model, n_tokens, **options) -> None:
    for _ in generate_ids(model, [1], n_tokens, 0.8, seed=1, **options):
        pass


def unavoidable() -> dict:
    """A token of the shipped model, against its weight matrices times one vector each, and nothing else."""
    model = GPT.pretrained().model
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2]
    vectors = [torch.randn(1, matrix.shape[1]) for matrix in matrices]

    @torch.inference_mode()
    def multiply():
        for _ in range(300):
            for matrix, vector in zip(matrices, vectors):
                F.linear(vector, matrix)

    write(model, 300)
    ours, bare = in_turns(lambda: write(model, 300), multiply, 21)
    return row("seconds a token of the shipped model, against its matrix products alone", ours / 300, bare / 300, 2.5)


def past_the_context(model) -> dict:
    def of_each(start: int, n: int) -> float:
        ids = generate_ids(model, [1], start + n, 0.8, seed=1)
        next(islice(ids, start - 1, start), None)
        return seconds(lambda: list(ids)) / n

    times = [(of_each(1, 255), of_each(256, 512)) for _ in range(5)]
    return row("seconds a token past the context, against within it", median(t[1] for t in times),
               median(t[0] for t in times), 2.0)


def shipped() -> list[dict]:
    gpt = GPT.pretrained()
    gpt.generate("It is", 50)
    times = []
    for seed in range(5):
        began = time.perf_counter()
        n_tokens = sum(1 for _ in generate_ids(gpt.model, gpt.tokenizer.encode("It is"), 500, 0.8, seed=seed))
        times.append(n_tokens / (time.perf_counter() - began))
    first = median(seconds(lambda: next(iter(gpt.stream("It is a truth universally acknowledged")))) for _ in range(21))
    return [row("tokens per second of the shipped model on one core, of 1,000 asked for", median(times), 1000, 1.0,
                at_least=True),
            row("seconds to the first token, of 0.02 allowed", first, 0.02, 1.0)]


def against_transformers(model) -> dict:
    peer = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=CONFIG.vocab_size, n_positions=CONFIG.context_length, n_embd=CONFIG.d_model, n_layer=CONFIG.n_layers,
        n_head=CONFIG.n_heads, n_inner=CONFIG.d_ff, bos_token_id=0, eos_token_id=None)).eval()
    start = torch.ones(1, 1, dtype=torch.int64)

    def peer_writes():
        with torch.inference_mode():
            peer.generate(start, attention_mask=start, max_new_tokens=200, do_sample=True, temperature=0.8, top_k=0,
                          pad_token_id=0)

    ours, theirs = in_turns(lambda: write(model, 200), peer_writes, 5)
    return row("tokens per second, against transformers' GPT-2 of the same size", 200 / ours, 200 / theirs, 1.0, at_least=True)
