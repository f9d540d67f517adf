"""What is typed on a command line, and what is piped in: patterns, standard input, and what is wrong with them."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import TEXT, TINY

from minigpt import GPT, typed
from minigpt.__main__ import main

posix = pytest.mark.skipif(os.name != "posix", reason="closed streams of POSIX")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    GPT.from_text(TEXT, vocab_size=300, d_model=8, n_heads=2, n_layers=1, d_ff=8, context_length=8).save(path)
    return path


@pytest.fixture
def piped_in(monkeypatch, tmp_path):
    """Puts bytes on standard input."""
    def pipe(content):
        (tmp_path / "in").write_bytes(content)
        monkeypatch.setattr("sys.stdin", open(tmp_path / "in", encoding="utf-8"))
    return pipe


def said(capsys, *words):
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("minigpt: ") and error.count("\n") == 1 and "tmp" not in error.replace("temporary", "")
    return error


def test_of_several_files_that_fit_one_is_asked_for(model, tmp_path, capsys, monkeypatch):
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert "*.txt must be one file, and fits 3: a.txt, b.txt …" in said(capsys, "evaluate", model, "*.txt")
    assert main(["evaluate", str(model), "a*.txt"]) == 0


def test_a_model_too_can_be_typed_as_a_pattern(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(model.parent)
    assert main(["sample", "m*.safetensors", "--prompt", "It", "--max-new-tokens", "1"]) == 0
    (tmp_path / "m1.safetensors").touch()
    (tmp_path / "m2.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["page", "m*.safetensors", "p.html"])
    assert "m*.safetensors must be one file, and fits 2" in capsys.readouterr().err


@pytest.mark.parametrize("content, sentence", [
    (b"", "standard input is empty: there is no text in it"),
    ("é".encode("latin-1") * 9, "standard input is not plain text in UTF-8: its byte 0 is 0xE9"),
    (b"\x1f\x8b\x08\0", "standard input is compressed with gzip"),
    ("text".encode("utf-16"), "standard input is text in UTF-16"),
    (b"a\0b", "standard input is not plain text in UTF-8: its byte 1 is 0x00")])
def test_what_is_wrong_with_standard_input_is_said_of_it(model, capsys, piped_in, content, sentence):
    piped_in(content)
    assert sentence in said(capsys, "evaluate", model, "-")
    if content:
        piped_in(content)
        assert sentence in said(capsys, "sample", model)
    piped_in(content)
    assert sentence in said(capsys, "train", "-", "--out", "m", *TINY)


def test_standard_input_can_be_read_once(capsys):
    assert "standard input (-) can be read once, not 2 times" in said(capsys, "train", "-", "-", "--out", "m")


@posix
@pytest.mark.parametrize("words", ["evaluate MODEL -", "train - --out m"])
def test_standard_input_may_be_closed(model, tmp_path, words):
    line = f'"{sys.executable}" -m minigpt {words.replace("MODEL", str(model))} <&-'
    result = subprocess.run(line, shell=True, capture_output=True, cwd=tmp_path)
    assert result.returncode == 2 and b"nothing on standard input (-): it is closed" in result.stderr


@pytest.mark.parametrize("content, prompt", [(b"a\r\nb\r\n", "a\nb"), (b"\xef\xbb\xbfIt is", "It is"), (b"", ""),
                                             (b"\xef\xbb\xbf", ""), (b"It\n\n", "It\n")])
def test_a_piped_prompt_is_read_as_a_text_is(piped_in, content, prompt):
    piped_in(content)
    assert typed.piped_prompt() == prompt


def test_a_full_folder_for_temporary_files_is_named(capsys, monkeypatch, piped_in, model, tmp_path):
    def full(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    piped_in(b"text")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["evaluate", str(model), "-"]) == 2
    assert f"cannot write to the folder for temporary files, {tmp_path}: No space left" in capsys.readouterr().err


def test_without_standard_input_the_prompt_is_empty(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert typed.piped_prompt() == ""
    monkeypatch.setattr("sys.stdin", io.StringIO("of a test"))
    assert typed.piped_prompt() == ""
