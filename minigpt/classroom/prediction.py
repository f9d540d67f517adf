"""Predictions: commit to an answer first, then look. And hints, which open one at a time.

A question comes from the notebook's file in `questions/`, or is given in the cell. What is
answered first is kept on disk, in `answers/` beside the notebook, one file a notebook: it survives
a restart, and a class can be compared. Delete the file to begin anew.

Only what was committed is judged: a click on an option, or Enter or the button after a number.
"""

import csv
import html
import io
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets

from minigpt import arguments, files
from minigpt.arguments import nonempty_text, or_none, shown, takes
from minigpt.classroom import questions
from minigpt.classroom.controls import Announcer, TextBox
from minigpt.classroom.doors import listed
from minigpt.classroom.numerals import readings
from minigpt.classroom.plots import counted
from minigpt.classroom.questions import Question
from minigpt.classroom.widgets import Card, Page, guarded, prose, styled, typed

FOLDER = Path.cwd() / "answers"         # a kernel starts in its notebook's folder
KINDS = {"notebook": str, "question": str, "text": str, "answer": str, "right": bool, "tries": int,
         "time": str}
COLUMNS = tuple(KINDS)
EXPORTED = ("name", *COLUMNS)

# Each is told of every answer: a dict with these COLUMNS.
listeners: list[Callable[[dict], None]] = []
# What could not be written: notebook -> question -> record.
_unsaved: dict[str, dict[str, dict]] = {}
_asked: dict[str, None] = {}         # the notebooks whose questions this kernel has shown, in order


# ---- what has been answered

def read_answers(notebook: str) -> dict[str, dict]:
    """The records of a notebook, by question.

    Raises ValueError naming the file where it is not one of ours.
    """
    file = FOLDER / f"{notebook}.json"
    unsaved = _unsaved.get(notebook, {})
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if not all(map(_is_record, kept.values())):
            raise ValueError("it has other columns")
    except (FileNotFoundError, NotADirectoryError):
        return unsaved
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file} does not hold answers ({error}): move it elsewhere, and answer "
                         "again") from None
    return unsaved | kept


def _is_record(record) -> bool:
    return (isinstance(record, dict) and record.keys() == KINDS.keys()
            and all(isinstance(record[name], kind) for name, kind in KINDS.items()))


def keep_answer(question: Question, answer: str, right: bool) -> str:
    """Writes an answer down, the first one for good.

    Returns a sentence where it could not be written, else "".
    """
    answers = read_answers(question.notebook)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    values = (question.notebook, question.key, question.text, answer, right, 1, now)
    present = dict(zip(COLUMNS, values, strict=True))
    record = answers.setdefault(question.key, present | {"tries": 0})
    record["tries"] += 1
    _tell(present | {"tries": record["tries"]})
    try:
        FOLDER.mkdir(exist_ok=True)
        text = json.dumps(answers, ensure_ascii=False, indent=1) + "\n"
        files.write_atomically(FOLDER / f"{question.notebook}.json", text.encode())
    except OSError as error:
        _unsaved[question.notebook] = answers
        reason = error.strerror or error
        return f"This answer is kept until the kernel stops, and not on disk: {reason}."
    _unsaved.pop(question.notebook, None)
    return ""


def _tell(row: dict) -> None:
    for listener in listeners:
        try:
            listener(dict(row))
        except Exception:       # who listens is not the student's business
            continue


class Predictions(dict):
    """"notebook/question" -> its record, with the first answer given; shows as a small table."""

    HEADS = ("prediction", "your first answer", "right?", "tries")

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(record['question'])}</td><td>{typed(record['answer'])}</td>"
            f"<td>{'✓ yes' if record['right'] else '✗ no'}</td><td>{record['tries']}</td></tr>"
            for record in self.values())
        head = "".join(f"<th>{name}</th>" for name in self.HEADS)
        table = (
            f'<table class="minigpt-table"><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )
        return styled(table) if self else "<p>No answers yet.</p>"

    def __repr__(self) -> str:
        return (
            "\n".join(
                f"{record['question']}: {record['answer']} "
                f"({'right' if record['right'] else 'wrong'}, "
                f"{record['tries']} tries)"
                for record in self.values()
            )
            or "No answers yet."
        )


def predictions() -> Predictions:
    """The first answers to the questions of this notebook, those of earlier days too."""
    return Predictions(_records(_asked))


def _records(notebooks) -> dict[str, dict]:
    return {f"{notebook}/{key}": record
            for notebook in notebooks for key, record in read_answers(notebook).items()}


@takes(path=arguments.path, name=arguments.text)
def export_predictions(path, name: str = "") -> Path:
    """Writes the first answers in all notebooks of this folder to a .csv or .json file.

    It is written whole or not at all. One row a question, with the columns name (yours, or what you
    like), notebook, question (its key), text (its words), answer, right (True or False), tries,
    time (of the first answer, UTC). A file among the answers that holds none is named and left out.
    An earlier export of the same answers, under the same name, is replaced. Raises ValueError for
    another kind of file, for one in the folder of the answers and for one that is there and holds
    anything else, such as the answers of others; OSError naming the file where it cannot be
    written; the one that was there is then unchanged.
    """
    _check_place(path)
    rows = [{"name": name} | record for record in _all_records().values()]
    _check_nothing_lost(path, rows)
    if path.suffix == ".json":
        text = json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    else:
        file = io.StringIO()
        table = csv.DictWriter(file, EXPORTED, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        text = file.getvalue()
    files.write_atomically(path, text.encode())
    return path


def _check_place(path: Path) -> None:
    if path.suffix not in (".json", ".csv"):
        raise ValueError(f"path must end in .json or .csv, not {path.name!r}")
    # By its own name, and by the one that it is a link to.
    if FOLDER.resolve() in (path.parent.resolve(), path.resolve().parent):
        raise ValueError(f"path must be outside of {FOLDER}, where the answers are kept, "
                         f"not {str(path)!r}")


def _check_nothing_lost(path: Path, rows: list[dict]) -> None:
    """Raises ValueError where the file holds anything that these rows lack."""
    if not path.is_file():
        return
    exported = _exported_rows(path)
    if exported is None:
        raise ValueError(f"path must be a new file or an earlier export, and {path} is neither: "
                         "it is left as it is")
    kept = set(map(_answered, rows))
    lost = [row for row in exported if _answered(row) not in kept]
    if lost:
        raise ValueError(f"path must be a new file or an earlier export of these answers, and "
                         f"{path} holds {counted(len(lost), 'other row')}, the first of the name "
                         f"{shown(lost[0]['name'])}: it is left as it is, choose another name")


def _exported_rows(path: Path) -> list[dict] | None:
    """The rows of an export, none of an empty file; None for a file that is no export."""
    try:
        text = path.read_bytes().decode()
        if not text:
            return []
        if path.suffix == ".json":
            rows = json.loads(text)
        else:
            # What is more in a row than its columns has the name None.
            table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            rows = list(table) if table.fieldnames == list(EXPORTED) else None
        whole = isinstance(rows, list) and all(row.keys() == set(EXPORTED) for row in rows)
        return rows if whole else None
    except (ValueError, AttributeError, RecursionError, csv.Error):
        return None


def _answered(row: dict) -> tuple:
    """All that stays of an exported row while its question is answered again."""
    return tuple(str(row[column]) for column in EXPORTED if column != "tries")


def _all_records() -> dict[str, dict]:
    """What was answered in all notebooks of this folder; says which files hold no answers."""
    names = dict.fromkeys([*sorted(file.stem for file in FOLDER.glob("*.json")), *_unsaved])
    records = {}
    for notebook in names:
        try:
            records |= _records([notebook])
        except (OSError, ValueError) as error:
            print(f"Left out: {error}")
    return records


# ---- the question on the page

class Prediction(Card):
    """A question that takes an answer and then talks about it. Made by `predict`.

    `answer(text)` is what a click does. `verdict` is the HTML widget that answers back,
    `announcer` says the same to a screen reader; `reveal` is the button that shows the right
    answer, hidden until somebody has committed to one.
    """

    def __init__(self, question: Question):
        self.question = question
        self.verdict, self.announcer = ipywidgets.HTMLMath(), Announcer()
        self.reveal = ipywidgets.Button(
            description="Show the right answer", layout={"display": "none"}
        )
        self.reveal.on_click(guarded(lambda _: self.show_solution(), self.verdict))
        asked = ipywidgets.HTMLMath(f"<b>Predict.</b> {prose(question.text)}")
        form = "type a number" if question.answers is None else " | ".join(question.answers)
        super().__init__([asked, *self._controls(), self.verdict, self.announcer, self.reveal],
                         _still(question), f"Predict: {question.text}  [{form}]")
        self._remember()

    def _controls(self) -> list:
        raise NotImplementedError

    def judge(self, text: str) -> tuple[bool, str]:
        """(whether it is right, why)."""
        _, right, why = self.question.judge(text)
        return right, why

    def answer(self, text: str) -> None:
        right, why = self.judge(text)
        note = keep_answer(self.question, text, right)
        word = "✓ Yes" if right else "✗ Not quite"
        self._say(
            f"<b>{word}: {typed(text)}.</b> {prose(why)}"
            + (f"<br>{html.escape(note)}" if note else ""),
            right,
        )
        self.announcer.words = f"{word}: {text}. {why} {note}".strip()
        self.reveal.layout.display = "none" if right else None

    def show_solution(self) -> None:
        self._say(_solution(self.question), True)
        self.announcer.words = f"{self.question.solution}: {self.question.why}"
        self.reveal.layout.display = "none"

    def _say(self, words: str, right: bool) -> None:
        self.verdict.value = (
            f'<div class="minigpt-verdict minigpt-{"right" if right else "wrong"}">{words}</div>'
        )

    def _remember(self) -> None:
        """Says what was answered on another day, if anything was."""
        try:
            record = read_answers(self.question.notebook).get(self.question.key)
        except (OSError, ValueError) as error:
            self.verdict.value = f'<div class="minigpt-note">{html.escape(str(error))}</div>'
            return
        if record is not None:
            self.verdict.value = (
                f'<div class="minigpt-note">Your first answer: {typed(record["answer"])} '
                f"{'✓' if record['right'] else '✗'}. It is kept; try again as you like.</div>"
            )


class Choice(Prediction):
    """A question with options. `buttons`: option -> its button."""

    def _controls(self) -> list:
        self.buttons = {
            option: ipywidgets.Button(description=option) for option in self.question.answers
        }
        for option, button in self.buttons.items():
            button.add_class("minigpt-option")
            button.on_click(guarded(lambda _, option=option: self._choose(option), self.verdict))
        return list(self.buttons.values())

    def _choose(self, option: str) -> None:
        self.answer(option)
        mark = "✓" if self.question.answers[option] is True else "✗"
        self.buttons[option].description = f"{mark} {option}"


class Number(Prediction):
    """A question that wants a number. `box` takes it, with Enter or with its button."""

    def _controls(self) -> list:
        self.box = TextBox(description="your answer", placeholder="a number", follow=False,
                           button="Answer")
        self.box.on_enter(guarded(self.submit, self.verdict))
        return [self.box]

    def submit(self, text: str) -> None:
        """`answer(text)`, if it is a number; what is none does not count as an answer."""
        try:
            readings(text)
        except ValueError as error:
            self.verdict.value = f'<div class="minigpt-note">{html.escape(str(error))}</div>'
            self.announcer.words = str(error)
        else:
            self.answer(text.strip())


def _options(name, value) -> dict[str, str | bool]:
    """A guard: option -> why it is tempting, or True."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict, option -> why it is tempting, and True for the "
                        f"right one, not {shown(value)}")
    for option, reason in value.items():
        nonempty_text(f"an option in {name}", option)
        if not isinstance(reason, str) and reason is not True:
            raise TypeError(f"{name}[{option!r}] must be a str that says why it is tempting, or "
                            f"True for the right one, not {shown(reason)}")
        if reason is not True:
            arguments.text(f"{name}[{option!r}]", reason)
    return dict(value)


def _tempting(name, value) -> dict[float, str]:
    """A guard: wrong number -> why it is tempting."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict, wrong number -> why it is tempting, "
                        f"not {shown(value)}")
    return {arguments.number()(f"a number in {name}", wrong):
            arguments.text(f"{name}[{wrong!r}]", reason) for wrong, reason in value.items()}


def _question_with_answers(given: dict) -> None:
    """A relation: what an answer is to be compared with belongs to a question of one's own."""
    own = [name for name in ("answers", "number", "tempting") if given[name] is not None]
    if own and given["question"] is None:
        raise ValueError(f"question must be given where {own[0]} is, not None")


@takes(_question_with_answers, key=nonempty_text, question=or_none(nonempty_text),
       answers=or_none(_options), why=arguments.text, number=arguments.number(optional=True),
       tolerance=arguments.number(low=0), tempting=or_none(_tempting))
def predict(key: str, question: str | None = None, answers: Mapping | None = None, *, why: str = "",
            number: float | None = None, tolerance: float = 0.0,
            tempting: Mapping[float, str] | None = None) -> Prediction:
    """A question to commit to before the reveal: choose an option, or type a number.

    `predict("02_attention/scale")` asks the question of that name in `questions/`. Or give all of
    it: `answers` is option -> why it is tempting, and True for the one that is right. For a number
    give `number`, the right one, with the absolute `tolerance` allowed, and `tempting`: wrong
    number -> why it is tempting. `why` says why the right answer is right. What is answered first
    is kept: see `predictions()`. Raises ValueError for a name that is not there, and for a
    question that has not exactly one right answer.
    """
    if question is None:
        asked = questions.find(questions.bank(), key, "questions")
    else:
        asked = Question(
            this_notebook(), key, question, answers, number, tolerance, tempting or {}, why
        )
    _asked[asked.notebook] = None
    return Number(asked) if asked.answers is None else Choice(asked)


def this_notebook() -> str:
    """The name of this kernel's notebook, as Jupyter's server says it, or else "notebook"."""
    return Path(os.environ.get("JPY_SESSION_NAME", "")).stem or "notebook"


def _still(question: Question) -> str:
    """A prediction read without a kernel: the answer is one click away, as it should be."""
    wrong = (f"✗ {prose(option)}: {prose(reason)}" for option, reason in question.wrong.items())
    return (
        f"<p><b>Predict.</b> {prose(question.text)}</p>"
        f"{_bullets(prose(option) for option in question.answers or ())}"
        f"<details><summary>Decide, then open the answer</summary>"
        f"<p>{_solution(question)}</p>{_bullets(wrong)}</details>"
    )


def _solution(question: Question) -> str:
    return f"✓ <b>{prose(question.solution)}</b>: {prose(question.why)}"


def _bullets(items) -> str:
    items = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul>{items}</ul>" if items else ""


@takes(key=nonempty_text, texts=listed("hints", nonempty_text))
def hints(key: str, *texts: str) -> Page:
    """Hints that open one at a time, each inside the one before it.

    They are those of that name in `questions/`, or `texts`.
    """
    texts = texts or questions.find(questions.hint_bank(), key, "hints")
    inner = ""
    for i, text in reversed(list(enumerate(texts, 1))):
        summary = f"<summary>Hint {i} of {len(texts)}</summary>"
        inner = f"<details>{summary}<p>{prose(text)}</p>{inner}</details>"
    return Page(inner, f"{len(texts)} hints for {key}")
