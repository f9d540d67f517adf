"""The questions and hints of the notebooks: texts in `questions/`, one file a notebook.

They do not stand in the notebooks' cells, because there the answer would stand above the question:
in the cell itself, in its first line where it is folded, and in every export. A cell says
`predict("02_attention/scale")`, and the text is found here. For each notebook a TOML file:

    [predictions.scale]
    question = "About how large is `q · k` typically?"
    why = "64 products of variance 1 add up to a variance of 64, and √64 = 8."
    answers = {"1" = "That is one entry.", "8" = true}  # or why it is tempting

    [predictions.average]
    question = "What is the first channel of the result?"
    number = 0.67                                      # to be typed, and right within the tolerance
    tolerance = 0.01
    tempting = {"2" = "That is the sum."}                     # number -> why it tempts
    why = "(1 + 0 + 1) / 3 = 0.67."

    [hints]
    attention = ["How many numbers does one query compare with?", "`torch.Tensor.masked_fill`"]
"""

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from minigpt.classroom.numerals import readings

FOLDER = Path(__file__).with_name("questions")
CLOSE = 0.015          # how far, relatively, a number may be from a tempting one and be it, rounded


class Verdict(NamedTuple):
    """What an answer comes to: `label` is the same for all who answered the same."""

    label: str
    right: bool
    why: str


@dataclass(frozen=True)
class Question:
    """A question, and what is to be said to each answer.

    Either `answers` to choose from, or a `number` to be typed. Raises ValueError where it has not
    exactly one right answer.
    """

    notebook: str
    key: str
    text: str
    answers: Mapping[str, str | bool] | None = None
    number: float | None = None
    tolerance: float = 0.0
    tempting: Mapping[float, str] = field(default_factory=dict)
    why: str = ""

    def __post_init__(self):
        if (self.answers is None) == (self.number is None):
            raise ValueError(
                f"{self.name} needs either answers, to choose from, or number, to be typed"
            )
        if self.answers is not None:
            right = [option for option, reason in self.answers.items() if reason is True]
            if len(right) != 1:
                raise ValueError(
                    f"answers of {self.name} must hold one right answer (True), not {len(right)}"
                )

    @property
    def name(self) -> str:
        return f"{self.notebook}/{self.key}"

    @property
    def solution(self) -> str:
        """The right answer, in words."""
        if self.answers is None:
            return plain(self.number)
        return next(option for option, reason in self.answers.items() if reason is True)

    @property
    def wrong(self) -> dict[str, str]:
        """Tempting answer, in words -> why it tempts."""
        if self.answers is None:
            return {plain(number): reason for number, reason in self.tempting.items()}
        return {option: reason for option, reason in self.answers.items() if reason is not True}

    def judge(self, text: str) -> Verdict:
        """Raises ValueError with a sentence where `text` is no option, or no number."""
        if self.answers is None:
            return self._judge_number(text)
        if text not in self.answers:
            raise ValueError(f"an answer to {self.name} is one of "
                             f"{', '.join(map(repr, self.answers))}, not {text!r}")
        reason = self.answers[text]
        return Verdict(text, True, self.why) if reason is True else Verdict(text, False, reason)

    def _judge_number(self, text: str) -> Verdict:
        """Right if one reading of it is; else what is said to a number like that.

        It may be a tempting one; else it is told which way it is off.
        """
        values = readings(text)
        if any(abs(value - self.number) <= self.tolerance + 1e-9 * abs(self.number)
               for value in values):
            return Verdict(self.solution, True, self.why)
        for tempting, reason in self.tempting.items():
            if any(math.isclose(value, tempting, rel_tol=CLOSE) for value in values):
                return Verdict(plain(tempting), False, reason)
        way = "Too large." if values[0] > self.number else "Too small."
        if len(values) > 1:
            way += f" (It was read as {' or '.join(map(plain, values))}.)"
        return Verdict(plain(values[0]), False, way)


def plain(number: float) -> str:
    """A number without noise: 8, 0.67, 2080."""
    return f"{number:.10g}"


@cache
def bank() -> dict[str, Question]:
    """All questions of the notebooks, "02_attention/scale" -> Question, in their order."""
    return {question.name: question for notebook, texts in _files().items()
            for key, entry in texts.get("predictions", {}).items()
            for question in [_question(notebook, key, dict(entry))]}


@cache
def hint_bank() -> dict[str, list[str]]:
    """All hints of the notebooks, "02_attention/attention" -> one text after the other."""
    return {f"{notebook}/{key}": hints for notebook, texts in _files().items()
            for key, hints in texts.get("hints", {}).items()}


def find(texts: dict, name: str, what: str):
    """The entry of that name.

    Raises ValueError that names it and the likeliest one that is there.
    """
    if name not in texts:
        close = difflib.get_close_matches(name, texts, 1)
        raise ValueError(
            f"there are no {what} of the name {name!r}"
            + (f"; there are of {close[0]!r}" if close else "")
        )
    return texts[name]


def _files() -> dict[str, dict]:
    return {
        file.stem: tomllib.loads(file.read_text(encoding="utf-8"))
        for file in sorted(FOLDER.glob("*.toml"))
    }


def _question(notebook: str, key: str, entry: dict) -> Question:
    tempting = {float(number): reason for number, reason in entry.pop("tempting", {}).items()}
    return Question(notebook, key, entry.pop("question"), tempting=tempting, **entry)
