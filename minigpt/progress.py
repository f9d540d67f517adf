"""What a person needs while a model trains: a bar that moves, and a way to stop that loses nothing."""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from minigpt.training import Report


class StopRequest:
    """False until somebody asked to stop."""

    def __init__(self):
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Turns Ctrl-C (a notebook's stop button too) and SIGTERM into a wish, to be granted between two steps.

    A second Ctrl-C stops at once. In a thread other than the main one no signal arrives, and nothing is changed.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number, frame):
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def with_progress_bar(reports: Iterable[Report]) -> Iterator[Report]:
    """The same reports, shown as a bar with the loss, the last validation loss and the time left."""
    from tqdm.auto import tqdm  # a widget in a notebook, a line of text elsewhere
    losses = {}
    with tqdm(unit="step", dynamic_ncols=True) as bar:
        for report in reports:
            losses["loss"] = f"{report.loss:.2f}"
            if report.validation_loss is not None:
                losses["validation"] = f"{report.validation_loss:.3f}"
            bar.total = report.steps
            bar.set_postfix(losses, refresh=False)
            bar.update(report.step - bar.n)            # a run that is gone on with does not begin at 0
            yield report
