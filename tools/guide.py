"""The parts of the teacher's guide that are made from the project itself, so that they cannot go stale.

    python -m tools.guide

writes them anew, between two comments on each page of docs/teaching:

    <!-- made: predictions -->  … <!-- end -->       every prediction of the lesson, its answer, and what tempts
    <!-- made: checks -->                            what the checks say to the mistakes in tests/checks_bank
    <!-- made: ask talk-ideas -->                    the question for the class that stands in that cell
    <!-- made: sketch heads -->                      a sketch for the board, with its words
    <!-- made: dice -->                              how two dice draw at a temperature
    <!-- made: scaling -->                           what to expect of 8, 64 and 512 GPUs

The head of a page says which cells are its lesson: `notebook`, and `begins` and `ends` where it is not all of them.
"""

import base64
import contextlib
import re
import sys
import tomllib
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
import torch
import yaml

from minigpt.files import write_atomically
from tools.sketches import SKETCHES

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "teaching"
MADE = re.compile(r"<!-- made: (\w+)(?: ([\w-]+))? -->\n.*?<!-- end -->", re.S)
ASK = re.compile(r"^> \*\*Ask the class:\*\* (.*(?:\n>.*)*)", re.M)


@dataclass(frozen=True)
class Lesson:
    """A page of the guide: its head, its text, and the cells of the notebook that it teaches."""

    path: Path
    text: str
    head: dict
    cells: list

    @property
    def questions(self) -> dict[str, str]:
        """Cell id -> question, for each "Ask the class" of the lesson."""
        found = ((cell.id, ASK.search(cell.source)) for cell in self.cells if cell.cell_type == "markdown")
        return {cell: re.sub(r"\s*\n>\s*", " ", match[1]) for cell, match in found if match}

    @property
    def predictions(self) -> list[str]:
        """The keys of its predictions, in order."""
        sources = "\n".join(cell.source for cell in self.cells if cell.cell_type == "code")
        return re.findall(rf'^predict\("{self.head["notebook"]}/([^"]+)"', sources, re.M)

    @property
    def checks(self) -> list[str]:
        """The names of its checks, in order, each once."""
        sources = "\n".join(cell.source for cell in self.cells if cell.cell_type == "code")
        return list(dict.fromkeys(re.findall(r"^(check_\w+)\(", sources, re.M)))


def read_page(path: Path) -> Lesson:
    """A page of the guide. One without a head teaches no cells."""
    text = path.read_text(encoding="utf-8")
    found = re.match(r"---\n(.*?)\n---\n", text, re.S)
    head = yaml.safe_load(found[1]) if found else {}
    return Lesson(path, text, head, lesson_cells(head) if head else [])


def lesson_cells(head: dict) -> list:
    """The cells from `begins` to `ends`, both included."""
    cells = nbformat.read(ROOT / "notebooks" / f"{head['notebook']}.ipynb", as_version=4).cells
    ids = [cell.id for cell in cells]
    first, last = head.get("begins", ids[0]), head.get("ends", ids[-1])
    return cells[ids.index(first):ids.index(last) + 1]


def pages() -> list[Lesson]:
    return [read_page(path) for path in sorted(GUIDE.glob("*.md"))]


def lessons() -> list[Lesson]:
    return [page for page in pages() if page.head]


# ---- what is made ----------------------------------------------------------------------------------------------------

def ask(lesson: Lesson, cell: str) -> str:
    return f"> **Ask** (`{cell}`): {lesson.questions[cell]}"


def sketch(lesson: Lesson, name: str) -> str:
    return f"![{SKETCHES[name]().alt}](sketches/{name}.png)"


def predictions(lesson: Lesson, _) -> str:
    """Each prediction: the question, the answer, and what to say to each tempting one."""
    file = ROOT / "minigpt" / "classroom" / "questions" / f"{lesson.head['notebook']}.toml"
    bank = tomllib.loads(file.read_text(encoding="utf-8"))["predictions"]
    blocks = []
    for key in lesson.predictions:
        question = bank[key]
        wrong = {option: reason for option, reason in question.get("answers", {}).items() if reason is not True}
        right = next((option for option, reason in question.get("answers", {}).items() if reason is True),
                     question.get("number"))
        lines = [f"**{one_line(question['question'])}**", "", f"- ✓ *{right}*: {one_line(question['why'])}"]
        lines += [f"- ✗ *{option}*: {one_line(reason)}" for option, reason in (wrong | question.get("tempting", {})).items()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def one_line(text: str) -> str:
    return " ".join(text.split())


def checks(lesson: Lesson, _) -> str:
    """For each check of the lesson what it says to the mistakes that it knows."""
    blocks = []
    for name in lesson.checks:
        rows = "\n".join(f"- {message}" for message in messages(name))
        blocks.append(f"<details><summary><code>{name}</code></summary>\n\n{rows}\n\n</details>")
    return "\n\n".join(blocks)


NO_LESSON = re.compile(r" stopped with | returns None|time was up|not written yet|0x[0-9a-f]{6}|/tmp/"
                       r"|in any cell|for every cell after it|asked the same twice|in two calls")
REPEAT = re.compile(r" For the same inputs again: .*$")


@cache
def messages(name: str) -> list[str]:
    """What a check says to the mistakes in the bank, one sentence for each phrase, its random numbers fixed.

    Left out is what Python, torch or an unfinished cell says, and the odd answers: they are no mistakes of the lesson.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from checks_bank import WRONG

    from minigpt.classroom import checks as all_checks

    check, found = getattr(all_checks, name), {}
    for answer, phrase in WRONG.get(check, []):
        if phrase not in found and ".odd_" not in answer.__module__:
            found[phrase] = REPEAT.sub("", one_line(refusal(check, answer))).replace("<", "&lt;")
    return [message for message in found.values() if not NO_LESSON.search(message)]


def refusal(check, answer) -> str:
    import torch._dynamo  # noqa: F401  optimizers load it when first used, which takes longer than a check may

    from minigpt.classroom.checks.framework import Mistake
    with warnings.catch_warnings(), as_in_the_notebook(check, answer):
        warnings.simplefilter("ignore")
        try:
            check(answer, seed=0)
        except Mistake as mistake:
            return str(mistake)
    raise AssertionError(f"{check.__name__} takes {answer.__name__}, which the bank calls wrong")


@contextlib.contextmanager
def as_in_the_notebook(check, answer):
    """The answer has the name for which the notebook asks, so that a sentence speaks of that."""
    before = answer.__name__
    answer.__name__ = asked_for()[check.__name__]
    try:
        yield
    finally:
        answer.__name__ = before


@cache
def asked_for() -> dict[str, str]:
    """The name of each check -> that of the function or class which the notebooks hand to it."""
    sources = "\n".join(cell.source for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
                        for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    return dict(re.findall(r"^(check_\w+)\((\w+)\)", sources, re.M))


FACES = [f"{first}{second}" for first in range(1, 7) for second in range(1, 7)]         # two dice, the first one red


def shares(logits: torch.Tensor, temperature: float) -> list[int]:
    """How many of 36 throws each token gets: its probability, rounded so that they add up (largest remainders)."""
    exact = (logits / temperature).softmax(-1) * len(FACES)
    counts = exact.floor().int().tolist()
    order = sorted(range(len(counts)), key=lambda i: float(counts[i] - exact[i]))
    for i in order[:len(FACES) - sum(counts)]:
        counts[i] += 1
    return counts


def dice(lesson: Lesson, _) -> str:
    """The five words of 04, and which throws of two dice draw each of them, at three temperatures."""
    words, logits = ["happy", "sad", "here", "gone", "blue"], torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0])
    columns = [shares(logits, temperature) for temperature in (0.5, 1.0, 2.0)]
    rows = ["| She was … | temperature 0.5 | temperature 1 | temperature 2 |", "|---|---|---|---|"]
    for i, word in enumerate(words):
        cells = []
        for counts in columns:
            start = sum(counts[:i])
            throws = FACES[start:start + counts[i]]
            cells.append("never" if not throws else throws[0] if len(throws) == 1 else f"{throws[0]} to {throws[-1]}")
        rows.append(f"| {word} | {' | '.join(cells)} |")
    return "\n".join(rows)


def scaling(lesson: Lesson, _) -> str:
    """What a step takes on many GPUs, on paper."""
    from benchmarks.ranks import table
    return table()


MAKERS = {"scaling": scaling, "ask": ask, "sketch": sketch, "predictions": predictions, "checks": checks, "dice": dice}


def made(lesson: Lesson) -> str:
    """The page with all its made parts as they are now."""
    def fresh(match):
        kind, argument = match[1], match[2]
        opening = match[0].partition("\n")[0]
        return f"{opening}\n{MAKERS[kind](lesson, argument)}\n<!-- end -->"
    return MADE.sub(fresh, lesson.text)


def png(name: str) -> bytes:
    """A sketch as a file."""
    return base64.b64decode(SKETCHES[name]().data_uri.partition(",")[2])


def main() -> int:
    for name in SKETCHES:
        write_atomically(GUIDE / "sketches" / f"{name}.png", png(name))
    for page in pages():
        text = made(page)
        if text != page.text:
            write_atomically(page.path, text.encode())
            print(f"{page.path.relative_to(ROOT)}: made anew")
    return 0


if __name__ == "__main__":
    sys.exit(main())
