"""Widgets of 06_real_model: fewer bits a number, heads switched off, a conversation.

The real model is a `GPT`, so the widgets of the other notebooks take it too.
"""

import asyncio
import copy
import html
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache

import ipywidgets
import torch
from torch import Tensor, nn

from minigpt import GPT, arguments
from minigpt.arguments import choice, integer, nonempty_text, shown, takes
from minigpt.classroom.controls import Announcer, chooser, option_slider, slider, text_box
from minigpt.classroom.doors import NotHere, a_gpt, listed, model_of
from minigpt.classroom.playground import REDRAW
from minigpt.classroom.plots import Picture, lines
from minigpt.classroom.widgets import Card, Explorer, error_box, group, guarded, typed
from minigpt.smollm2 import SYSTEM, SmolLM2

# -------------------------------------------------------------------- where the weights are missing


def real_model() -> SmolLM2 | NotHere:
    """`GPT.pretrained("smollm2")`; where its weights are missing, what says so when it is used."""
    try:
        return GPT.pretrained("smollm2")
    except FileNotFoundError as error:
        return NotHere(f"{error}. Then restart the kernel. Sections 1 and 2 work without it.")


# ------------------------------------------------------------------------------------ bits a number

BITS = (8, 6, 5, 4, 3, 2)
BLOCK = 32                                              # numbers that share a scale and a minimum
PARTS = {"everything": "", "token embeddings": "token_embedding", "attention": ".attention.",
         "feed-forward": ".feed_forward."}              # and what the names of its weights hold


def in_bits(weight: Tensor, bits: int) -> Tensor:
    """The nearest numbers to `weight` (…, C) that `bits` bits each can say.

    Blocks of 32 share a scale and a minimum. Scale and minimum are float16, as in llama.cpp's Q4_1.
    Raises RuntimeError where 32 does not divide C.
    """
    blocks = weight.unflatten(-1, (-1, BLOCK))          # (…, C / 32, 32)
    low, high = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
    scale = ((high - low) / (2 ** bits - 1)).half().float().clamp(min=1e-8)
    low = low.half().float()
    counts = ((blocks - low) / scale).round().clamp(0, 2 ** bits - 1)
    return (counts * scale + low).flatten(-2)


def matrices(model: nn.Module, part: str = "everything") -> dict[str, nn.Parameter]:
    """The weights that are stored in few bits: matrices, whose rows are whole blocks.

    Norms and biases stay as they are.
    """
    return {name: weight for name, weight in model.named_parameters()
            if weight.dim() == 2 and PARTS[part] in name}


def gpt_in_bits(gpt: GPT, bits: int, part: str = "everything") -> GPT:
    """A copy of `gpt` with the matrices of a `part` of it rounded to `bits` bits a number."""
    model = copy.deepcopy(gpt.model)
    with torch.no_grad():
        for weight in matrices(model, part).values():
            weight.copy_(in_bits(weight, bits))
    return GPT(gpt.tokenizer, model)


def megabytes(gpt: GPT, bits: int) -> float:
    """The size of its weights on disk, with `bits` for each number of a matrix.

    To those come two float16 for each block of 32; the rest takes 32 bits.
    """
    rounded = sum(weight.numel() for weight in matrices(gpt.model).values())
    return (rounded * (bits + 2 * 16 / BLOCK) + (gpt.model.n_parameters - rounded) * 32) / 8e6


def _whole_blocks(name, value) -> GPT:
    """A guard: a GPT whose matrices have rows of whole blocks."""
    widths = {weight.shape[-1] for weight in matrices(a_gpt(name, value).model).values()}
    broken = [width for width in sorted(widths) if width % BLOCK]
    if broken:
        raise ValueError(f"{name} must have a d_model and a d_ff that {BLOCK} divides, to be "
                         f"rounded in blocks of {BLOCK} numbers, not {broken[0]}")
    return value


_some_bits = listed("whole numbers", integer(1, 8), low=1)


@takes(gpt=_whole_blocks, text=nonempty_text, prompt=arguments.text)
def bits_explorer(gpt: GPT, text: str, prompt: str = "It is a truth") -> Explorer:
    """Slide the bits a number; see the loss on `text`, what the model then writes, and its size."""
    @cache
    def measured(bits, part):
        rounded = gpt_in_bits(gpt, bits, part)
        return rounded.evaluate(text), rounded.generate(prompt, 40, temperature=0)

    whole = gpt.evaluate(text)

    def draw(bits, part):
        loss, written = measured(bits, part)
        size = f" · <b>{megabytes(gpt, bits):.2f} MB</b> on disk" if part == "everything" else ""
        return (f"<p><b>{loss:.3f}</b> nats per byte ({whole:.3f} in 32 bits){size}</p>"
                f'<div class="minigpt-written"><b>{typed(prompt)}</b>{typed(written)}</div>')

    return Explorer(draw, {"bits": option_slider("bits a number", 4, BITS[::-1]),
                           "part": chooser("rounded", "everything", PARTS)},
                    wait=0.1, still=bits_picture(gpt, text))


@takes(gpt=_whole_blocks, text=nonempty_text, part=choice(PARTS), bits=_some_bits)
def losses_in_bits(gpt: GPT, text: str, part: str, bits: Sequence[int] = BITS) -> list[float]:
    """The loss on `text`, nats per byte, with a part of the model rounded to each of `bits`."""
    return [gpt_in_bits(gpt, n, part).evaluate(text) for n in bits]


@takes(gpt=_whole_blocks, text=nonempty_text)
def bits_picture(gpt: GPT, text: str) -> Picture:
    """Loss against bits a number: for the whole model, and for each part of it rounded alone."""
    series = {part: (BITS, losses_in_bits(gpt, text, part)) for part in PARTS}
    alone = {part: losses[-1] for part, (_, losses) in series.items() if part != "everything"}
    first = max(alone, key=alone.get)
    whole = series["everything"][1]
    return lines(series, x_label="bits a number", y_label="loss (nats per byte)",
                 levels={"32 bits": gpt.evaluate(text)},
                 alt=f"The loss of the whole model is {whole[0]:.2f} at 8 bits, "
                     f"{whole[BITS.index(4)]:.2f} at 4 and "
                     f"{whole[-1]:.2f} at 2. Rounded alone to 2 bits, the {first} do the most "
                     f"harm: {alone[first]:.2f}.")


# ---------------------------------------------------------------------------------------- induction

def _a_head(name, value) -> tuple[int, int]:
    """A guard: (layer, head), both from 0."""
    at = listed("two whole numbers, a layer and a head", integer(0))(name, value)
    if len(at) != 2:
        raise ValueError(f"{name} must be a layer and a head, not {shown(value)}")
    return tuple(at)


def _heads_that_are_there(given: dict) -> None:
    config = given["gpt"].model.config
    for layer, head in given["heads"]:
        if layer >= config.n_layers or head >= config.n_heads:
            raise ValueError(f"heads must be of layers 0 to {config.n_layers - 1} and heads 0 to "
                             f"{config.n_heads - 1}, not {(layer, head)}")


@takes(_heads_that_are_there, gpt=a_gpt, heads=listed("heads, (layer, head) each", _a_head))
@contextmanager
def switched_off(gpt: GPT, heads: Sequence[tuple[int, int]]) -> Iterator[None]:
    """In here, these heads, (layer, head) counted from 0, add nothing to the stream."""
    n_heads = gpt.model.config.n_heads

    def silence(layer: int):
        silent = [head for at, head in heads if at == layer]

        def before(projection, inputs):                 # what the heads give, before it is mixed
            mixed = inputs[0].unflatten(-1, (n_heads, -1)).clone()
            mixed[..., silent, :] = 0
            return mixed.flatten(-2)
        return gpt.model.blocks[layer].attention.projection.register_forward_pre_hook(before)

    hooks = [silence(layer) for layer in {layer for layer, _ in heads}]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


# --------------------------------------------------------------------------------------------- chat

class ChatPanel(Card):
    """A conversation: what was said, a line to type in, buttons to send, to stop, to begin anew.

    The system message is part of it. `send()`, `stop()` and `restart()` are what the buttons do;
    `shown` is the HTML widget with what was said, `said` the same as a list of (who, text);
    `announcer` tells an answer to a screen reader once it is whole.
    """

    def __init__(self, gpt: SmolLM2, question: str):
        self.gpt, self.said = gpt, []
        self.task: asyncio.Task | None = None
        self.controls = {"system": text_box("system message", SYSTEM),
                         "message": text_box("you", question),
                         "temperature": slider("temperature", 0.0, 0.0, 2.0, 0.05),
                         "length": slider("longest answer", 200, 20, 500, 20),
                         "seed": slider("seed", 1, 0, 50)}
        self.shown, self.announcer = ipywidgets.HTML(), Announcer(role="log")
        self.buttons = {}
        for name, act in (("Send", self.send), ("Stop", self.stop), ("Begin anew", self.restart)):
            button = ipywidgets.Button(description=name)
            button.on_click(guarded(lambda _, act=act: act(), self.shown))
            self.buttons[name] = button
        self.buttons["Send"].button_style = "primary"
        self.controls["message"].on_enter(guarded(lambda _: self.send(), self.shown))
        self.restart()
        for _ in self._answer():                # one answer, for those who read without a kernel
            pass
        system, message, *sliders = self.controls.values()
        super().__init__(
            [group([system], "controls"), self.shown, group([message], "controls"),
             ipywidgets.HBox(list(self.buttons.values())), group(sliders, "controls"),
             self.announcer], self.shown.value, f"Chat: {question} {self.said[-1][1]}")

    def restart(self) -> None:
        """Forget what was said; the system message counts from the start."""
        self.stop()
        self.chat, self.said = self.gpt.chat(self.controls["system"].value), []
        self._show()

    def stop(self) -> None:
        """Break the answer off. What was said of it stays."""
        if self.task is not None:
            self.task.cancel()
            self.task = None

    def send(self) -> None:
        """Ask what stands in the line. An answer that is still being given is broken off."""
        self.stop()
        try:
            self.task = asyncio.get_running_loop().create_task(self._say())
        except RuntimeError:                    # a plain script or a test: nobody watches it come
            asyncio.run(self._say())

    async def _say(self) -> None:
        # A task and not a loop in the callback: between two tokens the notebook stays alive, and
        # Stop is heard.
        shown = 0.0
        try:
            with closing(self._answer()) as answer:     # its turn ends at once, also a broken one
                for _ in answer:
                    now = asyncio.get_running_loop().time()
                    if now - shown > REDRAW:
                        self._show()
                        shown = now
                    await asyncio.sleep(0)
        except Exception as error:
            self.shown.value = error_box(error)
        else:
            self._show()

    def _answer(self) -> Iterator[None]:
        """Says the message and takes in the answer, piece by piece."""
        values = {name: control.value for name, control in self.controls.items()}
        reply = self.chat.reply(values["message"], values["length"], values["temperature"],
                                seed=values["seed"])
        self.said += [("you", values["message"]), ("SmolLM2", "")]
        with closing(reply):
            for piece in reply:
                who, text = self.said[-1]
                self.said[-1] = (who, text + piece)
                yield
        self.announcer.words = self.said[-1][1]
        self._show()

    def _show(self) -> None:
        rows = "".join(f"<p><b>{html.escape(who)}:</b> {typed(text)}</p>"
                       for who, text in self.said)
        self.shown.value = ('<div class="minigpt-written minigpt-scroll" tabindex="0" role="group" '
                            f'aria-label="the conversation">{rows or "…"}</div>')


@takes(gpt=model_of(SmolLM2), question=arguments.text)
def chat(gpt: SmolLM2, question: str = "What is the capital of France?") -> ChatPanel:
    """A conversation with `gpt`. The first answer is there already, at temperature 0."""
    return ChatPanel(gpt, question)
