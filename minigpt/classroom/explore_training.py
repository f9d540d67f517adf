"""Training to watch and to hold: a model that trains while you look, and sliders for the rates and draws around it.

For 04_training_and_sampling. `live_training` trains in a thread of its own, because while a cell runs the notebook hears
no click: so Pause works, and everything else in the notebook too. What it has to say lives in the kernel, so a closed tab
loses nothing.
"""

import html
import math
import threading
import time
from collections.abc import Callable, Sequence

import ipywidgets

from minigpt import GPT, corpus
from minigpt.classroom.playground import probability_bars, sampling_sliders, settings
from minigpt.classroom.plots import BLUE, RED, REFERENCE_LABEL, REFERENCE_LOSS, lines, smoothed
from minigpt.classroom.widgets import (
    Card,
    Explorer,
    chooser,
    error_box,
    guarded,
    log_slider,
    option_slider,
    slider,
    text_box,
    typed,
)
from minigpt.gpt import History
from minigpt.sampling import next_token_probs
from minigpt.training import DECAYS, evaluate, learning_rate

OWN_FILE = "a file of your own"
TEXTS = {"austen": ["austen"], "shakespeare": ["shakespeare"], "both": list(corpus.NAMES)}
BUDGETS = (10, 20, 30, 60, 120, 300, 600)
REDRAW = 0.5                # seconds between two pictures, at least
DRAWING_SHARE = 0.04        # of the time, at most, goes into pictures and samples
EVALUATIONS = 12            # the loop takes fewer where they would take more than a tenth of the budget
SAMPLE_TOKENS = 30
SAMPLES_SHOWN = 8


class LiveTraining(Card):
    """Trains `gpt` anew on a text of the student's choice, and draws its loss while it trains.

    `start`, `pause` (again, to go on) and `stop` are what the buttons do; `wait` is for scripts and tests. `gpt` is the same
    object throughout, with a fresh tokenizer and model from the moment that training begins: whatever holds it (a box to
    talk with it, bars) talks with the model of this moment. `history` and `state` say how far it is.
    """

    training: "LiveTraining | None" = None          # one at a time in a kernel: two would be half as fast each

    def __init__(self, gpt: GPT, seconds: int, size: dict):
        self.gpt, self.size = gpt, size
        self.controls = {"text": chooser("text", "austen", [*TEXTS, OWN_FILE]),
                         "file": text_box("name of your file", ""),
                         "seconds": option_slider("seconds", seconds, sorted({*BUDGETS, seconds}))}
        self.controls["file"].placeholder = "beside this notebook, plain text (UTF-8)"
        self.start_button, self.pause_button, self.stop_button = (
            ipywidgets.Button(description=label, layout={"width": "180px"}) for label in ("Start", "Pause", "Stop and keep"))
        self.start_button.button_style = "primary"
        self.status, self.picture, self.samples = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        for button, callback in ((self.start_button, self.start), (self.pause_button, self.pause),
                                 (self.stop_button, self.stop)):
            button.on_click(guarded(lambda _, callback=callback: callback(), self.status))
        self.controls["text"].observe(lambda _: self._show_controls(), "value")
        self.thread: threading.Thread | None = None
        self._going, self._stopping = threading.Event(), threading.Event()
        self._reset()
        self._enter("ready", "Choose a text and a time, then press <b>Start</b>.")
        super().__init__([*self.controls.values(), ipywidgets.HBox([self.start_button, self.pause_button, self.stop_button]),
                          self.status, self.picture, self.samples],
                         "<p><b>Live training.</b> In a running notebook: a choice of text and time; Start, Pause, Stop and "
                         "keep; the loss curve as it grows; and what the model writes along the way.</p>",
                         "Live training: Start, Pause, Stop and keep")

    # ---- what the buttons do

    def start(self) -> None:
        """Train a fresh model on the chosen text. Does nothing while one is training here; another place's is stopped."""
        if self.running:
            return
        name = self.controls["text"].value
        sources = [self.controls["file"].value.strip()] if name == OWN_FILE else TEXTS[name]
        if not sources[0]:
            raise ValueError("type the name of your file first")
        other = LiveTraining.training
        if other is not None:
            other.stop()
            other.wait()
        self._reset()
        self._stopping.clear()
        self._going.set()
        self._enter("preparing", "Reading the text and choosing its vocabulary …")
        self.thread = threading.Thread(target=self._run, args=(sources, self.controls["seconds"].value), daemon=True)
        LiveTraining.training = self
        self.thread.start()

    def pause(self) -> None:
        """Wait after this step, or go on where it waits."""
        if self.state == "training":
            self.pause_button.disabled = True       # until the step is done: `_run` knows when, and says so
            self._going.clear()
        elif self.state == "paused":
            self._going.set()

    def stop(self) -> None:
        """End training after this step, and keep the model as it is."""
        self.pause_button.disabled = self.stop_button.disabled = True
        self._stopping.set()
        self._going.set()

    def wait(self, seconds: float | None = None) -> None:
        """Until training has ended."""
        if self.thread is not None:
            self.thread.join(seconds)

    @property
    def running(self) -> bool:
        """Whether a model is in the making, paused or not."""
        return self.thread is not None and self.thread.is_alive()

    # ---- what happens in the thread

    def _run(self, sources: Sequence[str], seconds: float) -> None:
        try:
            fresh = GPT.from_files(sources, **self.size)
            if self._stopping.is_set():
                self._enter("ready", "Stopped before it began. The model is as it was.")
                return
            loop = fresh.training_loop(seconds=seconds, evaluations=EVALUATIONS)
            self.gpt.tokenizer, self.gpt.model = fresh.tokenizer, fresh.model
            self.gpt.training_text, self.gpt.validation_text = fresh.training_text, fresh.validation_text
            self._enter("training", "The first steps …")
            for report in loop:
                self._take(report, seconds)
                if not (self._going.is_set() or self._stopping.is_set()):
                    self._enter("paused", f"<b>Paused.</b> {self._progress()}")
                    self._going.wait()
                    self._enter("training", f"<b>Training.</b> {self._progress()}")
                if self._stopping.is_set():
                    break
            loop.close()                            # its last look at the weights
            self._finish(seconds)
        except Exception as error:
            self._enter("failed", error_box(error))
        finally:
            if LiveTraining.training is self:
                LiveTraining.training = None

    def _take(self, report, seconds: float) -> None:
        """Write a step down, and draw now and then: never for more than a small share of the time."""
        self.history.add(report)
        self.report = report
        self._times.append(report.seconds)
        measured = report.validation_loss is not None
        if measured:
            self._held_out.append((report.seconds, report.validation_loss))
        affordable = self.drawing_seconds < DRAWING_SHARE * report.seconds
        telling = measured or report.step & (report.step - 1) == 0         # 1, 2, 4, 8, …: most is learned early
        if report.step == 1 or (telling and affordable):
            self._sample()
        if report.step == 1 or (affordable and (measured or time.perf_counter() - self._drawn > REDRAW)):
            self._draw(seconds)

    def _finish(self, seconds: float) -> None:
        if self.gpt.validation_text is not None and self.history.val_steps[-1:] != self.history.steps[-1:]:
            self.history.val_steps.append(self.history.steps[-1])
            self.history.val_loss.append(evaluate(self.gpt.model, self.gpt.validation_text))
            self._held_out.append((self._times[-1], self.history.val_loss[-1]))
            self._sample()
        self._draw(seconds)
        self._enter("done", f"<b>Kept after step {self.report.step:,}.</b> {self._losses()} "
                            "The model is in <code>gpt</code>: go on reading, and talk with it.")

    # ---- what is shown

    def _reset(self) -> None:
        self.history, self.report = History(), None
        self._times: list[float] = []                           # seconds of training at each step
        self._held_out: list[tuple[float, float]] = []          # (seconds, loss)
        self._written: list[str] = []                           # rows of the table of samples
        self._drawn = 0.0                                       # when the last picture was
        self.drawing_seconds = 0.0                              # spent on pictures and samples so far
        self.picture.value = self.samples.value = ""

    def _enter(self, state: str, words: str) -> None:
        self.state = state
        if state == "failed":
            self.status.value = words
        else:
            self._say(words)
        self._show_controls()

    def _say(self, words: str) -> None:
        self.status.value = f'<div role="status" style="font-size: 18px; padding: 6px 0">{words}</div>'

    def _show_controls(self) -> None:
        self.controls["file"].layout.display = None if self.controls["text"].value == OWN_FILE else "none"
        active = self.state in ("preparing", "training", "paused")
        self.start_button.disabled = active
        self.pause_button.disabled = self.state not in ("training", "paused")
        self.pause_button.description = "Go on" if self.state == "paused" else "Pause"
        self.stop_button.disabled = not active

    def _progress(self) -> str:
        return (f"Step {self.report.step:,}, {self.report.seconds_left:.0f} s left, "
                f"{self.report.tokens_per_second:,.0f} tokens a second. {self._losses()}")

    def _losses(self) -> str:
        losses = f"Training loss {smoothed(self.history.train_loss)[-1]:.2f}"
        if self._held_out:
            losses += f", held out {self._held_out[-1][1]:.3f}"
        return losses + " nats per byte."

    def _draw(self, seconds: float) -> None:
        began = time.perf_counter()
        training = list(zip(self._times, smoothed(self.history.train_loss), strict=True))
        self.picture.value = loss_svg(training, self._held_out, seconds)
        if self.state == "training":
            self._say(f"<b>Training.</b> {self._progress()}")
        self._drawn = time.perf_counter()
        self.drawing_seconds += self._drawn - began

    def _sample(self) -> None:
        """A few words from the model as it stands, at the head of those before."""
        began = time.perf_counter()
        words = " ".join(self.gpt.generate("", SAMPLE_TOKENS, temperature=0.8, seed=1).split())
        self._written.insert(0, '<tr style="background: none"><td style="text-align: right; padding: 2px 10px; vertical-align: '
                                f'top; white-space: nowrap">after {self._times[-1]:.1f} s</td>'
                                f'<td style="text-align: left; padding: 2px 10px">{typed(words)}</td></tr>')
        del self._written[SAMPLES_SHOWN:]
        self.samples.value = ('<table style="font-size: 16px; max-width: 54em" aria-label="What the model writes, newest '
                              f'first"><tbody>{"".join(self._written)}</tbody></table>')
        self.drawing_seconds += time.perf_counter() - began


def live_training(gpt: GPT, seconds: int = 60, **size) -> LiveTraining:
    """A model that trains while you watch, and that `gpt` becomes. `size`: what `GPT.from_files` takes, such as d_model."""
    return LiveTraining(gpt, seconds, size)


# ---- a curve that grows, drawn by hand: a picture of matplotlib's would take a hundred times as long

WIDTH, HEIGHT = 820, 370
LEFT, RIGHT, TOP, BOTTOM = 74, 16, 34, 56
POINTS = 400                # more would be closer together than a screen's


def loss_svg(training: Sequence[tuple[float, float]], held_out: Sequence[tuple[float, float]], seconds: float) -> str:
    """The losses so far, (seconds, nats per byte) each, on axes that already hold the whole time to come."""
    losses = [loss for _, loss in [*training, *held_out] if math.isfinite(loss)]
    end = max(seconds, training[-1][0])
    low, high = max(0.0, min([*losses, REFERENCE_LOSS]) - 0.1), max([*losses, REFERENCE_LOSS + 0.3])

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point
        return (LEFT + (WIDTH - LEFT - RIGHT) * x / end, TOP + (HEIGHT - TOP - BOTTOM) * (high - y) / (high - low))

    parts = [_ticks(low, high, end, place)]
    right, level = place((end, REFERENCE_LOSS))
    parts.append(f'<line x1="{LEFT}" x2="{right:.0f}" y1="{level:.1f}" y2="{level:.1f}" stroke="#555" stroke-dasharray="2 4" '
                 f'stroke-width="2"/><text x="{right:.0f}" y="{level - 6:.1f}" text-anchor="end" fill="#333">'
                 f"{REFERENCE_LABEL}</text>")
    thin = [*training[:-1:len(training) // POINTS + 1], training[-1]]
    parts.append(f'<polyline class="training" points="{_points(thin, place)}" fill="none" stroke="{BLUE}" stroke-width="3"/>')
    parts.append(f'<polyline class="held-out" points="{_points(held_out, place)}" fill="none" stroke="{RED}" '
                 'stroke-width="2" stroke-dasharray="8 5"/>')
    parts += [f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="{RED}"/>' for x, y in map(place, held_out)]
    words = f"After {training[-1][0]:.0f} of {seconds:g} seconds the training loss is {training[-1][1]:.2f} nats per byte"
    words += f", on held-out text {held_out[-1][1]:.2f}." if held_out else "."
    return (f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(words)}" font-family="sans-serif" '
            f'font-size="16" style="width: {WIDTH}px; max-width: 100%; background: white; display: block">'
            f"{''.join(parts)}</svg>")


def _points(points: Sequence[tuple[float, float]], place: Callable) -> str:
    """As SVG writes them; a loss that is no number, right before training stops, has no place."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, points) if math.isfinite(y))


def _ticks(low: float, high: float, end: float, place: Callable) -> str:
    """Grid, numbers, names of the axes, and which line is which."""
    marks = []
    for tick in _round_numbers(low, high):
        _, y = place((0, tick))
        marks.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
                     f'<text x="{LEFT - 8}" y="{y + 6:.1f}" text-anchor="end" fill="#222">{tick:g}</text>')
    for tick in _round_numbers(0, end):
        x, _ = place((tick, low))
        marks.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 22}" text-anchor="middle" fill="#222">{tick:g}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    marks.append(f'<line x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#222"/>'
                 f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}" stroke="#222"/>'
                 f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle" fill="#222">seconds of training</text>'
                 f'<text transform="translate(20 {middle}) rotate(-90)" text-anchor="middle" fill="#222">'
                 "loss (nats per byte)</text>"
                 f'<line x1="{LEFT + 20}" x2="{LEFT + 60}" y1="16" y2="16" stroke="{BLUE}" stroke-width="3"/>'
                 f'<text x="{LEFT + 68}" y="22" fill="#222">training (smoothed)</text>'
                 f'<rect x="{LEFT + 265}" y="11" width="10" height="10" fill="{RED}"/>'
                 f'<text x="{LEFT + 284}" y="22" fill="#222">held out</text>')
    return "".join(marks)


def _round_numbers(low: float, high: float) -> list[float]:
    """Four to nine numbers between `low` and `high` that are easy to read."""
    power = 10 ** math.floor(math.log10(high - low))
    step = next(power * share for share in (0.1, 0.2, 0.5, 1, 2) if (high - low) / (power * share) <= 8.5)
    return [round(step * i, 6) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


# ---- sliders for the small examples

def descent_explorer(rate: float = 0.1) -> Explorer:
    """Gradient descent on the bowl w², from w = 4: twenty steps, whose size follows the slider."""
    def draw(rate):
        path = [4.0]
        for _ in range(20):
            path.append(path[-1] - rate * 2 * path[-1])
        shown = [w for w in path if abs(w) < 9]
        bowl = [i / 10 for i in range(-50, 51)]
        verdict = ("it runs away" if abs(path[-1]) > 4 else "it swings from side to side and never settles"
                   if abs(path[-1]) > 2 and rate > 0.9 else "it is still on its way" if abs(path[-1]) > 0.1
                   else "it has arrived")
        return lines({"loss w²": (bowl, [w * w for w in bowl]), "20 steps": (shown, [w * w for w in shown])},
                     x_label="w", y_label="loss", title=f"after 20 steps w = {path[-1]:.3g}: {verdict}",
                     alt=f"A bowl, and 20 steps in it at a learning rate of {rate:.2f}: w ends at {path[-1]:.3g}; {verdict}.")
    return Explorer(draw, {"rate": slider("learning rate", rate, 0.01, 1.05, 0.01)})


def schedule_explorer(steps: int = 400, warmup: int = 40, peak: float = 0.01, floor: float = 0.1) -> Explorer:
    """The learning rate of every step, by the package's own schedule. `floor` is a share of the peak."""
    def draw(steps, warmup, peak, floor, decay):
        rates = [learning_rate(step, steps, warmup, peak, floor * peak, decay) for step in range(steps)]
        way = "half a cosine" if decay == "cosine" else "a straight line"
        return lines({"learning rate": (range(steps), rates)}, x_label="step", y_label="learning rate",
                     alt=f"The rate climbs in a straight line to {max(rates):.2g} over {min(warmup, steps)} steps, then falls "
                         f"along {way} to {rates[-1]:.2g} at step {steps - 1}.")
    return Explorer(draw, {"steps": slider("steps", steps, 50, 1000, 50),
                           "warmup": slider("warm-up steps", warmup, 0, 200),
                           "peak": log_slider("peak rate", peak, 1e-4, 0.1),
                           "floor": slider("floor (share of peak)", floor, 0.0, 1.0, 0.05),
                           "decay": chooser("decay", "cosine", DECAYS)})


def sampling_explorer(tokens: Sequence[str], logits) -> Explorer:
    """The bars of a handful of tokens with these logits (V,), as the three knobs of sampling leave them."""
    def draw(**chosen):
        probabilities = next_token_probs(logits[None], **settings(**chosen))[0]
        order = logits.argsort(descending=True).tolist()
        return probability_bars([tokens[i].encode() for i in order], [float(probabilities[i]) for i in order])
    return Explorer(draw, sampling_sliders() | {"temperature": slider("temperature", 1.0, 0.0, 3.0, 0.05)})
