"""The parts that every notebook uses, in a real JupyterLab: a small notebook of its own, moved as a student would."""

import shutil

import nbformat
import pytest
from minigpt_browser_lab import PANEL
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from minigpt.classroom import student

CELLS = {
    "title": "# A small notebook",
    "imports": "from minigpt.classroom import *\nfrom minigpt.classroom.widgets import typed",
    "choose": "predict('scale', 'How large?', {'1': 'One entry.', '8': True, '64': 'The variance.'}, why='The root.')",
    "type": "predict('count', 'How many?', number=100, tempting={55: 'With the mask.'}, why='10 × 10.')",
    "bars": """def draw(n, twice):
    return bars(["n"], [n * (2 if twice else 1)], limit=30, alt=f"a bar of length {n * (2 if twice else 1)}")
Explorer(draw, {"n": slider("n", 3, 0, 9), "twice": checkbox("twice", False)})""",
    "words": """def echo(text, times):
    return typed(text * times)
Explorer(echo, {"text": text_box("text", "abc"), "times": chooser("times", 1, [1, 2, 3])}, wait=0.05)""",
    "failing": "Explorer(lambda n: f'<p>{12 // n}</p>', {'n': slider('n', 3, 0, 9)})",
    "hints": "hints('key', 'first hint', 'second hint')",
}


@pytest.fixture
def small(server):
    shutil.rmtree(server.notebooks / "answers", ignore_errors=True)
    cells = [(new_markdown_cell if name == "title" else new_code_cell)(source) for name, source in CELLS.items()]
    for cell, name in zip(cells, CELLS, strict=True):
        cell.id = name
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), server.notebooks / "small.ipynb")
    return "small"


def test_predictions_hints_and_explorers_answer_a_student(lab, small, server):
    notebook = lab.open(small)
    notebook.run_all()

    choose = notebook.cell("choose")
    choose.button("64").click()
    notebook.until(lambda: "The variance." in choose.text(), "a wrong answer is told why it tempts")
    choose.button("Show the right answer").click()
    notebook.until(lambda: "The root." in choose.text(), "the right answer is shown")
    count = notebook.cell("type")
    count.box().fill("55")
    count.box().press("Enter")
    notebook.until(lambda: "With the mask." in count.text(), "a typed answer is judged")
    count.box().fill("100")
    count.button("Answer").click()
    notebook.until(lambda: "10 × 10." in count.text(), "the right number is accepted")
    assert notebook.python("[(r['answer'], r['tries']) for r in predictions().values()]") == "[('64', 1), ('55', 2)]"
    assert (server.notebooks / "answers" / "small.json").exists()

    bars = notebook.cell("bars")
    notebook.until(lambda: bars.alt_texts() == ["a bar of length 3"], "the bar is drawn")
    bars.slider("n").press("ArrowRight", 2)
    notebook.until(lambda: bars.alt_texts() == ["a bar of length 5"], "the bar follows the arrow keys")
    bars.slider("n").drag(1.0)
    notebook.until(lambda: bars.alt_texts() == ["a bar of length 9"], "the bar follows the mouse")
    assert bars.slider("n").readout() == "9"
    bars.checkbox("twice").check()
    notebook.until(lambda: bars.alt_texts() == ["a bar of length 18"], "the bar follows the check box")

    words = notebook.cell("words")
    words.box("text").fill('<b>é🙂<img src=x onerror="alert(1)">\u202e')
    notebook.until(lambda: '<b>é🙂<img src=x onerror="alert(1)">' in words.text(), "typed HTML is shown as text")
    words.chooser("times").select_option("2")
    notebook.until(lambda: words.text().count("<b>é") == 2, "the list is followed, and heavy work catches up")
    assert words.output.locator("img").count() == 0

    failing = notebook.cell("failing")
    failing.slider("n").press("Home")
    notebook.until(lambda: "ZeroDivisionError" in failing.text(), "an error in a callback shows")
    failing.slider("n").press("End")
    notebook.until(lambda: "Error" not in failing.text(), "and goes away again")

    hints = notebook.cell("hints")
    hints.output.locator("summary").first.click()
    assert hints.output.get_by_text("first hint").is_visible()
    assert not hints.output.get_by_text("second hint").is_visible()
    notebook.screenshot("small", whole=True)


def test_what_is_typed_while_the_kernel_is_busy_is_judged_when_it_is_committed(lab, small):
    notebook = lab.open(small)
    notebook.run_all()
    count = notebook.cell("type")
    sleep = "{code: 'import time; time.sleep(4)'}"
    notebook.page.evaluate(f"() => void {PANEL}.sessionContext.session.kernel.requestExecute({sleep})")
    notebook.until(lambda: notebook.kernel_status() == "busy", "the kernel is busy")
    count.box().press_sequentially("0.5", delay=50)
    count.box().press("Enter")
    count.box().press("Backspace")
    count.box().press_sequentially("6", delay=50)
    count.button("Answer").click()
    notebook.until(lambda: "0.6" in count.text(), "both answers are judged, each whole")
    assert notebook.python("[(r['answer'], r['tries']) for r in predictions().values()]") == "[('0.5', 2)]"


def test_a_number_typed_beside_a_slider_is_obeyed(lab, small):
    notebook = lab.open(small)
    notebook.run_all()
    bars = notebook.cell("bars")
    for typed, shown in (("7", 7), ("99", 9), ("1,2", 1), ("seven", 1)):
        bars.slider("n").type(typed)
        notebook.until(lambda shown=shown: bars.alt_texts() == [f"a bar of length {shown}"], f"{typed} is taken for {shown}")
        assert bars.slider("n").readout() == str(shown)


def test_two_hundred_slider_moves_leave_no_memory_and_no_second_picture(lab, small):
    notebook = lab.open(small)
    notebook.run_all()
    bars = notebook.cell("bars")
    memory = "__import__('psutil').Process().memory_info().rss / 1e6"

    def move(times: int) -> float:
        for _ in range(times // 18):
            bars.slider("n").press("ArrowRight", 9)
            bars.slider("n").press("ArrowLeft", 9)
        notebook.until(lambda: bars.alt_texts() == ["a bar of length 0"], "the last move is drawn")
        return float(notebook.python(memory))

    before = move(36)
    assert move(200) - before < 20
    assert len(bars.pictures()) == 1 and bars.output.get_by_role("slider").count() == 1


def test_a_restarted_kernel_starts_afresh_but_for_the_answers(lab, small):
    notebook = lab.open(small)
    notebook.run_all()
    choose = notebook.cell("choose")
    choose.button("8").click()
    notebook.until(lambda: "The root." in choose.text(), "the answer is judged")
    notebook.restart()
    notebook.until(lambda: "The kernel that this belonged to is gone" in notebook.cell("bars").before(),
                   "the cards say that they are dead")
    notebook.run_all()
    assert "The kernel that this" not in notebook.cell("bars").before()
    assert "Your first answer" in choose.text() and "The root." not in choose.text()
    notebook.cell("bars").slider("n").press("ArrowRight")
    notebook.until(lambda: notebook.cell("bars").alt_texts() == ["a bar of length 4"], "the explorer lives again")
    assert notebook.cell("bars").output.get_by_role("slider").count() == 1


def test_two_notebooks_on_one_server_and_cells_out_of_order(lab, small, server):
    shutil.copy(server.notebooks / "small.ipynb", server.notebooks / "second.ipynb")
    first, second = lab.open(small), lab.open("second")
    first.run_all()

    mine, other = first.cell("bars"), second.cell("bars")
    other.run()
    assert second.errors() == {"bars": "NameError: name 'Explorer' is not defined"}
    second.cell("imports").run()
    for _ in range(2):
        other.run()
        shows_the_bar(second, other, 3)

    first.cell("choose").button("8").click()
    first.until(lambda: first.python("len(predictions())") != "0", "the answer is kept")
    assert second.python("len(predictions())") == "0"
    mine.slider("n").press("ArrowRight")
    other.slider("n").press("ArrowLeft")
    shows_the_bar(first, mine, 4)
    shows_the_bar(second, other, 2)
    first.restart()
    other.slider("n").press("Home")
    shows_the_bar(second, other, 0)


def shows_the_bar(notebook, bars, n):
    """One picture, of a bar of that length, one slider, and no error."""
    notebook.until(lambda: bars.alt_texts() == [f"a bar of length {n}"], f"the bar follows to {n}")
    assert bars.output.get_by_role("slider").count() == 1 and not notebook.errors()


def test_running_all_of_a_students_copy_goes_on_after_an_unsolved_exercise(lab, server):
    cells = [new_code_cell("from minigpt.classroom import check_causal_mask"),
             new_code_cell("def my_mask(T):\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n\n"
                           "check_causal_mask(my_mask)"),
             new_code_cell("mine = my_mask(3)"), new_code_cell("print('the end')")]
    for cell, name in zip(cells, ("imports", "exercise", "compare", "end"), strict=True):
        cell.id = name
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    copy = student.student_copy(new_notebook(cells=cells, metadata=kernel))
    nbformat.write(copy, server.notebooks / "student.ipynb")

    notebook = lab.open("student")
    notebook.run_all(may_fail=("exercise", "compare"))
    assert "my_mask is not written yet" in notebook.errors()["exercise"]
    assert "compare" in notebook.errors()
    notebook.until(lambda: notebook.cell("end").text().strip() == "the end", "the last cell has run")


def test_nothing_is_waited_for_for_ever(lab, small, monkeypatch):
    notebook = lab.open(small)
    notebook.cell("imports").run()
    monkeypatch.setattr("minigpt_browser_lab.PATIENCE", 1)
    with pytest.raises(AssertionError, match=r"small: after 1 s it is not true that the kernel answers .*sleep\(5\)"):
        notebook.python("__import__('time').sleep(5)")
    with pytest.raises(AssertionError, match=r"after 1 s it is not true that pigs fly.*have not run: \['choose', 'type'"):
        notebook.until(lambda: False, "pigs fly", 1)


def test_a_missing_browser_is_a_failure_that_says_what_to_do(browser, monkeypatch):
    from minigpt_browser_lab import Path as RealPath
    from minigpt_browser_lab import chromium

    monkeypatch.setattr(RealPath, "exists", lambda self: False)
    with pytest.raises(FileNotFoundError, match="install it"):
        chromium(type("Playwright", (), {"chromium": browser.browser_type})())
