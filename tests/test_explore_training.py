"""Notebook 04's widgets, driven without a browser: live training started, paused, gone on with and stopped; the sliders."""

import re
import threading
import time

import pytest
import torch

from minigpt import GPT
from minigpt.classroom import descent_explorer, explore_training, live_training, sampling_explorer, schedule_explorer
from minigpt.classroom.explore_training import OWN_FILE, LiveTraining, loss_svg
from minigpt.classroom.plots import loss_curve, smoothed
from minigpt.progress import History
from minigpt.training import Report, learning_rate

SIZE = {"vocab_size": 270, "d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 32, "context_length": 16}
LONG = 600                  # seconds of budget that no test uses up


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("She was happy. He was not! They danced, & he said <no>. " * 200, encoding="utf-8")
    return path


@pytest.fixture
def live(book):
    gpt = GPT.from_text("abc " * 200, **SIZE)
    widget = live_training(gpt, seconds=LONG, **SIZE)
    widget.controls["text"].value = OWN_FILE
    widget.controls["file"].value = str(book)
    yield widget
    widget.stop()
    widget.wait(60)
    assert not widget.running


def test_a_cell_that_is_run_again_shows_the_training_that_goes_on(live):
    live.start_button.click()
    assert live_training(live.gpt, seconds=LONG, **SIZE) is live
    assert live_training(live.gpt, seconds=LONG, **SIZE | {"d_ff": 64}) is not live
    assert live_training(GPT.from_text("abc " * 200, **SIZE), seconds=LONG, **SIZE) is not live


def until(condition, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s it is not true that {what}"
        time.sleep(0.005)


def steps(live) -> int:
    return len(live.history.steps)


def polyline(live, name: str) -> list[str]:
    return re.search(f'<polyline class="{name}" points="([^"]*)"', live.picture.value)[1].split()


def test_it_trains_pauses_goes_on_and_keeps_the_model(live):
    live.start_button.click()
    assert live.start_button.disabled and not live.stop_button.disabled
    until(lambda: steps(live) > 20, "training is under way")

    live.pause_button.click()
    until(lambda: live.pause_button.description == "Go on", "it is paused")
    assert "Paused" in live.status.value and not live.pause_button.disabled
    paused_at = steps(live)
    time.sleep(0.3)
    assert steps(live) == paused_at and live.running

    live.pause_button.click()
    until(lambda: live.pause_button.description == "Pause", "it goes on")
    until(lambda: steps(live) > paused_at + 20, "it has gone on")

    live.stop_button.click()
    live.wait(60)
    assert not live.running and live.state == "done" and "Kept after step" in live.status.value
    assert live.history.val_steps[-1] == live.history.steps[-1], "the kept model was measured"
    assert live.gpt.tokenizer.encode("She was") and len(live.gpt.generate("She was", 5)) > 0
    assert live.history.train_loss[-1] < live.history.train_loss[0]
    assert not live.start_button.disabled and live.pause_button.disabled and live.stop_button.disabled


def test_a_paused_run_can_be_stopped(live):
    live.start()
    until(lambda: steps(live) > 3, "training is under way")
    live.pause()
    live.stop()
    live.wait(60)
    assert live.state == "done"


def test_a_run_that_is_stopped_before_it_begins_leaves_the_model_alone(live, monkeypatch):
    reading, going_on = threading.Event(), threading.Event()
    made = GPT.from_files

    def slowly(*arguments, **keywords):
        reading.set()
        going_on.wait(60)
        return made(*arguments, **keywords)

    monkeypatch.setattr(GPT, "from_files", slowly)
    model = live.gpt.model
    live.start()
    assert reading.wait(60) and live.state == "preparing"
    live.stop()
    going_on.set()
    live.wait(60)
    assert live.state == "ready" and live.gpt.model is model and not live.start_button.disabled


def test_a_pause_after_stop_comes_too_late(live):
    live.start()
    until(lambda: steps(live) > 3, "training is under way")
    live.stop()
    assert live.pause_button.disabled and live.stop_button.disabled
    live.pause()
    live.wait(60)
    assert live.state == "done" and not live.running


def test_a_bad_start_elsewhere_does_not_stop_the_run(live):
    live.start()
    until(lambda: steps(live) > 3, "training is under way")
    other = live_training(GPT.from_text("abc " * 200, **SIZE), seconds=LONG, **SIZE)
    other.controls["text"].value = OWN_FILE
    with pytest.raises(ValueError, match="type the name of your file first"):
        other.start()
    before = steps(live)
    until(lambda: steps(live) > before + 3, "it trains on")


def test_what_is_being_written_stays_with_its_model_and_tokenizer(live):
    expected = live.gpt.generate("ab", 60, seed=1)
    pieces = live.gpt.stream("ab", 60, seed=1)
    live.start()
    until(lambda: steps(live) > 3, "the model is another one")
    assert "".join(pieces) == expected


def test_it_ends_by_itself_when_the_time_is_up(live):
    live.controls["seconds"].options = [1, LONG]
    live.controls["seconds"].value = 1
    live.start()
    live.wait(60)
    assert live.state == "done" and live.history.seconds < 3
    assert polyline(live, "held-out") and len(polyline(live, "training")) > 5


def test_drawing_takes_at_most_a_twentieth_of_the_time(live, monkeypatch):
    clock = [0.0]                                       # a machine on which a picture takes 0.4 s, and a sample too

    def slowly(method):
        def slow(*arguments):
            clock[0] += 0.4
            return method(*arguments)
        return slow

    monkeypatch.setattr(explore_training.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(explore_training, "loss_svg", slowly(explore_training.loss_svg))
    for step in range(1, 4001):
        clock[0] += 0.05
        live._take(Report(step, 4000, torch.tensor(2.0), 1.0, 0.01, 1000.0, 0.05 * step, 0.0, None), 200)
    assert 0.02 * 200 < live.drawing_seconds < 0.05 * 200


def test_what_holds_the_gpt_talks_with_the_new_model_while_it_trains(live):
    model, tokenizer = live.gpt.model, live.gpt.tokenizer
    live.start()
    until(lambda: steps(live) > 3, "training is under way")
    assert live.gpt.model is not model and live.gpt.tokenizer is not tokenizer
    for seed in range(20):
        live.gpt.generate("She", 5, seed=seed)
    assert live.running and live.state == "training"


def test_start_twice_is_one_thread(live):
    before = threading.active_count()
    live.start()
    thread = live.thread
    live.start()
    live.start_button.click()
    assert live.thread is thread and threading.active_count() == before + 1


def test_a_second_panel_takes_over_from_the_first(live, book):
    live.start()
    until(lambda: steps(live) > 3, "training is under way")
    other = live_training(GPT.from_text("abc " * 200, **SIZE), seconds=LONG, **SIZE)
    other.controls["text"].value, other.controls["file"].value = OWN_FILE, str(book)
    other.start()
    assert not live.running and live.state == "done"
    until(lambda: steps(other) > 3, "the other one trains")
    assert LiveTraining.training is other
    other.stop()
    other.wait(60)
    assert LiveTraining.training is None


def test_a_second_run_begins_from_scratch(live):
    for _ in range(2):
        live.start()
        until(lambda: steps(live) > 10, "training is under way")
        live.stop()
        live.wait(60)
        assert live.history.steps[0] == 1 and live.history.train_loss[0] > live.history.train_loss[-1]


@pytest.mark.parametrize(("content", "message"), [
    (b"%PDF-1.4 nonsense", "PDF"), (b"", "is empty"), (b"caf\xe9", "not plain text in UTF-8"),
    (b"short", "at least context_length"), (None, "there is no file")])
def test_a_bad_file_shows_why_and_leaves_the_model_alone(live, tmp_path, content, message):
    model = live.gpt.model
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    live.controls["file"].value = str(path)
    live.start()
    live.wait(60)
    assert live.state == "failed" and message in live.status.value and 'role="alert"' in live.status.value
    assert live.gpt.model is model and not live.start_button.disabled


def test_start_without_a_file_asks_for_one(live):
    live.controls["file"].value = "  "
    live.start_button.click()
    assert "name of your file" in live.status.value and not live.running and not live.start_button.disabled


def test_an_error_in_a_step_is_shown(live, monkeypatch):
    monkeypatch.setattr(LiveTraining, "_take", lambda self, report, seconds: 1 / 0)
    live.start()
    live.wait(60)
    assert live.state == "failed" and "ZeroDivisionError" in live.status.value and not live.start_button.disabled


def test_what_the_model_writes_is_shown_as_text_and_never_as_html(live, monkeypatch):
    monkeypatch.setattr(GPT, "generate", lambda *arguments, **named: "<script>alert(1)</script>")
    live.start()
    until(lambda: live.samples.value, "it has written something")
    assert "<script" not in live.samples.value and "&lt;script&gt;" in live.samples.value


def test_the_box_for_a_file_is_there_only_when_it_is_asked_for(live):
    assert live.controls["file"].layout.display is None
    live.controls["text"].value = "shakespeare"
    assert live.controls["file"].layout.display == "none"


def test_the_panel_says_in_a_stored_notebook_what_it_is(live):
    bundle = live._repr_mimebundle_()
    assert "Start" in bundle["text/html"] and "Start" in bundle["text/plain"]


def places(svg: str, name: str) -> list[tuple[float, ...]]:
    points = re.search(f'class="{name}" points="([^"]*)"', svg)[1]
    return [tuple(map(float, point.split(","))) for point in points.split()]


def test_the_curve_is_to_scale():
    svg = loss_svg([(0, 2.0), (30, 1.5), (60, 1.0)], [(60, 1.25)], 120)
    (x0, y0), (x1, y1), (x2, y2) = places(svg, "training")
    ((x3, y3),) = places(svg, "held-out")
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y1 - y0 == pytest.approx(y2 - y1, abs=0.2)
    assert x3 == x2 and y1 < y3 < y2
    assert x2 - x0 == pytest.approx((820 - 16 - 74) / 2, abs=1), "half of the time is half of the width"
    assert "After 60 of 120 seconds the training loss is 1.00" in svg and 'role="img"' in svg


def test_a_long_run_is_drawn_with_few_points_and_ends_where_it_ends():
    svg = loss_svg([(step / 100, 2.0) for step in range(100_000)], [], 2000)
    points = places(svg, "training")
    assert len(points) < 1000 and points[-1][0] == pytest.approx(74 + 730 / 2, abs=1)


@pytest.mark.parametrize("losses", [[1.39], [8.3, 8.3], [0.01], [float("nan"), 2.0], [1e6]])
def test_odd_losses_are_drawn_too(losses):
    assert "<svg" in loss_svg([(i, loss) for i, loss in enumerate(losses)], [], 10)


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


@pytest.mark.parametrize(("rate", "words"), [(0.01, "still on its way"), (0.3, "has arrived"), (1.0, "never settles"),
                                             (1.05, "runs away")])
def test_the_descent_follows_its_rate(rate, words):
    explorer = descent_explorer()
    explorer.controls["rate"].value = rate
    assert explorer.error is None and words in explorer.output.value
    w = explorer.draw(rate).figure.axes[0].lines[1].get_xdata()
    assert list(w[:2]) == pytest.approx([4.0, 4.0 - rate * 8])


def test_the_schedule_is_the_packages_own():
    explorer = schedule_explorer()
    for name, value in {"steps": 100, "warmup": 10, "peak": 0.02, "floor": 0.5}.items():
        explorer.controls[name].value = value
    drawn = explorer.draw(**explorer.values).figure.axes[0].lines[0].get_ydata()
    peak = explorer.controls["peak"].value
    assert explorer.error is None
    assert list(drawn) == pytest.approx([learning_rate(step, 100, 10, peak, 0.5 * peak) for step in range(100)])
    explorer.controls["decay"].value = "linear"
    drawn = explorer.draw(**explorer.values).figure.axes[0].lines[0].get_ydata()
    assert list(drawn) == pytest.approx([learning_rate(step, 100, 10, peak, 0.5 * peak, "linear") for step in range(100)])
    for warmup in (0, 200):                             # none at all, and one longer than the run
        explorer.controls["warmup"].value = warmup
        explorer.controls["steps"].value = 50
        assert explorer.error is None


def test_the_five_bars_follow_the_knobs():
    explorer = sampling_explorer(["a", "b", "<i>"], torch.tensor([2.0, 1.0, 0.0]))
    assert re.findall(r">(\d\.\d{3})<", explorer.output.value) == ["0.665", "0.245", "0.090"]
    explorer.controls["top_k"].value = 2
    assert re.findall(r">(\d\.\d{3})<", explorer.output.value) == ["0.731", "0.269"]
    assert "0 (cut)" in explorer.output.value and "<i>" not in explorer.output.value
    explorer.controls["temperature"].value = 0.0
    assert re.findall(r">(\d\.\d{3})<", explorer.output.value) == ["1.000"]
