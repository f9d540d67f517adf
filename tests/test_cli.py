"""The command line: from a text to a model that talks, stopped and gone on with, and what it says to a slip."""

import contextlib
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
import torch
from commands import TEXT, TINY, run, start

from minigpt import GPT, corpus, files
from minigpt.__main__ import main
from minigpt.run_file import KIND as RUN_KIND

STEPS = ("--steps", "12", "--save-every", "5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands") / "a folder, Größe"
    folder.mkdir()
    (folder / "text é.txt").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def text(folder):
    return folder / "text é.txt"


def test_what_it_says_may_go_anywhere_that_takes_text():
    said = io.StringIO()                                    # no console, so with no encoding to look after
    with contextlib.redirect_stderr(said):
        assert main(["evaluate", "nowhere.safetensors", "austen"]) == 2
    assert said.getvalue() == "minigpt: there is no file nowhere.safetensors\n"


@pytest.fixture(scope="module")
def trained(folder, text):
    """A model that was trained without any trouble, and what the command printed."""
    out = folder / "model.safetensors"
    result = run("train", text, "--out", out, *TINY, *STEPS)
    assert result.status == 0, result.output
    return out, result.output


def train(text, out, *arguments, **keywords):
    return run("train", text, "--out", out, *TINY, *STEPS, *arguments, **keywords)


def everything_in(folder):
    return sorted(path.name for path in folder.iterdir())


# From a text to a model that talks ----------------------------------------------------------------------------------

def test_training_says_what_it_did_and_leaves_the_model_alone(trained):
    out, output = trained
    assert re.search(r"12 steps in \d+ s, held-out loss \d\.\d{3} nats per byte; saved .*model.safetensors", output)
    assert "12/12" in output and "loss=" in output and "validation=" in output           # the bar
    assert everything_in(out.parent) == ["model.safetensors", "text é.txt"]              # no file of a run that is done


def test_the_model_is_the_one_that_the_library_trains(trained, text):
    gpt = GPT.from_files([text], vocab_size=280, d_model=16, n_heads=2, n_layers=1, d_ff=32, context_length=8)
    history = gpt.train(steps=12, batch_size=4, progress=False)
    loaded = GPT.load(trained[0])
    assert loaded.tokenizer == gpt.tokenizer
    assert all(torch.equal(a, b) for a, b in zip(loaded.model.parameters(), gpt.model.parameters(), strict=True))
    assert f"held-out loss {history.val_loss[-1]:.3f}" in trained[1]


def test_sampling_prints_the_prompt_and_what_follows(trained):
    result = run("sample", trained[0], "--prompt", "It is", "--max-new-tokens", "20", "--seed", "1", "--temperature", "0.7",
                 "--top-k", "50", "--top-p", "0.9")
    expected = GPT.load(trained[0]).generate("It is", 20, 0.7, 50, 0.9, seed=1)
    assert result.status == 0
    assert result.output == "It is" + expected.encode("cp1252", "replace").decode("utf-8", "replace") + "\n"


def test_evaluation_prints_the_loss(trained, text):
    gpt = GPT.load(trained[0])
    whole = corpus.read_text(text)
    assert run("evaluate", trained[0], text).output == f"{gpt.evaluate(whole):.3f} nats per byte\n"
    tail = corpus.split([whole])[1][0]
    assert run("evaluate", trained[0], text, "--held-out").output == f"{gpt.evaluate(tail):.3f} nats per byte\n"


def test_several_texts_and_every_option(folder, text, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("To be, or not to be. " * 40)
    result = run("train", text, other, "--out", tmp_path / "m.safetensors", "--seconds", "0.3", *TINY, "--method", "substring",
                 "--dropout", "0.1", "--learning-rate", "0.002", "--label-smoothing", "0.1", "--evaluations", "1",
                 "--seed", "3", "--preset", "reference", "--device", "auto" if not torch.cuda.is_available() else "cpu",
                 "--half")
    assert result.status == 0, result.output
    gpt = GPT.load(tmp_path / "m.safetensors")
    assert gpt.tokenizer.method == "substring" and gpt.model.config.dropout == 0.1
    saved, _ = files.load_tensors(tmp_path / "m.safetensors", "minigpt model")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float16}


def test_the_installed_command_and_the_module_are_the_same_program(trained):
    script = Path(sysconfig.get_path("scripts")) / ("minigpt.exe" if os.name == "nt" else "minigpt")
    module = [sys.executable, "-m", "minigpt"]
    commands = [module, [script]] if script.exists() else [module]       # not there where the package is only on the path
    outputs = {subprocess.run([*command, "sample", trained[0], "--prompt", "é🙂", "--seed", "1", "--max-new-tokens", "5"],
                              capture_output=True, check=True, env=os.environ | {"PYTHONIOENCODING": "utf-8"}).stdout
               for command in commands}
    assert len(outputs) == 1 and outputs.pop().decode().startswith("é🙂")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_console_that_cannot_show_a_character_shows_another(encoding, trained):
    """Through `main`, as the installed command calls it, and not through `python -m`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    environment |= {"PYTHONIOENCODING": encoding, "LANG": "C", "PYTHONUTF8": "0"}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    result = subprocess.run([sys.executable, "-c", "import sys; from minigpt.__main__ import main; sys.exit(main())",
                             "sample", trained[0], "--prompt", "é🙂漢", "--seed", "1", "--max-new-tokens", "5"],
                            capture_output=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith({"cp1252": "é??".encode("cp1252"), "ascii": b"???"}[encoding])


# Stopped, and gone on with ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("send", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 5, 7, 12])
def test_a_stop_keeps_the_model_and_resuming_ends_at_the_same_bytes(send, step, trained, text, tmp_path):
    out = tmp_path / "model.safetensors"
    stopped = train(text, out, at_step=step, send=send)
    assert stopped.status == 130, stopped.output
    assert f"stopped at step {step}; saved {out}; the same command with --resume goes on" in stopped.output
    assert everything_in(tmp_path) == ["model.safetensors", "model.safetensors.ids", "model.safetensors.run"]
    assert math.isfinite(GPT.load(out).evaluate(TEXT)) and GPT.load(out).generate("It", 5, seed=0)
    resumed = train(text, out, "--resume")
    assert resumed.status == 0, resumed.output
    assert f"going on from step {step}" in resumed.output
    assert out.read_bytes() == trained[0].read_bytes()
    assert everything_in(tmp_path) == ["model.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="signals between processes are POSIX's")
@pytest.mark.parametrize("send", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_from_outside_stops_a_long_run(send, text, tmp_path):
    out = tmp_path / "model.safetensors"
    process = start("train", text, "--out", out, *TINY, "--steps", "100000", "--save-every", "1", output=tmp_path / "output")
    deadline = time.monotonic() + 60
    while not (tmp_path / "model.safetensors.run").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, send)
    process.join(60)
    assert process.exitcode == 130, (tmp_path / "output").read_text()
    assert GPT.load(out).generate("It", 5, seed=0)


def test_an_interrupt_before_training_ends_in_a_word(text, tmp_path):
    result = train(text, tmp_path / "model.safetensors", at_step=0, send=signal.SIGINT)
    assert result.status == 130 and result.output.endswith("minigpt: stopped\n")
    assert everything_in(tmp_path) == []


def test_resuming_a_run_that_had_just_ended_writes_its_model(trained, text, tmp_path):
    """Killed after the last step was written down and before the model was: nothing is trained again."""
    out = tmp_path / "model.safetensors"
    assert train(text, out, at_step=12, send=signal.SIGINT).status == 130
    out.unlink()
    assert train(text, out, "--resume").status == 0
    assert out.read_bytes() == trained[0].read_bytes()


def test_resuming_what_is_not_there(text, tmp_path):
    result = train(text, tmp_path / "model.safetensors", "--resume")
    assert result.status == 2
    assert "--resume: there is no run to go on with at" in result.output and "leave --resume out" in result.output


def test_resuming_with_other_settings_names_them(text, tmp_path):
    out = tmp_path / "model.safetensors"
    train(text, out, at_step=2, send=signal.SIGINT)
    before = out.read_bytes(), (tmp_path / "model.safetensors.run").read_bytes()
    result = train(text, out, "--resume", "--learning-rate", "0.5", "--seed", "9")
    assert result.status == 2
    assert "the run was begun with other settings" in result.output
    assert "learning_rate was None and is 0.5" in result.output and "seed was 0 and is 9" in result.output
    other = tmp_path / "other.txt"
    other.write_text(TEXT.replace("man", "cat"))
    assert "text was" in train(other, out, "--resume").output
    assert before == (out.read_bytes(), (tmp_path / "model.safetensors.run").read_bytes())


def test_a_damaged_run_is_refused(text, tmp_path):
    out, run_file = tmp_path / "model.safetensors", tmp_path / "model.safetensors.run"
    train(text, out, at_step=2, send=signal.SIGINT)
    content = bytearray(run_file.read_bytes())
    content[-1] ^= 1
    run_file.write_bytes(content)
    result = train(text, out, "--resume")
    assert result.status == 2 and f"{run_file} is damaged" in result.output


def test_a_run_file_tells_its_settings(text, tmp_path):
    train(text, tmp_path / "m.safetensors", at_step=2, send=signal.SIGINT)
    _, strings = files.load_tensors(tmp_path / "m.safetensors.run", RUN_KIND)
    settings = json.loads(strings["settings"])
    assert settings["steps"] == 12 and settings["d_model"] == 16 and len(settings["text"]) == 64


# Slips --------------------------------------------------------------------------------------------------------------

def refused(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    assert status == 2 and output.out == "" and "Traceback" not in output.err
    assert output.err.startswith("minigpt: ") and output.err.count("\n") == 1
    return output.err


def test_a_slip_is_answered_with_one_sentence(text, trained, tmp_path, capsys):
    out = tmp_path / "m.safetensors"
    for arguments, message in {
        ("train", text, "--out", tmp_path / "nowhere" / "m"): "--out: there is no folder",
        ("train", text, "--out", tmp_path): "--out must be the path of a file",
        ("train", text, "--out", out, "--save-every", "0"): "--save-every must be at least 1, not 0",
        ("train", text, "--out", out, "--learning-rate", "-1"): "learning_rate must be a finite number more than 0, not -1",
        ("train", text, "--out", out, "--learning-rate", "nan"): "learning_rate must be a finite number",
        ("train", text, "--out", out, "--d-model", "15", "--n-heads", "2"): "n_heads must divide d_model",
        ("train", text, "--out", out, "--vocab-size", "255"): "vocab_size must be at least 256",
        ("train", text, "--out", out, "--seed", "-1"): "seed must be at least 0",
        ("train", text, "--out", out, "--device", "abacus"): "device must be",
        ("train", text, "--out", out, *TINY, "--steps", "0"): "steps must be at least 1 and at most ",
        ("train", text, "--out", out, *TINY, "--seconds", "-3"): "seconds must be a finite number more than 0",
        ("train", tmp_path / "no.txt", "--out", out): "there is no file",
        ("train", trained[0], "--out", out): "not plain text in UTF-8",
        ("train", text, "--out", out, *TINY, "--context-length", "5000"): "take a longer text or a shorter context",
        ("sample", text): "is not a minigpt model file",
        ("sample", tmp_path / "no.safetensors"): "there is no file",
        ("sample", trained[0], "--temperature", "-1"): "temperature must be",
        ("sample", trained[0], "--max-new-tokens", "-1"): "max_new_tokens must be at least 0, not -1",
        ("sample", trained[0], "--top-p", "2"): "top_p must be",
        ("evaluate", trained[0], tmp_path): "is a folder, not a text file",
    }.items():
        assert message in refused(capsys, *arguments)
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("arguments", [(), ("fly",), ("train",), ("train", "x", "--out", "y", "--wings", "2"),
                                       ("train", "x", "--out", "y", "--steps", "many"), ("sample", "m", "--steps", "1"),
                                       ("train", "x", "--out", "y", "--steps", "1", "--seconds", "1"),
                                       ("train", "x", "--out", "y", "--preset", "fast")])
def test_an_unknown_word_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 2 and "usage: minigpt" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--help",), ("train", "--help"), ("sample", "--help"), ("evaluate", "--help")])
def test_help_helps(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 0 and "usage: minigpt" in capsys.readouterr().out


def test_a_run_that_diverges_says_so_and_keeps_the_last_good_model(text, tmp_path, capsys):
    out = tmp_path / "m.safetensors"
    gpt = GPT.from_text(TEXT, vocab_size=280, d_model=8, n_heads=2, n_layers=1, d_ff=0)
    gpt.save(out)
    before = out.read_bytes()
    status = main(["train", str(text), "--out", str(out), *TINY, "--steps", "30", "--learning-rate", "1e30"])
    error = capsys.readouterr().err
    assert status == 2 and "the model is back at step 0. What usually helps" in error
    assert out.read_bytes() == before                                    # step 0 is nothing worth keeping


def test_a_run_that_diverges_late_is_saved_at_its_last_good_step(text, tmp_path, capsys, monkeypatch):
    from minigpt import training
    cross_entropy, calls = training.F.cross_entropy, []

    def poisoned(logits, *arguments, **keywords):
        calls.append(1)
        return cross_entropy(logits, *arguments, **keywords) * (math.nan if len(calls) == 15 else 1)

    monkeypatch.setattr(training.F, "cross_entropy", poisoned)
    out = tmp_path / "m.safetensors"
    assert main(["train", str(text), "--out", str(out), *TINY, "--steps", "30", "--evaluations", "1"]) == 2
    error = capsys.readouterr().err
    assert f"saved {out}, the model of step 9" in error and "the loss became nan at step 15" in error
    monkeypatch.undo()
    assert math.isfinite(GPT.load(out).evaluate(TEXT))


def test_a_batch_in_parts_and_a_compiled_model_come_to_the_same_loss(text, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda model: torch.nn.Sequential(model))     # what it does is torch's
    out = tmp_path / "m.safetensors"
    assert main(["train", str(text), "--out", str(out), *TINY, *STEPS, "--accumulate", "3", "--compile"]) == 0
    (loss,) = re.findall(r"held-out loss (\d\.\d{3})", trained[1])
    assert f"held-out loss {loss}" in capsys.readouterr().out
    assert GPT.load(out).generate("It", 5, seed=0)


def test_a_compiler_that_is_missing_is_told_in_a_sentence(text, tmp_path, monkeypatch, capsys):
    class InductorError(RuntimeError):
        __module__ = "torch._inductor.exc"

    def fail(model):
        raise InductorError("No working C++ compiler found\nmuch more")

    monkeypatch.setattr(torch, "compile", fail)
    assert main(["train", str(text), "--out", str(tmp_path / "m.safetensors"), *TINY, *STEPS, "--compile"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == ("minigpt: --compile: torch.compile cannot translate the model here, leave it out "
                    "(No working C++ compiler found)")
    assert everything_in(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("words", [("evaluate", "{model}", "{text}"), ("sample", "{model}"),
                                   ("page", "{model}", "{folder}/a.html"), ("--version",), ("train", "--help")])
def test_output_that_cannot_be_written_ends_with_a_sentence_or_quietly(words, trained, text, tmp_path):
    """As Python does by itself: what is printed waits, and is written at the end."""
    words = [word.format(model=trained[0], text=text, folder=tmp_path) for word in words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for reader_gone in (False, True):
        output = open("/dev/full", "wb") if not reader_gone else open_pipe_without_a_reader()
        with output:
            ended = subprocess.run([sys.executable, "-m", "minigpt", *words], stdout=output, stderr=subprocess.PIPE,
                                   env=environment, text=True, timeout=120)
        assert "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr
        if reader_gone or words[-1] in ("--version", "--help"):
            assert (ended.returncode, ended.stderr) == (0, "")
        else:
            assert (ended.returncode, ended.stderr) == (2, "minigpt: No space left on device\n")


def open_pipe_without_a_reader():
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "wb")


def test_what_is_typed_is_utf_8_in_the_c_locale_too(trained):
    words = (str(trained[0]), "--seed", "1", "--max-new-tokens", "1")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    prompts = [b"--prompt=\xc3\xa9"] if os.name == "posix" else ["--prompt=é"]
    ended = subprocess.run([sys.executable, "-m", "minigpt", "sample", *words, *prompts], env=environment,
                           capture_output=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("words", [("train", "austen", "--out", "-"), ("page", "m", "-"), ("sample", "-"),
                                   ("evaluate", "-", "austen")])
def test_no_file_is_named_as_standard_input_is(words, capsys):
    with pytest.raises(SystemExit):
        main(list(words))
    assert "path must be the path of a file, not '-'" in capsys.readouterr().err
