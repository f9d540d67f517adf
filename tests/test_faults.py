"""Faults: what happens to a file when its writer is killed, when the disk is full, and when a byte of it changes.

How often each is tried, and how it ended, stands in the table of README.md in this folder.
"""

import errno
import itertools
import json
import math
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from commands import TEXT, TINY, run, start

from minigpt import GPT, files
from minigpt.gpt import KIND

posix = pytest.mark.skipif(os.name != "posix", reason="SIGKILL and fork are POSIX's")


def a_gpt(seed=0):
    return GPT.from_text(TEXT, vocab_size=280, d_model=16, n_heads=2, n_layers=1, d_ff=32, context_length=8, seed=seed)


@pytest.fixture(scope="module")
def gpts():
    return a_gpt(0), a_gpt(1)


@pytest.fixture
def path(gpts, tmp_path):
    """A model's file."""
    gpts[0].save(tmp_path / "model é.safetensors")
    return tmp_path / "model é.safetensors"


def is_one_of(gpts, path):
    """Which of two models the file holds; fails where it is neither."""
    weights, _ = files.load_tensors(path, KIND)
    matching = [i for i, gpt in enumerate(gpts)
                if all(torch.equal(weights[name], tensor) for name, tensor in gpt.model.state_dict().items())]
    assert len(matching) == 1
    return matching[0]


def refused(path, reason=""):
    """Loading raises an error of ours, which names the file and the reason."""
    with pytest.raises(ValueError) as error:
        GPT.load(path)
    assert str(error.value).startswith(str(path)) and re.search(reason, str(error.value))
    return str(error.value)


# Killed ---------------------------------------------------------------------------------------------------------------

@posix
def test_200_writers_killed_at_random_moments_leave_a_file_that_loads(gpts, path):
    """Each is a process that saves two models in turn, as fast as it can, until SIGKILL comes."""
    began = time.perf_counter()
    gpts[0].save(path)
    one_save = time.perf_counter() - began
    chance, outcomes, unfinished = random.Random(1), [0, 0], set()
    for kill in range(2000):
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            try:
                os.write(writer, b"!")
                for gpt in itertools.cycle(gpts):
                    gpt.save(path)
                    os.write(writer, b"!")
            finally:
                os._exit(1)
        for _ in range(chance.randint(1, 4)):                            # it has begun, and saved none to three times
            os.read(reader, 1)
        time.sleep(chance.uniform(0, one_save))
        os.kill(child, signal.SIGKILL)
        os.close(reader), os.close(writer)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        outcomes[is_one_of(gpts, path)] += 1
        if kill % 20 == 0:
            assert GPT.load(path).generate("It", 5, seed=0)
        unfinished |= set(path.parent.glob(".*.unfinished"))    # in time a later save takes away what is old
        if kill >= 199 and len(unfinished) >= 10:      # how often one is hit in the middle is the machine's affair
            break
    assert min(outcomes) >= 10                                           # the one and the other: the moments were spread
    assert len(unfinished) >= 10                                         # and many were in the middle of a save
    for file in path.parent.glob(".*.unfinished"):
        os.utime(file, (0, 0))
    gpts[0].save(path)
    assert list(path.parent.iterdir()) == [path]                         # what they left goes with a later save


@posix
@pytest.mark.parametrize("seed", range(5))
def test_a_run_killed_at_a_random_step_is_resumed_to_the_same_bytes(seed, tmp_path):
    chance = random.Random(seed)
    text, whole, killed = tmp_path / "text.txt", tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    text.write_text(TEXT, encoding="utf-8")
    arguments = ("train", text, *TINY, "--steps", "25", "--save-every", "4", "--dropout", "0.1")
    assert run(*arguments, "--out", whole).status == 0
    step = chance.randint(5, 24)
    assert run(*arguments, "--out", killed, at_step=step, send=signal.SIGKILL).status == -signal.SIGKILL
    assert not killed.exists()
    resumed = run(*arguments, "--out", killed, "--resume")
    assert resumed.status == 0 and f"going on from step {(step - 1) // 4 * 4}" in resumed.output
    assert killed.read_bytes() == whole.read_bytes()


@posix
def test_a_run_killed_again_and_again_at_random_moments_ends_at_the_same_bytes(tmp_path):
    chance = random.Random(2)
    text, whole, killed = tmp_path / "text.txt", tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    text.write_text(TEXT, encoding="utf-8")
    arguments = ("train", text, *TINY, "--steps", "60", "--save-every", "1", "--evaluations", "1")
    assert run(*arguments, "--out", whole).status == 0
    run_file, kills = tmp_path / "killed.safetensors.run", 0
    for _ in range(6):
        process = start(*arguments, "--out", killed, *(["--resume"] if run_file.exists() else []), output=tmp_path / "output")
        while not run_file.exists() and process.is_alive():
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills
    assert run(*arguments, "--out", killed, *(["--resume"] if run_file.exists() else [])).status == 0
    assert killed.read_bytes() == whole.read_bytes()


# Damaged --------------------------------------------------------------------------------------------------------------

def test_a_file_cut_at_every_kilobyte_is_refused(path, tmp_path):
    content, cut = path.read_bytes(), tmp_path / "cut.safetensors"
    lengths = [*range(0, len(content), 1024), len(content) - 1, 1, 7, 8, 9]
    assert len(lengths) > 30
    for length in lengths:
        cut.write_bytes(content[:length])
        refused(cut, "empty" if length == 0 else "damaged")
    cut.write_bytes(content + b"\0")
    refused(cut, "damaged")


@pytest.mark.parametrize("part", ["header", "tensors"])
def test_any_of_a_thousand_random_bytes_that_changes_is_noticed(part, path, tmp_path):
    content, chance = path.read_bytes(), random.Random(part)
    boundary = 8 + int.from_bytes(content[:8], "little")
    places = range(boundary) if part == "header" else range(boundary, len(content))
    for _ in range(500):
        damaged = bytearray(content)
        place = chance.choice(places)
        damaged[place] ^= chance.randint(1, 255)
        path.write_bytes(damaged)
        refused(path, "damaged|not a minigpt model|update minigpt")
    path.write_bytes(content)
    assert GPT.load(path)


def test_each_bit_of_a_checksum_and_its_name_counts(path):
    content = path.read_bytes()
    start = content.index(b'"sha256":"')
    for place in range(start, start + 75):
        damaged = bytearray(content)
        damaged[place] ^= 0x20                                           # as between "a" and "A"
        path.write_bytes(damaged)
        refused(path)


# Not a model of ours --------------------------------------------------------------------------------------------------

def test_an_empty_file_a_folder_and_nothing(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    refused(tmp_path / "empty", "is empty")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        GPT.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        GPT.load(tmp_path / "nothing")


def test_another_programs_safetensors(path):
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    refused(path, "a safetensors file that says None of its format")
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, {"format": "pt"})
    refused(path, "a safetensors file that says 'pt' of its format")


class Explosive:
    """Unpickling it makes a file: the proof that something was executed."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return open, (str(self.proof), "w")


@pytest.mark.parametrize("write", [lambda thing, path: path.write_bytes(pickle.dumps(thing)),
                                   lambda thing, path: torch.save(thing, path)], ids=["pickle", "torch.save"])
def test_a_pickle_is_refused_and_never_executed(write, path, tmp_path):
    proof = tmp_path / "proof"
    write(Explosive(proof), path)
    refused(path, "damaged or not a safetensors file")
    assert not proof.exists()
    with open(path, "rb") as file:
        file.seek(0)
        if write.__code__.co_names[0] != "torch":
            pickle.load(file).close()                                    # it would have gone off
            assert proof.exists()


@pytest.mark.parametrize("content", [
    b"\xff" * 8, b"\xff" * 100, (10 ** 15).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]",
    (4).to_bytes(8, "little") + b"null", (50_000).to_bytes(8, "little") + b"[" * 50_000, b"%PDF-1.7 " * 9,
    (25).to_bytes(8, "little") + b'{"__metadata__": [1, 2]} ', (23).to_bytes(8, "little") + b'{"__metadata__": null}  ',
    "Größe".encode("utf-16"), bytes(4096)])
def test_anything_at_all(content, path):
    path.write_bytes(content)
    refused(path, "not a minigpt model file")


# A valid checksum, and yet no model -----------------------------------------------------------------------------------

def saved_with(path, change_tensors=None, **strings):
    """The model's file with other tensors or strings in it, and a checksum that fits."""
    tensors, metadata = files.load_tensors(path, KIND)
    if change_tensors:
        change_tensors(tensors)
    files.save_tensors(path, KIND, tensors, metadata | strings)


def test_a_newer_format(path, monkeypatch):
    monkeypatch.setattr(files, "FORMAT_VERSION", "2")
    content = path.read_bytes()
    path.write_bytes(content)
    refused(path, "has format version '1', and this minigpt reads version '2'")      # and the other way round:
    a_gpt().save(path)
    monkeypatch.undo()
    refused(path, "has format version '2', and this minigpt reads version '1': update minigpt")


EMBEDDING = "token_embedding.weight"


@pytest.mark.parametrize("change, reason", [
    (lambda tensors: tensors.pop("norm.weight"), "norm.weight should be .* and is absent"),
    (lambda tensors: tensors.update({"extra": torch.zeros(1)}), "extra should be absent and is"),
    (lambda tensors: tensors.update({"norm.weight": torch.zeros(17)}), r"norm.weight should be \(16,\) and is \(17,\)"),
    (lambda tensors: tensors.update({EMBEDDING: tensors[EMBEDDING].T.contiguous()}), f"{EMBEDDING} should be"),
    (lambda tensors: tensors.clear(), "should be .* and is absent")])
def test_tensors_that_do_not_fit(change, reason, path):
    saved_with(path, change)
    refused(path, reason)


CONFIG = {"vocab_size": 280, "context_length": 8, "d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 32, "dropout": 0.0}


@pytest.mark.parametrize("config", [
    "", "{", "[]", "null", "7", "[" * 100_000, json.dumps(CONFIG | {"wings": 2}), json.dumps(CONFIG | {"d_model": "16"}),
    json.dumps(CONFIG | {"d_model": -1}), json.dumps(CONFIG | {"dropout": math.nan}), json.dumps(CONFIG | {"vocab_size": 279}),
    json.dumps(CONFIG | {"n_layers": 2}), json.dumps({}),
    json.dumps(CONFIG | {"d_model": 16384, "d_ff": 65536, "context_length": 65536, "n_layers": 20})])   # 160 GB of weights
def test_a_configuration_that_does_not_fit(config, path):
    saved_with(path, config=config)
    refused(path, "does not describe a model")


@pytest.mark.parametrize("tokenizer", ["", "{}", "[]", '{"format": "minigpt tokenizer"}', "[" * 100_000])
def test_a_tokenizer_that_does_not_fit(tokenizer, path):
    saved_with(path, tokenizer=tokenizer)
    refused(path, "does not describe a model")


def test_a_run_file_is_no_model_and_a_model_is_no_run(path, tmp_path):
    path.unlink()
    files.save_tensors(path, "minigpt training run", {}, {})
    refused(path, "says 'minigpt training run' of its format")


# Disks ----------------------------------------------------------------------------------------------------------------

def unharmed(gpts, path):
    return is_one_of(gpts, path) == 0 and list(path.parent.iterdir()) == [path]


@posix
@pytest.mark.parametrize("room", [0, 1, 5000, 20_000])
def test_a_disk_with_too_little_room_left(room, gpts, tmp_path):
    """A real file system of 96 kB where we may mount one, else the largest size that a file may have."""
    disk = tmp_path / "disk"
    disk.mkdir()
    path = disk / "model.safetensors"
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", disk], capture_output=True).returncode == 0
    try:
        gpts[0].save(path)
        if mounted:
            left = os.statvfs(disk)
            (disk / "filler").write_bytes(bytes(max(0, left.f_bavail * left.f_frsize - room)))
            status = saved_in_a_child(gpts[1], path, lambda: None, errno.ENOSPC, "No space left on device")
            (disk / "filler").unlink()
        else:
            status = saved_in_a_child(gpts[1], path, lambda: limit_file_size(room), errno.EFBIG, "File too large")
        assert status == 0 and unharmed(gpts, path)
    finally:
        if mounted:
            subprocess.run(["umount", disk], check=True)


def limit_file_size(size):
    import resource  # POSIX's alone
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def saved_in_a_child(gpt, path, prepare, number, reason):
    """0 if saving, in a process that was prepared for it, raised the right error and 1 or 2 if it didn't."""
    if (child := os.fork()) == 0:
        status = 1
        try:
            prepare()
            gpt.save(path)
        except OSError as error:
            message = f"cannot write {path}: {reason}; the file that was there is unchanged"
            status = 0 if error.errno == number and message in str(error) else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@posix
def test_a_file_that_may_grow_no_further(gpts, path):
    assert saved_in_a_child(gpts[1], path, lambda: limit_file_size(20_000), errno.EFBIG, "File too large") == 0
    assert unharmed(gpts, path)


@posix
def test_a_read_only_folder(gpts):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        gpts[0].save(path)
        os.chmod(folder, 0o555)
        be_nobody = (lambda: os.setuid(65534)) if os.geteuid() == 0 else (lambda: None)      # root may write anywhere
        assert saved_in_a_child(gpts[1], path, be_nobody, errno.EACCES, "Permission denied") == 0
        assert unharmed(gpts, path)


def test_a_folder_that_cannot_be_written_as_any_system_says_it(gpts, path, monkeypatch):
    def fail(*arguments, **keywords):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files.tempfile, "mkstemp", fail)
    with pytest.raises(PermissionError, match="cannot write .*: Permission denied; the file that was there is unchanged"):
        gpts[1].save(path)
    assert unharmed(gpts, path)


@posix
def test_a_run_whose_disk_fills_says_so_and_ends_with_its_model(tmp_path):
    text, out, whole = tmp_path / "text.txt", tmp_path / "disk" / "m.safetensors", tmp_path / "whole.safetensors"
    text.write_text(TEXT, encoding="utf-8")
    out.parent.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", out.parent], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        arguments = ("train", text, *TINY, "--steps", "20", "--save-every", "5")
        assert run(*arguments, "--out", whole).status == 0
        assert run(*arguments, "--out", out, at_step=7, send=signal.SIGKILL).status == -signal.SIGKILL
        left = os.statvfs(out.parent)
        (out.parent / "filler").write_bytes(bytes(left.f_bavail * left.f_frsize))
        full = run(*arguments, "--out", out, "--resume")
        assert full.status == 0 and "the run could not be written down at step 10, and training goes on" in full.output
        assert out.read_bytes() == whole.read_bytes()                   # the run has made way for the model
    finally:
        subprocess.run(["umount", out.parent], check=True)
