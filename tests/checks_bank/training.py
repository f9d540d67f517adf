"""Answers to the exercises of 04_training_and_sampling that are about training."""

import math
import random

import numpy
import torch
from torch.nn import functional as F

from checks_bank.register import right, wrong
from minigpt.batches import TokenizedText, random_batch
from minigpt.classroom.checks import check_batch, check_cross_entropy, check_evaluate, check_learning_rate
from minigpt.training import evaluate, learning_rate

# ---------------------------------------------------------------------------------------------------------------- batch

right(check_batch)(random_batch)


@right(check_batch)
def stacked(ids, context_length, batch_size):
    starts = torch.randint(len(ids) - context_length, (batch_size,)).tolist()
    x = torch.stack([ids[start:start + context_length] for start in starts])
    y = torch.stack([ids[start + 1:start + context_length + 1] for start in starts])
    return x, y


@right(check_batch)
def with_python_random(ids, context_length, batch_size):
    windows = []
    for _ in range(batch_size):
        start = random.randint(0, len(ids) - context_length - 1)
        windows.append(ids[start:start + context_length + 1])
    windows = torch.stack(windows)
    return [windows[:, :-1], windows[:, 1:]]


@right(check_batch)
def with_unfold(ids, context_length, batch_size):
    windows = ids.unfold(0, context_length + 1, 1)
    chosen = windows[torch.randint(len(windows), (batch_size,))]
    return chosen[:, :-1].contiguous(), chosen[:, 1:].contiguous()


@right(check_batch)
def with_numpy(ids, context_length, batch_size):
    starts = numpy.random.randint(0, len(ids) - context_length, size=batch_size)
    places = starts[:, None] + numpy.arange(context_length)
    return torch.tensor(ids.numpy()[places]), torch.tensor(ids.numpy()[places + 1])


@wrong(check_batch, "stopped with TypeError")
def of_a_list(ids, context_length, batch_size):
    starts = random.choices(range(len(ids) - context_length), k=batch_size)
    return (torch.tensor([ids[start:start + context_length] for start in starts]),
            torch.tensor([ids[start + 1:start + 1 + context_length] for start in starts]))


@right(check_batch)
def of_an_array(ids, context_length, batch_size):
    windows = numpy.lib.stride_tricks.sliding_window_view(ids, context_length + 1)
    windows = torch.from_numpy(windows[numpy.random.choice(len(windows), batch_size)])
    return windows[:, :-1], windows[:, 1:]


def _starts(ids, context_length, batch_size):
    return torch.randint(len(ids) - context_length, (batch_size,))[:, None] + torch.arange(context_length)


@wrong(check_batch, "Your y is x")
def unshifted(ids, context_length, batch_size):
    places = _starts(ids, context_length, batch_size)
    return ids[places], ids[places]


@wrong(check_batch, "Your y is 2 tokens later")
def shifted_twice(ids, context_length, batch_size):
    starts = torch.randint(len(ids) - context_length - 1, (batch_size,))[:, None] + torch.arange(context_length)
    return ids[starts], ids[starts + 2]


@wrong(check_batch, "one token earlier")
def shifted_back(ids, context_length, batch_size):
    places = _starts(ids, context_length, batch_size)
    return ids[places + 1], ids[places]


@wrong(check_batch, "x and y come from different places")
def two_draws(ids, context_length, batch_size):
    return ids[_starts(ids, context_length, batch_size)], ids[_starts(ids, context_length, batch_size) + 1]


@wrong(check_batch, "the last window is never drawn")
def last_window_missing(ids, context_length, batch_size):
    n = max(1, len(ids) - context_length - 1)
    starts = torch.randint(n, (batch_size,))[:, None] + torch.arange(context_length)
    return ids[starts], ids[starts + 1]


@wrong(check_batch, "the first window is never drawn")
def first_window_missing(ids, context_length, batch_size):
    starts = torch.randint(1, max(2, len(ids) - context_length), (batch_size,))[:, None] + torch.arange(context_length)
    return ids[starts], ids[starts + 1]


@wrong(check_batch, "the last possible start is")
def start_anywhere(ids, context_length, batch_size):
    starts = torch.randint(len(ids), (batch_size,))[:, None] + torch.arange(context_length)
    return ids[starts], ids[starts + 1]


@wrong(check_batch, "should follow one another")
def single_tokens(ids, context_length, batch_size):
    places = torch.randint(len(ids) - 1, (batch_size, context_length))
    return ids[places], ids[places + 1]


@wrong(check_batch, "All rows of your batch are the same window")
def one_window_again(ids, context_length, batch_size):
    start = int(torch.randint(len(ids) - context_length, ()))
    window = ids[start:start + context_length + 1].repeat(batch_size, 1)
    return window[:, :-1], window[:, 1:]


@wrong(check_batch, "Your windows lie in a row")
def neighbours(ids, context_length, batch_size):
    first = int(torch.randint(max(1, len(ids) - context_length - batch_size), ()))
    places = first + torch.arange(batch_size)[:, None] + torch.arange(context_length)
    return ids[places], ids[places + 1]


@wrong(check_batch, "set no seed inside")
def seeded(ids, context_length, batch_size):
    torch.manual_seed(0)
    return random_batch(ids, context_length, batch_size)


@wrong(check_batch, "none of 72 windows starts in the last quarter")
def from_the_first_half(ids, context_length, batch_size):
    starts = torch.randint((len(ids) - context_length + 1) // 2, (batch_size,))[:, None] + torch.arange(context_length)
    return ids[starts], ids[starts + 1]


@wrong(check_batch, "All rows of your batch are the same window (start 0)")
def always_from_the_start(ids, context_length, batch_size):
    places = torch.arange(context_length).repeat(batch_size, 1)
    return ids[places], ids[places + 1]


@wrong(check_batch, "all multiples of 3")
def end_to_end(ids, context_length, batch_size):
    n = (len(ids) - 1) // context_length
    places = torch.randint(n, (batch_size,))[:, None] * context_length + torch.arange(context_length)
    return ids[places], ids[places + 1]


@wrong(check_batch, "one token a row")
def last_target_only(ids, context_length, batch_size):
    places = _starts(ids, context_length, batch_size)
    return ids[places], ids[places[:, -1] + 1]


@wrong(check_batch, "Ids are whole numbers")
def floats(ids, context_length, batch_size):
    x, y = random_batch(ids, context_length, batch_size)
    return x.float(), y


@wrong(check_batch, "you rolled x")
def rolled(ids, context_length, batch_size):
    x, _ = random_batch(ids, context_length, batch_size)
    return x, x.roll(-1, dims=1)


@wrong(check_batch, "goes on at its beginning")
def wraps_around(ids, context_length, batch_size):
    places = torch.randint(len(ids), (batch_size,))[:, None] + torch.arange(context_length)
    return ids[places % len(ids)], ids[(places + 1) % len(ids)]


@wrong(check_batch, "not the positions")
def places_instead_of_ids(ids, context_length, batch_size):
    places = _starts(ids, context_length, batch_size) + 100_000
    return places, places + 1


@wrong(check_batch, "it should return two")
def one_tensor(ids, context_length, batch_size):
    return torch.stack(random_batch(ids, context_length, batch_size))[0]


# -------------------------------------------------------------------------------------------------------- cross-entropy

right(check_cross_entropy)(F.cross_entropy)


@right(check_cross_entropy)
def by_gather(logits, targets):
    return -logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).mean()


@right(check_cross_entropy)
def by_logsumexp(logits, targets):
    return (logits.logsumexp(-1) - logits[torch.arange(len(targets)), targets]).mean()


@wrong(check_cross_entropy, "without `.item()`")
def by_logsumexp_as_a_number(logits, targets):
    return by_logsumexp(logits, targets).item()


@wrong(check_cross_entropy, "not enough values to unpack")
def for_batches(logits, targets):
    B, T, V = logits.shape
    return F.nll_loss(logits.log_softmax(-1).view(B * T, V), targets.view(B * T))


@right(check_cross_entropy)
def by_loop(logits, targets):
    total = torch.tensor(0.0)
    for row, target in zip(logits, targets, strict=True):
        row = row - row.max()
        total = total + row.exp().sum().log() - row[target]
    return total / len(targets)


def _cross_entropy(phrase, formula):
    """Registers a wrong loss: `formula(logits, targets, logs of the targets' probabilities)`."""
    def my_loss(logits, targets):
        return formula(logits, targets, logits.log_softmax(-1)[torch.arange(len(targets)), targets])
    wrong(check_cross_entropy, phrase)(my_loss)


_cross_entropy("you add up the", lambda logits, targets, picked: -picked.sum())
_cross_entropy("the sign", lambda logits, targets, picked: picked.mean())
_cross_entropy("in bits", lambda logits, targets, picked: -picked.mean() / math.log(2))
_cross_entropy("base 10", lambda logits, targets, picked: -picked.exp().log10().mean())
_cross_entropy("shares out 1 among the tokens", lambda logits, targets, picked: (
    -logits.log_softmax(0)[torch.arange(len(targets)), targets].mean()))
_cross_entropy("softmax is applied twice", lambda logits, targets, picked: F.cross_entropy(logits.softmax(-1), targets))
_cross_entropy("you average p itself", lambda logits, targets, picked: picked.exp().mean())
_cross_entropy("a number for each token", lambda logits, targets, picked: -picked)
_cross_entropy("logits near 1000", lambda logits, targets, picked: (
    -(logits.exp() / logits.exp().sum(-1, keepdim=True))[torch.arange(len(targets)), targets].log().mean()))
_cross_entropy("Logits are no probabilities yet", lambda logits, targets, picked: (
    -logits[torch.arange(len(targets)), targets].log().mean()))
_cross_entropy("without normalising", lambda logits, targets, picked: F.nll_loss(logits, targets))
_cross_entropy("Only the target's logarithm", lambda logits, targets, picked: -logits.log_softmax(-1).mean())
_cross_entropy("the perplexity", lambda logits, targets, picked: (-picked.mean()).exp())
_cross_entropy("mean of the logarithms", lambda logits, targets, picked: -picked.exp().mean().log())
_cross_entropy("largest probability of each row", lambda logits, targets, picked: (
    -logits.log_softmax(-1).amax(-1).mean()))
_cross_entropy("shifted against each other", lambda logits, targets, picked: F.cross_entropy(logits[:-1], targets[1:]))


# -------------------------------------------------------------------------------------------------------- learning rate

right(check_learning_rate)(learning_rate)


@right(check_learning_rate)
def as_one_expression(step, steps, warmup, peak, floor):
    return (peak * (step + 1) / warmup if step < warmup else
            floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * (step - warmup) / (steps - 1 - warmup))))


@right(check_learning_rate)
def by_tensor(step, steps, warmup, peak, floor):
    if step < warmup:
        return torch.tensor(peak * (step + 1) / warmup, dtype=torch.float64)
    angle = torch.tensor((step - warmup) / (steps - warmup - 1) * math.pi, dtype=torch.float64)
    return floor + (peak - floor) * (angle.cos() + 1) / 2


@right(check_learning_rate)
def by_squared_cosine(step, steps, warmup, peak, floor):
    if step < warmup:
        return peak / warmup * (step + 1)
    share = math.cos(math.pi / 2 * (step - warmup) / (steps - warmup - 1)) ** 2
    return share * peak + (1 - share) * floor


def _schedule(phrase, fall, rise=lambda step, warmup, peak, floor: peak * (step + 1) / warmup,
              until=lambda warmup: warmup):
    """Registers a wrong schedule: `fall(progress, step, steps, warmup, peak, floor)` after a right or wrong warm-up."""
    def my_learning_rate(step, steps, warmup, peak, floor):
        if step < until(warmup):
            return rise(step, warmup, peak, floor)
        return fall((step - warmup) / (steps - 1 - warmup), step, steps, warmup, peak, floor)
    wrong(check_learning_rate, phrase)(my_learning_rate)


def _half(progress):
    return (1 + math.cos(math.pi * progress)) / 2


def _right_fall(progress, step, steps, warmup, peak, floor):
    return floor + (peak - floor) * _half(progress)


_schedule("the first step would teach nothing", _right_fall, lambda step, warmup, peak, floor: peak * step / warmup)
_schedule("never reaches the peak", _right_fall, lambda step, warmup, peak, floor: peak * (step + 1) / (warmup + 1))
_schedule("while step < warmup, the rate is", _right_fall, lambda step, warmup, peak, floor: peak)
_schedule("the cosine starts at step 0", lambda progress, step, steps, warmup, peak, floor: (
    floor + (peak - floor) * _half(step / (steps - 1))), until=lambda warmup: 0)
_schedule("starts at the floor", _right_fall, lambda step, warmup, peak, floor: (
    floor + (peak - floor) * (step + 1) / warmup))
_schedule("one step too late", lambda progress, step, steps, warmup, peak, floor: (
    floor + (peak - floor) * _half((step - warmup) / (steps - warmup))))
_schedule("forgets the warm-up", lambda progress, step, steps, warmup, peak, floor: (
    floor + (peak - floor) * _half(step / (steps - 1))))
_schedule("falls to 0", lambda progress, step, steps, warmup, peak, floor: peak * _half(progress))
_schedule("starts at peak + floor", lambda progress, step, steps, warmup, peak, floor: floor + peak * _half(progress))
_schedule("straight line", lambda progress, step, steps, warmup, peak, floor: floor + (peak - floor) * (1 - progress))
_schedule("goes below the floor", lambda progress, step, steps, warmup, peak, floor: (
    floor + (peak - floor) * math.cos(math.pi * progress)))
_schedule("halve 1 + cos", lambda progress, step, steps, warmup, peak, floor: (
    floor + (peak - floor) * 2 * _half(progress)))
_schedule("comes up again", lambda progress, step, steps, warmup, peak, floor: (
    floor + (peak - floor) * _half(2 * progress)))
_schedule("stays at the peak", lambda progress, step, steps, warmup, peak, floor: peak)
_schedule("without the =", _right_fall, until=lambda warmup: warmup + 1 if warmup else 0)
_schedule("quarter of a cosine", lambda progress, step, steps, warmup, peak, floor: (
    floor + (peak - floor) * math.cos(math.pi / 2 * progress)))
_schedule("rises where it should fall", lambda progress, step, steps, warmup, peak, floor: (
    floor + (peak - floor) * (1 - _half(progress))))
_schedule("stops early", lambda progress, step, steps, warmup, peak, floor: max(floor, peak * _half(progress)))


# ------------------------------------------------------------------------------------------------------------- evaluate


@right(check_evaluate)
def the_packages_own(model, ids, n_bytes):
    return evaluate(model, TokenizedText(ids, n_bytes))


@right(check_evaluate)
def window_by_window(model, ids, n_bytes):
    T, total, was_training = model.config.context_length, 0.0, model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(ids) - 1, T):
            window = ids[start:start + T + 1]
            logits = model(window[None, :-1])
            total += F.cross_entropy(logits[0], window[1:], reduction="sum").item()
    model.train(was_training)
    return total / n_bytes


@right(check_evaluate)
def whole_windows_and_a_rest(model, ids, n_bytes):
    training = model.training
    model.eval()
    with torch.inference_mode():
        T = model.config.context_length
        n = (len(ids) - 1) // T * T
        total = -model(ids[:n].view(-1, T)).log_softmax(-1).flatten(0, 1)[torch.arange(n), ids[1:n + 1]].sum()
        if n < len(ids) - 1:
            logs = model(ids[n:-1].view(1, -1)).log_softmax(-1)[0]
            total -= logs[torch.arange(len(logs)), ids[n + 1:]].sum()
    if training:
        model.train()
    return float(total) / n_bytes


def _evaluate(model, ids, step, keep=lambda losses: losses):
    """The losses of windows that start every `step` tokens."""
    T, losses = model.config.context_length, []
    training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(ids) - 1, step):
            window = ids[start:start + T + 1]
            losses.append(F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="none"))
    model.train(training)
    return keep(losses)


@wrong(check_evaluate, "asked in training mode")
def in_training_mode(model, ids, n_bytes):
    with torch.no_grad():
        T = model.config.context_length
        windows = [ids[start:start + T + 1] for start in range(0, len(ids) - 1, T)]
        return sum(float(F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="sum"))
                   for window in windows) / n_bytes


@wrong(check_evaluate, "with gradients on")
def with_gradients(model, ids, n_bytes):
    T, training = model.config.context_length, model.training
    model.eval()
    total = sum(F.cross_entropy(model(ids[None, i:i + T + 1][:, :-1])[0], ids[i + 1:i + T + 1], reduction="sum")
                for i in range(0, len(ids) - 1, T))
    model.train(training)
    return float(total) / n_bytes


@wrong(check_evaluate, "a tensor")
def as_a_tensor(model, ids, n_bytes):
    return torch.tensor(window_by_window(model, ids, n_bytes))


@wrong(check_evaluate, "goes in eval mode")
def leaves_eval_mode(model, ids, n_bytes):
    loss = window_by_window(model, ids, n_bytes)
    model.eval()
    return loss


@wrong(check_evaluate, "goes in training mode")
def leaves_training_mode(model, ids, n_bytes):
    loss = window_by_window(model, ids, n_bytes)
    model.train()
    return loss


@wrong(check_evaluate, "yours is per token")
def per_token(model, ids, n_bytes):
    return float(torch.cat(_evaluate(model, ids, model.config.context_length)).mean())


@wrong(check_evaluate, "never divide")
def summed(model, ids, n_bytes):
    return float(torch.cat(_evaluate(model, ids, model.config.context_length)).sum())


@wrong(check_evaluate, "the last, shorter window is left out")
def whole_windows_only(model, ids, n_bytes):
    T = model.config.context_length
    losses = _evaluate(model, ids, T)
    return float(sum(loss.sum() for loss in losses if len(loss) == T)) / n_bytes


@wrong(check_evaluate, "average the means")
def mean_of_means(model, ids, n_bytes):
    losses = _evaluate(model, ids, model.config.context_length)
    return float(torch.stack([loss.mean() for loss in losses]).mean()) * (len(ids) - 1) / n_bytes


@wrong(check_evaluate, "the last target of every window")
def targets_within_the_window(model, ids, n_bytes):
    T, training = model.config.context_length, model.training
    model.eval()
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, T):
            window = ids[start:start + T]
            if len(window) > 1:
                total += float(F.cross_entropy(model(window[None])[0, :-1], window[1:], reduction="sum"))
    model.train(training)
    return total / n_bytes


@wrong(check_evaluate, "cut the text into windows")
def all_at_once(model, ids, n_bytes):
    return float(F.cross_entropy(model.eval()(ids[None, :-1])[0], ids[1:], reduction="sum")) / n_bytes


@wrong(check_evaluate, "in bits")
def in_bits(model, ids, n_bytes):
    return float(torch.cat(_evaluate(model, ids, model.config.context_length)).sum()) / n_bytes / math.log(2)
