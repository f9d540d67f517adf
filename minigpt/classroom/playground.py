"""Talk with a model: a prompt box, sliders for how it chooses, text that streams in, and the choice behind every token.

`talk` and `next_token` take any `GPT`: 00_play gives them the one that ships, 04_training_and_sampling the one that the
class has just trained.
"""

import asyncio
import html
import time

import ipywidgets

from minigpt import GPT
from minigpt.classroom.plots import BLUE, token_label
from minigpt.classroom.widgets import Card, Explorer, Page, error_box, guarded, option_slider, slider, text_box, typed

OFF = "off"
TOP_K = (1, 2, 3, 5, 10, 20, 50, 100, OFF)
REDRAW = 0.05           # seconds between two looks at a text that streams in
SHOWN_PROMPT = 600      # characters of a long prompt that stand above its continuation
ROWS = 10               # tokens in the bars
BAR_WIDTH = 420         # pixels of a probability of 1


def sampling_sliders() -> dict:
    """The controls that say how the next token is chosen."""
    return {"temperature": slider("temperature", 0.8, 0.0, 2.0, 0.05),
            "top_k": option_slider("top-k", OFF, TOP_K),
            "top_p": slider("top-p", 1.0, 0.05, 1.0, 0.05)}


def settings(temperature: float, top_k, top_p: float) -> dict:
    """What the sliders say, as `GPT`'s arguments."""
    return {"temperature": temperature, "top_k": None if top_k == OFF else top_k, "top_p": None if top_p >= 1 else top_p}


class Talk(Card):
    """A prompt, sliders, a button, and the text that the model writes, as it writes it.

    `write()` is what the button does; `text` is the HTML widget with the result, `controls` holds the rest.
    """

    def __init__(self, gpt: GPT, prompt: str):
        self.gpt = gpt
        self.controls = {"prompt": text_box("prompt", prompt), **sampling_sliders(),
                         "length": slider("new tokens", 100, 10, 400, 10), "seed": slider("seed", 1, 0, 50)}
        self.text = ipywidgets.HTML()
        self.button = ipywidgets.Button(description="Write", button_style="primary", layout={"width": "180px"})
        self.button.on_click(guarded(lambda _: self.write(), self.text))
        self.task: asyncio.Task | None = None
        self._show(prompt, "".join(self._stream()))
        super().__init__([*self.controls.values(), self.button, self.text], self.text.value, f"Talk: {prompt}")

    def write(self) -> None:
        """Write afresh; what is still being written is given up."""
        if self.task is not None:
            self.task.cancel()
        try:
            self.task = asyncio.get_running_loop().create_task(self._write())
        except RuntimeError:                            # a plain script or a test: nobody watches it stream in
            asyncio.run(self._write())

    async def _write(self) -> None:
        # A task and not a loop in the callback: between two tokens the notebook stays alive and the sliders move.
        prompt, written, shown = self.controls["prompt"].value, "", time.monotonic()
        try:
            for piece in self._stream():
                written += piece
                if time.monotonic() - shown > REDRAW:
                    self._show(prompt, written)
                    shown = time.monotonic()
                await asyncio.sleep(0)
            self._show(prompt, written)
        except Exception as error:
            self.text.value = error_box(error)

    def _stream(self):
        values = {name: control.value for name, control in self.controls.items()}
        return self.gpt.stream(values["prompt"], values["length"], seed=values["seed"],
                               **settings(values["temperature"], values["top_k"], values["top_p"]))

    def _show(self, prompt: str, written: str) -> None:
        if len(prompt) > SHOWN_PROMPT:
            prompt = "… " + prompt[-SHOWN_PROMPT:]
        self.text.value = ('<div role="log" style="white-space: pre-wrap; font-size: 18px; line-height: 1.5; '
                           'max-width: 46em; border-left: 6px solid #0072B2; padding: 6px 14px; margin: 8px 0">'
                           f"<b>{typed(prompt)}</b>{typed(written)}</div>")


def talk(gpt: GPT, prompt: str = "It is a truth") -> Talk:
    """A box to type a prompt into, and what `gpt` makes of it."""
    return Talk(gpt, prompt)


def next_token(gpt: GPT, prompt: str = "It is a truth universally") -> Explorer:
    """Bars of the most likely next tokens after the prompt, which follow the sliders and the typing."""
    def draw(prompt, **chosen):
        tokens, probabilities = gpt.next_token_probs(prompt, **settings(**chosen))
        # Temperature keeps the order, so the tokens stay in their rows while their bars move.
        return probability_bars(tokens[:ROWS], probabilities[:ROWS].tolist())
    return Explorer(draw, {"prompt": text_box("prompt", prompt), **sampling_sliders()})


def probability_bars(tokens: list[bytes], probabilities: list[float]) -> Page:
    """Tokens and their probabilities as bars of HTML, which a browser redraws faster than a slider moves."""
    rows = "".join(
        '<tr style="background: none">'
        f'<td style="font: 16px monospace; text-align: right; padding: 1px 8px">{html.escape(token_label(token))}</td>'
        '<td style="padding: 1px 0; text-align: left; font-size: 16px; white-space: nowrap"><span style="display: '
        f'inline-block; vertical-align: middle; background: {BLUE}; height: 20px; width: {BAR_WIDTH * p:.1f}px; '
        f'margin-right: 8px"></span><span>{f"{p:.3f}" if p else "0 (cut)"}</span></td></tr>'
        for token, p in zip(tokens, probabilities, strict=True))
    head = ('<tr style="background: none"><th style="text-align: right; padding: 1px 8px">next token</th>'
            f'<th style="text-align: left; min-width: {BAR_WIDTH + 80}px">probability</th></tr>')
    best = f"most likely next: {token_label(tokens[0])}, {probabilities[0]:.2f}"
    return Page(f'<table aria-label="{html.escape(best)}"><thead>{head}</thead><tbody>{rows}</tbody></table>', best)
