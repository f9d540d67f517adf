"""What a person needs while a model trains: a bar, a way to stop, and how it went.

To stop loses nothing. All of it reads the reports of a training loop.
"""

import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from minigpt.alone import ALONE, GRACE, Alone
from minigpt.console import tell
from minigpt.plugins import plugin
from minigpt.training import Report


@dataclass
class History:
    """What happened in training: an entry a step, and one a measured validation loss.

    Losses are in nats per byte.
    """

    steps: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    val_steps: list[int] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    interrupted: bool = False                                   # stopped before its last step

    def add(self, report: Report) -> None:
        """Take in one more step."""
        self.steps.append(report.step)
        self.train_loss.append(report.loss)
        if report.validation_loss is not None:
            self.val_steps.append(report.step)
            self.val_loss.append(report.validation_loss)
        self.seconds, self.tokens_per_second = report.seconds, report.tokens_per_second
        self.interrupted = report.step < report.steps

    def plot(self):
        """The loss curves, as a picture for a notebook. Needs the notebook extra.

        What draws is a plug-in, so that nothing here needs a front end.
        """
        return plugin("plots", "loss_curve")(self)


class StopRequest:
    """False until somebody asked to stop; `at_once`: not even the step under way may end."""

    def __init__(self, ranks: Alone = ALONE):
        self.requested = self.at_once = False
        self.ranks = ranks

    def __bool__(self) -> bool:
        return self.requested

    def of_any(self) -> bool:
        """Whether any rank was asked to: all get one answer, and so stop at the same step."""
        return bool(self.ranks.largest(self.requested))


def signals() -> list[signal.Signals]:
    """What asks a program to end, on this system: Ctrl-C, `kill`, a terminal that is closed.

    Without those that whoever started it has switched off, as `nohup` does.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")         # the last is Windows' Ctrl-Break
    there = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in there if signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def handled(handler: Callable) -> Iterator[None]:
    """In here `handler` is called where one of them comes.

    In a thread other than the main one none arrives, and nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals()}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def stop_request(ranks: Alone = ALONE) -> Iterator[StopRequest]:
    """Turns a signal into a wish, to be granted between two steps. A second one stops at once.

    A notebook's stop button sends a Ctrl-C too.
    """
    stop = StopRequest(ranks)

    def ask(number, frame):
        if stop.requested:
            stop.at_once = True
            raise KeyboardInterrupt
        stop.requested = True
        if number == signal.SIGTERM:
            ranks.end_within(GRACE)
        if ranks.is_first:                  # they are all asked, and one of them says so
            tell("\nStopping after this step. Once more stops at once.")

    with handled(ask):
        try:
            yield stop
        finally:
            ranks.end_within(0)


def unhurried():
    """In here no signal ends anything: what is being saved is saved whole."""
    return handled(lambda number, frame: tell("\nSaving. It ends when that is done."))


def until_stopped(loop: Generator[Report], stop: StopRequest, progress: bool = True
                  ) -> Iterator[Report]:
    """The reports of a training loop to its end, or until `stop`; a bar, if `progress`.

    It closes the loop.
    """
    with closing(loop):
        try:
            for report in with_progress_bar(loop) if progress else loop:
                yield report
                if stop.of_any():
                    return
        except KeyboardInterrupt:
            if not stop.at_once:
                raise


def shown_bar(items: Iterable, what: str, total: int | None = None) -> Iterable:
    """The same items, shown as a bar that says `what` is going on."""
    from tqdm.auto import tqdm  # a widget in a notebook, a line of text elsewhere
    return tqdm(items, what, total, leave=False, dynamic_ncols=True, delay=1.0)


def without_bar(items: Iterable, what: str, total: int | None = None) -> Iterable:
    """The same items, and nothing is shown."""
    return items


def with_progress_bar(reports: Iterator[Report]) -> Iterator[Report]:
    """The same reports, shown as a bar with the loss, the last validation loss, the time left."""
    from tqdm.auto import tqdm
    losses = {}
    with tqdm(unit="step", dynamic_ncols=True) as bar:
        for report in reports:
            losses["loss"] = f"{report.loss:.2f}"
            if report.validation_loss is not None:
                losses["validation"] = f"{report.validation_loss:.3f}"
            bar.total = report.steps
            bar.set_postfix(losses, refresh=False)
            bar.update(report.step - bar.n)       # a run that is gone on with does not begin at 0
            yield report
