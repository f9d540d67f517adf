"""What goes into a step: its batch, this process's rows of it, and the numbers that dropout draws.

On several ranks the losses are one process's but for rounding, and the steps too, unless there is
dropout: a rank drops other activations of its rows than one process would, as with another seed.
The same holds for a batch that is read in parts. Shapes: B windows, T = context_length.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from minigpt.batches import epoch_batch, random_batch
from minigpt.device import moved
from minigpt.training_state import TrainingState


def next_batch(state: TrainingState, ids) -> tuple[Tensor, Tensor]:
    """The windows of the next step and their targets, (B, T) each: all ranks' together."""
    size = state.model.config.context_length, state.recipe.batch_size
    if state.recipe.batches == "random":
        generator = torch.Generator().manual_seed(state.step_seed)
        return random_batch.__wrapped__(ids, *size, generator)
    return epoch_batch.__wrapped__(ids, *size, state.batch_number, state.seed)


def parts(state: TrainingState, batch: tuple[Tensor, Tensor]
          ) -> Iterator[tuple[Tensor, Tensor, float]]:
    """This rank's rows of a batch, on the model's device, in as many parts as the recipe says.

    With each comes the weight of its mean loss. The ranks' gradients are averaged, and rows may not
    divide evenly: so a rank's weights add up to its share of the rows, times the number of ranks.
    Gradients are sent with the last part.
    """
    n_parts, ranks = state.recipe.accumulate, state.ranks
    xs, ys = (ranks.own(side).tensor_split(n_parts) for side in batch)
    for i, (x, y) in enumerate(zip(xs, ys, strict=True), 1):
        with nullcontext() if i == n_parts else ranks.unsent(state.averaging):
            yield (moved(x, state.device), moved(y, state.device),
                   len(x) * ranks.size / state.recipe.batch_size)


@contextmanager
def dropout_seeded(state: TrainingState) -> Iterator[None]:
    """In here dropout draws from the step's seed.

    It uses the RNG state of the whole process, which is put back after. Where nothing is dropped,
    that state is left alone.
    """
    dropping, on_gpu = state.model.config.dropout > 0, state.device.type == "cuda"
    with torch.random.fork_rng(devices=[state.device] if on_gpu else [], enabled=dropping):
        if dropping:
            torch.manual_seed(state.dropout_seed)
        yield
