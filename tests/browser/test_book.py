"""The book in a real browser, opened from its files, with no network: nothing is asked for, nothing breaks, and axe finds
nothing serious on any page, light, nor dark on those that have colours of their own."""

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse
from urllib.request import url2pathname

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tools import book as builder  # noqa: E402

DARK = {f"notebooks/{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")} | {"search.html", "genindex.html"}
WHOLE = {"index.html", "notebooks/00_play.html", "docs/teaching/README.html", "reference/gpt.html"}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    out = tmp_path_factory.mktemp("book") / "with a space"
    assert builder.main([str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def pages(book):
    return {path.relative_to(book).as_posix(): BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            for path in sorted(book.rglob("*.html")) if "_static" not in path.parts}


class Visit:
    """A window without a network, and what went wrong in it."""

    def __init__(self, browser):
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True,
                                           reduced_motion="reduce")         # else axe meets colours on their way
        self.page = self.context.new_page()
        self.complaints = []
        self.page.on("console", lambda message: self.complain(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complain(str(error)))
        self.page.on("request", self.watch)
        self.page.on("requestfailed", lambda request: self.complain(f"failed: {request.url[:100]}"))

    def complain(self, words):
        self.complaints.append(f"{Path(urlparse(self.page.url).path).name}: {words}")

    def watch(self, request):
        if urlparse(request.url).scheme not in ("file", "data", "blob"):
            self.complain(f"asks for {request.url[:100]}")

    def open(self, path):
        self.page.goto(path.as_uri(), wait_until="load")
        self.page.evaluate("() => window.MathJax && MathJax.startup ? MathJax.startup.promise : null")

    def axe(self, theme, whole, **options):
        """What axe calls serious or critical in the page as it is, in this theme; where not `whole`, without the contents at
        the side, which are the same on every page."""
        self.page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        context = None if whole else {"exclude": [[".bd-sidebar-primary"]]}
        found = Axe().run(self.page, context, {"resultTypes": ["violations"], **options}).response["violations"]
        return {violation["id"]: [node["target"] for node in violation["nodes"]][:3]
                for violation in found if violation["impact"] in ("serious", "critical")}

    def width_at_200_percent(self):
        """Of the page, in a window that is 640 pixels wide."""
        self.page.set_viewport_size({"width": 640, "height": 450})
        width = self.page.evaluate("() => document.documentElement.scrollWidth")
        self.page.set_viewport_size({"width": 1280, "height": 900})
        return width


@pytest.fixture(scope="module")
def visit(browser):
    visit = Visit(browser)
    yield visit
    visit.context.close()


@pytest.fixture(scope="module")
def seen(book, pages, visit):
    """What one visit of each page shows, by its name. Of the dark theme only the colours, which it alone changes, and of pages
    that have none of their own only some."""
    seen, complaints = {}, []
    for name in pages:
        visit.complaints.clear()            # axe's own, which a page's security policy may refuse
        visit.open(book / name)
        complaints += visit.complaints
        whole = name in WHOLE
        seen[name] = {"light": visit.axe("light", whole), "width": visit.width_at_200_percent(),
                      "dark": visit.axe("dark", whole, runOnly=["color-contrast"]) if whole or name in DARK else {}}
    assert seen.keys() == pages.keys() and len(seen) > 40 and WHOLE <= seen.keys()
    return {"pages": seen, "complaints": complaints}


def test_no_page_asks_for_anything_or_complains(seen):
    assert seen["complaints"] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(seen, theme):
    assert {name: page[theme] for name, page in seen["pages"].items() if page[theme]} == {}


def test_no_page_must_be_scrolled_sideways_at_200_percent(seen):
    assert {name: page["width"] for name, page in seen["pages"].items() if page["width"] > 640} == {}


def test_no_link_is_broken(book, pages):
    ids = {name: {tag["id"] for tag in page.find_all(id=True)} for name, page in pages.items()}
    broken = []
    for name, page in pages.items():
        for tag in page.find_all(["a", "img", "script", "link", "iframe"]):
            link = tag.get("href") or tag.get("src") or ""
            if re.match(r"https?:|data:|mailto:|javascript:", link) or not link:
                continue
            file, anchor = urldefrag(link)
            file = file.partition("?")[0]              # ?digest=… keeps browsers from old copies
            target = (book / name).parent / url2pathname(unquote(file)) if file else book / name
            target = target.resolve()
            if not target.exists():
                broken.append(f"{name}: {link}")
            elif anchor and target.suffix == ".html":
                if unquote(anchor) not in ids.get(target.relative_to(book.resolve()).as_posix(), ()):
                    broken.append(f"{name}: no place {link}")
    assert broken == []


def test_the_search_finds_a_word_of_a_notebook(book, visit):
    visit.complaints.clear()
    visit.open(book / "search.html")
    visit.page.goto((book / "search.html").as_uri() + "?q=softmax")
    visit.page.wait_for_selector("#search-results li a")
    links = [link.get_attribute("href") for link in visit.page.query_selector_all("#search-results li a")]
    assert any("02_attention" in link for link in links)
    assert visit.complaints == []


def test_formulas_are_set(book, visit):
    visit.open(book / "notebooks" / "02_attention.html")
    assert visit.page.locator("mjx-container").count() > 10
    assert "MathJax" not in visit.page.locator("mjx-merror").all_inner_texts()


def test_solutions_and_questions_are_folded_and_the_rest_is_not(pages):
    page = pages["notebooks/01_tokenizer.html"]
    folded = [details.get_text() for details in page.select(".cell details.hide.above-input, .cell details.hide")]
    assert sum("BEGIN SOLUTION" in text for text in folded) >= 4
    assert "BEGIN SOLUTION" not in "".join(cell.get_text() for cell in page.select(".cell > .cell_input > div.highlight"))
