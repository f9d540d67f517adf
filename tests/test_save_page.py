"""A model as one web page, as far as Python alone can say: what is in the file, and what is refused. The page itself is tested
in a browser, in browser/test_page.py."""

import base64
import hashlib
import html
import json
import os
import re

import numpy as np
import pytest
import torch
from commands import run

from minigpt import GPT, GPTConfig, GPTModel, files
from minigpt.about import About
from minigpt.page import LARGEST, word_rule
from minigpt.progress import History
from minigpt.vocabulary import RULES

TEXT = "It is a truth universally acknowledged. Größe! " * 40


@pytest.fixture(scope="module")
def gpt() -> GPT:
    return GPT.from_text(TEXT, 270, d_model=8, n_heads=2, n_layers=1, d_ff=8, context_length=8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ours, größer.html"


def part(page: str, name: str) -> str:
    return re.search(rf'<(\w+) id="{name}"[^>]*>(.*?)</\1>', page, re.DOTALL)[2]


def numbers(page: str) -> dict[str, np.ndarray]:
    facts = json.loads(part(page, "facts"))
    values = np.frombuffer(base64.b64decode(part(page, "weights")), np.dtype(facts["format"]).newbyteorder("<"))
    ends = np.cumsum([size for _, size in facts["tensors"]])
    assert ends[-1] == len(values) == facts["numbers"]
    return dict(zip([name for name, _ in facts["tensors"]], np.split(values, ends[:-1])))


# What is in it ----------------------------------------------------------------------------------------------------------

def test_a_small_model_is_in_it_to_the_last_bit(gpt, path):
    gpt.save_page(path)
    found = numbers(path.read_text(encoding="utf-8"))
    assert found.keys() == gpt.model.state_dict().keys()
    for name, tensor in gpt.model.state_dict().items():
        assert np.array_equal(found[name], tensor.flatten().numpy()), name


def test_a_model_that_is_kept_in_16_bits_or_large_is_in_it_in_16_bits(gpt, path, tmp_path):
    gpt.save(tmp_path / "half.safetensors", half=True)
    half = GPT.load(tmp_path / "half.safetensors")
    half.save_page(path)
    for name, values in numbers(path.read_text(encoding="utf-8")).items():
        assert values.dtype == np.float16 and np.array_equal(values, half.model.state_dict()[name].flatten().half().numpy())
    large = GPT(gpt.tokenizer, GPTModel(GPTConfig(vocab_size=270, d_model=256, n_layers=1)))
    large.save_page(path)
    assert next(iter(numbers(path.read_text(encoding="utf-8")).values())).dtype == np.float16


def test_the_policy_has_the_hash_of_every_script_and_of_the_style_and_lets_nothing_else_in(gpt, path):
    gpt.save_page(path)
    page = path.read_text(encoding="utf-8")
    policy = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1])
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["connect-src"] == "'none'"

    def hashes(texts):
        return {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts}

    assert set(rules["script-src"].split()) == hashes(re.findall(r"<script>(.*?)</script>", page, re.DOTALL))
    assert set(rules["style-src"].split()) == hashes([part(page, "style")])
    assert "http://" not in re.sub("http://www.w3.org/2000/svg", "", page) and "https://" not in page
    assert page.index("Content-Security-Policy") < page.index("<title>")        # nothing stands before it that it is to judge


def test_equal_models_make_equal_pages(gpt, path):
    pages = set()
    for _ in range(2):
        gpt.save_page(path, "Ours")
        pages.add(path.read_bytes())
    assert len(pages) == 1


def test_the_curve_of_a_long_training_is_a_few_hundred_points(gpt, path):
    steps = list(range(1, 10_001))
    losses = [5.0 - step / 10_000 for step in steps]
    losses[20] = float("nan")
    gpt.save_page(path, history=History(steps, losses, [10_000], [float("inf")]))
    curve = json.loads(part(path.read_text(encoding="utf-8"), "facts"))["history"]
    assert 300 < len(curve["training"]) <= 400 and curve["held_out"] == []
    for step, loss in curve["training"]:
        assert abs(loss - (5.0 - step / 10_000)) < 0.002                        # the mean of the steps up to this one


@pytest.mark.parametrize("history", [History(), History([1], [float("nan")])])
def test_a_history_without_a_loss_gives_no_curve(gpt, path, history):
    gpt.save_page(path, history=history)
    assert json.loads(part(path.read_text(encoding="utf-8"), "facts"))["history"] is None


@pytest.mark.parametrize("rule", RULES)
def test_a_class_of_characters_is_written_out_as_the_pattern_itself_takes_it(rule):
    pattern, _ = RULES[rule]
    written = word_rule(pattern)
    assert re.sub(r"<\d+>", "", written["words"]).count("\\") == len(re.findall(r"\\(?:u200D|n)", written["words"]))
    # the rule read back with these ranges cuts as the rule itself does
    words = re.sub(r"<(\d+)>", lambda match: f"[{written['classes'][int(match[1])]}]", written["words"])
    words = re.sub(r"\\u\{(\w+)\}", lambda match: f"\\U{int(match[1], 16):08x}", words)
    every = "".join(chr(i) + "a1 -\n"[i % 5] for i in range(0x110000) if not 0xd800 <= i < 0xe000)
    assert re.findall(words, every) == pattern.findall(every)


# What is known of the model ----------------------------------------------------------------------------------------------

def test_what_is_known_of_a_model_is_kept_in_its_file_and_stands_in_its_page(tmp_path, path):
    (tmp_path / "größe.txt").write_text(TEXT, encoding="utf-8")
    gpt = GPT.from_files([tmp_path / "größe.txt"], vocab_size=260, d_model=8, n_heads=2, n_layers=1, d_ff=0, context_length=8)
    history = gpt.train(steps=3, batch_size=2, progress=False)
    gpt.train(steps=2, batch_size=2, progress=False)
    assert gpt.about == About("größe.txt", gpt.training_text.n_bytes, 5, gpt.about.held_out_loss, windows_read=10)
    assert gpt.about.held_out_loss != history.val_loss[-1]
    gpt.save(tmp_path / "model.safetensors")
    loaded = GPT.load(tmp_path / "model.safetensors")
    assert loaded.about == gpt.about
    loaded.save_page(path)
    assert About(**json.loads(part(path.read_text(encoding="utf-8"), "facts"))["about"]) == gpt.about
    loaded.train(steps=1, batch_size=2, text="another text " * 20, progress=False)
    assert loaded.about.text is None and loaded.about.steps == 6
    assert loaded.about.n_bytes == gpt.about.n_bytes + loaded.training_text.n_bytes


def test_a_file_without_it_still_loads_and_one_with_nonsense_does_not(gpt, tmp_path):
    config, weights = gpt._plain()
    metadata = {"config": json.dumps(config.__dict__), "tokenizer": gpt.tokenizer.to_json()}
    files.save_tensors(tmp_path / "old", "minigpt model", weights, metadata)
    assert GPT.load(tmp_path / "old").about == About()
    for nonsense in ('{"steps": -1}', '{"text": 5}', '[]', '{"held_out_loss": "low"}', '{"other": 1}', '{'):
        files.save_tensors(tmp_path / "bad", "minigpt model", weights, metadata | {"about": nonsense})
        with pytest.raises(ValueError, match="bad does not describe a model: "):
            GPT.load(tmp_path / "bad")


# What is refused ---------------------------------------------------------------------------------------------------------

def test_what_cannot_be_a_page_is_refused_with_a_sentence(gpt, tmp_path, path):
    for name in ("model.safetensors", "page", "page.htm.txt"):
        with pytest.raises(ValueError, match="path must end in .html, so that a browser opens it, not"):
            gpt.save_page(tmp_path / name)
    with pytest.raises(ValueError, match="title must have at least one character that is seen, not ' '"):
        gpt.save_page(path, title=" ")
    with pytest.raises(TypeError, match="title must be a str, not 5"):
        gpt.save_page(path, title=5)
    with pytest.raises(ValueError, match="title must be valid Unicode"):
        gpt.save_page(path, title="\ud83d")
    with pytest.raises(TypeError, match="history must be a History, not \\[1\\]"):
        gpt.save_page(path, history=[1])
    with pytest.raises(FileNotFoundError, match="cannot write"):
        gpt.save_page(tmp_path / "no folder" / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_model_too_large_or_not_finite_makes_no_page(gpt, path):
    with torch.device("meta"):                          # takes no memory
        huge = GPTModel(GPTConfig(vocab_size=270, d_model=1024, n_layers=8, d_ff=4096))
    assert huge.n_parameters * 2 * 4 / 3 > LARGEST
    bad = GPT(gpt.tokenizer, GPTModel(GPTConfig(vocab_size=270, d_model=8, n_layers=1, d_ff=8)))
    bad.model.norm.bias.data[0] = float("nan")
    wide = GPT(gpt.tokenizer, GPTModel(GPTConfig(vocab_size=270, d_model=256, n_layers=1)))
    wide.model.norm.bias.data[0] = 1e5
    for model, sentence in (
            (GPT(gpt.tokenizer, huge), "too large for a page: it would have 2.. MB, and 200 MB are the most"),
            (bad, "norm.bias has infinite or NaN numbers"),
            (wide, "weights that are not finite in 16 bits, which hold at most 65504")):
        with pytest.raises(ValueError, match=sentence):
            model.save_page(path)
    assert not path.exists()


def test_a_page_is_written_whole_or_not_at_all(gpt, path, monkeypatch):
    gpt.save_page(path, "The old one")
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot write .*größer.html: No space left on device; .* is unchanged"):
        gpt.save_page(path, "The new one")
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


# The command, and the package ---------------------------------------------------------------------------------------------

def test_the_command_writes_the_page_of_a_model(gpt, tmp_path):
    gpt.save(tmp_path / "model.safetensors")
    result = run("page", tmp_path / "model.safetensors", tmp_path / "ours.html", "--title", "Class <7b>")
    assert result.status == 0 and re.search(r"saved .*ours.html \(0\.\d MB\): open it in any browser", result.output)
    page = (tmp_path / "ours.html").read_text(encoding="utf-8")
    assert "<title>Class &lt;7b&gt;</title>" in page
    before = (tmp_path / "model.safetensors").read_bytes()
    result = run("page", tmp_path / "model.safetensors", tmp_path / "model.safetensors")
    assert result.status == 2 and "path must end in .html" in result.output
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_the_shipped_model_makes_a_page_of_at_most_4_3_megabytes(path):
    GPT.pretrained().save_page(path)
    assert path.stat().st_size <= 4_300_000
