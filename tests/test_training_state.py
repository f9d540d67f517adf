"""A run is stopped and gone on with to the last bit, and one that goes wrong leaves good weights."""

import math
import threading
from dataclasses import replace

import pytest
import torch
from small import ADAM, MUON, SIXTEEN_BITS, a_model, a_text, copies, processor_has, run, same, weights_of
from torch.nn import functional as F

from minigpt import training
from minigpt.training import evaluate, training_loop
from minigpt.training_state import CHECK_EVERY, TrainingDiverged, TrainingState


@pytest.mark.parametrize("n_layers, d_ff, n_matrices", [(1, 0, 2), (2, 48, 8)])
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


def test_what_is_of_another_run_changes_nothing():
    state = run(a_model(), MUON, steps=3)[1]
    good, before = copies(state.tensors()), (weights_of(state.model), state.step, state.seconds)
    moment = next(name for name, tensor in good.items() if name.startswith("optimizer.") and tensor.dim())
    for spoiled in (good | {"progress": torch.zeros(2)}, good | {moment: torch.zeros(3)},
                    good | {"optimizer.0.999.step": torch.tensor(1.0)},
                    {name: tensor for name, tensor in good.items() if name != "model.norm.weight"}, {}):
        with pytest.raises(ValueError, match="tensors must be those of a run with this model"):
            state.load({name: tensor + 1 if name.startswith("model.") else tensor for name, tensor in spoiled.items()})
        assert same(weights_of(state.model), before[0]) and (state.step, state.seconds) == before[1:]
    state.load(good)
