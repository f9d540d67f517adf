"""What a person needs while a model trains: a bar, a way to stop that loses nothing, and how it went."""

import signal
import threading

import pytest
import torch

from minigpt.progress import History, shown_bar, stop_request, until_stopped, without_bar
from minigpt.training import Report


def reports(n: int, seen: list, validation_at=()):
    """A training loop of `n` steps, which notes how far it came, and that it was closed."""
    try:
        for step in range(1, n + 1):
            seen.append(step)
            loss = 1.5 if step in validation_at else None
            yield Report(step, n, torch.tensor(4.0 / step), 2.0, 0.1, 100.0, step / 10, (n - step) / 10, loss)
    finally:
        seen.append("closed")


def test_a_history_has_an_entry_a_step_and_one_a_measurement():
    history = History()
    for report in reports(4, [], validation_at=(2, 4)):
        history.add(report)
    assert history.steps == [1, 2, 3, 4] and history.train_loss == pytest.approx([2.0, 1.0, 2 / 3, 0.5])     # nats per byte
    assert history.val_steps == [2, 4] and history.val_loss == [1.5, 1.5]
    assert history.seconds == 0.4 and history.tokens_per_second == 100.0 and not history.interrupted


def test_a_history_that_ends_before_the_last_step_was_interrupted():
    history = History()
    history.add(next(reports(4, [])))
    assert history.interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("progress", [True, False])
def test_a_signal_stops_after_the_step_under_way_and_the_loop_is_closed(number, progress, capsys):
    before, seen = signal.getsignal(number), []
    with stop_request() as stop:
        for report in until_stopped(reports(9, seen), stop, progress):
            if report.step == 3:
                signal.raise_signal(number)
    assert seen == [1, 2, 3, "closed"] and signal.getsignal(number) is before
    assert "Stopping after this step. Once more stops at once." in capsys.readouterr().err


def test_a_second_interrupt_stops_at_once_and_is_no_error_of_the_loop():
    seen = []
    with stop_request() as stop:
        for report in until_stopped(reports(9, seen), stop, progress=False):
            if report.step == 2:
                stop.requested = stop.at_once = True
    assert seen == [1, 2, "closed"]
    with pytest.raises(KeyboardInterrupt), stop_request() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert stop.at_once


def test_an_interrupt_that_nobody_asked_for_here_goes_on_to_who_did():
    def interrupted():
        yield from reports(1, [])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), stop_request() as stop:
        list(until_stopped(interrupted(), stop, progress=False))


def test_in_another_thread_no_signal_is_touched():
    before, during = signal.getsignal(signal.SIGINT), []

    def elsewhere():
        with stop_request() as stop:
            during.extend([signal.getsignal(signal.SIGINT), bool(stop)])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert during == [before, False]


@pytest.mark.parametrize("bar", [shown_bar, without_bar])
def test_a_bar_gives_the_same_items(bar):
    assert list(bar(iter("abc"), "reading", 3)) == ["a", "b", "c"]


def test_the_bar_of_a_training_shows_its_losses_and_ends_at_its_last_step(capsys):
    with stop_request() as stop:
        assert len(list(until_stopped(reports(4, [], validation_at=(4,)), stop))) == 4
    last = capsys.readouterr().err.rstrip().split("\r")[-1]
    assert "4/4" in last and "loss=0.50" in last and "validation=1.500" in last
