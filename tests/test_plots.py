"""The look of pictures, asserted on their data and their pixels."""

import base64
import html
import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image

from minigpt.classroom import plots
from minigpt.classroom.plots import (
    Picture,
    bars,
    heat_map,
    in_sight,
    in_words,
    lines,
    loss_curve,
    new_figure,
    smoothed,
    token_label,
)
from minigpt.progress import History

HOSTILE = '<img src=x onerror="alert(1)">\u202e'


def pixels(picture: Picture) -> np.ndarray:
    data = base64.b64decode(picture.data_uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def three_pictures() -> dict[str, Picture]:
    steps = range(100)
    return {
        "bars": bars(["a", "b"], {"now": [0.25, 0.75], "before": [0.5, 0.5]}, alt="b wins", title="Next"),
        "heat_map": heat_map([[1.0, float("nan")], [0.3, 0.7]], ["a", "b"], ["a", "b"], alt="a triangle",
                             row_label="query", column_label="key", value_label="weight", show_values=".2f"),
        "lines": lines({"train": (steps, [4 - n / 50 for n in steps]), "held out": (steps[::9], steps[::9])},
                       alt="one falls, one rises", x_label="step", y_label="loss", levels={"goal": 1.0}),
    }


# ----------------------------------------------------------------------------------------------------------- pictures

@pytest.mark.parametrize("name", ["bars", "heat_map", "lines"])
def test_a_picture_can_be_read_from_the_back_of_the_room(name):
    figure = three_pictures()[name].figure
    figure.canvas.draw()
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert len(shown) > 3
    assert min(text.get_fontsize() for text in shown) >= 13


@pytest.mark.parametrize("name", ["bars", "heat_map", "lines"])
def test_a_picture_is_small_and_white_at_its_edges_in_every_theme(name):
    picture = three_pictures()[name]
    image = pixels(picture)
    edges = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert (edges >= 250).all()
    assert len(picture.data_uri) < 40_000


def test_nothing_is_cut_off_at_the_edges():
    image = pixels(bars(["a long label, longer than most tokens are"] * 3, [0.1, 0.2, 0.7], alt="x"))
    assert (image[:, :10] >= 250).all() and (image[:, -10:] >= 250).all()


def test_a_picture_without_words_is_refused():
    with pytest.raises(ValueError, match="alt"):
        Picture(new_figure()[0], "  ")


def test_small_print_is_refused():
    figure, axes = new_figure()
    axes.set_title("small print", fontsize=9)
    with pytest.raises(ValueError, match="at least 13 points.*small print"):
        Picture(figure, "words")


def test_the_words_are_escaped_and_on_one_line():
    shown = Picture(new_figure()[0], f'{HOSTILE} "quoted"\n and more')._repr_html_()
    assert "<img src=x" not in shown and html.escape('"quoted" and more') in shown
    assert shown.startswith('<img alt="')


def test_pictures_keep_the_colours_they_are_drawn_with():
    matrix = np.linspace(0, 1, 36).reshape(6, 6)
    picture = heat_map(matrix, list("abcdef"), list("abcdef"), alt="x")
    found = {tuple(colour) for colour in pixels(picture).reshape(-1, 3).tolist()}
    for value in matrix.flat:
        wanted = np.array(plots.matplotlib.colormaps["viridis"](value)[:3]) * 255
        assert min(np.abs(np.array(colour) - wanted).max() for colour in found) <= 4


def test_bars_have_the_values_and_stand_from_top_to_bottom():
    axes = bars(["first", "second"], torch.tensor([0.25, 0.75], requires_grad=True), alt="x").figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0.75]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    assert axes.yaxis_inverted() and [text.get_text() for text in axes.texts] == ["0.25", "0.75"]


def test_bars_of_two_kinds_differ_in_more_than_colour():
    axes = three_pictures()["bars"].figure.axes[0]
    assert len({container.patches[0].get_hatch() for container in axes.containers}) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["now", "before"]


def test_bars_keep_their_scale_where_it_is_fixed():
    widths = [bars(["a"], [value], alt="x", limit=1.2).figure.axes[0].get_xlim() for value in (0.1, 0.9)]
    assert widths[0] == widths[1] == (0, 1.2)


def test_bars_want_one_value_a_label():
    with pytest.raises(ValueError, match="each of the 2 labels"):
        bars(["a", "b"], [1.0], alt="x")


def test_lines_differ_in_more_than_colour():
    many = {str(i): ([1, 2], [i, i]) for i in range(7)}
    drawn = lines(many, alt="x", x_label="step", y_label="loss").figure.axes[0].get_lines()
    assert len({line.get_color() for line in drawn}) == 7
    assert len({(line.get_linestyle(), line.get_marker()) for line in drawn}) == 7
    assert len({line.get_marker() for line in drawn}) == 7


# How colours look to somebody who lacks one kind of cone, in linear light: Machado, Oliveira and Fernandes (2009).
COLOUR_BLINDNESS = {
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of colours (N, 3) in linear sRGB; an eye tells apart what lies about 3 apart in it."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(linear @ to_xyz.T / [0.9505, 1, 1.089]).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("eyes", COLOUR_BLINDNESS)
def test_the_line_colours_stay_apart_for_all_eyes(eyes):
    colours = np.array([plots.matplotlib.colors.to_rgb(colour) for colour in plots.PALETTE]) ** 2.2
    seen = lab(np.clip(colours @ np.array(COLOUR_BLINDNESS[eyes]).T, 0, 1))
    assert min(np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]) > 15
    assert np.linalg.norm(seen[0] - seen[1]) > 60               # most pictures have two


def test_lines_take_tensors_and_draw_levels_to_compare_with():
    picture = lines({"a": (torch.arange(3), torch.tensor([3.0, 2.0, 1.0]))}, alt="x", x_label="step", y_label="loss",
                    levels={"goal": 1.5}, log_y=True)
    axes = picture.figure.axes[0]
    assert axes.get_lines()[0].get_ydata().tolist() == [3, 2, 1]
    assert axes.get_lines()[1].get_ydata()[0] == 1.5 and axes.texts[0].get_text() == "goal"
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("step", "loss", "log")


def test_a_heat_map_shows_its_numbers_and_hatches_what_is_hidden():
    figure = three_pictures()["heat_map"].figure
    axes, scale = figure.axes
    assert [text.get_text() for text in axes.texts] == ["1.00", "0.30", "0.70"]
    assert axes.patch.get_hatch() and axes.images[0].get_array().mask.tolist() == [[False, True], [False, False]]
    assert (axes.get_xlabel(), axes.get_ylabel(), scale.get_ylabel()) == ("key", "query", "weight")
    assert axes.images[0].get_cmap().name == "viridis"


def test_numbers_on_a_heat_map_stand_out_from_their_cells():
    values = [n / 8 for n in range(9)]
    axes = heat_map([values], ["row"], list("abcdefghi"), alt="x", show_values=".1f").figure.axes[0]
    for text, value in zip(axes.texts, values, strict=True):
        cell = axes.images[0].cmap(value)[:3]
        luminance = np.dot(np.array(cell) ** 2.2, (0.2126, 0.7152, 0.0722))
        ink = 1.0 if text.get_color() == "white" else 0.0
        contrast = (max(ink, luminance) + 0.05) / (min(ink, luminance) + 0.05)
        assert contrast >= 4.5, value           # what WCAG 2 asks of text


def test_a_heat_map_wants_labels_that_fit():
    with pytest.raises(ValueError, match="matrix must be"):
        heat_map([[1, 2]], ["a"], ["b"], alt="x")


def test_a_picture_that_a_notebook_keeps_does_not_keep_its_pixels():
    picture = bars(["a"], [1], alt="x")
    assert picture.data_uri and not hasattr(picture.figure.canvas, "renderer")


def test_moving_a_slider_leaves_no_memory_behind():
    code = """if True:
        import psutil
        from minigpt.classroom import Explorer, bars, slider
        explorer = Explorer(lambda n: bars(list("abcdefghij"), [n] * 10, alt="x"), {"n": slider("n", 0, 0, 6)})
        def move(times):
            for i in range(times):
                explorer.controls["n"].value = i % 7
            return psutil.Process().memory_info().rss / 1e6
        before = move(20)
        print(move(40) - before)
    """
    grown = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert grown < 5         # it grows by 0.2 MB; by 22 where figures wait to be collected, by 113 where they stay


# ------------------------------------------------------------------------------------------------------------- labels

@pytest.mark.parametrize(("token", "label"), [
    (b" the", "␣the"), (b"\n", "⏎"), (b"\t", "⇥"), ("é".encode(), "é"), (b"\xc3", "⟨C3⟩"), (b"a\xe2\x80", "a⟨E2 80⟩"),
    (b"\x00", "⟨U+0000⟩"), ("\u202e".encode(), "⟨U+202E⟩"), ("\u0301".encode(), "◌\u0301"), ("🙂".encode(), "🙂"),
    (b"", ""), (b"\xa9b\xff", "⟨A9⟩b⟨FF⟩"),
])
def test_a_token_is_labelled_so_that_it_can_be_seen(token, label):
    assert token_label(token) == label


@given(st.binary(max_size=12))
def test_every_token_has_a_label_that_prints_and_draws(token):
    label = token_label(token)
    assert label.isprintable() and bool(label) == bool(token)
    assert all(ord(c) in plots._font_characters() for c in plots.drawable(label))


def test_labels_are_no_formulas_and_need_no_other_font():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = bars(["$x^2", "a$b$c", "🙂中", r"\frac"], [1, 2, 3, 4], alt="x")
        assert picture.data_uri
    labels = picture.figure.axes[0].get_yticklabels()
    assert labels[2].get_text() == "⟨U+1F642⟩⟨U+4E2D⟩" and not any(label.get_parse_math() for label in labels)


def test_smoothing_follows_the_values_from_the_first_one_on():
    assert smoothed([2.0] * 50) == pytest.approx([2.0] * 50)
    jump = smoothed([0.0] * 50 + [1.0] * 200)
    assert jump[0] == 0 and jump[50] == pytest.approx(0.1, abs=0.01) and jump[-1] > 0.99


def test_the_history_plots_both_losses_and_the_reference():
    history = History(steps=[1, 2, 3], train_loss=[2.0, 1.5, 1.4], val_steps=[3], val_loss=[1.6])
    picture = history.plot()
    axes = picture.figure.axes[0]
    training, held_out, level = axes.lines
    assert list(training.get_ydata()) == smoothed(history.train_loss) and list(training.get_xdata()) == [1, 2, 3]
    assert list(held_out.get_ydata()) == [1.6] and list(level.get_ydata()) == [1.333, 1.333]
    assert "1.60" in picture.alt and "nats per byte" in axes.get_ylabel()
    history.val_steps, history.val_loss = [], []
    assert len(history.plot().figure.axes[0].lines) == 2
    with pytest.raises(ValueError, match="at least one step"):
        loss_curve(History())


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(("losses", "words"), [
    ([], "has not been measured"), ([2.0], "is 2.00 nats"), ([NAN], "is no finite number of nats"),
    ([4.1, 1.5], "falls from 4.10 to 1.50 nats"), ([1.5, 4.1], "rises from 1.50 to 4.10 nats"),
    ([1.501, 1.499], "stays at 1.50 nats"), ([2.0, 2.0, 2.0], "stays at 2.00 nats"),
    ([4.0, 1.0, 1.1], "falls from 4.00 to 1.10 nats"),
    ([3.0, 1.0, 2.9], "falls from 3.00 to 2.90 nats, with a low of 1.00 on the way"),
    ([2.0, 5.0, 2.0], "begins and ends at 2.00 nats, with a high of 5.00 on the way"),
    ([2.0, 5.0, 1.0, 2.5], "rises from 2.00 to 2.50 nats, with a low of 1.00 and a high of 5.00 on the way"),
    ([2.0, NAN], "goes from 2.00 to no finite number of nats"), ([2.0, INF], "goes from 2.00 to no finite number of nats"),
    ([NAN, 2.0], "goes from no finite number to 2.00 nats"),
    ([NAN, 2.0, NAN], "goes from no finite number to no finite number of nats, with a low of 2.00 and a high of 2.00 on the way"),
    ([4.0, NAN, 2.0], "falls from 4.00 to 2.00 nats, with values that are no finite number on the way")])
def test_what_became_of_a_loss_is_said_as_it_was(losses, words):
    assert in_words(losses, "nats") == words


@pytest.mark.parametrize(("losses", "words"), [
    ([2.0], "The training loss, smoothed, is 2.00 nats per byte in 1 step."),
    ([1.0, 2.0], "The training loss, smoothed, rises from 1.00 to 1.53 nats per byte in 2 steps."),
    ([3.0, 1.0, 2.9], "smoothed, falls from 3.00 to 2.30 nats per byte in 3 steps, with a low of 1.95 on the way."),
    ([2.0, NAN], "goes from 2.00 to no finite number of nats per byte in 2 steps.")])
def test_a_history_is_told_as_it_went(losses, words):
    assert words in History(steps=list(range(1, len(losses) + 1)), train_loss=losses).plot().alt


def test_a_held_out_loss_that_is_no_number_is_said_to_be_none():
    history = History(steps=[1], train_loss=[2.0], val_steps=[1], val_loss=[NAN])
    assert "On held-out text it ends at no finite number." in history.plot().alt


@pytest.mark.parametrize(("number", "text"), [(0.333, "0.33"), (0.0003, "0.0003"), (0.0, "0.00"), (-0.002, "-0.002")])
def test_what_is_not_0_is_not_shown_as_0(number, text):
    assert in_sight(number) == text
