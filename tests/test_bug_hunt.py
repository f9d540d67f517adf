"""The bugs of 05_bug_hunt, read from the notebook: each is a bug still, and its own check refuses it by name.

Otherwise a student could hand in the buggy code, see a tick, and learn nothing.
"""

import ast
from pathlib import Path

import nbformat
import pytest

from minigpt.classroom import checks

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "05_bug_hunt.ipynb"
NOTEBOOK_CELLS = nbformat.read(NOTEBOOK, as_version=4).cells
CELLS = {cell.id: cell.source for cell in NOTEBOOK_CELLS}
BUGS = {                # number -> (the function, its check, what the check says)
    1: ("encode_1", checks.check_byte_encode, "its UTF-8 bytes are"),
    2: ("merge_2", checks.check_merge, "IndexError"),
    3: ("layer_norm_3", checks.check_layer_norm, "1e-5"),
    4: ("decode_4", checks.check_decode, "decoded alone"),
    5: ("step_5", checks.check_training_step, "zero_grad"),
    6: ("load_6", checks.check_load, "Build first, then load"),
    7: ("mask_7", checks.check_causal_mask, "one place into the future"),
    8: ("loss_8", checks.check_cross_entropy, "every target from every row"),
    9: ("evaluate_9", checks.check_evaluate, "dropout on"),
    10: ("attention_10", checks.check_attention, "mask after the softmax"),
    11: ("multi_head_11", checks.check_multi_head, "not divided by √d_head"),
    12: ("generate_12", checks.check_generate, "show it"),
}
ORDER = ("", "-code", "-hunt", "-turn", "-solution", "-hints", "-experiment", "-moral")


def the_bug(number: int):
    """The buggy function, without the experiments around it."""
    names = {}
    exec(CELLS["imports"], names)
    for statement in ast.parse(CELLS[f"bug-{number}-code"]).body:
        if isinstance(statement, ast.FunctionDef) or ast.unparse(statement).startswith(("alphabet =", "number =")):
            exec(ast.unparse(statement), names)
    return names[BUGS[number][0]]


@pytest.mark.parametrize("number", BUGS)
def test_the_bug_is_refused_by_name(number):
    _, check, said = BUGS[number]
    with pytest.raises(checks.Mistake, match=said):
        check(the_bug(number))


@pytest.mark.parametrize("number", BUGS)
def test_the_hunt_comes_before_the_experiment(number):
    """The symptom, an empty cell, the exercise, its hints, and only then our experiment, folded, and the cause."""
    ids = list(CELLS)
    places = [ids.index(f"bug-{number}{part}") for part in ORDER]
    assert places == sorted(places)
    assert ast.parse(CELLS[f"bug-{number}-hunt"]).body == []
    experiment = NOTEBOOK_CELLS[places[ORDER.index("-experiment")]]
    assert experiment.metadata["jupyter"]["source_hidden"]
    assert experiment.source.startswith("# Our experiment")


@pytest.mark.parametrize("number", BUGS)
def test_a_bug_runs_with_the_tools_above_and_its_own_cells_alone(number):
    names = {}
    for one in ("imports", "attempt", "bench-code", f"bug-{number}-code", f"bug-{number}-again",
                f"bug-{number}-experiment"):
        exec(CELLS.get(one, ""), names)
