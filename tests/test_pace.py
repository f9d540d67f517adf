"""A budget of steps or seconds: how it is kept, and when the validation loss is measured."""

import types

import pytest
import torch
from small import ADAM, a_model, a_text, run

from minigpt import pace, training
from minigpt.training import training_loop
from minigpt.training_state import TrainingState


@pytest.mark.parametrize("steps, evaluations, at", [
    (8, 4, [2, 4, 6, 8]), (10, 4, [3, 5, 8, 10]), (3, 4, [1, 2, 3]), (5, 1, [5]), (1, 4, [1]), (4, 100, [1, 2, 3, 4])])
def test_validation_is_evenly_spread_and_the_last_is_on_the_last_step(steps, evaluations, at):
    reports, _ = run(a_model(), steps=steps, validation=a_text(30), evaluations=evaluations)
    assert [report.step for report in reports if report.validation_loss is not None] == at


def test_as_many_evaluations_as_steps_means_each_step():
    done = [int(step * 100 / 100) for step in range(101)]               # where 0.29 * 100 is less than 29
    assert done == list(range(101))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_step", a_step_that_costs(Clock(), 0))
        reports, _ = run(a_model(), steps=100, validation=a_text(20), evaluations=100)
    assert all(report.validation_loss is not None for report in reports)


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
    monkeypatch.setattr(pace, "time", types.SimpleNamespace(perf_counter=clock.perf_counter))
    monkeypatch.setattr(training, "train_step", a_step_that_costs(clock, step_cost))

    def timed_evaluation(model, text, ranks):
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
