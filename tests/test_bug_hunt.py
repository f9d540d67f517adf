"""The bugs of 05_bug_hunt, read from the notebook: each is a bug still, and its own check refuses it by name.

Otherwise a student could hand in the buggy code, see a tick, and learn nothing.
"""

import ast
from pathlib import Path

import nbformat
import pytest

from minigpt.classroom import checks

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "05_bug_hunt.ipynb"
CELLS = {cell.id: cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
BUGS = {                # number -> (the function, its check, what the check says)
    1: ("encode_1", checks.check_byte_encode, "its UTF-8 bytes are"),
    2: ("generate_2", checks.check_generate, "must fit the context"),
    3: ("probs_3", checks.check_next_token_probs, "divide by 0"),
    4: ("decode_4", checks.check_decode, "decoded alone"),
    5: ("attention_5", checks.check_attention, "mask after the softmax"),
    6: ("mask_6", checks.check_causal_mask, "one place into the future"),
    7: ("batch_7", checks.check_batch, "Your y is x"),
    8: ("attention_8", checks.check_attention, "divide the scores by √d"),
    9: ("step_9", checks.check_training_step, "zero_grad"),
    10: ("evaluate_10", checks.check_evaluate, "dropout on"),
    11: ("load_11", checks.check_load, "Build first, then load"),
    12: ("batch_12", checks.check_batch, "last window is never"),
}


def the_bug(number: int):
    """The buggy function, without the experiments around it."""
    names = {}
    exec(CELLS["imports"], names)
    for statement in ast.parse(CELLS[f"bug-{number}-code"]).body:
        if isinstance(statement, ast.FunctionDef) or ast.unparse(statement).startswith("number ="):
            exec(ast.unparse(statement), names)
    return names[BUGS[number][0]]


@pytest.mark.parametrize("number", BUGS)
def test_the_bug_is_refused_by_name(number):
    _, check, said = BUGS[number]
    function = the_bug(number)
    if number == 3:                                     # which leaves top-k and top-p out
        student = lambda logits, temperature, top_k, top_p: function(logits, temperature)      # noqa: E731
    else:
        student = function
    with pytest.raises(checks.Mistake, match=said):
        check(student)


def test_there_are_twelve_each_with_an_experiment_and_a_moral():
    for number in BUGS:
        assert {f"bug-{number}-{part}" for part in ("code", "experiment", "turn", "solution", "hints", "moral")} <= set(CELLS)
