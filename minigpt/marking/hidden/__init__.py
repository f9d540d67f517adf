"""The questions that nobody sees before the marking: for each exercise fresh inputs, and what is
right for them.

They are asked one by one, and compared here, where no line of the student's runs: to know them in
advance helps nobody, for the numbers are others each time. One file for the exercises of each
notebook, as in `classroom.checks`. A set of questions is a function that gives `Case`s, of ordinary
inputs, or of odd ones: sizes of 1, all alike, large ones, extreme numbers, and gradients.
"""

from minigpt.marking.hidden import attention, bugs, model, real, sampling, tokenizer, training
from minigpt.marking.hidden.framework import QUESTIONS, Case, Questions, agrees

__all__ = ["QUESTIONS", "Case", "Questions", "agrees", "attention", "bugs", "model", "real",
           "sampling", "tokenizer", "training"]
