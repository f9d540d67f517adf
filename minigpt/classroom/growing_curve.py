"""A loss curve that grows while a model trains, as SVG by hand.

A picture of matplotlib's would take a hundred times as long to draw.
"""

import html
import math
from collections.abc import Callable, Sequence

from minigpt.classroom.plots import BLUE, RED, REFERENCE_LABEL, REFERENCE_LOSS, amount, spoken

WIDTH, HEIGHT = 640, 330
LEFT, RIGHT, TOP, BOTTOM = 74, 16, 34, 56
POINTS = 400                # more would be closer together than a screen's


def loss_svg(training: Sequence[tuple[float, float]], held_out: Sequence[tuple[float, float]],
             seconds: float, with_reference: bool = True) -> str:
    """The losses so far, (seconds, nats per byte) each, on axes that hold the time to come.

    `with_reference` draws the reference's loss, which says something of the text that it was
    measured on alone.
    """
    losses = [loss for _, loss in [*training, *held_out] if math.isfinite(loss)]
    end = max([seconds, *(at for at, _ in training[-1:])])
    levels = [REFERENCE_LOSS] if with_reference else []
    low = max(0.0, min([*losses, *levels], default=0.0) - 0.1)
    high = max([*losses, *levels, low], default=0.0) + 0.3

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * x / end,
            TOP + (HEIGHT - TOP - BOTTOM) * (high - y) / (high - low),
        )

    parts = [_ticks(low, high, end, place)]
    if with_reference:
        right, level = place((end, REFERENCE_LOSS))
        parts.append(
            f'<line x1="{LEFT}" x2="{right:.0f}" y1="{level:.1f}" y2="{level:.1f}" stroke="#555" '
            f'stroke-dasharray="2 4" stroke-width="2"/><text x="{right:.0f}" y="{level - 6:.1f}" '
            f'text-anchor="end" fill="#333">{REFERENCE_LABEL}</text>'
        )
    thin = [*training[:-1:len(training) // POINTS + 1], *training[-1:]]
    parts.append(
        f'<polyline class="training" points="{_points(thin, place)}" fill="none" '
        f'stroke="{BLUE}" stroke-width="3"/>'
    )
    parts.append(
        f'<polyline class="held-out" points="{_points(held_out, place)}" fill="none" '
        f'stroke="{RED}" '
        'stroke-width="2" stroke-dasharray="8 5"/>'
    )
    parts += [
        f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="{RED}"/>'
        for x, y in map(place, held_out) if math.isfinite(y)
    ]
    words = in_words(training, held_out, seconds)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(words)}" '
        'font-family="sans-serif" '
        f'font-size="16" width="{WIDTH}" height="{HEIGHT}"><rect width="{WIDTH}" '
        f'height="{HEIGHT}" fill="white"/>'
        f"{''.join(parts)}</svg>"
    )


def in_words(training: Sequence[tuple[float, float]], held_out: Sequence[tuple[float, float]],
             seconds: float) -> str:
    """What the curve has come to, for those who can't see it."""
    if not training:
        return "No step has been trained yet."
    now, loss = training[-1]
    words = (f"After {now:.0f} of {seconds:g} seconds the training loss, smoothed, is "
             f"{amount(loss, 'nats per byte')}")
    return f"{words}, on held-out text {spoken(held_out[-1][1])}." if held_out else f"{words}."


def _points(points: Sequence[tuple[float, float]], place: Callable) -> str:
    """As SVG writes them; a loss that is no number, right before training stops, has no place."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, points) if math.isfinite(y))


def _ticks(low: float, high: float, end: float, place: Callable) -> str:
    """Grid, numbers, names of the axes, and which line is which."""
    marks = []
    for tick in _round_numbers(low, high):
        _, y = place((0, tick))
        marks.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 8}" y="{y + 6:.1f}" text-anchor="end" fill="#222">{tick:g}</text>'
        )
    for tick in _round_numbers(0, end):
        x, _ = place((tick, low))
        marks.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 22}" text-anchor="middle" fill="#222">'
            f'{tick:g}</text>'
        )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    marks.append(
        f'<line x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#222"/>'
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" '
        f'y2="{HEIGHT - BOTTOM}" stroke="#222"/>'
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle" fill="#222">'
        'seconds of training</text>'
        f'<text transform="translate(20 {middle}) rotate(-90)" text-anchor="middle" fill="#222">'
        "loss (nats per byte)</text>"
        f'<line x1="{LEFT + 20}" x2="{LEFT + 60}" y1="16" y2="16" stroke="{BLUE}" '
        'stroke-width="3"/>'
        f'<text x="{LEFT + 68}" y="22" fill="#222">training (smoothed)</text>'
        f'<rect x="{LEFT + 265}" y="11" width="10" height="10" fill="{RED}"/>'
        f'<text x="{LEFT + 284}" y="22" fill="#222">held out</text>'
    )
    return "".join(marks)


def _round_numbers(low: float, high: float) -> list[float]:
    """Four to nine numbers between `low` and `high` that are easy to read."""
    power = 10 ** math.floor(math.log10(high - low))
    step = next(
        power * share for share in (0.1, 0.2, 0.5, 1, 2) if (high - low) / (power * share) <= 8.5
    )
    return [
        round(step * i, 6)
        for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
