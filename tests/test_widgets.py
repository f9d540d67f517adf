"""Cards, explorers and shown source, driven without a browser: set a value, read what is shown."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minigpt
from minigpt.classroom import widgets
from minigpt.classroom.controls import checkbox, slider, text_box
from minigpt.classroom.plots import bars
from minigpt.classroom.widgets import Explorer, Page, prose, show_source

HOSTILE = '<img src=x onerror="alert(1)">\u202e'


def test_the_source_shown_is_the_source_that_runs():
    import inspect
    shown = show_source(minigpt.attention)
    assert inspect.getsource(minigpt.attention).rstrip() in shown.data
    assert shown.data.startswith("**minigpt/self_attention.py**") and "```python" in shown.data
    assert repr(shown) == "the source of minigpt/self_attention.py"


def test_decorated_source_is_named_by_its_own_file():
    assert show_source(minigpt.training.evaluate).name == "minigpt/training.py"


def test_source_with_a_fence_in_it_stays_in_its_own():
    shown = show_source(fenced).data
    assert shown.count("````") == 2 and shown.rstrip().endswith("````")


def fenced():
    """```python```"""


def test_a_thing_without_source_is_refused():
    with pytest.raises(TypeError, match="module, class or function"):
        show_source(3)


def squares(n, double):
    return bars(["n²"], [n * n * (2 if double else 1)], alt=f"n² is {n * n * (2 if double else 1)}")


def explorer():
    return Explorer(squares, {"n": slider("n", 3, 0, 9), "double": checkbox("twice", False)})


def test_the_picture_follows_the_controls():
    shown = explorer()
    assert "n² is 9" in shown.output.value
    shown.controls["n"].value = 5
    assert "n² is 25" in shown.output.value
    shown.controls["double"].value = True
    assert "n² is 50" in shown.output.value


def test_without_a_kernel_the_picture_stands_at_the_first_values():
    shown = explorer()
    shown.controls["n"].value = 5
    bundle = shown._repr_mimebundle_()
    assert "n² is 9" in bundle["text/html"] and "n: 3, twice: False" in bundle["text/html"]
    assert bundle["text/plain"] == "Explorer: n: 3, twice: False" and widgets.WIDGET_VIEW in bundle


def test_another_picture_can_stand_for_readers_without_a_kernel():
    shown = Explorer(squares, {"n": slider("n", 3, 0, 9), "double": checkbox("twice", False)},
                     still=[squares(1, False), Page("<p>four small ones</p>", "")])
    assert "n² is 1" in shown.still and "four small ones" in shown.still and "n² is 9" in shown.output.value


def test_an_error_while_dragging_shows_on_the_page_and_goes_away_again():
    shown = Explorer(lambda n: f"<p>{12 // n}</p>", {"n": slider("n", 3, 0, 9)})
    shown.controls["n"].value = 0
    assert "ZeroDivisionError" in shown.output.value and 'role="alert"' in shown.output.value
    assert isinstance(shown.error, ZeroDivisionError)
    shown.controls["n"].value = 4
    assert shown.output.value == "<p>3</p>" and shown.error is None


def test_an_error_at_the_first_values_stops_the_cell():
    with pytest.raises(ZeroDivisionError):
        Explorer(lambda n: 1 // n, {"n": slider("n", 0, 0, 9)})


def test_what_was_typed_is_escaped_in_messages_and_captions():
    def refuse(text):
        if text != "fine":
            raise ValueError(text)
        return Page("fine", "fine")
    shown = Explorer(refuse, {"text": text_box("text", "fine")})
    shown.controls["text"].value = HOSTILE
    assert "<img src=x" not in shown.output.value and "&lt;img src=x" in shown.output.value
    hostile = Explorer(lambda text: widgets.typed(text), {"text": text_box(HOSTILE, HOSTILE)})
    assert "<img src=x" not in hostile.still + hostile.output.value
    assert hostile.output.value.startswith("<bdi>")


def test_heavy_work_waits_until_the_slider_rests():
    calls = []

    async def drag():
        shown = Explorer(lambda n: calls.append(n) or "", {"n": slider("n", 0, 0, 9)}, wait=1)
        for n in range(1, 6):
            shown.controls["n"].value = n               # each puts the drawing off again
            await asyncio.sleep(0)
        assert calls == [0]
        while len(calls) == 1:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(drag(), 60))
    assert calls == [0, 5]


def test_any_callback_can_be_guarded():
    output = widgets.ipywidgets.HTML()
    button = widgets.ipywidgets.Button()
    button.on_click(widgets.guarded(lambda _: [][1], output))
    button.click()
    assert "IndexError" in output.value and "list index out of range" in output.value


def test_what_is_starred_is_emphasised_and_what_is_ticked_is_code():
    assert prose("`a*b` *reads* <i> 2 * 3 * 4") == "<code>a*b</code> <em>reads</em> &lt;i&gt; 2 * 3 * 4"


def test_a_stored_page_carries_its_style_and_a_live_one_has_it_once():
    styled = Page('<p class="minigpt-large">x</p>', "x")
    assert styled._repr_html_().startswith("<style>") and Page("<p>x</p>", "x")._repr_html_() == "<p>x</p>"
    shown = Explorer(lambda n: styled, {"n": slider("n", 3, 0, 9)})
    assert "<style>" in shown._repr_mimebundle_()["text/html"] and "<style>" not in shown.output.value


def test_every_class_that_is_used_has_a_rule():
    """A class that no rule names is a slip of the pen, and looks like one on the page."""
    folder = Path(widgets.__file__).parent
    used = {name for file in [*folder.glob("*.py"), *folder.glob("static/*.js")]
            for name in re.findall(r"minigpt-[a-z]+", file.read_text(encoding="utf-8"))}
    rules = "".join(file.read_text(encoding="utf-8") for file in folder.glob("static/*.css"))
    assert len(used) > 20 and used - set(re.findall(r"\.(minigpt-[a-z]+)", rules)) == set()


def test_the_finished_code_needs_no_notebook():
    code = ("import sys, minigpt; print([name for name in ('matplotlib', 'ipywidgets', 'IPython', 'minigpt.classroom') "
            "if name in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_classroom_makes_no_notebook_of_a_plain_process():
    """Where ipykernel's shell is imported, tqdm draws widgets, and a bar in a terminal shows nothing."""
    code = ("import sys, minigpt.classroom, minigpt.classroom.student, minigpt.classroom.teach; "
            "print('ipykernel.zmqshell' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
