"""Training to watch: a panel with Start, Pause and Stop, and a model that trains while you look.

It trains in a thread of its own, because while a cell runs the notebook hears no click: so Pause
works, and everything else in the notebook too. What it has to say lives in the kernel, so a closed
tab loses nothing.
"""

import html
import inspect
import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import ipywidgets
from IPython import get_ipython

from minigpt import GPT, corpus
from minigpt.arguments import integer, shown, takes
from minigpt.classroom.controls import Announcer, chooser, option_slider, text_box
from minigpt.classroom.doors import a_gpt
from minigpt.classroom.growing_curve import loss_svg
from minigpt.classroom.model_changes import trained
from minigpt.classroom.plots import smoothed
from minigpt.classroom.widgets import Card, error_box, group, guarded, typed
from minigpt.gpt import SIZES
from minigpt.progress import History, StopRequest, until_stopped
from minigpt.smollm2 import SmolLM2
from minigpt.training import evaluate

OWN_FILE = "a file of your own"
TEXTS = {"austen": ["austen"], "shakespeare": ["shakespeare"], "both": list(corpus.NAMES)}
BUDGETS = (10, 20, 30, 60, 120, 300, 600)
REDRAW = 0.5                # seconds between two pictures, at least
DRAWING_SHARE = 0.04        # of the time, at most, goes into pictures and samples
EVALUATIONS = 12        # the loop takes fewer where they would take more than a tenth of the budget
FEWEST_EVALUATIONS = 4     # on a slow machine the panel takes the time for these, beside the budget
SAMPLE_TOKENS = 30
SAMPLES_SHOWN = 8
BUSY = ("preparing", "training", "paused")


class LiveTraining(Card):
    """Trains `gpt` on a text of the student's choice, and draws its loss while it trains.

    `start` (a fresh model), `go_on` (the model that is there, for as long again), `pause` (again,
    to resume) and `stop` are what the buttons do; `wait` is for scripts and tests. `gpt` is the
    same object throughout, and becomes the fresh model when training begins: whatever holds it (a
    box to talk with it, bars) talks with the model of this moment. `history` and `state` say how
    far it is.
    """

    training: "LiveTraining | None" = None      # one in a kernel: two would be half as fast each
    latest: "LiveTraining | None" = None        # the panel made last

    def __init__(self, gpt: GPT, seconds: int, size: dict):
        self.gpt, self.size = gpt, size
        self.controls = {
            "text": chooser("text", "austen", [*TEXTS, OWN_FILE]),
            "file": text_box(
                "name of your file",
                "",
                follow=False,
                placeholder="beside this notebook, plain text",
            ),
            "seconds": option_slider("seconds", seconds, sorted({*BUDGETS, seconds})),
        }
        self.status, self.picture, self.samples = (ipywidgets.HTML() for _ in range(3))
        self.announcer = Announcer()
        self.start_button = self._button("Start", self.start, "primary")
        self.pause_button = self._button("Pause", self.pause)
        self.stop_button = self._button("Stop and keep", self.stop)
        self.go_on_button = self._button("Train it further", self.go_on)
        self.page_button = self._button("Save as a web page", self.save_page)
        self.buttons = group([self.start_button, self.pause_button, self.stop_button,
                              self.go_on_button, self.page_button], "buttons")
        self.controls["text"].observe(lambda _: self._show_controls(), "value")
        self.picture.add_class("minigpt-curve")
        self.samples.add_class("minigpt-samples")
        self.thread: threading.Thread | None = None
        self.run = None                                 # the panel's own training of `gpt`
        self._going, self._stop = threading.Event(), StopRequest()
        self._reset("austen", seconds)
        self._enter("ready", "Choose a text and a time, then press <b>Start</b>.")
        super().__init__(
            [
                group(self.controls.values(), "controls"),
                self.buttons,
                self.status,
                self.announcer,
                group([self.picture, self.samples], "live"),
            ],
            "<p><b>Live training.</b> In a running notebook: a choice of text and time; Start, "
            "Pause, Stop and keep; the loss curve as it grows; and what the model writes along the "
            "way.</p>",
            "Live training: Start, Pause, Stop and keep",
        )

    def _button(self, label: str, action, style: str = "") -> ipywidgets.Button:
        button = ipywidgets.Button(description=label, button_style=style)
        button.on_click(guarded(lambda _: action(), self.status))
        return button

    # ---- what the buttons do

    def start(self) -> None:
        """Train a fresh model on the chosen text, unless one is training here.

        One that trains in another place is stopped.
        """
        if self.running:
            return
        name = self.controls["text"].value
        sources = [self.controls["file"].value.strip()] if name == OWN_FILE else TEXTS[name]
        if not sources[0]:
            raise ValueError("type the name of your file first")
        self._begin(sources[0] if name == OWN_FILE else name, sources)

    def go_on(self) -> None:
        """Train the model that is there for as long again, on the text that it has."""
        if not self.running and self.kept:
            self._begin(self.text_name, None)

    def _begin(self, name: str, sources: Sequence[str] | None) -> None:
        other = LiveTraining.training
        if other is not None:
            other.stop()
            other.wait()
        seconds = self.controls["seconds"].value
        self._stop = StopRequest()
        self._going.set()
        self._enter("preparing", f"Reading {typed(name)} and choosing its vocabulary …" if sources
                    else "Warming up again …")
        self.thread = threading.Thread(target=self._run, args=(name, seconds, sources),
                                       daemon=True)
        LiveTraining.training = self
        self.thread.start()

    def pause(self) -> None:
        """Wait after this step, or resume where it waits."""
        if self.state == "training":
            # Until the step is done: `_run` knows when, and says so.
            self.pause_button.disabled = True
            self._going.clear()
        elif self.state == "paused":
            self._going.set()

    def stop(self) -> None:
        """End training after this step, and keep the model as it is."""
        self.pause_button.disabled = self.stop_button.disabled = True
        self._stop.requested = True
        self._going.set()

    def save_page(self, path: str = "ours.html") -> None:
        """Write the trained model as a web page, beside the notebook."""
        try:
            self.gpt.save_page(path, title="Our GPT", history=self.history)
        except (ValueError, OSError) as error:      # a name that is taken, a disk that is full
            self._say(f"<b>Not saved.</b> {typed(str(error))}")
            self.announcer.words = f"Not saved. {error}"
            return
        self._say(f"Saved <code>{typed(path)}</code> beside this notebook: open it in any browser, "
                  "and take it home.")

    def wait(self, seconds: float | None = None) -> None:
        """Until training has ended."""
        if self.thread is not None:
            self.thread.join(seconds)

    @property
    def running(self) -> bool:
        """Whether a model is in the making, paused or not."""
        return self.thread is not None and self.thread.is_alive()

    # ---- what happens in the thread

    def _run(self, name: str, seconds: float, sources: Sequence[str] | None) -> None:
        try:
            gpt = self.gpt if sources is None else GPT.from_files(sources, **self.size)
            if self._stop:
                self._enter("ready", "Stopped before it began. The model is as it was.")
                return
            loop = gpt.training_loop(seconds=seconds, evaluations=EVALUATIONS)
            # Not before: where the text can't be read, there is still the model of the last time.
            self.gpt.adopt(gpt)
            self._reset(name, seconds)
            self.run = self.gpt.run
            self._enter("training", f"Training on {typed(self.text_name)}: the first steps …")
            for report in until_stopped(loop, self._stop, progress=False):
                self._take(report)
                self._pause_where_asked()
            self._finish()
        except Exception as error:
            self._enter("failed", error_box(error))
        finally:
            if LiveTraining.training is self:
                LiveTraining.training = None

    def _pause_where_asked(self) -> None:
        if not (self._going.is_set() or self._stop):
            self._enter("paused", f"<b>Paused.</b> {self._progress()}")
            self._going.wait()
            self._enter("training", f"<b>Training.</b> {self._progress()}")

    def _take(self, report) -> None:
        """Write a step down, and draw now and then: only for a small share of the time."""
        self.history.add(report)
        self.report = report
        self._times.append(report.seconds)
        measured = report.validation_loss is not None
        if measured:
            self._held_out.append((report.seconds, report.validation_loss))
        elif self._a_measurement_is_missing():
            self._measure()
            measured = True
        affordable = self.drawing_seconds < DRAWING_SHARE * report.seconds
        early = report.step & (report.step - 1) == 0    # 1, 2, 4, 8, …: most is learned early
        telling = measured or early
        if report.step == 1 or (telling and affordable):
            self._sample()
        redraw = measured or time.perf_counter() - self._drawn > REDRAW
        if report.step == 1 or (affordable and redraw):
            self._draw()

    def _a_measurement_is_missing(self) -> bool:
        """Whether a quarter of the time has passed without a measurement of the held-out loss.

        The loop could not afford one.
        """
        quarters = int(FEWEST_EVALUATIONS * self.report.seconds / self.seconds)
        return (
            self.gpt.validation_text is not None
            and len(self._held_out) < quarters < FEWEST_EVALUATIONS
        )

    def _measure(self) -> None:
        loss = evaluate(self.gpt.model, self.gpt.validation_text)
        self.history.val_steps.append(self.report.step)
        self.history.val_loss.append(loss)
        self._held_out.append((self.report.seconds, loss))

    def _finish(self) -> None:
        if (
            self.gpt.validation_text is not None
            and self.history.val_steps[-1:] != self.history.steps[-1:]
        ):
            self._measure()
            self._sample()
        self.gpt.trained(self.history)
        self.kept = True
        self._draw()
        self._enter(
            "done",
            f"<b>Kept after step {self.report.step:,}.</b> {self._losses()} The model is in "
            "<code>gpt</code>: go on reading, and talk with it.",
        )
        trained(self.gpt)

    # ---- what is shown

    def _reset(self, text_name: str, seconds: float) -> None:
        self.text_name, self.seconds = text_name, seconds
        self.history, self.report = History(), None
        self.kept = False               # whether `gpt` is what a whole training has left
        self._times: list[float] = []                           # seconds of training at each step
        self._held_out: list[tuple[float, float]] = []          # (seconds, loss)
        self._written: list[str] = []                           # rows of the table of samples
        self._drawn = 0.0                                       # when the last picture was
        self.drawing_seconds = 0.0                            # spent on pictures and samples so far
        self.picture.value = self.samples.value = ""

    def _enter(self, state: str, words: str) -> None:
        self.state = state
        if state == "failed":
            self.status.value = words
        else:
            self._say(words)
            self.announcer.words = plain_words(words)         # once a state, and not twice a second
        self._show_controls()

    def _say(self, words: str) -> None:
        self.status.value = f'<div class="minigpt-status">{words}</div>'

    def _show_controls(self) -> None:
        own = self.controls["text"].value == OWN_FILE
        self.controls["file"].layout.display = None if own else "none"
        busy = self.state in BUSY
        for control in self.controls.values():
            control.disabled = busy
        self.start_button.disabled = busy
        self.start_button.description = "Start" if self.report is None or busy else "Start anew"
        self.start_button.tooltip = ("" if busy
                                     else "a fresh model; the one that is here is given up")
        self.pause_button.disabled = self.state not in ("training", "paused")
        self.pause_button.description = "Go on" if self.state == "paused" else "Pause"
        self.stop_button.disabled = not busy
        for button in (self.go_on_button, self.page_button):
            button.layout.display = None if self.kept and not busy else "none"
        self.go_on_button.tooltip = ("the same model and text; the learning rate warms up and "
                                     "falls anew")

    def _progress(self) -> str:
        left = max(0.0, self.seconds - self.report.seconds)
        return (f"On {typed(self.text_name)}: step {self.report.step:,}, {left:.0f} s left, "
                f"{self.report.tokens_per_second:,.0f} tokens a second. {self._losses()}")

    def _losses(self) -> str:
        losses = f"Training loss {smoothed(self.history.train_loss)[-1]:.2f}"
        if self._held_out:
            losses += f", held out {self._held_out[-1][1]:.3f}"
        return losses + " nats per byte."

    def _draw(self) -> None:
        began = time.perf_counter()
        training = list(zip(self._times, smoothed(self.history.train_loss), strict=True))
        self.picture.value = loss_svg(
            training, self._held_out, self.seconds, with_reference=self.text_name == "austen"
        )
        if self.state == "training":
            self._say(f"<b>Training.</b> {self._progress()}")
        self._drawn = time.perf_counter()
        self.drawing_seconds += self._drawn - began

    def _sample(self) -> None:
        """A few words from the model as it stands, at the head of those before."""
        began = time.perf_counter()
        words = " ".join(self.gpt.generate("", SAMPLE_TOKENS, temperature=0.8, seed=1).split())
        self._written.insert(
            0, f"<tr><td>{self._times[-1]:.1f}&nbsp;s</td><td>{typed(words)}</td></tr>"
        )
        del self._written[SAMPLES_SHOWN:]
        self.samples.value = (
            '<div class="minigpt-scroll" tabindex="0" role="group" aria-label="What the model '
            'writes, newest first"><table class="minigpt-table"><thead><tr><th>after</th><th>it '
            f"writes</th></tr></thead><tbody>{''.join(self._written)}</tbody></table></div>"
        )
        self.drawing_seconds += time.perf_counter() - began


def plain_words(content: str) -> str:
    """HTML of ours without its tags."""
    return html.unescape(re.sub(r"<[^>]*>", "", content))


def _to_be_trained(name, value) -> GPT:
    """A guard: a GPT that can become another one."""
    if isinstance(a_gpt(name, value), SmolLM2):
        raise ValueError(f"{name} must be a GPT that can be trained, as GPT.from_text makes it, "
                         f"not {shown(value)}")
    return value


def _sizes(name, value) -> dict:
    """A guard: what `GPT.from_files` takes, under its names."""
    allowed = {*inspect.signature(GPT.from_files).parameters, *SIZES} - {"sources", "size"}
    for word in value.keys() - allowed:
        raise TypeError(f"{name} must be of {', '.join(sorted(allowed))}, not {word!r}")
    return value


@takes(gpt=_to_be_trained, seconds=integer(1), size=_sizes)
def live_training(gpt: GPT, seconds: int = 60, **size) -> LiveTraining:
    """A model that trains while you watch, and that `gpt` becomes.

    `size`: what `GPT.from_files` takes, as d_model. Asked for again for the same `gpt` and size, it
    is the same panel, with the training that goes on in it: so a cell that has lost its panel,
    since a tab was closed, gets it back when it is run again.
    """
    latest = LiveTraining.latest
    if latest is None or latest.gpt is not gpt or latest.size != size:
        latest = LiveTraining.latest = LiveTraining(gpt, seconds, size)
    notebook = get_ipython()
    if notebook is not None:
        with suppress(ValueError):                      # it is not there, the first time
            notebook.events.unregister("post_run_cell", tell_of_a_second_training)
        notebook.events.register("post_run_cell", tell_of_a_second_training)
    return latest


def tell_of_a_second_training(_=None) -> None:
    """Say under a cell that it has trained the very model that the panel is training."""
    panel = LiveTraining.training
    if panel is not None and panel.run is not None and panel.gpt.run is not panel.run:
        panel.run = panel.gpt.run                       # said once
        print(
            "Note: the live panel was training this model at the same time. They took turns, so "
            "both have changed its weights. Press Stop and keep in the panel before you train in "
            "a cell."
        )
