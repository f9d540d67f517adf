"""Memory: about how much a step of training takes, and what to halve where there is too little."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from minigpt.model import GPTConfig
from minigpt.training_state import TrainingState


def activation_bytes(config: GPTConfig, batch_size: int) -> int:
    """About how much memory a step keeps of its activations for the way back, in float32."""
    a_token = config.n_layers * (14 * config.d_model + 2 * config.d_ff) + 2 * config.vocab_size
    return 4 * batch_size * config.context_length * a_token


@contextmanager
def memory_errors_explained(state: TrainingState) -> Iterator[None]:
    """In here, torch's errors of too little memory become a MemoryError that says what to halve."""
    try:
        yield
    except RuntimeError as error:               # torch.OutOfMemoryError is one; a CPU's has no type
        signs = ("out of memory", "allocate memory")
        if not (isinstance(error, torch.OutOfMemoryError) or any(s in str(error) for s in signs)):
            raise
        recipe, config = state.recipe, state.model.config
        rows = math.ceil(recipe.batch_size / state.ranks.size / recipe.accumulate)
        gigabytes = activation_bytes(config, rows) / 1e9
        raise MemoryError(f"the {state.device.type} has too little memory for this step: halve "
                          f"batch_size (now {recipe.batch_size}) or context_length (now "
                          f"{config.context_length}), or read the batch in more parts (accumulate, "
                          f"now {recipe.accumulate}). What it keeps of {rows} rows for the way "
                          f"back, the activations, comes to about {gigabytes:.2g} GB") from error
