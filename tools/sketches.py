"""The sketches that a teacher draws on the board, drawn by code: each is a picture, and words that say what it shows.

    SKETCHES["heads"]() -> Picture

The numbers are those of the notebooks, worked out here, so that what is on the board is what the class has on its screens.
"""

import math

import torch
from matplotlib.patches import Rectangle

from minigpt.classroom.plots import BLUE, GREEN, HATCHES, ORANGE, PURPLE, Picture, new_figure

TINTS = {"q": BLUE, "k": GREEN, "v": PURPLE}


def empty(width: float, height: float):
    """A sheet without axes, one unit an inch."""
    figure, axes = new_figure(width, height)
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def box(axes, x, y, words, width=1.5, height=0.7, colour="black", hatch=""):
    axes.add_patch(Rectangle((x, y), width, height, facecolor="white", edgecolor=colour, linewidth=2.5, hatch=hatch))
    axes.text(x + width / 2, y + height / 2, words, ha="center", va="center", fontsize=15,
              bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})


def arrow(axes, start, end, words="", colour="black"):
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
    if words:
        axes.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12, words, ha="center", color=colour)


def vector(numbers) -> str:
    return "(" + ", ".join(f"{number:g}".replace("-", "−") for number in numbers.tolist()) + ")"


def qkv() -> Picture:
    """The token `glad` of 02: x to q, k and v."""
    x = torch.tensor([1.0, -1.0])
    made = {"q": x @ torch.tensor([[1.0, 1.0], [-1.0, 0.0]]), "k": x @ torch.tensor([[1.0, 1.0], [0.0, 1.0]]),
            "v": x @ torch.tensor([[2.0, 0.0], [0.0, 1.0]])}
    means = {"q": "what am I looking for?", "k": "what have I to offer?", "v": "what do I hand over?"}
    figure, axes = empty(9, 3.6)
    box(axes, 0.2, 1.4, f"x = {vector(x)}", width=2.0)
    axes.text(1.2, 2.25, "glad", ha="center", fontsize=15)
    for name, y in zip("qkv", (2.6, 1.4, 0.2)):
        arrow(axes, (2.25, 1.75), (4.1, y + 0.35), f"$W_{name}$", TINTS[name])
        box(axes, 4.15, y, f"{name} = {vector(made[name])}", width=2.0, colour=TINTS[name])
        axes.text(6.3, y + 0.35, means[name], va="center")
    return Picture(figure, "From the box x of the token glad, " + vector(x) + ", three arrows lead to boxes. "
                   + " ".join(f"W_{name} makes {name} = {vector(made[name])}: {means[name]}" for name in "qkv"))


def shifted() -> Picture:
    """A window of 04 and its answers: the same text, one token later."""
    text, start, length = [7, 1, 4, 1, 5, 9, 2, 6], 2, 3
    x, y = text[start:start + length], text[start + 1:start + length + 1]
    figure, axes = empty(9, 3.3)
    for i, token in enumerate(text):
        box(axes, 0.9 + i, 2.4, str(token), width=0.9)
    for i, (read, answer) in enumerate(zip(x, y)):
        place = 0.9 + start + i
        box(axes, place, 1.3, str(read), width=0.9, colour=BLUE)
        box(axes, place, 0.2, str(answer), width=0.9, colour=ORANGE, hatch=HATCHES[1])
        arrow(axes, (place + 0.45, 1.28), (place + 0.45, 0.92))
    for y_place, words in ((2.75, "text"), (1.65, "x"), (0.55, "y")):
        axes.text(0.6, y_place, words, ha="right", va="center", fontsize=15)
    axes.text(6.2, 1.65, "what the model reads", va="center")
    axes.text(6.2, 0.55, "what it should say", va="center")
    return Picture(figure, f"Three rows of boxes. The text: {' '.join(map(str, text))}. Under it x: {' '.join(map(str, x))}. "
                   f"Under that y: {' '.join(map(str, y))}, the same text one token later. An arrow leads from each token of "
                   "x down to its answer in y.")


def heads() -> Picture:
    """The example of 02: two tokens, six channels, two heads."""
    tokens, channels, n_heads = 2, 6, 2
    width = channels // n_heads
    numbers = torch.arange(tokens * channels).view(tokens, n_heads, width)
    figure, axes = empty(9, 3.4)
    for head, colour in zip(range(n_heads), (BLUE, ORANGE)):
        for t in range(tokens):
            for c in range(width):
                number = str(int(numbers[t, head, c]))
                box(axes, 0.4 + (head * width + c) * 0.6, 1.6 - t * 0.6, number, 0.6, 0.6, colour, HATCHES[head])
                box(axes, 6.0 + c * 0.6, 2.5 - head * 1.6 - t * 0.6, number, 0.6, 0.6, colour, HATCHES[head])
        axes.text(8.0, 2.4 - head * 1.6, f"head {head}", va="center")
        arrow(axes, (4.2, 1.6), (5.8, 2.4 - head * 1.6), colour=colour)
    axes.text(2.2, 2.5, "channels →", ha="center")
    axes.text(0.2, 1.6, "tokens ↓", ha="right", va="center", rotation=90)
    shown = [numbers[:, head].tolist() for head in range(n_heads)]
    return Picture(figure, f"On the left a table of {tokens} tokens and {channels} channels, cut in the middle. Arrows lead to "
                   f"two smaller tables. Head 0 has {shown[0][0]} and below it {shown[0][1]}; head 1 has {shown[1][0]} and below "
                   f"it {shown[1][1]}: all tokens, and a block of neighbouring channels each.")


def surprise() -> Picture:
    """−ln p, with three points to read off."""
    points = (1.0, 0.5, 0.1)
    figure, axes = new_figure(7, 4)
    p = torch.linspace(0.01, 1, 200)
    axes.plot(p, -p.log())
    for one in points:
        height = math.log(1 / one)
        axes.plot([one], [height], marker="o", color="black", linestyle="")
        axes.annotate(f"p = {one:g}: {height:.1f}", (one, height), xytext=(10, 12), textcoords="offset points")
    axes.set(xlabel="p, the probability of the token that came", ylabel="surprise, −ln p (nats)", xlim=(0, 1.25))
    return Picture(figure, "A curve of the surprise, minus ln p, over p. It comes down from far above at p near 0 to 0 at p = 1. "
                   + " ".join(f"At p = {one:g} it is {math.log(1 / one):.1f}." for one in points))


SKETCHES = {"qkv": qkv, "shifted": shifted, "heads": heads, "surprise": surprise}
