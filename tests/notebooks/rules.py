"""What a stored notebook must be like, one function a rule, each of which returns its complaints.

`test_notebook_files.py` holds the notebooks to them, and breaks a small good notebook in every way that a rule should notice.
"""

import ast
import re
import textwrap
from collections import defaultdict
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from minigpt import classroom
from minigpt.classroom.student import dependents, is_exercise

ROOT = Path(__file__).parents[2]
WIDEST = 88             # columns of code
OF_THE_CLASSROOM = set(vars(classroom))
LONGEST_SOURCE = 25     # lines, the docstring left out
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KINDS = {"text/plain", "text/html", "text/markdown", "text/latex", "image/png"}     # nothing that a browser executes
TITLE = re.compile(r"^(#{1,6}) +(.+?) *$", re.M)
YOUR_TURN = re.compile(r"^#{2,4} .*?\b\d+ minutes?\b.*?[●○]{3}", re.M)
MARKDOWN_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)[^)]*\)")
MARKDOWN_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)[^)]*\)")


class Tags(HTMLParser):
    """The tags of a piece of HTML: (name, {attribute: value})."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, {name: value or "" for name, value in attributes}))


def text_of(value) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(cell) -> str:
    """A Markdown cell without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", cell.source, flags=re.M | re.S))


def pages(notebook):
    """(cell id, HTML or Markdown) of everything that is shown as such."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield cell.id, prose(cell)
        for output in cell.get("outputs", []):
            for kind, value in output.get("data", {}).items():
                if kind == "text/html":
                    yield cell.id, text_of(value)
                if kind == "text/markdown":
                    yield cell.id, re.sub(r"^(`{3,}).*?^\1", "", text_of(value), flags=re.M | re.S)


def tags(notebook):
    return [(cell_id, tag, attributes) for cell_id, html in pages(notebook) for tag, attributes in Tags(html).tags]


# ------------------------------------------------------------------------------------------------------------ outputs

def it_was_run_in_order(notebook) -> list[str]:
    counts = [cell.execution_count for cell in code_cells(notebook)]
    return [] if counts and counts == list(range(1, len(counts) + 1)) else [f"execution counts are {counts}"]


def no_cell_ended_in_an_error(notebook) -> list[str]:
    return [f"{cell.id}: {output.get('ename', output.get('text'))}" for cell in code_cells(notebook)
            for output in cell.outputs if output.output_type == "error" or output.get("name") == "stderr"]


def widgets_left_no_state(notebook) -> list[str]:
    complaints = ["metadata.widgets"] if "widgets" in notebook.metadata else []
    return complaints + [f"{cell.id} holds a widget view" for cell in code_cells(notebook)
                         for output in cell.outputs if WIDGET_VIEW in output.get("data", {})]


def outputs_hold_nothing_that_runs(notebook) -> list[str]:
    complaints = [f"{cell.id}: {kind}" for cell in code_cells(notebook) for output in cell.outputs
                  for kind in output.get("data", {}) if kind not in KINDS | {WIDGET_VIEW}]
    for cell_id, tag, attributes in tags(notebook):
        if tag in {"script", "iframe", "object", "embed", "link", "base", "meta", "form"}:
            complaints.append(f"{cell_id}: <{tag}>")
        complaints += [f"{cell_id}: {name}={value[:40]}" for name, value in attributes.items()
                       if name.startswith("on") or re.match(r"\s*(javascript|vbscript):", value, re.I)]
    return complaints


def nothing_is_fetched(notebook) -> list[str]:
    complaints = [f"{cell_id}: {tag} {name}={value[:60]}" for cell_id, tag, attributes in tags(notebook)
                  for name, value in attributes.items()
                  if name in {"src", "srcset", "poster", "data", "background"} and not value.startswith("data:")
                  and re.match(r"(\w+:)?//", value)]
    complaints += [f"{cell_id}: url({url})" for cell_id, html in pages(notebook)
                   for url in re.findall(r"url\(['\"]?((?:\w+:)?//[^)]*)", html)]
    return complaints + [f"{cell.id}: {url}" for cell in notebook.cells if cell.cell_type == "markdown"
                         for _, url in MARKDOWN_IMAGE.findall(prose(cell)) if re.match(r"(\w+:)?//", url)]


def no_path_of_a_machine(notebook) -> list[str]:
    paths = re.compile(r"(?<![\w.:/~-])/(home|root|tmp|opt|usr|work|Users|mnt|var)/\w|\b[A-Z]:\\\w")
    complaints = []
    for cell in notebook.cells:
        shown = [cell.source]
        for output in cell.get("outputs", []):
            shown += [text_of(output.get("text", ""))]
            shown += [text_of(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
        found = next(filter(None, (paths.search(re.sub(r"base64,[\w+/=]+", "", text)) for text in shown)), None)
        complaints += [f"{cell.id}: {found.group()}…"] if found else []
    return complaints


# ------------------------------------------------------------------------------------------------------- for a reader

def ids_are_words_and_unique(notebook) -> list[str]:
    ids = [cell.get("id", "") for cell in notebook.cells]
    complaints = [f"{one} twice" for one in sorted({one for one in ids if ids.count(one) > 1})]
    for one in ids:
        words = re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", one)
        if not words or len(one) < 2 or re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", one):
            complaints.append(f"{one!r} says nothing")
    return complaints


def headings_nest(notebook) -> list[str]:
    headings = [(len(marks), title) for cell in notebook.cells if cell.cell_type == "markdown"
                for marks, title in TITLE.findall(prose(cell))]
    if not headings or headings[0][0] != 1:
        return ["the first heading is not a title"]
    complaints = [f"a second title: {title}" for level, title in headings[1:] if level == 1]
    return complaints + [f"{title}: level {level} after level {before}"
                         for (before, _), (level, title) in zip(headings, headings[1:], strict=False)
                         if level > before + 1]


def links_resolve(notebook, folder: Path) -> list[str]:
    anchors = {title.replace(" ", "-") for cell in notebook.cells if cell.cell_type == "markdown"
               for _, title in TITLE.findall(cell.source)}
    complaints = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        links = MARKDOWN_LINK.findall(prose(cell)) + [url for _, url in MARKDOWN_IMAGE.findall(prose(cell))]
        links += [attributes.get("href") or attributes.get("src") for _, attributes in Tags(prose(cell)).tags]
        for link in filter(None, links):
            if re.match(r"https?://|mailto:|data:", link):
                continue
            file, _, anchor = link.partition("#")
            if file and not (folder / file).exists():
                complaints.append(f"{cell.id}: {link}")
            if not file and anchor not in anchors:
                complaints.append(f"{cell.id}: no heading #{anchor}")
    return complaints


def pictures_have_words(notebook) -> list[str]:
    complaints = [f"{cell_id}: an image without alt text" for cell_id, tag, attributes in tags(notebook)
                  if tag == "img" and not attributes.get("alt", "").strip()]
    complaints += [f"{cell.id}: an image without alt text" for cell in notebook.cells if cell.cell_type == "markdown"
                   for words, _ in MARKDOWN_IMAGE.findall(prose(cell)) if not words.strip()]
    return complaints + [f"{cell.id}: a bare image, which JupyterLab shows without words"
                         for cell in code_cells(notebook) for output in cell.outputs
                         if "image/png" in output.get("data", {})]


def most_cells_are_short(notebook) -> list[str]:
    long = [cell.id for cell in code_cells(notebook) if len(cell.source.splitlines()) > 12]
    share = len(long) / len(code_cells(notebook))
    return [f"{share:.0%} of the code cells are longer than 12 lines: {long}"] if share > 0.15 else []


def code_fits_the_screen(notebook) -> list[str]:
    """At 1280 pixels JupyterLab shows 88 columns of code; more is cut off, and scrolls the page."""
    return [f"{cell.id}: {len(line)} columns: {line}" for cell in code_cells(notebook)
            for line in cell.source.splitlines() if len(line) > WIDEST]


def shown_source_is_short(notebook) -> list[str]:
    """What `show_source` shows fits a screen, so that the machine is seen and not what stands around it."""
    complaints = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            code = re.search(r"^(`{3,})python\n(.*?)^\1", text_of(output.get("data", {}).get("text/markdown", "")),
                             re.M | re.S)
            lines = without_docstring(code.group(2)) if code else []
            if len(lines) > LONGEST_SOURCE:
                complaints.append(f"{cell.id} shows {len(lines)} lines of code")
    return complaints


def without_docstring(source: str) -> list[str]:
    """The lines of a function or class, without its own docstring."""
    lines = textwrap.dedent(source).splitlines()
    first = ast.parse("\n".join(lines)).body[0]
    if ast.get_docstring(first) is not None:
        docstring = first.body[0]
        del lines[docstring.lineno - 1:docstring.end_lineno]
    return lines


def it_opens_and_closes_as_the_others(notebook) -> list[str]:
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    first_code = notebook.cells.index(code_cells(notebook)[0])
    opening = "\n".join(cell.source for cell in notebook.cells[:first_code])
    wanted = {"what you will be able to do": (r"you will be able to", opening), "minutes": (r"\bminutes\b", opening),
              "what you need": (r"\bneeds?\b", opening), "a recap": (r"^#{2,3} .*recap", "\n".join(texts)),
              'an "if you see" table': (r"^\|[^|\n]*if you see", "\n".join(texts))}
    return [f"no word of {what}" for what, (pattern, text) in wanted.items()
            if not re.search(pattern, text, re.I | re.M)]


# -------------------------------------------------------------------------------------------------------- held true

def ignored(cell) -> bool:
    return "nbval-ignore-output" in cell.metadata.get("tags", []) or "NBVAL_IGNORE_OUTPUT" in cell.source


def nearly_all_outputs_are_compared(notebook) -> list[str]:
    cells = code_cells(notebook)
    complaints = [f"{cell.id} is skipped" for cell in cells
                  if "nbval-skip" in cell.metadata.get("tags", []) or "NBVAL_SKIP" in cell.source]
    unseen = [cell.id for cell in cells if ignored(cell)]
    if len(unseen) > 0.1 * len(cells):
        complaints.append(f"{len(unseen)} of {len(cells)} outputs are not compared: {unseen}")
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        asserts = following is not None and any(isinstance(node, ast.Assert) for node in ast.walk(parse(following)))
        if ignored(cell) and not asserts:
            complaints.append(f"{cell.id} is not compared, and the next cell asserts nothing")
    return complaints


def exercises_are_complete(notebook) -> list[str]:
    complaints = []
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or "### BEGIN SOLUTION" not in cell.source:
            continue
        before = next((c for c in reversed(notebook.cells[:i]) if c.cell_type == "markdown"), None)
        after = next((c for c in notebook.cells[i + 1:] if c.cell_type == "code"), None)
        if "### END SOLUTION" not in cell.source or not re.search(r"^check_\w+\(", cell.source, re.M):
            complaints.append(f"{cell.id}: no end of the solution, or no check")
        if before is None or not YOUR_TURN.search(before.source):
            complaints.append(f"{cell.id}: its heading gives no minutes and difficulty")
        if after is None or not re.search(r"^hints\(", after.source, re.M):
            complaints.append(f"{cell.id}: no hints after it")
        if not cell.metadata.get("jupyter", {}).get("source_hidden"):
            complaints.append(f"{cell.id}: the solution lies open")
    return complaints


def agreement_cells_say_where_to_look(notebook) -> list[str]:
    """A student whose answer differs reads a sentence, and neither a bare AssertionError nor torch's forty lines."""
    complaints = []
    for cell in code_cells(notebook):
        for node in ast.walk(parse(cell)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("assert_close"):
                complaints.append(f"{cell.id}: assert_close, which says nothing to a student")
            if isinstance(node, ast.Assert) and node.msg is None and "agree" in cell.id and uses_an_answer(node):
                complaints.append(f"{cell.id}: an assert that does not say where to look")
    return complaints


def uses_an_answer(node) -> bool:
    """Whether the code names something that a student wrote."""
    return any(isinstance(one, ast.Name) and one.id.lower().startswith("my") for one in ast.walk(node))


def a_name_means_one_thing(notebook) -> list[str]:
    """Nothing is assigned in two cells: who runs an earlier cell again would make a later one quietly wrong.

    A loop's own variable may come again, and so may a name in the cell that stands in for an exercise.
    """
    found = defaultdict(list)
    for cell in code_cells(notebook):
        if "skipped" not in cell.metadata.get("tags", []):
            for name in assigned(parse(cell)) - {"_"}:
                found[name].append(cell.id)
    return [f"{name} is assigned in {', '.join(ids)}" for name, ids in sorted(found.items()) if len(ids) > 1]


def assigned(tree) -> set[str]:
    """The names that code sets for the cells after it, but for loops' variables and imports."""
    found, inside = set(), list(tree.body)
    while inside:
        node = inside.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)                                # what is set in its body stays there
        elif isinstance(node, ast.For):
            inside.extend(node.body)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            inside.extend(ast.iter_child_nodes(node))
    return found


def questions_stand_in_their_file(notebook) -> list[str]:
    """A cell that asks or hints says only which: neither folded nor exported does it show the answer."""
    return [f"{cell.id}: more than a name" for cell in code_cells(notebook)
            if re.match(r"(predict|hints)\(", cell.source)
            and not re.fullmatch(r"(predict|hints)\(\"[^\"\n]+/[^\"\n]+\"\)", cell.source)]


def a_skipped_cell_stands_in_for_an_exercise(notebook) -> list[str]:
    complaints = []
    for i, cell in enumerate(notebook.cells):
        if "skipped" in cell.metadata.get("tags", []):
            before = set().union(*(assigned(parse(c)) for c in notebook.cells[:i] if is_exercise(c)))
            for statement in parse(cell).body:
                name = re.match(r"if not passed\('(\w+)'\):", ast.unparse(statement))
                if name is None or name.group(1) not in before:
                    complaints.append(f"{cell.id}: {ast.unparse(statement).splitlines()[0]}")
            if not cell.source.startswith("# Skipped") or not cell.metadata.get("jupyter", {}).get("source_hidden"):
                complaints.append(f"{cell.id}: not folded under a first line that says what it is for")
    return complaints


def who_skips_an_exercise_can_go_on(notebook) -> list[str]:
    return [f"{one} needs an exercise, and no 'skipped' cell stands before it" for one in sorted(dependents(notebook))]


def what_the_text_calls_is_imported(notebook) -> list[str]:
    """A call in the text, such as `predictions()`, works when a reader types it into a cell."""
    imported = {alias.asname or alias.name for cell in code_cells(notebook) for node in ast.walk(parse(cell))
                if isinstance(node, ast.ImportFrom) for alias in node.names}
    return [f"{cell.id}: {name} is not imported" for cell in notebook.cells if cell.cell_type == "markdown"
            for name in re.findall(r"`(\w+)\(", cell.source) if name in OF_THE_CLASSROOM - imported]


def exercises(notebook) -> list[str]:
    return [cell.id for cell in code_cells(notebook) if "### BEGIN SOLUTION" in cell.source]


def parse(cell) -> ast.Module:
    return ast.parse("\n".join("" if line.startswith(("%", "!")) else line for line in cell.source.splitlines()))


def body_of(node) -> str:
    """What a function or class does, without its docstring and its types."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return "\n".join(ast.dump(statement) for statement in body)


@cache
def finished_code() -> dict[str, set[str]]:
    """name -> the bodies that it has in the package, of every function and class."""
    found: dict[str, set[str]] = {}
    for file in (ROOT / "minigpt").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.setdefault(node.name, set()).add(body_of(node))
    return found


def nothing_is_pasted_from_the_package(notebook) -> list[str]:
    return [f"{cell.id} defines {node.name} with the package's own source" for cell in code_cells(notebook)
            for node in ast.walk(parse(cell)) if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and body_of(node) and body_of(node) in finished_code().get(node.name, ())]


RULES = (code_fits_the_screen, shown_source_is_short, agreement_cells_say_where_to_look, a_name_means_one_thing,
         questions_stand_in_their_file, a_skipped_cell_stands_in_for_an_exercise, who_skips_an_exercise_can_go_on,
         what_the_text_calls_is_imported,
         it_was_run_in_order, no_cell_ended_in_an_error, widgets_left_no_state, outputs_hold_nothing_that_runs,
         nothing_is_fetched, no_path_of_a_machine, ids_are_words_and_unique, headings_nest, pictures_have_words,
         most_cells_are_short, it_opens_and_closes_as_the_others, nearly_all_outputs_are_compared,
         exercises_are_complete, nothing_is_pasted_from_the_package)
