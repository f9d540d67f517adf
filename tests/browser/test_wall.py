"""The wall in a real browser, and a class of five kernels: two that a mouse answers in JupyterLab, three beside them."""

import concurrent.futures
import os
import sys
from pathlib import Path

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from minigpt_browser_lab import PATIENCE, SCREENSHOTS
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import wall as crowd  # noqa: E402

QUESTION = "02_attention/scale"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
JOIN = "from minigpt.classroom import check_causal_mask, join, predict\njoin({address!r})"
ASK = f'predict("{QUESTION}")'
EXERCISE = """import torch

def my_mask(T):
    return torch.ones(T, T, dtype=torch.bool)

check_causal_mask(my_mask)"""
# What the kernels without a browser do: answer, and live on until the lesson is over.
BESIDE = """import os, time
predict({question!r}).answer({answer!r})
while not os.path.exists("over"):
    time.sleep(0.1)"""


@pytest.fixture
def wall(tmp_path):
    with crowd.Started(tmp_path, "--port", "0") as wall:
        yield wall


@pytest.fixture
def others(tmp_path, wall):
    """Three kernels that join and answer."""
    def lesson(answer):
        cells = [new_code_cell(JOIN.format(address=wall.address)), new_code_cell(BESIDE.format(question=QUESTION, answer=answer))]
        NotebookClient(new_notebook(cells=cells), kernel_name="python3",
                       resources={"metadata": {"path": str(tmp_path)}}).execute()

    os.environ["PYTHONPATH"] = os.pathsep.join([str(crowd.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        lessons = [pool.submit(lesson, answer) for answer in ("64", "64", "1")]
        yield
        (tmp_path / "over").touch()
    for each in lessons:
        each.result()


class Screen:
    """The wall's page at the size of a projector; what it says to the console, or asks of others, is a complaint."""

    def __init__(self, browser, wall, word=""):
        self.context = browser.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.complaints = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        home = wall.address.rsplit("/", 1)[0]
        self.page.on("request", lambda request: None if request.url.startswith((home, "data:", "blob:"))
                     else self.complaints.append(f"asked for {request.url}"))
        self.page.goto(wall.address + (f"#{word}" if word else ""))

    def says(self, words):
        self.page.get_by_text(words).first.wait_for()

    def text(self):
        return self.page.locator("main").inner_text()

    def judge(self, name):
        """Nothing that axe finds, in light and in dark; all of it on one screen, and large. Keeps a picture of each."""
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            found = Axe().run(self.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]})
            assert not found.response["violations"], (scheme, found.generate_report())
            SCREENSHOTS.mkdir(exist_ok=True)
            self.page.screenshot(path=SCREENSHOTS / f"wall_{name}_{scheme}.png")
        assert self.page.evaluate("() => document.documentElement.scrollHeight <= innerHeight"), "a part is below the screen"
        small = self.page.evaluate("""() => [...document.querySelectorAll('main :is(p, li, b, h2)')]
            .filter(it => it.checkVisibility() && it.textContent && parseFloat(getComputedStyle(it).fontSize) < 24)
            .map(it => it.textContent)""")
        assert not small, f"too small for the back row: {small}"

    def close(self):
        self.context.close()
        assert not self.complaints, self.complaints


def test_a_class_of_five_from_question_to_reveal(lab, server, browser, wall, others):
    teacher, student = Screen(browser, wall, wall.teacher), Screen(browser, wall)
    assert teacher.page.url == wall.address, "the teacher's word is out of the address bar"
    teacher.says("What does my class think?")
    teacher.judge("empty")
    class_ = [open_notebook(lab, server, wall, name) for name in ("one", "two")]
    for notebook, answer in zip(class_, ("8", "64"), strict=True):
        notebook.cell("ask").button(answer).click()
    from_question_to_reveal(teacher, student)
    exercise(teacher, class_[0])
    who_comes_back(teacher)
    for screen in (teacher, student):
        screen.close()


def open_notebook(lab, server, wall, name):
    cells = [new_code_cell(source, id=id) for id, source in (
        ("join", JOIN.format(address=wall.address)), ("ask", ASK), ("exercise", EXERCISE))]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), server.notebooks / f"{name}.ipynb")
    notebook = lab.open(name)
    for cell in ("join", "ask"):
        notebook.cell(cell).run()
    notebook.until(lambda: "The wall hears you" in notebook.cell("join").text(), "the kernel is heard")
    assert "leave() stops it" in notebook.cell("join").text()
    return notebook


def from_question_to_reveal(teacher, student):
    for screen in (teacher, student):
        screen.page.wait_for_function("() => document.querySelector('#answered').textContent === '5 of 5 have answered'")
        assert "one entry" not in screen.text() and screen.page.locator(".bar").count() == 0
    assert student.page.locator("#controls").is_hidden() and student.page.locator("#entry").is_visible()
    teacher.judge("question")
    assert teacher.page.evaluate("() => document.activeElement.id") == "reveal"
    teacher.page.keyboard.press("Enter")
    for screen in (teacher, student):
        screen.page.locator(".bar").nth(2).wait_for(state="attached")
        rows = screen.page.locator("#answers li")
        assert [row.locator(".answer").inner_text() + ": " + row.locator("b").inner_text() for row in rows.all()] == [
            "✗ 1: 1", "✓ 8: 1", "✗ 64: 3"]
        assert "Variances add, so the variance is 64." in screen.text()
    teacher.judge("revealed")


def exercise(teacher, notebook):
    notebook.cell("exercise").run()
    notebook.until(lambda: "hides nothing" in notebook.errors().get("exercise", ""), "the mistake is named")
    teacher.says("Exercise causal mask: 0 of 1 have passed")             # a line: most are at the question
    teacher.page.locator("#view").select_option("exercise")
    teacher.says("Your mask hides nothing")
    assert "1 ×" in teacher.text()
    teacher.judge("exercise")
    teacher.page.locator("#view").select_option("")


def who_comes_back(teacher):
    """A page that is loaded again is the teacher's still; buttons pin, follow and export by keyboard."""
    page = teacher.page
    page.reload()
    page.locator("#controls").wait_for()
    page.locator("#next").focus()
    page.keyboard.press("Space")
    page.wait_for_function("() => document.querySelector('#answered').textContent === '0 of 5 have answered'")
    page.locator("#pinned").select_option("")
    teacher.says("5 of 5")
    with page.expect_download() as download:
        page.locator("#export").focus()
        page.keyboard.press("Enter")
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "name,notebook,question,text,answer,right,tries,time" and len(lines) == 7
