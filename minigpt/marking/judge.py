"""The judge: asks an answer fresh questions, compares, and says how many points it earns, and why.

A test cell runs here as it stands, line by line, in a process without any line of the student's: a
name that the student's notebook sets is an `Answer` there, which is asked in a worker, and a
check is `Check`, which has the classroom's own one run in another. So a test cell can't be patched,
and what stands in it can be read by anybody.
"""

import ast
import contextlib
import io
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from minigpt.marking import own_work
from minigpt.marking.cells import Cell, needed
from minigpt.marking.hidden import QUESTIONS, Questions, agrees
from minigpt.marking.worker import MEMORY, PACKAGES_OWN
from minigpt.marking.workers import Gone, Worker, workshop

NONE_HIDDEN = Questions(lambda odd: iter(()), (), False)


class NoPoints(AssertionError):
    """Why there are no points for a test: a sentence for the student."""


@dataclass(frozen=True)
class Findings:
    """What came of the hidden questions; `sentence` says what is wrong, "" where nothing is.

    `refused`: the answer is not the student's own, or tried something else than to answer.
    """

    ordinary: bool = False
    odd: bool = False
    refused: bool = False
    sentence: str = ""


class Notebook:
    """What a student has handed in: the code cells, and which exercises are solved so far.

    `worked` are the teacher's solutions, by the name of their cell. Where an exercise needs another
    one that is not solved, the teacher's takes its place: a mistake costs its points once.
    `given` are the texts of the cells that were handed out, in which nobody looks for tricks.
    """

    def __init__(self, cells: list[Cell], tests: set[str], worked: dict[str, str],
                 given: Iterable[str] = ()):
        self.cells, self.tests, self.given = cells, tests, set(given)
        self.worked = {name: Cell(name, text) for name, text in worked.items()}
        self.solved: set[str] = set()                   # the names of solution cells
        self.passed: set[str] = set()                   # the names of functions
        self._answers: dict[tuple[str, str], Answer] = {}

    def run_test(self, place: int) -> tuple[str, str | None, Exception | None]:
        """(what the test cell at `place` prints, its last value, what ended it early)."""
        cell, printed = self.cells[place], io.StringIO()
        scope, last = self.scope(place), None
        *body, end = cell.tree.body or [ast.Pass()]
        with contextlib.redirect_stdout(printed):
            try:
                if not isinstance(end, ast.Expr):
                    body, end = [*body, end], None
                exec(compile(ast.Module(body, []), f"<{cell.name}>", "exec"), scope)
                if end is not None:
                    last = eval(compile(ast.Expression(end.value), f"<{cell.name}>", "eval"), scope)
            except AssertionError as error:
                return printed.getvalue(), None, error
        return printed.getvalue(), None if last is None else repr(last), None

    def scope(self, place: int) -> dict:
        """The names of a test cell: its check, and the answers that it asks."""
        reads = sorted(self.cells[place].reads)
        checks = [name for name in reads if name.startswith("check_")]
        set_before = set().union(*(cell.sets for cell in self.cells[:place]))
        scope = {"__name__": "__main__"}
        for name in reads:
            if name in checks:
                scope[name] = Check(name)
            elif name in set_before or name.lower().startswith("my"):
                scope[name] = self.answer(name, (checks or [""])[0], place)
        return scope

    def answer(self, name: str, check: str, place: int) -> "Answer":
        """The same one for both tests of an exercise: it is asked once."""
        return self._answers.setdefault((name, check), Answer(self, name, check, place))


class Answer:
    """A student's function or class, by its name: who calls it asks it in a process of its own."""

    def __init__(self, notebook: Notebook, name: str, check: str, place: int):
        self.notebook, self.__name__, self.check, self.place = notebook, name, check, place

    @cached_property
    def cells(self) -> list[Cell]:
        """Those that it needs, its own among them; in place of others' unsolved ones ours."""
        cells = self.notebook.cells
        places = needed(cells, self.place, [self.__name__])
        return [self.notebook.worked[cells[i].name] if self._is_of_another_unsolved(cells[i])
                else cells[i] for i in places if cells[i].name not in self.notebook.tests]

    def _is_of_another_unsolved(self, cell: Cell) -> bool:
        return (cell.name in self.notebook.worked and cell.name not in self.notebook.solved
                and self.__name__ not in self.notebook.worked[cell.name].sets)

    @property
    def questions(self) -> Questions:
        """The hidden ones."""
        return QUESTIONS.get(self.check, NONE_HIDDEN)

    def worker(self, check: str = "") -> Worker:
        """A process that has run the cells; with `check` it has the classroom's check to run."""
        return workshop(*(["checks"] if check else [])).worker({
            "check": check, "name": self.__name__, "package": self.questions.package,
            "cells": [(cell.name or "cell", cell.code) for cell in self.cells],
            "passed": sorted(self.notebook.passed)})

    def __call__(self, *inputs):
        """What it returns, for a test of the teacher's own. Raises `NoPoints`."""
        if sentence := self.refusal:
            raise NoPoints(sentence)
        try:
            with self.worker() as worker:
                self._begin(worker)
                return self._ask(worker, "plain", inputs, f"the inputs {inputs!r:.80}")
        except Gone as gone:
            raise NoPoints(f"{self.__name__}: {gone}.") from None

    @cached_property
    def refusal(self) -> str:
        """Why its text alone earns nothing; "" where it does."""
        worked = list(self.notebook.worked.values())
        return own_work.refusal(
            self.__name__, self.check, self._students(self.cells),
            self._students(self.notebook.cells[:self.place]), self.questions.package, worked,
            self.questions.reads_files)

    def _students(self, cells: list[Cell]) -> list[Cell]:
        """Those of them that the student has written."""
        return [cell for cell in cells if cell.name not in self.notebook.tests
                and cell.text not in self.notebook.given
                and cell not in self.notebook.worked.values()]

    @cached_property
    def findings(self) -> Findings:
        """What comes of all hidden questions."""
        if self.refusal:
            return Findings(refused=True, sentence=self.refusal)
        ordinary = False
        try:
            with self.worker() as worker:
                self._begin(worker)
                self._ask_all(worker, odd=False)
                ordinary = True
                self._ask_all(worker, odd=True)
        except Gone as gone:
            return Findings(ordinary, sentence=f"{self.__name__}: {gone}.")
        except PermissionError as error:
            return Findings(refused=True, sentence=str(error))
        except NoPoints as wrong:
            return Findings(ordinary, sentence=str(wrong))
        return Findings(ordinary, odd=True)

    def _begin(self, worker: Worker) -> None:
        kind, said, *_ = [*worker.reply(), ""]
        if kind == "missing":
            raise NoPoints(f"There is no {self.__name__} in this notebook"
                           f"{f': a cell stops with {said}' if said else ''}.")
        if kind == "package":
            raise PermissionError(f"{self.__name__} is {said}, which is the package's own: write "
                                  "yours.")

    def _ask_all(self, worker: Worker, odd: bool) -> None:
        answers, wrong = [], None
        for case in self.questions.cases(odd):
            answers.append(self._ask(worker, case.how, case.inputs, case.said))
            if not case.is_right(answers[-1]):
                wrong = wrong or case
        if wrong is None:
            return
        if not odd and len(answers) > 2 and all(agrees(one, answers[0]) for one in answers):
            raise NoPoints(f"{self.__name__} gives one and the same result whatever it is given: a "
                           "result is computed from the inputs, and not written down.")
        kind = "an odd input" if odd else "an ordinary input"
        raise NoPoints(f"{self.__name__} is not right for {kind}: {wrong.said}.")

    def _ask(self, worker: Worker, how: str, inputs: tuple, said: str):
        worker.send((how, inputs))
        reply = worker.reply()
        if reply[0] == "value" and len(reply) == 2:
            return reply[1]
        kind, words, line = (str(part) for part in [*reply, "", "", ""][1:4])
        if words.startswith(PACKAGES_OWN):
            raise PermissionError(f"{self.__name__} calls {words.removeprefix(PACKAGES_OWN)}, "
                                  "which is the package's own answer: write yours.")
        if kind == "NotImplementedError" and line.startswith("raise"):
            raise NoPoints(f"{self.__name__} is not written yet.")
        if kind == "MemoryError" or "can't allocate memory" in words:
            raise NoPoints(f"{self.__name__} takes more than the {MEMORY // 2 ** 30} GB of memory "
                           f"that it may, for {said}.")
        raise NoPoints(f"{self.__name__} stops with {kind}: {words.splitlines()[0][:160]}. "
                       f"The line is `{line}`. That was for {said}." if words else
                       f"{self.__name__} stops with {kind} at `{line}`, for {said}.")


class Check:
    """The classroom's check under its own name: `check_average(my_average)` in a test cell.

    It is run in a process of its own, and what it says is for the student. It earns points only
    where the hidden questions were answered as well.
    """

    def __init__(self, name: str):
        self.__name__ = name

    def __call__(self, answer: Answer) -> None:
        """Prints what the check prints. Raises `NoPoints`."""
        findings = answer.findings
        if findings.refused:
            raise NoPoints(findings.sentence)
        said = self.said(answer)
        if findings.sentence:
            raise NoPoints(f"The check finds nothing wrong, and another question does. "
                           f"{findings.sentence}" if said.startswith("✓") else said)
        if not said.startswith("✓"):
            raise NoPoints(said)
        answer.notebook.passed.add(answer.__name__)
        answer.notebook.solved |= {cell.name for cell in answer.cells if cell.name}
        print(said)

    def said(self, answer: Answer) -> str:
        """The line of success, which starts with ✓, or the mistake."""
        try:
            with answer.worker(self.__name__) as worker:
                kind, words, *_ = [*worker.reply(), ""]
        except Gone as gone:
            return f"{answer.__name__}: {gone}."
        if kind == "passed":
            return str(words)
        return (str(words) if kind == "mistake"
                else answer.findings.sentence or f"There is no {answer.__name__}.")


def more_questions(answer, check, points: float) -> float:
    """Asks an answer the hidden questions that stand beside `check`; returns the points.

    Half of them for ordinary inputs, all with the odd ones too. Raises `NoPoints` where there are
    none. In a notebook the function itself is asked, so that a teacher can try the cell.
    """
    if not isinstance(answer, Answer):
        return points * _asked_here(answer, QUESTIONS[check.__name__])
    findings = answer.findings
    if not findings.ordinary or findings.refused:
        raise NoPoints(findings.sentence)
    if findings.sentence:
        print(findings.sentence)
    return points if findings.odd else points / 2


def _asked_here(function, questions: Questions) -> float:
    """The share of the points, without a process in between: for whoever trusts the function."""
    from minigpt.marking import asking
    from minigpt.marking.messages import pack, unpack

    for odd in (False, True):
        for case in questions.cases(odd):
            try:
                answer = getattr(asking, case.how)(function, *case.inputs)
                wrong = not case.is_right(unpack(pack(answer)))
            except Exception:
                traceback.print_exc()
                wrong = True
            if wrong:
                print(f"not right for {case.said}")
                return 0.5 * odd
    return 1.0
