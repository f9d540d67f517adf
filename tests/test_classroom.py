"""The look of pictures, and the widgets that notebooks are made of, driven without a browser."""

import asyncio
import base64
import csv
import html
import io
import json
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

import minigpt
from minigpt.classroom import plots, widgets
from minigpt.classroom.plots import Picture, bars, heat_map, lines, new_figure, token_label
from minigpt.classroom.widgets import (
    Explorer,
    Page,
    checkbox,
    chooser,
    export_predictions,
    hints,
    log_slider,
    option_slider,
    predict,
    predictions,
    show_source,
    slider,
    text_box,
)

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


# -------------------------------------------------------------------------------------------------------- predictions

@pytest.fixture(autouse=True)
def nothing_answered_yet():
    widgets._answers.clear()


def scale_question():
    return predict("scale", "How large is `q · k` < 100?", {"1": "One entry alone.", "8": True, "64": "The variance."},
                   why="The root of 64.")


def test_a_wrong_answer_is_told_why_it_tempts_and_then_the_right_one_can_be_seen():
    card = scale_question()
    assert card.reveal.layout.display == "none"
    card.buttons["64"].click()
    assert "The variance." in card.verdict.value and "The root of 64" not in card.verdict.value
    assert card.reveal.layout.display is None and card.buttons["64"].description == "✗ 64"
    card.reveal.click()
    assert "8" in card.verdict.value and "The root of 64." in card.verdict.value


def test_a_right_answer_is_told_why_too():
    card = scale_question()
    card.buttons["8"].click()
    assert "✓" in card.verdict.value and "The root of 64." in card.verdict.value
    assert card.reveal.layout.display == "none"


def test_the_first_answer_is_kept_and_the_tries_counted():
    card = scale_question()
    for option in ("64", "1", "8"):
        card.buttons[option].click()
    assert predictions() == {"scale": {"question": "How large is `q · k` < 100?", "answer": "64", "right": False,
                                       "tries": 3}}
    assert "64" in predictions()._repr_html_() and "scale: 64 (wrong, 3 tries)" in repr(predictions())


@pytest.mark.parametrize(("answers", "number"), [({"a": True}, 1.0), (None, None), ({"a": "no"}, None),
                                                 ({"a": True, "b": True}, None)])
def test_a_question_needs_exactly_one_right_answer(answers, number):
    with pytest.raises(ValueError, match="answer"):
        predict("key", "?", answers, number=number)


def count_question():
    return predict("count", "How many?", number=100, tolerance=0.5, tempting={55: "With the mask."}, why="10 × 10.")


@pytest.mark.parametrize(("typed", "said"), [
    ("100", "10 × 10."), ("100.4", "10 × 10."), (" 1e2 ", "10 × 10."), ("200/2", "10 × 10."), ("55", "With the mask."),
    ("54,9", "With the mask."), ("7", "Too small."), ("1,000", "Too large."), ("−3", "Too small."),
])
def test_a_typed_number_is_judged(typed, said):
    card = count_question()
    card.box.value = typed
    card.button.click()
    assert said in card.verdict.value
    assert predictions()["count"]["answer"] == typed.strip()


@pytest.mark.parametrize("typed", ["", "ten", "nan", "inf", "1/0", "1e999", "1/2/3", HOSTILE, "9" * 100_000])
def test_what_is_no_number_is_no_answer(typed):
    card = count_question()
    card.box.value = typed
    card.button.click()
    assert "Type a number" in card.verdict.value and predictions() == {}


def test_enter_answers_as_the_button_does():
    card = count_question()
    card.box.value = "100"
    card.box._handle_custom_msg({"event": "submit"}, [])
    assert "10 × 10." in card.verdict.value


def test_a_question_reads_without_a_kernel_and_folds_its_answer():
    bundle = scale_question()._repr_mimebundle_()
    page = bundle["text/html"]
    assert widgets.WIDGET_VIEW in bundle
    question, answer = page.split("<details>")
    assert "<code>q · k</code> &lt; 100" in question and "<li>64</li>" in question
    assert "The root of 64." in answer and "The variance." in answer and "The root of 64." not in question
    assert bundle["text/plain"] == "Predict: How large is `q · k` < 100?  [1 | 8 | 64]"


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_predictions_are_exported_for_the_class_to_compare(tmp_path, suffix):
    scale_question().answer("64")
    count_question().answer("100")
    path = export_predictions(tmp_path / f"answers{suffix}")
    text = path.read_text(encoding="utf-8")
    rows = json.loads(text) if suffix == ".json" else {row["key"]: row for row in csv.DictReader(io.StringIO(text))}
    assert {key: row["answer"] for key, row in rows.items()} == {"scale": "64", "count": "100"}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_export_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = export_predictions(tmp_path / "answers.json")
    before = path.read_text()
    scale_question().answer("64")
    monkeypatch.setattr(widgets.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        export_predictions(path)
    assert path.read_text() == before and [file.name for file in tmp_path.iterdir()] == ["answers.json"]
    with pytest.raises(ValueError, match="json or .csv"):
        export_predictions(tmp_path / "answers.txt")


# -------------------------------------------------------------------------------------------------- hints and source

def test_each_hint_stands_inside_the_one_before():
    page = hints("attention", "first", "`second` <b>", "third")
    assert page.html.count("<details>") == 3
    assert page.html.index("first") < page.html.index("<code>second</code> &lt;b&gt;") < page.html.index("third")
    opened, _, rest = page.html.partition("Hint 2 of 3")
    assert opened.count("</details>") == 0 and rest.endswith("</details></details></details></div>")


def test_the_source_shown_is_the_source_that_runs():
    import inspect
    shown = show_source(minigpt.attention)
    assert inspect.getsource(minigpt.attention).rstrip() in shown.data
    assert shown.data.startswith("**minigpt/attention.py**") and "```python" in shown.data
    assert repr(shown) == "the source of minigpt/attention.py"


def test_decorated_source_is_named_by_its_own_file():
    assert show_source(minigpt.training.evaluate).name == "minigpt/training.py"


def test_source_with_a_fence_in_it_stays_in_its_own():
    shown = show_source(fenced).data
    assert shown.count("````") == 2 and shown.rstrip().endswith("````")


def fenced():
    """```python```"""


def test_a_thing_without_source_is_refused():
    with pytest.raises(TypeError, match="module, class or function"):
        show_source(3)


# ---------------------------------------------------------------------------------------------------------- explorers

def squares(n, double):
    return bars(["n²"], [n * n * (2 if double else 1)], alt=f"n² is {n * n * (2 if double else 1)}")


def explorer():
    return Explorer(squares, {"n": slider("n", 3, 0, 9), "double": checkbox("twice", False)})


def test_the_picture_follows_the_controls():
    shown = explorer()
    assert "n² is 9" in shown.output.value
    shown.controls["n"].value = 5
    assert "n² is 25" in shown.output.value
    shown.controls["double"].value = True
    assert "n² is 50" in shown.output.value


def test_without_a_kernel_the_picture_stands_at_the_first_values():
    shown = explorer()
    shown.controls["n"].value = 5
    bundle = shown._repr_mimebundle_()
    assert "n² is 9" in bundle["text/html"] and "n: 3, twice: False" in bundle["text/html"]
    assert bundle["text/plain"] == "Explorer: n: 3, twice: False" and widgets.WIDGET_VIEW in bundle


def test_another_picture_can_stand_for_readers_without_a_kernel():
    shown = Explorer(squares, {"n": slider("n", 3, 0, 9), "double": checkbox("twice", False)},
                     still=[squares(1, False), Page("<p>four small ones</p>", "")])
    assert "n² is 1" in shown.still and "four small ones" in shown.still and "n² is 9" in shown.output.value


def test_an_error_while_dragging_shows_on_the_page_and_goes_away_again():
    shown = Explorer(lambda n: f"<p>{12 // n}</p>", {"n": slider("n", 3, 0, 9)})
    shown.controls["n"].value = 0
    assert "ZeroDivisionError" in shown.output.value and 'role="alert"' in shown.output.value
    assert isinstance(shown.error, ZeroDivisionError)
    shown.controls["n"].value = 4
    assert shown.output.value == "<p>3</p>" and shown.error is None


def test_an_error_at_the_first_values_stops_the_cell():
    with pytest.raises(ZeroDivisionError):
        Explorer(lambda n: 1 // n, {"n": slider("n", 0, 0, 9)})


def test_what_was_typed_is_escaped_in_messages_and_captions():
    def refuse(text):
        if text != "fine":
            raise ValueError(text)
        return Page("fine", "fine")
    shown = Explorer(refuse, {"text": text_box("text", "fine")})
    shown.controls["text"].value = HOSTILE
    assert "<img src=x" not in shown.output.value and "&lt;img src=x" in shown.output.value
    hostile = Explorer(lambda text: widgets.typed(text), {"text": text_box(HOSTILE, HOSTILE)})
    assert "<img src=x" not in hostile.still + hostile.output.value
    assert hostile.output.value.startswith("<bdi>")


def test_heavy_work_waits_until_the_slider_rests():
    calls = []

    async def drag():
        shown = Explorer(lambda n: calls.append(n) or "", {"n": slider("n", 0, 0, 9)}, wait=0.05)
        for n in range(1, 6):
            shown.controls["n"].value = n
            await asyncio.sleep(0.001)
        assert calls == [0]
        await asyncio.sleep(0.2)

    asyncio.run(drag())
    assert calls == [0, 5]


def test_any_callback_can_be_guarded():
    output = widgets.ipywidgets.HTML()
    button = widgets.ipywidgets.Button()
    button.on_click(widgets.guarded(lambda _: [][1], output))
    button.click()
    assert "IndexError" in output.value and "list index out of range" in output.value


@pytest.mark.parametrize("control", [
    slider("how warm", 1.0, 0.1, 2.0), slider("how many", 3, 0, 9), log_slider("learning rate", 1e-3, 1e-5, 1e-1),
    option_slider("d", 4, [1, 2, 4]), chooser("text", "austen", ["austen", "shakespeare"]), checkbox("mask", True),
    text_box("prompt", "It is a truth"),
], ids=lambda control: control.description)
def test_labels_are_wide_enough_for_their_words(control):
    assert len(control.description) * 9 < int(control.style.description_width.removesuffix("px"))


def test_a_slider_counts_in_whole_numbers_where_its_numbers_are():
    assert slider("n", 3, 0, 9).value == 3 and isinstance(slider("n", 3, 0, 9).value, int)
    assert isinstance(slider("t", 1, 0.1, 2.0).value, float)
    assert log_slider("learning rate", 1e-3, 1e-5, 1e-1).value == pytest.approx(1e-3)


def test_the_finished_code_needs_no_notebook():
    code = ("import sys, minigpt; print([name for name in ('matplotlib', 'ipywidgets', 'IPython', 'minigpt.classroom') "
            "if name in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
