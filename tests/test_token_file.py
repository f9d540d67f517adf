"""The tokens of a text in a file: those of the whole text, made once, and never another text's."""

import copy
import errno
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import TEXT

from minigpt import GPT, Tokenizer, corpus, files, gpt, token_file
from minigpt.arguments import takes

SIZE = {"d_model": 8, "n_heads": 2, "n_layers": 1, "d_ff": 8, "context_length": 8}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT * 5, encoding="utf-8")
    return path


def from_file(text, tmp_path, vocab_size=300, method="bpe"):
    return GPT.from_files([text], vocab_size=vocab_size, method=method, tokens=tmp_path / "m.ids", **SIZE)


@pytest.mark.parametrize(("method", "vocab_size"), [("bpe", 300), ("substring", 280), ("bytes", 256)])
def test_what_is_mapped_is_what_memory_would_hold(method, vocab_size, text, tmp_path):
    kept, in_memory = from_file(text, tmp_path, vocab_size, method), GPT.from_files([text], vocab_size=vocab_size, method=method,
                                                                                    **SIZE)
    assert kept.tokenizer == in_memory.tokenizer
    training, held_out = (part[0] for part in corpus.split([TEXT * 5]))
    for ours, theirs, part in ((kept.training_text, in_memory.training_text, training),
                               (kept.validation_text, in_memory.validation_text, held_out)):
        assert isinstance(ours.ids, np.memmap)
        assert ours.ids.tolist() == theirs.ids.tolist() == kept.tokenizer.encode("\n") + kept.tokenizer.encode(part)
        assert ours.n_bytes == theirs.n_bytes == len(part.encode())
    (trained_on, _) = token_file.header_of(tmp_path / "m.ids")["parts"]
    assert trained_on["sha256"] == files.hashlib.sha256(in_memory.training_text.ids).hexdigest()


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells which pages a process has")
def test_what_was_read_is_not_this_processs_memory(tmp_path):
    token_file.written(tmp_path / "m.ids", "x", Tokenizer.train("a", 256, "bytes"), ["some text. " * 10_000] * 100, [])
    _, (training, _) = token_file.read(tmp_path / "m.ids", "x")

    def resident():
        """kB of the file that count as this process's."""
        lines, here = Path("/proc/self/smaps").read_text().splitlines(), False
        found = 0
        for line in lines:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                here = line.endswith("m.ids")
            elif here and line.startswith("Rss:"):
                found += int(line.split()[1])
        return found

    kilobytes = training.ids.nbytes // 1000
    assert kilobytes > 20_000
    for start in range(0, len(training.ids), 100_000):
        training.ids[start:start + 100_000]
    training.ids[torch.arange(0, len(training.ids), 1000)]
    assert resident() < 0.1 * kilobytes
    assert int(np.asarray(training.ids)[:1].sum()) == 10 and len(training.ids[5:9]) == 4


@pytest.mark.parametrize("size", [1, 7, 50])
def test_pieces_may_end_anywhere(size, tmp_path):
    tokenizer = Tokenizer.train(TEXT, 300)
    token_file.written(tmp_path / "m.ids", "x", tokenizer, (TEXT[i:i + size] for i in range(0, len(TEXT), size)), [])
    found, (training, held_out) = token_file.read(tmp_path / "m.ids", "x")
    assert training.ids.tolist() == tokenizer.encode("\n") + tokenizer.encode(TEXT) and held_out is None and found == tokenizer


def test_it_is_made_once(text, tmp_path, monkeypatch):
    first = from_file(text, tmp_path)
    monkeypatch.setattr(Tokenizer, "encode_chunks", None)
    monkeypatch.setattr(Tokenizer, "train", None)
    again = from_file(text, tmp_path)
    assert again.tokenizer == first.tokenizer
    assert again.training_text.ids.tolist() == first.training_text.ids.tolist()


@pytest.mark.parametrize("other", ["text", "vocab_size", "method", "version", "cut"])
def test_it_is_not_taken_for_anothers(other, text, tmp_path, monkeypatch):
    before = from_file(text, tmp_path)
    if other == "text":
        text.write_text(TEXT * 4 + TEXT.upper(), encoding="utf-8")
    if other == "version":
        monkeypatch.setattr(token_file, "__version__", "9.9.9")
    if other == "cut":
        (tmp_path / "m.ids").write_bytes((tmp_path / "m.ids").read_bytes()[:100])
    calls, train = [], Tokenizer.train
    monkeypatch.setattr(Tokenizer, "train", lambda *arguments, **named: calls.append(1) or train(*arguments, **named))
    after = from_file(text, tmp_path, 301 if other == "vocab_size" else 300, "substring" if other == "method" else "bpe")
    assert calls == [1]
    part = corpus.split([corpus.read_text(text)])[0][0]
    assert after.training_text.ids.tolist() == after.tokenizer.encode("\n") + after.tokenizer.encode(part)
    assert (after.tokenizer == before.tokenizer) == (other in ("version", "cut"))


@pytest.mark.parametrize("name", ["text.txt", "m.ids"])
def test_it_replaces_neither_the_text_nor_what_is_not_its_own(name, text, tmp_path):
    (tmp_path / "m.ids").write_bytes(b"something else")
    before = (tmp_path / name).read_bytes()
    with pytest.raises(ValueError, match=f"{name} is there and is no file of a text's tokens, and stays"):
        GPT.from_files([text], vocab_size=300, tokens=tmp_path / name, **SIZE)
    assert (tmp_path / name).read_bytes() == before


def test_where_the_disk_has_no_room_for_it_the_text_is_read_without(text, tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    expected = from_file(text, tmp_path).training_text.ids.tolist()
    (tmp_path / "m.ids").unlink()
    monkeypatch.setattr(token_file, "_write_part", full)
    assert from_file(text, tmp_path).training_text.ids.tolist() == expected
    assert "No space left on device; the text is read once more" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_a_copy_of_what_was_read_can_be_trained(text, tmp_path):
    copied = copy.deepcopy(from_file(text, tmp_path))
    assert copied.train(1, progress=False).steps == [1]


def test_what_is_broken_off_leaves_nothing(text, tmp_path, monkeypatch):
    @takes()
    def broken(*arguments):
        yield np.zeros(5, np.uint16)
        raise KeyboardInterrupt

    monkeypatch.setattr(Tokenizer, "encode_chunks", broken)
    with pytest.raises(KeyboardInterrupt):
        from_file(text, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_of_a_large_text_the_tokenizer_sees_a_part(text, tmp_path, monkeypatch):
    seen, train = [], Tokenizer.train
    monkeypatch.setattr(gpt, "LARGEST_SAMPLE", 2000)
    monkeypatch.setattr(corpus, "read_chunks", in_chunks_of(300, corpus.read_chunks))

    def training(chunks, *arguments, **named):
        chunks = list(chunks)
        seen.append(sum(map(len, chunks)))
        return train(chunks, *arguments, **named)

    monkeypatch.setattr(Tokenizer, "train", training)
    made = GPT.from_files([text], vocab_size=300, tokens=tmp_path / "m.ids", **SIZE)
    length = len(corpus.split([TEXT * 5])[0][0])
    assert length > 5000 and 1500 <= seen[0] <= 2000 + 300
    assert made.tokenizer.decode(made.training_text.ids) == "\n" + corpus.split([TEXT * 5])[0][0]


def in_chunks_of(size, read_chunks):
    def chunks(source, start=0, stop=None):
        return read_chunks(source, start, stop, size)
    return chunks
