"""A model as one web page, in a real browser: the same model as in Python, safe, and usable by everybody."""

import codecs
import http.server
import random
import re
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from browser_page import Opened

from minigpt import GPT, GPTConfig, GPTModel, Tokenizer
from minigpt.progress import History
from minigpt.sampling import next_token_probs

SEEN = "It is a truth universally acknowledged, that a man of 21 in possession of 100 pounds don't want. ☕ Größe naïve.\n\n"
SCREENSHOTS = Path(__file__).with_name("screenshots")
CONFIGS = {
    "learned positions": {},
    "rotary positions, tied": {"positions": "rotary", "tied": True},
    "tied, no feed-forward": {"tied": True, "d_ff": 0},
    "three layers, odd sizes": {"n_layers": 3, "d_model": 27, "n_heads": 3, "d_ff": 13, "context_length": 7},
    "a context of one": {"context_length": 1},
    "rotary, a head of two": {"positions": "rotary", "d_model": 8, "n_heads": 4, "context_length": 33},
}


def small(method: str = "bpe", seed: int = 0, **size) -> GPT:
    """A model with weights that are large enough for opinions."""
    tokenizer = Tokenizer.train(SEEN * 3, 300, method)
    torch.manual_seed(seed)
    model = GPTModel(GPTConfig(**{"d_model": 32, "n_heads": 4, "n_layers": 2, "d_ff": 64, "context_length": 16, **size},
                               vocab_size=tokenizer.vocab_size))
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return GPT(tokenizer, model.eval())


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    gpt, path = GPT.pretrained(), tmp_path_factory.mktemp("page") / "the page, größer.html"
    gpt.save_page(path)
    return gpt, path


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the page of a model."""
    windows = []

    def open_page(gpt, title=None, history=None, **options) -> Opened:
        gpt.save_page(tmp_path / "page.html", title, history)
        windows.append(Opened(browser, tmp_path / "page.html", **options))
        return windows[-1]

    yield open_page
    for window in windows:
        window.__exit__(None)


def assert_same_model(gpt: GPT, page: Opened, tolerance: float = 2e-3):
    """Logits of short, full and overfull contexts; and a greedy text that goes 200 tokens past the context."""
    context = gpt.model.config.context_length
    ids = random.Random(1).choices(range(gpt.model.config.vocab_size), k=context + 3)
    for length in {1, (context + 1) // 2, context, context + 3}:
        with torch.inference_mode():
            expected = gpt.model(torch.tensor([ids[:length][-context:]]))[0, -1]
        torch.testing.assert_close(torch.tensor(page.logits(ids[:length])), expected, atol=tolerance, rtol=0)
    for prompt in ("", "It is a truth"):
        expected = gpt.generate(prompt, context + 200, temperature=0)
        assert page.generate(prompt, maxNewTokens=context + 200, temperature=0) == expected


# The same model ---------------------------------------------------------------------------------------------------------

def test_the_shipped_model_is_the_same_in_the_page(browser, shipped):
    gpt, path = shipped
    with Opened(browser, path) as page:
        assert_same_model(gpt, page)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_of_every_configuration_is_the_same_in_the_page(opened, name):
    gpt = small(**CONFIGS[name])
    assert_same_model(gpt, opened(gpt), tolerance=1e-4)


@pytest.mark.parametrize("method", ["bpe", "substring", "bytes"])
def test_a_model_of_every_kind_of_tokenizer_is_the_same_in_the_page(opened, method):
    gpt = small(method, positions="rotary")
    page = opened(gpt)
    assert_same_model(gpt, page, tolerance=1e-4)
    texts = strings(300)
    assert page.encode(texts) == [gpt.tokenizer.encode(text) for text in texts]


def strings(count: int) -> list[str]:
    """Texts of all scripts, with what is hard about text: marks, digits, emoji, lone returns, very long words."""
    chance = random.Random(0)
    scripts = [(0x20, 0x7e), (0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x4ff), (0x590, 0x5ff), (0x600, 0x6ff),
               (0x900, 0x97f), (0xe00, 0xe7f), (0x1100, 0x11ff), (0x2000, 0x206f), (0x2150, 0x218f), (0x3040, 0x30ff),
               (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0xfe00, 0xfeff), (0x1d7ce, 0x1d7ff), (0x1f300, 0x1faff), (0xe0000, 0xe01ef)]
    marks = [" ", "  ", "\n", "\n\n\n\n\n\n", "\r", "\r\n", "\t", "'", "’", "_", "1", "٣", "²", "Ⅷ", "\u00a0", "\u200d", "\x1c",
             "\x85", "\ufeff", "\x00", "the", "It is a truth", "don’t", "e\u0301", "👩\u200d🚀", "👍🏽"]
    texts = ["", " " * 70, "a" * 70_000, "é" * 100, "1" * 100, "-" * 100, "\n" * 100, "🙂" * 100, " \n" * 50, "x y" * 30_000]
    while len(texts) < count:
        low, high = chance.choice(scripts)
        pieces = [chr(chance.randint(low, high)) if chance.random() < 0.6 else chance.choice(marks)
                  for _ in range(chance.randint(1, 60))]
        texts.append("".join(pieces))
    return texts


def test_2000_strings_of_all_scripts_have_the_same_ids(browser, shipped):
    gpt, path = shipped
    texts = strings(2000)
    with Opened(browser, path) as page:
        for text, ids in zip(texts, page.encode(texts), strict=True):
            assert ids == gpt.tokenizer.encode(text), ascii(text[:200])


def joints(word_rule: str) -> Tokenizer:
    """A vocabulary that shows what a character is taken for: its last byte merges with a letter, a digit, a sign or a line
    break behind it, but only within a word."""
    merges = [(byte, ord(behind)) for behind in "a1-\n" for byte in range(256)]
    vocab = [bytes([byte]) for byte in range(256)]
    return Tokenizer("bpe", vocab + [vocab[left] + vocab[right] for left, right in merges], merges, word_rule)


CHECKSUMS = """blocks => blocks.map(([start, end]) => {
    let text = "";
    for (let i = start; i < end; i++) { const c = String.fromCodePoint(i); text += `${c}a${c}1${c}-${c}\\n`; }
    return crc32(minigpt.encode(text).join(","));
})"""


@pytest.mark.parametrize("word_rule", ["letters", "letters and marks"])
def test_every_character_is_to_the_page_what_it_is_to_python(opened, word_rule):
    """Of the planes in which there are none yet, or everybody's own, the first 2,048."""
    tokenizer = joints(word_rule)
    page = opened(GPT(tokenizer, GPTModel(GPTConfig(vocab_size=tokenizer.vocab_size, d_model=4, n_heads=1, d_ff=0))))
    blocks = [(start, start + 2048) for start in range(0, sys.maxunicode + 1, 2048) if not 0xd800 <= start < 0xe000
              and (start % 0x10000 == 0 or start < 0x40000 or 0xe0000 <= start < 0xe1000)]
    found = page.call(CHECKSUMS, blocks)                # the page makes the texts itself: to send them takes minutes
    for (start, end), checksum in zip(blocks, found, strict=True):
        text = "".join(f"{c}a{c}1{c}-{c}\n" for c in map(chr, range(start, end)))
        expected = zlib.crc32(",".join(map(str, tokenizer.encode(text))).encode())
        assert int(checksum, 16) == expected, f"among the characters from U+{start:04X} on"


@pytest.mark.parametrize("word_rule", ["letters", "letters and marks"])
def test_strings_of_all_scripts_have_the_same_ids_by_either_rule(opened, word_rule):
    tokenizer = joints(word_rule)
    page = opened(GPT(tokenizer, GPTModel(GPTConfig(vocab_size=tokenizer.vocab_size, d_model=4, n_heads=1, d_ff=0))))
    texts = strings(500)
    for text, ids in zip(texts, page.encode(texts), strict=True):
        assert ids == tokenizer.encode(text), ascii(text[:200])


def test_tokens_that_reach_across_spaces_as_a_reference_vocabulary_has_them(opened, tmp_path):
    tokens = [bytes([byte]) for byte in range(255, -1, -1)] + [b"of the", b"", b"of", b" a ", b"of", "é ".encode()]
    (tmp_path / "reference.vocab").write_bytes(b"".join(bytes([len(token)]) + token for token in tokens))
    tokenizer = Tokenizer.load(tmp_path / "reference.vocab")
    page = opened(GPT(tokenizer, GPTModel(GPTConfig(vocab_size=len(tokens), d_model=4, n_heads=1, d_ff=0))))
    texts = ["of the of a café of them", "a" * 70_000 + "of the", *strings(100)]
    assert page.encode(texts) == [tokenizer.encode(text) for text in texts]


def test_bytes_that_are_no_text_are_shown_as_python_shows_them(opened):
    gpt = small("bytes")
    chance = random.Random(2)
    page = opened(gpt)
    for _ in range(50):
        ids = [chance.choice([0xef, 0xbb, 0xbf, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x99, 0x82, 0xed, 0xa0, 0xc0, 0xff, 65])
               for _ in range(40)] + [65]               # so that nothing is left unfinished
        shown = page.call("ids => { const decode = new Tokenizer(JSON.parse(partText('facts')).tokenizer).decoder(); "
                          "return ids.map(decode).join('') }", ids)
        assert shown == codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(ids))


def test_probabilities_are_the_same_after_temperature_top_k_and_top_p(browser, shipped):
    torch.manual_seed(0)
    logits = torch.cat([3 * torch.randn(6, 50), torch.tensor([[2.0, 1.0] * 25, [0.0] * 50]),
                        torch.tensor([[0.52, 0.31, 0.17] + [1e-9] * 47]).log()])
    settings = [(0, None, None), (1, None, None), (0.3, 5, None), (1.7, None, 0.9), (1, 20, 0.5), (1e-40, 3, 0.2), (1, None, 0.8),
                (1, 1, None), (2, 1000, 1), (0.8, None, 1e-6)]
    with Opened(browser, shipped[1]) as page:
        for temperature, top_k, top_p in settings:
            expected = next_token_probs(logits, temperature, top_k, top_p)
            found = page.call("([rows, settings]) => rows.map(row => [...nextTokenProbs(Float32Array.from(row), settings)])",
                              [logits.tolist(), {"temperature": temperature, "topK": top_k, "topP": top_p}])
            torch.testing.assert_close(torch.tensor(found, dtype=torch.float32), expected, atol=1e-4, rtol=0)


def test_what_is_drawn_comes_as_often_as_its_probability(browser, shipped):
    with Opened(browser, shipped[1]) as page:
        drawn = page.call("""probs => Array.from({length: 4000}, (_, seed) =>
            draw(Float32Array.from(probs), randomNumbers(seed)()))""", [0.5, 0, 0.3, 0.2, 0])
    assert [round(drawn.count(i) / 4000, 1) for i in range(5)] == [0.5, 0, 0.3, 0.2, 0]


def test_equal_seeds_give_equal_texts_and_other_seeds_others(browser, shipped):
    with Opened(browser, shipped[1]) as page:
        texts = [page.generate("Emma", seed=seed, maxNewTokens=30) for seed in (1, 1, 2, 2 ** 32 + 1, 2 ** 53 - 1)]
        assert texts[0] == texts[1] and len(set(texts)) == 4
        assert page.generate("Emma", maxNewTokens=30) != page.generate("Emma", maxNewTokens=30)


@pytest.mark.parametrize("call, sentence", [
    ("minigpt.encode('half \\ud83d')", "text must be valid Unicode"),
    ("minigpt.encode(5)", "text must be a string, not 5"),
    ("minigpt.logits([])", "ids must be a list of one or more whole numbers from 0 to 3071, not \\[\\]"),
    ("minigpt.logits([3072])", "ids must be .*, not \\[3072\\]"),
    ("minigpt.generate('a', {temperature: -1})", "temperature must be a number of at least 0, not -1"),
    ("minigpt.generate('a', {topK: 0})", "topK must be a whole number of at least 1, or null, not 0"),
    ("minigpt.generate('a', {topP: 1.5})", "topP must be .*, not 1.5"),
    ("minigpt.generate('a', {seed: 0.5})", "seed must be .*, not 0.5"),
    ("minigpt.generate('a', {maxNewTokens: '9'})", "maxNewTokens must be .*, not \"9\""),
])
def test_a_slip_is_answered_with_a_sentence(browser, shipped, call, sentence):
    with Opened(browser, shipped[1]) as page:
        answer = page.page.evaluate(f"(async () => {call})().then(() => 'nothing', error => error.message)")
        assert re.search(sentence, answer), answer


# What a person does ------------------------------------------------------------------------------------------------------

def until(page: Opened, condition, what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s it is not true that {what}"
        page.page.wait_for_timeout(20)


def bars(page: Opened, table: str = "#bars") -> list[tuple[str, str]]:
    rows = page.page.locator(f"{table} tbody tr").all()
    return [(row.locator("th").inner_text(), row.locator(".share").inner_text()) for row in rows]


def test_write_streams_the_text_that_generate_returns(browser, shipped):
    with Opened(browser, shipped[1]) as page:
        page.page.fill("#prompt", "Emma was")
        page.page.fill("#seed", "7")
        page.page.get_by_role("button", name="Write").click()
        until(page, lambda: page.page.locator("#stop").is_disabled(), "the text is written")
        expected = page.generate("Emma was", maxNewTokens=100, temperature=0.8, seed=7)
        assert page.page.locator("#written").text_content() == expected
        assert page.page.locator("#given").text_content() == "Emma was"
        assert page.page.get_by_role("status").text_content() == f"Written: {expected}"         # once, when it is whole
        assert page.page.locator("#progress").inner_text().startswith("100 tokens, ")


def test_stop_ends_it_at_once_and_keeps_what_is_there(browser, shipped):
    with Opened(browser, shipped[1]) as page:
        page.page.locator("#length").press("End")
        page.page.get_by_role("button", name="Write").press("Enter")
        until(page, lambda: page.page.locator("#written").text_content(), "something is written")
        page.page.get_by_role("button", name="Stop").press("Enter")
        kept = page.page.locator("#written").text_content()
        assert page.page.locator("#stop").is_disabled()
        assert page.page.evaluate("document.activeElement.id") == "write"       # the keyboard is not left on a dead button
        page.page.wait_for_timeout(300)
        assert page.page.locator("#written").text_content() == kept
        assert int(page.page.locator("#progress").inner_text().split()[0]) < 400


def test_write_again_gives_up_the_text_before(browser, shipped):
    with Opened(browser, shipped[1]) as page:
        for prompt in ("Emma", "Anne"):
            page.page.fill("#prompt", prompt)
            page.page.locator("#controls").evaluate("form => form.requestSubmit()")
        until(page, lambda: page.page.locator("#stop").is_disabled(), "the text is written")
        assert page.page.locator("#written").text_content() == page.generate("Anne", maxNewTokens=100, seed=1)


def test_the_bars_follow_the_sliders_and_the_prompt(browser, shipped):
    gpt, path = shipped
    with Opened(browser, path) as page:
        def expected(prompt, **settings):
            order, _ = gpt.next_token_probs(prompt)
            probabilities = dict(zip(*gpt.next_token_probs(prompt, **settings)))
            shares = [float(probabilities[token]) for token in order[:10]]
            return [f"{share:.3f}" if share else "0 (cut)" for share in shares]

        def shown():
            return [share for _, share in bars(page)]

        page.page.fill("#prompt", "It is a truth universally")
        until(page, lambda: shown() == expected("It is a truth universally", temperature=0.8), "the bars are the prompt's")
        page.page.locator("#temperature").press("Home")
        assert shown() == ["1.000"] + ["0 (cut)"] * 9
        for _ in range(30):
            page.page.locator("#temperature").press("ArrowRight")
        page.page.locator("#top-k").press("ArrowLeft")
        page.page.locator("#top-k").press("ArrowLeft")
        for _ in range(4):
            page.page.locator("#top-k").press("ArrowLeft")
        assert [page.page.locator(f"#{name}-value").inner_text() for name in ("temperature", "top-k")] == ["1.50", "3"]
        assert page.page.locator("#top-k").get_attribute("aria-valuetext") == "3"
        assert shown() == expected("It is a truth universally", temperature=1.5, top_k=3)
        page.page.locator("#top-k").press("End")
        page.page.locator("#top-p").press("Home")
        assert shown() == expected("It is a truth universally", temperature=1.5, top_p=0.05)


def test_the_tokens_of_the_prompt_and_what_each_head_looks_at(browser, shipped):
    gpt, path = shipped
    with Opened(browser, path) as page:
        page.page.fill("#prompt", "She was happy 🙂\n")
        tokens = page.page.get_by_role("radio")
        until(page, lambda: tokens.last.inner_text() == "⏎", "the prompt was read")
        assert tokens.all_inner_texts()[:3] == ["She", "␣was", "␣happy"] and "⟨F0⟩" in tokens.all_inner_texts()
        page.page.locator("#layer").select_option("2")
        page.page.locator("#head").select_option("3")
        tokens.last.press("Home")
        assert bars(page, "#looks") == [("She (itself)", "1.000")]
        tokens.first.press("ArrowRight")
        assert tokens.nth(1).get_attribute("aria-checked") == "true"
        weights = gpt.attention_weights("She was happy 🙂\n")[1, 2, 1]
        found = dict(bars(page, "#looks"))
        assert found == {"She (1 back)": f"{weights[0]:.3f}", "␣was (itself)": f"{weights[1]:.3f}"}
        most = max(found, key=found.get)
        assert f"␣was, looks most at {most}" in page.page.locator("#map").get_attribute("aria-label")


def test_an_empty_prompt_and_one_longer_than_the_context(browser, shipped):
    gpt, path = shipped
    with Opened(browser, path) as page:
        page.page.fill("#prompt", "")
        until(page, lambda: page.page.get_by_role("radio").all_inner_texts() == ["⏎"], "it begins from a line break")
        long = "a truth universally acknowledged " * 30
        page.page.fill("#prompt", long)
        until(page, lambda: page.page.get_by_role("radio").count() == 64, "its last 64 tokens are shown")
        assert "64 of the 64 tokens" in page.page.locator("#cut").inner_text()
        page.page.get_by_role("button", name="Write").click()
        until(page, lambda: page.page.locator("#stop").is_disabled(), "the text is written")
        shown = page.page.locator("#given").text_content()
        assert shown.startswith("… ") and long.endswith(shown[2:]) and len(shown) == 602


def test_a_model_of_bytes_with_one_layer_and_no_facts_is_a_page_too(opened):
    page = opened(small("bytes", n_layers=1, d_ff=0))
    assert page.page.locator("#layer option").count() == 1
    assert page.page.get_by_role("radio").count() > 0
    assert not page.page.locator("#curve").is_visible() and "has read" not in page.page.locator("#about").inner_text()


def test_who_it_is(opened):
    gpt = GPT.from_text(SEEN * 30, 280, "bpe", d_model=16, n_heads=2, n_layers=1, d_ff=16, context_length=8)
    history = gpt.train(steps=7, batch_size=2, progress=False)
    history.train_loss[3] = float("nan")
    page = opened(gpt, "Class 7b", history)
    facts = page.page.locator("#about").inner_text()
    assert page.page.get_by_role("heading", level=1).inner_text() == page.page.title() == "Class 7b"
    for fact in (f"{gpt.model.n_parameters:,} numbers: 1 layer of 2 heads, 16 channels", "8 tokens",
                 "280 tokens, byte-pair merges",
                 f"{gpt.training_text.n_bytes:,} bytes", "7 steps", f"{history.val_loss[-1]:.3f} nats per byte"):
        assert fact in facts
    curve = page.page.locator("#curve svg")
    assert f"from {history.train_loss[0]:.2f} to {history.train_loss[-1]:.2f}" in curve.get_attribute("aria-label")
    assert len(curve.locator("polyline.training").get_attribute("points").split()) == 6
    assert curve.locator("rect").count() == len(history.val_loss)


def test_a_history_of_one_step_and_an_empty_one(opened):
    page = opened(small(), history=History(steps=[1], train_loss=[2.5]))
    label = page.page.locator("#curve svg").get_attribute("aria-label")
    assert label == "The training loss went from 2.50 to 2.50 nats per byte."
    assert not opened(small(), history=History()).page.locator("#curve").is_visible()


# Safe --------------------------------------------------------------------------------------------------------------------

HOSTILE = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!-- <script>", "--> ]]> </title></style>",
           "\u202emoc.live\u202c", "&lt;b&gt; &amp;", "$facts ${title} {title} %s \\ \" '", "\u2028\u2029\x07", "𝔊" * 300]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_somebody_named_is_text_and_never_markup(opened, text):
    gpt = small()
    gpt.about.text = text
    page = opened(gpt, title=f"T {text} T", viewport={"width": 360, "height": 640})
    assert page.page.locator("#title").text_content() == f"T {text} T"
    assert text in page.page.locator("#about").text_content()
    page.page.fill("#prompt", text)
    page.page.get_by_role("button", name="Write").click()
    until(page, lambda: page.page.locator("#stop").is_disabled(), "the text is written")
    assert page.page.locator("#given").text_content() == text
    assert page.page.locator("img").count() == 0
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_right_to_left_override_turns_nothing_but_itself(opened):
    gpt = small()
    gpt.about.text = "\u202eabc"
    page = opened(gpt, title="\u202eabc")
    page.page.fill("#prompt", "\u202eabc")
    page.page.get_by_role("button", name="Write").click()
    for parent, child in (("#text", "#given"), ("#about dd", "bdi")):
        assert page.page.locator(f"{parent} {child}").first.evaluate("e => getComputedStyle(e).unicodeBidi") == "isolate"


def test_half_a_character_in_the_prompt_is_taken_for_an_unknown_one(opened):
    page = opened(small())
    page.page.evaluate("""() => { const box = document.getElementById('prompt'); box.value = 'a\\ud83d';
                          box.dispatchEvent(new Event('input')); }""")
    page.page.get_by_role("button", name="Write").click()
    until(page, lambda: page.page.locator("#stop").is_disabled(), "the text is written")
    assert page.page.locator("#given").text_content() == "a\ufffd"


@pytest.fixture
def server():
    """A server on this computer, what it serves beside a script for every other path, and what it was asked for."""
    served, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = served.get(self.path)
            if content is None:
                asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript" if content is None else "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(b"window.foreign = true" if content is None else content)
        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", served, asked
    server.shutdown()


ESCAPES = """async server => {
    const tried = [() => fetch(server + '/fetch'), () => navigator.sendBeacon(server + '/beacon', 'x'),
        () => new Worker(URL.createObjectURL(new Blob([`fetch("${server}/worker")`]))),
        () => new EventSource(server + '/events'), () => new WebSocket(server.replace('http', 'ws') + '/socket')];
    for (const attempt of tried) try { await attempt(); } catch {}
    const put = (name, values) => document.body.append(Object.assign(document.createElement(name), values));
    put('img', {src: server + '/image'}); put('script', {src: server + '/script'}); put('iframe', {src: server + '/frame'});
    put('script', {textContent: 'window.injected = true'}); put('audio', {src: server + '/audio'});
    put('link', {rel: 'stylesheet', href: server + '/style'}); put('object', {data: server + '/object'});
    put('div', {innerHTML: `<p style="background: url(${server}/background)" onclick="window.injected = true">x</p>`});
    document.body.lastChild.firstChild.click();
    const form = Object.assign(document.createElement('form'), {action: server + '/form', method: 'post', target: 'elsewhere'});
    document.body.append(form); form.submit();
    await new Promise(resolve => setTimeout(resolve, 500));
    return !!window.injected;
}"""


def test_the_page_runs_no_script_but_its_own_and_connects_to_nowhere(browser, server, tmp_path):
    address, served, asked = server
    small().save_page(tmp_path / "page.html")
    served.update({"/ours": (tmp_path / "page.html").read_bytes(), "/other": b"<!doctype html><title>no policy</title><body>"})
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(address + "/ours")
        page.evaluate("minigpt.ready")
        assert page.evaluate(ESCAPES, address) is False
        assert asked == []
        page.goto(address + "/other")                               # where nothing forbids them, the attempts do work
        assert page.evaluate(ESCAPES, address) is True
        deadline = time.monotonic() + 60
        while not {"/fetch", "/worker", "/image", "/script", "/frame", "/style", "/form"} <= set(asked):
            assert time.monotonic() < deadline, asked
            page.wait_for_timeout(50)


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) >= 1
    return text.replace(old, new, 1)


DAMAGE = {
    "a weight": lambda page: re.sub(r'(?<=data-crc32="........">.{30}).', lambda m: "A" if m[0] != "A" else "B", page),
    "the checksum": lambda page: re.sub(r'data-crc32=".', lambda m: 'data-crc32="' + ("0" if m[0][-1] != "0" else "1"), page),
    "a fact": lambda page: changed(page, '"d_model": ', '"d_model": 1'),
    "the vocabulary": lambda page: changed(page, '"vocab": ["\\u0000', '"vocab": ["\\u0001'),
    "the style": lambda page: changed(page, "--paper: #ffffff", "--paper: #000000"),
    "what it says": lambda page: changed(page, "Let it write", "Let it wrote"),
    "the first script": lambda page: changed(page, "exponent - 15", "exponent - 14"),
    "the last script": lambda page: changed(page, "isWhole(topK, 1)", "isWhole(topK, 0)"),
    "the policy": lambda page: changed(page, "script-src 'sha256-", "script-src 'sha256-0"),
    "cut in the middle": lambda page: page[:len(page) // 2],
    "cut near the end": lambda page: page[:-400],
    "cut in the scripts": lambda page: page[:page.index("class GPTModel")],
    "a missing line": lambda page: re.sub(r'(data-crc32="........">).+\n', r"\1", page),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_page_says_that_it_is_damaged(browser, tmp_path, kind):
    path = tmp_path / "page.html"
    small().save_page(path)
    whole = path.read_bytes().decode()
    damaged = DAMAGE[kind](whole)
    assert damaged != whole
    path.write_bytes(damaged.encode())
    with Opened(browser, path, ready=False) as page:
        page.page.wait_for_timeout(300)
        assert "damaged" in page.page.locator("#notice").inner_text()
        assert not page.page.locator("#write").is_visible()


def test_line_ends_that_a_program_changed_on_the_way_do_no_damage(browser, tmp_path):
    path = tmp_path / "page.html"
    small().save_page(path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with Opened(browser, path) as page:
        assert page.page.locator("#write").is_visible() and page.page.locator("#notice").count() == 0


# Usable by everybody -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_axe_finds_nothing_and_nothing_is_cut_off(opened, width, scheme):
    gpt = GPT.from_text(SEEN * 30, 280, "bpe", d_model=16, n_heads=2, n_layers=2, d_ff=16, context_length=32)
    history = gpt.train(steps=20, batch_size=2, progress=False)
    page = opened(gpt, "Class 7b: Größe", history, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.page.get_by_role("button", name="Write").click()
    until(page, lambda: page.page.locator("#stop").is_disabled(), "the text is written")
    found = Axe().run(page.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]})
    assert not found.response["violations"], found.generate_report()
    assert page.page.evaluate("document.documentElement.scrollWidth") == width
    SCREENSHOTS.mkdir(exist_ok=True)
    page.page.screenshot(path=SCREENSHOTS / f"page-{width}-{scheme}.png", full_page=True)


def test_everything_is_reached_by_keyboard(opened):
    page = opened(small())
    reached = []
    page.page.evaluate("document.activeElement.blur()")
    for _ in range(12):
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate("document.activeElement.id || document.activeElement.getAttribute('role')"))
    assert reached[:10] == ["prompt", "temperature", "top-k", "top-p", "length", "seed", "write", "radio", "layer", "head"]


def test_it_can_be_read_at_twice_the_size_and_in_the_systems_own_colours(opened):
    page = opened(small(), viewport={"width": 320, "height": 640}, forced_colors="active")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 320
    bar = page.page.locator("#bars .bar").first
    assert bar.evaluate("e => getComputedStyle(e).backgroundColor") != page.page.evaluate(
        "getComputedStyle(document.body).backgroundColor")
