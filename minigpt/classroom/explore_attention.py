"""Widgets of 02_attention: what a head looks at, and why it looks there.

From the simplest to the real thing: three scores to mix three vectors with (`mixing_desk`), one
query among three keys in the plane (`query_explorer`), what large scores do to the softmax
(`saturation_explorer`), what attention costs (`cost_explorer`), and the heads of a trained model
on a sentence of one's own (`head_explorer`). `attention_explorer` is the last one without its
switches, for the first glimpse in 00_play.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from minigpt import arguments
from minigpt.arguments import takes
from minigpt.classroom.controls import checkbox, option_slider, slider
from minigpt.classroom.doors import as_many, listed, tensor
from minigpt.classroom.plots import (
    BLACK,
    BLUE,
    DASHES,
    GREEN,
    RED,
    SMALLEST_FONT,
    Picture,
    bars,
    in_sight,
    lines,
    new_figure,
)
from minigpt.classroom.widgets import Explorer, Page

TOKENS = ("she", "was", "glad")                 # the example of the notebook, and its numbers
KEYS = torch.tensor([[1., 1.], [0., 1.], [1., 0.]])             # (3, d_head)
VALUES = torch.tensor([[2., 0.], [0., 1.], [2., -1.]])          # (3, d_head)


# ---- three scores, a mix

@takes(as_many("vectors", "tokens"), tokens=listed("words", arguments.text, low=1),
       vectors=tensor(2, "(tokens, d)"))
def mixing_desk(tokens=TOKENS, vectors: Tensor = VALUES) -> Explorer:
    """A slider for each token's score; their softmax as bars, and the mix of `vectors` it makes."""
    def draw(**scores):
        weights = torch.tensor([float(score) for score in scores.values()]).softmax(-1)       # (3,)
        mix = weights @ vectors                                                               # (d,)
        said = [in_sight(float(weight)) for weight in weights]
        shares = ", ".join(
            f"{weight} of {token}" for weight, token in zip(said, tokens, strict=True)
        )
        terms = " + ".join(
            f"{weight} · {pair(vector)}" for weight, vector in zip(said, vectors, strict=True)
        )
        return [
            bars(
                tokens,
                weights,
                limit=1.15,
                value_label="weight (share of 1)",
                show_values=in_sight,
                alt=f"{len(tokens)} bars: {shares}.",
            ),
            Page(
                f'<p class="minigpt-large">{terms} = <b>{pair(mix)}</b></p>',
                f"the mix is {pair(mix)}",
            ),
        ]
    return Explorer(draw, {f"score_{i}": slider(f"score of “{token}”", 0.0, -4.0, 4.0, 0.5)
                           for i, token in enumerate(tokens)})


def pair(vector: Tensor) -> str:
    """A short vector as on a blackboard: (2, −0.25)."""
    return f"({', '.join(f'{round(float(x), 2) + 0.0:g}'.replace('-', '−') for x in vector)})"


# ---- a query in the plane

def _in_the_plane(name, value) -> Tensor:
    """A guard: keys of two channels each."""
    keys = tensor(2, "(tokens, 2)")(name, value)
    if keys.shape[1] != 2:
        raise ValueError(f"{name} must be a tensor (tokens, 2), not of shape {tuple(keys.shape)}")
    return keys


@takes(as_many("keys", "tokens"), keys=_in_the_plane,
       tokens=listed("words", arguments.text, low=1, high=len(TOKENS)))
def query_explorer(tokens=TOKENS, keys: Tensor = KEYS) -> Explorer:
    """A query to be turned and stretched among the keys (3, 2); beside it scores and weights."""
    def draw(first, second):
        query = torch.tensor([float(first), float(second)])
        scores = keys @ query                                          # (3,), not yet divided by √d
        weights = scores.softmax(-1)
        figure, (plane, right) = new_figure(10, 4.6, columns=2, width_ratios=(1, 1.15))
        for key, token, colour, dash in zip(keys, tokens, (BLUE, RED, GREEN), DASHES, strict=False):
            arrow(plane, key, f"key of “{token}”", colour, dash)
        arrow(plane, query, "query", BLACK, "-", width=4)
        plane.set(
            xlim=(-4.2, 4.2),
            ylim=(-4.2, 4.2),
            xlabel="channel 0",
            ylabel="channel 1",
            aspect="equal",
        )
        figure.legend(
            *plane.get_legend_handles_labels(), loc="outside lower center", ncols=4
        )  # hides no arrow
        drawn = right.barh(
            range(len(tokens)),
            weights.tolist(),
            color=(BLUE, RED, GREEN),
            hatch="",
            edgecolor="white",
        )
        right.bar_label(
            drawn,
            [
                f"{w:.2f}  (score {s:g})"
                for w, s in zip(weights.tolist(), scores.tolist(), strict=True)
            ],
            padding=4,
            fontsize=SMALLEST_FONT,
        )
        right.set_yticks(range(len(tokens)), tokens)
        right.set(xlim=(0, 1.65), xticks=(0, 0.5, 1), xlabel="weight (share of 1)")
        right.invert_yaxis()
        right.grid(False, axis="y")
        shares = ", ".join(
            f"{token} {weight:.2f}" for token, weight in zip(tokens, weights, strict=True)
        )
        first = [
            token for token, score in zip(tokens, scores, strict=True) if score == scores.max()
        ]
        ahead = (
            "nobody is ahead"
            if len(first) == len(tokens)
            else f"the largest to {' and '.join(first)}"
        )
        return Picture(
            figure,
            f"The query {pair(query)} as an arrow among {len(tokens)} keys. It gives the weights "
            f"{shares}: {ahead}.",
        )
    return Explorer(draw, {"first": slider("query, channel 0", 2.0, -4.0, 4.0, 0.5),
                           "second": slider("query, channel 1", 1.0, -4.0, 4.0, 0.5)})


def arrow(axes, end: Tensor, label: str, colour: str, dash, width: float = 2.5) -> None:
    axes.plot(
        [0, float(end[0])],
        [0, float(end[1])],
        color=colour,
        linestyle=dash,
        linewidth=width,
        label=label,
    )
    axes.plot(*end.tolist(), marker="o", markersize=2.5 * width + 3, color=colour)


# ---- saturation

FIVE = torch.tensor([0.5, -1.0, 1.5, 0.0, 1.0])         # five scores of about size 1
WIDTHS = tuple(2 ** i for i in range(10))               # d = 1 to 512


@cache
def measured_variance(d: int, pairs: int = 4000) -> float:
    """The variance of q · k over random pairs of `d` independent entries, mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(d)
    q, k = torch.randn(2, pairs, d, generator=generator)
    return float((q * k).sum(-1).var())


def saturated(d: int, divide: bool) -> tuple[Tensor, Tensor, float]:
    """(weights, gradient of the largest by each score, variance) of five typical scores."""
    variance = measured_variance(d) / (d if divide else 1)
    weights = (FIVE * variance ** 0.5).softmax(-1)                          # (5,)
    largest = weights.argmax()
    own = torch.eye(len(FIVE))[largest]
    return weights, weights[largest] * (own - weights), variance  # d w_i / d s_j = w_i (δ_ij - w_j)


def saturation_explorer() -> Explorer:
    """Five scores as large as d channels give: their softmax, and what is left of its gradient."""
    def draw(d, divide):
        weights, gradient, variance = saturated(d, divide)
        figure, (left, right) = new_figure(10, 4.2, columns=2)
        show_five(left, weights, BLUE, "", "weight (share of 1)", (0, 1.15))
        show_five(
            right,
            gradient.abs(),
            RED,
            "///",
            "how strongly the largest weight\nanswers to each score (gradient)",
            (0, 0.3),
        )
        figure.suptitle(
            f"d = {d}, scores {'divided by √d' if divide else 'as they are'}: measured variance "
            f"{variance:.3g}"
        )
        return Picture(
            figure,
            f"At d = {d}, {'with' if divide else 'without'} the division, the scores' variance is "
            f"{variance:.2g}; the largest weight is {weights.max():.2f} and its strongest gradient "
            f"{gradient.abs().max():.3f}.",
        )

    return Explorer(
        draw,
        {"d": option_slider("d", 64, WIDTHS), "divide": checkbox("divide by √d", False)},
        still=saturation_picture(),
    )


def show_five(axes, numbers: Tensor, colour: str, hatch: str, label: str, limits) -> None:
    drawn = axes.bar(range(1, 6), numbers.tolist(), color=colour, hatch=hatch, edgecolor="white")
    axes.bar_label(drawn, fmt=in_sight, padding=3, fontsize=SMALLEST_FONT)
    axes.set(ylim=limits, ylabel=label, xlabel="key", xticks=range(1, 6))
    axes.grid(False, axis="x")


def saturation_picture(widths=(1, 16, 64, 256)) -> Picture:
    """The saturation at a few sizes: above without the division by √d, below with it."""
    figure, axes = new_figure(10, 4.6, rows=2, columns=len(widths), sharex=True, sharey=True)
    for row, divide in zip(axes, (False, True), strict=True):
        for panel, d in zip(row, widths, strict=True):
            weights, _, _ = saturated(d, divide)
            panel.bar(
                range(1, 6),
                weights.tolist(),
                color=GREEN if divide else BLUE,
                hatch="///" if divide else "",
                edgecolor="white",
            )
            panel.set(ylim=(0, 1.05), xticks=range(1, 6), title="" if divide else f"d = {d}")
        row[0].set_ylabel("divided by √d" if divide else "as they are")
    figure.supxlabel("key", fontsize=14)
    figure.supylabel("weight (share of 1)", fontsize=14)
    def largest(divide: bool) -> str:
        return ", ".join(f"{saturated(d, divide)[0].max():.2f}" for d in widths)

    return Picture(
        figure,
        f"The largest of the five weights at d = {', '.join(map(str, widths))}: without the "
        "division "
        f"{largest(False)}; with it {largest(True)}.",
    )


# ---- cost

LENGTHS = tuple(2 ** i for i in range(5, 15))           # T = 32 to 16,384


def cost_explorer() -> Explorer:
    """Operations of one attention layer against T: its two matrices, and its T × T part.

    The operations are multiplications and additions.
    """
    def draw(d_model):
        T = np.array(LENGTHS, dtype=float)
        picture = lines(
            {
                "the matrices: 8 T C²": (T, 8 * T * d_model**2),
                "the T × T part: 4 T² C": (T, 4 * T**2 * d_model),
            },
            log_x=True,
            log_y=True,
            x_label="T (tokens)",
            y_label="additions and multiplications",
            title=f"C = {d_model:,}: the lines cross at T = 2C = {2 * d_model:,}",
            alt=f"Two rising lines. At C = {d_model} the T × T part overtakes the "
            f"matrices at T = {2 * d_model} and rises "
            "twice as steeply.",
        )
        axes, = picture.figure.axes
        axes.set_xticks(LENGTHS[::2], [f"{length:,}" for length in LENGTHS[::2]])
        return picture

    return Explorer(
        draw, {"d_model": option_slider("C = d_model", 128, (64, 128, 256, 512, 1024, 2048, 4096))}
    )
