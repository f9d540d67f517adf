"""What a student answers, opens and moves: predictions, hints, source code and explorers.

Each widget shows as itself in a running JupyterLab. In a stored notebook, or on a code host, it shows as plain HTML
that says the same: the question and its options, the picture at the controls' first values. Both stand in the same
output, the widget view for those who have a kernel and the HTML for those who have none: no second copy to keep.

Every callback is reachable (a test sets `.value` and reads what is shown), and an error in one appears in a red box on
the page. ipywidgets sends it to the kernel's log instead, where nobody looks.
"""

import asyncio
import csv
import gc
import html
import inspect
import io
import json
import os
import re
import tempfile
import traceback
from collections.abc import Callable, Mapping
from functools import wraps
from math import isfinite, log10, nan
from pathlib import Path

import ipywidgets
from IPython.display import Markdown

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

# Widgets are 13 pixels by default: too small for a projector. The buttons grow with their text instead of cutting it.
STYLESHEET = """<style>
.minigpt { --jp-widgets-font-size: 16px; font-size: 16px; --jp-widgets-inline-height: 32px; max-width: 100%; }
.minigpt .jupyter-button { font-size: 16px; min-height: 34px; height: auto; white-space: normal; line-height: 1.4; }
.minigpt .minigpt-option { text-align: left; padding: 5px 14px; }
.minigpt .widget-html-content, .minigpt .jupyter-widget-html-content { font-size: 16px; line-height: 1.5; }
.minigpt .widget-readout, .minigpt .jupyter-widget-readout { font-size: 18px; font-weight: 600; min-width: 70px; }
</style>"""


class Page:
    """HTML to show in a notebook, and plain words for where there is no HTML."""

    def __init__(self, html: str, words: str):
        self.html, self.words = html, words

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.words


def prose(text: str) -> str:
    """`text` as HTML: everything escaped, then `back-ticked` words set as code. LaTeX between $ signs is left alone."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def typed(text: str) -> str:
    """What a person typed, as HTML: escaped, and kept from turning the text around it right to left."""
    return f"<bdi>{html.escape(text)}</bdi>"


def error_box(error: BaseException) -> str:
    """An error as a red box that says what went wrong, with the traceback folded in."""
    trace = html.escape("".join(traceback.format_exception(error)))
    return ('<div role="alert" style="border: 2px solid #d32f2f; border-left-width: 10px; padding: 8px 12px; '
            f'font-size: 16px"><b>{html.escape(type(error).__name__)}</b>: {html.escape(str(error))}'
            f'<details><summary>Where</summary><pre>{trace}</pre></details></div>')


def guarded(callback: Callable, output: ipywidgets.HTML) -> Callable:
    """`callback`, with its errors shown in `output` and never lost. Use it on every `observe` and `on_click`."""
    @wraps(callback)
    def guard(*arguments, **named):
        try:
            return callback(*arguments, **named)
        except Exception as error:
            output.value = error_box(error)
    return guard


class Card(ipywidgets.VBox):
    """A widget with a static twin: `still`, the HTML that a notebook shows without a kernel, and its plain `words`."""

    def __init__(self, children, still: str, words: str):
        self.still, self.words = still, words
        super().__init__([ipywidgets.HTML(STYLESHEET, layout={"display": "none"}), *children])
        self.add_class("minigpt")

    def _repr_mimebundle_(self, **_):
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {"text/plain": self.words, "text/html": self.still, WIDGET_VIEW: view}


# Predictions: commit first, then look.

_answers: dict[str, dict] = {}


class Predictions(dict):
    """key -> {"question", "answer" (the first one given), "right", "tries"}; shows as a small table."""

    COLUMNS = ("prediction", "your first answer", "right?", "tries")

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(key)}</td><td>{typed(record['answer'])}</td>"
            f"<td>{'✓ yes' if record['right'] else '✗ no'}</td><td>{record['tries']}</td></tr>"
            for key, record in self.items())
        head = "".join(f"<th>{column}</th>" for column in self.COLUMNS)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return table if self else "<p>No answers yet.</p>"

    def __repr__(self) -> str:
        return "\n".join(f"{key}: {record['answer']} ({'right' if record['right'] else 'wrong'}, "
                         f"{record['tries']} tries)" for key, record in self.items()) or "No answers yet."


def predictions() -> Predictions:
    """What has been answered in this kernel so far, in the order of answering."""
    return Predictions({key: dict(record) for key, record in _answers.items()})


def export_predictions(path) -> Path:
    """Writes `predictions()` to a .json or a .csv file, whole or not at all, so that a class can be compared."""
    path = Path(path)
    if path.suffix == ".json":
        text = json.dumps(_answers, ensure_ascii=False, indent=1) + "\n"
    elif path.suffix == ".csv":
        file = io.StringIO()
        table = csv.DictWriter(file, ["key", "question", "answer", "right", "tries"], lineterminator="\n")
        table.writeheader()
        table.writerows({"key": key, **record} for key, record in _answers.items())
        text = file.getvalue()
    else:
        raise ValueError(f"path must end in .json or .csv, not {path.name!r}")
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise
    return path


class Prediction(Card):
    """A question that takes an answer and then talks about it. Made by `predict`.

    `answer(text)` is what a click does. `verdict` is the HTML widget that answers back; `reveal` the button that shows
    the right answer, hidden until somebody has committed to one.
    """

    def __init__(self, key: str, question: str, controls: list, judge: Callable[[str], tuple[bool, str]],
                 solution: str, still: str, words: str):
        self.key, self.question, self.judge, self.solution = key, question, judge, solution
        self.verdict = ipywidgets.HTMLMath()
        self.reveal = ipywidgets.Button(description="Show the right answer",
                                        layout={"display": "none", "width": "auto"})
        self.reveal.on_click(guarded(lambda _: self.show_solution(), self.verdict))
        asked = ipywidgets.HTMLMath(f"<b>Predict.</b> {prose(question)}")
        super().__init__([asked, *controls, self.verdict, self.reveal], still, words)

    def answer(self, text: str) -> None:
        right, why = self.judge(text)
        record = _answers.setdefault(self.key, {"question": self.question, "answer": text, "right": right, "tries": 0})
        record["tries"] += 1
        colour, word = ("#2e7d32", "✓ Yes") if right else ("#d32f2f", "✗ Not quite")
        self.verdict.value = (f'<div role="status" style="border-left: 8px solid {colour}; padding: 4px 12px">'
                              f"<b>{word}: {typed(text)}.</b> {prose(why)}</div>")
        self.reveal.layout.display = "none" if right else None

    def show_solution(self) -> None:
        self.verdict.value = ('<div role="status" style="border-left: 8px solid #2e7d32; padding: 4px 12px">'
                              f"{self.solution}</div>")
        self.reveal.layout.display = "none"


def predict(key: str, question: str, answers: Mapping | None = None, *, why: str = "", number: float | None = None,
            tolerance: float = 0.0, tempting: Mapping[float, str] | None = None) -> Prediction:
    """A question to commit to before the reveal: choose one of `answers`, or type a number.

    `answers` is option -> why it is tempting, and True for the one that is right. For a number give `number`, the right
    one, with the absolute `tolerance` allowed, and `tempting`: wrong number -> why it is tempting. `why` says why the
    right answer is right. What is answered first is kept under `key`: see `predictions()`.
    """
    if (answers is None) == (number is None):
        raise ValueError("give either answers, to choose from, or number, to be typed")
    if answers is not None:
        return _choice(key, question, answers, why)
    return _number(key, question, float(number), tolerance, dict(tempting or {}), why)


def _choice(key, question, answers, why) -> Prediction:
    right = [option for option, reason in answers.items() if reason is True]
    if len(right) != 1:
        raise ValueError(f"answers must hold one right answer (True), not {len(right)}")

    def judge(option: str) -> tuple[bool, str]:
        return answers[option] is True, why if answers[option] is True else answers[option]

    buttons = [ipywidgets.Button(description=option, layout={"width": "auto"}) for option in answers]
    for button in buttons:
        button.add_class("minigpt-option")
    solution = f"✓ <b>{prose(right[0])}</b> {prose(why)}"
    wrong = {option: reason for option, reason in answers.items() if reason is not True}
    card = Prediction(key, question, buttons, judge, solution, _still(question, answers, solution, wrong),
                      f"Predict: {question}  [{' | '.join(answers)}]")
    card.buttons = {button.description: button for button in buttons}

    def choose(button) -> None:
        for option, other in card.buttons.items():
            if other is button:
                card.answer(option)
                other.description = f"{'✓' if answers[option] is True else '✗'} {option}"

    for button in buttons:
        button.on_click(guarded(choose, card.verdict))
    return card


def _number(key, question, number, tolerance, tempting, why) -> Prediction:
    def judge(text: str) -> tuple[bool, str]:
        value = parse_number(text)
        if abs(value - number) <= tolerance:
            return True, why
        for wrong, reason in tempting.items():
            if abs(value - wrong) <= max(tolerance, 1e-9 * abs(wrong)):
                return False, reason
        return False, "Too large." if value > number else "Too small."

    box = ipywidgets.Text(placeholder="a number", layout={"width": "180px"})
    button = ipywidgets.Button(description="Answer", layout={"width": "auto"})
    solution = f"✓ <b>{number:g}</b> {prose(why)}"
    wrong = {f"{number:g}": reason for number, reason in tempting.items()}
    card = Prediction(key, question, [ipywidgets.HBox([box, button])], judge, solution,
                      _still(question, (), solution, wrong), f"Predict: {question}  [type a number]")
    card.box, card.button = box, button

    def submit(*_) -> None:
        try:
            parse_number(box.value)
        except ValueError as error:                                 # no answer, so it does not count as one
            card.verdict.value = f"<div>{html.escape(str(error))}</div>"
        else:
            card.answer(box.value.strip())

    button.on_click(guarded(submit, card.verdict))
    pressed_enter = guarded(submit, card.verdict)
    box.on_msg(lambda _, content, buffers: pressed_enter() if content.get("event") == "submit" else None)
    return card


def _still(question: str, options, solution: str, wrong: Mapping[str, str]) -> str:
    """A prediction for those who read without a kernel: the answer is one click away, as it should be."""
    return (f"<p><b>Predict.</b> {prose(question)}</p>{_bullets(prose(option) for option in options)}"
            f"<details><summary>Decide, then open the answer</summary><p>{solution}</p>"
            f"{_bullets(f'✗ {prose(option)}: {prose(reason)}' for option, reason in wrong.items())}</details>")


def _bullets(items) -> str:
    items = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul>{items}</ul>" if items else ""


def parse_number(text: str) -> float:
    """A number as people type it: 8, 0.25, 0,25, 1/3, 1e-3, 10,000. Raises ValueError for anything else."""
    cleaned = text.strip().replace("−", "-")
    thousands = re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", cleaned)
    top, _, bottom = cleaned.replace(",", "" if thousands else ".").partition("/")
    try:
        value = float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        value = nan
    if not isfinite(value):
        raise ValueError("Type a number, such as 8, 0.25, 1/3 or 1e-3.")
    return value


# Hints and source code: static, so they work without a kernel too.

def hints(key: str, *texts: str) -> Page:
    """Hints for the exercise `key` that open one at a time: each stands inside the one before it."""
    inner = ""
    for i, text in reversed(list(enumerate(texts, 1))):
        inner = f"<details><summary>Hint {i} of {len(texts)}</summary><p>{prose(text)}</p>{inner}</details>"
    return Page(f'<div title="{html.escape(key)}">{inner}</div>', f"{len(texts)} hints for {key}")


def show_source(thing) -> Markdown:
    """The source of a module, class or function of the package, read from the file that runs.

    It is shown as Markdown, so JupyterLab and code hosts highlight it in their own colours, light or dark.
    """
    try:
        source = inspect.getsource(thing).rstrip()
        file = Path(inspect.getsourcefile(inspect.unwrap(thing)))     # a decorator such as torch.no_grad is from elsewhere
    except (TypeError, OSError):
        raise TypeError(f"show_source needs a module, class or function written in Python, not {thing!r}") from None
    package = Path(__file__).parents[1]
    name = file.relative_to(package.parent).as_posix() if file.is_relative_to(package) else file.name
    fence = "`" * max([3] + [len(ticks) + 1 for ticks in re.findall("`{3,}", source)])
    return Source(f"**{name}**\n\n{fence}python\n{source}\n{fence}", name)


class Source(Markdown):
    """Source code as Markdown; in plain text, where it is from (the code once is enough in a stored notebook)."""

    def __init__(self, markdown: str, name: str):
        super().__init__(markdown)
        self.name = name

    def __repr__(self) -> str:
        return f"the source of {self.name}"


# Explorers: controls, and a picture that follows them.

class Explorer(Card):
    """Controls above a picture that follows them; without a kernel, the picture at their first values.

    `draw(**values)` gets each control's value under its name in `controls` and returns what to show: a Picture or a
    Page, HTML as a str, or a list of these. It is called while a slider is dragged; where it takes longer than a tenth
    of a second, give `wait`, the seconds of stillness before it is called. `still` replaces the picture for readers
    without a kernel. `controls` (name -> widget), `output` (the HTML widget), `update()` and `error` (the last call's,
    or None) stay reachable for tests. An error in the first call is raised; later ones show in `output`.
    """

    def __init__(self, draw: Callable, controls: Mapping[str, ipywidgets.Widget], *, wait: float = 0.0, still=None):
        self.draw, self.controls, self.wait = draw, dict(controls), wait
        self.error: Exception | None = None
        self._timer = None
        picture = to_html(draw(**self.values))
        self.output = ipywidgets.HTML(picture)
        at = ", ".join(f"{control.description or name}: {control.value}" for name, control in self.controls.items())
        still = picture if still is None else to_html(still)
        super().__init__([*self.controls.values(), self.output], f"{still}<p><i>{html.escape(at)}</i></p>",
                         f"Explorer: {at}")
        for control in self.controls.values():
            control.observe(lambda _: self._changed(), "value")

    @property
    def values(self) -> dict:
        return {name: control.value for name, control in self.controls.items()}

    def update(self) -> None:
        """Draw again with the controls as they stand."""
        self.error = None
        try:
            self.output.value = to_html(self.draw(**self.values))
        except Exception as error:
            self.error = error
            self.output.value = error_box(error)
        # A figure is full of reference cycles. Left to themselves, figures of 1 MB pile up by the dozen before Python looks
        # for cycles among what is no longer young; looking among the young, a millisecond, finds the last one at once.
        gc.collect(1)

    def _changed(self) -> None:
        try:
            loop = asyncio.get_running_loop() if self.wait else None
        except RuntimeError:                                        # a plain script or a test: nobody is dragging
            loop = None
        if loop is None:
            return self.update()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(self.wait, self.update)


def to_html(shown) -> str:
    """HTML of a str that is HTML already, of anything with `_repr_html_`, or of a list of these, one below another."""
    if isinstance(shown, str):
        return shown
    if isinstance(shown, (list, tuple)):
        return "".join(f"<div>{to_html(part)}</div>" for part in shown)
    return shown._repr_html_()


WIDE = {"width": "560px", "max_width": "100%"}
LABEL = {"description_width": "170px"}          # one width, so that sliders below each other line up


def slider(label: str, value, low, high, step=None, *, format: str | None = None):
    """A slider over whole numbers, where all of its numbers are, or else over real ones."""
    whole = all(isinstance(n, int) for n in (value, low, high, step or 1))
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    step = step or (1 if whole else (high - low) / 100)
    return kind(value=value, min=low, max=high, step=step, description=label, style=LABEL, layout=WIDE,
                readout_format=format or ("d" if whole else ".2f"))


def log_slider(label: str, value: float, low: float, high: float, *, format: str = ".1e"):
    """A slider over powers of ten, from `low` to `high`, with twenty steps a decade."""
    return ipywidgets.FloatLogSlider(value=value, min=log10(low), max=log10(high), step=0.05, description=label,
                                     style=LABEL, layout=WIDE, readout_format=format)


def option_slider(label: str, value, options):
    """A slider that steps through `options`, such as (1, 2, 4, 8, 16)."""
    return ipywidgets.SelectionSlider(value=value, options=list(options), description=label, style=LABEL, layout=WIDE)


def chooser(label: str, value, options):
    """A drop-down list."""
    return ipywidgets.Dropdown(value=value, options=list(options), description=label, style=LABEL, layout=WIDE)


def checkbox(label: str, value: bool):
    """A box to tick."""
    return ipywidgets.Checkbox(value=value, description=label, indent=True, style=LABEL, layout=WIDE)


def text_box(label: str, value: str):
    """A line to type in; followed letter by letter."""
    return ipywidgets.Text(value=value, description=label, style=LABEL, layout=WIDE)
