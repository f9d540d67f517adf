"""What a student moves and types into: sliders, lists, boxes; and a voice for screen readers.

The voice tells what came of it. Sliders and text boxes are small widgets of our own (anywidget).
The sliders of ipywidgets have no name for a screen reader, and the number beside them cannot be
typed into by every keyboard; its text boxes send what is half typed while the kernel is busy. Ours
are the browser's own controls with a label, in `static/`. Lists and check boxes are those of
ipywidgets.
"""

from collections.abc import Callable, Iterable
from math import isfinite
from pathlib import Path

import anywidget
import ipywidgets
from traitlets import Any, Bool, Float, Int, List, TraitError, Tuple, Unicode, observe, validate

from minigpt import arguments
from minigpt.arguments import flag, number, or_none, shown, takes
from minigpt.classroom.doors import finite, in_order

STATIC = Path(__file__).with_name("static")


class NumberSlider(anywidget.AnyWidget):
    """A slider from `min` to `max`; values outside are moved to the nearer end."""

    _esm = STATIC / "slider.js"
    scale = Unicode("linear").tag(sync=True)            # or "log"
    description = Unicode().tag(sync=True)
    value = Float().tag(sync=True)
    min = Float().tag(sync=True)
    max = Float().tag(sync=True)
    step = Float().tag(sync=True)         # of the handle, in powers of ten where the scale is "log"
    decimals = Int(0).tag(sync=True)
    whole = Bool(False).tag(sync=True)
    disabled = Bool(False).tag(sync=True)

    @validate("value")
    def _inside(self, proposal):
        if not isfinite(proposal["value"]):
            raise TraitError(f"{self.description} must be a finite number, not {proposal['value']}")
        return type(proposal["value"])(max(self.min, min(self.max, proposal["value"])))


class WholeSlider(NumberSlider):
    """A slider over whole numbers."""

    value = Int().tag(sync=True)
    whole = Bool(True).tag(sync=True)


class OptionSlider(anywidget.AnyWidget):
    """A slider that steps through `options`; `value` is one of them."""

    _esm = STATIC / "slider.js"
    scale = Unicode("options").tag(sync=True)
    description = Unicode().tag(sync=True)
    options = Tuple()
    labels = List(Unicode()).tag(sync=True)
    index = Int(0).tag(sync=True)
    value = Any()
    step = Int(1).tag(sync=True)
    disabled = Bool(False).tag(sync=True)

    def __init__(self, options, value, **named):
        super().__init__(options=tuple(options), **named)
        self.value = value

    @observe("options")
    def _relabel(self, _):
        self.labels = [str(option) for option in self.options]
        self.value = self.options[0]

    @validate("value")
    def _one_of_them(self, proposal):
        if proposal["value"] not in self.options:
            allowed = ", ".join(map(str, self.options))
            raise TraitError(
                f"{self.description} must be one of {allowed}, not {proposal['value']!r}"
            )
        return proposal["value"]

    @observe("value")
    def _move(self, _):
        self.index = self.options.index(self.value)

    @observe("index")
    def _choose(self, _):
        self.value = self.options[self.index]


class TextBox(anywidget.AnyWidget):
    """A line to type in: `value` is what was committed, or, with `follow`, what stands there.

    `button`: the words on a button beside it, which does what Enter does.
    """

    _esm = STATIC / "text_box.js"
    description = Unicode().tag(sync=True)
    placeholder = Unicode().tag(sync=True)
    value = Unicode().tag(sync=True)
    follow = Bool(True).tag(sync=True)
    button = Unicode().tag(sync=True)
    disabled = Bool(False).tag(sync=True)

    def __init__(self, **named):
        super().__init__(**named)
        self._on_enter: list[Callable] = []
        self.on_msg(self._hear)

    def on_enter(self, callback: Callable) -> None:
        """`callback(text)` when Enter is pressed in the box, or its button."""
        self._on_enter.append(callback)

    def _hear(self, _, content, buffers) -> None:
        self.value = content["committed"]
        if content.get("enter"):
            for callback in self._on_enter:
                callback(self.value)


class Announcer(anywidget.AnyWidget):
    """Words for a screen reader, which speaks them once when they change; nobody else sees them."""

    _esm = STATIC / "announcer.js"
    role = Unicode("status").tag(sync=True)             # "log" for a text that grows
    words = Unicode().tag(sync=True)


_positive = number(0, open_low=True)


def _step(name, value):
    _positive(name, value)
    return finite(name, value)


def _some_options(name, value) -> list:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a list of options, not {shown(value)}")
    options = list(value)
    if not options:
        raise ValueError(f"{name} must hold at least one option, not {shown(value)}")
    return options


def _one_of_them(given: dict) -> None:
    if given["value"] not in given["options"]:
        allowed = ", ".join(map(repr, given["options"]))
        raise ValueError(f"value must be one of the options, {allowed}, not "
                         f"{shown(given['value'])}")


@takes(in_order("low", "high"), label=arguments.text, value=finite, low=finite, high=finite,
       step=or_none(_step))
def slider(label: str, value, low, high, step=None):
    """A slider over whole numbers, where all of its numbers are, or else over real ones."""
    whole = all(isinstance(n, int) for n in (value, low, high, step or 1))
    kind = WholeSlider if whole else NumberSlider
    step = step or (1 if whole else (high - low) / 100)
    return kind(
        description=label, min=low, max=high, step=step, value=value, decimals=0 if whole else 2
    )


@takes(in_order("low", "high"), label=arguments.text, value=_positive, low=_positive,
       high=_positive)
def log_slider(label: str, value: float, low: float, high: float):
    """A slider over powers of ten, from `low` to `high`, with twenty steps a decade."""
    return NumberSlider(description=label, min=low, max=high, step=0.05, value=value, scale="log")


@takes(_one_of_them, label=arguments.text, options=_some_options)
def option_slider(label: str, value, options):
    """A slider that steps through `options`, such as (1, 2, 4, 8, 16)."""
    return OptionSlider(options, value, description=label)


FULL = {"width": "auto"}                        # as wide as the place that the stylesheet gives it
LABEL = {"description_width": "140px"}          # as wide as those of the sliders


@takes(_one_of_them, label=arguments.text, options=_some_options)
def chooser(label: str, value, options):
    """A drop-down list."""
    return ipywidgets.Dropdown(
        value=value, options=list(options), description=label, style=LABEL, layout=FULL
    )


@takes(label=arguments.text, value=flag)
def checkbox(label: str, value: bool):
    """A box to tick."""
    return ipywidgets.Checkbox(value=value, description=label, indent=False, layout=FULL)


@takes(label=arguments.text, value=arguments.text, follow=flag, placeholder=arguments.text)
def text_box(label: str, value: str, *, follow: bool = True, placeholder: str = ""):
    """A line to type in, taken with Enter or when the box is left, or followed letter by letter."""
    return TextBox(description=label, value=value, follow=follow, placeholder=placeholder)
