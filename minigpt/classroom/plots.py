"""The look of every picture in the notebooks, set once.

A picture is a matplotlib `Figure` (an object of its own, not pyplot's hidden list of open figures,
so nothing is drawn twice and nothing piles up while a slider moves) together with a sentence that
says what it shows, for those who can't see it. Text is at least 13 points, readable from the back
of a room. Line colours are Okabe and Ito's, which stay apart for colour-blind eyes, and each line
also has a dash and a marker of its own; maps are viridis, bars are hatched. The background is
white in every theme, so that dark text stays readable in a dark JupyterLab.

Importing this module sets matplotlib's defaults, so a figure that a student draws by hand has the
same look.
"""

import base64
import html
import io
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from PIL import Image

from minigpt import arguments
from minigpt.arguments import flag, instance, integer, number, or_none, shown, takes
from minigpt.classroom.doors import array, in_order, listed, token

SMALLEST_FONT = 13          # points
CSS_PIXELS = 100            # how wide an inch of figure is on the page
SHARPNESS = 1.2            # image pixels for each CSS pixel, so that a zoomed projector stays sharp

# Okabe and Ito, "Color Universal Design" (2008), without the yellow, which vanishes on white.
BLUE, ORANGE, GREEN, PURPLE, SKY, RED, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
PALETTE = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, BLACK)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++", "oo")

matplotlib.rcParams.update(
    {
        "font.family": "DejaVu Sans",  # comes with matplotlib: there, and the same, everywhere
        "font.size": 14,
        "axes.titlesize": 15,
        "axes.labelsize": 14,
        "xtick.labelsize": SMALLEST_FONT,
        "ytick.labelsize": SMALLEST_FONT,
        "legend.fontsize": SMALLEST_FONT,
        "figure.titlesize": 16,
        "figure.facecolor": "white",
        "figure.constrained_layout.h_pad": 0.1,  # inches of white: the page behind may be dark
        "figure.constrained_layout.w_pad": 0.1,
        "axes.facecolor": "white",
        "savefig.facecolor": "white",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#DDDDDD",
        "lines.linewidth": 2.5,
        "lines.markersize": 7,
        "image.cmap": "viridis",
        "hatch.linewidth": 1.2,
        "axes.prop_cycle": cycler(color=PALETTE, linestyle=DASHES),
    }
)


@cache
def _stored_colours() -> Image.Image:
    """The 256 colours of a stored image: viridis, greys, and tints of the line colours.

    Such an image is a third of the size.
    """
    tints = [np.linspace(1, matplotlib.colors.to_rgb(colour), 17)[1:] for colour in PALETTE[:6]]
    colours = np.concatenate([matplotlib.colormaps["viridis"](np.linspace(0, 1, 128))[:, :3],
                              np.linspace((0, 0, 0), (1, 1, 1), 32), *tints])
    palette = Image.new("P", (1, 1))
    palette.putpalette((colours * 255).round().astype(np.uint8).tobytes())
    return palette


@takes(figure=instance(Figure), alt=instance(str))
class Picture:
    """A figure with words for those who can't see it: a notebook's image has them as its `alt`.

    `figure` stays at hand so that a test can assert on what was drawn. Raises ValueError for an
    empty `alt`, and for text smaller than 13 points, which the back row can't read.
    """

    def __init__(self, figure: Figure, alt: str):
        if not alt.strip():
            raise ValueError("alt must say what the picture shows, for those who can't see it; "
                             "it is empty")
        for text in figure.findobj(Text):
            if text.get_text() and text.get_visible() and text.get_fontsize() < SMALLEST_FONT:
                raise ValueError(f"text in a picture must be at least {SMALLEST_FONT} points, "
                                 f"not {text.get_fontsize():g} as in {text.get_text()!r}")
        self.figure = figure
        self.alt = " ".join(alt.split())

    @cached_property
    def data_uri(self) -> str:
        """The picture as a `data:image/png;base64,…` address, drawn when it is first asked for."""
        canvas = FigureCanvasAgg(self.figure)
        self.figure.dpi = CSS_PIXELS * SHARPNESS
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        FigureCanvasBase(self.figure)      # takes the drawing canvas's place and lets its pixels go
        file = io.BytesIO()
        image.quantize(palette=_stored_colours(), dither=Image.Dither.NONE).save(file, "PNG")
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")

    def _repr_html_(self) -> str:
        width = round(self.figure.get_figwidth() * CSS_PIXELS)
        return (f'<img alt="{html.escape(self.alt)}" src="{self.data_uri}" width="{width}" '
                'style="max-width: 100%; height: auto">')

    def __repr__(self) -> str:
        return f"Picture: {self.alt}"


_inches, _several = number(0, open_low=True), integer(1)


@takes(width=_inches, height=_inches, rows=_several, columns=_several)
def new_figure(width: float = 8, height: float = 4, rows: int = 1, columns: int = 1, **options):
    """`(figure, axes)` as from `pyplot.subplots`, in the notebooks' look.

    Sizes are in inches, 100 pixels each.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


# Labels. Tokens are bytes: half a character, a newline or an emoji that the font lacks must all
# stay visible.

VISIBLE = {" ": "␣", "\n": "⏎", "\t": "⇥"}


@takes(token=token)
def token_label(token: bytes) -> str:
    """A token as one printable line: spaces as ␣, newlines as ⏎, parts of a character in hex.

    >>> token_label(b" the"), token_label("é".encode()), token_label(b"\\xc3")
    ('␣the', 'é', '⟨C3⟩')
    """
    label = ""
    while token:
        try:
            text, token = token.decode("utf-8"), b""
        except UnicodeDecodeError as error:
            text = token[:error.start].decode("utf-8")
            broken = token[error.start:error.end]
            label += _visible(text) + f"⟨{broken.hex(' ').upper()}⟩"
            token = token[error.end:]
        else:
            label += _visible(text)
    return "◌" + label if label and unicodedata.combining(label[0]) else label


def _visible(text: str) -> str:
    return "".join(VISIBLE.get(c, c if c.isprintable() else f"⟨U+{ord(c):04X}⟩") for c in text)


@cache
def _font_characters() -> frozenset[int]:
    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())


def drawable(text: str) -> str:
    """`text` with what matplotlib's own font can't draw (emoji, Chinese) as ⟨U+1F642⟩."""
    return "".join(c if ord(c) in _font_characters() else f"⟨U+{ord(c):04X}⟩" for c in str(text))


def _tick_labels(axis, labels: Sequence, **options) -> None:
    """One tick a label, shown letter by letter: a `$` is a dollar sign and no formula."""
    axis.set_ticks(range(len(labels)), [drawable(label) for label in labels], **options)
    for label in axis.get_ticklabels():
        label.set_parse_math(False)


def in_sight(number: float) -> str:
    """Two decimals, or as many as it takes to tell it from 0: 0.33, 0.0003."""
    return f"{number:.2f}" if abs(number) >= 0.005 or number == 0 else f"{number:.1g}"


# The plots that several notebooks share. Each returns a Picture.

def _series(name, value) -> dict[str, np.ndarray]:
    """A guard: name -> numbers of a bar each; or the numbers alone."""
    series = value if isinstance(value, Mapping) else {"": value}
    if not 1 <= len(series) <= len(HATCHES):
        raise ValueError(f"{name} must be of 1 to {len(HATCHES)} kinds, not {len(series)}")
    return {key: array(1)(f"{name}[{key!r}]" if key else name, numbers)
            for key, numbers in series.items()}


def _curves(name, value) -> dict[str, list[np.ndarray]]:
    """A guard: name -> (x values, y values), as many of both."""
    instance(Mapping, "a dict, name -> (x values, y values),")(name, value)
    curves = {}
    for key, pair in value.items():
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise TypeError(f"{name}[{key!r}] must be (x values, y values), not {shown(pair)}")
        x, y = curves[key] = [array(1, infinite=True)(f"{name}[{key!r}]", part) for part in pair]
        if len(x) != len(y):
            raise ValueError(f"{name}[{key!r}] must have as many y values as x values, {len(x)}, "
                             f"not {len(y)}")
    return curves


def _heights(name, value) -> dict[str, float]:
    instance(Mapping, "a dict, name -> height,")(name, value)
    return {key: number()(f"{name}[{key!r}]", height) for key, height in value.items()}


def _number_format(name, value) -> str:
    if not isinstance(value, str):
        raise TypeError(f'{name} must be a number format, such as ".2f", not {shown(value)}')
    try:
        format(0.0, value)
    except ValueError:
        raise ValueError(f'{name} must be a number format, such as ".2f", not '
                         f"{shown(value)}") from None
    return value


def _number_writer(name, value) -> str | Callable:
    return value if callable(value) else _number_format(name, value)


_labels = listed("labels", low=1)

@takes(labels=_labels, values=_series, alt=instance(str), title=arguments.text,
       value_label=arguments.text, show_values=_number_writer, limit=number(optional=True))
def bars(
    labels: Sequence[str],
    values,
    *,
    alt: str,
    title: str = "",
    value_label: str = "probability",
    show_values: str | Callable = ".2f",
    limit: float | None = None,
) -> Picture:
    """Horizontal bars, one a label, from top to bottom, with the number at the end of each.

    `values` is one number a label, or a dict of name -> such numbers, drawn side by side, each
    with a hatch of its own. `show_values` is a number format, or a function that writes a number.
    `limit` fixes the end of the axis, so that a picture that moves with a slider keeps its scale.
    """
    thickness = 0.8 / len(values)
    figure, axes = new_figure(8, max(2.2, 1.0 + len(labels) * max(0.32, 0.28 * len(values))))
    for i, (name, numbers) in enumerate(values.items()):
        if numbers.shape != (len(labels),):
            raise ValueError(
                f"values must be one number for each of the {len(labels)} labels, not "
                f"{numbers.shape}"
            )
        places = np.arange(len(labels)) - 0.4 + thickness * (i + 0.5)
        drawn = axes.barh(
            places,
            numbers,
            thickness * 0.9,
            label=name,
            color=PALETTE[i],
            hatch=HATCHES[i],
            edgecolor="white",
        )
        axes.bar_label(
            drawn,
            fmt=show_values if callable(show_values) else f"{{:{show_values}}}",
            padding=4,
            fontsize=SMALLEST_FONT,
        )
    _tick_labels(axes.yaxis, labels)
    axes.set(
        title=title, xlabel=value_label, xlim=(min(0, *(n.min() for n in values.values())), limit)
    )
    axes.margins(x=0.12)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.locator_params(axis="x", nbins=5)  # a few ticks: each costs time while a slider is dragged
    if len(values) > 1:
        axes.legend(loc="best")
    return Picture(figure, alt)


@takes(in_order("low", "high"), matrix=array(2, infinite=True), row_labels=_labels,
       column_labels=_labels, alt=instance(str), title=arguments.text, row_label=arguments.text,
       column_label=arguments.text, value_label=arguments.text, low=number(optional=True),
       high=number(optional=True), show_values=or_none(_number_format))
def heat_map(
    matrix,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    alt: str,
    title: str = "",
    row_label: str = "",
    column_label: str = "",
    value_label: str = "",
    low: float | None = None,
    high: float | None = None,
    show_values: str | None = None,
) -> Picture:
    """A matrix (rows, columns) as coloured cells with a scale; NaN (hidden) cells are hatched.

    `show_values` is a number format such as ".2f": where the cells are large enough, the numbers
    stand in them.
    """
    rows, columns = len(row_labels), len(column_labels)
    if matrix.shape != (rows, columns):
        raise ValueError(
            f"matrix must be ({rows}, {columns}), as the labels are, not {matrix.shape}"
        )
    cell = min(0.7, max(0.25, 5.5 / max(rows, columns)))    # inches
    figure, axes = new_figure(max(5, columns * cell + 2.8), max(3, rows * cell + 1.6))
    figure.set_layout_engine("compressed")                  # the scale as tall as the map
    axes.set_facecolor("#EEEEEE")
    axes.patch.set(hatch="///", edgecolor="#999999")        # seen only where a cell is NaN
    image = axes.imshow(np.ma.masked_invalid(matrix), vmin=low, vmax=high)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    _tick_labels(axes.yaxis, row_labels)
    longest = max(len(drawable(label)) for label in column_labels)
    _tick_labels(axes.xaxis, column_labels, rotation=90 if longest * 0.14 > cell else 0)
    axes.set(title=title, ylabel=row_label, xlabel=column_label)
    figure.colorbar(image, ax=axes, label=value_label)
    if show_values and cell >= 0.5:
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                dark = image.norm(value) < 0.43     # white stands out more from viridis than black
                axes.text(column, row, f"{value:{show_values}}", ha="center", va="center",
                          fontsize=SMALLEST_FONT, color="white" if dark else "black")
    return Picture(figure, alt)


@takes(series=_curves, alt=instance(str), x_label=arguments.text, y_label=arguments.text,
       title=arguments.text, levels=or_none(_heights), log_x=flag, log_y=flag,
       markers=or_none(flag))
def lines(series: Mapping[str, tuple], *, alt: str, x_label: str, y_label: str, title: str = "",
          levels: Mapping[str, float] | None = None, log_x: bool = False, log_y: bool = False,
          markers: bool | None = None) -> Picture:
    """Curves, each with a colour, a dash and a marker of its own.

    `series` is name -> (x values, y values). `levels` is name -> a height at which a thin dotted
    line runs across, to compare with. Markers are drawn on curves of up to 30 points, unless
    `markers` says otherwise.
    """
    figure, axes = new_figure(8, 4)
    for i, (name, (x, y)) in enumerate(series.items()):
        marked = len(x) <= 30 if markers is None else markers
        axes.plot(x, y, label=drawable(name), color=PALETTE[i % 7], linestyle=DASHES[i % 7],
                  marker=MARKERS[i % 7] if marked else None)
    for name, height in (levels or {}).items():
        axes.axhline(height, color="#555555", linewidth=1.5, linestyle=":")
        axes.annotate(
            drawable(name),
            (0.99, height),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            ha="right",
            textcoords="offset points",
            fontsize=SMALLEST_FONT,
            color="#333333",
            path_effects=[withStroke(linewidth=4, foreground="white")],
        )  # readable where a curve crosses
    axes.set(title=title, xlabel=x_label, ylabel=y_label, xscale="log" if log_x else "linear",
             yscale="log" if log_y else "linear")
    axes.minorticks_off()           # on a logarithmic axis, a hundred take longer than all the rest
    if len(series) > 1:
        axes.legend()
    return Picture(figure, alt)


REFERENCE_LOSS = 1.333  # nats per byte on the held-out tenth of the Austen text, after 16,384 steps
REFERENCE_LABEL = f"the reference's run on Austen, {REFERENCE_LOSS}"


def smoothed(values: Sequence[float], share: float = 0.9) -> list[float]:
    """A running average in which each value counts `share` of the one after it.

    Batches differ, and losses jump.
    """
    average, weight, result = 0.0, 0.0, []
    for value in values:
        average, weight = share * average + (1 - share) * value, share * weight + 1 - share
        result.append(average / weight)            # so that the first ones are not pulled towards 0
    return result


def spoken(value: float) -> str:
    """A loss in words, also one that training has driven out of all numbers."""
    return f"{value:.2f}" if np.isfinite(value) else "no finite number"


def amount(value: float, unit: str) -> str:
    """1.52 nats, or no finite number of nats."""
    return f"{spoken(value)}{' ' if np.isfinite(value) else ' of '}{unit}"


def counted(number: int, what: str) -> str:
    """1 step, 2 steps."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def in_words(losses: Sequence[float], unit: str) -> str:
    """What became of a loss: "falls from 4.10 to 1.52 nats", or rises, or stays, or is but one.

    It says so as far as the two decimals can tell, and where it turned on the way, how far it came.
    """
    if not len(losses):
        return "has not been measured"
    first, last = losses[0], losses[-1]
    if len(losses) == 1:
        return f"is {amount(first, unit)}"
    turns, end = _turns(losses), amount(last, unit)
    if not (np.isfinite(first) and np.isfinite(last)):
        course = f"goes from {spoken(first)} to {end}"
    elif spoken(first) != spoken(last):
        course = f"{'falls' if last < first else 'rises'} from {spoken(first)} to {end}"
    else:
        course = f"{'begins and ends' if turns else 'stays'} at {end}"
    return course + (f", with {' and '.join(turns)} on the way" if turns else "")


def _turns(losses: Sequence[float]) -> list[str]:
    """How low and how high a loss was between its ends, where that is more than its jitter."""
    finite = [loss for loss in losses if np.isfinite(loss)]
    ends = [loss for loss in (losses[0], losses[-1]) if np.isfinite(loss)]
    turns = []
    if finite:
        low, high = min(finite), max(finite)
        jitter = max(0.005, 0.1 * (high - low))
        turns += [f"a low of {low:.2f}"] if low < min(ends, default=math.inf) - jitter else []
        turns += [f"a high of {high:.2f}"] if high > max(ends, default=-math.inf) + jitter else []
    if not np.isfinite(losses[1:-1]).all():
        turns.append("values that are no finite number")
    return turns


def loss_curve(history) -> Picture:
    """How training went, from a `History`: the smoothed training loss, and the held-out loss.

    The held-out loss is there where it was measured.
    """
    if not history.steps:
        raise ValueError("history must hold at least one step")
    training = smoothed(history.train_loss)
    series = {"training (smoothed)": (history.steps, training)}
    course = in_words(training, f"nats per byte in {counted(history.steps[-1], 'step')}")
    alt = f"The training loss, smoothed, {course}."
    if history.val_steps:
        series["held out"] = (history.val_steps, history.val_loss)
        alt += f" On held-out text it ends at {spoken(history.val_loss[-1])}."
    return lines(series, x_label="step", y_label="loss (nats per byte)", alt=alt,
                 levels={REFERENCE_LABEL: REFERENCE_LOSS})
