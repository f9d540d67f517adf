"""A training run between two steps, how it is written down, and how it is gone back to.

Random numbers are drawn afresh for each step, from the seed and the number of its batch, so the RNG
state needs no place here.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from minigpt.alone import ALONE, Alone
from minigpt.arguments import TRAINING_SEED, flag, instance, integer, shown, takes
from minigpt.model import GPTModel, is_a_model
from minigpt.muon import Muon
from minigpt.presets import Recipe

CHECK_EVERY = 10       # steps between looks at the loss's value, each of which waits for the device


class TrainingDiverged(RuntimeError):
    """The loss or a weight became infinite or NaN; the model is back at a step known to be good."""


def check_rows(recipe: Recipe, ranks: Alone) -> None:
    """Raise ValueError unless each rank has a row of the batch for each of its parts."""
    parts = ranks.size * recipe.accumulate
    if recipe.batch_size < parts:
        processes = f" for each of {ranks.size} processes" if ranks.size > 1 else ""
        raise ValueError(f"batch_size must be at least {parts} (accumulate, {recipe.accumulate}"
                         f"{processes}), not {recipe.batch_size}")


def _one_that_trains(given: dict) -> None:
    check_rows(given["recipe"], given["ranks"])
    if not torch.is_grad_enabled():
        raise ValueError("gradients are switched off here, by torch.no_grad or inference_mode: "
                         "train outside of it")
    weights = list(given["model"].parameters())
    if any(p.is_meta for p in weights) or not any(p.requires_grad for p in weights):
        raise ValueError("model must have weights that can change, not on the device 'meta', nor "
                         "all with requires_grad=False")


class TrainingState:
    """The model, its optimizers, how many steps are done, and how long they took.

    `batches_before`: how many batches of the text earlier runs have read, where this one goes on
    behind them. `ranks`: the processes that train it together; each holds all of this state, and
    the same. Their losses are those of one process: in float32 over fifty steps to 1e-5 with AdamW,
    and to 1e-4 with Muon, whose polynomial magnifies rounding. `network` is the model as it is
    called in a step: by several ranks within what averages their gradients, and `compiled` by
    torch.compile where so asked. Losses are looked at now and then (`check`); until they are,
    weights known to be good are kept to go back to.
    """

    @takes(_one_that_trains, model=is_a_model, recipe=instance(Recipe), seed=TRAINING_SEED,
           batches_before=integer(0), ranks=instance(Alone), compiled=flag)
    def __init__(self, model: GPTModel, recipe: Recipe, seed: int = 0, batches_before: int = 0,
                 ranks: Alone = ALONE, compiled: bool = False):
        self.model, self.recipe, self.ranks = model, recipe, ranks
        self.averaging = ranks.network(model)
        self.network = torch.compile(self.averaging) if compiled else self.averaging
        self.seed, self.batches_before = seed, batches_before
        self.tokens_a_step = recipe.batch_size * model.config.context_length
        self.optimizers = make_optimizers(model, recipe)
        self.step = 0
        self.seconds = 0.0                                      # spent in steps and evaluations
        self.evaluation_seconds = 0.0                           # what the last evaluation took
        self.validation_loss: float | None = None       # what it came to
        self.unchecked: list[Tensor] = []
        self.good = self.snapshot()

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    @property
    def batch_number(self) -> int:
        """The number of the next step's batch, of all that were read of the text."""
        return self.batches_before + self.step

    @property
    def windows_read(self) -> int:
        """How many windows of the text this run has read, and those before it."""
        return self.batch_number * self.recipe.batch_size

    @property
    def step_seed(self) -> int:
        """The seed of the next step's random numbers: a random batch, dropout."""
        return self.seed * 1_000_003 + self.batch_number

    @property
    def dropout_seed(self) -> int:
        """The step's seed, and another for each rank: no step's comes near 2⁵³."""
        return self.step_seed + self.ranks.rank * 2 ** 53

    def snapshot(self) -> tuple[int, dict[str, Tensor]]:
        """The step, and a copy of the model's weights at it."""
        return self.step, {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """In here the next step is made. After every tenth the losses are looked at, by `check`."""
        looking = self.step % CHECK_EVERY == CHECK_EVERY - 1
        before = self.snapshot() if looking else None
        yield
        if looking:
            self.check()
            self.good = before                     # the step that began with them had a finite loss

    # Without no_grad, a thread that reads weights meanwhile can wait for torch for ever.
    @torch.no_grad()
    def check(self, validation_loss: float | None = None) -> None:
        """Raise TrainingDiverged unless the losses so far and the weights are finite.

        The model is then back at the last weights that are known to be good.
        """
        losses, self.unchecked = [float(loss) for loss in self.unchecked], []
        first = self.step - len(losses) + 1
        bad = [f"the loss became {loss} at step {step}"
               for step, loss in enumerate(losses, first) if not math.isfinite(loss)]
        if not all(p.isfinite().all() for p in self.model.parameters()):
            bad.append(f"weights became infinite or NaN at step {self.step}")
        if validation_loss is not None and not math.isfinite(validation_loss):
            bad.append(f"the validation loss became {validation_loss} at step {self.step}")
        if bad:
            good_step, weights = self.good
            self.model.load_state_dict(weights)
            raise TrainingDiverged(
                f"{bad[0]}; the model is back at step {good_step}. What usually helps: a lower "
                f"learning rate (the peak is {self.recipe.learning_rate}), a longer warm-up, a "
                "smaller clip")

    def tensors(self) -> dict[str, Tensor]:
        """All of it that is tensors, by name (not copies); `load` takes it back.

        Raises what `check` raises.
        """
        self.check()
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{j}.{name}": tensor for name, tensor in state.items()}
        measured = math.nan if self.validation_loss is None else self.validation_loss
        progress = [self.step, self.seconds, self.evaluation_seconds, measured]
        return tensors | {"progress": torch.tensor(progress, dtype=torch.float64)}

    @takes(tensors=instance(dict))
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go back to where the run was when `tensors` were written.

        Raises ValueError for those of another model.
        """
        weights = {name.removeprefix("model."): tensor for name, tensor in tensors.items()
                   if name.startswith("model.")}
        states = [_optimizer_state(optimizer, f"optimizer.{i}.", tensors)
                  for i, optimizer in enumerate(self.optimizers)]
        progress = tensors.get("progress", torch.empty(0)).tolist()
        if (_shapes(weights) != _shapes(self.model.state_dict()) or None in states
                or len(progress) not in (3, 4)):
            raise ValueError("tensors must be those of a run with this model, "
                             f"not {shown(_shapes(tensors))}")
        self.model.load_state_dict(weights)
        for optimizer, state in zip(self.optimizers, states):
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        step, self.seconds, self.evaluation_seconds, *measured = progress
        measured = [loss for loss in measured if not math.isnan(loss)]      # older runs have none
        self.validation_loss = measured[0] if measured else None
        self.step, self.unchecked = int(step), []
        self.good = self.snapshot()


def _optimizer_state(optimizer: torch.optim.Optimizer, prefix: str, tensors: dict[str, Tensor]
                     ) -> dict[int, dict[str, Tensor]] | None:
    """What `tensors` say of an optimizer, by the number of the weight; None where it is another's.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            number, _, entry = name.removeprefix(prefix).partition(".")
            if not number.isdecimal() or int(number) >= len(weights):
                return None
            if tensor.dim() and tensor.shape != weights[int(number)].shape:
                return None
            state.setdefault(int(number), {})[entry] = tensor
    return state


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def make_optimizers(model: GPTModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices where the recipe says so, Adam for all else.

    Each group remembers its peak rate.
    """
    fused = [block.attention.qkv.weight for block in model.blocks]
    others = [p for p in model.blocks.parameters()
              if p.dim() == 2 and not any(p is qkv for qkv in fused)]
    matrices = fused + others if recipe.optimizer == "muon" else []
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    optimizers = [torch.optim.AdamW(rest, recipe.learning_rate, recipe.betas,
                                    weight_decay=recipe.weight_decay, fused=True)]
    if matrices:
        optimizers.append(Muon([{"params": fused, "stacked": 3}, {"params": others}],
                               recipe.muon_learning_rate, weight_decay=recipe.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers
