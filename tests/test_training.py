"""Training: against arithmetic by hand, naive loops in float64 and torch's own optimizer; and what the reference gets wrong.

Time is a clock that the tests move by hand, so that budgets in seconds are exact.
"""

import math
import signal
import statistics
import threading
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from minigpt import muon, training
from minigpt.attention import MultiHeadAttention
from minigpt.model import GPTConfig, GPTModel
from minigpt.training import (
    CHECK_EVERY,
    Recipe,
    TokenizedText,
    TrainingDiverged,
    TrainingState,
    epoch_batch,
    evaluate,
    learning_rate,
    random_batch,
    training_loop,
)

T, V = 8, 20
ADAM = Recipe(batches="random", optimizer="adam", batch_size=4, learning_rate=1e-2, warmup=3, decay="cosine", floor=0.1)
MUON = replace(ADAM, batches="epochs", optimizer="muon")
SIXTEEN_BITS = replace(MUON, bfloat16=True)


def a_model(dropout=0.0, seed=0, **size):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPTModel(GPTConfig(**{"vocab_size": V, "context_length": T, "d_model": 16, "n_heads": 2, "n_layers": 1,
                                     "d_ff": 32, "dropout": dropout} | size))


def a_text(n=203, seed=0, bytes_per_token=1):
    ids = np.random.default_rng(seed).integers(0, V, n).astype(np.uint16)
    ids[1::2] = ids[:-1:2]                                              # something to learn: every token comes twice
    return TokenizedText(ids, (n - 1) * bytes_per_token)


def run(model, recipe=ADAM, steps=6, text=None, validation=None, seed=0, **arguments):
    state = TrainingState(model, recipe, seed)
    return list(training_loop(state, text or a_text(), validation, steps=steps, **arguments)), state


def processor_has(monkeypatch, bfloat16):
    """torch computes in bfloat16 on every processor; on one without the instructions it is merely slow."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bfloat16})


def copies(tensors):
    return {name: tensor.clone() for name, tensor in tensors.items()}


def weights_of(model):
    return copies(model.state_dict())


def same(tensors, others):
    return tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)


# Batches ------------------------------------------------------------------------------------------------------------

def as_memmap(ids, folder):
    path = folder / "ids"
    path.write_bytes(ids.astype(np.uint16).tobytes())
    return np.memmap(path, np.uint16, mode="r")


KINDS = {"array": lambda ids, folder: ids, "memmap": as_memmap, "tensor": lambda ids, folder: torch.from_numpy(ids)}


@pytest.mark.parametrize("kind", KINDS)
def test_y_is_x_one_token_later_in_the_text(kind, tmp_path):
    ids = KINDS[kind](np.arange(100), tmp_path)
    x, y = random_batch(ids, 7, 50)
    assert x.shape == y.shape == (50, 7) and x.dtype == y.dtype == torch.int64
    assert torch.equal(x, x[:, :1] + torch.arange(7)) and torch.equal(y, x + 1)


def test_every_possible_start_is_equally_likely():
    n_starts, draws = 13, 13_000
    x, _ = random_batch(np.arange(n_starts + 5), 5, draws, torch.Generator().manual_seed(1))
    counts = torch.bincount(x[:, 0], minlength=n_starts)
    assert len(counts) == n_starts
    chi_square = float(((counts - draws / n_starts) ** 2 / (draws / n_starts)).sum())
    assert chi_square < 32.9                                            # 12 degrees of freedom: 1 in 1,000 is above


def test_mistake_of_the_reference_the_last_window_was_never_picked():
    x, y = random_batch(np.arange(6), 3, 200, torch.Generator().manual_seed(1))
    assert {tuple(row) for row in x.tolist()} == {(0, 1, 2), (1, 2, 3), (2, 3, 4)}
    assert y.max() == 5


def test_a_text_of_one_window_gives_that_window():
    x, y = random_batch(np.arange(5), 4, 3)
    assert x.tolist() == [[0, 1, 2, 3]] * 3 and y.tolist() == [[1, 2, 3, 4]] * 3


@pytest.mark.parametrize("n", [0, 1, T])
def test_mistake_of_the_reference_a_short_text_failed_obscurely(n):
    message = rf"ids must hold at least context_length \+ 1 = 9 tokens, not {n}: take a longer text"
    with pytest.raises(ValueError, match=message):
        random_batch(np.zeros(n, np.uint16), T, 4)
    with pytest.raises(ValueError, match=message):                      # before the first step, at the call
        training_loop(TrainingState(a_model(), ADAM), TokenizedText(np.zeros(n, np.uint16), max(1, n)), steps=1)


class CountedIds(np.ndarray):
    """An array that counts how often it is indexed."""

    lookups = 0

    def __getitem__(self, index):
        CountedIds.lookups += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("take", [random_batch, lambda *arguments: epoch_batch(*arguments, 0)], ids=["random", "epochs"])
def test_mistake_of_the_reference_a_python_loop_over_the_sequences_of_a_batch(take, monkeypatch):
    def work(batch_size):
        calls = []
        for name in ("randint", "arange", "as_tensor", "tensor", "stack", "from_numpy"):
            monkeypatch.setattr(torch, name, counted(getattr(torch, name), calls))
        CountedIds.lookups = 0
        take(np.arange(1000).view(CountedIds), T, batch_size)
        monkeypatch.undo()
        return CountedIds.lookups, len(calls)

    def counted(function, calls):
        return lambda *arguments, **keywords: (calls.append(1), function(*arguments, **keywords))[1]

    work(64)                                                            # an epoch's order is drawn once
    assert work(1) == work(64)
    assert work(64)[0] == 1


@pytest.mark.parametrize("n, size", [(100, 4), (100, 16), (12, 4), (T + 1, 3), (2 * T, 5), (3 * T + 1, 5), (1000, 1)])
def test_an_epoch_has_every_window_once_in_random_order(n, size):
    n_windows = max(1, (n - 1 - T) // T)
    batches = [epoch_batch(np.arange(n), T, size, step, seed=4) for step in range(3 * n_windows)]
    x, y = (torch.cat(side) for side in zip(*batches, strict=True))
    assert x.shape == (3 * n_windows * size, T) and torch.equal(y, x + 1) and torch.equal(x, x[:, :1] + torch.arange(T))
    orders = x[:3 * size * n_windows, 0].view(-1, n_windows)             # one epoch a row
    for starts in orders:
        sorted_starts = starts.sort().values
        assert (sorted_starts.diff() == T).all()                         # end to end, each once
        assert sorted_starts[0] >= 0 and sorted_starts[-1] + T < n
    if n_windows > 5:
        assert len({tuple(starts.tolist()) for starts in orders}) == len(orders)


def test_over_the_epochs_every_token_is_read_and_predicted_the_last_one_too():
    n = 5 * T + 3
    batches = [epoch_batch(np.arange(n), T, 4, step) for step in range(100)]
    assert {i for x, _ in batches for i in x.flatten().tolist()} == set(range(n - 1))
    assert {i for _, y in batches for i in y.flatten().tolist()} == set(range(1, n))


def test_the_batch_of_a_step_depends_on_the_step_and_the_seed_alone():
    ids = np.arange(400)
    expected = epoch_batch(ids, T, 8, 11, seed=2)[0]
    epoch_batch(ids, T, 8, 70, seed=3)
    assert torch.equal(epoch_batch(ids, T, 8, 11, seed=2)[0], expected)
    assert not torch.equal(epoch_batch(ids, T, 8, 11, seed=3)[0], expected)
    assert not torch.equal(epoch_batch(ids, T, 8, 12, seed=2)[0], expected)


def test_the_smallest_and_the_largest_seed_are_taken():
    for seed in 0, 2 ** 32 - 1:
        assert epoch_batch(np.arange(100), T, 4, 0, seed)[0].shape == (4, T)
        assert len(run(a_model(), MUON, steps=1, seed=seed)[0]) == 1


# The learning rate --------------------------------------------------------------------------------------------------

def test_the_learning_rate_is_what_a_hand_computes():
    rates = [learning_rate(step, steps=9, warmup=4, peak=1.0, floor=0.2) for step in range(9)]
    half_cosine = [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0] + [0.2 + 0.8 * share for share in half_cosine], abs=1e-12)


def test_a_line_by_hand_for_nine_steps():
    rates = [learning_rate(step, steps=9, warmup=4, peak=1.0, floor=0.2, decay="linear") for step in range(9)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2], abs=1e-12)


def test_a_recipes_decay_is_the_runs():
    for decay, step, share in (("linear", 3, 0.5), ("cosine", 2, 0.75)):
        reports, _ = run(a_model(), replace(ADAM, warmup=0, decay=decay, floor=0.0, learning_rate=1.0), steps=7)
        rates = [report.learning_rate for report in reports]
        assert rates[0] == 1 and rates[step] == pytest.approx(share)


@pytest.mark.parametrize("steps, warmup", [(2, 0), (10, 0), (10, 1), (10, 3), (100, 20), (5, 3)])
def test_the_peak_is_first_reached_at_the_end_of_the_warm_up_and_the_floor_on_the_last_step(steps, warmup):
    rates = [learning_rate(step, steps, warmup, 3e-3, 1e-4) for step in range(steps)]
    assert max(rates) == pytest.approx(3e-3) and rates.index(max(rates)) in (max(0, warmup - 1), warmup)
    assert rates[max(0, warmup - 1)] == pytest.approx(3e-3)
    assert rates[-1] == pytest.approx(1e-4, rel=1e-12)
    assert min(rates[:-1]) > 1e-4
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_where_the_warm_up_leaves_one_step_it_has_the_peak():
    assert learning_rate(3, steps=4, warmup=3, peak=2.0, floor=0.1) == 2.0
    assert learning_rate(0, steps=1, warmup=0, peak=2.0, floor=0.1) == 2.0


def test_mistake_of_the_reference_a_bare_except_hid_that_the_schedule_never_ran():
    reports, _ = run(a_model(), steps=10)
    warmup = 2                                                          # at most a fifth of the steps
    assert [report.learning_rate for report in reports] == pytest.approx(
        [learning_rate(step, 10, warmup, 1e-2, 1e-3) for step in range(10)])
    with pytest.raises(ZeroDivisionError):                              # whatever goes wrong in there comes out
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "learning_rate", lambda *arguments: 1 / 0)
            run(a_model())


@pytest.mark.parametrize("recipe", [ADAM, MUON], ids=["adam", "muon"])
def test_each_optimizer_gets_its_own_peak_at_the_same_share(recipe):
    state = TrainingState(a_model(), replace(recipe, muon_learning_rate=0.5))
    reports = training_loop(state, a_text(), steps=10)
    for report in reports:
        share = report.learning_rate / recipe.learning_rate
        rates = [group["lr"] for optimizer in state.optimizers for group in optimizer.param_groups]
        assert rates == pytest.approx([share * recipe.learning_rate, share * 0.5, share * 0.5][:len(rates)])


# Evaluation ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [2, T, T + 1, T + 2, 3 * T + 1, 130, 5 * T * 3 + 4])
def test_evaluation_equals_a_loop_over_windows_in_float64(n):
    model, text = a_model().double(), a_text(n, bytes_per_token=3)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(5)                                                   # a model with opinions
    ids, total = torch.from_numpy(text.ids.astype(np.int64)), 0.0
    for start in range(0, n - 1, T):
        window = ids[start:start + T + 1]
        log_probs = model(window[None, :-1])[0].log_softmax(-1)
        total -= sum(log_probs[i, window[i + 1]].item() for i in range(len(window) - 1))
    for batch_size in (1, 3, 64):
        assert evaluate(model, text, batch_size) == pytest.approx(total / text.n_bytes, rel=1e-10)


def test_a_uniform_model_over_bytes_has_a_loss_of_ln_256():
    model = a_model(vocab_size=256)
    torch.nn.init.zeros_(model.head.weight)
    text = TokenizedText(np.random.default_rng(0).integers(0, 256, 101).astype(np.uint16), 100)
    assert evaluate(model, text) == pytest.approx(math.log(256), rel=1e-6)


def test_nats_per_byte_do_not_depend_on_how_long_the_tokens_are():
    """Two tokenizers, one that pairs the bytes of the other: uniform models have the same loss on the same text."""
    single, pairs = a_model(vocab_size=16), a_model(vocab_size=256)
    for model in (single, pairs):
        torch.nn.init.zeros_(model.head.weight)
    assert evaluate(single, TokenizedText(np.zeros(81, np.uint16), 80)) == pytest.approx(
        evaluate(pairs, TokenizedText(np.zeros(41, np.uint16), 80)), rel=1e-6)


@pytest.mark.parametrize("was_training", [True, False])
def test_mistake_of_the_reference_validation_in_train_mode(was_training):
    model, text = a_model(dropout=0.5), a_text()
    model.train(was_training)
    assert evaluate(model, text) == evaluate(model, text)               # dropout would make them differ
    assert model.training == was_training and model.blocks[0].training == was_training
    modes = []
    model.norm.register_forward_hook(lambda module, inputs, output: modes.append(module.training))
    evaluate(model, text)
    assert modes and not any(modes)


def test_the_mode_is_put_back_when_evaluation_fails():
    model = a_model().train()
    with pytest.raises(ValueError, match="vocab_size"):
        evaluate(model, TokenizedText(np.full(20, V, np.uint16), 19))
    assert model.training


def test_mistake_of_the_reference_validation_with_gradients():
    model, with_gradients = a_model(), []
    model.norm.register_forward_hook(lambda module, inputs, output: with_gradients.append(output.requires_grad))
    evaluate(model, a_text())
    assert with_gradients and not any(with_gradients)
    assert all(p.grad is None for p in model.parameters())


def test_mistake_of_the_reference_validation_on_one_random_batch():
    validation, model = a_text(150, seed=1), a_model()
    reports, _ = run(model, steps=4, validation=validation, evaluations=1)
    assert reports[-1].validation_loss == evaluate(model, validation)   # the whole text, again the same number
    seen = []
    model.token_embedding.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].numel()))
    evaluate(model, validation)
    assert sum(seen) >= len(validation.ids) - 1


# One step -----------------------------------------------------------------------------------------------------------

def one_batch(state, step=0):
    with torch.random.fork_rng():
        torch.manual_seed(state.seed * 1_000_003 + step)
        return random_batch(a_text().ids, T, state.recipe.batch_size)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_step_of_adam_is_what_the_formula_says(weight_decay):
    recipe, model, by_hand = replace(ADAM, weight_decay=weight_decay, clip=1e9), a_model(), a_model()
    (report, *_), state = run(model, recipe, steps=1)
    x, y = one_batch(state)
    loss = F.cross_entropy(by_hand(x).flatten(0, 1), y.flatten())
    loss.backward()
    assert float(report.batch_loss) == loss.item()
    beta1, beta2 = recipe.betas
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        g, w = theirs.grad.double(), theirs.detach().double()
        m, v = (1 - beta1) * g, (1 - beta2) * g ** 2
        expected = (w - recipe.learning_rate * weight_decay * w
                    - recipe.learning_rate * (m / (1 - beta1)) / ((v / (1 - beta2)).sqrt() + 1e-8))
        torch.testing.assert_close(ours.detach().double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n_layers, d_ff, n_matrices", [(0, 32, 0), (1, 0, 2), (2, 48, 8)])
def test_muon_takes_the_matrices_of_the_blocks_and_adam_all_else(n_layers, d_ff, n_matrices):
    model = a_model(n_layers=n_layers, d_ff=d_ff)
    state = TrainingState(model, MUON)
    adam, *muon = [[p for group in optimizer.param_groups for p in group["params"]] for optimizer in state.optimizers]
    assert len(muon) == (n_matrices > 0) and sum(map(len, muon)) == n_matrices
    assert {id(p) for p in model.parameters()} == {id(p) for p in sum(muon, adam)}
    assert len(adam) + n_matrices == len(list(model.parameters()))
    stacked = {id(p) for optimizer in state.optimizers[1:] for group in optimizer.param_groups if group["stacked"] == 3
               for p in group["params"]}
    assert stacked == {id(block.attention.qkv.weight) for block in model.blocks}
    reports = list(training_loop(state, a_text(), steps=2))
    assert len(reports) == 2


def test_label_smoothing_is_in_the_training_loss_alone():
    plain, smoothed = a_model(), a_model()
    (report, *_), state = run(smoothed, replace(ADAM, label_smoothing=0.3), steps=1)
    x, y = one_batch(state)
    assert float(report.batch_loss) == F.cross_entropy(
        plain(x).flatten(0, 1), y.flatten(), label_smoothing=0.3).item()
    assert float(report.batch_loss) != F.cross_entropy(plain(x).flatten(0, 1), y.flatten()).item()
    smoothed.load_state_dict(plain.state_dict())
    reports, _ = run(smoothed, replace(ADAM, label_smoothing=0.3, learning_rate=1e-30), steps=1, validation=a_text(50))
    assert reports[-1].validation_loss == pytest.approx(evaluate(plain, a_text(50)), rel=1e-9)


def test_the_gradient_is_clipped_to_the_norm_that_the_recipe_allows(monkeypatch):
    norms = []

    class Spy(torch.optim.SGD):
        def step(self):
            norms.append(float(torch.cat([p.grad.flatten() for p in self.param_groups[0]["params"]]).norm()))

    def spy(model, recipe):
        optimizer = Spy(model.parameters(), lr=1.0)
        optimizer.param_groups[0]["peak"] = 1.0
        return [optimizer]

    monkeypatch.setattr(training, "_optimizers", spy)
    run(a_model(), replace(ADAM, clip=1e-3), steps=2)
    run(a_model(), replace(ADAM, clip=1e3), steps=1)
    assert norms[:2] == pytest.approx([1e-3, 1e-3], rel=1e-2) and norms[2] > 0.01


def test_gradients_that_lay_about_do_not_enter_the_first_step():
    clean, littered = a_model(), a_model()
    littered(torch.zeros(1, T, dtype=torch.int64)).sum().backward()
    run(clean), run(littered)
    assert same(weights_of(clean), weights_of(littered))


def test_training_lowers_the_loss():
    model, validation = a_model(), a_text(100, seed=5)
    before = evaluate(model, validation)
    reports, _ = run(model, replace(MUON, batch_size=16), steps=60, text=a_text(3000), validation=validation)
    assert reports[-1].validation_loss < before - 0.5                   # half the tokens can be known: ln 20 / 2 = 1.5
    assert reports[-1].validation_loss > 0.9 * math.log(V) / 2


# Reports and budgets ------------------------------------------------------------------------------------------------

def test_one_report_a_step_with_losses_in_nats_per_byte():
    reports, state = run(a_model(), steps=7, text=a_text(bytes_per_token=4))
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6, 7] and state.step == 7
    assert {report.steps for report in reports} == {7}
    assert all(report.loss == pytest.approx(float(report.batch_loss) / 4) for report in reports)
    assert reports[0].loss == pytest.approx(math.log(V) / 4, rel=0.05)
    assert all(report.tokens_per_second > 0 for report in reports)


def test_a_loss_is_not_read_from_the_device_before_somebody_asks():
    class Unread(torch.Tensor):
        def __float__(self):
            raise AssertionError("read")

    report = training.Report(1, 1, torch.zeros(()).as_subclass(Unread), 1.0, 0.1, 1.0, 1.0, 0.0, None)
    with pytest.raises(AssertionError, match="read"):
        report.loss                                                     # noqa: B018
    assert not training.Report(1, 1, torch.zeros(()), 1.0, 0.1, 1.0, 1.0, 0.0, None).batch_loss.requires_grad


def test_a_report_holds_no_gradient_graph():
    reports, _ = run(a_model(), steps=2)
    assert all(report.batch_loss.grad_fn is None and not report.batch_loss.requires_grad for report in reports)


def test_nothing_happens_before_a_report_is_asked_for():
    model = a_model()
    before, state = weights_of(model), TrainingState(model, ADAM)
    loop = training_loop(state, a_text(), steps=3)
    assert state.step == 0 and same(before, weights_of(model))
    next(loop)
    assert state.step == 1 and not same(before, weights_of(model))


@pytest.mark.parametrize("steps, evaluations, at", [
    (8, 4, [2, 4, 6, 8]), (10, 4, [3, 5, 8, 10]), (3, 4, [1, 2, 3]), (5, 1, [5]), (1, 4, [1]), (4, 100, [1, 2, 3, 4])])
def test_validation_is_evenly_spread_and_the_last_is_on_the_last_step(steps, evaluations, at):
    reports, _ = run(a_model(), steps=steps, validation=a_text(30), evaluations=evaluations)
    assert [report.step for report in reports if report.validation_loss is not None] == at


def test_as_many_evaluations_as_steps_means_each_step():
    done = [int(step * 100 / 100) for step in range(101)]               # where 0.29 * 100 is less than 29
    assert done == list(range(101))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_step", a_step_that_costs(Clock(), 0))
        reports, _ = run(a_model(), steps=100, validation=a_text(20), evaluations=100)
    assert all(report.validation_loss is not None for report in reports)


def test_mistake_of_the_reference_a_printing_interval_of_0_divided_by_zero():
    for evaluations in (0, -1):
        with pytest.raises(ValueError, match=f"evaluations must be at least 1, not {evaluations}"):
            run(a_model(), validation=a_text(30), evaluations=evaluations)


@pytest.mark.parametrize("budget", [{}, {"steps": 3, "seconds": 1.0}])
def test_the_budget_is_steps_or_seconds_and_not_both(budget):
    with pytest.raises(ValueError, match="steps or seconds must be given, one of the two"):
        training_loop(TrainingState(a_model(), ADAM), a_text(), **budget)


def test_a_run_that_is_done_takes_no_more_steps():
    reports, state = run(a_model(), steps=3)
    assert list(training_loop(state, a_text(), steps=3)) == []
    with pytest.raises(ValueError, match="steps must be at least 3, not 2"):
        training_loop(state, a_text(), steps=2)
    assert [report.step for report in training_loop(state, a_text(), steps=5)] == [4, 5]


class Clock:
    """A clock that shows what it was told to."""

    def __init__(self):
        self.now = 1000.0

    def perf_counter(self):
        return self.now


def a_step_that_costs(clock, seconds):
    """A step that only takes time; `seconds` is a number or a function of the step."""
    def step(state, ids, rate):
        clock.now += seconds(state.step) if callable(seconds) else seconds
        state.step += 1
        return torch.zeros(())
    return step


def timed_run(monkeypatch, seconds, step_cost, evaluation_cost=0.0, validation=None, state=None, **arguments):
    clock = Clock()
    monkeypatch.setattr(training, "time", types.SimpleNamespace(perf_counter=clock.perf_counter))
    monkeypatch.setattr(training, "_step", a_step_that_costs(clock, step_cost))

    def timed_evaluation(model, text):
        clock.now += evaluation_cost
        return 1.0

    monkeypatch.setattr(training, "evaluate", timed_evaluation)
    state = state or TrainingState(a_model(), ADAM)
    reports = []
    for report in training_loop(state, a_text(), validation, seconds=seconds, **arguments):
        reports.append(report)
        clock.now += 100.0                                              # the caller takes its time, which costs nothing
    return reports


@pytest.mark.parametrize("step_cost", [0.01, 0.1, 0.7, lambda step: 0.1 + 0.4 * (step == 0), lambda step: 0.1 + step / 1e4])
@pytest.mark.parametrize("evaluation_cost", [0.0, 0.05, 0.9])
def test_a_budget_of_seconds_is_kept_and_the_schedule_ends_on_its_floor(step_cost, evaluation_cost, monkeypatch):
    validation = a_text(100) if evaluation_cost else None
    reports = timed_run(monkeypatch, 10.0, step_cost, evaluation_cost, validation)
    assert 8.5 < reports[-1].seconds <= 10.0 + 1e-9
    assert reports[-1].learning_rate == pytest.approx(ADAM.learning_rate * ADAM.floor)
    assert reports[-1].step == reports[-1].steps and reports[-1].seconds_left == 0
    assert max(report.learning_rate for report in reports) > 0.9 * ADAM.learning_rate
    if validation:
        measured = [report.validation_loss is not None for report in reports]
        assert measured[-1] and sum(measured) <= 4
        assert sum(measured) * evaluation_cost <= 1.0 + evaluation_cost  # a tenth of the budget, but for the last one


def test_evaluations_are_spread_over_the_seconds(monkeypatch):
    reports = timed_run(monkeypatch, 10.0, 0.1, 0.05, a_text(100))
    at = [report.seconds for report in reports if report.validation_loss is not None]
    assert at == pytest.approx([2.5, 5.0, 7.5, 10.0], abs=0.3)


def test_a_budget_that_one_step_uses_up_ends_after_it(monkeypatch):
    assert [report.step for report in timed_run(monkeypatch, 1.0, 0.9)] == [1, 2]    # one was not known to be the last
    assert len(timed_run(monkeypatch, 20.0, 10.0)) == 2
    assert len(timed_run(monkeypatch, 20.0, 6.0)) == 3


def test_a_run_in_seconds_that_is_gone_on_with_keeps_its_schedule(monkeypatch):
    whole = timed_run(monkeypatch, 10.0, 0.125)                          # 80 steps, and no rounding
    state = TrainingState(a_model(), ADAM)
    state.step, state.seconds = 48, 6.0
    rest = timed_run(monkeypatch, 10.0, 0.125, state=state)
    assert [report.step for report in rest] == [report.step for report in whole[48:]]
    assert [report.learning_rate for report in rest] == pytest.approx([report.learning_rate for report in whole[48:]])
    assert timed_run(monkeypatch, 10.0, 0.125, state=state) == []        # none is left of a budget that is used up


# Sixteen bits -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("asked, able, expected", [
    (True, True, torch.bfloat16), (True, False, torch.float32), (False, True, torch.float32)])
def test_products_are_in_bfloat16_where_the_recipe_asks_and_the_processor_can(asked, able, expected, monkeypatch):
    processor_has(monkeypatch, able)
    model, dtypes, orthogonalise = a_model(), [], muon.orthogonalise
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda module, x, product: dtypes.append(product.dtype))
    monkeypatch.setattr(muon, "orthogonalise", lambda x: dtypes.append(orthogonalise(x).dtype) or orthogonalise(x))
    run(model, replace(MUON, bfloat16=asked), steps=1)
    assert len(dtypes) > 5 and set(dtypes) == {expected}


def test_in_bfloat16_all_but_the_products_stays_float32_and_the_loss_hardly_notices(monkeypatch):
    processor_has(monkeypatch, True)
    exact, _ = run(a_model(), MUON, steps=60)
    rough, state = run(a_model(), SIXTEEN_BITS, steps=60)
    assert [report.loss for report in rough] != [report.loss for report in exact]
    assert rough[-1].loss < 0.8 * rough[0].loss
    ours, theirs = (statistics.mean(report.loss for report in reports[-30:]) for reports in (rough, exact))
    assert ours == pytest.approx(theirs, rel=0.03)
    kept = [report.batch_loss for report in rough] + list(state.tensors().values())
    assert {tensor.dtype for tensor in kept} == {torch.float32, torch.float64}       # the clock's figures have 64 bits
    assert evaluate(state.model, a_text(40)) != evaluate(state.model.bfloat16(), a_text(40))


def test_bfloat16_is_for_the_processor_alone_and_over_after_the_step(monkeypatch):
    processor_has(monkeypatch, True)
    with training._matrix_products(torch.device("cuda"), True):
        assert not torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("cuda")
    loop = training_loop(TrainingState(a_model(), SIXTEEN_BITS), a_text(), steps=2)
    next(loop)
    assert not torch.is_autocast_enabled("cpu") and torch.backends.cuda.flash_sdp_enabled()


# Chance -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_mistake_of_the_reference_no_seed(dropout):
    first, second, other = a_model(dropout), a_model(dropout), a_model(dropout)
    run(first, seed=7)
    torch.rand(3)
    run(second, seed=7)
    run(other, seed=8)
    assert same(weights_of(first), weights_of(second))
    assert not same(weights_of(first), weights_of(other))


def test_training_and_the_chance_of_others_leave_each_other_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    state = TrainingState(a_model(dropout=0.3), ADAM)
    loop = training_loop(state, a_text(), a_text(40), steps=4, evaluations=2)
    drawn = torch.rand(1)
    for _ in loop:
        if state.step < 4:
            drawn = torch.cat([drawn, torch.rand(1)])
    assert torch.equal(drawn, expected)


@pytest.mark.parametrize("recipe", [ADAM, MUON], ids=["random", "epochs"])
def test_every_step_draws_a_batch_of_its_own(recipe, monkeypatch):
    batches, original = [], training._windows
    monkeypatch.setattr(training, "_windows", lambda *arguments: batches.append(original(*arguments)) or batches[-1])
    run(a_model(), recipe, steps=5, text=a_text(1000))
    starts = [x.flatten().tolist() for x, _ in batches[1:]]              # the first is the look at the text's length
    assert len(starts) == 5 and all(one != other for i, one in enumerate(starts) for other in starts[:i])


# Stopping and going on ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("recipe", [ADAM, MUON, SIXTEEN_BITS], ids=["adam", "muon", "bfloat16"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("stopped_at", [1, 4, 10, 12])
def test_a_run_that_was_stopped_goes_on_to_the_last_bit(recipe, dropout, stopped_at, monkeypatch):
    processor_has(monkeypatch, bfloat16=True)
    whole = a_model(dropout)
    reports, _ = run(whole, recipe, steps=13, validation=a_text(50), seed=5)
    stopped = TrainingState(a_model(dropout), recipe, 5)
    loop = training_loop(stopped, a_text(), a_text(50), steps=13)
    for _ in range(stopped_at):
        next(loop)
    tensors = copies(stopped.tensors())
    resumed = TrainingState(a_model(dropout, seed=99), recipe, 5)        # nothing of it survives
    resumed.load(tensors)
    rest = list(training_loop(resumed, a_text(), a_text(50), steps=13))
    assert same(weights_of(resumed.model), weights_of(whole))
    assert [report.loss for report in rest] == [report.loss for report in reports[stopped_at:]]
    assert [report.validation_loss for report in rest] == [report.validation_loss for report in reports[stopped_at:]]
    assert rest[-1].seconds > float(tensors["progress"][1]) > 0


def test_between_two_steps_the_model_can_be_used_without_a_trace():
    used, unused = a_model(dropout=0.2), a_model(dropout=0.2)
    run(unused)
    state = TrainingState(used, ADAM)
    for _ in training_loop(state, a_text(), steps=6):
        evaluate(used, a_text(30))
        used.eval()
    assert same(weights_of(used), weights_of(unused))


def test_two_threads_that_train_one_model_take_turns():
    """As the live panel and a cell may. Without turns, one changes weights that the other's gradients still need.

    Seen too: one thread held torch's lock on the position embedding and waited for Python's, the other the reverse.
    """
    model, errors, together = a_model(n_layers=2, dropout=0.1), [], threading.Barrier(2)

    def train(seed):
        try:
            together.wait(10)
            run(model, MUON, steps=150, seed=seed)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=train, args=(seed,), daemon=True) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == [] and not any(thread.is_alive() for thread in threads)
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_look_at_the_weights_records_no_gradients(monkeypatch):
    """What is recorded for nothing takes time, and torch's lock on a weight, for which another thread may wait for ever."""
    recording, isfinite = [], torch.Tensor.isfinite
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda x: recording.append(torch.is_grad_enabled()) or isfinite(x))
    TrainingState(a_model(), ADAM).check()
    assert recording and not any(recording)


# Going wrong --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("at, good", [(1, 0), (4, 0), (9, 0), (10, 0), (11, 9), (17, 9), (20, 9), (23, 19), (25, 19)])
def test_a_loss_that_is_not_finite_names_its_step_and_leaves_the_last_good_weights(at, good, bad, monkeypatch):
    monkeypatch.setattr(training.F, "cross_entropy", poisoned(F.cross_entropy, at, bad))
    model = a_model()
    state, history = TrainingState(model, ADAM), {0: weights_of(model)}
    with pytest.raises(TrainingDiverged) as error:
        for report in training_loop(state, a_text(), steps=25):
            history[report.step] = weights_of(model)
    assert f"the loss became {bad} at step {at}; the model is back at step {good}." in str(error.value)
    assert "a lower learning rate (the peak is 0.01)" in str(error.value)
    assert same(weights_of(model), history[good])
    assert all(p.isfinite().all() for p in model.parameters())
    assert state.step - at < CHECK_EVERY


def poisoned(cross_entropy, at, bad):
    """cross_entropy, of which the call number `at` returns `bad` and has gradients of it too."""
    calls = []

    def function(*arguments, **keywords):
        calls.append(1)
        loss = cross_entropy(*arguments, **keywords)
        return loss * bad if len(calls) == at else loss
    return function


@pytest.mark.parametrize("at", [3, 10, 20])
def test_a_gradient_that_is_not_finite_is_not_taken_for_good_weights(at, monkeypatch):
    """The loss of that step is fine; the weights after it are not, and a copy of them must not be what is kept."""
    model, calls = a_model(), []

    def poison(gradient):
        calls.append(1)
        return gradient * math.nan if len(calls) == at else gradient

    model.norm.weight.register_hook(poison)
    with pytest.raises(TrainingDiverged, match=f"at step {at}" if at == 20 else f"at step {at}|at step {at + 1}"):
        run(model, steps=20)
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_huge_learning_rate_ends_in_words_and_the_model_still_works():
    model = a_model()
    with pytest.raises(TrainingDiverged, match="What usually helps"):
        run(model, replace(ADAM, learning_rate=1e30), steps=40)
    assert math.isfinite(evaluate(model, a_text()))
    run(model, steps=3)                                                 # and can be trained again


def test_a_single_bad_step_does_not_pass_for_a_finished_run():
    model = a_model()
    message = "the validation loss became (nan|inf) at step 1; the model is back at step 0"
    with pytest.raises(TrainingDiverged, match=message):
        run(model, replace(ADAM, learning_rate=1e30), steps=1, validation=a_text(50))
    assert math.isfinite(evaluate(model, a_text()))


def test_a_run_that_goes_wrong_is_neither_written_down_nor_left_as_it_is(monkeypatch):
    monkeypatch.setattr(training.F, "cross_entropy", poisoned(F.cross_entropy, 3, math.nan))
    model = a_model()
    before, state = weights_of(model), TrainingState(model, ADAM)
    loop = training_loop(state, a_text(), steps=25)
    for _ in range(5):
        next(loop)
    with pytest.raises(TrainingDiverged, match="step 3"):
        state.tensors()
    assert same(before, weights_of(model))


def test_who_stops_early_is_not_left_with_a_bad_model(monkeypatch):
    monkeypatch.setattr(training.F, "cross_entropy", poisoned(F.cross_entropy, 3, math.nan))
    model = a_model()
    before = weights_of(model)
    loop = training_loop(TrainingState(model, ADAM), a_text(), steps=25)
    for _ in range(5):
        next(loop)
    with pytest.raises(TrainingDiverged, match="step 3"):
        loop.close()
    assert same(before, weights_of(model))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
                                   RuntimeError("MPS backend out of memory"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …")])
@pytest.mark.parametrize("where", ["forward", "evaluation", "optimizer"])
def test_too_little_memory_says_what_to_halve(error, where, monkeypatch):
    def fail(*arguments, **keywords):
        raise error

    model = a_model()
    state = TrainingState(model, ADAM)
    if where == "forward":
        monkeypatch.setattr(MultiHeadAttention, "forward", fail)
    elif where == "evaluation":
        monkeypatch.setattr(training, "evaluate", fail)
    else:
        monkeypatch.setattr(state.optimizers[0], "step", fail)
    with pytest.raises(MemoryError, match=r"the cpu has too little memory for this step: halve batch_size \(now 4\) or "
                                          r"context_length \(now 8\)"):
        list(training_loop(state, a_text(), a_text(30), steps=2))
    monkeypatch.undo()
    untouched = a_model()
    run(untouched)
    if where != "evaluation":
        run(model)
        assert same(weights_of(model), weights_of(untouched))           # nothing of the step that failed is left


def test_another_error_comes_out_as_it_is(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("something else")

    monkeypatch.setattr(MultiHeadAttention, "forward", fail)
    with pytest.raises(RuntimeError, match="^something else$"):
        run(a_model())


def test_an_interrupt_within_a_step_leaves_a_model_that_trains_on(monkeypatch):
    model = a_model()
    state = TrainingState(model, ADAM)
    loop = training_loop(state, a_text(), steps=9)
    next(loop)
    monkeypatch.setattr(state.optimizers[0], "step", lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        next(loop)
    assert state.step == 1
    run(model)
    assert all(p.isfinite().all() for p in model.parameters())
