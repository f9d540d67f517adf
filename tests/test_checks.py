"""The checks of the exercises: right answers pass, each wrong answer is refused with a sentence that fits it.

The answers stand in `checks_bank`, as students write them.
"""

import random
import sys
import warnings
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from minigpt.classroom import checks
from minigpt.classroom.checks import framework
from minigpt.classroom.checks.framework import Mistake

sys.path.insert(0, str(Path(__file__).parent))

import following_cells  # noqa: E402
from checks_bank import RIGHT, WRONG  # noqa: E402

IN_CLASS = framework.TIME_LIMIT
CHECKS = [getattr(checks, name) for name in dir(checks) if name.startswith("check_")]
FIXED_NAMES = ("longest_match", "merge", "causal_mask", "attention", "split_heads", "layer_norm", "feed_forward",
               "block", "batch", "cross_entropy", "learning_rate", "next_token_probs")


def named(check, answer) -> str:
    return f"{check.__name__}-{getattr(answer, '__name__', answer)}"


RIGHT_ANSWERS = [pytest.param(check, answer, id=named(check, answer)) for check in RIGHT for answer in RIGHT[check]]
WRONG_ANSWERS = [pytest.param(check, answer, phrase, id=f"{named(check, answer)}-{phrase}")
                 for check in WRONG for answer, phrase in WRONG[check]]


@pytest.fixture
def seeded(monkeypatch):
    """Lets a test choose the numbers that a check draws, so that what fails once fails again."""
    def choose(seed: int):
        monkeypatch.setattr(framework, "fresh_seed", lambda: seed)
    return choose


@pytest.fixture(autouse=True)
def short_of_time(monkeypatch):
    monkeypatch.setattr(framework, "TIME_LIMIT", 1.0)


@pytest.fixture
def unhurried(short_of_time, monkeypatch):
    """A right answer has the time that it has in class: on a busy machine a second of computing is sometimes not enough."""
    monkeypatch.setattr(framework, "TIME_LIMIT", IN_CLASS)


def refusal(check, answer) -> str:
    """The message with which a check refuses an answer."""
    with pytest.raises(Mistake) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(answer)
    return str(caught.value)


@pytest.mark.parametrize(("check", "answer"), RIGHT_ANSWERS)
def test_a_right_answer_passes_whatever_the_numbers(check, answer, seeded, unhurried, capsys):
    for seed in range(5):
        seeded(seed)
        check(answer)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and len(set(lines)) == 1 and lines[0].startswith("✓ ") and len(lines[0]) < 120


@pytest.mark.parametrize(("check", "seed"), [
    (checks.check_attention, 923794),           # every position sees itself alone: a gradient of 0, and its rounding
    (checks.check_feed_forward, 394923), (checks.check_feed_forward, 904845), (checks.check_feed_forward, 627410),
])                                              # one GELU, shut for x and for x turned round: the bias twice
def test_a_right_answer_passes_where_its_numbers_are_rare(check, seed, seeded, unhurried, capsys):
    seeded(seed)
    for answer in RIGHT[check]:
        check(answer)


@pytest.mark.parametrize(("check", "answer", "phrase"), WRONG_ANSWERS)
def test_a_wrong_answer_is_refused_with_the_fitting_message_whatever_the_numbers(check, answer, phrase, seeded):
    for seed in range(1 if phrase == "was still running" else 2):
        seeded(seed)
        message = refusal(check, answer)
        assert phrase in message
        assert message.endswith((".", "?", "!"))
        assert len(message) < 700


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_check_has_its_bank(check):
    assert len(RIGHT[check]) >= 7
    assert len(WRONG[check]) >= 14 and len({phrase for _, phrase in WRONG[check]}) >= 8


@pytest.mark.parametrize(("check", "answer"), RIGHT_ANSWERS)
def test_a_right_answer_carries_the_cells_that_follow(check, answer, capsys):
    for notebook, place, name in following_cells.exercises(check.__name__):
        notebook.run_with(place, name, answer)


def test_a_refusal_names_the_seed_that_asks_the_same_again(capsys):
    message = refusal(checks.check_pair_counts, lambda ids: {(1, 2): len(ids)})
    seed = int(message.rpartition("seed=")[2].rstrip(")."))
    asked = []
    for _ in range(2):
        with pytest.raises(Mistake):
            checks.check_merge(lambda *inputs: asked.append(inputs) or [], seed=seed)
    assert asked[:len(asked) // 2] == asked[len(asked) // 2:]


def test_an_error_of_the_check_itself_is_told_as_a_mistake(monkeypatch):
    class Strange(dict):
        def items(self):
            raise ZeroDivisionError
    assert "can't make sense of what" in refusal(checks.check_pair_counts, lambda ids: Strange())


def test_a_loop_that_swallows_every_exception_is_stopped():
    def my_merge(ids, pair, new_id):
        while True:
            try:
                ids[0] += 0
            except:                                              # noqa: E722
                continue
    assert "was still running" in refusal(checks.check_merge, my_merge)


def test_the_names_that_notebooks_rely_on_are_there():
    assert {f"check_{name}" for name in FIXED_NAMES} <= {check.__name__ for check in CHECKS}
    assert {check.__name__ for check in CHECKS} | {"Mistake", "passed"} == set(checks.__all__)


# ------------------------------------------------------------------------------------------------ whatever the exercise


def stub(*inputs):
    raise NotImplementedError()


class Stub(nn.Module):
    def __init__(self, *inputs):
        super().__init__()
        raise NotImplementedError()


class HalfStub(nn.Module):
    def __init__(self, *inputs):
        super().__init__()
        raise NotImplementedError()

    def forward(self, x):
        return x


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("unsolved", [stub, Stub, HalfStub])
def test_an_unsolved_stub_is_met_with_a_friendly_word(check, unsolved):
    message = refusal(check, unsolved)
    assert "is not written yet" in message and "run this cell again" in message
    assert unsolved.__name__ in message


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("nothing", [None, ...])
def test_a_function_that_returns_nothing_is_told_to_go_on(check, nothing):
    def my_answer(*inputs):
        return nothing
    assert "my_answer returns" in refusal(check, my_answer)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("nonsense", [3, "text", [], {}, torch.zeros(2), torch.zeros(2, dtype=torch.bool), (1, 2),
                                      float("nan"), object(), (None, None), torch.zeros(()), nn.Linear(2, 2)],
                         ids=lambda value: type(value).__name__)
def test_nonsense_is_refused_and_never_crashes_the_check(check, nonsense):
    assert refusal(check, lambda *inputs: nonsense)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_an_error_in_the_students_code_is_told_with_its_inputs_and_its_line(check):
    def my_answer(*inputs):
        return {}["missing"]

    message = refusal(check, my_answer)
    assert "stopped with KeyError" in message and "It was called with" in message
    assert '`return {}["missing"]`' in message
    with pytest.raises(Mistake) as caught:
        check(my_answer)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_result_instead_of_the_function_is_recognised(check):
    assert f"{check.__name__} takes your function itself" in refusal(check, torch.zeros(2))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_function_with_other_arguments_is_told_how_it_is_called(check):
    assert "stopped with TypeError" in refusal(check, lambda: None)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_check_leaves_the_random_numbers_of_later_cells_alone(check):
    torch.manual_seed(1), random.seed(1), numpy.random.seed(1)
    expected = torch.rand(2), random.random(), numpy.random.rand(2)
    torch.manual_seed(1), random.seed(1), numpy.random.seed(1)
    check(RIGHT[check][1])
    refusal(check, WRONG[check][0][0])
    found = torch.rand(2), random.random(), numpy.random.rand(2)
    assert torch.equal(expected[0], found[0]) and expected[1] == found[1] and (expected[2] == found[2]).all()


def test_every_run_tries_other_numbers_even_after_the_same_seed():
    seen = []

    def spy(q, k, v, mask):
        seen.append(q.clone())
        return None
    for _ in range(2):
        torch.manual_seed(0)
        refusal(checks.check_attention, spy)
    assert not torch.equal(seen[0].flatten()[:4], seen[1].flatten()[:4])


def test_a_module_instead_of_its_class_is_recognised():
    assert "takes your class itself" in refusal(checks.check_feed_forward, nn.Linear(2, 2))


def test_an_interrupt_from_the_keyboard_gets_through():
    def interrupted(ids):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        checks.check_pair_counts(interrupted)


def test_a_mistake_is_an_assertion_error_that_a_notebook_shows_without_a_traceback():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shown = []
    shell._showtraceback = lambda kind, value, lines: shown.append("\n".join(lines))
    shell.run_cell("from minigpt.classroom.checks import check_causal_mask\n"
                   "def my_mask(T):\n    raise NotImplementedError()\n"
                   "check_causal_mask(my_mask)")
    shell.run_cell("def my_other_mask(T):\n    mask = [T]\n    return mask[T]\n"
                   "check_causal_mask(my_other_mask)")
    InteractiveShell.clear_instance()
    assert issubclass(Mistake, AssertionError)
    assert len(shown) == 2 and shown[0].startswith("✗ my_mask is not written yet")
    assert "IndexError" in shown[1] and "The line is `return mask[T]`" in shown[1].replace("\n", " ")
    assert not any("Traceback" in text or "framework.py" in text for text in shown)
