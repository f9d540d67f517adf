"""Checks for the notebooks' exercises: `check_attention(my_attention)` says ✓, or the mistake.

Each takes a student's function or class, tries it on fresh random inputs against an independent
truth, and raises `Mistake`, an AssertionError, with a sentence that a colleague might say. One file
here for each notebook's exercises, and `framework.py` for what they share.
"""

from minigpt.classroom.checks.attention import (
    check_attention,
    check_average,
    check_causal_mask,
    check_multi_head,
    check_split_heads,
)
from minigpt.classroom.checks.bugs import check_byte_encode, check_load, check_training_step
from minigpt.classroom.checks.framework import Mistake
from minigpt.classroom.checks.model import (
    check_block,
    check_feed_forward,
    check_gpt,
    check_layer_norm,
)
from minigpt.classroom.checks.passed import passed
from minigpt.classroom.checks.real import (
    check_dequantise,
    check_grouped_heads,
    check_rms_norm,
    check_swiglu,
)
from minigpt.classroom.checks.sampling import check_generate, check_next_token_probs
from minigpt.classroom.checks.tokenizer import (
    check_decode,
    check_longest_match,
    check_merge,
    check_pair_counts,
)
from minigpt.classroom.checks.training import (
    check_batch,
    check_cross_entropy,
    check_evaluate,
    check_learning_rate,
)

__all__ = [
    "Mistake",
    "check_attention",
    "check_average",
    "check_batch",
    "check_block",
    "check_byte_encode",
    "check_causal_mask",
    "check_cross_entropy",
    "check_decode",
    "check_dequantise",
    "check_evaluate",
    "check_feed_forward",
    "check_generate",
    "check_gpt",
    "check_grouped_heads",
    "check_layer_norm",
    "check_learning_rate",
    "check_load",
    "check_longest_match",
    "check_merge",
    "check_multi_head",
    "check_next_token_probs",
    "check_pair_counts",
    "check_rms_norm",
    "check_split_heads",
    "check_swiglu",
    "check_training_step",
    "passed",
]
