"""Sampling: the distribution by hand and against a naive reference, the draws, the cache, and what streaming shows."""

import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minigpt import GPT, GPTConfig, GPTModel, Tokenizer
from minigpt.sampling import generate_ids, next_token_probs

SIZE = {"vocab_size": 256, "context_length": 8, "d_model": 16, "n_heads": 4, "n_layers": 2, "d_ff": 16}


def make(seed=0, **changes):
    """A model with weights so large that its distributions are far from uniform, and that every position matters."""
    torch.manual_seed(seed)
    model = GPTModel(GPTConfig(**SIZE | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture
def gpt():
    return GPT(Tokenizer.train("", 256, "bytes"), make())


def naive_probs(logits, temperature, top_k, top_p):
    """The same distribution of one row, a number at a time, as it is defined."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    if temperature == 0:
        return [float(i == order[0]) for i in range(len(logits))]
    masses = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    if top_k is not None:
        masses = [mass if i in order[:top_k] else 0.0 for i, mass in enumerate(masses)]
    if top_p is not None:
        total, so_far = sum(masses), 0.0
        for i in order:
            if so_far >= top_p * total:
                masses[i], mass = 0.0, 0.0
            else:
                mass = masses[i]
            so_far += mass
    return [mass / sum(masses) for mass in masses]


# The distribution ---------------------------------------------------------------------------------------------------

EIGHTS = torch.tensor([[1.0, 4.0, 1.0, 2.0]]).log()                  # probabilities 1/8, 4/8, 1/8, 2/8


@pytest.mark.parametrize("settings_, wanted", [
    ({}, [1, 4, 1, 2]),
    ({"temperature": 0.5}, [1, 16, 1, 4]),                           # a square
    ({"temperature": 2.0}, [1, 2, 1, math.sqrt(2)]),                 # a root
    ({"temperature": 0}, [0, 1, 0, 0]),
    ({"top_k": 1}, [0, 1, 0, 0]),
    ({"top_k": 2}, [0, 4, 0, 2]),
    ({"top_k": 3}, [1, 4, 0, 2]),                                    # of two equals the first
    ({"top_k": 4}, [1, 4, 1, 2]),
    ({"top_k": 1000}, [1, 4, 1, 2]),
    ({"top_p": 0.01}, [0, 1, 0, 0]),                                 # one always stays
    ({"top_p": 0.5}, [0, 1, 0, 0]),                                  # 4/8 reach it
    ({"top_p": 0.51}, [0, 4, 0, 2]),                                 # and here fall short
    ({"top_p": 0.75}, [0, 4, 0, 2]),
    ({"top_p": 0.8}, [1, 4, 0, 2]),
    ({"top_p": 1.0}, [1, 4, 1, 2]),
    ({"top_k": 2, "top_p": 0.7}, [0, 4, 0, 2]),                      # of what top-k left, 4/6 = 0.667 fall short of 0.7
    ({"top_k": 2, "top_p": 0.66}, [0, 1, 0, 0]),                     # and reach 0.66: top-k comes first
    ({"top_k": 3, "top_p": 0.8}, [0, 4, 0, 2]),                      # 6/7 reach 0.8; of all tokens 6/8 would not
    ({"temperature": 0.5, "top_p": 0.75}, [0, 16, 0, 4]),            # 16/22 = 0.727: the temperature comes first
    ({"temperature": 0.5, "top_p": 0.72}, [0, 1, 0, 0]),
], ids=str)
def test_temperature_then_top_k_then_top_p_by_hand(settings_, wanted):
    wanted = torch.tensor([wanted], dtype=torch.float32)
    assert torch.allclose(next_token_probs(EIGHTS, **settings_), wanted / wanted.sum(), atol=1e-6)


def test_greedy_takes_the_first_of_equals():
    assert next_token_probs(torch.tensor([[1.0, 3.0, 3.0, 3.0]]), temperature=0).tolist() == [[0, 1, 0, 0]]


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-45, 1e-300, 5e-324])
@pytest.mark.parametrize("logits", [[0.0, 1.0, 2.0], [-1e30, 1e30, 0.0], [1e-30, 0.0, -1e-30], [-math.inf, 5.0, 1.0]], ids=str)
def test_a_tiny_temperature_has_no_nan_and_ends_near_greedy(temperature, logits):
    probs = next_token_probs(torch.tensor([logits]), temperature, top_p=0.9)
    assert probs.isfinite().all() and probs.sum() == pytest.approx(1)
    assert probs.argmax() == max(range(3), key=logits.__getitem__)


def test_a_huge_temperature_is_uniform():
    assert torch.allclose(next_token_probs(torch.tensor([[1.0, 100.0]]), 1e300), torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_that_are_nearly_nothing_or_huge_still_make_a_distribution(dtype):
    logits = torch.tensor([[1.0, 2.0, float("-inf")]], dtype=dtype)
    for top_p in (1e-8, 1e-46, 5e-324):
        assert next_token_probs(logits, top_p=top_p).tolist() == [[0, 1, 0]]
    assert next_token_probs(logits, temperature=1e308).tolist() == [[0.5, 0.5, 0]]
    assert next_token_probs(logits, temperature=5e-324, top_p=1e-46).tolist() == [[0, 1, 0]]


@given(logits=st.lists(st.integers(-80, 80).map(lambda n: n / 4), min_size=1, max_size=12),
       temperature=st.just(0) | st.floats(0.05, 5), top_k=st.none() | st.integers(1, 14),
       top_p=st.none() | st.floats(0.01, 1))
@example(logits=[0.0, 0.0, 0.0], temperature=1.0, top_k=2, top_p=0.4)
@settings(max_examples=150, deadline=None)
def test_any_distribution_equals_the_naive_one(logits, temperature, top_k, top_p):
    probs = next_token_probs(torch.tensor([logits], dtype=torch.float64), temperature, top_k, top_p)[0]
    wanted = naive_probs(logits, temperature, top_k, top_p)
    if top_p is None or not _on_the_edge(logits, temperature, top_k, top_p):
        assert probs.tolist() == pytest.approx(wanted, abs=1e-9)
    assert probs.sum() == pytest.approx(1)
    assert (probs >= 0).all()
    assert (probs > 0).sum() <= (top_k or len(logits))
    assert probs[logits.index(max(logits))] == probs.max() > 0


def _on_the_edge(logits, temperature, top_k, top_p):
    """Whether rounding decides which token crosses top_p."""
    masses = sorted(naive_probs(logits, temperature, top_k, None), reverse=True)
    return any(abs(sum(masses[:i]) - top_p) < 1e-9 for i in range(len(masses) + 1))


def test_the_rows_of_a_batch_know_nothing_of_each_other():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 3
    probs = next_token_probs(logits, 0.7, 4, 0.8)
    for row in range(5):
        assert torch.allclose(probs[row:row + 1], next_token_probs(logits[row:row + 1], 0.7, 4, 0.8))
    assert probs.shape == (5, 7)


@pytest.mark.parametrize("settings_", [{}, {"temperature": 0}, {"top_k": 5, "top_p": 0.8}], ids=str)
def test_the_tokens_are_along_the_last_dimension_whatever_stands_before_it(settings_):
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0)) * 3
    probs = next_token_probs(logits, **settings_)
    assert torch.allclose(probs.view(6, 7), next_token_probs(logits.view(6, 7), **settings_))
    assert torch.allclose(probs[0, 0], next_token_probs(logits[0, 0], **settings_))


@pytest.mark.parametrize("settings_", [{}, {"temperature": 0}, {"top_k": 1}, {"top_p": 0.1}])
def test_the_logits_are_left_as_they_were(settings_):
    logits = EIGHTS.clone()
    next_token_probs(logits, **settings_)
    assert torch.equal(logits, EIGHTS)


@pytest.mark.parametrize("bad", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]], ids=str)
@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_no_numbers_are_refused(bad, temperature):
    with pytest.raises(ValueError, match="logits must be numbers"):
        next_token_probs(torch.tensor([[1.0, 2.0], bad]), temperature)


# Drawing ------------------------------------------------------------------------------------------------------------

class Fixed(GPTModel):
    """A model that has the same logits for every token, whatever it reads."""

    def __init__(self, logits):
        super().__init__(GPTConfig(vocab_size=len(logits), context_length=8, d_model=4, n_heads=1, n_layers=1, d_ff=0))
        self.logits = torch.tensor(logits)

    def forward(self, ids, cache=None):
        return self.logits.expand(*ids.shape, -1)


@pytest.mark.parametrize("settings_", [{}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.8}], ids=str)
def test_the_draws_have_the_frequencies_of_the_distribution(settings_):
    n, wanted = 1500, next_token_probs(EIGHTS, **settings_)[0].tolist()
    drawn = Counter(generate_ids(Fixed(EIGHTS[0].tolist()), [0], n, **settings_, seed=3))
    for token, probability in enumerate(wanted):
        spread = 4 * math.sqrt(n * probability * (1 - probability))
        assert abs(drawn[token] - n * probability) <= spread
        assert (drawn[token] > 0) == (probability > 0)


def test_draws_know_nothing_of_the_draw_before():
    drawn = list(generate_ids(Fixed([0.0, 0.0]), [0], 1600, seed=1))
    pairs = Counter(zip(drawn, drawn[1:], strict=False))
    assert all(abs(count - 400) < 80 for count in pairs.values()) and len(pairs) == 4


def test_a_token_of_probability_0_is_never_drawn_even_at_the_ends():
    assert set(generate_ids(Fixed([-math.inf, 0.0, 0.0, -math.inf]), [1], 500, seed=0)) == {1, 2}


def test_even_a_share_of_exactly_0_does_not_draw_what_has_probability_0(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.zeros(shape))
    assert list(generate_ids(Fixed([-math.inf, -math.inf, 0.0]), [1], 2, seed=0)) == [2, 2]


@pytest.mark.parametrize("seed", [0, 1, 2 ** 63 - 1])
def test_equal_seeds_give_equal_ids_and_others_others(model, seed):
    first = list(generate_ids(model, [1, 2], 20, seed=seed))
    assert list(generate_ids(model, [1, 2], 20, seed=seed)) == first
    assert list(generate_ids(model, [1, 2], 20, seed=seed ^ 77)) != first


def test_without_a_seed_two_texts_differ_and_the_callers_chance_is_left_alone(model):
    torch.manual_seed(0)
    random.seed(0)
    before = torch.get_rng_state()
    assert list(generate_ids(model, [1], 20)) != list(generate_ids(model, [1], 20))
    list(generate_ids(model, [1], 5, seed=3))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_callers_chance_does_not_decide(model):
    torch.manual_seed(0)
    first = list(generate_ids(model, [1], 20))
    torch.manual_seed(0)
    assert list(generate_ids(model, [1], 20)) != first


# The window and the cache -------------------------------------------------------------------------------------------

def naive_ids(model, ids, n, temperature, seed):
    """The rule as it is written down, without a cache and without haste."""
    T, generator = model.config.context_length, torch.Generator().manual_seed(seed)
    window = list(ids)[-T:]
    for _ in range(n):
        with torch.no_grad():
            probs = next_token_probs(model.eval()(torch.tensor([window]))[:, -1], temperature)[0]
        share = torch.rand(1, 1, generator=generator) * probs.sum()
        token = int((probs.cumsum(0) <= share[0]).sum())
        yield token
        window.append(token)
        if len(window) > T:
            window = window[len(window) - max(1, T // 2):]


@given(length=st.integers(1, 30), context_length=st.integers(1, 9), n_layers=st.integers(1, 2), seed=st.integers(0, 5),
       temperature=st.sampled_from([0, 0.7]), positions=st.sampled_from(["learned", "rotary"]))
@example(length=8, context_length=8, n_layers=2, seed=0, temperature=0, positions="rotary")        # a full window
@example(length=30, context_length=1, n_layers=2, seed=0, temperature=0, positions="learned")
@settings(max_examples=20, deadline=None)
def test_with_the_cache_and_without_it_the_ids_are_those_of_the_rule(length, context_length, n_layers, seed, temperature,
                                                                          positions):
    model = make(seed, context_length=context_length, n_layers=n_layers, positions=positions)
    prompt = [(7 * i * i) % 256 for i in range(length)]
    wanted = list(naive_ids(model, prompt, 20, temperature, seed))
    for use_cache in (True, False):
        assert list(generate_ids(model, prompt, 20, temperature, seed=seed, use_cache=use_cache)) == wanted


def read_by(model, ids, n, **arguments):
    """How many tokens the model reads at each step, and from which place in the window."""
    reads, forward = [], model.forward

    def counting(ids, cache=None):
        reads.append((cache[0].length if cache else 0, ids.shape[1]))
        return forward(ids, cache)

    model.forward = counting
    try:
        assert len(list(generate_ids(model, ids, n, seed=0, **arguments))) == n
    finally:
        del model.forward
    return reads


def test_the_prompt_is_read_once_then_a_token_at_a_time_and_the_window_jumps_to_its_half():
    reads = read_by(make(), [1, 2, 3], 14)
    assert reads == [(0, 3), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1),            # the window is full: 8 tokens are read
                     (0, 4), (4, 1), (5, 1), (6, 1), (7, 1),                    # its last half, read afresh, grows again
                     (0, 4), (4, 1), (5, 1)]


def test_a_prompt_longer_than_the_context_costs_a_context_only():
    reads = read_by(make(), list(range(200)), 3)
    assert reads == [(0, 8), (0, 4), (4, 1)]


def test_the_cost_of_a_token_stays_flat_past_the_context():
    reads = [tokens for _, tokens in read_by(make(), [1], 400)]
    assert sum(reads[200:]) == pytest.approx(sum(reads[8:208]), abs=8)
    assert sum(reads) < 2 * 400
    without = [tokens for _, tokens in read_by(make(), [1], 400, use_cache=False)]
    assert sum(without) > 5 * 400                                               # what the cache is for


def test_no_more_is_computed_than_was_asked_for():
    assert read_by(make(), [1], 0) == []
    assert len(read_by(make(), [1], 1)) == 1


def test_a_token_is_computed_when_it_is_asked_for_and_not_before():
    model, reads = make(), []
    model.register_forward_hook(lambda *_: reads.append(1))
    ids = generate_ids(model, [1], 1000, seed=0)
    assert reads == []
    next(ids)
    next(ids)
    assert len(reads) == 2
    ids.close()
    assert list(ids) == [] and len(reads) == 2


def test_the_callers_list_is_left_as_it_was(model):
    prompt = [1, 2, 3]
    list(generate_ids(model, prompt, 12, seed=0))
    assert prompt == [1, 2, 3]


# Modes --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("training", [True, False])
def test_it_samples_in_eval_mode_without_gradients_and_puts_the_mode_back(training):
    model, seen = make(dropout=0.5).train(training), []
    model.register_forward_hook(lambda module, _, out: seen.append((module.training, out.requires_grad)))
    ids = generate_ids(model, [1], 5, seed=0)
    for _ in ids:
        assert model.training is training and model.blocks[0].training is training      # between two tokens too
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert seen == [(False, False)] * 5


def test_the_mode_is_put_back_when_the_model_fails(monkeypatch):
    model = make().train()
    monkeypatch.setattr(model, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(generate_ids(model, [1], 5))
    assert model.training


@pytest.mark.parametrize("look", [lambda gpt: gpt.next_token_probs("the"), lambda gpt: gpt.attention_weights("the"),
                                  lambda gpt: gpt.generate("the", 3)], ids=["next_token_probs", "attention_weights", "generate"])
def test_looking_at_a_model_in_training_is_in_eval_mode_and_leaves_it_in_training(gpt, look):
    gpt = GPT(gpt.tokenizer, make(dropout=0.5).train())
    seen = []
    for block in gpt.model.blocks:
        block.norm1.register_forward_hook(lambda module, _, out: seen.append((module.training, torch.is_grad_enabled())))
    look(gpt)
    assert set(seen) == {(False, False)} and gpt.model.training


def test_a_model_can_be_trained_right_after_it_has_talked():
    model = make()
    list(generate_ids(model, [1], 3, seed=0))
    model(torch.tensor([[1, 2]])).sum().backward()
    assert model.head.weight.grad is not None


# Text ---------------------------------------------------------------------------------------------------------------

def saying(gpt, monkeypatch, content):
    """The GPT, made to sample these bytes."""
    monkeypatch.setattr("minigpt.gpt.generate_ids", lambda *_: iter(content))
    return gpt


@pytest.mark.parametrize("content, pieces", [
    (b"abc", ["a", "b", "c"]),
    ("é".encode(), ["é"]),
    ("a🙂b".encode(), ["a", "🙂", "b"]),                               # four bytes, one character
    ("e\u0301".encode(), ["e", "\u0301"]),
    ("🙂".encode()[:3], []),                                          # an unfinished end is left out
    (b"a" + "é".encode()[:1], ["a"]),
    (b"a\xffb", ["a", "\ufffd", "b"]),                                # a byte that no character has
    (b"\xc3a", ["\ufffda"]),                                          # a character that does not go on
    (b"\xf0\x9f\xf0\x9f\x99\x82", ["\ufffd", "🙂"]),
    (b"", []),
])
def test_what_streams_is_whole_characters(gpt, monkeypatch, content, pieces):
    assert list(saying(gpt, monkeypatch, content).stream()) == pieces
    assert gpt.generate() == "".join(pieces)


@given(content=st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_bytes_stream_as_what_they_decode_to_but_for_an_unfinished_end(content):
    gpt = GPT(Tokenizer.train("", 256, "bytes"), STILL)
    with pytest.MonkeyPatch.context() as patch:
        pieces = list(saying(gpt, patch, content).stream())
    text, whole = "".join(pieces), content.decode("utf-8", errors="replace")
    unfinished = whole.removeprefix(text)              # of the bytes that are held back, at most 3, each may be one of these
    assert whole.startswith(text) and unfinished in ("", "\ufffd", "\ufffd" * 2, "\ufffd" * 3)
    assert all(pieces)


STILL = make()


@pytest.mark.parametrize("temperature, seed", [(0, None), (0.8, 7)])
@pytest.mark.parametrize("prompt", ["", "the", "é🙂", "a prompt that is far longer than the context of 8 tokens"])
def test_generate_is_the_stream_joined(gpt, prompt, temperature, seed):
    pieces = list(gpt.stream(prompt, 30, temperature, seed=seed))
    assert gpt.generate(prompt, 30, temperature, seed=seed) == "".join(pieces)
    ids = generate_ids(gpt.model, list(prompt.encode() or b"\n"), 30, temperature, seed=seed)
    assert gpt.tokenizer.decode(ids).startswith("".join(pieces))


def test_a_stream_stops_when_nobody_listens(gpt):
    reads = []
    gpt.model.register_forward_hook(lambda *_: reads.append(1))
    stream = gpt.stream("the", 10_000, seed=0)
    assert reads == []
    next(stream)
    n = len(reads)
    stream.close()
    assert len(reads) == n < 20 and list(stream) == []


def test_a_wrong_argument_is_refused_at_once_and_not_at_the_first_token(gpt):
    for call in (lambda: gpt.stream(max_new_tokens=-1), lambda: generate_ids(gpt.model, [1], 5, temperature=-1),
                 lambda: generate_ids(gpt.model, [], 5), lambda: generate_ids(gpt.model, [256], 5)):
        with pytest.raises(ValueError):
            call()


def test_the_next_tokens_are_sorted_and_sum_to_1(gpt):
    tokens, probs = gpt.next_token_probs("the", temperature=0.5)
    assert len(tokens) == len(set(tokens)) == 256 and probs.shape == (256,)
    assert (probs[:-1] >= probs[1:]).all() and probs.sum() == pytest.approx(1)
    logits = gpt.model(torch.tensor([list(b"the")]))[:, -1].detach()
    wanted = next_token_probs(logits, 0.5)[0]
    assert all(probs[rank] == pytest.approx(float(wanted[token[0]]), abs=1e-6) for rank, token in enumerate(tokens))
    assert (gpt.next_token_probs("the", top_k=5)[1] > 0).sum() == 5


def test_the_attention_weights_are_those_of_the_last_tokens_of_the_prompt(gpt):
    prompt = "longer than the context"
    weights = gpt.attention_weights(prompt)
    assert weights.shape == (2, 4, 8, 8)
    assert torch.allclose(weights, gpt.model.attention_weights(torch.tensor([list(prompt[-8:].encode())]))[:, 0])
    assert gpt.attention_weights("").shape == (2, 4, 1, 1)
