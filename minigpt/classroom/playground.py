"""Talk with a model: a prompt, sliders, text that streams in, the choice behind each token.

`talk` and `next_token` take any `GPT`: 00_play gives them the one that ships,
04_training_and_sampling the one that the class has just trained.
"""

import asyncio
import html
import time

import ipywidgets

from minigpt import GPT, arguments
from minigpt.arguments import number, takes
from minigpt.classroom.controls import Announcer, option_slider, slider, text_box
from minigpt.classroom.doors import a_gpt, as_many, listed, token
from minigpt.classroom.model_changes import when_trained
from minigpt.classroom.plots import token_label
from minigpt.classroom.widgets import Card, Explorer, Page, error_box, group, guarded, typed

OFF = "off"
TOP_K = (1, 2, 3, 5, 10, 20, 50, 100, OFF)
REDRAW = 0.05           # seconds between two looks at a text that streams in
SHOWN_PROMPT = 600      # characters of a long prompt that stand above its continuation
ROWS = 10               # tokens in the bars


def sampling_sliders() -> dict:
    """The controls that say how the next token is chosen."""
    return {"temperature": slider("temperature", 0.8, 0.0, 2.0, 0.05),
            "top_k": option_slider("top-k", OFF, TOP_K),
            "top_p": slider("top-p", 1.0, 0.05, 1.0, 0.05)}


def settings(temperature: float, top_k, top_p: float) -> dict:
    """What the sliders say, as `GPT`'s arguments."""
    return {"temperature": temperature, "top_k": None if top_k == OFF else top_k,
            "top_p": None if top_p >= 1 else top_p}


def about_the_prompt(gpt: GPT, prompt: str) -> str:
    """What whoever typed this prompt should know: HTML, empty where there is nothing to say."""
    if not prompt.endswith(" "):
        return ""
    words = [token for token in gpt.tokenizer.vocab if token[:1] == b" " and token[1:2].isalpha()]
    if not words:
        return ""
    example = html.escape(token_label(max(words, key=len)))
    return (
        '<p class="minigpt-note">Your prompt ends with a space. In this vocabulary the space is '
        f"the beginning of the next word (<code>{example}</code> is one token), so after it few "
        "words are left to choose from. Take the space away.</p>"
    )


class Talk(Card):
    """A prompt, sliders, a button, and the text that the model writes, as it writes it.

    `write()` is what the button does, and Enter in the box; `text` is the HTML widget with the
    result, `announcer` tells it to a screen reader once it is whole; `controls` holds the rest.
    """

    def __init__(self, gpt: GPT, prompt: str):
        self.gpt = gpt
        self.controls = {"prompt": text_box("prompt", prompt), **sampling_sliders(),
                         "length": slider("new tokens", 100, 10, 400, 10),
                         "seed": slider("seed", 1, 0, 50)}
        self.note, self.text, self.announcer = (
            ipywidgets.HTML(),
            ipywidgets.HTML(),
            Announcer(role="log"),
        )
        self.button = ipywidgets.Button(description="Write", button_style="primary")
        self.button.on_click(guarded(lambda _: self.write(), self.text))
        self.controls["prompt"].on_enter(guarded(lambda _: self.write(), self.text))
        self.controls["prompt"].observe(lambda _: self._advise(), "value")
        self.task: asyncio.Task | None = None
        self._advise()
        self._show(prompt, "".join(self._stream()))
        self.announcer.words = self._words
        super().__init__(
            [
                group(self.controls.values(), "controls"),
                self.button,
                self.note,
                self.text,
                self.announcer,
            ],
            self.text.value,
            f"Talk: {prompt}",
        )
        when_trained(gpt, self._outdated)

    def write(self) -> None:
        """Write afresh; what is still being written is given up."""
        if self.task is not None:
            self.task.cancel()
        try:
            self.task = asyncio.get_running_loop().create_task(self._write())
        except RuntimeError:                            # a plain script or a test: nobody watches
            asyncio.run(self._write())

    async def _write(self) -> None:
        # A task and not a loop in the callback: between two tokens the notebook stays alive.
        prompt, written, shown = self.controls["prompt"].value, "", time.monotonic()
        self._advise()
        try:
            for piece in self._stream():
                written += piece
                if time.monotonic() - shown > REDRAW:
                    self._show(prompt, written)
                    shown = time.monotonic()
                await asyncio.sleep(0)
            self._show(prompt, written)
            self.announcer.words = self._words
        except Exception as error:
            self.text.value = error_box(error)

    def _stream(self):
        values = {name: control.value for name, control in self.controls.items()}
        return self.gpt.stream(values["prompt"], values["length"], seed=values["seed"],
                               **settings(values["temperature"], values["top_k"], values["top_p"]))

    def _show(self, prompt: str, written: str) -> None:
        if len(prompt) > SHOWN_PROMPT:
            prompt = "… " + prompt[-SHOWN_PROMPT:]
        self._words = prompt + written
        self.text.value = ('<div class="minigpt-written minigpt-scroll" tabindex="0" role="group" '
                           f'aria-label="what the model has written"><b>{typed(prompt)}</b>'
                           f"{typed(written)}</div>")

    def _advise(self) -> None:
        self.note.value = about_the_prompt(self.gpt, self.controls["prompt"].value)

    def _outdated(self) -> None:
        self.note.value = (
            '<p class="minigpt-note">The model has been trained since this was written. '
            "<b>Write</b> asks the new one.</p>"
        )


@takes(gpt=a_gpt, prompt=arguments.text)
def talk(gpt: GPT, prompt: str = "It is a truth") -> Talk:
    """A box to type a prompt into, and what `gpt` makes of it."""
    return Talk(gpt, prompt)


@takes(gpt=a_gpt, prompt=arguments.text)
def next_token(gpt: GPT, prompt: str = "It is a truth universally") -> Explorer:
    """Bars of the likeliest next tokens, which follow the prompt, the sliders, and the training."""
    def draw(prompt, **chosen):
        tokens, probabilities = gpt.next_token_probs(prompt, **settings(**chosen))
        # Temperature keeps the order, so the tokens stay in their rows while their bars move.
        return [
            about_the_prompt(gpt, prompt),
            probability_bars(tokens[:ROWS], probabilities[:ROWS].tolist()),
        ]

    explorer = Explorer(draw, {"prompt": text_box("prompt", prompt), **sampling_sliders()})
    when_trained(gpt, explorer.update)
    return explorer


@takes(as_many("probabilities", "tokens"), tokens=listed("tokens", token, low=1),
       probabilities=listed("probabilities", number(0)))
def probability_bars(tokens: list[bytes], probabilities: list[float]) -> Page:
    """Tokens and their probabilities as bars of HTML.

    A browser redraws them faster than a slider moves.
    """
    rows = "".join(
        f'<tr><td class="minigpt-token">{html.escape(token_label(token))}</td>'
        f'<td><span class="minigpt-bar" style="--share: {p:.4f}"></span>'
        f'<span>{f"{p:.3f}" if p else "0 (cut)"}</span></td></tr>'
        for token, p in zip(tokens, probabilities, strict=True))
    best = f"most likely next: {token_label(tokens[0])}, {probabilities[0]:.2f}"
    return Page(
        f'<table class="minigpt-table minigpt-bars" aria-label="{html.escape(best)}"><thead>'
        f"<tr><th>next token</th><th>probability</th></tr></thead><tbody>{rows}</tbody></table>",
        best,
    )
