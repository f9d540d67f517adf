"""GPT, the object that a class meets: made from a text, trained, asked, saved and loaded."""

import json
import math
import os
import signal
import sys
import threading
import types

import numpy as np
import pytest
import torch
from commands import TEXT

from minigpt import GPT, Tokenizer, corpus, files, training
from minigpt.batches import START, tokenize
from minigpt.gpt import KIND
from minigpt.llama import LlamaConfig, LlamaModel
from minigpt.training_state import TrainingDiverged

SIZE = {"vocab_size": 280, "d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 32, "context_length": 8}
OTHER = "Now is the winter of our discontent made glorious summer by this sun of York. " * 10


def a_gpt(text=TEXT, **size):
    return GPT.from_text(text, **SIZE | size)


def quietly(gpt, **arguments):
    return gpt.train(**{"steps": 3, "progress": False, "batch_size": 4} | arguments)


def same_weights(one, other):
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def gpt():
    """A trained one; a test that changes it makes its own."""
    gpt = a_gpt()
    quietly(gpt, steps=30)
    return gpt


# Made from a text -----------------------------------------------------------------------------------------------------

def test_the_arguments_arrive_in_the_model():
    gpt = a_gpt(vocab_size=290, d_model=12, n_heads=3, n_layers=1, d_ff=0, context_length=5, dropout=0.25, method="substring")
    config = gpt.model.config
    assert (config.d_model, config.n_heads, config.n_layers, config.d_ff, config.context_length) == (12, 3, 1, 0, 5)
    assert config.dropout == 0.25 and config.vocab_size == gpt.tokenizer.vocab_size == 290
    assert gpt.tokenizer.method == "substring"


@pytest.mark.parametrize("preset, method, vocab_size", [("classroom", "bpe", 3072), ("reference", "bytes", 256)])
def test_what_is_not_given_is_the_presets(preset, method, vocab_size):
    gpt = GPT.from_text("".join(f"{word:05d} " for word in range(5000)), preset=preset)
    assert gpt.tokenizer.method == method and gpt.tokenizer.vocab_size == vocab_size
    assert gpt.model.config.d_model == {"classroom": 192, "reference": 256}[preset]


@pytest.mark.parametrize("preset, budget", [("classroom", {"steps": None, "seconds": 60.0}),
                                            ("reference", {"steps": 16_384, "seconds": None})])
def test_without_a_budget_it_trains_for_as_long_as_the_preset_says(preset, budget, monkeypatch):
    taken = []
    monkeypatch.setattr("minigpt.gpt.training_loop", lambda *_, **given: taken.append(given))
    a_gpt().training_loop(preset=preset)
    a_gpt().training_loop(preset=preset, steps=7)
    assert taken == [budget | {"evaluations": 4}, {"steps": 7, "seconds": None, "evaluations": 4}]


@pytest.mark.parametrize("text, n_books", [(TEXT, 1), ([TEXT], 1), ([TEXT, OTHER], 2), ((OTHER, TEXT, OTHER), 3)])
def test_the_last_tenth_of_each_book_is_held_out(text, n_books):
    gpt = a_gpt(text)
    training_parts, tails = corpus.split([text] if isinstance(text, str) else list(text))
    assert len(tails) == n_books
    for ours, parts in ((gpt.training_text, training_parts), (gpt.validation_text, tails)):
        ids = ours.ids.tolist()
        assert gpt.tokenizer.decode(ids) == START + "".join(parts)
        assert ours.n_bytes == len("".join(parts).encode())


def test_the_tokenizer_does_not_see_what_is_held_out():
    secret = "xylophone " * 30
    assert not any(b"xylo" in token for token in a_gpt(TEXT * 3 + secret).tokenizer.vocab)
    assert any(b"xylo" in token for token in a_gpt(secret + TEXT).tokenizer.vocab)


def test_files_make_the_same_gpt_as_their_texts(tmp_path):
    paths = [tmp_path / "one é.txt", tmp_path / "two.txt"]
    paths[0].write_text(TEXT, encoding="utf-8")
    paths[1].write_bytes(b"\xef\xbb\xbf" + OTHER.replace(" of ", "\r\n").encode())
    from_files = GPT.from_files(paths, **SIZE)
    from_text = GPT.from_text([corpus.read_text(path) for path in paths], **SIZE)
    assert from_files.tokenizer == from_text.tokenizer and same_weights(from_files, from_text)
    for name in ("training_text", "validation_text"):
        ours, theirs = getattr(from_files, name), getattr(from_text, name)
        assert np.array_equal(ours.ids, theirs.ids) and ours.n_bytes == theirs.n_bytes


def test_the_seed_decides_the_first_weights_and_nobody_elses_chance_does():
    torch.manual_seed(1)
    first = a_gpt(seed=5)
    assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(1)))
    assert same_weights(first, a_gpt(seed=5)) and not same_weights(first, a_gpt(seed=6))


@pytest.mark.parametrize("text", ["x", "xy", "é", "xyz" * 2])
def test_a_text_shorter_than_the_context_makes_a_gpt_and_training_it_says_what_is_missing(text):
    gpt = a_gpt(text, method="bytes", vocab_size=256)
    with pytest.raises(ValueError, match=r"text must hold at least context_length \+ 1 = 9 tokens, not \d: take a longer"):
        quietly(gpt)
    assert isinstance(gpt.generate(text, 5, seed=0), str) and gpt.evaluate(text) > 0


@pytest.mark.parametrize("bad", [{"text": "ab"}, {"text": OTHER, "steps": 1, "seconds": 1.0}, {"text": OTHER, "accumulate": 99},
                                 {"text": OTHER, "learning_rate": -1.0}, {"text": OTHER, "preset": "none"},
                                 {"text": "half a \ud83d"}, {"text": OTHER, "evaluations": 0}])
def test_a_training_that_is_refused_leaves_all_as_it_was(bad):
    gpt = a_gpt()
    quietly(gpt, steps=2)
    before = dict(vars(gpt))
    with pytest.raises(ValueError, match="text|steps|batch_size|learning_rate|preset|evaluations"):
        gpt.train(**({"steps": 1} | bad))
    assert vars(gpt) == before and all(vars(gpt)[name] is before[name] for name in before)
    assert quietly(gpt, steps=1).steps == [1]


def test_a_model_of_other_parts_is_neither_trained_nor_saved(tmp_path):
    tokenizer = Tokenizer.train(TEXT, 256, "bytes")
    llama = GPT(tokenizer, LlamaModel(LlamaConfig(vocab_size=256, context_length=8, d_model=16, n_heads=4, n_groups=2, d_ff=8)))
    for refused in (lambda: llama.train(1, text=TEXT), lambda: llama.save(tmp_path / "m"),
                    lambda: llama.save_page(tmp_path / "m.html")):
        with pytest.raises(ValueError, match="model must be a GPTModel with a GPTConfig to be trained or kept, not a LlamaModel"):
            refused()
    assert list(tmp_path.iterdir()) == [] and isinstance(llama.generate("It", 5, seed=1), str)


def test_a_model_that_no_memory_holds_is_refused_before_the_work(monkeypatch):
    monkeypatch.setattr(Tokenizer, "train", lambda *_, **__: pytest.fail("the work has begun"))
    with pytest.raises(ValueError, match="config must be of a model of at most 2,147,483,648 numbers, not 3,221,"):
        GPT.from_text(TEXT, d_model=1 << 14, n_layers=1000, d_ff=1 << 16, n_heads=1)


def test_a_text_too_short_to_hold_something_out_is_trained_on_without_validation():
    gpt = a_gpt("abcdefghi", method="bytes", vocab_size=256)            # nine characters: a tenth is none
    history = quietly(gpt)
    assert history.steps == [1, 2, 3] and history.val_loss == []


@pytest.mark.parametrize("text, error", [("", ValueError), ([], ValueError), ([""], ValueError), ([TEXT, ""], ValueError),
                                         (None, TypeError), (7, TypeError), ([7], TypeError), (b"bytes", TypeError),
                                         ("half a \ud83d", ValueError)])
def test_what_is_no_text_is_refused(text, error):
    with pytest.raises(error, match="text|books"):
        a_gpt(text)


def test_the_text_is_held_in_a_file_and_not_in_memory():
    assert isinstance(a_gpt().training_text.ids, np.memmap) and a_gpt().training_text.ids.dtype == np.uint16


@pytest.mark.parametrize("method", ["bpe", "substring", "bytes"])
def test_every_byte_of_a_text_is_counted(method):
    tokenizer = Tokenizer.train(TEXT, 256 if method == "bytes" else 280, method)
    assert tokenize(tokenizer, ["é🙂", " abc", "\0"]).n_bytes == 11
    assert tokenize(tokenizer, []) is None and tokenize(tokenizer, [""]) is None


# Trained --------------------------------------------------------------------------------------------------------------

def test_a_history_has_an_entry_a_step_and_one_a_measurement():
    gpt = a_gpt()
    history = quietly(gpt, steps=8)
    assert history.steps == list(range(1, 9)) and len(history.train_loss) == 8
    assert history.val_steps == [2, 4, 6, 8] and len(history.val_loss) == 4
    assert history.seconds > 0 and history.tokens_per_second > 0 and history.interrupted is False
    tail = corpus.split([TEXT])[1][0]
    assert history.val_loss[-1] == pytest.approx(training.evaluate(gpt.model, gpt.validation_text))
    assert history.val_loss[-1] == pytest.approx(gpt.evaluate(tail))


def test_training_again_goes_on():
    gpt = a_gpt()
    first = quietly(gpt, steps=20)
    second = quietly(gpt, steps=20)
    assert second.val_loss[-1] < first.val_loss[-1] < first.train_loss[0]


def test_the_loop_is_the_same_as_training():
    driven, trained = a_gpt(), a_gpt()
    for report in driven.training_loop(steps=4, batch_size=4, seed=2):
        assert report.loss > 0
    quietly(trained, steps=4, seed=2)
    assert same_weights(driven, trained)


def test_the_arguments_of_training_matter():
    gpts = []
    for arguments in ({}, {"seed": 1}, {"learning_rate": 1e-4}, {"label_smoothing": 0.2}, {"preset": "reference"},
                      {"text": OTHER}, {"batch_size": 3}):
        gpts.append(a_gpt())
        quietly(gpts[-1], **arguments)
    for i, one in enumerate(gpts):
        assert not any(same_weights(one, other) for other in gpts[:i])


def test_another_text_replaces_the_one_it_was_made_from():
    gpt = a_gpt()
    quietly(gpt, text=[OTHER, TEXT], steps=1)
    assert gpt.tokenizer.decode(gpt.training_text.ids.tolist()).startswith(START + OTHER[:50])


def test_a_budget_of_seconds_ends():
    history = quietly(a_gpt(), steps=None, seconds=0.3)
    assert 1 <= len(history.steps) and history.seconds < 3


def test_the_bar_shows_the_losses(capsys):
    a_gpt().train(steps=4, batch_size=2)
    shown = capsys.readouterr().err
    assert "4/4" in shown and "loss=" in shown and "validation=" in shown


def test_an_interrupt_keeps_the_model_so_far_and_training_can_go_on(monkeypatch):
    step, steps_done = training.train_step, []

    def interrupted_step(*arguments):
        steps_done.append(1)
        if len(steps_done) == 3:
            signal.raise_signal(signal.SIGINT)                            # in the middle of a step, which is finished
        return step(*arguments)

    gpt, plain = a_gpt(), a_gpt()
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(training, "train_step", interrupted_step)
    history = quietly(gpt, steps=10)
    monkeypatch.undo()
    assert history.interrupted and history.steps == [1, 2, 3]
    assert signal.getsignal(signal.SIGINT) is handler
    for report in plain.training_loop(steps=10, batch_size=4):
        if report.step == 3:
            break
    assert same_weights(gpt, plain)
    assert quietly(gpt, steps=2).interrupted is False


def test_training_in_a_thread_works_although_no_signal_arrives_there():
    histories = []
    thread = threading.Thread(target=lambda: histories.append(quietly(a_gpt())))
    thread.start()
    thread.join()
    assert histories[0].steps == [1, 2, 3]


def test_a_run_that_diverges_leaves_a_model_that_talks():
    gpt = a_gpt()
    with pytest.raises(TrainingDiverged, match="What usually helps: a lower learning rate"):
        quietly(gpt, steps=20, learning_rate=1e30)
    assert math.isfinite(gpt.evaluate(TEXT)) and gpt.generate("It", 5, seed=0)


def test_an_interrupt_of_a_run_that_has_gone_wrong_says_so(monkeypatch):
    cross_entropy, calls = training.F.cross_entropy, []

    def poisoned(*arguments, **keywords):
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return cross_entropy(*arguments, **keywords) * (math.nan if len(calls) == 3 else 1)

    gpt = a_gpt()
    monkeypatch.setattr(training.F, "cross_entropy", poisoned)
    with pytest.raises(TrainingDiverged, match="the loss became nan at step 3; the model is back at step 0"):
        quietly(gpt, steps=30)
    monkeypatch.undo()
    assert math.isfinite(gpt.evaluate(TEXT))


def test_the_same_text_given_again_is_gone_on_with_also_after_loading(gpt, tmp_path):
    gpt.save(tmp_path / "a")
    loaded, read = GPT.load(tmp_path / "a"), (gpt.about.windows_read or 0) // 4
    for n in (1, 2, 3):
        quietly(loaded, text=TEXT, steps=2)
        assert loaded.run.batches_before == read + 2 * (n - 1) and loaded.about.steps == gpt.about.steps + 2 * n
    assert loaded.about.n_bytes == gpt.about.n_bytes
    quietly(loaded, text=OTHER, steps=1)
    assert loaded.run.batches_before == 0 and loaded.about.text is None
    assert loaded.about.steps == gpt.about.steps + 7 and loaded.about.n_bytes == gpt.about.n_bytes + loaded.training_text.n_bytes


# Asked ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", ["bpe", "substring", "bytes"])
def test_a_generated_text_is_its_pieces_in_a_row(method):
    gpt = a_gpt(method=method, vocab_size=256 if method == "bytes" else 280)
    pieces = list(gpt.stream("It is é", 60, temperature=1.5, seed=3))
    assert gpt.generate("It is é", 60, temperature=1.5, seed=3) == "".join(pieces)
    assert len(pieces) > 5 and all(pieces)


def test_no_new_tokens_is_no_text(gpt):
    assert gpt.generate("It is", 0) == "" and list(gpt.stream("It is", 0)) == []


@pytest.mark.parametrize("prompt", ["", "I", TEXT * 2, "é🙂漢", "\n"])
def test_any_prompt_is_fine(prompt, gpt):
    assert gpt.generate(prompt, 12, seed=1) == gpt.generate(prompt, 12, seed=1)


def test_equal_seeds_equal_texts_and_greedy_needs_none(gpt):
    assert len({gpt.generate("It", 30, temperature=1.2, seed=seed) for seed in range(5)}) == 5
    assert len({gpt.generate("It", 30, temperature=1.2) for _ in range(4)}) > 1
    assert gpt.generate("It", 30, temperature=0) == gpt.generate("It", 30, temperature=0, seed=9)


def test_the_bytes_of_a_character_are_held_back_until_they_are_all_there(gpt, monkeypatch):
    whole = "aé🙂b".encode()
    monkeypatch.setattr("minigpt.gpt.generate_ids", lambda *arguments: iter(whole))
    assert list(gpt.stream("")) == ["a", "é", "🙂", "b"]
    monkeypatch.setattr("minigpt.gpt.generate_ids", lambda *arguments: iter("né".encode()[:-1]))
    assert list(gpt.stream("")) == ["n"]                                 # unfinished: left out
    monkeypatch.setattr("minigpt.gpt.generate_ids", lambda *arguments: iter(b"\xffa"))
    assert "".join(gpt.stream("")) == "\ufffda"                          # impossible: shown as such


def test_a_stream_can_be_left_at_any_time(gpt):
    stream = gpt.stream("It", 10 ** 9, seed=0)
    assert next(stream)
    stream.close()


def test_the_next_token_probabilities_are_sorted_and_sum_to_one(gpt):
    tokens, probs = gpt.next_token_probs("It is a")
    assert len(tokens) == len(probs) == gpt.tokenizer.vocab_size and set(tokens) == set(gpt.tokenizer.vocab)
    assert float(probs.sum()) == pytest.approx(1, abs=1e-5) and (probs.diff() <= 0).all()
    ids = torch.tensor([gpt.tokenizer.encode("It is a")[-8:]])
    expected = gpt.model.eval()(ids)[0, -1].softmax(-1)
    assert tokens[0] == gpt.tokenizer.id_to_token(int(expected.argmax()))
    assert float(probs[0]) == pytest.approx(float(expected.detach().max()), rel=1e-5)
    tokens, probs = gpt.next_token_probs("", temperature=0)
    assert probs.tolist() == [1.0] + [0.0] * (len(tokens) - 1)
    assert int((gpt.next_token_probs("", top_k=3)[1] > 0).sum()) == 3


@pytest.mark.parametrize("prompt, n", [("", 1), ("It is a truth", None), (TEXT, 8)])
def test_attention_weights_have_rows_that_sum_to_one_and_look_back_only(prompt, n, gpt):
    weights = gpt.attention_weights(prompt)
    n = n or min(8, len(gpt.tokenizer.encode(prompt)))
    assert weights.shape == (2, 2, n, n)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, n))
    assert not weights.triu(1).any() and not weights.requires_grad


@pytest.mark.parametrize("was_training", [True, False])
def test_asking_leaves_the_mode_and_the_chance_of_others_alone(was_training):
    gpt = a_gpt(dropout=0.5)
    gpt.model.train(was_training)
    torch.manual_seed(1)
    for ask in (lambda: gpt.next_token_probs("It")[1], lambda: gpt.attention_weights("It"), lambda: gpt.evaluate("It"),
                lambda: gpt.generate("It", 9, seed=1)):
        first, second = ask(), ask()                                     # dropout would make them differ
        assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
        assert gpt.model.training == was_training
    assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(1)))


def test_evaluation_is_in_nats_per_byte_of_the_text(gpt):
    text = "It is é🙂"
    ids = gpt.tokenizer.encode(START + text)
    assert len(ids) > 2
    expected, gpt_model = 0.0, gpt.model.eval()
    for start in range(0, len(ids) - 1, 8):
        window = torch.tensor([ids[start:start + 9]])
        log_probs = gpt_model(window[:, :-1])[0].log_softmax(-1)
        expected -= log_probs.gather(1, window[0, 1:, None]).sum().item()
    assert gpt.evaluate(text) == pytest.approx(expected / len(text.encode()), rel=1e-5)
    with pytest.raises(ValueError, match="text must have at least one character"):
        gpt.evaluate("")


# Kept -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method, size", [("bpe", {}), ("substring", {}), ("bytes", {"vocab_size": 256}),
                                          ("bpe", {"d_ff": 0, "n_layers": 1}), ("bpe", {"dropout": 0.5}),
                                          ("bpe", {"n_layers": 2})])
def test_what_was_saved_is_what_is_loaded(method, size, tmp_path):
    gpt = a_gpt(method=method, **size)
    quietly(gpt)
    path = tmp_path / "größer und schöner.safetensors"
    gpt.save(path)
    loaded = GPT.load(path)
    assert same_weights(gpt, loaded) and loaded.tokenizer == gpt.tokenizer and loaded.model.config == gpt.model.config
    assert loaded.generate("It", 40, seed=1) == gpt.generate("It", 40, seed=1)
    assert loaded.evaluate(TEXT) == gpt.evaluate(TEXT)
    again = tmp_path / "again.safetensors"
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_the_file_holds_weights_configuration_and_tokenizer_and_no_mask(gpt, tmp_path):
    gpt.save(tmp_path / "model.safetensors")
    tensors, strings = files.load_tensors(tmp_path / "model.safetensors", KIND)
    assert sum(tensor.numel() for tensor in tensors.values()) == gpt.model.n_parameters
    assert tensors.keys() == dict(gpt.model.named_parameters()).keys()
    assert strings.keys() == {"about", "config", "tokenizer", "format", "format_version", "sha256"}


def test_half_is_half_the_size_and_nearly_the_same(gpt, tmp_path):
    gpt.save(tmp_path / "whole.safetensors")
    gpt.save(tmp_path / "half.safetensors", half=True)
    loaded = GPT.load(tmp_path / "half.safetensors")
    saved = (tmp_path / "whole.safetensors").stat().st_size - (tmp_path / "half.safetensors").stat().st_size
    assert saved == pytest.approx(2 * gpt.model.n_parameters, abs=200)
    assert loaded.evaluate(TEXT) == pytest.approx(gpt.evaluate(TEXT), abs=1e-3)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert {p.dtype for p in gpt.model.parameters()} == {torch.float32}   # the one that was saved is not changed


def test_loading_leaves_the_chance_of_others_alone(gpt, tmp_path):
    gpt.save(tmp_path / "model.safetensors")
    torch.manual_seed(1)
    GPT.load(tmp_path / "model.safetensors")
    assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("device", ["cpu", "auto", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU"))])
def test_a_device_can_be_chosen(device, gpt, tmp_path):
    gpt.save(tmp_path / "model.safetensors")
    loaded = GPT.load(tmp_path / "model.safetensors", device=device)
    assert device == "auto" or loaded.device.type == device
    quietly(loaded, text=OTHER)
    assert loaded.generate("It", 5, seed=0) and loaded.next_token_probs("It")[1].device.type == "cpu"
    loaded.save(tmp_path / "again.safetensors")
    assert GPT.load(tmp_path / "again.safetensors").device.type == "cpu"


def test_a_device_that_is_not_there_is_refused_before_the_file_is_read(tmp_path):
    for device in ("cuda:99", "abacus", 7, None):
        with pytest.raises(ValueError, match="device must be"):
            GPT.load(tmp_path / "not there", device=device)


def test_importing_the_package_brings_no_front_end():
    import subprocess
    script = ("import sys, minigpt, minigpt.__main__; "
              "print([n for n in ('matplotlib', 'ipywidgets', 'IPython', 'requests') if n in sys.modules])")
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
    assert result.stdout.strip() == "[]", result.stderr


def test_a_plot_of_a_history_comes_from_the_front_end(monkeypatch):
    monkeypatch.setitem(sys.modules, "minigpt.classroom.plots", types.SimpleNamespace(loss_curve=lambda history: history))
    history = quietly(a_gpt(), steps=1)
    assert history.plot() is history


def test_its_name_says_what_it_is(gpt):
    assert f"{gpt.model.n_parameters:,} parameters" in repr(gpt) and "bpe" in repr(gpt)


# What is saved can be loaded -----------------------------------------------------------------------------------------

class Compiled(torch.nn.Module):
    """As torch.compile wraps a model, which takes seconds to import."""

    def __init__(self, model):
        super().__init__()
        self._orig_mod = model

    config = property(lambda self: self._orig_mod.config)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._orig_mod, name)

    def forward(self, *arguments):
        return self._orig_mod(*arguments)


def test_a_compiled_model_is_saved_as_what_it_is(tmp_path):
    gpt = a_gpt()
    plain = gpt.next_token_probs("It is")[1]
    gpt.model = Compiled(gpt.model)
    gpt.save(tmp_path / "a.safetensors")
    assert torch.equal(GPT.load(tmp_path / "a.safetensors").next_token_probs("It is")[1], plain)


def test_a_head_that_was_tied_by_hand_stays_tied(tmp_path):
    gpt = a_gpt(tied=False)
    gpt.model.head.weight = gpt.model.token_embedding.weight
    gpt.save(tmp_path / "a.safetensors")
    loaded = GPT.load(tmp_path / "a.safetensors")
    assert loaded.model.config.tied and loaded.model.head is None
    assert torch.equal(loaded.next_token_probs("It is")[1], gpt.next_token_probs("It is")[1])


@pytest.mark.parametrize("value, half", [(math.nan, False), (math.inf, False), (-math.inf, True), (1e5, True)])
def test_what_could_say_nothing_is_not_saved(tmp_path, value, half):
    gpt, path = a_gpt(), tmp_path / "a.safetensors"
    gpt.save(path)
    before = path.read_bytes()
    with torch.no_grad():
        gpt.model.norm.weight[0] = value
    with pytest.raises(ValueError, match="norm.weight has infinite or NaN numbers.*nothing is saved"):
        gpt.save(path, half=half)
    assert path.read_bytes() == before


@pytest.mark.parametrize("wrap", [
    lambda gpt: setattr(gpt, "model", torch.compile(gpt.model)),
    lambda gpt: setattr(gpt, "model", torch.nn.DataParallel(gpt.model)),
    lambda gpt: gpt.model.blocks[0].compile() or setattr(gpt.model.blocks, "0", torch.compile(gpt.model.blocks[0])),
    lambda gpt: setattr(gpt.model, "head", torch.compile(gpt.model.head)),
    lambda gpt: setattr(gpt.model.head.weight, "data", gpt.model.token_embedding.weight.data)],
    ids=["compiled", "DataParallel", "a block compiled", "the head compiled", "one memory"])
def test_what_is_wrapped_or_shared_is_saved_as_what_it_is(wrap, tmp_path):
    gpt = a_gpt(tied=False)
    wrap(gpt)
    gpt.save(tmp_path / "a.safetensors")
    gpt.save_page(tmp_path / "a.html")
    ours, theirs = gpt.model.state_dict(), GPT.load(tmp_path / "a.safetensors").model.state_dict()
    ours = {name.replace("_orig_mod.", "").replace("module.", ""): tensor for name, tensor in ours.items()}
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize("spoil, sentence", [
    (lambda gpt: setattr(gpt, "tokenizer", Tokenizer.train(TEXT, 290)), "vocab_size must be the tokenizer's, 290, not 280"),
    (lambda gpt: setattr(gpt, "model", torch.compile(torch.compile(gpt.model))), "model must be a GPTModel with a GPTConfig"),
    (lambda gpt: gpt.model.to("meta"), "token_embedding.weight must be a tensor of plain numbers for a model to be kept"),
    (lambda gpt: setattr(gpt.model, "head", torch.nn.Sequential(gpt.model.head)), "head.0.weight should be absent"),
    (lambda gpt: setattr(gpt.model, "head", None), r"head.weight should be \(280, 16\) and is absent")])
def test_what_load_would_not_give_back_is_not_saved(spoil, sentence, tmp_path):
    gpt = a_gpt(tied=False)
    gpt.save(tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    spoil(gpt)
    for save in (lambda: gpt.save(tmp_path / "a.safetensors"), lambda: gpt.save_page(tmp_path / "a.html")):
        with pytest.raises(ValueError, match=sentence):
            save()
    assert (tmp_path / "a.safetensors").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_what_sixteen_bits_would_lose_is_not_saved_in_them(tmp_path):
    gpt = a_gpt(tied=False)
    gpt.model.head.weight.data *= 1e-9
    with pytest.raises(ValueError, match="head.weight is nothing but 0 in 16 bits"):
        gpt.save(tmp_path / "a.safetensors", half=True)
    gpt.save(tmp_path / "a.safetensors")


@pytest.mark.parametrize("save", [lambda gpt, path: gpt.save(path), lambda gpt, path: gpt.tokenizer.save(path),
                                  lambda gpt, path: gpt.save_page(path)], ids=["model", "tokenizer", "page"])
def test_nothing_is_replaced_but_what_is_of_its_kind(save, tmp_path):
    gpt, path = a_gpt(), tmp_path / "mine.html"
    for other in (lambda path: path.write_bytes(b"the only copy"), gpt.save, gpt.tokenizer.save, gpt.save_page):
        other(path)
        before = path.read_bytes()
        try:
            save(gpt, path)
        except ValueError as error:
            assert "mine.html is there and is no" in str(error) and path.read_bytes() == before
        else:
            assert path.read_bytes() == before          # its own kind, and the same
        path.unlink()
    path.touch()                                        # empty: as somebody makes it who keeps the name
    save(gpt, path)
    save(gpt, path)


def test_a_file_with_weights_that_are_no_numbers_does_not_load(tmp_path):
    gpt = a_gpt()
    config, weights = gpt._plain()
    weights = {name: tensor * math.nan for name, tensor in weights.items()}
    metadata = {"config": json.dumps(config.__dict__), "tokenizer": gpt.tokenizer.to_json()}
    files.save_tensors(tmp_path / "a", KIND, weights, metadata)
    with pytest.raises(ValueError, match="has infinite or NaN numbers, and could say nothing"):
        GPT.load(tmp_path / "a")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
@pytest.mark.parametrize("load", [GPT.load, Tokenizer.load])
def test_a_pipe_is_no_file_to_load(load, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe is not an ordinary file"):      # it does not wait for a writer
        load(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError, match="is a folder, not a"):
        load(tmp_path)


def test_a_model_with_a_part_too_many_is_not_saved(tmp_path):
    gpt = a_gpt()
    gpt.model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"extra\.bias should be absent"):
        gpt.save(tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


# Again is on ---------------------------------------------------------------------------------------------------------

def windows_of(monkeypatch, train):
    """The windows that a training reads, in their order."""
    from minigpt import batches
    seen, original = [], batches._windows
    with monkeypatch.context() as patch:
        patch.setattr(batches, "_windows", lambda *arguments: seen.append(original(*arguments)) or seen[-1])
        train()
    return [tuple(row) for x, _ in seen for row in x.tolist()]


def test_training_again_reads_on_where_the_last_training_stopped(monkeypatch):
    whole, parts = a_gpt(), a_gpt()
    at_once = windows_of(monkeypatch, lambda: quietly(whole, steps=6, batch_size=4))
    in_turns = windows_of(monkeypatch, lambda: [quietly(parts, steps=2, batch_size=4) for _ in range(3)])
    assert at_once == in_turns
    assert len(at_once) == 6 * 4 and at_once[:8] != at_once[8:16]


def test_with_another_batch_size_nothing_is_read_again(monkeypatch):
    gpt = a_gpt()
    first = windows_of(monkeypatch, lambda: quietly(gpt, steps=3, batch_size=3))
    second = windows_of(monkeypatch, lambda: quietly(gpt, steps=2, batch_size=4))
    assert not set(first) & set(second)


def test_another_text_is_read_from_its_beginning():
    gpt = a_gpt()
    quietly(gpt, steps=2)
    quietly(gpt, steps=2, text=TEXT[::-1])
    assert gpt.run.batches_before == 0


def test_with_a_file_in_between_too(monkeypatch, tmp_path):
    whole, parts = a_gpt(), a_gpt()
    at_once = windows_of(monkeypatch, lambda: quietly(whole, steps=6, batch_size=4))
    in_turns = windows_of(monkeypatch, lambda: quietly(parts, steps=3, batch_size=4))
    parts.save(tmp_path / "a")
    loaded = GPT.load(tmp_path / "a")
    in_turns += windows_of(monkeypatch, lambda: quietly(loaded, steps=3, batch_size=4, text=TEXT))
    assert at_once == in_turns
    quietly(GPT.load(tmp_path / "a"), text=OTHER, steps=1)


def test_it_says_that_it_goes_on_and_what_the_rate_does(capsys):
    gpt = a_gpt()
    gpt.train(steps=1, batch_size=4)
    assert "Going on" not in capsys.readouterr().out
    gpt.train(steps=1, batch_size=4)
    assert "Going on: 4 windows of the text have been read. The learning rate warms up" in capsys.readouterr().out


def test_a_byte_order_mark_and_line_ends_do_not_depend_on_the_way_in(gpt):
    windows = "\ufeffIt is a truth.\r\nIt is."
    assert gpt.evaluate(windows) == gpt.evaluate("It is a truth.\nIt is.")
    marked, plain = (GPT.from_text(text * 40, vocab_size=260, d_model=4, n_heads=2, n_layers=1, d_ff=4)
                     for text in ("It is.\r\n", "It is.\n"))
    assert marked.tokenizer == plain.tokenizer


def test_at_temperature_0_the_tokens_come_in_the_order_of_their_logits(gpt):
    assert gpt.next_token_probs("It is", temperature=0)[0] == gpt.next_token_probs("It is", temperature=1)[0]


# What is refused before the work -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("text", ["\ufeff", ["It is a truth. " * 20, "\ufeff"]])
def test_a_text_that_is_a_byte_order_mark_alone_is_no_text(text, gpt):
    for door in (lambda: GPT.from_text(text, **SIZE), lambda: quietly(gpt, text=text)):
        with pytest.raises(ValueError, match="text must have at least one character"):
            door()
    with pytest.raises(ValueError, match="text must have at least one character"):
        gpt.evaluate("\ufeff")


@pytest.mark.parametrize("arguments", [{"steps": 5, "seconds": 5}, {"accumulate": 99}, {"steps": 0}, {"evaluations": 0}])
def test_a_training_that_cannot_be_is_refused_before_its_text_is_read(arguments, gpt, monkeypatch):
    monkeypatch.setattr("minigpt.gpt.tokenize", lambda *given: pytest.fail("the text was read"))
    with pytest.raises(ValueError, match="must be"):
        quietly(gpt, text=TEXT, **arguments)


def test_a_model_that_no_gradient_reaches_says_so_before_its_text_is_read(monkeypatch):
    gpt = a_gpt()
    monkeypatch.setattr("minigpt.gpt.tokenize", lambda *given: pytest.fail("the text was read"))
    for switched_off in (torch.no_grad, torch.inference_mode):
        with switched_off(), pytest.raises(ValueError, match="gradients are switched off here"):
            quietly(gpt, text=TEXT)
    gpt.model.requires_grad_(False)
    with pytest.raises(ValueError, match="model must have weights that can change"):
        quietly(gpt, text=TEXT)
    gpt.model.to("meta")
    with pytest.raises(ValueError, match="model must have weights that can change"):
        quietly(gpt, text=TEXT)


def test_frozen_parts_stay_as_they_are_and_the_rest_trains():
    gpt = a_gpt()
    gpt.model.token_embedding.requires_grad_(False)
    before = gpt.model.token_embedding.weight.clone(), gpt.model.blocks[0].attention.qkv.weight.clone()
    quietly(gpt)
    assert torch.equal(gpt.model.token_embedding.weight, before[0])
    assert not torch.equal(gpt.model.blocks[0].attention.qkv.weight, before[1])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_tokens_go_to_an_ordinary_file_in_a_folder_that_is_there(tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("minigpt.gpt._tokenizer_for", lambda *given: pytest.fail("the text was read"))
    for tokens in (tmp_path / "pipe", tmp_path, tmp_path / "nowhere" / "tokens", os.devnull):
        with pytest.raises(OSError, match=f"cannot write {tokens}"):
            GPT.from_files([text], tokens=tokens, **SIZE)


def test_what_loading_would_make_infinite_or_0_is_not_saved(tmp_path):
    for value in (1e39, 1e-60):
        gpt = a_gpt()
        gpt.model.double().norm.weight.data[:] = value
        with pytest.raises(ValueError, match="norm.weight .*32 bits"):
            gpt.save(tmp_path / "a")
        assert not (tmp_path / "a").exists()
    gpt = a_gpt()
    gpt.model.double()
    gpt.save(tmp_path / "a")
    assert same_weights(GPT.load(tmp_path / "a"), a_gpt())
