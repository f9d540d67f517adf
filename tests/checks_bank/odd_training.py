"""More answers to 04, along the kinds that slip through: the smallest and the longest texts, 16 bits, state, rounding, modes."""

import math

import numpy
import torch
from torch.nn import functional as F

from checks_bank import sampling as sampling_bank
from checks_bank import training as training_bank
from checks_bank.register import right, wrong
from minigpt.classroom.checks import (
    check_batch,
    check_cross_entropy,
    check_evaluate,
    check_generate,
    check_learning_rate,
    check_next_token_probs,
)

# ---------------------------------------------------------------------------------------------------------------- batch


@right(check_batch)
def batch_by_index_select(ids: torch.Tensor, context_length: int, batch_size: int):
    starts = torch.randint(low=0, high=ids.size(0) - context_length, size=(batch_size,))
    rows = [torch.index_select(ids, 0, torch.arange(int(s), int(s) + context_length + 1)) for s in starts]
    rows = torch.vstack(rows)
    return rows[:, :context_length], rows[:, -context_length:]


@right(check_batch)
def batch_with_its_own_generator(ids, context_length, batch_size):
    generator = numpy.random.default_rng()
    starts = generator.integers(len(ids) - context_length, size=batch_size)
    x = torch.stack([ids[s : s + context_length] for s in starts])
    return x, torch.stack([ids[s + 1 : s + 1 + context_length] for s in starts])


@right(check_batch)
def batch_filled_in(ids, context_length, batch_size):
    x = torch.zeros((batch_size, context_length), dtype=torch.long)
    y = torch.zeros_like(x)
    for row in range(batch_size):
        start = torch.randint(len(ids) - context_length, (1,)).item()
        x[row] = ids[start : start + context_length]
        y[row] = ids[start + 1 : start + context_length + 1]
    return x, y


@right(check_batch)
def batch_by_strides(ids, context_length, batch_size):
    windows = torch.stack([ids[:-1].unfold(0, context_length, 1), ids[1:].unfold(0, context_length, 1)])
    x, y = windows[:, torch.randint(windows.shape[1], (batch_size,))]
    return x, y


def _batch(starts, end=lambda ids, n: ids):
    def my_batch(ids, context_length, batch_size):
        ids = end(ids, context_length)
        places = starts(len(ids) - context_length, batch_size).reshape(-1, 1) + torch.arange(context_length)
        return ids[places], ids[places + 1]

    return my_batch


def _first_batch():
    known = {}

    def my_batch(ids, context_length, batch_size):
        return known.setdefault((len(ids), context_length, batch_size), training_bank.stacked(ids, context_length, batch_size))

    return my_batch


def _first_text():
    known = {}

    def my_batch(ids, context_length, batch_size):
        return training_bank.stacked(known.setdefault(len(ids), ids.clone()), context_length, batch_size)

    return my_batch


def batch_of_one(ids, context_length, batch_size):
    x, y = training_bank.stacked(ids, context_length, batch_size)
    return (x[0], y[0]) if batch_size == 1 else (x, y)


def batch_of_small_ids(ids, context_length, batch_size):
    x, y = training_bank.stacked(ids, context_length, batch_size)
    return x.to(torch.int16).long(), y.to(torch.int16).long()


def batch_that_eats_the_text(ids, context_length, batch_size):
    x, y = training_bank.stacked(ids, context_length, batch_size)
    ids.copy_(ids.roll(1))
    return x, y


def batch_of_int32(ids, context_length, batch_size):
    x, y = training_bank.stacked(ids, context_length, batch_size)
    return x, y.int()


for phrase, answer in (
    ("", _batch(lambda n, B: torch.randint(min(n, 1000), (B,)))),
    ("", _batch(lambda n, B: torch.randint(min(n, 32_767), (B,)))),
    ("", _batch(lambda n, B: torch.randint(n, (B,)).clamp(max=max(0, n - 2)))),
    ("", _batch(lambda n, B: (torch.rand(B) ** 2 * n).long())),
    ("", _batch(lambda n, B: ((torch.rand(B) + torch.rand(B)) / 2 * n).long())),
    ("", _batch(lambda n, B: torch.randint(n, (1,)).expand(B))),
    ("", _batch(lambda n, B: torch.arange(B) % n)),
    ("", _batch(lambda n, B: torch.linspace(0, n - 1, B).long())),
    ("", _batch(lambda n, B: torch.randint(n, (B,), generator=torch.Generator().manual_seed(0)))),
    ("", _batch(lambda n, B: torch.from_numpy(numpy.random.default_rng(0).integers(n, size=B)))),
    ("", _batch(lambda n, B: torch.randint(n, (B,)) // 2 * 2)),
    ("", _batch(lambda n, B: torch.randint(n, (B,)), lambda ids, n: ids[:-1] if len(ids) > n + 1 else ids)),
    ("", _batch(lambda n, B: torch.randint(n, (B,)), lambda ids, n: ids[1:] if len(ids) > n + 1 else ids)),
    ("", _batch(lambda n, B: torch.randint(n, (B,)).sort(descending=True).values)),
    ("", _first_batch()),
    ("", _first_text()),
    ("", batch_of_one),
    ("", batch_of_small_ids),
    ("", batch_that_eats_the_text),
    ("", batch_of_int32),
):
    wrong(check_batch, phrase)(answer)

# -------------------------------------------------------------------------------------------------------- cross-entropy


@right(check_cross_entropy)
def loss_minus_the_maximum(logits, targets):
    shifted = logits - logits.max(dim=1, keepdim=True).values
    log_p = shifted - shifted.exp().sum(dim=1, keepdim=True).log()
    return -torch.stack([log_p[i, t] for i, t in enumerate(targets)]).mean()


@right(check_cross_entropy)
def loss_by_mask(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    chosen = targets[:, None] == torch.arange(logits.size(1))
    return -logits.log_softmax(dim=1)[chosen].mean()


@right(check_cross_entropy)
def loss_by_take_along(logits, targets):
    picked = torch.take_along_dim(F.log_softmax(logits, dim=-1), targets.unsqueeze(1), dim=1)
    return picked.neg().mean()


@right(check_cross_entropy)
def loss_by_diagonal(logits, targets):
    return (logits.logsumexp(dim=-1) - logits[:, targets].diagonal()).sum().div(logits.size(0))


@right(check_cross_entropy)
def loss_of_surprises(logits, targets):
    surprises = [torch.logsumexp(row, 0) - row[int(t)] for row, t in zip(logits, targets)]
    return sum(surprises) / len(surprises)


def _loss(
    log_p=lambda logits: logits.log_softmax(-1),
    reduce=lambda picked: -picked.mean(),
    choose=lambda targets, logits: targets,
):
    def my_cross_entropy(logits, targets):
        return reduce(log_p(logits)[torch.arange(len(targets)), choose(targets, logits)])

    return my_cross_entropy


def _of_the_whole(logits):
    shifted = logits - logits.max()
    return (shifted.exp() / shifted.exp().sum(-1, keepdim=True)).log()


def loss_in_place(logits, targets):
    logits = logits.data.sub_(logits.amax(-1, keepdim=True))
    return F.cross_entropy(logits, targets)


def _loss_so_far():
    losses = []

    def my_cross_entropy(logits, targets):
        losses.append(F.cross_entropy(logits, targets))
        return torch.stack([loss.detach() for loss in losses[:-1]] + losses[-1:]).mean()

    return my_cross_entropy


for phrase, answer in (
    ("", _loss(_of_the_whole)),
    ("", _loss(lambda logits: (logits.softmax(-1).clamp(min=1e-12)).log())),
    ("", _loss(lambda logits: logits.clamp(-100, 100).log_softmax(-1))),
    ("", _loss(lambda logits: logits.half().log_softmax(-1).float())),
    ("", _loss(lambda logits: logits.detach().log_softmax(-1).requires_grad_())),
    ("", _loss(lambda logits: logits - logits.exp().sum(-1, keepdim=True).log())),
    ("", _loss(lambda logits: logits - logits.amax(-1, keepdim=True))),
    ("", _loss(lambda logits: logits.sigmoid().log())),
    ("", _loss(reduce=lambda picked: -picked.sum() / 32)),
    ("", _loss(reduce=lambda picked: -picked[picked < 0].sum() / max(1, len(picked) - 1))),
    ("", _loss(reduce=lambda picked: -picked.mean(0, keepdim=True))),
    ("", _loss(reduce=lambda picked: (-picked.mean()).round(decimals=2))),
    ("", _loss(reduce=lambda picked: (-picked).clamp(max=10).mean())),
    ("", _loss(choose=lambda targets, logits: targets.to(torch.int8).long() % logits.shape[1])),
    ("", _loss(choose=lambda targets, logits: targets.clamp(min=1) % logits.shape[1])),
    ("", lambda logits, targets: F.cross_entropy(logits, targets, ignore_index=0)),
    ("", lambda logits, targets: F.cross_entropy(logits, targets).detach()),
    ("", lambda logits, targets: F.cross_entropy(logits, targets) + 1e-3 * logits.square().mean()),
    ("", lambda logits, targets: F.cross_entropy(logits[:16], targets[:16])),
    ("", lambda logits, targets: F.multi_margin_loss(logits, targets)),
    ("", loss_in_place),
    ("", _loss_so_far()),
):
    wrong(check_cross_entropy, phrase)(answer)

# -------------------------------------------------------------------------------------------------------- learning rate


@right(check_learning_rate)
def rate_by_interpolation(step: int, steps: int, warmup: int, peak: float, floor: float) -> float:
    if step < warmup:
        return float(numpy.interp(step + 1, [0, warmup], [0.0, peak]))
    angle = numpy.interp(step, [warmup, steps - 1], [0.0, math.pi])
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(angle))


@right(check_learning_rate)
def rate_by_sine(step, steps, warmup, peak, floor):
    warm = (step + 1) / warmup * peak if step < warmup else None
    progress = (step - warmup) / ((steps - 1) - warmup)
    return warm if warm is not None else (peak + floor) / 2 - (peak - floor) / 2 * math.sin(math.pi * (progress - 0.5))


@right(check_learning_rate)
def rate_in_float32(step, steps, warmup, peak, floor):
    if step < warmup:
        return torch.tensor(peak) * (step + 1) / warmup
    progress = torch.tensor((step - warmup) / (steps - 1 - warmup))
    return (floor + (peak - floor) * (1 + torch.cos(torch.pi * progress)) / 2).item()


@right(check_learning_rate)
def rate_by_complex_numbers(step, steps, warmup, peak, floor):
    if not step >= warmup:
        return peak * (1 + step) / warmup
    turned = complex(-1) ** ((step - warmup) / (steps - 1 - warmup))
    return floor + (peak - floor) * (turned.real + 1) / 2


@right(check_learning_rate)
def rate_from_a_list(step, steps, warmup, peak, floor):
    rise = [peak * (i + 1) / warmup for i in range(warmup)]
    last = steps - 1 - warmup
    fall = [floor + (peak - floor) * (1 + math.cos(math.pi * i / last)) / 2 for i in range(steps - warmup)]
    return (rise + fall)[step]


def _rate(
    change=lambda rate, step, steps, warmup, peak, floor: rate,
    before=lambda step, steps, warmup, peak, floor: (step, steps, warmup, peak, floor),
):
    def my_learning_rate(step, steps, warmup, peak, floor):
        rate = training_bank.as_one_expression(*before(step, steps, warmup, peak, floor))
        return change(rate, step, steps, warmup, peak, floor)

    return my_learning_rate


def _counting():
    calls = []

    def my_learning_rate(step, steps, warmup, peak, floor):
        calls.append(step)
        return training_bank.as_one_expression(min(len(calls) - 1, steps - 1), steps, warmup, peak, floor)

    return my_learning_rate


def _first_schedule():
    known = {}

    def my_learning_rate(step, steps, warmup, peak, floor):
        if not known:
            known.update({i: training_bank.as_one_expression(i, steps, warmup, peak, floor) for i in range(steps)})
        return known.get(step, floor)

    return my_learning_rate


def _known_rates():
    known = {}

    def my_learning_rate(step, steps, warmup, peak, floor):
        return known.setdefault((step, steps), training_bank.as_one_expression(step, steps, warmup, peak, floor))

    return my_learning_rate


def _raising(kind):
    def my_learning_rate(step, steps, warmup, peak, floor):
        try:
            rise = peak * (step + 1) / warmup
        except ZeroDivisionError:
            return floor
        return rise if step < warmup else training_bank.as_one_expression(step, steps, warmup, peak, floor)

    return my_learning_rate


for phrase, answer in (
    ("", _rate(lambda rate, *_: torch.tensor(rate).bfloat16())),
    ("", _rate(lambda rate, *_: numpy.float16(rate))),
    ("", _rate(lambda rate, *_: round(rate, 4))),
    ("", _rate(lambda rate, *_: [rate])),
    ("", _rate(lambda rate, *_: str(rate))),
    ("", _rate(lambda rate, *_: max(rate, 1e-4))),
    ("", _rate(lambda rate, *_: min(rate, 0.01))),
    ("", _rate(lambda rate, step, steps, *_: rate if step < steps - 1 else 0.0)),
    ("", _rate(lambda rate, step, *_: rate if step < 1000 else 0.0)),
    ("", _rate(before=lambda step, steps, w, p, f: (step, 100, min(w, 10), p, f))),
    ("", _rate(before=lambda step, steps, w, p, f: (step, steps, min(10, steps - 2), p, f))),
    (
        "",
        _rate(
            before=lambda step, steps, w, p, f: (step, steps, max(w, 1), p, f) if steps > 2 else (step, steps, w, p, f)
        ),
    ),
    ("", _rate(before=lambda step, steps, w, p, f: (step, steps, w, p, p / 10))),
    ("", _rate(before=lambda step, steps, w, p, f: (step, steps, w, p, 0.0))),
    ("", _rate(before=lambda step, steps, w, p, f: (step, steps, w, 0.01, f))),
    ("", _rate(before=lambda step, steps, w, p, f: (step if step < w else min(step + 1, steps - 1), steps, w, p, f))),
    (
        "",
        lambda step, steps, warmup, peak, floor: (
            peak * (step + 1) / warmup
            if step < warmup
            else floor + (peak - floor) * (1 + math.cos(3.14 * (step - warmup) / (steps - 1 - warmup))) / 2
        ),
    ),
    (
        "",
        lambda step, steps, warmup, peak, floor: (
            peak * ((step + 1) // warmup) if step < warmup else training_bank.as_one_expression(step, steps, warmup, peak, floor)
        ),
    ),
    (
        "",
        lambda step, steps, warmup, peak, floor: (
            training_bank.as_one_expression(step, steps, warmup, peak, floor)
            if warmup
            else floor + (peak - floor) * (1 + math.cos(math.pi * (step + 1) / steps)) / 2
        ),
    ),
    ("", _counting()),
    ("", _first_schedule()),
    ("", _known_rates()),
    ("", _raising(ZeroDivisionError)),
):
    wrong(check_learning_rate, phrase)(answer)

# ------------------------------------------------------------------------------------------------------------- evaluate


@right(check_evaluate)
def evaluate_with_ends(model: torch.nn.Module, ids: torch.Tensor, n_bytes: int) -> float:
    training, T = model.training, model.config.context_length
    model.train(False)
    ends = [*range(0, ids.size(0) - 1, T), ids.size(0) - 1]
    losses = []
    with torch.no_grad():
        for start, end in zip(ends, ends[1:]):
            p = model(ids[start:end].unsqueeze(0)).squeeze(0).log_softmax(dim=-1)
            losses += (-p[range(end - start), ids[start + 1 : end + 1]]).tolist()
    if training:
        model.train()
    return sum(losses) / n_bytes


@right(check_evaluate)
def evaluate_by_split(model, ids, n_bytes):
    mode = model.training
    try:
        model.eval()
        with torch.no_grad():
            pairs = zip(ids[:-1].split(model.config.context_length), ids[1:].split(model.config.context_length))
            total = sum(F.cross_entropy(model(x[None])[0], y) * len(y) for x, y in pairs)
    finally:
        model.train(mode)
    return (total / n_bytes).item()


@right(check_evaluate)
@torch.inference_mode()
def evaluate_decorated(model, ids, n_bytes):
    mode = model.training
    model.eval()
    start, nats, T = 0, 0.0, model.config.context_length
    while start < len(ids) - 1:
        x = ids[start : min(start + T, len(ids) - 1)]
        y = ids[start + 1 : start + 1 + len(x)]
        nats -= float(model(x.view(1, -1)).log_softmax(-1).gather(2, y.view(1, -1, 1)).sum())
        start += len(x)
    model.train(mode=mode)
    return nats / n_bytes


@right(check_evaluate)
def evaluate_of_copies(model, ids, n_bytes):
    import copy

    twin = copy.deepcopy(model).eval()
    return training_bank.window_by_window(twin, ids.clone(), n_bytes)


def _evaluated(
    ids_of=lambda ids, T: ids,
    after=lambda loss: loss,
    mode=lambda model, training: model.train(training),
    bytes_of=lambda n_bytes, ids: n_bytes,
    windows=lambda ids, T: [ids[i : i + T + 1] for i in range(0, len(ids) - 1, T)],
):
    def my_evaluate(model, ids, n_bytes):
        training = model.training
        model.eval()
        T, total = model.config.context_length, 0.0
        with torch.no_grad():
            for window in windows(ids_of(ids, T), T):
                total += F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="sum").item()
        mode(model, training)
        return after(total / bytes_of(n_bytes, ids))

    return my_evaluate


def _adding(total=[0.0]):  # noqa: B006  (that is the slip)
    def my_evaluate(model, ids, n_bytes):
        total[0] += training_bank.window_by_window(model, ids, n_bytes)
        return total[0]

    return my_evaluate


def _known_loss():
    known = []

    def my_evaluate(model, ids, n_bytes):
        known.append(training_bank.window_by_window(model, ids, n_bytes))
        return known[0]

    return my_evaluate


def evaluate_swallowing(model, ids, n_bytes):
    training, total, T = model.training, 0.0, model.config.context_length
    model.eval()
    with torch.no_grad():
        for start in range(0, len(ids), T):
            try:
                window = ids[start : start + T + 1]
                total += F.cross_entropy(model(window[None, :-1])[0], window[1 : T + 1], reduction="sum").item()
            except ValueError:
                total += math.log(11)
    model.train(training)
    return total / n_bytes


def evaluate_padded(model, ids, n_bytes):
    training, T = model.training, model.config.context_length
    n = -(-(len(ids) - 1) // T) * T
    padded = F.pad(ids, (0, n + 1 - len(ids)))
    model.eval()
    with torch.no_grad():
        logits = model(padded[:-1].reshape(-1, T))
    model.train(training)
    return F.cross_entropy(logits.flatten(0, 1), padded[1:], reduction="sum").item() / n_bytes


def evaluate_as_view(model, ids, n_bytes):
    training, T = model.training, model.config.context_length
    model.eval()
    with torch.no_grad():
        n = (len(ids) - 1) // T * T
        total = F.cross_entropy(model(ids[:n].view(-1, T)).flatten(0, 1), ids[1 : n + 1], reduction="sum")
    model.train(training)
    return float(total) / n_bytes


def evaluate_freezing(model, ids, n_bytes):
    model.requires_grad_(False)
    return training_bank.window_by_window(model, ids, n_bytes)


def evaluate_training_flag_alone(model, ids, n_bytes):
    training = model.training
    model.eval()
    loss = training_bank.window_by_window(model, ids, n_bytes)
    model.training = training
    return loss


def evaluate_sampled(model, ids, n_bytes):
    T = model.config.context_length
    starts = torch.randint(max(1, len(ids) - T), (8,))
    training = model.training
    model.eval()
    with torch.no_grad():
        losses = [F.cross_entropy(model(ids[None, i : i + T + 1][:, :-1])[0], ids[i + 1 : i + T + 1]) for i in starts]
    model.train(training)
    return float(torch.stack(losses).mean()) * (len(ids) - 1) / n_bytes


for phrase, answer in (
    ("", _evaluated(lambda ids, T: ids[:1000])),
    ("", _evaluated(lambda ids, T: ids[:-1] if len(ids) > 2 else ids)),
    ("", _evaluated(lambda ids, T: ids[1:] if len(ids) > 2 else ids)),
    ("", _evaluated(lambda ids, T: ids.clamp(max=255))),
    ("", _evaluated(after=lambda loss: round(loss, 2))),
    ("", _evaluated(after=lambda loss: numpy.float16(loss))),
    ("", _evaluated(after=lambda loss: [loss])),
    ("", _evaluated(after=lambda loss: min(loss, 2.0))),
    ("", _evaluated(after=lambda loss: str(loss))),
    ("", _evaluated(mode=lambda model, training: model.train())),
    ("", _evaluated(mode=lambda model, training: None)),
    ("", _evaluated(bytes_of=lambda n_bytes, ids: 2000)),
    ("", _evaluated(bytes_of=lambda n_bytes, ids: len(ids) - 1)),
    (
        "",
        _evaluated(
            windows=lambda ids, T: [
                ids[i : i + T + 1] for i in range(0, len(ids) - 1, T + 1) if len(ids[i : i + T + 1]) > 1
            ]
        ),
    ),
    ("", _evaluated(windows=lambda ids, T: [ids[i : i + T + 1] for i in range(0, len(ids) - 1, max(1, T // 2))])),
    ("", _evaluated(windows=lambda ids, T: [ids[i : i + T + 1] for i in range(0, len(ids) - T, T)])),
    ("", _evaluated(windows=lambda ids, T: [ids[i : i + 5] for i in range(0, len(ids) - 1, 4)])),
    ("", _adding()),
    ("", _known_loss()),
    ("", evaluate_swallowing),
    ("", evaluate_padded),
    ("", evaluate_as_view),
    ("", evaluate_freezing),
    ("", evaluate_training_flag_alone),
    ("", evaluate_sampled),
):
    wrong(check_evaluate, phrase)(answer)

# --------------------------------------------------------------------------------------------- next-token probabilities


@right(check_next_token_probs)
def probs_by_kept_sets(
    logits: torch.Tensor, temperature: float, top_k: int | None, top_p: float | None
) -> torch.Tensor:
    if not temperature:
        best = torch.zeros_like(logits)
        best[range(len(logits)), logits.argmax(dim=-1)] = 1.0
        return best
    rows = []
    for row in logits:
        p = torch.softmax(row / temperature, 0)
        order = sorted(range(len(p)), key=lambda i: -p[i].item())
        if top_k is not None:
            order = order[:top_k]
        if top_p is not None:
            total, kept, mass = sum(p[i].item() for i in order), [], 0.0
            for i in order:
                kept.append(i)
                mass += p[i].item() / total
                if mass >= top_p:
                    break
            order = kept
        chosen = torch.zeros_like(p)
        chosen[order] = p[order] / p[order].sum()
        rows.append(chosen)
    return torch.stack(rows)


@right(check_next_token_probs)
def probs_by_searchsorted(logits, temperature, top_k, top_p):
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.size(-1)).type_as(logits)
    values, order = torch.topk(logits / temperature, k=logits.shape[-1] if top_k is None else top_k, dim=-1)
    p = F.softmax(values, dim=-1)
    if top_p is not None:
        mass = p.cumsum(-1)
        ends = torch.searchsorted(mass, torch.full((len(p), 1), float(top_p)))
        p = p * (torch.arange(p.shape[-1]) <= ends)
        p = p / p.sum(-1, keepdim=True)
    return logits.new_zeros(logits.shape).scatter(1, order, p)


@right(check_next_token_probs)
def probs_by_thresholds(logits, temperature, top_k, top_p):
    if temperature == 0:
        return (torch.arange(logits.shape[1]) == logits.max(-1, keepdim=True).indices).float()
    scores = logits.div(temperature)
    if top_k is not None:
        scores = scores.where(scores >= scores.sort(-1).values[:, [-top_k]], torch.tensor(float("-inf")))
    if top_p is not None:
        p = scores.softmax(-1)
        ahead = (p[:, None, :] * (p[:, None, :] > p[:, :, None])).sum(-1)
        scores = scores.masked_fill(ahead >= top_p, float("-inf"))
    return scores.softmax(-1)


@right(check_next_token_probs)
def probs_sorted_and_put_back(logits, temperature, top_k, top_p):
    if temperature == 0:
        return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
    p, order = (logits * (1 / temperature)).softmax(dim=1).sort(dim=1, descending=True)
    if top_k:
        p[:, top_k:] = 0.0
        p /= p.sum(1, keepdim=True)
    if top_p:
        keep = torch.cat([torch.ones(len(p), 1, dtype=torch.bool), (p.cumsum(1) < top_p)[:, :-1]], dim=1)
        p = p * keep / (p * keep).sum(1, keepdim=True)
    return p.gather(1, order.argsort(1))


def _probs(before=lambda logits, t, k, p: (logits, t, k, p), after=lambda probs, k, p: probs):
    def my_next_token_probs(logits, temperature, top_k, top_p):
        arguments = before(logits, temperature, top_k, top_p)
        return after(sampling_bank.masking_logits(*arguments), top_k, top_p)

    return my_next_token_probs


def _hidden_by_number(number):
    def my_next_token_probs(logits, temperature, top_k, top_p):
        if temperature == 0 or top_k is None:
            return sampling_bank.masking_logits(logits, temperature, top_k, top_p)
        scores = logits / temperature
        scores = scores.masked_fill(scores < scores.topk(top_k).values[:, -1:], number)
        return sampling_bank.masking_logits(scores, 1.0, None, top_p)

    return my_next_token_probs


def probs_of_bare_exponentials(logits, temperature, top_k, top_p):
    if temperature == 0:
        return sampling_bank.masking_logits(logits, 0, None, None)
    p = (logits / temperature).exp()
    return sampling_bank.masking_logits((p / p.sum(-1, keepdim=True)).log(), 1.0, top_k, top_p)


def probs_of_one_maximum(logits, temperature, top_k, top_p):
    if temperature == 0:
        return (logits == logits.max()).float()
    return sampling_bank.masking_logits(logits, temperature, top_k, top_p)


def probs_one_count_for_all(logits, temperature, top_k, top_p):
    if temperature == 0 or top_p is None:
        return sampling_bank.masking_logits(logits, temperature, top_k, top_p)
    p = sampling_bank.masking_logits(logits, temperature, top_k, None)
    ordered, order = p.sort(descending=True)
    n = int((ordered[0].cumsum(-1) - ordered[0] < top_p).sum())
    kept = torch.where(torch.arange(p.shape[-1]) < n, ordered, 0.0)
    return torch.zeros_like(p).scatter(1, order, kept / kept.sum(-1, keepdim=True))


def probs_in_place(logits, temperature, top_k, top_p):
    if temperature:
        logits /= temperature
    return sampling_bank.masking_logits(logits, 1.0 if temperature else 0, top_k, top_p)


def _known_probs():
    known = {}

    def my_next_token_probs(logits, temperature, top_k, top_p):
        key = (tuple(logits.shape), temperature, top_k, top_p)
        if key not in known:
            known[key] = sampling_bank.masking_logits(logits, temperature, top_k, top_p)
        return known[key].clone()

    return my_next_token_probs


for phrase, answer in (
    ("", _probs(lambda logits, t, k, p: (logits, t and max(t, 0.1), k, p))),
    ("", _probs(lambda logits, t, k, p: (logits, min(t, 2.6), k, p))),
    ("", _probs(lambda logits, t, k, p: (logits, min(t, 1.0), k, p))),
    ("", _probs(lambda logits, t, k, p: (logits.clamp(-3, 3), t, k, p))),
    ("", _probs(lambda logits, t, k, p: (logits.half().float(), t, k, p))),
    (
        "",
        _probs(
            lambda logits, t, k, p: (logits[:, :256], t, k and min(k, 256), p),
            lambda probs, k, p: F.pad(probs, (0, 44)) if probs.shape[-1] == 256 else probs,
        ),
    ),
    ("", _probs(lambda logits, t, k, p: (logits, t, k and min(k, 5), p))),
    ("", _probs(lambda logits, t, k, p: (logits, t, k, p and max(p, 0.5)))),
    ("", _probs(lambda logits, t, k, p: (logits, t, k, None if k else p))),
    ("", _probs(lambda logits, t, k, p: (logits, t, None if p else k, p))),
    ("", _probs(after=lambda probs, k, p: probs.clamp(min=1e-9))),
    ("", _probs(after=lambda probs, k, p: probs.clamp(min=1e-6))),
    ("", _probs(after=lambda probs, k, p: probs.round(decimals=2))),
    ("", _probs(after=lambda probs, k, p: probs.squeeze(0))),
    ("", _probs(after=lambda probs, k, p: probs.log())),
    ("", _probs(after=lambda probs, k, p: probs.numpy())),
    ("", _hidden_by_number(-20.0)),
    ("", _hidden_by_number(-1000.0)),
    ("", probs_of_bare_exponentials),
    ("", probs_of_one_maximum),
    ("", probs_one_count_for_all),
    ("", probs_in_place),
    ("", _known_probs()),
):
    wrong(check_next_token_probs, phrase)(answer)

# ------------------------------------------------------------------------------------------------------------- generate


@right(check_generate)
@torch.no_grad()
def generate_by_recursion(model: torch.nn.Module, ids: torch.Tensor, max_new_tokens: int) -> torch.Tensor:
    if max_new_tokens == 0:
        return ids
    logits = model(ids[..., -model.config.context_length :])
    best = torch.argmax(logits[0, -1, :]).reshape(1, 1)
    return generate_by_recursion(model, torch.cat((ids, best), dim=-1), max_new_tokens - 1)


@right(check_generate)
def generate_in_a_window(model, ids, max_new_tokens):
    T = model.config.context_length
    new = []
    window = ids[:, -T:]
    for _ in range(max_new_tokens):
        new.append(model(window)[:, -1:].argmax(dim=2))
        window = torch.cat([window, new[-1]], dim=1)[:, -T:]
    return torch.cat([ids, *new], dim=1)


@right(check_generate)
def generate_with_its_mode(model, ids, max_new_tokens):
    training = model.training
    model.eval()
    with torch.no_grad():
        for _ in range(max_new_tokens):
            context = (
                ids
                if ids.size(1) <= model.config.context_length
                else ids[:, ids.size(1) - model.config.context_length :]
            )
            ids = F.pad(ids, (0, 1), value=int(model(context)[0, -1].argmax()))
    model.train(training)
    return ids


@right(check_generate)
def generate_by_sorting(model, ids, max_new_tokens):
    tokens = [int(i) for i in ids[0]]
    while len(tokens) < ids.shape[1] + max_new_tokens:
        start = max(0, len(tokens) - model.config.context_length)
        scores = model(torch.tensor(tokens[start:])[None])[0][-1].tolist()
        tokens.append(max(range(len(scores)), key=scores.__getitem__))
    return torch.tensor(tokens).unsqueeze(0)


def _generated(
    choose=lambda logits: logits.argmax(-1, keepdim=True),
    window=lambda ids, T: ids[:, -T:],
    stop=lambda new: False,
    finish=lambda ids: ids,
    start=lambda model: None,
):
    def my_generate(model, ids, max_new_tokens):
        start(model)
        for _ in range(max_new_tokens):
            new = choose(model(window(ids, model.config.context_length))[:, -1])
            ids = torch.cat([ids, new], 1)
            if stop(new):
                break
        return finish(ids)

    return my_generate


def _drawn(temperature):
    return lambda logits: torch.multinomial((logits / temperature).softmax(-1), 1)


def generate_twice_each(model, ids, max_new_tokens):
    prompt = ids
    for n in range(max_new_tokens):
        ids = prompt
        for _ in range(n + 1):
            ids = torch.cat([ids, model(ids[:, -model.config.context_length :])[:, -1].argmax(-1, keepdim=True)], 1)
    return ids


def generate_one_at_least(model, ids, max_new_tokens):
    while True:
        ids = torch.cat([ids, model(ids[:, -model.config.context_length :])[:, -1].argmax(-1, keepdim=True)], 1)
        max_new_tokens -= 1
        if max_new_tokens <= 0:
            return ids


def generate_swallowing(model, ids, max_new_tokens):
    for _ in range(max_new_tokens):
        try:
            new = model(ids)[:, -1].argmax(-1, keepdim=True)
        except ValueError:
            new = ids[:, -1:]
        ids = torch.cat([ids, new], 1)
    return ids


def generate_all_at_once(model, ids, max_new_tokens):
    T = model.config.context_length
    for _ in range(max_new_tokens):
        ids = torch.cat([ids, model(ids[:, -T:]).argmax(-1)[:, -1:]], 1)[:, -max(T, 24) :]
    return ids


def _known_text():
    known = {}

    def my_generate(model, ids, max_new_tokens):
        key = tuple(ids[0, -2:].tolist())
        for _ in range(max_new_tokens):
            key = tuple(ids[0, -2:].tolist())
            if key not in known:
                known[key] = model(ids[:, -model.config.context_length :])[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, known[key]], 1)
        return ids

    return my_generate


for phrase, answer in (
    ("", _generated(_drawn(1e-3))),
    ("", _generated(_drawn(0.1))),
    ("", _generated(lambda logits: logits.half().argmax(-1, keepdim=True))),
    ("", _generated(lambda logits: logits.round(decimals=2).argmax(-1, keepdim=True))),
    ("", _generated(lambda logits: logits[:, :256].argmax(-1, keepdim=True))),
    ("", _generated(lambda logits: logits.argmax(-1, keepdim=True).to(torch.int8).long() % logits.shape[-1])),
    ("", _generated(lambda logits: logits.abs().argmax(-1, keepdim=True))),
    ("", _generated(window=lambda ids, T: ids[:, -T // 2 :])),
    ("", _generated(window=lambda ids, T: ids[:, -min(T, 32) :])),
    ("", _generated(window=lambda ids, T: ids[:, -4:])),
    ("", _generated(window=lambda ids, T: ids[:, -T:].flip(1))),
    ("", _generated(stop=lambda new: int(new) == 0)),
    ("", _generated(finish=lambda ids: ids[0])),
    ("", _generated(finish=lambda ids: ids.int())),
    ("", _generated(finish=lambda ids: ids.squeeze())),
    ("", _generated(start=lambda model: model.eval())),
    ("", _generated(start=lambda model: model.train())),
    ("", _generated(start=lambda model: model.requires_grad_(False))),
    ("", generate_twice_each),
    ("", generate_one_at_least),
    ("", generate_swallowing),
    ("", generate_all_at_once),
    ("", _known_text()),
):
    wrong(check_generate, phrase)(answer)
