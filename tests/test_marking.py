"""How what was handed in is marked: every honest answer of the bank gets all points, no trick gets any, and no student's
code brings the marking down. `test_course.py` tries the same with nbgrader around it."""

import inspect
import os
import random
import sys
from pathlib import Path

import numpy
import pytest
import torch

if not hasattr(os, "fork"):
    pytest.skip("marking needs a system that can fork", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parent))

from checks_bank import RIGHT, WRONG  # noqa: E402
from handed_in import NAME, cells, handed_in, notebook, points  # noqa: E402

from minigpt.classroom import checks  # noqa: E402
from minigpt.marking import asking, messages, worker, workers  # noqa: E402
from minigpt.marking.cells import Cell, needed  # noqa: E402
from minigpt.marking.hidden import QUESTIONS  # noqa: E402
from minigpt.marking.judge import Notebook, more_questions  # noqa: E402

CHECKS = sorted(check.__name__ for check in RIGHT)
THE_PACKAGES_OWN = {"the_packages_own"}         # calls minigpt.training.evaluate, and says so


def is_the_packages(answer) -> bool:
    return inspect.unwrap(answer).__module__.startswith("minigpt.") or answer.__name__ in THE_PACKAGES_OWN


ALL = [(check, answer, cells(answer)) for check in RIGHT for answer in RIGHT[check]]
HONEST = [pytest.param(check.__name__, written, id=f"{check.__name__}-{answer.__name__}-{number}")
          for number, (check, answer, written) in enumerate(ALL) if written and not is_the_packages(answer)]
PACKAGES = [pytest.param(check.__name__, written, id=f"{check.__name__}-{answer.__name__}")
            for check, answer, written in ALL if written and is_the_packages(answer)]
OF_THE_PACKAGE = [(check, part) for check in CHECKS for part in QUESTIONS[check].package]


def found(check: str, *texts: str, **more):
    """What the hidden questions find in an answer with these cells."""
    return handed_in(check, [Cell("", text) for text in texts], **more).findings


# ------------------------------------------------------------------------------------------------ honest answers

def test_nearly_every_answer_of_the_bank_is_tried_and_every_exercise_has_hidden_questions():
    assert sum(1 for *_, written in ALL if written is None) <= 10       # closures, which no cell can hold
    assert set(QUESTIONS) == {check.__name__ for check in RIGHT} == {
        name for name in checks.__all__ if name.startswith("check_")}


@pytest.mark.parametrize(("check", "written"), HONEST)
def test_an_honest_answer_of_the_bank_is_right_in_all_hidden_questions(check, written):
    findings = handed_in(check, written).findings
    assert findings.ordinary and findings.odd and not findings.sentence


@pytest.mark.parametrize("check", CHECKS)
def test_every_honest_answer_is_right_whatever_the_numbers_also_where_no_cell_can_hold_it(check, capsys):
    for seed, answer in enumerate(2 * RIGHT[getattr(checks, check)]):
        random.seed(seed), torch.manual_seed(seed)
        assert more_questions(answer, getattr(checks, check), 2) == 2, (seed, answer)


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("check", CHECKS)
def test_the_hidden_questions_can_be_asked_whatever_is_drawn(check, odd):
    for seed in range(40):
        random.seed(seed), torch.manual_seed(seed)
        assert len(list(QUESTIONS[check].cases(odd))) >= 2


@pytest.mark.parametrize("check", CHECKS)
def test_an_honest_answer_gets_all_points_and_the_checks_line(check):
    written = next(written for one, answer, written in ALL
                   if one.__name__ == check and written and not is_the_packages(answer))
    assert points(notebook(check, written))[0] == 4
    assert points(notebook(check, written))[1].startswith("✓")


# --------------------------------------------------------------------------------------------------- wrong answers

WRONG_BESIDE = {    # where the bank's are all closures, which no cell can hold
    "check_rms_norm": ("""import torch
def my_answer(x, weight):
    return torch.nn.functional.layer_norm(x, x.shape[-1:]) * weight""", "that is LayerNorm"),
    "check_grouped_heads": ("""from minigpt import attention
def my_answer(q, k, v, mask):
    n = q.shape[1] // k.shape[1]
    return attention(q, k.repeat(1, n, 1, 1), v.repeat(1, n, 1, 1), mask)[0]""", "dealt out like cards"),
    "check_dequantise": ("""import torch
def my_answer(packed, scale, minimum):
    return torch.stack([packed & 15, packed >> 4], -1).flatten(1) * scale + minimum""", "Your numbers alternate"),
}


@pytest.mark.parametrize("check", CHECKS)
def test_a_wrong_answer_gets_no_points_and_the_sentence_of_the_check(check):
    chosen = [(cells(answer), phrase) for answer, phrase in WRONG[getattr(checks, check)]]
    if check in WRONG_BESIDE:
        text, phrase = WRONG_BESIDE[check]
        chosen.append(([Cell("", text)], phrase))
    written, phrase = next((written, phrase) for written, phrase in chosen if written)
    earned, told = points(notebook(check, written))
    assert earned < 4 and phrase in told


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_written_gets_nothing(check):
    earned, told = points(notebook(check, [Cell("", f"def {NAME}(*inputs):\n    raise NotImplementedError()")]))
    assert earned == 0 and "is not written yet" in told


HALF = "import torch\ndef my_answer(x):\n    if len(x) > 200: return x\n" \
       "    return x.cumsum(0) / torch.arange(1, len(x) + 1)[:, None]"


def test_who_is_right_for_ordinary_inputs_alone_gets_half_of_the_second_test():
    earned, told = points(notebook("check_average", [Cell("", HALF)]))
    assert earned == 1 and "not right for an odd input: x of shape (300, 2)" in told


def test_right_numbers_that_do_harm_besides_lose_the_checks_points():
    seeded = HALF.replace("    if len(x) > 200: return x\n", "    torch.manual_seed(0)\n")
    earned, told = points(notebook("check_average", [Cell("", seeded)]))
    assert earned == 2 and "set no seed inside" in told


def test_an_answer_may_build_on_cells_of_its_own_and_on_another_exercise():
    helper = Cell("", "def total(x):\n    return x.cumsum(0)")
    half = Cell("other-solution", "def my_counts(length):\n    return 1 / 0")
    answer = Cell("", "def my_answer(x):\n    return total(x) / my_counts(len(x))")
    worked = {"other-solution": "import torch\ndef my_counts(length):\n    return torch.arange(1, length + 1)[:, None]"}
    assert points(notebook("check_average", [helper, half, answer], worked))[0] == 4      # the other one's mistake costs there
    assert points(notebook("check_average", [helper, half, answer]))[0] == 0


def test_only_what_an_answer_needs_is_run():
    texts = ["import torch", "while True: pass", "size = 1 / 0", "%matplotlib inline\nby = 2", "def f(x): return x * by",
             "if by: g = f", "h = [g(size) for size in range(3)]", "x ="]
    written = [Cell("", text) for text in texts]
    assert needed(written, len(written), ["h"]) == [3, 4, 5, 6]
    assert needed(written, len(written), ["torch", "x"]) == [0]


# --------------------------------------------------------------------------------------------- not the student's own

@pytest.mark.parametrize(("check", "written"), PACKAGES)
def test_the_packages_own_is_refused(check, written):
    findings = handed_in(check, written).findings
    assert findings.refused and "the package's own" in findings.sentence and not findings.ordinary


@pytest.mark.parametrize(("check", "part"), OF_THE_PACKAGE)
def test_the_packages_source_is_refused_as_a_copy(check, part):
    where, _, name = part.rpartition(".")
    original = worker.part(where) if where.count(".") > 1 else worker.part(part)        # of a method the whole class
    findings = found(check, f"{inspect.getsource(inspect.unwrap(original))}\nmy_answer = {name}")
    assert findings.refused and "your own" in findings.sentence


def test_a_copy_with_other_names_and_without_its_comments_is_found():
    copied = '''
import torch
def my_answer(values, t, k, p):
    first = _largest(values)
    if t == 0:
        return torch.zeros_like(values).scatter_(-1, values.argmax(-1, keepdim=True), 1.0)
    ends = torch.finfo(values.dtype)
    t = min(max(t, ends.tiny), ends.max)
    result = ((values - first) / t).softmax(-1)
    if k is None and p is None:
        return result
    a, b = result.sort(dim=-1, descending=True, stable=True)
    if k is not None:
        a[..., k:] = 0
    if p is not None:
        a /= a.sum(-1, keepdim=True)
        before = a.cumsum(-1) - a
        a[before >= max(p, ends.tiny)] = 0
    a /= a.sum(-1, keepdim=True)
    return torch.zeros_like(result).scatter_(-1, b, a)
'''
    assert "with other names" in found("check_next_token_probs", copied).sentence


@pytest.mark.parametrize(("check", "text"), [
    ("check_causal_mask", "import minigpt\nother = minigpt\nmy_answer = lambda T: other.causal_mask(T)"),
    ("check_attention", "from minigpt import attention as plain\nmy_answer = lambda *inputs: plain(*inputs)"),
    ("check_attention", "import functools, minigpt\nmy_answer = functools.partial(minigpt.attention)"),
    ("check_attention", "import minigpt\ndef my_answer(*inputs):\n    return getattr(minigpt, 'atten' + 'tion')(*inputs)"),
    ("check_block", "from minigpt import TransformerBlock\nclass my_answer(TransformerBlock):\n    pass"),
    ("check_learning_rate", "from minigpt import training as t\nmy_answer = lambda *inputs: t.learning_rate(*inputs)"),
    ("check_load", "from minigpt import GPT\nmy_answer = GPT.load"),
])
def test_the_packages_answer_is_refused_under_whatever_name(check, text):
    findings = found(check, text)
    assert findings.refused and "the package's own" in findings.sentence


DO_NOTHING = "def my_answer(*inputs): return 1"
TRICKS = [      # (cells, phrase): `check` stands for the exercise's check
    ([DO_NOTHING, "def check(answer): print('✓')"], "the check is not yours"),
    ([DO_NOTHING, "check = print"], "the check is not yours"),
    ([DO_NOTHING, "from builtins import print as check"], "the check is not yours"),
    ([DO_NOTHING, "import minigpt.classroom.checks.framework as f\nf.same = lambda *i: True"], "is changed in this notebook"),
    (["import torch", DO_NOTHING, "torch.equal = torch.allclose = lambda *i, **n: True"], "is changed in this notebook"),
    (["import torch", DO_NOTHING, "setattr(torch.Tensor, '__eq__', lambda *i: True)"], "is changed in this notebook"),
    (["import torch\nt = torch", DO_NOTHING, "t.nn.Module.__call__ = None"], "is changed in this notebook"),
    (["import sys\ndef my_answer(*inputs): sys.settrace(print)"], "imports sys"),
    (["import torch\ndef my_answer(*inputs): torch.sys.settrace(print)"], "reaches for the program"),
    (["import inspect\ndef my_answer(*inputs): return inspect.stack()[1].frame.f_locals['right']"], "imports inspect"),
    (["import gc\ndef my_answer(*inputs): return gc.get_objects()[-1]"], "imports gc"),
    (["def my_answer(*inputs): return my_answer.__globals__['right']"], "reaches for the program"),
    (["import os\ndef my_answer(*inputs): os._exit(0)"], "imports os"),
    (["import atexit\natexit.register(print, '✓ all')\n" + DO_NOTHING], "imports atexit"),
    (["def my_answer(*inputs): return eval('minigpt')"], "runs a text as code"),
    (["hidden = In[-1]\ndef my_answer(*inputs): return hidden"], "looks at the notebook"),
    (["def my_answer(*inputs): return get_ipython().user_ns"], "looks at the notebook"),
    (["from minigpt.classroom.checks.tokenizer import merge as my_answer"], "which checks and marks"),
    (["from minigpt.marking.hidden import QUESTIONS\n" + DO_NOTHING + "\nmy_answer(QUESTIONS)",
      "def my_answer(*inputs): return QUESTIONS"], "which checks and marks"),
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(("texts", "phrase"), TRICKS)
def test_a_trick_is_refused_with_a_sentence(check, texts, phrase):
    findings = found(check, *(text.replace("check", check) if "def check" in text or "check =" in text or "as check" in text
                              else text for text in texts))
    assert findings.refused and phrase in findings.sentence and not findings.ordinary


@pytest.mark.parametrize("check", sorted(set(CHECKS) - {"check_load"}))
@pytest.mark.parametrize("text", [
    "from pathlib import Path\ndef my_answer(*inputs): return Path('02_attention.ipynb').read_text()",
    "import io\ndef my_answer(*inputs): return io.FileIO('02_attention.ipynb').read()",
    "from io import open as look\ndef my_answer(*inputs): return look('02_attention.ipynb').read()",
])
def test_a_file_is_nothing_to_answer_from(check, text):
    assert "reads or writes files" in found(check, text).sentence


@pytest.mark.parametrize("check", CHECKS)
def test_one_answer_for_everything_is_no_answer(check):
    """The visible example written down, or anything else that is not computed."""
    written = "import torch\ndef my_answer(*inputs):\n    return torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.67, 0.0]])"
    findings = found(check, written)
    assert not findings.ordinary and findings.sentence


def test_an_example_written_down_is_told_so():
    written = "import torch\ndef my_answer(x):\n    return torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.67, 0.0]])"
    earned, told = points(notebook("check_average", [Cell("", written)]))
    assert earned == 0 and "one and the same result whatever it is given" in told


# ---------------------------------------------------------------------- tricks that are hidden well gain nothing either

HIDDEN = "import torch\nsystem, program = (getattr(torch, a + 's') for a in ('o', 'sy'))\n"


@pytest.mark.parametrize("text", [
    HIDDEN + "def my_answer(x): system._exit(0)",
    HIDDEN + "def my_answer(x):\n    system.kill(system.getppid(), 9)\n    return x",          # the workshop starts anew
    HIDDEN + "def my_answer(x):\n    for place in range(3, 30):\n        try: system.write(place, b'✓' * 4000)\n"
             "        except OSError: pass\n    return x",
    HIDDEN + "def my_answer(x):\n    print('4')\n    program.stdout.write('✓')\n    raise SystemExit(0)",
    HIDDEN + "def my_answer(x):\n    f, right = program._getframe(), None\n    while f:\n"
             "        right, f = f.f_locals.get('right', right), f.f_back\n    return right",
    "def my_answer(x):\n    class Right:\n        def __eq__(self, other): return True\n    return Right()",
    "import torch\nclass Right(torch.Tensor):\n    def allclose(self, *o): return True\ndef my_answer(x): return Right(x)",
    HIDDEN + "def my_answer(x):\n    while system.fork(): pass",
])
def test_what_nobody_sees_gains_nothing(text):
    findings = found("check_average", text)
    assert not findings.ordinary and findings.sentence
    assert handed_in("check_average", cells(RIGHT[checks.check_average][1])).findings.odd         # and the next one is marked


def test_the_worker_knows_neither_the_checks_nor_the_hidden_questions():
    for name in ("minigpt.classroom.checks", "minigpt.marking.hidden", "minigpt.marking.judge", "nbgrader"):
        text = f"import numpy\nload = getattr(numpy, '__builtins__')['__im' + 'port__']\ndef my_answer(x): return load('{name}')"
        findings = found("check_average", text)
        assert "can't be used by an answer" in findings.sentence or "not a package" in findings.sentence


def test_a_forged_check_earns_nothing_without_right_numbers():
    """It makes the classroom's check in its own process print ✓: what earns is what the numbers say."""
    forged = ("import numpy\nload = getattr(numpy, '__builtins__')['__im' + 'port__']\n"
              "checks = getattr(load('minigpt.classroom', fromlist=['checks']), 'checks')\n"
              "getattr(checks, '__dict__', {})['check_average'] = lambda answer: print('✓ all right')\n"
              "def my_answer(x): return x")
    earned, told = points(notebook("check_average", [Cell("", forged)]))
    assert earned == 0 and "The check finds nothing wrong, and another question does" in told


# -------------------------------------------------------------------------------- what would take the marking down

@pytest.mark.parametrize(("text", "phrase"), [
    ("def my_answer(x):\n    while True: pass", "still running after"),
    ("def my_answer(x):\n    while True:\n        try: x + 1\n        except: pass", "still running after"),
    ("import torch\ndef my_answer(x): return torch.ones(10 * 2 ** 30 // 4)", "more than the 2 GB"),
    ("def my_answer(x): return bytearray(10 * 2 ** 30)", "more than the 2 GB"),
    ("def my_answer(x): return my_answer(x)", "RecursionError"),
    ("def my_answer(x): return {}['missing']", "The line is `def my_answer(x): return {}['missing']`"),
    ("def my_answer(x): raise SystemExit", "SystemExit"),
    ("import torch\ndef my_answer(x): return torch.zeros(100 * 2 ** 20 // 4)", "larger than 64 MB"),
    ("def my_answer(x):\n    x = [x]\n    for _ in range(3000): x = [x]\n    return x", "RecursionError"),
    ("x = 1 / 0\ndef my_other(x): return x", "There is no my_answer"),
    ("def my_answer(x) return x", "There is no my_answer"),
])
def test_what_hangs_or_crashes_costs_its_points_and_says_why(text, phrase, monkeypatch):
    findings = found("check_average", text)
    assert not findings.ordinary and phrase in findings.sentence


def test_one_that_sleeps_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 1)
    assert "did not answer within 1 seconds" in found("check_average", "import time\ndef my_answer(x): time.sleep(99)").sentence


def test_a_torch_that_was_changed_does_not_reach_the_next_answer():
    changing = "import torch\nload = getattr(torch, 'Tensor')\ntype.__dict__\n" + DO_NOTHING
    found("check_average", changing)
    assert handed_in("check_average", cells(RIGHT[checks.check_average][1])).findings.odd


# ------------------------------------------------------------------------------------------------------- messages

@pytest.mark.parametrize("value", [None, True, -3, 2 ** 70, 0.5, float("inf"), "Größe", b"\xff\x00", [1, [2]], (1, "a"),
                                   {(1, 2): 3}, torch.arange(6).view(2, 3), torch.tensor(1.5), torch.ones(2, dtype=torch.bool),
                                   torch.ones(2, 2)[:, 0], torch.zeros(0, 3)])
def test_a_plain_value_comes_through_as_it_is(value):
    back = messages.unpack(messages.pack(value))
    assert type(back) is type(value)
    assert torch.equal(back, value) if isinstance(value, torch.Tensor) else back == value


def test_arrays_and_their_numbers_come_as_tensors_and_numbers_and_anything_else_by_its_name():
    assert torch.equal(messages.unpack(messages.pack(numpy.arange(4)[::-1])), torch.tensor([3, 2, 1, 0]))
    assert messages.unpack(messages.pack(numpy.array(2.5))).shape == ()
    assert messages.unpack(messages.pack([numpy.int64(3), object()])) == [3, messages.Other("object")]


@pytest.mark.parametrize("message", [b"", b"\xff" * 40, b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x04null", os.urandom(300),
                                     messages.pack([torch.ones(3)])[:-5],
                                     b"\x00\x00\x00\x0e{\"tensor\":\"9\"}" + messages.pack(1)[5:]])
def test_a_message_that_is_none_is_refused(message):
    with pytest.raises(messages.Unreadable):
        messages.unpack(message)


# ------------------------------------------------------------------------------------------------ the teacher's side

def test_a_teacher_can_run_the_hidden_test_in_a_notebook(capsys):
    right = RIGHT[checks.check_average][1]
    assert more_questions(right, checks.check_average, 2) == 2
    assert more_questions(lambda x: x, checks.check_average, 2) == 0
    assert "not right for x of shape" in capsys.readouterr().out
    assert more_questions(lambda x: right(x) if len(x) < 200 else x, checks.check_average, 2) == 1


def test_a_test_of_the_teachers_own_asks_the_answer_in_its_process():
    written = [Cell("", "def my_answer(a, b): return a + b"), Cell("own", "assert my_answer(2, 3) == 5\n2.5"),
               Cell("other", "assert my_answer(2, 3) == 6, 'two and three'")]
    handed = Notebook(written, {"own", "other"}, {})
    assert handed.run_test(1) == ("", "2.5", None)
    assert str(handed.run_test(2)[2]) == "two and three"


def test_hidden_questions_are_others_each_time():
    for check in CHECKS:
        one, other = (next(iter(QUESTIONS[check].cases(False))) for _ in range(2))
        assert messages.pack(plain(one.inputs)) != messages.pack(plain(other.inputs)) or check == "check_causal_mask"


def plain(inputs: tuple) -> list:
    return [str(part) if type(part).__module__.startswith("minigpt") else part for part in inputs]


def test_every_way_of_asking_is_known_to_the_worker():
    assert {case.how for check in CHECKS for odd in (False, True) for case in QUESTIONS[check].cases(odd)} <= set(dir(asking))
