"""Reading GGUF: every kind of tensor as the library writes it, what is kept beside the file, and files that are none."""

import gguf
import numpy as np
import pytest
import torch

from minigpt.gguf_file import open_gguf

KINDS = ("F32", "F16", "Q4_0", "Q4_1", "Q8_0")


def write(path, numbers=None, **settings):
    """A small GGUF file with the same matrix in every kind."""
    numbers = np.random.default_rng(0).standard_normal((6, 64), dtype=np.float32) if numbers is None else numbers
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("words", ["one", "two", "größer"])
    for name, value in settings.items():
        writer.add_uint32(name, value)
    for kind in KINDS:
        kind = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(kind.name, gguf.quants.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return torch.from_numpy(numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read_as_near_as_its_bits_allow(tmp_path, kind):
    numbers = write(tmp_path / "a.gguf")
    found = open_gguf(tmp_path / "a.gguf").tensor(kind)
    bits = {"F32": 40, "F16": 11, "Q8_0": 7, "Q4_1": 4, "Q4_0": 3}[kind]
    assert found.dtype == torch.float32 and found.shape == (6, 64)
    assert (found - numbers).abs().max() <= numbers.abs().max() * 2 / 2 ** bits


def test_settings_are_read_once_and_kept_for_the_same_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "a.gguf"
    write(path, answer=42)
    first = open_gguf(path)
    assert first.settings["answer"] == 42 and first.settings["words"] == ["one", "two", "größer"]
    with monkeypatch.context() as patch:
        patch.setattr(gguf, "GGUFReader", None)             # would fail if it were read again
        second = open_gguf(path)
    assert (second.settings, second.tensors) == (first.settings, first.tensors)
    write(path, answer=43, more=1)
    assert open_gguf(path).settings["answer"] == 43


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}'])
def test_what_is_kept_may_be_broken_or_missing(tmp_path, content):
    path = tmp_path / "a.gguf"
    write(path, answer=42)
    open_gguf(path)
    (kept,) = tmp_path.glob("*.json")
    kept.write_bytes(content)
    assert open_gguf(path).settings["answer"] == 42
    assert len(kept.read_bytes()) > 100                     # and is written anew


def test_where_nothing_may_be_written_it_is_read_all_the_same(tmp_path, monkeypatch):
    def refuse(path, content):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr("minigpt.gguf_file.write_atomically", refuse)
    write(tmp_path / "a.gguf", answer=42)
    assert open_gguf(tmp_path / "a.gguf").settings["answer"] == 42


@pytest.mark.parametrize("content", [b"", b"GG", b"<html>not here</html>", b"GGUF\x03\x00\x00\x00", b"GGUF" + bytes(400)])
def test_a_file_that_is_none_is_refused_by_its_name(tmp_path, content):
    path = tmp_path / "no.gguf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"no\.gguf is not a GGUF file, or is damaged"):
        open_gguf(path)
    assert list(tmp_path.iterdir()) == [path]               # nothing is kept of it


@pytest.mark.parametrize("left", [40, 200, 600, -100])
def test_a_file_that_was_cut_off_is_refused_by_its_name(tmp_path, left):
    path = tmp_path / "cut.gguf"
    write(path)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"cut\.gguf"):
        file = open_gguf(path)
        for name in file.tensors:
            file.tensor(name)


def test_a_missing_file_and_a_missing_tensor_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.gguf"):
        open_gguf(tmp_path / "none.gguf")
    write(tmp_path / "a.gguf")
    with pytest.raises(ValueError, match=r"a\.gguf has no tensor 'other'"):
        open_gguf(tmp_path / "a.gguf").tensor("other")
