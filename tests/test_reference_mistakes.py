"""The reference implementation is instructive because it has real mistakes. None lives here: one test for each.

Each test was seen to fail with the mistake put in.
"""

import inspect
import json
import math
import struct
import time
from dataclasses import asdict

import numpy as np
import pytest
import torch
from small import ADAM, T, a_model, a_text, run, same, weights_of
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import minigpt
from minigpt import GPT, GPTConfig, GPTModel, Tokenizer, TransformerBlock, files, training, vocabulary
from minigpt.batches import TokenizedText, epoch_batch, random_batch
from minigpt.gpt import KIND
from minigpt.sampling import generate_ids, next_token_probs
from minigpt.tokenizer import METHODS
from minigpt.training import evaluate, learning_rate, training_loop
from minigpt.training_state import TrainingState
from minigpt.vocabulary import BYTES

TEXT = "It is a truth universally acknowledged. " * 30
SIZE = {"vocab_size": 270, "method": "bpe", "context_length": 12, "d_model": 8, "n_heads": 2, "n_layers": 1, "d_ff": 20,
        "dropout": 0.125}


@pytest.fixture(params=["learned", "rotary"])
def gpt(request):
    return GPT.from_text(TEXT, **SIZE, positions=request.param)


def ids_of(gpt, text="It is a"):
    return torch.tensor([gpt.tokenizer.encode(text)])


def reloaded(gpt, tmp_path):
    gpt.save(tmp_path / "a.safetensors")
    return GPT.load(tmp_path / "a.safetensors")


def header_of(path):
    content = path.read_bytes()
    return json.loads(content[8:8 + struct.unpack("<Q", content[:8])[0]])


def devices_held_by(module):
    return [name for name, value in vars(module).items()
            if isinstance(value, torch.device) or name.lower() == "device" and not inspect.ismodule(value)]


class DevicesSeen(TorchDispatchMode):
    """Notes on which devices tensors are made."""

    def __init__(self):
        super().__init__()
        self.devices = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **options or {})
        self.devices |= {part.device.type for part in (made if isinstance(made, tuple | list) else [made])
                         if isinstance(part, torch.Tensor)}
        return made


# The model ----------------------------------------------------------------------------------------------------------

def test_mistake_positions_made_on_a_global_device(gpt):
    modules = [inspect.getmodule(part) for part in (minigpt.attention, GPTModel, GPT, next_token_probs, minigpt)]
    assert [held for module in modules for held in devices_held_by(module)] == []
    model = gpt.model.eval().to("meta")                # a device on which only shapes are computed
    ids, cache = torch.zeros(1, 5, dtype=torch.int64, device="meta"), model.new_cache()
    with DevicesSeen() as seen:
        model(ids)
        model(ids, cache)
        model(ids[:, :2], cache)
    assert seen.devices == {"meta"}                    # nothing was made on another


def test_mistake_more_tokens_than_the_context_failing_with_an_index_error(gpt):
    ids = torch.zeros(1, 13, dtype=torch.int64)
    for function in (gpt.model, gpt.model.attention_weights):
        assert function(ids[:, :12]) is not None
        with pytest.raises(ValueError, match="ids must fit the context of 12 tokens, not 13"):
            function(ids)


def test_mistake_the_mask_saved_in_the_checkpoint(gpt, tmp_path):
    gpt.save(tmp_path / "a.safetensors")
    saved = set(header_of(tmp_path / "a.safetensors")) - {"__metadata__"}
    assert saved == set(gpt.model.state_dict()) == {name for name, _ in gpt.model.named_parameters()}
    assert not any(tensor.shape[-2:] == (12, 12) or tensor.dtype == torch.bool for tensor in gpt.model.state_dict().values())


def test_mistake_a_norm_without_its_feed_forward():
    config = GPTConfig(d_model=8, n_heads=2, d_ff=0, n_layers=3)
    assert sum(isinstance(module, nn.LayerNorm) for module in GPTModel(config).modules()) == 3 + 1
    block, x = TransformerBlock(config), torch.randn(1, 4, 8)
    assert torch.equal(block(x), x + block.attention(F.layer_norm(x, (8,))))     # nothing is normed but what attention reads


def test_mistake_an_optimizer_inside_the_model(gpt, tmp_path):
    before = set(gpt.model.state_dict())
    gpt.train(steps=2, batch_size=2, progress=False)
    inside = [*vars(gpt).values(), *(value for module in gpt.model.modules() for value in vars(module).values())]
    assert not any(isinstance(value, torch.optim.Optimizer) for value in inside)
    assert set(gpt.model.state_dict()) == before
    gpt.save(tmp_path / "a.safetensors")
    numbers = sum(math.prod(entry["shape"]) for name, entry in header_of(tmp_path / "a.safetensors").items()
                  if name != "__metadata__")
    assert numbers == gpt.model.n_parameters


# Sampling -----------------------------------------------------------------------------------------------------------

def test_mistake_a_gradient_graph_built_while_generating(gpt):
    made = []
    for module in gpt.model.modules():
        module.register_forward_hook(lambda module, inputs, out: made.append(out.requires_grad or out.grad_fn is not None))
    gpt.generate("It", 20, seed=0)
    gpt.next_token_probs("It")
    gpt.attention_weights("It")
    assert len(made) > 100 and not any(made)


def test_mistake_temperature_0_giving_nan(gpt):
    probs = next_token_probs(torch.tensor([[0.5, 2.0, -1.0]]), temperature=0)
    assert probs.tolist() == [[0, 1, 0]]
    assert next_token_probs(torch.tensor([[1.0, 2.0, 2.0]]), temperature=0).tolist() == [[0, 1, 0]]     # the first of equals
    logits = gpt.model.eval()(ids_of(gpt))[0, -1]
    assert next(generate_ids(gpt.model, ids_of(gpt)[0].tolist(), 1, temperature=0)) == logits.argmax()
    assert gpt.generate("It is", 5, temperature=0) == gpt.generate("It is", 5, temperature=0)
    tokens, probs = gpt.next_token_probs("It is", temperature=0)
    assert probs[0] == 1 and probs[1:].sum() == 0


def test_mistake_an_empty_prompt_failing(gpt):
    text = gpt.generate("", 20, temperature=0)
    assert isinstance(text, str) and text == gpt.generate("\n", 20, temperature=0)     # as at the beginning of a text
    assert "".join(gpt.stream("", 5, seed=1)) == gpt.generate("", 5, seed=1)
    assert len(gpt.next_token_probs("")[0]) == gpt.tokenizer.vocab_size
    assert gpt.attention_weights("").shape == (1, 2, 1, 1)


@pytest.mark.parametrize("difference", [1, -1, 1000])
def test_mistake_a_model_larger_than_its_vocabulary_sampling_ids_that_cannot_be_decoded(gpt, difference, tmp_path):
    n = gpt.tokenizer.vocab_size
    model = GPTModel(GPTConfig(vocab_size=n + difference, context_length=12, d_model=8, n_heads=2, d_ff=0))
    with pytest.raises(ValueError, match=f"vocab_size must be the tokenizer's, {n}, not {n + difference}"):
        GPT(gpt.tokenizer, model)
    metadata = {"config": json.dumps(asdict(model.config)), "tokenizer": gpt.tokenizer.to_json()}
    files.save_tensors(tmp_path / "a.safetensors", KIND, model.state_dict(), metadata)
    with pytest.raises(ValueError, match=rf"a.safetensors .*vocab_size must be the tokenizer's, {n}"):
        GPT.load(tmp_path / "a.safetensors")


def test_mistake_a_vocabulary_that_comes_out_smaller_than_what_the_model_was_built_for():
    gpt = GPT.from_text("ab" * 40, **SIZE | {"vocab_size": 5000})
    assert gpt.tokenizer.vocab_size == gpt.model.config.vocab_size == len(gpt.model.token_embedding.weight) < 300


# Saving and loading -------------------------------------------------------------------------------------------------

def test_mistake_loading_before_building_and_building_again_throwing_the_weights_away(gpt, tmp_path):
    gpt.train(steps=3, batch_size=2, progress=False)
    loaded = reloaded(gpt, tmp_path)
    weights = loaded.model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in gpt.model.state_dict().items())
    assert loaded.generate("It", 20, seed=4) == gpt.generate("It", 20, seed=4)
    assert loaded.evaluate(TEXT) == gpt.evaluate(TEXT)
    model = loaded.model
    loaded.train(steps=1, text=TEXT, batch_size=2, learning_rate=1e-9, progress=False)       # nor are they when training begins
    assert loaded.model is model
    assert all(torch.allclose(tensor, gpt.model.state_dict()[name], atol=1e-5) for name, tensor in model.state_dict().items())


def test_mistake_hyperparameters_not_saved(gpt, tmp_path):
    loaded = reloaded(gpt, tmp_path)
    assert loaded.model.config == gpt.model.config
    assert (loaded.model.config.context_length, loaded.model.config.n_heads, loaded.model.config.dropout) == (12, 2, 0.125)
    assert loaded.tokenizer == gpt.tokenizer
    assert [block.attention.n_heads for block in loaded.model.blocks] == [2]
    assert [block.attention.dropout for block in loaded.model.blocks] == [0.125]


class OnAnotherDevice:
    """Stands for a tensor on a GPU: its numbers can be had only once it is on the CPU."""

    def __init__(self, tensor):
        self.tensor = tensor

    def detach(self):
        return self

    def cpu(self):
        return self.tensor


def test_mistake_a_gpu_checkpoint_not_loading_on_a_cpu(gpt, tmp_path):
    files.save_tensors(tmp_path / "b.safetensors", "numbers", {"a": OnAnotherDevice(torch.arange(3))}, {})
    assert files.load_tensors(tmp_path / "b.safetensors", "numbers")[0]["a"].tolist() == [0, 1, 2]
    loaded = reloaded(gpt, tmp_path)
    assert loaded.device == torch.device("cpu")
    header = header_of(tmp_path / "a.safetensors")
    metadata = header.pop("__metadata__")
    assert all(set(entry) == {"dtype", "shape", "data_offsets"} for entry in header.values())      # no word of a device
    assert "device" not in json.loads(metadata["config"]) and "cuda" not in json.dumps(metadata)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_mistake_a_checkpoint_of_a_real_gpu_not_loading_on_a_cpu(gpt, tmp_path):
    gpt.model.cuda()
    loaded = reloaded(gpt, tmp_path)
    assert loaded.device.type == "cpu" and loaded.evaluate(TEXT) == pytest.approx(gpt.evaluate(TEXT), rel=1e-4)
    assert GPT.load(tmp_path / "a.safetensors", "cuda").evaluate(TEXT) == pytest.approx(loaded.evaluate(TEXT), rel=1e-4)


def test_mistake_training_after_loading_impossible(gpt, tmp_path):
    loaded = reloaded(gpt, tmp_path)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in loaded.model.parameters())
    with pytest.raises(ValueError, match="text must be given"):
        loaded.train(steps=1, progress=False)
    before = loaded.evaluate(TEXT)
    loaded.train(steps=20, text=TEXT, batch_size=8, progress=False)
    assert loaded.evaluate(TEXT) < before - 0.1
    again = reloaded(loaded, tmp_path)
    assert again.evaluate(TEXT) == loaded.evaluate(TEXT)


def test_mistake_a_tokenizer_of_another_text_after_loading(gpt, tmp_path):
    loaded = reloaded(gpt, tmp_path)
    loaded.train(steps=1, text="quite another text, with other words. " * 20, batch_size=2, progress=False)
    assert loaded.tokenizer == gpt.tokenizer != Tokenizer.train("quite another text, with other words. " * 20, 270)


# Training -----------------------------------------------------------------------------------------------------------

def test_mistake_of_the_reference_the_last_window_was_never_picked():
    x, y = random_batch(np.arange(6), 3, 200, torch.Generator().manual_seed(1))
    assert {tuple(row) for row in x.tolist()} == {(0, 1, 2), (1, 2, 3), (2, 3, 4)}
    assert y.max() == 5


@pytest.mark.parametrize("n", [0, 1, T])
def test_mistake_of_the_reference_a_short_text_failed_obscurely(n):
    message = rf"(ids|text) must hold at least context_length \+ 1 = 9 tokens, not {n}: take a longer text"
    with pytest.raises(ValueError, match=message):
        random_batch(np.zeros(n, np.uint16), T, 4)
    with pytest.raises(ValueError, match=message):                      # before the first step, at the call
        training_loop(TrainingState(a_model(), ADAM), TokenizedText(np.zeros(n, np.uint16), max(1, n)), steps=1)


class CountedIds(np.ndarray):
    """An array that counts how often it is indexed."""

    lookups = 0

    def __getitem__(self, index):
        CountedIds.lookups += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("take", [random_batch, lambda *arguments: epoch_batch(*arguments, 0)], ids=["random", "epochs"])
def test_mistake_of_the_reference_a_python_loop_over_the_sequences_of_a_batch(take, monkeypatch):
    def work(batch_size):
        calls = []
        for name in ("randint", "arange", "as_tensor", "tensor", "stack", "from_numpy"):
            monkeypatch.setattr(torch, name, counted(getattr(torch, name), calls))
        CountedIds.lookups = 0
        take(np.arange(1000).view(CountedIds), T, batch_size)
        monkeypatch.undo()
        return CountedIds.lookups, len(calls)

    def counted(function, calls):
        return lambda *arguments, **keywords: (calls.append(1), function(*arguments, **keywords))[1]

    work(64)                                                            # an epoch's order is drawn once
    assert work(1) == work(64)
    assert work(64)[0] == 1


def test_mistake_of_the_reference_a_bare_except_hid_that_the_schedule_never_ran():
    reports, _ = run(a_model(), steps=10)
    warmup = 2                                                          # at most a fifth of the steps
    assert [report.learning_rate for report in reports] == pytest.approx(
        [learning_rate(step, 10, warmup, 1e-2, 1e-3) for step in range(10)])
    with pytest.raises(ZeroDivisionError):                              # whatever goes wrong in there comes out
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "share_of_peak", lambda *arguments: 1 / 0)
            run(a_model())


@pytest.mark.parametrize("was_training", [True, False])
def test_mistake_of_the_reference_validation_in_train_mode(was_training):
    model, text = a_model(dropout=0.5), a_text()
    model.train(was_training)
    assert evaluate(model, text) == evaluate(model, text)               # dropout would make them differ
    assert model.training == was_training and model.blocks[0].training == was_training
    modes = []
    model.norm.register_forward_hook(lambda module, inputs, output: modes.append(module.training))
    evaluate(model, text)
    assert modes and not any(modes)


def test_mistake_of_the_reference_validation_with_gradients():
    model, with_gradients = a_model(), []
    model.norm.register_forward_hook(lambda module, inputs, output: with_gradients.append(output.requires_grad))
    evaluate(model, a_text())
    assert with_gradients and not any(with_gradients)
    assert all(p.grad is None for p in model.parameters())


def test_mistake_of_the_reference_validation_on_one_random_batch():
    validation, model = a_text(150, seed=1), a_model()
    reports, _ = run(model, steps=4, validation=validation, evaluations=1)
    assert reports[-1].validation_loss == evaluate(model, validation)   # the whole text, again the same number
    seen = []
    model.token_embedding.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].numel()))
    evaluate(model, validation)
    assert sum(seen) >= len(validation.ids) - 1


def test_mistake_of_the_reference_a_printing_interval_of_0_divided_by_zero():
    for evaluations in (0, -1):
        with pytest.raises(ValueError, match=f"evaluations must be at least 1 and at most .*, not {evaluations}"):
            run(a_model(), validation=a_text(30), evaluations=evaluations)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_mistake_of_the_reference_no_seed(dropout):
    first, second, other = a_model(dropout), a_model(dropout), a_model(dropout)
    run(first, seed=7)
    torch.rand(3)
    run(second, seed=7)
    run(other, seed=8)
    assert same(weights_of(first), weights_of(second))
    assert not same(weights_of(first), weights_of(other))


# GPT, as one object ---------------------------------------------------------------------------------------------------

def test_mistake_of_the_reference_a_model_larger_than_its_vocabulary():
    with pytest.raises(ValueError, match="the model's vocab_size must be the tokenizer's, 256, not 257"):
        GPT(Tokenizer.train(TEXT, 256, "bytes"), GPTModel(GPTConfig(vocab_size=257, d_model=16)))


def test_mistake_of_the_reference_an_optimizer_inside_the_model(gpt):
    gpt.train(2, progress=False)
    assert not any("optim" in name for name in vars(gpt.model)) and not any("optim" in name for name in vars(gpt))


def test_mistake_of_the_reference_training_after_loading_was_impossible(gpt, tmp_path):
    loaded, other = reloaded(gpt, tmp_path), "Now is the winter of our discontent. " * 20
    with pytest.raises(ValueError, match="text must be given"):
        loaded.train(3, progress=False)
    before = loaded.evaluate(other)
    loaded.train(20, text=other, progress=False)
    assert loaded.evaluate(other) < before
    assert loaded.train(3, progress=False).steps == [1, 2, 3]               # the text is remembered now


def test_mistake_of_the_reference_building_after_loading_threw_the_weights_away(gpt, tmp_path):
    gpt.train(2, progress=False)
    assert same(weights_of(reloaded(gpt, tmp_path).model), weights_of(gpt.model))


# The tokenizer ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", METHODS)
def test_mistake_of_the_reference_decoding_each_byte_as_a_character(method):
    trained = Tokenizer.train(TEXT, 300, method)
    assert trained.decode(trained.encode("é")) == "é"
    assert trained.decode([0xC3, 0xA9]) == "é"


def test_mistake_of_the_reference_an_empty_token_for_two_spaces_in_a_row():
    for method in METHODS:
        trained = Tokenizer.train("two  spaces   three", 300, method)
        assert b"" not in trained.vocab
        assert trained.decode(trained.encode("a  b   c")) == "a  b   c"


def test_mistake_of_the_reference_tokens_never_produced_because_a_prefix_is_missing():
    vocab = (*BYTES, b"abcd", b"wxyzwxyz")
    assert Tokenizer("substring", vocab).encode("abcdabc wxyzwxyzw") == [256, 97, 98, 99, 32, 257, 119]


def test_mistake_of_the_reference_whole_words_counted_twice():
    # "ab" is a word three times, "cd" inside of words four times
    assert Tokenizer.train("ab ab ab 1cd2 3cd4 5cd6 7cd8", 257, "substring").vocab[256] == b"cd"


def test_mistake_of_the_reference_the_space_counted_from_the_distinct_words():
    # however often it occurs, the space is a token and takes no place from another, nor is it part of another
    for text in "ab ab ab", "ab", " ":
        trained = Tokenizer.train(text, 257, "substring")
        assert [token for token in trained.vocab if b" " in token] == [b" "]
        assert trained.encode(" ") == [32]
    assert vocabulary.count_words(vocabulary.words(["ab ab ab"], "spaces")) == {b"ab": 3, b" ": 2}


def test_mistake_of_the_reference_words_over_16_bytes_entering_whole():
    trained = Tokenizer.train("incomprehensibilities " * 100, 500, "substring")
    assert max(map(len, trained.vocab)) == 16


@pytest.mark.parametrize("method", METHODS)
def test_mistake_of_the_reference_words_over_255_bytes_breaking_the_save(method, tmp_path):
    trained = Tokenizer.train(("abcdefgh" * 40 + " ") * 3, 1000, method)
    trained.save(tmp_path / "words.json")
    assert Tokenizer.load(tmp_path / "words.json") == trained


@pytest.mark.parametrize("method", METHODS)
def test_mistake_of_the_reference_an_error_for_a_byte_that_training_never_saw(method):
    trained = Tokenizer.train("aaa", 256, method)
    assert trained.decode(trained.encode("Zé🙂\0")) == "Zé🙂\0"


@pytest.mark.parametrize("method", METHODS)
def test_mistake_of_the_reference_fewer_than_256_tokens_silently_giving_256(method):
    with pytest.raises(ValueError, match="vocab_size must be at least 256 and at most 65536, not 255"):
        Tokenizer.train("text", 255, method)


def test_mistake_of_the_reference_a_missing_file_silently_giving_an_empty_object(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.vocab"):
        Tokenizer.load(tmp_path / "nowhere.vocab")


def test_mistake_of_the_reference_rebuilding_the_table_on_every_decode():
    large = Tokenizer("substring", (*BYTES, *(f"{number:08}".encode() for number in range(50_000))))
    small = Tokenizer("bytes", BYTES)

    def seconds(decoder):
        start = time.process_time()
        for _ in range(200):
            decoder.decode([65])
        return time.process_time() - start

    assert min(seconds(large) for _ in range(5)) < 20 * min(seconds(small) for _ in range(5))
