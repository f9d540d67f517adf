"""Banks of right and wrong answers to every exercise that has a check, written as students write them."""

from checks_bank import (
    attention,
    bugs,
    model,
    more_right,
    more_wrong,
    odd_attention,
    odd_bugs,
    odd_model,
    odd_tokenizer,
    odd_training,
    real,
    sampling,
    tokenizer,
    training,
)
from checks_bank.register import RIGHT, WRONG

from checks_bank import kinds  # isort: skip  (it spoils the right answers of all the others)

__all__ = ["RIGHT", "WRONG", "attention", "bugs", "kinds", "model", "more_right", "more_wrong", "odd_attention", "odd_bugs",
           "odd_model", "odd_tokenizer", "odd_training", "real", "sampling", "tokenizer", "training"]
