"""The pace of a run: what is used of its budget, what still fits, and when to evaluate.

A budget is a number of steps or of seconds. The learning-rate schedule has to know how many steps
there will be, so seconds are turned into steps again and again, at the pace of the last ones.
"""

import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from minigpt.device import wait_for

LATEST = 50                          # steps, the median of whose durations is the pace
KNOWN = 3                            # steps after which the pace is taken to be known
LARGEST_SHARE = 0.1                  # of a budget of seconds that all evaluations may take together


class Pace:
    """The pace of one run.

    Its `state` has the steps done, the seconds spent, and what the last evaluation took. `steps` or
    `seconds` is the budget, and the other is None. `evaluation_tokens`: how many tokens an
    evaluation reads, 0 where there is none.
    """

    def __init__(self, state, steps: int | None, seconds: float | None, evaluations: int,
                 evaluation_tokens: int):
        self.state, self.steps, self.seconds = state, steps, seconds
        self.evaluations, self.evaluation_tokens = evaluations, evaluation_tokens
        self.durations = deque(maxlen=LATEST)        # of the last steps, in seconds
        if state.step:                               # a run that is gone on with has a pace already
            self.durations.extend([state.seconds / state.step] * KNOWN)
        self.planned = steps or state.step + (state.seconds < seconds)
        self.used_before = self.used                 # when the last step began

    @property
    def used(self) -> float:
        """What is used up of the budget: steps, or else seconds."""
        return self.state.step if self.steps else self.state.seconds

    @property
    def finished(self) -> bool:
        """Whether the last step that was planned is done."""
        return self.state.step >= self.planned

    @property
    def seconds_a_step(self) -> float:
        """What a step typically takes."""
        return statistics.median(self.durations)

    @property
    def tokens_per_second(self) -> float:
        """How many tokens are read in a second."""
        return self.state.tokens_a_step / self.seconds_a_step

    @property
    def seconds_left(self) -> float:
        """What the steps still planned will take, evaluations left out."""
        return (self.planned - self.state.step) * self.seconds_a_step

    def plan(self) -> int:
        """How many steps the run will have at its end, as far as one can tell by now."""
        self.used_before = self.used
        self.planned = self.steps or self._steps_in_seconds()
        return self.planned

    def _steps_in_seconds(self) -> int:
        """How many steps the budget of seconds comes to, the last evaluation paid from it too."""
        unknown = self.state.step + 1_000                 # the schedule is still warming up
        if not self.durations:
            return unknown
        left = self.seconds - self.state.seconds - self._evaluation_seconds()
        if len(self.durations) < KNOWN and left > 2 * max(self.durations):
            return unknown                                # the first steps are slow, and say little
        return self.state.step + max(1, int(left / self.seconds_a_step))

    def evaluation_is_due(self) -> bool:
        """Whether the last step passed a place where the loss is measured, or was the last."""
        times, budget = self.evaluations, self.steps or self.seconds
        if self.seconds and (cost := self._evaluation_seconds()):   # it is paid from the budget
            times = min(times, int(LARGEST_SHARE * self.seconds / cost))
        passed, passed_before = (int(used * times / budget)
                                 for used in (self.used, self.used_before))
        return self.finished or passed > passed_before

    def _evaluation_seconds(self) -> float:
        """What an evaluation takes, in seconds: as long as the last one, or before it a guess."""
        forward = self.seconds_a_step / 3               # a step is forward, and twice that back
        guess = self.evaluation_tokens / self.state.tokens_a_step * forward
        return self.state.evaluation_seconds or guess

    @contextmanager
    def timing_a_step(self) -> Iterator[None]:
        """What happens in here is one step."""
        began = time.perf_counter()
        yield
        self.durations.append(self._seconds_since(began))
        self.state.seconds += self.durations[-1]

    @contextmanager
    def timing_an_evaluation(self) -> Iterator[None]:
        """What happens in here is one evaluation."""
        began = time.perf_counter()
        yield
        self.state.evaluation_seconds = self._seconds_since(began)
        self.state.seconds += self.state.evaluation_seconds

    def _seconds_since(self, began: float) -> float:
        """Until the device is ready; of several ranks, those of the slowest, and so all the same.
        """
        wait_for(self.state.device)
        return self.state.ranks.largest(time.perf_counter() - began)
