"""`minigpt train` is not ended by what happens around it, and says before the work what would end badly after it."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from commands import TEXT, TINY, run
from filelock import FileLock

from minigpt import GPT, files, gpt, train_command, training
from minigpt.__main__ import main

posix = pytest.mark.skipif(os.name != "posix", reason="signals, links and terminals of POSIX")
hangup = getattr(signal, "SIGHUP", signal.SIGTERM)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def train(*words):
    return main([str(word) for word in ("train", *words, *TINY, "--steps", "4")])


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Signals ----------------------------------------------------------------------------------------------------------------

@posix
def test_a_terminal_that_is_closed_stops_it_and_the_model_is_kept(text, tmp_path):
    out = tmp_path / "m.safetensors"
    stopped = run("train", text, "--out", out, *TINY, "--steps", "12", at_step=5, send=hangup)
    assert stopped.status == 130 and f"stopped at step 5; saved {out}" in stopped.output
    assert GPT.load(out) and names(tmp_path) == ["m.safetensors", "m.safetensors.ids", "m.safetensors.run", "text.txt"]


@posix
def test_whoever_switched_the_hangup_off_trains_on(text, tmp_path):
    """As nohup does."""
    words = f'-m minigpt train "{text}" --out "{tmp_path}/m" {" ".join(TINY)} --steps 300 --save-every 10'
    process = subprocess.Popen(["sh", "-c", f"trap '' HUP; exec \"{sys.executable}\" {words}"], stderr=subprocess.DEVNULL)
    wait_for(tmp_path / "m.run")
    process.send_signal(hangup)
    assert process.wait(120) == 0 and GPT.load(tmp_path / "m").about.steps == 300


@posix
@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (hangup, 129), (signal.SIGINT, 130)])
def test_a_signal_before_the_first_step_leaves_nothing_lying_about(text, tmp_path, monkeypatch, number, status):
    monkeypatch.setattr(gpt, "_tokenizer_for", lambda *arguments: signal.raise_signal(number))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("sys.stdin", open(text, encoding="utf-8"))
    try:
        ended = train("-", "--out", tmp_path / "m.safetensors")
    except SystemExit as end:
        ended = end.code
    assert ended == status
    assert names(tmp_path) == ["text.txt"]


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, hangup])
@pytest.mark.parametrize("stopped", [True, False])
def test_what_is_being_saved_is_saved_whole(text, tmp_path, capsys, monkeypatch, number, stopped):
    save = files.save_tensors

    def interrupted(path, kind, *arguments):
        for _ in range(3):
            signal.raise_signal(number)
        save(path, kind, *arguments)

    monkeypatch.setattr(files, "save_tensors", interrupted)
    if stopped:
        monkeypatch.setattr(train_command.StopRequest, "of_any", lambda self: True)
    out = tmp_path / "m.safetensors"
    assert train(text, "--out", out) == (130 if stopped else 0)
    assert GPT.load(out) and "Saving. It ends when that is done." in capsys.readouterr().err
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)


# Readers that go away ----------------------------------------------------------------------------------------------------

def started(text, out, *words):
    command = [sys.executable, "-m", "minigpt", "train", str(text), "--out", str(out), *TINY, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@posix
def test_it_outlives_who_reads_what_it_says(text, tmp_path):
    """`minigpt train … 2>&1 | head -1`."""
    process = started(text, tmp_path / "m.safetensors", "--steps", "300")
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(120) == 0 and GPT.load(tmp_path / "m.safetensors").about.steps == 300


@posix
def test_ctrl_c_in_a_pipe_keeps_the_model(text, tmp_path):
    """`minigpt train … 2>&1 | tee log`: Ctrl-C ends `tee` first."""
    process = started(text, tmp_path / "m.safetensors", "--steps", "1000000", "--save-every", "10")
    process.stdout.read(1)
    wait_for(tmp_path / "m.safetensors.run")
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130 and GPT.load(tmp_path / "m.safetensors").about.steps >= 10


@posix
def test_without_any_output_it_trains_too(text, tmp_path):
    line = f'"{sys.executable}" -m minigpt train "{text}" --out "{tmp_path}/m" {" ".join(TINY)} --steps 2 >&- 2>&-'
    assert subprocess.run(line, shell=True).returncode == 0 and GPT.load(tmp_path / "m")


# Found out before the work -----------------------------------------------------------------------------------------------

@pytest.fixture
def no_work(monkeypatch):
    monkeypatch.setattr(GPT, "from_files", lambda *_, **__: pytest.fail("the work has begun"))


def refused(capsys, *words):
    assert main([str(word) for word in ("train", *words, *TINY)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("minigpt: ") and said.count("\n") == 1
    return said


@pytest.mark.parametrize("content", [b"my essay, the only copy", b"\x89PNG\r\n", b"{}", "a run"])
def test_a_file_that_is_no_model_is_not_replaced(text, tmp_path, capsys, no_work, content):
    out = tmp_path / "out"
    if content == "a run":
        files.save_tensors(out, "minigpt training run", {}, {})
    else:
        out.write_bytes(content)
    before = out.read_bytes()
    assert f"{out} is there and is no minigpt model file, and stays: choose another name" in refused(capsys, text, "--out", out)
    assert out.read_bytes() == before


def test_there_is_nothing_to_resume(text, tmp_path, capsys, no_work):
    assert "--resume: there is no run to go on with at" in refused(capsys, text, "--out", tmp_path / "m", "--resume")


def test_a_run_of_other_settings_is_not_resumed(text, tmp_path, capsys, monkeypatch):
    out = tmp_path / "m.safetensors"
    assert run("train", text, "--out", out, *TINY, "--steps", "12", at_step=5, send=signal.SIGINT).status == 130
    monkeypatch.setattr(GPT, "from_files", lambda *_, **__: pytest.fail("the work has begun"))
    said = refused(capsys, text, "--out", out, "--resume", "--steps", "12", "--seed", "7")
    assert "--resume: the run was begun with other settings: seed was 0 and is 7" in said


@posix
def test_two_names_of_one_file_are_one_model(text, tmp_path, capsys, no_work):
    (tmp_path / "link").symlink_to("m.safetensors")
    with FileLock(tmp_path / ".m.safetensors.run.lock"):
        assert "another training is writing m.safetensors" in refused(capsys, text, "--out", tmp_path / "link")


@posix
def test_a_link_that_leads_round_in_a_circle_is_left(text, tmp_path, capsys, no_work):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "Too many levels of symbolic links" in refused(capsys, text, "--out", tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("name", ["new/", "./"])
def test_a_folder_is_no_file(text, tmp_path, capsys, monkeypatch, no_work, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["train", str(text), "--out", name])
    assert "must be the path of a file" in capsys.readouterr().err and names(tmp_path) == ["text.txt"]


def test_what_sixteen_bits_cannot_hold_is_saved_in_thirty_two(text, tmp_path, capsys, monkeypatch):
    save = GPT.save

    def large(self, path, half=False):
        self.model.norm.weight.data[0] = 1e5
        save(self, path, half)

    monkeypatch.setattr(GPT, "save", large)
    assert train(text, "--out", tmp_path / "m", "--half") == 0
    assert "--half: norm.weight has infinite or NaN numbers in 16 bits" in capsys.readouterr().err
    assert GPT.load(tmp_path / "m").model.norm.weight[0].item() == 1e5


def test_an_error_is_told_without_its_number(text, tmp_path, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "cannot write m: No space left on device")

    monkeypatch.setattr(files, "save_tensors", full)
    assert train(text, "--out", tmp_path / "m") == 2
    assert capsys.readouterr().err.endswith("minigpt: cannot write m: No space left on device\n")


# What is there already ---------------------------------------------------------------------------------------------------

@posix
def test_a_training_that_ends_in_its_first_step_leaves_the_model_that_was_there(text, tmp_path, monkeypatch, capsys):
    out = tmp_path / "m.safetensors"
    assert train(text, "--out", out) == 0
    before = out.read_bytes()

    def twice(*arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training, "train_step", twice)
    assert train(text, "--out", out, "--seed", "1") == 130
    assert out.read_bytes() == before and "nothing is saved" in capsys.readouterr().out
    assert names(tmp_path) == ["m.safetensors", "text.txt"]


def test_a_file_in_the_place_of_the_lock_stays(text, tmp_path, capsys):
    notes = tmp_path / ".m.run.lock"
    notes.write_text("my notes", encoding="utf-8")
    assert train(text, "--out", tmp_path / "m") == 2
    assert notes.read_text(encoding="utf-8") == "my notes" and str(notes) in capsys.readouterr().err
    notes.write_text(TEXT, encoding="utf-8")
    assert train(notes, "--out", tmp_path / "m") == 2
    assert notes.read_text(encoding="utf-8") == TEXT and "would replace the text" in capsys.readouterr().err


def test_a_text_that_is_typed_twice_is_named(text, tmp_path, capsys):
    assert train(tmp_path / "*.txt", text, "--out", tmp_path / "m") == 2
    assert f"the text {text} is given twice" in capsys.readouterr().err


@posix
def test_the_same_command_goes_on_also_without_out(text, tmp_path):
    words = ("train", text, *TINY, "--steps", "12")
    stopped = run(*words, at_step=5, send=signal.SIGINT, cwd=tmp_path)
    assert stopped.status == 130 and "the same command with --resume goes on" in stopped.output
    gone_on = run(*words, "--resume", cwd=tmp_path)
    assert gone_on.status == 0 and "going on from step 5" in gone_on.output
    assert run(*words, cwd=tmp_path).status == 2                    # the model that is there is not replaced unasked
    assert run(*words, "--resume", cwd=tmp_path).status == 2


@pytest.mark.parametrize("words", [("--steps", "0"), ("--steps", "-5"), ("--steps", "1" + 311 * "0"), ("--seconds", "nan"),
                                   ("--seconds", "0"), ("--seconds", "1e308"), ("--evaluations", "0")])
def test_a_budget_that_cannot_be_is_refused_before_the_text_is_read(words, text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(GPT, "from_files", lambda *arguments, **more: pytest.fail("the text was read"))
    assert main(["train", str(text), "--out", str(tmp_path / "m"), *TINY, *words]) == 2
    assert capsys.readouterr().err.startswith(f"minigpt: {words[0].removeprefix('--')} must be ")
