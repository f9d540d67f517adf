"""What a student opens and moves: cards, explorers, hints and source code.

Each widget shows as itself in a running JupyterLab. In a stored notebook, or on a code host, it
shows as plain HTML that says the same: the question and its options, the picture at the controls'
first values. Both stand in the same output, the widget view for those who have a kernel and the
HTML for those who have none: no second copy to keep.

Every callback is reachable (a test sets `.value` and reads what is shown), and an error in one
appears in a red box on the page. ipywidgets sends it to the kernel's log instead, where nobody
looks.
"""

import asyncio
import gc
import html
import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path

import ipywidgets
from IPython.display import Markdown

from minigpt.arguments import flag, instance, number, shown, takes
from minigpt.classroom.controls import STATIC, TextBox

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PARTS = (STATIC / "parts.css").read_text(encoding="utf-8")
STYLESHEET = f"<style>{(STATIC / 'cards.css').read_text(encoding='utf-8')}{PARTS}</style>"


def styled(content: str) -> str:
    """HTML that looks right where no card is near, as in a stored notebook.

    It comes with the stylesheet, if it uses it.
    """
    return f"<style>{PARTS}</style>{content}" if 'class="minigpt-' in content else content


@takes(html=instance(str), words=instance(str))
class Page:
    """HTML to show in a notebook, and plain words for where there is no HTML."""

    def __init__(self, html: str, words: str):
        self.html, self.words = html, words

    def _repr_html_(self) -> str:
        return styled(self.html)

    def __repr__(self) -> str:
        return self.words


def prose(text: str) -> str:
    """`text` as HTML: all escaped, then `back-ticked` words as code and *starred* ones emphasised.

    LaTeX between $ signs is left alone.
    """
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"(?<![\w*])\*(?![\s*])([^*<>]+?)(?<![\s*])\*(?![\w*])", r"<em>\1</em>", text)


def typed(text: str) -> str:
    """What a person typed, as HTML: escaped, and kept from turning its neighbours right to left."""
    return f"<bdi>{html.escape(text)}</bdi>"


def error_box(error: BaseException) -> str:
    """An error as a red box that says what went wrong, with the traceback folded in."""
    trace = html.escape("".join(traceback.format_exception(error)))
    return (
        f'<div role="alert" class="minigpt-error"><b>{html.escape(type(error).__name__)}</b>: '
        f"{html.escape(str(error))}<details><summary>Where</summary><pre>{trace}</pre>"
        "</details></div>"
    )


def guarded(callback: Callable, output: ipywidgets.HTML) -> Callable:
    """`callback`, with its errors shown in `output` and never lost.

    Use it on every `observe` and `on_click`.
    """
    @wraps(callback)
    def guard(*arguments, **named):
        try:
            return callback(*arguments, **named)
        except Exception as error:
            output.value = error_box(error)
    return guard


class Card(ipywidgets.VBox):
    """A widget with a static twin for where no kernel is.

    `still` is the HTML that a notebook shows then, `words` the same in plain text.
    """

    def __init__(self, children, still: str, words: str):
        self.still, self.words = still, words
        super().__init__([ipywidgets.HTML(STYLESHEET, layout={"display": "none"}), *children])
        self.add_class("minigpt")

    def _repr_mimebundle_(self, **_):
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {"text/plain": self.words, "text/html": styled(self.still), WIDGET_VIEW: view}


def group(children, name: str) -> ipywidgets.Box:
    """Widgets in a box of their own that the stylesheet lays out as `.minigpt-NAME`."""
    box = ipywidgets.Box(list(children))
    box.add_class(f"minigpt-{name}")
    return box


# Source code: static, so it works without a kernel too.

def show_source(thing) -> Markdown:
    """The source of a module, class or function of the package, read from the file that runs.

    It is shown as Markdown, so JupyterLab and code hosts highlight it in their own colours, light
    or dark.
    """
    try:
        source = inspect.getsource(thing).rstrip()
        # Of what is decorated, its own file: torch.no_grad, say, is from elsewhere.
        file = Path(inspect.getsourcefile(inspect.unwrap(thing)))
    except (TypeError, OSError):
        raise TypeError("show_source needs a module, class or function written in Python, "
                        f"not {thing!r}") from None
    package = Path(__file__).parents[1]
    ours = file.is_relative_to(package)
    name = file.relative_to(package.parent).as_posix() if ours else file.name
    fence = "`" * max([3] + [len(ticks) + 1 for ticks in re.findall("`{3,}", source)])
    return Source(f"**{name}**\n\n{fence}python\n{source}\n{fence}", name)


class Source(Markdown):
    """Source code as Markdown; in plain text, where it is from.

    The code once is enough in a stored notebook.
    """

    def __init__(self, markdown: str, name: str):
        super().__init__(markdown)
        self.name = name

    def __repr__(self) -> str:
        return f"the source of {self.name}"


# Explorers: controls, and a picture that follows them.

def _some_controls(name, value) -> Mapping[str, ipywidgets.Widget]:
    instance(Mapping, "a dict, name -> control,")(name, value)
    for key, control in value.items():
        instance(str, "a dict of names, each a str,")(name, key)
        if not hasattr(control, "value") or not hasattr(control, "observe"):
            raise TypeError(f"{name}[{key!r}] must be a control with a value, such as a slider, "
                            f"not {shown(control)}")
    return value


def _a_function(name, value) -> Callable:
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {shown(value)}")
    return value


@takes(draw=_a_function, controls=_some_controls, wait=number(0), beside=flag)
class Explorer(Card):
    """Controls above a picture that follows them; with no kernel, the picture at first values.

    `draw(**values)` gets each control's value under its name in `controls` and returns what to
    show: a Picture or a Page, HTML as a str, or a list of these. It is called while a slider is
    dragged; where it takes longer than a tenth of a second, give `wait`, the seconds of stillness
    before it is called. `still` replaces the picture for readers without a kernel. `beside` sets
    controls and picture beside each other, which suits a square picture on a wide screen.
    `controls` (name -> widget), `output` (the HTML widget), `update()` and `error` (the last
    call's, or None) stay reachable for tests. An error in the first call is raised; later ones
    show in `output`.
    """

    def __init__(
        self,
        draw: Callable,
        controls: Mapping[str, ipywidgets.Widget],
        *,
        wait: float = 0.0,
        still=None,
        beside: bool = False,
    ):
        self.draw, self.controls, self.wait = draw, dict(controls), wait
        self.error: Exception | None = None
        self._timer = None
        picture = to_html(draw(**self.values))
        self.output = ipywidgets.HTML(picture)
        self.output.add_class("minigpt-shown")
        at = ", ".join(
            f"{control.description or name}: {control.value}"
            for name, control in self.controls.items()
        )
        still = picture if still is None else to_html(still)
        typed_in = [control for control in self.controls.values() if isinstance(control, TextBox)]
        moved = [control for control in self.controls.values() if control not in typed_in]
        rows = [group(typed_in, "controls")] if typed_in else []
        parts = [group(moved, "controls"), self.output]
        super().__init__([*rows, *([group(parts, "beside")] if beside else parts)],
                         f"{still}<p><i>{html.escape(at)}</i></p>", f"Explorer: {at}")
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
        # A figure is full of reference cycles. Left to themselves, figures of 1 MB pile up by the
        # dozen before Python looks for cycles among what is no longer young; looking among the
        # young, a millisecond, finds the last one.
        gc.collect(1)

    def _changed(self) -> None:
        try:
            loop = asyncio.get_running_loop() if self.wait else None
        except RuntimeError:                          # a plain script or a test: nobody is dragging
            loop = None
        if loop is None:
            return self.update()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(self.wait, self.update)


def to_html(shown) -> str:
    """HTML of a str that is HTML already, of a Page, of anything with `_repr_html_`, or a list.

    The parts of a list stand in a column.
    """
    if isinstance(shown, str):
        return shown
    if isinstance(shown, (list, tuple)):
        return "".join(f"<div>{to_html(part)}</div>" for part in shown)
    return shown.html if isinstance(shown, Page) else shown._repr_html_()
