"""Where the book goes, and what it takes the place of; the book itself is read in `browser/test_book.py`."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the book is made by Sphinx")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import book  # noqa: E402


@pytest.fixture
def sphinx(monkeypatch):
    """A book of few pages that takes no time; returns the exit codes that Sphinx will give."""
    codes, pages_of_a_book = [], iter((("index.html", "searchindex.js", "old.html"), ("index.html", "searchindex.js")))

    def build_main(arguments):
        pages = Path(arguments[-1])
        pages.mkdir()
        for name in next(pages_of_a_book):
            (pages / name).touch()
        return codes.pop() if codes else 0
    monkeypatch.setattr(book, "gather", lambda source: None)
    monkeypatch.setattr(book, "build_main", build_main)
    return codes


def test_a_newer_book_takes_the_place_of_the_old_one(sphinx, tmp_path):
    out = tmp_path / "book"
    assert book.main([str(out)]) == 0 and (out / "old.html").exists()
    assert book.main([str(out)]) == 0
    assert not (out / "old.html").exists() and [path.name for path in tmp_path.iterdir()] == ["book"]


@pytest.mark.parametrize("name", ["searchindex.js", "my thesis.txt"])
def test_a_folder_that_is_no_book_of_ours_is_left_alone(sphinx, tmp_path, capsys, name):
    """Every Sphinx site has a searchindex.js."""
    (tmp_path / name).touch()
    assert book.main([str(tmp_path)]) == 1
    assert "left alone" in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["CNAME", ".git/config", "index.html"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_others_have_put_into_a_book_stays(sphinx, tmp_path, monkeypatch, capsys, name, when):
    out = tmp_path / "book"
    assert book.main([str(out)]) == 0

    def put(*_):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("ours", encoding="utf-8")
    (out / ".DS_Store").touch()                                     # a file manager's
    put() if when == "before" else monkeypatch.setattr(book, "gather", put)
    assert book.main([str(out)]) == 1
    said = capsys.readouterr().err
    assert "left alone" in said and f"({name.partition('/')[0]})" in said and (out / name).read_text(encoding="utf-8") == "ours"
    assert [path.name for path in tmp_path.iterdir()] == ["book"]


def test_what_cannot_be_written_is_found_out_before_the_work(sphinx, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(book, "gather", None)
    assert book.main([str(tmp_path / "nowhere" / "book")]) == 1
    assert f"cannot write {tmp_path / 'nowhere' / 'book'}: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("trouble", ["Sphinx", "the move"])
def test_where_it_fails_the_old_book_is_still_there(sphinx, tmp_path, monkeypatch, capsys, trouble):
    out, rename = tmp_path / "book", Path.rename
    assert book.main([str(out)]) == 0

    def fails(path, target):
        if path.name == "new":
            raise OSError(28, "No space left on device")
        return rename(path, target)
    if trouble == "Sphinx":
        sphinx.append(2)
    else:
        monkeypatch.setattr(Path, "rename", fails)
    assert book.main([str(out)]) == (2 if trouble == "Sphinx" else 1)
    assert "The book was not made" in "".join(capsys.readouterr())
    assert (out / "old.html").exists() and [path.name for path in tmp_path.iterdir()] == ["book"]


def test_a_tilde_is_the_home(sphinx, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert book.main(["~/book"]) == 0 and (tmp_path / "book" / "index.html").exists()
