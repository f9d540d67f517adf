"""Live training, driven without a browser: started, paused, resumed, stopped, trained further."""

import re
import threading
import time
from contextlib import contextmanager

import pytest
import torch

from minigpt import GPT
from minigpt.classroom import live_panel, next_token, talk
from minigpt.classroom.live_panel import OWN_FILE, LiveTraining, live_training
from minigpt.training import Report

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
    first = next(pieces)
    live.start()
    until(lambda: steps(live) > 3, "the model is another one")
    assert first + "".join(pieces) == expected


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
        def slow(*arguments, **named):
            clock[0] += 0.4
            return method(*arguments, **named)
        return slow

    monkeypatch.setattr(live_panel.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(live_panel, "loss_svg", slowly(live_panel.loss_svg))
    live._reset("austen", 200)
    for step in range(1, 4001):
        clock[0] += 0.05
        live._take(Report(step, 4000, torch.tensor(2.0), 1.0, 0.01, 1000.0, 0.05 * step, 0.0, None))
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


@pytest.fixture
def trained(live):
    live.start()
    until(lambda: steps(live) > 10, "training is under way")
    live.stop()
    live.wait(60)
    return live


def what_is_there(live) -> tuple:
    """What the panel has of the last training, and what it offers to do with it."""
    return (live.gpt.model, live.history, steps(live), live.report, live.text_name, live.picture.value, live.samples.value,
            live.start_button.description, *(button.layout.display for button in (live.go_on_button, live.page_button)))


def it_goes_on(live) -> bool:
    model = live.gpt.model
    live.go_on()
    until(lambda: live.state == "training" and steps(live) > 3, "it trains further")
    return live.gpt.model is model


@contextmanager
def the_last_training_is_left(live):
    """In here another one fails before it begins; whatever the last one has left is still there then, and is gone on with."""
    before = what_is_there(live)
    assert before[-2:] == (None, None)
    yield
    live.wait(60)
    assert what_is_there(live) == before
    assert it_goes_on(live)


def test_a_text_that_cannot_be_read_leaves_the_last_training_and_its_buttons(trained, tmp_path):
    with the_last_training_is_left(trained):
        trained.controls["file"].value = str(tmp_path / "missing.txt")
        trained.start()
        trained.wait(60)
        assert trained.state == "failed" and "there is no file" in trained.status.value


def test_a_stop_in_preparing_leaves_the_last_training_and_its_buttons(trained, monkeypatch):
    going_on, made = threading.Event(), GPT.from_files

    def slowly(*arguments, **keywords):
        going_on.wait(60)
        return made(*arguments, **keywords)

    monkeypatch.setattr(GPT, "from_files", slowly)
    with the_last_training_is_left(trained):
        trained.start()
        assert trained.state == "preparing" and trained.go_on_button.layout.display == "none"
        trained.stop()
        going_on.set()
        trained.wait(60)
        assert trained.state == "ready" and "Stopped before it began" in trained.status.value


def test_an_error_in_a_step_leaves_nothing_to_go_on_with(trained, monkeypatch):
    monkeypatch.setattr(LiveTraining, "_take", lambda self, report: 1 / 0)
    trained.start()
    trained.wait(60)
    assert trained.state == "failed" and trained.page_button.layout.display == "none"


def test_start_without_a_file_asks_for_one(live):
    live.controls["file"].value = "  "
    live.start_button.click()
    assert "name of your file" in live.status.value and not live.running and not live.start_button.disabled


@pytest.mark.parametrize("error", [ValueError("path must be a page of ours, and a<b.html is none"),
                                   OSError("cannot write a<b.html: No space left on device")])
def test_a_page_that_cannot_be_saved_is_told_in_a_sentence(live, monkeypatch, error):
    def refuse(*_, **__):
        raise error
    monkeypatch.setattr(GPT, "save_page", refuse)
    live.page_button.click()
    assert "<b>Not saved.</b>" in live.status.value and str(error).replace("<", "&lt;") in live.status.value
    assert "Traceback" not in live.status.value and "Saved" not in live.status.value
    assert live.announcer.words == f"Not saved. {error}"


def test_an_error_in_a_step_is_shown(live, monkeypatch):
    monkeypatch.setattr(LiveTraining, "_take", lambda self, report: 1 / 0)
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


def test_while_it_trains_text_and_time_are_locked_and_it_says_what_it_reads(live, book):
    live.start()
    until(lambda: steps(live) > 3, "training is under way")
    assert all(control.disabled for control in live.controls.values())
    until(lambda: str(book) in live.status.value, "it says what it trains on")
    live.stop()
    live.wait(60)
    assert not any(control.disabled for control in live.controls.values())


def test_no_more_time_is_left_than_was_given(live):
    live._reset("austen", 60)
    live._take(Report(1, 1001, torch.tensor(2.0), 1.0, 0.01, 1000.0, 1.5, 163.0, None))
    assert "58 s left" in live._progress()


def test_the_references_line_is_not_drawn_on_another_text(live):
    live.start()
    until(lambda: steps(live) > 3, "training is under way")
    assert "reference" not in live.picture.value


def test_start_says_that_it_begins_anew_and_going_on_keeps_the_model(live):
    assert live.start_button.description == "Start" and live.go_on_button.layout.display == "none"
    live.go_on_button.click()
    assert not live.running, "there is nothing to go on with"
    live.start()
    until(lambda: steps(live) > 10, "training is under way")
    live.stop()
    live.wait(60)
    assert live.start_button.description == "Start anew" and live.go_on_button.layout.display is None
    model, tokenizer = live.gpt.model, live.gpt.tokenizer
    live.go_on_button.click()
    until(lambda: steps(live) > 3 and live.state == "training", "it trains further")
    assert live.gpt.model is model and live.gpt.tokenizer is tokenizer
    live.stop()
    live.wait(60)
    assert live.gpt.model is model and live.state == "done"


def test_a_slow_machine_still_measures_four_times(live, monkeypatch):
    """The loop, which pays for its measurements from the budget, could not afford one here."""
    losses = iter((3.0, 2.5, 2.0, 1.5))
    monkeypatch.setattr(live_panel, "evaluate", lambda model, text: next(losses))
    live.start()
    until(lambda: steps(live) > 3, "there is a text to measure on")
    live.stop()
    live.wait(60)
    losses = iter((3.0, 2.5, 2.0, 1.5))
    live._reset("austen", 60)
    for step in range(1, 61):
        live._take(Report(step, 60, torch.tensor(2.0), 1.0, 0.01, 1000.0, float(step), 0.0, None))
    live._finish()
    assert [seconds for seconds, _ in live._held_out] == [15, 30, 45, 60]
    assert live.history.val_loss == [3.0, 2.5, 2.0, 1.5] and live.history.val_steps == [15, 30, 45, 60]


def test_what_was_drawn_before_the_training_follows_the_new_model(live):
    bars, writer = next_token(live.gpt, "She"), talk(live.gpt, "She")
    before = bars.output.value
    live.start()
    until(lambda: steps(live) > 20, "training is under way")
    live.stop()
    live.wait(60)
    assert bars.output.value != before and bars.output.value == next_token(live.gpt, "She").output.value
    assert "has been trained since" in writer.note.value
    writer.controls["length"].value = 10
    writer.button.click()
    assert "has been trained since" not in writer.note.value


def test_a_screen_reader_hears_each_state_once_and_not_every_step(live):
    said = []
    live.announcer.observe(lambda change: said.append(change["new"]), "words")
    live.start()
    until(lambda: steps(live) > 50, "training is under way")
    live.stop()
    live.wait(60)
    assert len(said) == 3 and said[0].startswith("Reading") and said[-1].startswith("Kept after step")
    assert not any("<" in words for words in said)


def test_a_cell_that_trains_the_same_model_is_told_once(live, capsys):
    live.start()
    until(lambda: steps(live) > 3, "training is under way")
    live_panel.tell_of_a_second_training()
    assert capsys.readouterr().out == "", "a cell that does not train hears nothing"
    live.gpt.train(steps=1, progress=False)
    for _ in range(2):
        live_panel.tell_of_a_second_training()
    assert capsys.readouterr().out.count("was training this model at the same time") == 1
