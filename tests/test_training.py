"""The schedule, a step, the evaluation and the loop, each against a formula or a plain loop."""

import math
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from small import ADAM, MUON, T, V, a_model, a_text, run, same, weights_of
from torch.nn import functional as F

from minigpt import batches, training, training_state
from minigpt.batches import TokenizedText, random_batch
from minigpt.training import evaluate, learning_rate, training_loop
from minigpt.training_state import TrainingState

# The learning rate -----------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("recipe", [ADAM, MUON], ids=["adam", "muon"])
def test_each_optimizer_gets_its_own_peak_at_the_same_share(recipe):
    state = TrainingState(a_model(), replace(recipe, muon_learning_rate=0.5))
    reports = training_loop(state, a_text(), steps=10)
    for report in reports:
        share = report.learning_rate / recipe.learning_rate
        rates = [group["lr"] for optimizer in state.optimizers for group in optimizer.param_groups]
        assert rates == pytest.approx([share * recipe.learning_rate, share * 0.5, share * 0.5][:len(rates)])


# Evaluation ------------------------------------------------------------------------------------------------------------

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


def test_the_mode_is_put_back_when_evaluation_fails():
    model = a_model().train()
    with pytest.raises(ValueError, match="vocab_size"):
        evaluate(model, TokenizedText(np.full(20, V, np.uint16), 19))
    assert model.training


# One step --------------------------------------------------------------------------------------------------------------

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

    monkeypatch.setattr(training_state, "make_optimizers", spy)
    run(a_model(), replace(ADAM, clip=1e-3), steps=2)
    run(a_model(), replace(ADAM, clip=1e3), steps=1)
    assert norms[:2] == pytest.approx([1e-3, 1e-3], rel=1e-2) and norms[2] > 0.01


def test_gradients_that_lay_about_do_not_enter_the_first_step():
    clean, littered = a_model(), a_model()
    littered(torch.zeros(1, T, dtype=torch.int64)).sum().backward()
    run(clean), run(littered)
    assert same(weights_of(clean), weights_of(littered))


@pytest.mark.parametrize("recipe", [ADAM, MUON], ids=["adam", "muon"])
@pytest.mark.parametrize("parts", [2, 3, 7])
def test_a_batch_in_parts_gives_the_steps_of_the_whole(recipe, parts):
    recipe, whole, in_parts = replace(recipe, batch_size=7, label_smoothing=0.1), a_model(), a_model()
    calls, embed = [], in_parts._embed
    in_parts._embed = lambda ids, start=0: calls.append(len(ids)) or embed(ids, start)
    expected, _ = run(whole, recipe, steps=20)
    found, _ = run(in_parts, replace(recipe, accumulate=parts), steps=20)
    assert [report.loss for report in found] == pytest.approx([report.loss for report in expected], abs=1e-5)
    assert sorted(calls[:parts]) == sorted(len(part) for part in torch.arange(7).tensor_split(parts))
    for one, other in zip(whole.parameters(), in_parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_parts_of_a_batch_drop_each_its_own():
    masks = []
    run(a_model(dropout=0.5), replace(ADAM, batch_size=4, accumulate=2), steps=1)
    dropout = F.dropout

    def seen(x, p):
        out = dropout(x, p)
        masks.append(out != 0)
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "dropout", seen)
        run(a_model(dropout=0.5), replace(ADAM, batch_size=4, accumulate=2), steps=1)
    half = len(masks) // 2
    assert half and not any(torch.equal(one, other) for one, other in zip(masks[:half], masks[half:], strict=True))


def test_a_batch_has_a_row_for_each_of_its_parts():
    with pytest.raises(ValueError, match=r"batch_size must be at least 5 \(accumulate, 5\), not 4"):
        TrainingState(a_model(), replace(ADAM, accumulate=5))


def test_a_model_in_16_bits_is_measured_in_32():
    """A sum of many losses is more than 16 bits hold."""
    model, text = a_model(vocab_size=1000, context_length=1024), a_text(60_000)
    exact = evaluate(model, text)
    assert evaluate(model.half(), text) == pytest.approx(exact, rel=0.01)



def test_a_compiled_model_takes_the_same_steps(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))     # no compiler of C is needed for it
    plain, compiled = a_model(), a_model()
    expected, _ = run(plain)
    state = TrainingState(compiled, ADAM, compiled=True)
    found = list(training_loop(state, a_text(), steps=6))
    assert state.network is not compiled
    assert [report.loss for report in found] == pytest.approx([report.loss for report in expected], abs=1e-6)
    assert weights_of(compiled).keys() == weights_of(plain).keys()


def test_training_lowers_the_loss():
    model, validation = a_model(), a_text(100, seed=5)
    before = evaluate(model, validation)
    reports, _ = run(model, replace(MUON, batch_size=16), steps=60, text=a_text(3000), validation=validation)
    assert reports[-1].validation_loss < before - 0.5                   # half the tokens can be known: ln 20 / 2 = 1.5
    assert reports[-1].validation_loss > 0.9 * math.log(V) / 2


# Reports and budgets ---------------------------------------------------------------------------------------------------

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


# Chance ----------------------------------------------------------------------------------------------------------------

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
    taken, original = [], batches._windows
    monkeypatch.setattr(batches, "_windows", lambda *arguments: taken.append(original(*arguments)) or taken[-1])
    run(a_model(), recipe, steps=5, text=a_text(1000))
    starts = [x.flatten().tolist() for x, _ in taken]
    assert len(starts) == 5 and all(one != other for i, one in enumerate(starts) for other in starts[:i])


# Going wrong -----------------------------------------------------------------------------------------------------------

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
