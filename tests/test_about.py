"""What is known of how a model came to be: kept whole, and never more than is known."""

import math

import pytest

from minigpt.about import About


@pytest.mark.parametrize("about", [About(), About("größe.txt, 漢.txt", 10, 5, 1.25)])
def test_what_is_written_is_read(about):
    assert About.from_json(about.to_json()) == about


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_not_known(loss):
    assert About(held_out_loss=loss) == About()


@pytest.mark.parametrize("text", ['{"n_bytes": 0}', '{"steps": -1}', '{"text": 5}', '{"held_out_loss": "low"}', '{"of": 1}', "[]",
                                  "nonsense"])
def test_what_it_cannot_have_written_is_refused(text):
    with pytest.raises((TypeError, ValueError)):
        About.from_json(text)
