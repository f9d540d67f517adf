"""Training: the learning-rate schedule, a step, the evaluation, and the loop over them.

The loop is a generator of reports, `for report in training_loop(...)`: a notebook draws them, the
command line shows a bar, a test collects them, and none of them needs a hook. To pause is not to
ask for the next report. Reported losses are in nats per UTF-8 byte, so that models with different
tokenizers can be compared.
"""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt.alone import ALONE, Alone
from minigpt.arguments import BATCH_SIZE, MOST_STEPS, choice, instance, integer, number, takes
from minigpt.batches import TokenizedText, check_length
from minigpt.device import matrix_products
from minigpt.memory import memory_errors_explained
from minigpt.model import GPTModel, evaluating, is_a_model
from minigpt.pace import Pace
from minigpt.presets import DECAYS
from minigpt.step_input import dropout_seeded, next_batch, parts
from minigpt.training_state import TrainingState

# The guards of how long to train, and how often to measure.
BUDGET = {"steps": integer(1, MOST_STEPS, optional=True),
          "seconds": number(0, 1e9, open_low=True, optional=True),
          "evaluations": integer(1, MOST_STEPS)}
IGNORED = -100        # the target that cross_entropy leaves out: fills up the last window of a text

# A step changes weights and gradients, and lends dropout the RNG state of the whole process. Who
# trains in two threads, as in a notebook's live panel and in a cell, takes turns.
_one_step_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Report:
    """One step of training: `step` steps are done of `steps`, an estimate where seconds are given.
    """

    step: int
    steps: int
    batch_loss: Tensor                                       # (), in nats per token; read as `loss`
    bytes_per_token: float
    learning_rate: float
    tokens_per_second: float
    seconds: float                                           # in steps and evaluations so far
    seconds_left: float                                      # an estimate
    validation_loss: float | None

    @property
    def loss(self) -> float:
        """Nats per byte of this batch, label smoothing included."""
        return float(self.batch_loss) / self.bytes_per_token


def _within_its_limits(given: dict) -> None:
    integer(0, given["steps"] - 1)("step", given["step"])
    number(0, given["peak"])("floor", given["floor"])


@takes(_within_its_limits, step=integer(), steps=integer(1, MOST_STEPS), warmup=integer(0),
       peak=number(0, open_low=True), floor=number(), decay=choice(DECAYS))
def learning_rate(step: int, steps: int, warmup: int, peak: float, floor: float,
                  decay: str = "cosine") -> float:
    """The rate of `step` (0 to steps - 1): a line up to `peak`, then down to `floor`.

    The way down is half a cosine, or a line. The peak is first reached at step warmup - 1, and the
    floor on the last step (where that is step `warmup` itself, there is no way down, and it has the
    peak). Source of the cosine: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm
    Restarts" (2017); that a line to zero does as well or better: Bergsma et al., "Straight to Zero"
    (2025).
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)   # 0 at step warmup, 1 on the last step
    height = 1 - progress if decay == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return floor + (peak - floor) * height


def share_of_peak(state: TrainingState, steps: int) -> float:
    """The rate of the next step of `steps` by the run's recipe, as a share of its peak."""
    recipe = state.recipe
    warmup = min(recipe.warmup, steps // 5)                     # a short run is not all warm-up
    return learning_rate.__wrapped__(state.step, steps, warmup, 1.0, recipe.floor, recipe.decay)


def train_step(state: TrainingState, ids, share: float) -> Tensor:
    """One step of every optimizer, at `share` of its peak rate; returns the loss, nats per token.
    """
    model, recipe, loss = state.model, state.recipe, 0.0
    model.train()
    with dropout_seeded(state):
        for x, y, weight in parts(state, next_batch(state, ids)):   # (B, T) each
            with matrix_products(state.device, recipe.bfloat16):
                logits = state.network(x)                           # (B, T, V)
            part = weight * F.cross_entropy(logits.flatten(0, 1).float(), y.flatten(),
                                            label_smoothing=recipe.label_smoothing)
            part.backward()
            loss += part.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
        with matrix_products(state.device, recipe.bfloat16):    # Muon multiplies too
            optimizer.step()
        optimizer.zero_grad()
    state.step += 1
    loss = state.ranks.mean(loss)
    state.unchecked.append(loss)
    return loss


@takes(model=is_a_model, text=instance(TokenizedText), batch_size=BATCH_SIZE)
@torch.no_grad()
def evaluate(model: GPTModel, text: TokenizedText, batch_size: int = 16, ranks: Alone = ALONE
             ) -> float:
    """The loss on the whole text, in nats per byte. Several ranks share the work.

    Windows are cut end to end, and every token of the text is predicted once. In eval mode and
    without gradients; the model's mode is put back afterwards.
    """
    T, device = model.config.context_length, next(model.parameters()).device
    total = 0.0
    with evaluating(model):
        for start in ranks.own(range(0, len(text.ids) - 1, T * batch_size)):
            ids = torch.as_tensor(text.ids[start:start + T * batch_size + 1], dtype=torch.int64)
            padding = (0, -(len(ids) - 1) % T)
            x = F.pad(ids[:-1], padding).view(-1, T).to(device)                 # (B, T)
            y = F.pad(ids[1:], padding, value=IGNORED).view(-1, T).to(device)   # (B, T)
            logits = model(x).flatten(0, 1)                                     # (B * T, V)
            losses = F.cross_entropy(logits, y.flatten(), ignore_index=IGNORED,
                                     reduction="none")                          # (B * T,)
            total += float(losses.cpu().double().sum())     # 16 bits could not hold the sum
    return ranks.total(total) / text.n_bytes


def check_budget(steps: int | None, seconds: float | None) -> None:
    """Raise ValueError unless one of the two is given."""
    if (steps is None) == (seconds is None):
        raise ValueError("steps or seconds must be given, one of the two, "
                         f"not steps={steps} and seconds={seconds}")


def _one_budget(given: dict) -> None:
    check_budget(given["steps"], given["seconds"])
    integer(given["state"].step, optional=True)("steps", given["steps"])


def _one_window(given: dict) -> None:
    check_length("text", given["text"].ids, given["state"].model.config.context_length)


@takes(_one_budget, _one_window, state=instance(TrainingState), text=instance(TokenizedText),
       validation=instance(TokenizedText, optional=True), **BUDGET)
def training_loop(state: TrainingState, text: TokenizedText,
                  validation: TokenizedText | None = None, *, steps: int | None = None,
                  seconds: float | None = None, evaluations: int = 4) -> Iterator[Report]:
    """Train until `steps` are done or `seconds` (those spent in here) are used up.

    A report a step. The validation loss is measured `evaluations` times, evenly spread; of seconds
    all but the last take a tenth at most. Raises TrainingDiverged, MemoryError. Close it where you
    stop early: it then looks at the weights.
    """
    pace = Pace(state, steps, seconds, evaluations, len(validation.ids) if validation else 0)
    with _one_step_at_a_time:
        state.model.zero_grad()             # a step that was broken off may have left some
    try:
        while not pace.finished:
            share = share_of_peak(state, pace.plan())
            with (pace.timing_a_step(), state.watched(), memory_errors_explained(state),
                  _one_step_at_a_time):
                loss = train_step(state, text.ids, share)
            validation_loss = evaluate_if_due(state, validation, pace)
            if pace.finished or validation_loss is not None:
                state.check(validation_loss)
            yield report(state, pace, text, loss, share, validation_loss)
    finally:
        state.check()                       # whoever stops early is not left with a bad model


def evaluate_if_due(state: TrainingState, validation: TokenizedText | None, pace: Pace
                    ) -> float | None:
    """The validation loss, where it is time to measure it; else None."""
    if validation is None or not pace.evaluation_is_due():
        return None
    with pace.timing_an_evaluation(), memory_errors_explained(state):
        state.validation_loss = evaluate(state.model, validation, ranks=state.ranks)
    return state.validation_loss


def report(state: TrainingState, pace: Pace, text: TokenizedText, loss: Tensor, share: float,
           validation_loss: float | None) -> Report:
    """What there is to say of the step that was just made."""
    return Report(state.step, pace.planned, loss, text.bytes_per_token,
                  share * state.recipe.learning_rate, pace.tokens_per_second, state.seconds,
                  pace.seconds_left, validation_loss)
