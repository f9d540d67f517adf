"""Checks for 04_training_and_sampling: batches, cross-entropy, the learning rate, evaluation."""

import math
import random
from collections import Counter

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt import GPTConfig
from minigpt.classroom.checks.cases import laid_out, one_of, sizes
from minigpt.classroom.checks.framework import (
    Mistake,
    Student,
    accuse,
    article,
    check,
    is_nan,
    look_at_gradients,
    one_number,
    pair,
    same,
    tensor,
)

# -------------------------------------------------------------------------------------- check_batch

@check("batch: windows from every possible start, each equally likely, y one token later than x, "
       "on 23 batches",
       repeatable=False)
def check_batch(student: Student) -> None:
    """Checks `fn(ids: (N,), context_length, batch_size) -> (x, y)`.

    Both are (batch_size, context_length) int64.
    """
    long = 70_000 + torch.randperm(67_000)                      # places that need more than 16 bits
    batches = [starts_of_batch(student, laid_out(long), 6, 12) for _ in range(6)]
    for starts in batches:
        steps = {second - first for first, second in zip(starts, starts[1:], strict=False)}
        if steps == {0}:
            raise Mistake(f"All rows of your batch are the same window (start {starts[0]}). Draw a "
                          "start for each row.")
        if len(steps) == 1:
            raise Mistake(f"Your windows lie in a row, each {steps.pop()} tokens after the one "
                          "before. Draw each start at random, anywhere in the text.")
    if all(starts == batches[0] for starts in batches):
        raise Mistake("Six batches in a row are the same batch. Draw new starts at each call, and "
                      "set no seed inside.")
    if (all(starts == sorted(starts) for starts in batches)
            or all(starts == sorted(starts, reverse=True) for starts in batches)):
        raise Mistake("The windows of a batch come in the order of the text. Each row should start "
                      "anywhere, whatever the row before it did.")
    if max(map(max, batches)) < len(long) * 3 // 4:             # by chance once in a billion checks
        raise Mistake(f"Of {len(long)} ids, none of 72 windows starts in the last quarter. Each "
                      "possible start should be equally likely: take their number from len(ids).")
    drawn = Counter()                   # context 3: starts 0 to 6 are possible, and must be drawn
    for _ in range(8):
        drawn.update(starts_of_batch(student, 100 + torch.randperm(10), 3, 300))
    look_at_starts(drawn, n_starts=7, context_length=3, length=10)
    for N, context_length, batch_size in ((6, 5, 3),            # which has one start only
                                          (2, 1, 1), (40, 39, 2), (300, 1, 4), (20, 5, 5),
                                          (400, 256, 3), (9, 3, 1)):
        starts_of_batch(student, laid_out(200 + torch.randperm(N)), context_length, batch_size)


def starts_of_batch(student: Student, ids: Tensor, context_length: int,
                    batch_size: int) -> list[int]:
    """Where the rows of one batch start, once all else about it is right.

    Every id occurs once: so they are found.
    """
    last = len(ids) - context_length - 1
    x, y = pair(student(
        f"There are {len(ids)} ids, and a window needs context_length + 1 = {context_length + 1} "
        f"of them: the last possible start is {last}.",
        ids=ids, context_length=context_length, batch_size=batch_size), student.name, "x, y")
    shape, axes = (batch_size, context_length), "(batch_size, context_length)"
    each_start_once = (last + 1, context_length)
    if isinstance(x, Tensor) and x.shape == each_start_once and last + 1 < batch_size:
        raise Mistake(f"Of {batch_size} windows you return {last + 1}: there are no more starts, "
                      "and you use each once. Draw each start by itself, so that one may come "
                      "twice.")
    if isinstance(y, Tensor) and tuple(y.shape) == (batch_size,):
        raise Mistake("Your y holds one token a row. Every position of x has a target, the token "
                      f"after it: y should be {axes} = {shape}.")
    if isinstance(x, Tensor) and x.is_floating_point():
        raise Mistake(f"Your x holds {x.dtype}. Ids are whole numbers: keep them torch.int64, the "
                      "embedding looks them up.")
    x, y = tensor(x, "Your x", shape, axes, "int64"), tensor(y, "Your y", shape, axes, "int64")
    place = {value: i for i, value in enumerate(ids.tolist())}
    foreign = [value for value in (x.flatten().tolist() + y.flatten().tolist())
               if value not in place]
    if foreign:
        raise Mistake(f"Your batch holds {foreign[0]}, which is not among the ids. x and y hold "
                      "the ids themselves, not the positions they stand at.")
    look_at_rows([[place[value] for value in row] for row in x.tolist()],
                 [[place[value] for value in row] for row in y.tolist()], len(ids))
    return [place[row[0]] for row in x.tolist()]


def look_at_rows(x: list[list[int]], y: list[list[int]], length: int) -> None:
    """Raises the mistake in a batch, given by the places of its tokens in the text."""
    over_the_end = ("runs over the end of the text and goes on at its beginning. Stop early "
                    "enough: the last start is len(ids) − context_length − 1.")
    for row in x:
        steps = {second - first for first, second in zip(row, row[1:], strict=False)}
        if steps - {1, 1 - length}:
            raise Mistake(f"A row of x takes its tokens from positions {row}: they should follow "
                          "one another, as in the text. Draw one start for the row, not one for "
                          "each token.")
        if 1 - length in steps:
            raise Mistake(f"A window of yours {over_the_end}")
    shifts = {later - now for row_x, row_y in zip(x, y, strict=True)
              for now, later in zip(row_x, row_y, strict=True)}
    if shifts == {1}:
        return
    if shifts == {0}:
        raise Mistake("Your y is x. The target is the next token, so y starts one later: a model "
                      "that only copies what it reads would have no loss at all.")
    if shifts == {-1}:
        raise Mistake("Your y is one token earlier than x: the model would learn to predict the "
                      "past.")
    if len(shifts) == 1:
        raise Mistake(f"Your y is {shifts.pop()} tokens later than x. One is right; was it shifted "
                      "twice?")
    if shifts == {1, 1 - length}:
        raise Mistake(f"Your y {over_the_end}")
    row_x, row_y = next((row_x, row_y) for row_x, row_y in zip(x, y, strict=True)
                        if row_y != [place + 1 for place in row_x])
    if row_y == [*row_x[1:], row_x[0]]:
        raise Mistake("The last target of a row is the row's own first token: you rolled x. Take "
                      "the next token from the text.")
    if row_y[:-1] == row_x[1:]:
        raise Mistake(f"The last target of a row is wrong: after position {row_x[-1]} comes "
                      f"{row_x[-1] + 1}, and you take {row_y[-1]}.")
    if row_y == [row_y[0] + i for i in range(len(row_y))]:
        raise Mistake(f"x and y come from different places: a row of x starts at {row_x[0]}, its y "
                      f"at {row_y[0]}. Draw the starts once, and use them for both.")
    raise Mistake(f"A row of x has the tokens at {row_x} and its y those at {row_y}: y should be "
                  "one later at each place.")


def look_at_starts(drawn: Counter, n_starts: int, context_length: int, length: int) -> None:
    """Raises the mistake in which windows are drawn, and how often, after very many of them."""
    missing = sorted(set(range(n_starts)) - set(drawn))
    total = drawn.total()
    setting = f"With {length} ids and context_length = {context_length} there are {n_starts} starts"
    if missing == [n_starts - 1]:
        raise Mistake(f"{setting}, and in {total} windows start {n_starts - 1} never came up: the "
                      "last window is never drawn. torch.randint leaves its upper end out: "
                      "randint(len(ids) − context_length).")
    if missing == [0]:
        raise Mistake(f"{setting}, and in {total} windows start 0 never came up: the first window "
                      "is never drawn.")
    if len(drawn) == 1:
        raise Mistake(f"{setting}, and all {total} windows begin at {min(drawn)}. Draw the starts "
                      "at random.")
    if all(start % context_length == 0 for start in drawn):
        raise Mistake(f"{setting}, and yours are all multiples of {context_length}. A window may "
                      "start anywhere.")
    if missing:
        raise Mistake(f"{setting}, and in {total} windows these never came up: "
                      f"{', '.join(map(str, missing))}.")
    fair = total / n_starts
    start, often = max(drawn.items(), key=lambda item: abs(item[1] - fair))
    if abs(often - fair) > 6 * fair ** 0.5:             # by chance once in a hundred million checks
        why = (" Are starts beyond the last moved back to it? Draw among the possible ones alone."
               if start == n_starts - 1 and often > fair else "")
        raise Mistake(f"{setting}, and of {total} windows {often} begin at {start}, where about "
                      f"{fair:.0f} would be even. Each start should be equally likely.{why}")


# ------------------------------------------------------------------------------ check_cross_entropy

@check("cross-entropy: the mean of −log p(target) in nats, also for large logits, equal to torch's "
       "own on 24 inputs")
def check_cross_entropy(student: Student) -> None:
    """Checks `fn(logits: (N, V), targets: (N,)) -> ()`."""
    for trial in range(24):
        if trial < 10:
            N, V = random.sample((3, 4, 5, 6, 7, 20), 2)
        else:
            N, V = sizes(trial, 2) if trial < 23 else (40, 300)
        N, V = (4, 5) if trial == 14 else (N, V)
        level = {10: -1000, 11: 1000}.get(trial, 0)
        if trial == 14:                                         # each row on another level
            level = torch.tensor([1000.0, -1000.0, 0.0, 300.0])[torch.randperm(4), None]
        spread = 60 if trial in (12, 13) else 2
        logits = laid_out(torch.randn(N, V) * spread + level)
        targets = laid_out(torch.randint(V, (N,)))
        logits.requires_grad_(trial % 3 == 2)
        made = student(logits=logits, targets=targets)
        right = F.cross_entropy(logits, targets)
        if not isinstance(made, Tensor) or made.dim() > 0:
            raise loss_of_another_kind(made, N)
        answer = tensor(made, "Your loss", (), "()")
        with torch.no_grad():
            if not same(answer, right):
                large = trial in range(10, 15)
                raise cross_entropy_mistake(answer, right.detach(), logits.detach(), targets, large)
        if logits.requires_grad and V > 1:
            look_at_gradients("Your loss", made, right, {"logits": student.given["logits"]},
                              {"logits": logits})


def loss_of_another_kind(made, N: int) -> Mistake:
    """Why something that is no tensor of shape () won't do."""
    if isinstance(made, Tensor) and made.numel() == N > 1:
        return Mistake(f"Your loss has shape {tuple(made.shape)}, a number for each token. The "
                       "loss is their mean, one number.")
    if isinstance(made, Tensor) and made.numel() == 1:
        return Mistake(f"Your loss has shape {tuple(made.shape)}, and a loss has no axis left, "
                       "shape (): take the mean over all.")
    if one_number(made) is not None:
        return Mistake(f"Your loss is {article(made)}, a bare number: no gradient leads back from "
                       "it to the logits, and nothing could learn. Return the tensor, without "
                       "`.item()` or `float`.")
    return Mistake(f"Your loss should be one number, and is {described_loss(made)}.")


def described_loss(answer) -> str:
    """A loss that is no number."""
    return f"of shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else article(answer)


def cross_entropy_mistake(answer: Tensor, right: Tensor, logits: Tensor, targets: Tensor,
                          large: bool) -> Mistake:
    """Why this loss is wrong."""
    N, V = logits.shape
    rows = torch.arange(N)
    logs = logits.log_softmax(-1)
    picked = logs[rows, targets]
    probabilities = logits.softmax(-1)
    yours = f"Your loss is {float(answer):.4f} where {float(right):.4f} is right"
    if large and float(picked.min()) < -80 and not bool(answer.isfinite()):
        return Mistake(f"{yours}: some target has a probability of e^{float(picked.min()):.0f}, "
                       "which is 0 as a float, and the logarithm of 0 is infinite. log_softmax "
                       "never goes by way of p: softmax and then log does.")
    if large and float(picked.min()) < -15 and answer < right:
        return Mistake(f"{yours}: some target has a probability of e^{float(picked.min()):.0f}, "
                       "and something keeps your p, or its logarithm, from becoming so small (a "
                       "clamp, or a little number added?). With log_softmax nothing need be kept "
                       "away from 0.")
    if large and not bool(answer.isfinite()):
        return Mistake(f"With logits near 1000 your loss is {float(answer):g}: exp(1000) is more "
                       "than a float can hold. Subtract the largest logit of each row first (the "
                       "loss stays the same), or use log_softmax.")
    if is_nan(answer):
        return Mistake("Your loss is NaN: the logarithm of a negative number. Logits are no "
                       "probabilities yet: apply log_softmax first.")
    accuse(answer, {
        f"{yours}: you add up the {N} tokens. Take their mean, so that the loss does not depend "
        "on the batch size.": -picked.sum(),
        f"{yours}: the sign. The logarithm of a probability is negative, and the loss is its "
        "opposite.": picked.mean(),
        f"{yours}, which is the same in bits: you take logarithms to base 2. Nats come from the "
        "natural one.": right / math.log(2),
        f"{yours}: you take logarithms to base 10. Nats come from the natural one.":
            right / math.log(10),
        f"{yours}: your softmax shares out 1 among the tokens of the batch. It runs over the "
        "vocabulary, the last axis.": -logits.log_softmax(0)[rows, targets].mean(),
        f"{yours}: softmax is applied twice. F.cross_entropy, and log_softmax, take the logits "
        "themselves.": F.cross_entropy(probabilities, targets),
        f"{yours}: you average −p. The loss is −log p.": -probabilities[rows, targets].mean(),
        f"{yours}: you average p itself. The loss is the logarithm of p.":
            probabilities[rows, targets].mean(),
        f"{yours}: you average 1 − p. The loss is −log p.":
            (1 - probabilities[rows, targets]).mean(),
        f"{yours}: you pick the logit of the target without normalising it: subtract logsumexp of "
        "its row.": -logits[rows, targets].mean(),
        f"{yours}: you take the largest probability of each row, whatever the target is. Pick "
        "that of the target.": -logs.amax(-1).mean(),
        f"{yours}: you average over the whole vocabulary. Only the target's logarithm counts.":
            -logs.mean(),
        f"{yours}: you divide by the size of the vocabulary too. Take the mean over the tokens "
        "only.": -picked.mean() / V,
        f"{yours}: you add up the tokens and divide by the size of the vocabulary. Divide by how "
        "many tokens there are.": -picked.sum() / V,
        f"{yours}: you take the logarithm of the mean probability. It is the mean of the "
        "logarithms.": -probabilities[rows, targets].mean().log(),
        f"{yours}: that is the perplexity, exp of the loss.": right.exp(),
        f"{yours}: the mean leaves out the first token. Here logits and targets belong together "
        "already, so shift nothing.": -picked[1:].mean(),
        f"{yours}: logits and targets are shifted against each other. They belong together "
        "already.": -logs[rows[:-1], targets[1:]].mean(),
        f"{yours}: that is the entropy of the model's own probabilities. The loss asks for the "
        "target's.": -(probabilities * logs).sum(-1).mean(),
        f"{yours}: you pick every target from every row, {N} × {N} numbers: logs[:, targets]. One "
        "from each row: logs[torch.arange(N), targets].": -logs[:, targets].mean(),
        f"{yours}: you take one token for all rows, the first target. Each row has its own.":
            -logs[:, targets[0]].mean(),
        f"{yours}: you average by the number of tokens less one. Divide by N.":
            -picked.sum() / max(1, N - 1),
        f"{yours}: you add the squares of the differences. The loss is −log p of the target.":
            (probabilities - F.one_hot(targets, V)).square().mean(),
        f"{yours}: some of the target's share goes to all other tokens (label smoothing). Here "
        "all of it is the target's.": F.cross_entropy(logits, targets, label_smoothing=0.1),
        f"{yours}: you take the largest loss of all tokens. Take their mean.": (-picked).amax(),
        f"{yours}: you take the median of the tokens. Take their mean.": (-picked).median(),
        f"{yours}: that is the share of wrong guesses. The loss is −log p of the target.":
            (logits.argmax(-1) != targets).float().mean(),
    })
    return Mistake(f"{yours}: the mean over the tokens of −log_softmax(logits)[target].")


# ------------------------------------------------------------------------------ check_learning_rate

@check("learning rate: up in a straight line, down in half a cosine, the floor on the last step, "
       "on 16 schedules")
def check_learning_rate(student: Student) -> None:
    """Checks `fn(step, steps, warmup, peak, floor) -> float` at every step, in any order.

    peak · (step + 1) / warmup while step < warmup; then half a cosine from peak at `warmup` to
    floor at `steps − 1`.
    """
    schedules = [(20, 5, 0.5, 0.05)]
    for _ in range(7):
        peak = random.uniform(0.001, 0.01)
        schedules.append((random.randint(12, 60), random.randint(2, 8), peak,
                          peak * random.uniform(0.05, 0.3)))
    schedules += [(20, 0, 0.01, 0.001), (9, 1, 3e-4, 3e-5), (random.randint(2, 5), 0, 0.1, 0.0),
                  (30, 20, 2.0, 1.5), (12, 3, 0.1, 0.1),
                  (10, 8, 0.02, 0.01), (400, 40, 0.003, 0.0), (20_000, 700, 6e-4, 6e-5)]
    for steps, warmup, peak, floor in schedules:
        rates = {}
        asked = {*range(steps)} if steps <= 400 else {0, warmup - 1, warmup, steps - 1,
                                                      *random.sample(range(steps), 60)}
        for step in random.sample(sorted(asked), len(asked)):
            rate = student("While step < warmup the warm-up, from step = warmup on the cosine, "
                           "also where warmup is 0 or 1.",
                           step=step, steps=steps, warmup=warmup, peak=peak, floor=floor)
            if one_number(rate) is None:
                raise Mistake(f"{student.name} returns {article(rate)}; it should return one "
                              "number, the rate of a step.")
            rates[step] = one_number(rate)
        right = right_rates(steps, warmup, peak, floor)
        # what was not asked counts as right
        look_at_rates([rates.get(step, right[step]) for step in range(steps)], steps, warmup, peak,
                      floor)


def right_rates(steps: int, warmup: int, peak: float, floor: float) -> list[float]:
    """The truth, at every step."""
    rise = peak * torch.arange(1, warmup + 1, dtype=torch.float64) / warmup
    return torch.cat([rise, cosine(steps, warmup, peak, floor)[warmup:]]).tolist()


def look_at_rates(rates: list[float], steps: int, warmup: int, peak: float, floor: float) -> None:
    """Raises the mistake in the rates of one schedule, if there is one."""
    answer = torch.tensor(rates, dtype=torch.float64)
    right = torch.tensor(right_rates(steps, warmup, peak, floor), dtype=torch.float64)
    if same(answer / peak, right / peak, 2e-6):                 # as near as float32 comes
        return
    setting = f"With steps = {steps}, warmup = {warmup}, peak = {peak:.4g}, floor = {floor:.4g}, "
    first, rising = right[:warmup], answer[:warmup]
    wrong_rise = not same(rising / peak, first / peak, 2e-6)
    for_rising = {} if not wrong_rise else {
        "at step 0 your rate is 0: the first step would teach nothing. The warm-up is peak · "
        "(step + 1) / warmup.": first - peak / warmup,
        f"your warm-up never reaches the peak: at step {warmup - 1} it should be there. Divide by "
        "warmup, not by warmup + 1.": first * warmup / (warmup + 1),
        "there is no warm-up: while step < warmup, the rate is peak · (step + 1) / warmup.":
            torch.full_like(first, peak),
        "there is no warm-up: the cosine starts at step 0.":
            cosine(steps, 0, peak, floor)[:warmup],
        "your warm-up starts at the floor: it is peak · (step + 1) / warmup, whatever the floor.":
            floor + (peak - floor) / peak * first,
        "your warm-up starts at the floor, and at step 0 stays there: it is peak · (step + 1) / "
        "warmup.": floor + (peak - floor) / peak * (first - peak / warmup),
        "your warm-up goes up to 1 and not to the peak: multiply by peak.": first / peak,
        "your warm-up bends (a square). It is a straight line, peak · (step + 1) / warmup.":
            first ** 2 / peak,
        "your warm-up starts at the peak and falls. It rises, peak · (step + 1) / warmup.":
            first.flip(0),
    }
    if wrong_rise:
        accuse(rising / peak,
               {setting + reason: wrong / peak for reason, wrong in for_rising.items()})
        step = int((rising - first).abs().argmax())
        raise Mistake(f"{setting}in the warm-up, at step {step}, your rate is {rates[step]:.4g} "
                      f"where {float(first[step]):.4g} is right.")
    falling, last = answer[warmup:], right[warmup:]
    progress = torch.arange(steps - warmup, dtype=torch.float64) / (steps - 1 - warmup)
    late = torch.arange(steps - warmup, dtype=torch.float64) / (steps - warmup)
    half = (1 + torch.cos(math.pi * progress)) / 2
    for_falling = {
        "your cosine reaches the floor one step too late: the last step is steps − 1, and there "
        f"the rate is {rates[-1]:.4g}. Divide by steps − 1 − warmup.":
            floor + (peak - floor) * (1 + torch.cos(math.pi * late)) / 2,
        f"your cosine forgets the warm-up: at step {warmup} the rate jumps from the peak to "
        f"{rates[warmup]:.4g}. Progress is (step − warmup) / (steps − 1 − warmup).":
            cosine(steps, 0, peak, floor)[warmup:],
        "your rate falls to 0: the floor is forgotten, floor + (peak − floor) · half a cosine.":
            peak * half,
        "your rate starts at peak + floor: the cosine spans peak − floor, on top of the floor.":
            floor + peak * half,
        "your rate falls in a straight line; half a cosine is gentle at both ends.":
            floor + (peak - floor) * (1 - progress),
        f"your rate goes below the floor, down to {min(rates):.4g}: cos runs from 1 to −1, (1 + "
        "cos) / 2 from 1 to 0.": floor + (peak - floor) * torch.cos(math.pi * progress),
        f"your rate goes up to {max(rates):.4g}, above the peak: halve 1 + cos.":
            floor + (peak - floor) * (1 + torch.cos(math.pi * progress)),
        "your rate comes up again at the end: you use a whole wave, cos(2π · progress). Half a "
        "wave is cos(π · progress).":
            floor + (peak - floor) * (1 + torch.cos(2 * math.pi * progress)) / 2,
        "you use a quarter of a cosine, which ends in a steep fall: (1 + cos(π · progress)) / 2 "
        "is gentle at both ends.": floor + (peak - floor) * torch.cos(math.pi / 2 * progress),
        "your rate stays at the peak: after the warm-up it falls to the floor.":
            torch.full_like(last, peak),
        "your rate falls at once to the floor and stays there.": torch.full_like(last, floor),
        "your cosine gets degrees: math.cos wants radians, half a turn is π.":
            floor + (peak - floor) * (1 + torch.cos(180 * progress)) / 2,
        "your rate rises where it should fall: 1 + cos, not 1 − cos.":
            floor + (peak - floor) * (1 - half),
        "your rate is cut off at the floor: a cosine down to 0 that stops early. Let it arrive on "
        "the last step: floor + (peak − floor) · half a cosine.":
            torch.clamp(peak * half, min=floor),
        "your rate falls exponentially: here it is half a cosine.":
            peak * (floor / peak) ** progress,
    }
    accuse(falling / peak,
           {setting + reason: wrong / peak for reason, wrong in for_falling.items()})
    if rates[warmup] > peak * (1 + 1e-4):
        raise Mistake(f"{setting}at step {warmup} = warmup your rate is {rates[warmup]:.4g}, above "
                      "the peak. The warm-up lasts while step < warmup, without the =.")
    step = warmup + int((falling - last).abs().argmax())
    raise Mistake(f"{setting}after the warm-up, at step {step}, your rate is {rates[step]:.4g} "
                  f"where {float(right[step]):.4g} is right.")


def cosine(steps: int, start: int, peak: float, floor: float) -> Tensor:
    """Half a cosine from the peak at step `start` to the floor on the last step: (steps,).

    It is of use from `start` on.
    """
    progress = (torch.arange(steps, dtype=torch.float64) - start) / (steps - 1 - start)
    return floor + (peak - floor) * (1 + torch.cos(math.pi * progress)) / 2


# ----------------------------------------------------------------------------------- check_evaluate

class Probe(nn.Module):
    """A model whose guess depends on the last two tokens: so it matters where the text is cut.

    It has dropout, and writes down in which mode it was asked.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.tables = nn.Parameter(torch.randn(2, config.vocab_size, config.vocab_size))
        self.dropout = nn.Dropout(0.5)
        self.asked_in_training, self.asked_with_gradients = False, False

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)."""
        if ids.dim() != 2:
            raise ValueError(f"ids must be (B, T), not {tuple(ids.shape)}")
        if not 0 < ids.shape[1] <= self.config.context_length:
            raise ValueError(f"ids must fit the context of {self.config.context_length} tokens, "
                             f"and be one at least, not {ids.shape[1]}")
        self.asked_in_training |= self.training
        self.asked_with_gradients |= torch.is_grad_enabled()
        before = torch.cat([ids[:, :1], ids[:, :-1]], dim=1)
        return self.dropout(self.tables[0, before] + self.tables[1, ids])


@check("evaluate: every token of the text counted once, in eval mode, without gradients, in nats "
       "per byte")
def check_evaluate(student: Student) -> None:
    """Checks `fn(model, ids: (N,), n_bytes) -> float`: the loss on the whole text, per byte.

    It is summed over N − 1 targets. Windows end to end, each of `model.config.context_length`
    tokens to read, the last perhaps of fewer; the model comes back in the mode in which it came.
    """
    for trial in range(14):
        T, V = one_of(4, 6) if trial < 4 else one_of(1, 2, 3, 7, 32), one_of(11, 11, 300)
        T = 32 if trial > 11 else T
        model = Probe(GPTConfig(vocab_size=V, context_length=T, d_model=4, n_heads=1,
                                d_ff=0)).train(trial % 4 != 3)
        windows = random.randint(4, 9) if trial < 8 else one_of(1, 2)
        rest = (3, 1, T, 2)[trial % 4]     # 1: the windows fit exactly; T: the last lacks one token
        length = {12: one_of(2, 20), 13: 3000}.get(trial, T * windows + rest)
        ids = laid_out(torch.randint(V, (length,)))
        n_bytes = int(len(ids) * random.uniform(1.5, 3))
        answer = student(f"The model reads at most {T} tokens, and at least one: cut the text into "
                         f"windows, and see that the last "
                         "still has a token to predict.", model=model, ids=ids, n_bytes=n_bytes)
        if isinstance(answer, Tensor) and answer.numel() == 1:
            raise Mistake("Your loss is a tensor. An evaluation is compared and printed, never "
                          "trained on: return a plain number, with `.item()`.")
        if one_number(answer) is None or isinstance(answer, numpy.ndarray):
            raise Mistake(f"Your loss should be one number, and is {described_loss(answer)}.")
        if model.asked_in_training:
            raise Mistake("Your model was asked in training mode, with dropout on: every "
                          "evaluation gives another, worse number. Call model.eval() first.")
        if model.asked_with_gradients:
            raise Mistake("Your model was asked with gradients on, which costs time and memory and "
                          "is never used here. Put the evaluation under torch.no_grad().")
        look_at_evaluation(float(answer), model.eval(), ids, n_bytes, T)


@torch.no_grad()
def losses_of(model: Probe, ids: Tensor, read: int, step: int | None = None) -> Tensor:
    """−log p of every target, (N − 1,), with windows of `read` tokens.

    Each begins `step` behind the last, and counts only its end.
    """
    step, losses = step or read, []
    for end in range(min(read, len(ids) - 1), len(ids) - 1 + step, step):
        end = min(end, len(ids) - 1)
        new = end - sum(map(len, losses))
        start = max(0, end - max(read, new)) if step < read else end - new
        losses.append(F.cross_entropy(model(ids[None, start:end])[0], ids[start + 1:end + 1],
                                      reduction="none")[-new:])
        if end == len(ids) - 1:
            break
    return torch.cat(losses).double()


@torch.no_grad()
def look_at_evaluation(answer: float, model: Probe, ids: Tensor, n_bytes: int, T: int) -> None:
    """Raises the mistake in the number, if there is one."""
    losses = losses_of(model, ids, T)                           # (N - 1,)
    right, total, n = float(losses.sum()) / n_bytes, float(losses.sum()), len(losses)
    if math.isclose(answer, right, rel_tol=1e-4):
        return
    per_byte = n / n_bytes
    windows = losses.split(T)
    whole = losses[:n // T * T]
    yours = f"Yours is {answer:.4f} where {right:.4f} nats per byte is right"
    unfair = torch.stack([window.mean() for window in windows]).mean()
    suspects = {
        f"{yours}: yours is per token. Divide the sum by n_bytes, so that tokenizers can be "
        "compared.": total / n,
        f"{yours}: you add up and never divide. Divide by n_bytes.": total,
        f"{yours}: that is in bits. One nat is 1.44 bits.": right / math.log(2),
        f"{yours}: the last, shorter window is left out.": float(whole.sum()) / n_bytes,
        f"{yours}: yours is per token, and leaves out the last, shorter window.": whole.mean(),
        f"{yours}: the last target of every window is left out. Take T + 1 tokens a window: T to "
        "read, T to predict.": sum(float(window[:T - 1].sum()) for window in windows) / n_bytes,
        f"{yours}: you average the means of the windows, and a short one weighs as much as a long "
        "one. Add up first, divide at the end.": unfair * per_byte,
        f"{yours}: you average the means of the windows, per token. Add up first, divide by "
        "n_bytes at the end.": unfair,
        f"{yours}: only the first window was counted.": windows[0].mean() * per_byte,
        f"{yours}: the bytes per token are multiplied where they should divide.":
            total / n / per_byte,
        f"{yours}: the first window is left out.": float(losses[T:].sum()) / n_bytes,
        f"{yours}: the last window is left out.":
            float(torch.cat(windows[:-1]).sum() if len(windows) > 1 else 0) / n_bytes,
        f"{yours}: you divide by the number of tokens and by n_bytes. The sum over n_bytes is "
        "right.": total / n / n_bytes,
        f"{yours}: that is exp of the loss, the perplexity.": math.exp(min(right, 50)),
        f"{yours}: the sign. The loss is −log p, and positive.": -right,
        f"{yours}: the targets are not shifted. The logits at a token speak of the one after it.":
            unshifted(model, ids, T) / n_bytes,
        f"{yours}: you divide by the number of ids. Divide the sum by n_bytes.": total / len(ids),
    }
    accuse(torch.tensor(answer, dtype=torch.float64),
           {reason: torch.as_tensor(wrong) for reason, wrong in suspects.items()})
    for reason, (read, step) in {
        f"your windows read {T - 1} tokens, and the model can read {T}: a window has T + 1 ids, T "
        "to read and one more to predict.": (T - 1, T - 1),
        "your windows overlap: each token is read with as many before it as fit. Here they lie "
        "end to end, T apart.": (T, 1),
        "your windows are half as long as they may be.": (T // 2, T // 2),
        "the model is shown one token at a time.": (1, 1),
    }.items():
        if 0 < read <= T and (read, step) != (T, T) and math.isclose(
                answer, float(losses_of(model, ids, read, step).sum()) / n_bytes, rel_tol=1e-4):
            raise Mistake(f"{yours}: {reason}")
    raise Mistake(f"{yours}. Sum −log p over every token but the first, once each, and divide by "
                  "n_bytes.")


def unshifted(model: Probe, ids: Tensor, T: int) -> float:
    """The sum that comes of asking for the very tokens that the model reads."""
    return sum(float(F.cross_entropy(model(window[None])[0], window, reduction="sum"))
               for window in ids[:-1].split(T))
