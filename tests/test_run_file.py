"""Nothing is written over that the run did not write itself, and what ends badly is refused before the work."""

import errno
import os
import signal
import sys

import pytest
from commands import TEXT, TINY, run
from filelock import FileLock

from minigpt import GPT, files
from minigpt.__main__ import main
from minigpt.gpt import KIND as MODEL

posix = pytest.mark.skipif(os.name != "posix", reason="links, devices and signals of POSIX")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def no_work(monkeypatch):
    """The test fails where the work begins: what is refused is refused before."""
    def work(*arguments, **named):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(GPT, "from_files", work)


def refused(capsys, *words):
    assert main([str(word) for word in ("train", *words, *TINY)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("minigpt: ") and said.count("\n") == 1
    return said


def train(*words):
    return main([str(word) for word in ("train", *words, *TINY, "--steps", "4")])


# What is there ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("link", [False, pytest.param(True, marks=posix)])
@pytest.mark.parametrize("what", ["text", "run"])
def test_a_text_is_never_replaced_by_what_is_made_of_it(text, tmp_path, capsys, no_work, link, what):
    if what == "run":
        text = text.rename(tmp_path / "corpus.run")
    out = text if what == "text" else tmp_path / "corpus"
    if link and what == "text":
        out = tmp_path / "link"
        out.symlink_to(text)
    said = refused(capsys, text, "--out", out)
    assert f"would replace the text {text} by the {'model' if what == 'text' else 'run'}" in said
    assert text.read_text(encoding="utf-8") == TEXT


def test_the_second_of_two_texts_counts_too(text, tmp_path, capsys, no_work):
    other = tmp_path / "other.txt"
    other.write_text(TEXT)
    assert "would replace the text" in refused(capsys, other, text, "--out", text)


@pytest.mark.parametrize("option", [[], ["--restart"]])
def test_a_file_that_is_no_run_is_neither_replaced_nor_removed(text, tmp_path, capsys, no_work, option):
    foreign = tmp_path / "y.safetensors.run"
    foreign.write_bytes(b"my notes")
    said = refused(capsys, text, "--out", tmp_path / "y.safetensors", *option)
    assert f"{foreign} is where the run would be written down, and is not one" in said
    assert foreign.read_bytes() == b"my notes"


def test_a_model_that_is_called_as_a_run_is_no_run(text, tmp_path, capsys, no_work):
    model = tmp_path / "y.run"
    GPT.from_text(TEXT, vocab_size=256, method="bytes", d_model=4, n_heads=2, n_layers=1, d_ff=4).save(model)
    refused(capsys, text, "--out", tmp_path / "y", "--restart")
    assert GPT.load(model)


@posix
def test_a_device_stays_a_device(text, capsys, no_work):
    assert "cannot write /dev/null: it is not an ordinary file" in refused(capsys, text, "--out", "/dev/null")
    assert os.path.exists("/dev/null") and not os.path.isfile("/dev/null")


def test_without_a_name_the_model_gets_one_that_is_not_taken(text, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(text) == 0
    before = (tmp_path / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert "model.safetensors is there already: name another file with --out" in refused(capsys, text)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert train(text, "--out", "model.safetensors") == 0               # told so, it is replaced


def test_an_unfinished_run_is_not_thrown_away_without_a_word(text, tmp_path, capsys):
    out = tmp_path / "m.safetensors"
    arguments = ("train", text, *TINY, "--steps", "12", "--out", out)
    assert run(*arguments, at_step=7, send=signal.SIGINT).status == 130
    before = (tmp_path / "m.safetensors.run").read_bytes()
    said = refused(capsys, text, "--out", out)
    assert "unfinished run at step 7" in said and "--resume" in said and "--restart" in said
    assert (tmp_path / "m.safetensors.run").read_bytes() == before
    assert run(*arguments, "--restart").status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.safetensors", "text.txt"]


@posix
def test_a_link_is_written_through(text, tmp_path):
    (tmp_path / "models").mkdir()
    link, target = tmp_path / "latest.safetensors", tmp_path / "models" / "one.safetensors"
    target.write_bytes(b"")
    link.symlink_to(target)
    assert train(text, "--out", link) == 0
    assert link.is_symlink() and files.kind_of(target) == MODEL


def test_of_two_trainings_for_one_model_the_second_is_told(text, tmp_path, capsys, no_work):
    with FileLock(tmp_path / ".m.safetensors.run.lock"):
        said = refused(capsys, text, "--out", tmp_path / "m.safetensors")
    assert "another training is writing m.safetensors" in said


# What cannot be written ---------------------------------------------------------------------------------------------

@posix
@pytest.mark.parametrize("name", ["/proc/m.safetensors", "m" * 250])
def test_what_cannot_be_written_is_found_out_before_the_first_step(text, tmp_path, capsys, monkeypatch, no_work, name):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, text, "--out", name)
    assert "cannot write" in said and name in said


def full(kind, once=False):
    """`save_tensors` on a disk that is too full for one kind of file."""
    save, refusals = files.save_tensors, []

    def saved(path, its_kind, *arguments):
        if its_kind == kind and not (once and refusals):
            refusals.append(1)
            raise OSError(errno.ENOSPC, f"cannot write {path}: No space left on device")
        save(path, its_kind, *arguments)

    return saved


def test_where_there_is_no_room_for_the_run_it_goes_on_to_a_model(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(files, "save_tensors", full("minigpt training run"))
    out = tmp_path / "m.safetensors"
    assert train(text, "--out", out, "--save-every", "2") == 0
    said = capsys.readouterr().err
    assert "the run could not be written down at step 2, and training goes on:" in said and "No space left" in said
    assert GPT.load(out) and not (tmp_path / "m.safetensors.run").exists()


def test_where_there_is_room_for_one_the_run_makes_way_for_the_model(text, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "save_tensors", full(MODEL, once=True))
    out = tmp_path / "m.safetensors"
    assert train(text, "--out", out, "--save-every", "2") == 0
    assert GPT.load(out)


def test_where_the_model_fits_nowhere_the_run_is_kept(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(files, "save_tensors", full(MODEL))
    assert train(text, "--out", tmp_path / "m.safetensors", "--save-every", "2") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert files.kind_of(tmp_path / "m.safetensors.run") == "minigpt training run"


# A second Ctrl-C ----------------------------------------------------------------------------------------------------

@posix
def test_a_second_interrupt_stops_at_once_and_keeps_the_model(text, tmp_path, capsys, monkeypatch):
    from minigpt import training

    def evaluation(model, text, ranks):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it went on")

    monkeypatch.setattr(training, "evaluate", evaluation)
    out = tmp_path / "m.safetensors"
    assert train(text, "--out", out) == 130
    said = capsys.readouterr()
    assert "Stopping after this step. Once more stops at once." in said.err
    assert f"saved {out}" in said.out and GPT.load(out)


# Standard input and output ------------------------------------------------------------------------------------------

def piped(tmp_path, text, *words):
    """What a command prints that reads `text` from a pipe."""
    import subprocess
    command = [sys.executable, "-m", "minigpt", *map(str, words)]
    return subprocess.run(command, input=text.encode(), capture_output=True, cwd=tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    GPT.from_text(TEXT, vocab_size=300, d_model=8, n_heads=2, n_layers=1, d_ff=8, context_length=8).save(path)
    return path


def test_a_prompt_can_be_piped_in(model, tmp_path):
    result = piped(tmp_path, "It is a\n", "sample", model, "--max-new-tokens", 3, "--seed", 1)
    assert result.returncode == 0 and result.stdout.decode().startswith("It is a")
    assert not result.stdout.decode().startswith("It is a\n")


def test_a_text_can_be_piped_in(model, tmp_path):
    assert piped(tmp_path, TEXT, "evaluate", model, "-").stdout.endswith(b"nats per byte\n")
    result = piped(tmp_path, TEXT, "train", "-", *TINY, "--steps", 2, "--out", "piped.safetensors")
    assert result.returncode == 0 and GPT.load(tmp_path / "piped.safetensors")


@posix
def test_whoever_has_read_enough_may_go(model, tmp_path):
    import subprocess
    line = f'"{sys.executable}" -m minigpt sample "{model}" --prompt "It is\na" --max-new-tokens 400 | head -1'
    result = subprocess.run(line, shell=True, capture_output=True, cwd=tmp_path)
    assert result.stdout == b"It is\n" and result.stderr == b""


def test_patterns_are_spelled_out_where_the_shell_does_not(text, tmp_path, monkeypatch):
    (tmp_path / "more.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(GPT, "from_files", lambda sources, **named: seen.append(sources) or (_ for _ in ()).throw(
        ValueError("enough")))
    assert main(["train", "*.txt", "--out", "m.safetensors"]) == 2
    assert [path.name for path in seen[0]] == ["more.txt", "text.txt"]
    assert main(["train", "no*.txt", "--out", "m.safetensors"]) == 2 and len(seen) == 1


def test_a_tilde_is_ones_home(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(model.parent))
    monkeypatch.setenv("USERPROFILE", str(model.parent))
    assert main(["sample", "~/m.safetensors", "--max-new-tokens", "1", "--prompt", "It"]) == 0
    assert GPT.load("~/m.safetensors")


def test_it_tells_its_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    import minigpt
    assert end.value.code == 0 and capsys.readouterr().out == f"minigpt {minigpt.__version__}\n"


def test_seven_characters_have_no_last_tenth(model, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("a short")
    assert main(["evaluate", str(model), str(tmp_path / "short.txt"), "--held-out"]) == 2
    assert "is too short: the last 10 % of it is not one character" in capsys.readouterr().err
