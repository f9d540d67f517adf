"""The model in numbers and pictures: what it costs, where it is large, what each part adds.

For 03_model.
"""

import math
import time
from functools import cache
from statistics import median

import torch
from torch.nn import functional as F

from minigpt import GPT, GPTConfig, GPTModel
from minigpt.arguments import instance, integer, nonempty_text, takes
from minigpt.classroom.controls import option_slider, slider
from minigpt.classroom.doors import a_gpt, a_number, listed
from minigpt.classroom.plots import (
    BLACK,
    BLUE,
    RED,
    SMALLEST_FONT,
    Picture,
    bars,
    counted,
    in_sight,
    in_words,
    lines,
    new_figure,
)
from minigpt.classroom.widgets import Explorer
from minigpt.memory import activation_bytes
from minigpt.model import evaluating

PROBE = GPTConfig(vocab_size=512, context_length=64, d_model=128, n_heads=4, n_layers=2, d_ff=512)


@takes(config=instance(GPTConfig))
def flops_per_token(config: GPTConfig) -> int:
    """Floating-point operations that training takes for a token: forward, and twice that back.

    Two for each weight of a matrix (a multiplication and an addition), and two products of T by
    d_head in each head's attention. Embeddings are looked up and cost none. Source: Kaplan et al.,
    "Scaling Laws for Neural Language Models" (2020), section 2.1.
    """
    C, T = config.d_model, config.context_length
    weights = config.n_layers * (4 * C * C + 2 * C * config.d_ff) + C * config.vocab_size
    return 3 * (2 * weights + config.n_layers * 2 * 2 * T * C)


def training_bytes(config: GPTConfig, batch_size: int) -> int:
    """Memory that training takes, about.

    Weights, gradients, Adam's two averages, and the activations kept for backward.
    """
    return 4 * 4 * sum(config.parameter_counts().values()) + activation_bytes(config, batch_size)


@cache
def measured_rate() -> float:
    """Floating-point operations a second of this machine in training, measured once.

    What it is measured on is a small model.
    """
    with torch.random.fork_rng():
        model, ids = GPTModel(PROBE), torch.randint(PROBE.vocab_size, (8, PROBE.context_length))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
        times.append(time.perf_counter() - began)
    return flops_per_token(PROBE) * ids.numel() / median(times)


UNITS_OF_TIME = ((86_400, "days"), (3600, "hours"), (60, "minutes"), (1, "s"), (1e-3, "ms"))
UNITS_OF_MEMORY = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def measured(amount: float, units) -> str:
    """An amount in the largest unit of which there is one, or else in the smallest."""
    size, name = next(((size, name) for size, name in units if amount >= size), units[-1])
    return f"{amount / size:.3g} {name}" if amount < 100 * size else f"{amount / size:,.0f} {name}"


def size_explorer() -> Explorer:
    """Slide the sizes; see each part's parameters, the work, the memory, and a step's time here."""
    def draw(vocab_size, d_model, n_layers, d_ff, context_length):
        config = GPTConfig(vocab_size, context_length, d_model, 4, n_layers, d_ff * d_model)
        batch, work = 16, flops_per_token(config)
        memory = measured(training_bytes(config, batch), UNITS_OF_MEMORY)
        time = measured(work * batch * context_length / measured_rate(), UNITS_OF_TIME)
        total = sum(config.parameter_counts().values()) / 1e6
        return [f"<p><b>{total:.2f} million parameters</b> · {work / 1e6:,.1f} million operations "
                f"a token · {memory} to train it with {batch} sequences a step · about {time} a "
                "step on this machine</p>", sizes_picture(config)]

    widths = (32, 64, 128, 192, 256, 384, 512, 768)
    vocabularies = (256, 512, 1024, 2048, 4096, 8192, 50257)
    contexts = (16, 32, 64, 128, 256, 512, 1024)
    return Explorer(draw, {"vocab_size": option_slider("vocabulary", 1024, vocabularies),
                           "d_model": option_slider("d_model", 192, widths),
                           "n_layers": slider("layers", 2, 1, 12),
                           "d_ff": slider("d_ff, in d_model", 4, 0, 8),
                           "context_length": option_slider("context", 64, contexts)},
                    wait=0.1, still=sizes_picture(GPTConfig(1024, 64, 192, 4, 2, 768)))


def sizes_picture(config: GPTConfig) -> Picture:
    """Where the parameters are. No measured time is in it: machines differ."""
    counts = config.parameter_counts()
    largest = max(counts, key=counts.get)
    return bars(list(counts), [n / 1e6 for n in counts.values()], value_label="million parameters",
                show_values=in_sight, title=f"{sum(counts.values()) / 1e6:.2f} million parameters",
                alt=f"{sum(counts.values()):,} parameters in a model with "
                    f"{counted(config.n_layers, 'layer')} and {config.d_model} channels; "
                    f"the largest part is the {largest} "
                    f"with {counts[largest]:,}.")


def norm_explorer() -> Explorer:
    """Five channels of one token before and after LayerNorm, stretched and shifted."""
    token = torch.tensor([2.0, -1.0, 0.5, 3.0, 0.0])

    def draw(scale, shift):
        before = token * scale + shift
        after = F.layer_norm(before, (5,))
        figure, panels = new_figure(10, 3.6, columns=2, sharey=True)
        for axes, values, title, colour, hatch, limit in (
            (panels[0], before, "before", BLUE, "", 16),
            (panels[1], after, "after LayerNorm", RED, "///", 2.5),
        ):
            drawn = axes.barh(
                range(5), values.tolist(), color=colour, hatch=hatch, edgecolor="white"
            )
            axes.bar_label(drawn, fmt="{:.1f}", padding=4, fontsize=SMALLEST_FONT)
            axes.axvline(0, color=BLACK, linewidth=1)
            # The axes stand still while the sliders move: only so does one see what moves.
            axes.set(
                title=title, xlabel="value", xlim=(-limit, limit), ylim=(4.5, -0.5), yticks=range(5)
            )
            axes.grid(False, axis="y")
        panels[0].set_ylabel("channel")
        (mean, size), (mean_after, size_after) = (
            (float(values.mean()), float(values.std(correction=0))) for values in (before, after))
        return Picture(figure, f"Before, the five channels have mean {mean:.1f} and standard "
                               f"deviation {size:.1f}. After LayerNorm {abs(mean_after):.1f} "
                               f"and {size_after:.1f}.")

    return Explorer(
        draw,
        {
            "scale": slider("scale", 1.0, 0.1, 3.0, 0.1),
            "shift": slider("shift", 0.0, -5.0, 5.0, 0.5),
        },
    )


def gelu_picture() -> Picture:
    """GELU beside ReLU."""
    x = torch.linspace(-4, 4, 161)
    return lines(
        {"GELU": (x, F.gelu(x)), "ReLU": (x, F.relu(x))},
        x_label="input",
        y_label="output",
        alt="Both are the input itself for large inputs and 0 for very negative ones. "
        "ReLU has a corner at 0; GELU is "
        "smooth, and dips a little below 0 on the left.",
    )


def _fits(given: dict) -> None:
    """A relation: the text has no more tokens than the model sees at once."""
    n_tokens = len(given["gpt"].tokenizer.encode(given["text"]))
    most = given["gpt"].model.config.context_length
    if n_tokens > most:
        raise ValueError(f"text must have at most {most} tokens, the gpt's context_length, not "
                         f"{n_tokens}")


@takes(_fits, gpt=a_gpt, text=nonempty_text)
def residual_norms(gpt: GPT, text: str) -> dict[str, float]:
    """How long the stream's vectors are at first, and how long what each part adds to it is.

    Means over the tokens, seen from outside: by hooks on the parts while the model reads.
    """
    model, lengths = gpt.model, {}

    def mean_length(vectors) -> float:
        return vectors.norm(dim=-1).mean().item()

    def watch(name: str):
        return lambda part, read, made: lengths.update({name: mean_length(made)})

    first = model.blocks[0].register_forward_pre_hook(
        lambda block, read: lengths.update({"embeddings": mean_length(read[0])}))
    hooks = [first]
    for i, block in enumerate(model.blocks, 1):
        hooks.append(block.attention.register_forward_hook(watch(f"attention {i}")))
        if block.feed_forward is not None:
            hooks.append(block.feed_forward.register_forward_hook(watch(f"feed-forward {i}")))
    try:
        with torch.inference_mode(), evaluating(model):
            model(torch.tensor([gpt.tokenizer.encode(text)], device=gpt.device))
    finally:
        for hook in hooks:
            hook.remove()
    return lengths


@takes(_fits, gpt=a_gpt, text=nonempty_text)
def residual_picture(gpt: GPT, text: str) -> Picture:
    """The same as bars."""
    norms = residual_norms(gpt, text)
    said = ", ".join(f"{name} {length:.1f}" for name, length in norms.items())
    return bars(
        list(norms),
        list(norms.values()),
        alt=f"What each part adds to the stream: {said}.",
        value_label="mean length of the vector that is added",
    )


@takes(losses=listed("numbers", a_number), vocab_size=integer(1))
def overfit_picture(losses: list[float], vocab_size: int) -> Picture:
    """The loss on one batch, seen again and again."""
    ln_v = math.log(vocab_size)
    figure, axes = new_figure(8, 4)
    axes.plot(range(1, len(losses) + 1), losses)
    axes.axhline(ln_v, linestyle=":", color="#555555")
    axes.annotate("ln V", (len(losses) * 0.8, ln_v), xytext=(0, -20), textcoords="offset points")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title="One batch, again and again")
    return Picture(
        figure,
        f"Over {counted(len(losses), 'step')} the loss {in_words(losses, 'nats per token')}. "
        f"A line marks ln V, {ln_v:.2f}.",
    )
