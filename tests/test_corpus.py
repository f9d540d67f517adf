"""The texts: named ones, a student's own file, its faults, a large one in chunks, and what is held out.

The reference for reading is Python's own: decode the bytes, drop the mark, replace the line endings.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigpt import corpus
from minigpt.corpus import NAMES, data_folder, normalise, read_chunks, read_text, split, split_position

# Texts dense in what matters here: spaces, other whitespace, characters of 1 to 4 bytes.
TEXTS = st.text(st.sampled_from("ab  \n\t\u00a0\u3000é漢🙂\u0301"), max_size=60) | st.text(st.characters(codec="utf-8"))
# A carriage return is a line ending, so that text with one does not come back as it is; NUL is refused.
FILE_TEXTS = TEXTS.map(lambda text: re.sub("[\r\0\ufeff]", "", text)).filter(bool)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("corpus") / "a student's Büchlein.txt"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


# Reading ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_a_named_text_is_the_file_in_the_data_folder(name):
    assert read_text(name).encode("utf-8") == (data_folder() / f"{name}.txt").read_bytes()


def test_a_path_reads_a_file_even_where_it_is_called_as_a_named_text(tmp_path, monkeypatch):
    write(tmp_path / "austen", "mine")
    monkeypatch.chdir(tmp_path)
    assert read_text("./austen") == read_text(tmp_path / "austen") == "mine"
    assert len(read_text("austen")) == 2_029_583


@given(text=FILE_TEXTS, mark=st.booleans(), ending=st.sampled_from(["\n", "\r\n", "\r"]), size=st.integers(1, 9))
@example(text="é\n漢\n🙂\n", mark=True, ending="\r\n", size=1)     # every character and every "\r\n" parted
def test_mark_and_line_endings_are_undone_wherever_the_chunks_part_them(path, text, mark, ending, size):
    write(path, b"\xef\xbb\xbf" * mark + text.replace("\n", ending).encode("utf-8"))
    assert "".join(read_chunks(path, size=size)) == read_text(path) == text


@given(text=FILE_TEXTS, mark=st.booleans(), ending=st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_text_that_somebody_has_read_without_a_thought_becomes_the_one_that_we_read(path, text, mark, ending):
    write(path, b"\xef\xbb\xbf" * mark + text.replace("\n", ending).encode("utf-8"))
    assert normalise(path.read_bytes().decode("utf-8")) == read_text(path)


def test_a_mark_inside_the_text_stays(path):
    assert read_text(write(path, "a\ufeffb")) == "a\ufeffb"


@pytest.mark.skipif(not sys.prefix.isascii(), reason="in the locale C, PyTorch is not found in a folder named like this")
def test_the_encoding_of_the_locale_does_not_matter(path):
    """Where nobody says otherwise files are opened as cp1252 on Windows, and as ASCII in the locale C."""
    code = "import sys, locale; from minigpt.corpus import read_text; print(locale.getpreferredencoding(False)); " \
           "print(ascii(read_text(sys.argv[1])))"
    locale_c = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code, write(path, "Größe 🙂")]
    done = subprocess.run(command, env=locale_c, capture_output=True, check=True)
    encoding, text = done.stdout.decode("ascii").splitlines()
    assert text == ascii("Größe 🙂")
    if sys.platform == "linux":
        assert encoding.upper() in ("ANSI_X3.4-1968", "US-ASCII", "ASCII")      # else this has tested nothing


# Chunks -------------------------------------------------------------------------------------------------------------

@given(text=FILE_TEXTS, start=st.integers(0, 70), stop=st.none() | st.integers(0, 70), size=st.integers(1, 9))
def test_start_and_stop_slice_the_text_by_characters(path, text, start, stop, size):
    assert "".join(read_chunks(write(path, text), start, stop, size)) == text[start:stop]


@given(text=FILE_TEXTS, size=st.integers(1, 9))
def test_chunks_have_the_size_that_was_asked_for(path, text, size):
    chunks = list(read_chunks(write(path, text), size=size))
    assert all(len(chunk) == size for chunk in chunks[:-1]) and 1 <= len(chunks[-1]) <= size


def test_chunks_of_a_large_text_take_memory_that_does_not_grow_with_it(path):
    def peak(megabytes):
        with open(path, "wb") as file:
            for _ in range(megabytes):
                file.write(b"a truth universally acknowledged, that " * 26_887)     # 1 MiB
        tracemalloc.start()
        try:
            position = split_position(path)
            total = sum(len(piece) for piece in read_chunks(path, start=position, size=1 << 16))
            assert total == path.stat().st_size - position
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    small, large = peak(4), peak(16)
    assert large < 1.1 * small and large < 8 << 20


# Faults of a file ---------------------------------------------------------------------------------------------------

def test_a_missing_file_raises_and_never_gives_an_empty_text(tmp_path):
    """The reference's: a missing file silently giving an empty object."""
    missing = tmp_path / "missing.txt"
    for read in (read_text, read_chunks, split_position):
        with pytest.raises(FileNotFoundError, match=r"missing\.txt.*austen, shakespeare"):
            read(missing)
    write(tmp_path / "file", "text")
    with pytest.raises(FileNotFoundError, match="inside"):
        read_text(tmp_path / "file" / "inside")


def test_a_missing_data_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(corpus, "__file__", str(tmp_path / "minigpt" / "corpus.py"))
    with pytest.raises(FileNotFoundError, match="data.*editable"):
        read_text("austen")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError, match=re.escape(f"{tmp_path} is a folder")):
        read_text(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no pipes with a name")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is not an ordinary file"):
        read_text(tmp_path / "pipe")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(path, content):
    with pytest.raises(ValueError, match=re.escape(f"{path} is empty")):
        read_text(write(path, content))


@pytest.mark.parametrize("content, what", [
    (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "a PDF document"),
    (b"PK\x03\x04\x14\0", r"zip archive, as \.docx"),
    (b"{\\rtf1\\ansi It is a truth}", "rich text"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Office"),
    ("Größe".encode("utf-16"), "UTF-16"),
    ("Größe".encode("utf-32"), "UTF-32"),
    (b"\0\0\xfe\xff" + "Größe".encode("utf-32-be"), "UTF-32"),
    (b"\xfe\xff" + "Größe".encode("utf-16-be"), "UTF-16"),
])
def test_what_is_no_plain_text_is_refused_before_the_first_chunk_by_what_it_is(path, content, what):
    with pytest.raises(ValueError, match=re.escape(str(path)) + f".*{what}.*save it as plain text.*UTF-8"):
        read_chunks(write(path, content))


def tar(content):
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w") as archive:
        (entry := tarfile.TarInfo("book.txt")).size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize("packed, what", [
    (gzip.compress(b"It is a truth"), r"gzip, as \.gz"),
    (bz2.compress(b"It is a truth"), r"bzip2, as \.bz2"),
    (lzma.compress(b"It is a truth"), r"xz, as \.xz"),
    (b"\x28\xb5\x2f\xfd\x04\x58", r"Zstandard, as \.zst"),
    (b"\x04\x22\x4d\x18\x64\x40", r"LZ4, as \.lz4"),
    (b"7z\xbc\xaf\x27\x1c\0\4", r"7-Zip archive"),
    (b"Rar!\x1a\x07\1\0", r"RAR archive"),
    (tar(b"It is a truth"), r"tar archive"),
], ids=["gzip", "bzip2", "xz", "zstd", "lz4", "7z", "rar", "tar"])
def test_what_is_packed_is_named_as_such(path, packed, what):
    with pytest.raises(ValueError, match=re.escape(str(path)) + f" is .*{what}.* Unpack it"):
        read_text(write(path, packed))


@pytest.mark.parametrize("content, what", [
    (b"\x89PNG\r\n\x1a\n\0\0\0\x0d", "image .PNG"), (b"\xff\xd8\xff\xe0\0\x10JFIF", "image .JPEG"),
    (b"GIF89a\x10\0\x10\0\xf7\0\0", "image .GIF"), (b"RIFF\x24\1\0\0WEBPVP8 ", "image .WebP"), (b"II*\0\x08", "image .TIFF"),
    (b"\0\0\0\x18ftypheic", "image .HEIC"), (b"\0\0\0\x18ftypmp42", "film"), (b"ID3\3\0\0\0", "sound"),
    (b"RIFF\x24\1\0\0WAVEfmt ", "sound"), (b"SQLite format 3\0", "database"), (b"GGUF\3\0\0\0", "GGUF"),
    (b"\x80\4\x95\x05", "pickle"), (b"\x40\1\0\0\0\0\0\0{\"__metadata__\":{", "safetensors"),
])
def test_what_holds_no_text_is_named_by_its_kind(path, content, what):
    with pytest.raises(ValueError, match=re.escape(str(path)) + f" is .*{what}.*its first bytes are {content[0]:02X} "):
        read_chunks(write(path, content))


@pytest.mark.parametrize("text", ["GIF89a is a format of images.", "RIFF, she said", "BZh is no word", "ID3 tags", "MM.",
                                  "7z and Rar! are programs", "OggS", "GGUF is a format", "II* \n", "PK", "ustar " * 50])
def test_a_text_about_such_files_is_a_text(path, text):
    assert read_text(write(path, text)) == text


def test_a_zip_file_is_named(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("book.txt", "It is a truth")
    with pytest.raises(ValueError, match="is a zip archive"):
        read_text(path)


def test_a_tilde_is_ones_home_folder(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    write(tmp_path / "book.txt", "at home")
    assert read_text("~/book.txt") == "".join(read_chunks("~/book.txt")) == "at home"
    assert split_position("~/book.txt") == 7


@pytest.mark.parametrize("content, position, byte", [
    ("Größe".encode("latin-1"), 2, "F6"),
    (b"\xef\xbb\xbfcaf\xe9 au lait", 6, "E9"),                  # counted in the file, the mark included
    (b"one\r\ntwo\r\nthr\xffe", 13, "FF"),                      # and so is each "\r"
    (b"one\ntwo\0three\xff", 7, "00"),                          # the first of several
    (b"one\xfftwo\0", 3, "FF"),
    (b"ends in half a character \xe2\x82", 25, "E2"),
    (b"half a character\xe2\x82\0", 16, "E2"),
    (b"\xed\xa0\x80", 0, "ED"),                                 # a surrogate, which UTF-8 never holds
    ("Größe".encode("utf-16-le"), 1, "00"),                     # UTF-16 that does not say so
    (b"x" * 3_000_000 + b"\n" + "é".encode() * 1_000_000 + b"\xc3 ", 5_000_001, "C3"),
])
def test_a_bad_byte_is_named_with_its_place_and_the_remedy(path, content, position, byte):
    write(path, content)
    size = max(len(content) // 3, 1)
    for read in (read_text, split_position, lambda path: list(read_chunks(path, size=size))):
        with pytest.raises(ValueError) as caught:
            read(path)
        assert str(caught.value) == (f"{path} is not plain text in UTF-8: its byte {position} is 0x{byte}. Open it in "
                                     "the program that wrote it and save it as plain text with the encoding UTF-8.")


@given(content=st.binary(max_size=60))
@example(content=b"\xff\xfe\0\0")
def test_any_bytes_are_either_text_or_an_error_that_names_the_file(path, content):
    write(path, content)
    try:
        expected = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        valid = "\0" not in expected and expected != "" and not expected.startswith(("%PDF-", "{\\rtf", "PK\3\4"))
    except UnicodeDecodeError:
        valid = False
    if valid:
        assert read_text(path) == expected
    else:
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_text(path)


def test_a_file_is_read_and_never_executed(path):
    text = "import os\nos.abort()\n<script>alert(1)</script>\n"
    assert read_text(write(path, text)) == text


# Faults of an argument ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("source", [None, 3, b"austen", ["austen"], 0.5])
def test_a_source_that_is_no_path_is_refused(source):
    with pytest.raises(TypeError, match="source must be one of 'austen', 'shakespeare' or the path"):
        read_chunks(source)


@pytest.mark.parametrize("source", ["It is a truth universally acknowledged. " * 1000, "austen\0.txt"])
def test_a_text_in_the_place_of_a_path_is_refused_and_shown_in_short(source):
    with pytest.raises(ValueError, match="source must be .* the path of a text file") as caught:
        read_text(source)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("argument, value, error", [
    ("start", -1, ValueError), ("start", 0.5, TypeError), ("start", None, TypeError), ("start", True, TypeError),
    ("stop", -1, ValueError), ("stop", "9", TypeError), ("stop", float("inf"), TypeError),
    ("size", 0, ValueError), ("size", -1, ValueError), ("size", None, TypeError), ("size", float("nan"), TypeError),
])
def test_bad_arguments_of_read_chunks_are_named_at_once(argument, value, error):
    with pytest.raises(error, match=f"{argument} must be"):
        read_chunks("austen", **{argument: value})


@pytest.mark.parametrize("held_out, error", [
    (-0.1, ValueError), (0.51, ValueError), (10, ValueError), (float("nan"), ValueError), (float("inf"), ValueError),
    ("0.1", TypeError), (None, TypeError), (True, TypeError),
])
def test_a_bad_fraction_is_named(held_out, error):
    for call in (lambda: split(["a b c"], held_out), lambda: split_position("austen", held_out)):
        with pytest.raises(error, match="held_out must be"):
            call()


@pytest.mark.parametrize("books, error, message", [
    ("one text", TypeError, "books must be a list of texts"), (None, TypeError, "books must be"),
    (iter(["text"]), TypeError, "books must be"), (["text", 3], TypeError, r"books\[1\] must be a str"),
    (["text", ""], ValueError, r"books\[1\] must have at least one character"),
    (["half \ud83d"], ValueError, r"books\[0\] must be valid Unicode"),
])
def test_bad_books_are_named(books, error, message):
    with pytest.raises(error, match=message):
        split(books)


# What is held out ---------------------------------------------------------------------------------------------------

@given(books=st.lists(TEXTS.filter(bool), max_size=4), held_out=st.floats(0, 0.5))
def test_the_split_loses_nothing_and_holds_out_at_most_the_fraction_of_each_book(books, held_out):
    training, tails = split(books, held_out)
    assert [a + b for a, b in zip(training, tails, strict=True)] == books
    for book, part, tail in zip(books, training, tails):
        assert part and len(tail) <= held_out * len(book)


def test_each_book_has_its_own_tail_and_not_the_last_book_alone():
    training, tails = split([read_text(name) for name in NAMES])
    for name, part, tail in zip(NAMES, training, tails):
        assert 0.0995 * len(read_text(name)) < len(tail) <= 0.1 * len(read_text(name))
        assert read_text(name).endswith(tail) and tail[0] == " " and part[-1].isalnum()


@pytest.mark.parametrize("name, position", [("austen", 1_826_627), ("shakespeare", 1_559_978)])
def test_what_the_shipped_model_was_not_trained_on_stays_the_same(name, position):
    assert split_position(name) == position


def test_the_split_by_hand():
    assert split(["0123456789" * 2]) == (["012345678901234567"], ["89"])        # no space: 18 characters and 2
    assert split(["x" * 80 + "nine and ten eleven"]) == (["x" * 80 + "nine and ten"], [" eleven"])   # 90 is in "ten"
    assert split(["x" * 90 + " nine char"]) == (["x" * 90], [" nine char"])     # 100 characters: the space at 90 itself
    assert split(["ab cd"]) == (["ab cd"], [""])                                # a tenth of it is no character


def test_the_split_looks_for_a_space_only_nearby():
    far = "x" * 95_000 + " " + "y" * 4_999
    assert split([far]) == ([far[:90_000]], [far[90_000:]])
    near = "x" * 90_900 + " " + "y" * 9_099
    assert split([near]) == ([near[:90_900]], [near[90_900:]])


@given(text=FILE_TEXTS, held_out=st.floats(0, 0.5), repeat=st.integers(1, 40))
def test_a_file_is_split_where_its_text_is(path, text, held_out, repeat):
    text = text * repeat
    write(path, b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode("utf-8"))
    position = split_position(path, held_out)
    parts = "".join(read_chunks(path, stop=position)), "".join(read_chunks(path, start=position))
    training, tails = split([text], held_out)
    assert parts == (training[0], tails[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_named_text_is_split_where_its_string_is(name):
    assert split_position(name) == len(split([read_text(name)])[0][0])
