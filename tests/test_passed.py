"""`passed`: which exercises are solved, so that who skipped one can go on, and nobody's own solution is replaced."""

import sys

import pytest

from minigpt.classroom import Mistake, check_causal_mask, passed


@pytest.fixture(autouse=True)
def nothing_solved(monkeypatch):
    monkeypatch.setattr(sys.modules["minigpt.classroom.checks.passed"], "_passed", set())


def right(T):
    import torch
    return torch.ones(T, T, dtype=torch.bool).tril()


def wrong(T):
    return right(T).T


def test_only_what_its_check_accepts_has_passed(capsys):
    assert not passed("right") and not passed("wrong")
    check_causal_mask(right)
    with pytest.raises(Mistake):
        check_causal_mask(wrong)
    assert passed("right") and not passed("wrong")


def test_a_solution_that_was_broken_again_has_not(capsys):
    def mine(T):
        return right(T)

    check_causal_mask(mine)
    assert passed("mine")

    def mine(T):
        raise NotImplementedError()

    with pytest.raises(Mistake, match="not written yet"):
        check_causal_mask(mine)
    assert not passed("mine")
