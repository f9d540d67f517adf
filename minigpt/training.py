"""Training: batches, evaluation, the learning-rate schedule, and the loop that turns them into a trained model.

The loop is a generator of reports, `for report in training_loop(...)`: a notebook draws them, the command line shows a bar,
a test collects them, and none of them needs a hook. To pause is not to ask for the next report. What a run is made of,
besides its text, lives in a `TrainingState`, which can be written down and restored to the last bit.

Losses are in nats per UTF-8 byte, so that models with different tokenizers can be compared.
"""

import functools
import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from minigpt.arguments import choice, instance, integer, number, shown
from minigpt.model import GPTModel, check_model
from minigpt.muon import Muon

IGNORED = -100        # the target that cross_entropy leaves out: fills up the last window of a text
DECAYS = ("cosine", "linear")
CHECK_EVERY = 10      # steps between looks at the loss's value, each of which waits for the device

# A step changes weights and gradients, and lends dropout the chance of the whole process. Who trains in two threads, as in a
# notebook's live panel and in a cell, takes turns.
_one_step_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Recipe:
    """How to train, whatever the model and the text. Rates are peaks: the schedule warms up to them and decays from them.

    batches: "random" windows of the text, or "epochs", in each of which every window comes once; optimizer: "adam" for
    every weight, or "muon" for the blocks' matrices and Adam for the rest; warmup: steps; decay: "cosine" or "linear"; floor:
    the last step's rate as a share of the peak; clip: the largest norm of the gradient; bfloat16: matrix products in 16 bits,
    on processors that are faster at it (weights and all else stay float32).
    """

    batches: str = "epochs"
    optimizer: str = "muon"
    batch_size: int = 16
    learning_rate: float = 0.02
    muon_learning_rate: float = 0.03
    betas: tuple[float, float] = (0.8, 0.95)
    weight_decay: float = 0.0
    warmup: int = 10
    decay: str = "linear"
    floor: float = 0.0
    label_smoothing: float = 0.0
    clip: float = 1.0
    bfloat16: bool = False

    def __post_init__(self):
        choice("batches", self.batches, ("random", "epochs"))
        choice("optimizer", self.optimizer, ("adam", "muon"))
        integer("batch_size", self.batch_size, low=1)
        number("learning_rate", self.learning_rate, low=0, open_low=True)
        number("muon_learning_rate", self.muon_learning_rate, low=0, open_low=True)
        if not isinstance(self.betas, tuple) or len(self.betas) != 2:
            raise TypeError(f"betas must be a tuple of two numbers, not {shown(self.betas)}")
        for beta in self.betas:
            number("betas", beta, low=0, high=0.99999)
        number("weight_decay", self.weight_decay, low=0)
        integer("warmup", self.warmup, low=0)
        choice("decay", self.decay, DECAYS)
        number("floor", self.floor, low=0, high=1)
        number("label_smoothing", self.label_smoothing, low=0, high=0.99)
        number("clip", self.clip, low=0, open_low=True)
        instance("bfloat16", self.bfloat16, bool)


@dataclass(frozen=True)
class TokenizedText:
    """A text as the model reads it: `ids` (N,), a line break first for the text to follow, and its length in bytes."""

    ids: np.ndarray | Tensor
    n_bytes: int

    def __post_init__(self):
        _check_ids(self.ids)
        integer("n_bytes", self.n_bytes, low=1)


@dataclass(frozen=True)
class Report:
    """One step of training. `step` steps are done of `steps` (an estimate, while the budget is in seconds)."""

    step: int
    steps: int
    batch_loss: Tensor           # (), in nats per token; read as `loss`
    bytes_per_token: float
    learning_rate: float
    tokens_per_second: float
    seconds: float               # spent in the loop so far
    seconds_left: float          # an estimate
    validation_loss: float | None

    @property
    def loss(self) -> float:
        """Nats per byte of this batch, label smoothing included."""
        return float(self.batch_loss) / self.bytes_per_token


class TrainingDiverged(RuntimeError):
    """The loss became infinite or NaN; the model is back at the last good step."""


def random_batch(ids, context_length: int, batch_size: int, generator: torch.Generator | None = None
                 ) -> tuple[Tensor, Tensor]:
    """`batch_size` windows of `ids` (N,), from anywhere in it, and for each token the one that follows.

    Returns x and y, both (batch_size, context_length) int64, y one token later than x. Each of the N - context_length
    possible starts is equally likely. Raises ValueError where `ids` is too short for a single window.
    """
    _check_windows(ids, context_length, batch_size)
    if generator is not None:
        instance("generator", generator, torch.Generator)
    n_starts = len(ids) - context_length
    return _windows(ids, torch.randint(n_starts, (batch_size,), generator=generator), context_length)


def epoch_batch(ids, context_length: int, batch_size: int, step: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The batch of one `step` of a run in which every window of `ids` (N,) comes once before any comes again.

    An epoch, a pass over the text, cuts it into windows from a random offset on, and takes them in random order. Nothing
    is read twice before all is read once, which is worth about a tenth of the steps. Returns x and y as `random_batch`.
    """
    _check_windows(ids, context_length, batch_size)
    integer("step", step, low=0)
    integer("seed", seed, low=0, high=2 ** 32 - 1)
    spare = len(ids) - 1 - context_length                           # by how much the text is longer than one window
    n_windows = max(1, spare // context_length)                     # that fit behind any offset below context_length
    first = step * batch_size
    epochs = range(first // n_windows, (first + batch_size - 1) // n_windows + 1)
    starts = torch.cat([_epoch(len(ids) - 1, context_length, n_windows, seed, epoch) for epoch in epochs])
    return _windows(ids, starts[first % n_windows:][:batch_size], context_length)


@functools.lru_cache(maxsize=2)
def _epoch(n_tokens: int, context_length: int, n_windows: int, seed: int, epoch: int) -> Tensor:
    """Where the windows of one epoch begin, (n_windows,), in the order in which they are taken."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    offset = torch.randint(n_tokens - n_windows * context_length + 1, (), generator=generator)
    return torch.randperm(n_windows, generator=generator) * context_length + offset


def _windows(ids, starts: Tensor, context_length: int) -> tuple[Tensor, Tensor]:
    """The windows that begin at `starts` (B,), and for each of their tokens the one that follows: (B, T) twice."""
    windows = torch.as_tensor(ids[starts[:, None] + torch.arange(context_length + 1)], dtype=torch.int64)      # (B, T + 1)
    return windows[:, :-1], windows[:, 1:]


def _check_windows(ids, context_length: int, batch_size: int) -> None:
    """Raise TypeError or ValueError unless `batch_size` windows can be cut from `ids`."""
    _check_ids(ids)
    integer("context_length", context_length, low=1)
    integer("batch_size", batch_size, low=1)
    if len(ids) <= context_length:
        raise ValueError(f"ids must hold at least context_length + 1 = {context_length + 1} tokens, not {len(ids)}: "
                         "take a longer text or a shorter context")


def _check_ids(ids) -> None:
    """Raise TypeError unless `ids` is (N,), whole numbers."""
    whole = (isinstance(ids, np.ndarray) and ids.dtype.kind in "iu"
             or isinstance(ids, Tensor) and not ids.is_floating_point() and ids.dtype != torch.bool)
    if not whole or ids.ndim != 1:
        raise TypeError(f"ids must be a tensor or array of whole numbers in one dimension, not {shown(ids)}")


def learning_rate(step: int, steps: int, warmup: int, peak: float, floor: float, decay: str = "cosine") -> float:
    """The rate of `step` (0 to steps - 1): a straight line up to `peak`, then half a cosine, or a line, down to `floor`.

    The peak is first reached at step warmup - 1, and the floor on the last step (where that is step `warmup` itself, there
    is no way down, and it has the peak). Source of the cosine: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent
    with Warm Restarts" (2017); of the line: Bergsma et al., "Straight to Zero" (2025).
    """
    integer("steps", steps, low=1)
    integer("step", step, low=0, high=steps - 1)
    integer("warmup", warmup, low=0)
    number("peak", peak, low=0, open_low=True)
    number("floor", floor, low=0, high=peak)
    choice("decay", decay, DECAYS)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)         # 0 at step warmup, 1 on the last step
    height = 1 - progress if decay == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return floor + (peak - floor) * height


@torch.no_grad()
def evaluate(model: GPTModel, text: TokenizedText, batch_size: int = 16) -> float:
    """The loss on the whole text, in nats per byte: windows cut end to end, every token of the text predicted once.

    In eval mode and without gradients; the model's mode is put back afterwards.
    """
    check_model(model)
    instance("text", text, TokenizedText)
    integer("batch_size", batch_size, low=1)
    T, device = model.config.context_length, next(model.parameters()).device
    was_training = model.training
    model.eval()
    total = 0.0
    try:
        for start in range(0, len(text.ids) - 1, T * batch_size):
            piece = torch.as_tensor(text.ids[start:start + T * batch_size + 1], dtype=torch.int64)
            x, y = (F.pad(ids, (0, -len(ids) % T), value=fill).view(-1, T).to(device)      # (B, T)
                    for ids, fill in ((piece[:-1], 0), (piece[1:], IGNORED)))
            total += float(F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=IGNORED, reduction="sum"))
    finally:
        model.train(was_training)
    return total / text.n_bytes


class TrainingState:
    """A training run between two steps: the model, its optimizers, how many steps are done.

    Chance is drawn afresh for each step from the seed and the step's number, so it needs no place here. Losses are looked
    at now and then (`check`); until they are, weights known to be good are kept to go back to.
    """

    def __init__(self, model: GPTModel, recipe: Recipe, seed: int = 0):
        check_model(model)
        instance("recipe", recipe, Recipe)
        integer("seed", seed, low=0, high=2 ** 32 - 1)
        self.model, self.recipe, self.seed = model, recipe, seed
        self.optimizers = _optimizers(model, recipe)
        self.step = 0
        self.seconds = 0.0               # spent in steps and evaluations
        self.evaluation_seconds = 0.0    # what the last evaluation took
        self.unchecked: list[Tensor] = []
        self.good = self.weights()

    def weights(self) -> tuple[int, dict[str, Tensor]]:
        """The step, and a copy of the model's weights at it."""
        return self.step, {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    @torch.no_grad()      # without it, a thread that reads weights meanwhile can wait for torch for ever, and torch for it
    def check(self, validation_loss: float | None = None) -> None:
        """Raise TrainingDiverged, with the model back at good weights, unless all losses so far and the weights are finite."""
        losses, self.unchecked = [float(loss) for loss in self.unchecked], []
        first = self.step - len(losses) + 1
        bad = [f"the loss became {loss} at step {step}" for step, loss in enumerate(losses, first) if not math.isfinite(loss)]
        if not all(p.isfinite().all() for p in self.model.parameters()):
            bad.append(f"weights became infinite or NaN at step {self.step}")
        if validation_loss is not None and not math.isfinite(validation_loss):
            bad.append(f"the validation loss became {validation_loss} at step {self.step}")
        if bad:
            good_step, weights = self.good
            self.model.load_state_dict(weights)
            raise TrainingDiverged(
                f"{bad[0]}; the model is back at step {good_step}. What usually helps: a lower learning rate (the peak is "
                f"{self.recipe.learning_rate}), a longer warm-up, a smaller clip")

    def tensors(self) -> dict[str, Tensor]:
        """All of it that is tensors, by name (not copies); `load` takes it back. Raises what `check` raises."""
        self.check()
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{j}.{name}": tensor for name, tensor in state.items()}
        return tensors | {"progress": torch.tensor([self.step, self.seconds, self.evaluation_seconds],
                                                   dtype=torch.float64)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go back to where the run was when `tensors` were written. Raises ValueError for those of another model."""
        instance("tensors", tensors, dict)
        weights = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        if "progress" not in tensors or _shapes(weights) != _shapes(self.model.state_dict()):
            raise ValueError(f"tensors must be those of a run with this model, not {shown(_shapes(tensors))}")
        self.model.load_state_dict(weights)
        for i, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith(f"optimizer.{i}."):
                    _, _, j, key = name.split(".")
                    state.setdefault(int(j), {})[key] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        step, self.seconds, self.evaluation_seconds = tensors["progress"].tolist()
        self.step, self.unchecked = int(step), []
        self.good = self.weights()


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def training_loop(state: TrainingState, text: TokenizedText, validation: TokenizedText | None = None, *,
                  steps: int | None = None, seconds: float | None = None, evaluations: int = 4) -> Iterator[Report]:
    """Train until `steps` steps are done or `seconds` are used up, one report a step.

    The budget is one of the two, and the schedule follows it. Seconds are those spent in here, not those in which the
    caller draws or pauses. The validation loss is measured `evaluations` times, evenly spread, the last time on the last
    step; of a budget of seconds the measuring is paid too, so there it is done less often where it would take more than a
    tenth. Raises ValueError for a bad budget or a text too short for one window,
    TrainingDiverged when the loss is no longer finite, MemoryError when the device is too small.
    """
    if (steps is None) == (seconds is None):
        raise ValueError(f"steps or seconds must be given, one of the two, not steps={steps} and seconds={seconds}")
    instance("state", state, TrainingState)
    instance("text", text, TokenizedText)
    if validation is not None:
        instance("validation", validation, TokenizedText)
    integer("steps", steps, low=max(1, state.step), optional=True)
    number("seconds", seconds, low=0, open_low=True, optional=True)
    integer("evaluations", evaluations, low=1)
    # A text that is too short is refused before the first step, and nobody else's chance is used up for it.
    random_batch(text.ids, state.model.config.context_length, 1, torch.Generator())
    return _loop(state, text, validation, steps, seconds, evaluations)


def _loop(state, text, validation, steps, seconds, evaluations) -> Iterator[Report]:
    model, recipe = state.model, state.recipe
    tokens_a_step = recipe.batch_size * model.config.context_length
    budget = steps or seconds
    durations = deque(maxlen=50)                                     # of the last steps, in seconds
    if state.step:
        durations.extend([state.seconds / state.step] * 3)           # a run that is gone on with has a pace already
    with _one_step_at_a_time:
        model.zero_grad()                                            # a step that was broken off may have left some
    try:
        finished = _done(state, steps) >= budget
        while not finished:
            began = time.perf_counter()
            planned = steps or _planned_steps(state, validation, seconds, durations)
            rate = learning_rate(state.step, planned, min(recipe.warmup, planned // 5), 1.0, recipe.floor, recipe.decay)
            done_before = _done(state, steps)
            checking = state.step % CHECK_EVERY == CHECK_EVERY - 1
            before = state.weights() if checking else None
            with _memory_errors_explained(state), _one_step_at_a_time:
                loss = _step(state, text.ids, rate)
            finished = state.step == planned
            if checking:
                state.check()
                state.good = before                                  # the step that began with them had a finite loss
            durations.append(time.perf_counter() - began)
            state.seconds += durations[-1]

            typical = statistics.median(durations)
            share = min(evaluations, _affordable(state, validation, seconds, durations)) if seconds else evaluations
            validation_loss = None
            if validation is not None and (
                    finished or int(_done(state, steps) * share / budget) > int(done_before * share / budget)):
                began = time.perf_counter()
                with _memory_errors_explained(state):
                    validation_loss = evaluate(model, validation)
                state.evaluation_seconds = time.perf_counter() - began
                state.seconds += state.evaluation_seconds
            if finished or validation_loss is not None:
                state.check(validation_loss)
            yield Report(state.step, planned, loss, text.n_bytes / max(1, len(text.ids) - 1), rate * recipe.learning_rate,
                         tokens_a_step / typical, state.seconds, (planned - state.step) * typical, validation_loss)
    finally:
        state.check()                                                # whoever stops early is not left with a bad model


def _done(state, steps) -> float:
    """What is used up of the budget: steps, or else seconds."""
    return state.step if steps else state.seconds


def _planned_steps(state, validation, seconds, durations) -> int:
    """How many steps the budget of seconds comes to, at the pace so far, with the last evaluation paid from it too."""
    unknown = state.step + 1_000                                     # the schedule is still warming up
    if not durations:
        return unknown
    left = seconds - state.seconds - _evaluation_cost(state, validation, durations)
    if len(durations) < 3 and left > 2 * max(durations):             # the first steps are slow, and say little
        return unknown
    return state.step + max(1, int(left / statistics.median(durations)))


def _evaluation_cost(state, validation, durations) -> float:
    """Seconds that an evaluation takes: those of the last one, before it a guess (a step is forward and twice that back)."""
    if validation is None or state.evaluation_seconds:
        return state.evaluation_seconds
    tokens_a_step = state.recipe.batch_size * state.model.config.context_length
    return len(validation.ids) / tokens_a_step * statistics.median(durations) / 3


def _affordable(state, validation, seconds, durations) -> int:
    """How many evaluations take no more than a tenth of the budget together."""
    cost = _evaluation_cost(state, validation, durations)
    return int(0.1 * seconds / cost) if cost else 1


@contextmanager
def _memory_errors_explained(state: TrainingState) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:                                    # torch.OutOfMemoryError is one; a CPU's has no type
        signs = ("out of memory", "allocate memory")
        if not isinstance(error, torch.OutOfMemoryError) and not any(sign in str(error) for sign in signs):
            raise
        model = state.model
        raise MemoryError(f"the {next(model.parameters()).device.type} has too little memory for this step: halve batch_size "
                          f"(now {state.recipe.batch_size}) or context_length (now {model.config.context_length})") from error


def _step(state: TrainingState, ids, rate: float) -> Tensor:
    """One step of every optimizer at `rate` (a share of the peak) on a fresh batch; returns its loss, nats per token."""
    model, recipe = state.model, state.recipe
    device = next(model.parameters()).device
    model.train()
    seed = state.seed * 1_000_003 + state.step                       # random batch and dropout: this step's own
    if recipe.batches == "random":
        x, y = random_batch(ids, model.config.context_length, recipe.batch_size, torch.Generator().manual_seed(seed))
    else:
        x, y = epoch_batch(ids, model.config.context_length, recipe.batch_size, state.step, state.seed)
    # Dropout draws from the chance that all the process shares: it is put back, and left alone where nothing is dropped.
    dropping = model.config.dropout > 0
    with (torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], enabled=dropping),
          _matrix_products(device, recipe.bfloat16)):
        if dropping:
            torch.manual_seed(seed)
        logits = model(x.to(device, non_blocking=True))              # (B, T, V)
    loss = F.cross_entropy(logits.flatten(0, 1).float(), y.to(device, non_blocking=True).flatten(),
                           label_smoothing=recipe.label_smoothing)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        with _matrix_products(device, recipe.bfloat16):               # Muon's
            optimizer.step()
        optimizer.zero_grad()
    state.step += 1
    state.unchecked.append(loss.detach())
    return loss.detach()


def processor_has_bfloat16() -> bool:
    """Whether this processor has instructions for products in bfloat16; without them they are many times slower than float32's.

    AMD's laptops have them from Zen 4 on (AVX512-BF16), Intel's servers from Sapphire Rapids on (AMX too).
    """
    return torch.cpu.get_capabilities().get("avx512_bf16", False)


@contextmanager
def _matrix_products(device: torch.device, bfloat16: bool) -> Iterator[None]:
    """In here, matrix products are in bfloat16 if so asked, where the processor has instructions for it; else in float32.

    A bfloat16 is a float32 without its last 16 bits: the same range, three digits. What is added up stays float32, so the
    loss hardly notices.
    """
    if bfloat16 and device.type == "cpu" and processor_has_bfloat16():
        # torch's fused attention takes longer over a short context in bfloat16 than the plain products do.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            yield
    else:
        yield


def _optimizers(model: GPTModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices where the recipe says so, and Adam for all else. Each group remembers its peak rate."""
    fused = [block.attention.qkv.weight for block in model.blocks]
    others = [p for p in model.blocks.parameters() if p.dim() == 2 and not any(p is qkv for qkv in fused)]
    matrices = fused + others if recipe.optimizer == "muon" else []
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    optimizers = [torch.optim.AdamW(rest, recipe.learning_rate, recipe.betas, weight_decay=recipe.weight_decay, fused=True)]
    if matrices:
        optimizers.append(Muon([{"params": fused, "stacked": 3}, {"params": others}], recipe.muon_learning_rate,
                               weight_decay=recipe.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers
