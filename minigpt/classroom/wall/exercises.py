"""The exercises and the names of their mistakes, read from the source of the checks.

A check answers a wrong solution with sentences. They may hold what is the student's own: the name
of a function, a line of code, an error. So no sentence leaves a kernel, only a name that was ours
before: the first words of the sentence as it stands in `checks/`, with "…" where the check puts
something in. The wall reads the same source, and takes no name that is not in it.
"""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minigpt.classroom import questions

FOLDER = Path(__file__).parents[1] / "checks"
UNNAMED = "another mistake"
UNFINISHED = "is not written yet"       # of a cell that nobody has worked in: no mistake
AGAIN = " For the same inputs again: "  # stands behind each sentence, and is none
LONG = 70                               # characters of a name, from which it ends at a comma
WORDS = {                               # what a check puts into its sentences, in words
    "has": "has", "holds": "holds", "type(error).__name__": "an error",
}
SUBJECTS = {                            # the same for how they begin
    "name": "your function", "self.name": "your function", "student.name": "your function",
    "call": "your function", "check": "the check", "what": "your answer", "yours": "your answer",
}


@dataclass(frozen=True)
class Exercise:
    """One check: its `key`, such as check_attention, its title, and where it is at home."""

    key: str
    title: str
    notebook: str


@cache
def bank() -> dict[str, Exercise]:
    """All exercises by the name of their check."""
    homes = {notebook[:2]: notebook for notebook in reversed(notebooks())}
    return {function.name: Exercise(function.name, _title(function), homes[number])
            for tree in _sources() for function in tree.body
            if isinstance(function, ast.FunctionDef) and _title(function)
            for number in re.findall(r"\b\d\d(?!\d)", ast.get_docstring(tree))[:1]}


@cache
def notebooks() -> tuple[str, ...]:
    """The names of the notebooks, in their order."""
    return tuple(dict.fromkeys(question.notebook for question in questions.bank().values()))


def mistake(said: str) -> str | None:
    """The name of the mistake in what a check `said`.

    It is the sentence of the source of which the most is in it. None where there is no mistake
    yet, because nobody has begun.
    """
    if UNFINISHED in said:
        return None
    return max(_sentences(), key=lambda sentence: sentence.length_in(said), default=NOTHING
               ).name_in(said)


@cache
def names() -> frozenset[str]:
    """All names that a mistake may have."""
    return frozenset({UNNAMED, *(sentence.name for sentence in _sentences())})


@dataclass(frozen=True)
class Sentence:
    """A sentence of the source: the pieces between what is put in, and the name that it gives."""

    pieces: tuple[str, ...]
    name: str

    def length_in(self, said: str) -> int:
        """How many characters of `said` are this sentence's own: all of its own, or none."""
        end = 0
        for piece in self.pieces:
            start = said.find(piece, end)
            if start < 0:
                return 0
            end = start + len(piece)
        return sum(map(len, self.pieces))

    def name_in(self, said: str) -> str:
        return self.name if self.length_in(said) else UNNAMED


NOTHING = Sentence((), UNNAMED)


@cache
def _sources() -> list[ast.Module]:
    return [ast.parse(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.py"))]


def _title(function: ast.FunctionDef) -> str:
    """The first words of what a check says when all is right: "causal mask"; "" of no check."""
    match function.decorator_list:
        case [ast.Call(func=ast.Name(id="check"), args=[ast.Constant(value=success)])]:
            return success.partition(":")[0]
    return ""


@cache
def _sentences() -> list[Sentence]:
    found = [_sentence(text) for tree in _sources() for node in ast.walk(tree)
             for text in _said_by(node)]
    return [sentence for sentence in found if sentence]


def _said_by(node: ast.AST) -> list[ast.expr]:
    """The texts of a `Mistake(…)`, of a dictionary of suspects, of a function that returns one."""
    match node:
        case ast.Call(func=ast.Name(id="Mistake"), args=[text, *_]):
            return [text]
        case ast.Dict(keys=keys):
            return [key for key in keys if key is not None]
        case ast.Return(value=ast.expr() as text):
            return [text]
    return []


def _sentence(text: ast.expr) -> Sentence | None:
    """None where it is no sentence: no text, a word alone, or all of it is put in."""
    pieces, words = [], ""
    for part in _parts(text):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            pieces.append(part.value)
            words += part.value
        elif isinstance(part, ast.FormattedValue):
            known = WORDS if words else SUBJECTS
            words += known.get(ast.unparse(part.value), "…")
    if sum(len(piece.split()) for piece in pieces) < 3 or UNFINISHED in words or AGAIN in words:
        return None
    return Sentence(tuple(pieces), _short(words))


def _parts(text: ast.expr) -> list[ast.expr]:
    """The constants of a text, and what is put in between."""
    match text:
        case ast.JoinedStr(values=values):
            return values
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _parts(left) + _parts(right)
        case ast.Constant():
            return [text]
    return [ast.FormattedValue(text, -1)]


def _short(words: str) -> str:
    """The first sentence of them, or its first part, without what is only put in at its ends."""
    words = re.sub(r"^(your answer|…)(: |\.? (?=[A-Z])|, (and )?)", "", words).strip()
    ends = (end.start() for end in re.finditer(r"(?<=[\w)…`'])[.?!](?=\s|$)|[:;](?=\s)", words))
    first = words[:next((end for end in ends if len(words[:end].split()) > 2), None)]
    if len(first) > LONG:
        first = first[:LONG].rpartition(",")[0] or first[:LONG].rpartition(" ")[0] + " …"
    first = re.sub(r"[\s(=,.:]*…?[\s.,:]*$", "", first)
    return first[:1].upper() + first[1:] if re.match(r"[a-z]{2,} ", first) else first
