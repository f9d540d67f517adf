"""minigpt: from bytes to a talking GPT, on a laptop CPU.

    >>> from minigpt import GPT
    >>> gpt = GPT.pretrained()
    >>> print(gpt.generate("It is a truth"))

Read it in the order of the pipeline: corpus, vocabulary, tokenizer; self_attention, model; presets,
batches, pace, training_state, memory, step_input, training; sampling; progress; and gpt, where all
of it meets. Where training asks `ranks`, read on: `alone` says what one process is answered.
"""

import os

# Waiting OpenMP threads spin by default, which makes training 7 to 10 times slower as soon as
# another program wants a core. It has to be said before torch is imported, and whoever set it
# already is right.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from minigpt.gpt import GPT  # noqa: E402
from minigpt.model import FeedForward, GPTConfig, GPTModel, TransformerBlock  # noqa: E402
from minigpt.self_attention import MultiHeadAttention, attention, causal_mask  # noqa: E402
from minigpt.tokenizer import Tokenizer  # noqa: E402
from minigpt.version import __version__ as __version__  # noqa: E402

__all__ = ["GPT", "FeedForward", "GPTConfig", "GPTModel", "MultiHeadAttention", "Tokenizer",
           "TransformerBlock", "attention", "causal_mask"]
