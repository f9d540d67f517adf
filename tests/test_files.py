"""Files: whole or not at all, the same bytes for the same content, and nothing left lying about."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
import time

import pytest
import torch

from minigpt import files
from minigpt.files import load_tensors, save_tensors, write_atomically

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(7, dtype=torch.int64), "empty": torch.zeros(0, 4)}
STRINGS = {"settings": 'quotes " and \\ and é🙂\n\x01', "zero": "0", "alpha": ""}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a model, größer 模型.safetensors"


def test_what_was_saved_comes_back(path):
    save_tensors(path, "kind", TENSORS, STRINGS)
    tensors, strings = load_tensors(path, "kind")
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype
    assert strings.items() >= STRINGS.items()


def test_a_tensor_that_is_a_view_or_needs_gradients_is_saved_too(path):
    whole = torch.arange(12.0).view(3, 4)
    save_tensors(path, "kind", {"view": whole.T, "parameter": torch.nn.Parameter(whole.clone())}, {})
    tensors, _ = load_tensors(path, "kind")
    assert torch.equal(tensors["view"], whole.T) and torch.equal(tensors["parameter"], whole)


def test_the_same_content_makes_the_same_bytes(path):
    contents = set()
    for _ in range(10):
        save_tensors(path, "kind", TENSORS, STRINGS | {f"key {i}": str(i) for i in range(8)})
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_the_library_itself_reads_the_file(path):
    import safetensors.torch
    save_tensors(path, "kind", TENSORS, STRINGS)
    assert torch.equal(safetensors.torch.load_file(path)["a"], TENSORS["a"])
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["settings"] == STRINGS["settings"]


def test_another_kind_of_ours_is_refused(path):
    save_tensors(path, "minigpt training run", TENSORS, STRINGS)
    with pytest.raises(ValueError, match="not a minigpt model file: .* says 'minigpt training run' of its format"):
        load_tensors(path, "minigpt model")


def test_a_number_format_that_the_library_does_not_know_is_named_although_the_checksum_fits(path):
    save_tensors(path, "kind", TENSORS, STRINGS)
    checksum = load_tensors(path, "kind")[1]["sha256"].encode()
    content = path.read_bytes().replace(checksum, files.BLANK.encode()).replace(b'"F32"', b'"F99"')
    path.write_bytes(content.replace(files.BLANK.encode(), hashlib.sha256(content).hexdigest().encode()))
    with pytest.raises(ValueError, match="模型.safetensors is damaged: .*F99"):
        load_tensors(path, "kind")


def test_a_file_that_is_not_there_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*nothing"):
        load_tensors(tmp_path / "nothing", "kind")
    with pytest.raises(IsADirectoryError, match="is a folder, not a kind file"):
        load_tensors(tmp_path, "kind")


def test_writing_replaces_the_content_and_leaves_one_file(path):
    write_atomically(path, b"old" * 1000)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_the_file_has_the_mode_of_an_ordinary_one(path):
    before = os.umask(0o027)
    try:
        write_atomically(path, b"content")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027                                  # and the process's mask is what it was
    finally:
        os.umask(before)


def test_what_killed_writers_left_goes_once_it_is_old(path):
    write_atomically(path, b"content")
    old, fresh, other = (path.with_name(f".{name}.unfinished")
                         for name in (f"{path.name}.abcd_123", f"{path.name}.efgh_123", "another.safetensors.abcd_123"))
    notes = path.with_name(f".{path.name}.notes.unfinished")            # somebody's own
    long_ago = time.time() - files.ABANDONED - 1
    for unfinished in (old, fresh, other, notes):
        unfinished.write_bytes(b"half of it")
        if unfinished != fresh:
            os.utime(unfinished, (long_ago, long_ago))
    write_atomically(path, b"content")
    assert not old.exists() and fresh.exists() and other.exists() and notes.exists()


@pytest.mark.parametrize("name", ["[a-z]*?.safetensors", "*.safetensors"])
def test_a_name_that_looks_like_a_pattern_is_a_name(name, tmp_path):
    bystander = tmp_path / ".x.safetensors.abcd_123.unfinished"
    bystander.write_bytes(b"")
    os.utime(bystander, (0, 0))
    try:
        write_atomically(tmp_path / name, b"content")
    except OSError:
        pytest.skip("this system has no such names")
    assert bystander.exists() and (tmp_path / name).read_bytes() == b"content"


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("there_before", [True, False])
def test_a_disk_that_fails_leaves_the_old_file_and_says_which(step, there_before, path, monkeypatch):
    if there_before:
        write_atomically(path, b"old")

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OSError, match="cannot write .*模型.safetensors: No space left on device") as error:
        write_atomically(path, b"new")
    assert error.value.errno == errno.ENOSPC
    assert ("the file that was there is unchanged" in str(error.value)) == there_before
    monkeypatch.undo()
    assert [p.read_bytes() for p in path.parent.iterdir()] == [b"old"] * there_before


def test_an_interrupt_while_writing_leaves_the_old_file(path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    write_atomically(path, b"old")
    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert [p.read_bytes() for p in path.parent.iterdir()] == [b"old"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot write .*missing.*file: No such file"):
        write_atomically(tmp_path / "missing" / "file", b"content")


def test_a_process_that_loads_while_another_saves_always_gets_one_of_the_two(path):
    """What is read is one file from its first byte to its last, never the header of one and the tensors of another."""
    writer = """
import sys, torch
from minigpt.files import save_tensors
for i in range(100):
    save_tensors(sys.argv[1], "kind", {"a": torch.full((500,), float(i))}, {"i": str(i)})
    if i == 0:
        print(flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", writer, path], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        reads = 0
        while process.poll() is None:
            tensors, strings = load_tensors(path, "kind")
            assert tensors["a"].eq(float(strings["i"])).all()
            reads += 1
    assert process.returncode == 0 and reads > 10


@pytest.mark.parametrize("name", ["m" * 255, "é" * 127, "m" * 240 + "🙂"])
def test_a_name_may_be_as_long_as_the_file_system_takes_it(name, tmp_path):
    files.write_atomically(tmp_path / name, b"one")
    files.write_atomically(tmp_path / name, b"two")
    assert (tmp_path / name).read_bytes() == b"two" and len(list(tmp_path.iterdir())) == 1
