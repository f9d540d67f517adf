"""A lesson in a file: who has joined, what was answered, what has been revealed.

SQLite keeps it. What `commit` has written is there after a kill of the server and after a power
cut, and an answer that comes twice, because nobody knew whether it had arrived, is one answer.
Nothing that a member chose stands in the file but an option, a number, and the name of a mistake.
"""

import csv
import io
import sqlite3
from dataclasses import replace
from pathlib import Path

from minigpt.classroom.prediction import COLUMNS
from minigpt.classroom.questions import Question, Verdict, bank
from minigpt.classroom.wall import exercises
from minigpt.classroom.wall.exercises import Exercise

PASSED = "passed"               # the answer to an exercise that is right; else it is the mistake
BARS = 6                        # numbers that a histogram shows; all others are one bar
OTHERS = "other numbers"

SCHEMA = """
CREATE TABLE IF NOT EXISTS lesson (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS members (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS revealed (question TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS answers (
    number INTEGER PRIMARY KEY,         -- in the order in which they came
    id TEXT NOT NULL UNIQUE,            -- drawn by whoever sends it: the same answer, the same id
    member TEXT NOT NULL,
    notebook TEXT NOT NULL,
    question TEXT NOT NULL,             -- its key in the notebook's questions, or a check_…
    exercise INTEGER NOT NULL,          -- whether it is one
    answer TEXT NOT NULL,
    right INTEGER NOT NULL,
    tries INTEGER NOT NULL,             -- which answer of this member to this question: 1, 2, …
    time TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_member ON answers (member, notebook, question);
CREATE INDEX IF NOT EXISTS by_question ON answers (notebook, question, tries);
"""

# Of what each member has last begun, what most have begun; of several, what was begun last.
OF_THE_MOMENT = """
SELECT notebook, question, exercise FROM
    (SELECT notebook, question, exercise, max(number) AS last FROM answers
     WHERE exercise BETWEEN ? AND ? AND tries = 1 GROUP BY member)
GROUP BY notebook, question ORDER BY count(*) DESC, max(last) DESC LIMIT 1
"""
QUESTIONS, EXERCISES, BOTH = (0, 0), (1, 1), (0, 1)


class Store:
    """A lesson's file. Raises sqlite3.Error where it cannot be written, or another wall has it."""

    def __init__(self, path: Path):
        self.path = path
        path.touch(mode=0o600)              # the teacher's word stands in it
        self.db = sqlite3.connect(path, timeout=1, isolation_level=None)
        self.db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.executescript(SCHEMA)
        self.members = self._known_members()
        self.pending: list[tuple[str, tuple]] = []

    def _known_members(self) -> set[str]:
        return {name for (name,) in self._rows("SELECT name FROM members")}

    def close(self) -> None:
        self.db.close()

    # ---- what is written: it is there once it is committed

    def _write(self, statement: str, *values) -> None:
        self.pending.append((statement, values))

    def commit(self) -> None:
        """Writes all that is pending, or, where it raises sqlite3.Error, nothing of it."""
        pending, self.pending = self.pending, []
        try:
            self.db.execute("BEGIN IMMEDIATE")
            for statement, values in pending:
                self.db.execute(statement, values)
            self.db.execute("COMMIT")
        except sqlite3.Error:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            self.members = self._known_members()
            raise

    def admit(self, member: str) -> None:
        if member not in self.members:
            self._write("INSERT INTO members VALUES (?)", member)
            self.members.add(member)

    def add(self, id: str, member: str, asked: Question | Exercise, answer: str, right: bool,
            time: str) -> None:
        exercise = isinstance(asked, Exercise)
        self._write(
            "INSERT INTO answers (id, member, notebook, question, exercise, answer, right, tries,"
            " time) SELECT ?, ?, ?, ?, ?, ?, ?, 1 + count(*), ? FROM answers"
            " WHERE member = ? AND notebook = ? AND question = ? ON CONFLICT (id) DO NOTHING",
            id, member, asked.notebook, asked.key, exercise, answer, right, time,
            member, asked.notebook, asked.key)

    def reveal(self, question: Question, shown: bool) -> None:
        self._write("INSERT OR IGNORE INTO revealed VALUES (?)" if shown else
                    "DELETE FROM revealed WHERE question = ?", question.name)

    def reveal_all(self) -> None:
        """All questions that somebody has answered."""
        self._write("INSERT OR IGNORE INTO revealed SELECT DISTINCT notebook || '/' || question"
                    " FROM answers WHERE NOT exercise")

    def set(self, key: str, value: str) -> None:
        self._write("INSERT OR REPLACE INTO lesson VALUES (?, ?)", key, value)

    # ---- what is read

    def _rows(self, statement: str, *values) -> list[tuple]:
        return self.db.execute(statement, values).fetchall()

    def get(self, key: str, otherwise: str = "") -> str:
        rows = self._rows("SELECT value FROM lesson WHERE key = ?", key)
        return rows[0][0] if rows else otherwise

    def is_revealed(self, name: str) -> bool:
        return bool(self._rows("SELECT 1 FROM revealed WHERE question = ?", name))

    def answered(self) -> int:
        """How many answers there are, of all members to all questions and exercises."""
        return self._rows("SELECT count(*) FROM answers")[0][0]

    def of_the_moment(self, kinds: tuple[int, int]) -> Question | Exercise | None:
        """What the class is at, of questions, of exercises, or of both."""
        rows = self._rows(OF_THE_MOMENT, *kinds)
        return asked(*rows[0][:2]) if rows else None

    def question(self, question: Question) -> dict:
        """What the wall shows of a question; its histogram only where it has been revealed."""
        (answered,), = self._rows("SELECT count(*) FROM answers WHERE notebook = ? AND question = ?"
                                  " AND tries = 1", question.notebook, question.key)
        revealed = self.is_revealed(question.name)
        return {"name": question.name, "text": question.text, "answered": answered,
                "options": list(question.answers or ()), "revealed": revealed,
                "bars": self._bars(question) if revealed else []}

    def _bars(self, question: Question) -> list[dict]:
        """Each answer, how many gave it first, whether it is right, and why it tempts."""
        counts: dict[str, int] = {}
        verdicts = {option: question.judge(option)
                    for option in question.answers or [question.solution, *question.wrong]}
        for answer, count in self._rows(
                "SELECT answer, count(*) FROM answers WHERE notebook = ? AND question = ? AND"
                " tries = 1 GROUP BY answer", question.notebook, question.key):
            verdict = _verdict(question, answer)
            verdicts.setdefault(verdict.label, verdict._replace(why=""))    # "Too large." alone
            counts[verdict.label] = counts.get(verdict.label, 0) + count
        if question.answers is None:
            counts, verdicts = _few(counts, verdicts)
        return [{"answer": label, "count": counts.get(label, 0), "right": verdict.right,
                 "why": verdict.why} for label, verdict in verdicts.items()]

    def exercise(self, exercise: Exercise) -> dict:
        """What the wall shows of an exercise: who has passed, and the mistakes, often first."""
        where = (exercise.notebook, exercise.key)
        (tried, passed), = self._rows(
            "SELECT count(DISTINCT member), count(DISTINCT CASE WHEN right THEN member END)"
            " FROM answers WHERE notebook = ? AND question = ?", *where)
        mistakes = self._rows(
            "SELECT answer, count(*) AS times, count(DISTINCT member) FROM answers WHERE"
            " notebook = ? AND question = ? AND NOT right GROUP BY answer"
            " ORDER BY times DESC, answer", *where)
        return {"name": f"{exercise.notebook}/{exercise.key}", "title": exercise.title,
                "tried": tried, "passed": passed,
                "mistakes": [{"mistake": name, "times": times, "members": members}
                             for name, times, members in mistakes]}

    def table(self) -> str:
        """All answers as CSV, in the columns of `export_predictions`.

        One row an answer, `tries` its number. To a question that has not been revealed, what was
        answered is left out, and whether it is right.
        """
        file = io.StringIO()
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["name", *COLUMNS])
        for member, notebook, key, exercise, answer, right, tries, time in self._rows(
                "SELECT member, notebook, question, exercise, answer, right, tries, time"
                " FROM answers ORDER BY number"):
            shown = exercise or self.is_revealed(f"{notebook}/{key}")
            rows.writerow([member, notebook, key, _text(notebook, key), answer if shown else "",
                           bool(right) if shown else "", tries, time])
        return file.getvalue()


def _few(counts: dict, verdicts: dict) -> tuple[dict, dict]:
    """The right number, and those that were given, the most frequent first; the rest as one."""
    order = sorted(verdicts, key=lambda label: (not verdicts[label].right, -counts.get(label, 0)))
    given = [label for label in order if verdicts[label].right or counts.get(label)]
    kept, rest = given[:BARS], given[BARS:]
    verdicts = {label: verdicts[label] for label in kept}
    if rest:
        verdicts[OTHERS] = verdicts[kept[-1]]._replace(label=OTHERS, right=False, why="")
        counts = counts | {OTHERS: sum(counts[label] for label in rest)}
    return counts, verdicts


def _verdict(question: Question, answer: str) -> Verdict:
    """A lesson may be older than the question, and hold an option that is gone."""
    try:
        return question.judge(answer)
    except ValueError:
        return Verdict(answer, False, "")


def asked(notebook: str, key: str) -> Question | Exercise | None:
    """The question or the exercise of that name in that notebook; None where there is none."""
    exercise = exercises.bank().get(key)
    if exercise and notebook in exercises.notebooks():
        return replace(exercise, notebook=notebook)
    return bank().get(f"{notebook}/{key}")


def _text(notebook: str, key: str) -> str:
    """The words of a question, or the title of an exercise."""
    match asked(notebook, key):
        case Question(text=text) | Exercise(title=text):
            return text
    return ""
