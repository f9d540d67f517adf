"""Banks of right and wrong answers to every exercise that has a check, written as students write them."""

from checks_bank import attention, bugs, model, real, sampling, tokenizer, training
from checks_bank.register import RIGHT, WRONG

__all__ = ["RIGHT", "WRONG", "attention", "bugs", "model", "real", "sampling", "tokenizer", "training"]
