"""Attention: against torch's own three, with the same weights; causality to the last bit; the key/value cache; dropout."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from minigpt import MultiHeadAttention, attention, causal_mask
from minigpt.self_attention import KeyValueCache, rotate, rotations

D_MODEL, N_HEADS, T = 16, 4, 8


@pytest.fixture
def layer():
    torch.manual_seed(1)
    return MultiHeadAttention(D_MODEL, N_HEADS)


def stream(batch=2, length=T, seed=0):
    return torch.randn(batch, length, D_MODEL, generator=torch.Generator().manual_seed(seed))


# The mask -----------------------------------------------------------------------------------------------------------

def test_a_position_may_look_at_itself_and_those_before_it():
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert causal_mask(3).dtype == torch.bool


@pytest.mark.parametrize("length", [0, 1, 2, 7])
def test_the_mask_has_a_row_and_a_column_for_each_position(length):
    mask = causal_mask(length)
    assert mask.shape == (length, length)
    assert all(mask[i, j] == (j <= i) for i in range(length) for j in range(length))


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), None])
def test_the_mask_is_on_the_device_that_was_asked_for(device):
    assert causal_mask(2, device).device == torch.device("cpu")


# The formula --------------------------------------------------------------------------------------------------------

def test_two_tokens_by_hand():
    q, k = torch.tensor([[1.0, 0.0], [0.0, math.sqrt(2) * math.log(3)]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    v = torch.tensor([[4.0, 0.0], [0.0, 8.0]])
    out, weights = attention(q, k, v, causal_mask(2))
    # token 1 sees scores 0 and log 3 once they are divided by sqrt(2): the weights are 1 : 3
    assert torch.allclose(weights, torch.tensor([[1.0, 0.0], [0.25, 0.75]]))
    assert torch.allclose(out, torch.tensor([[4.0, 0.0], [1.0, 6.0]]))


@given(batch=st.integers(1, 2), heads=st.integers(1, 3), queries=st.integers(1, 5), keys=st.integers(1, 5),
       d_head=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_formula_equals_torchs_for_any_mask(batch, heads, queries, keys, d_head, seed):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, heads, queries, d_head, generator=generator) * 3
    k, v = torch.randn(2, batch, heads, keys, d_head, generator=generator) * 3
    mask = torch.rand(batch, 1, queries, keys, generator=generator) < 0.5
    mask[..., 0] = True
    out, weights = attention(q, k, v, mask)
    assert torch.allclose(out, F.scaled_dot_product_attention(q, k, v, attn_mask=mask), atol=1e-5)
    assert torch.allclose(weights.sum(-1), torch.ones(batch, heads, queries))
    assert not weights[~mask.expand_as(weights)].any()
    assert weights.shape == (batch, heads, queries, keys)


def test_large_scores_do_not_overflow():
    q = k = torch.full((1, 1, 2, 2), 1e4)
    out, weights = attention(q, k, torch.eye(2)[None, None], causal_mask(2))
    assert weights.isfinite().all() and torch.allclose(weights[0, 0, 1], torch.tensor([0.5, 0.5]))


def test_the_formula_has_the_right_gradient():
    q, k, v = (torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True) for _ in range(3))
    assert torch.autograd.gradcheck(lambda *qkv: attention(*qkv, causal_mask(3)), (q, k, v))


# The layer ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n_heads", [1, 2, 4, 16])
def test_the_layer_equals_torchs_with_the_same_weights(n_heads):
    torch.manual_seed(2)
    ours, theirs = MultiHeadAttention(D_MODEL, n_heads), nn.MultiheadAttention(D_MODEL, n_heads, batch_first=True)
    with torch.no_grad():
        ours.projection.bias.normal_()
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(ours.projection.weight)
        theirs.out_proj.bias.copy_(ours.projection.bias)
    x = stream()
    wanted, wanted_weights = theirs(x, x, x, attn_mask=~causal_mask(T), average_attn_weights=False)
    out, weights = ours.with_weights(x)
    assert torch.allclose(ours(x), wanted, atol=1e-6)
    assert torch.allclose(out, wanted, atol=1e-6)
    assert torch.allclose(weights, wanted_weights, atol=1e-6)
    assert weights.shape == (2, n_heads, T, T)


@given(batch=st.integers(1, 3), length=st.integers(1, T), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_fused_path_equals_the_one_with_weights(batch, length, seed):
    torch.manual_seed(seed)
    layer, x = MultiHeadAttention(D_MODEL, N_HEADS), stream(batch, length, seed)
    out, weights = layer.with_weights(x)
    assert torch.allclose(layer(x), out, atol=1e-6)
    assert torch.allclose(weights.sum(-1), torch.ones(batch, N_HEADS, length))


@pytest.mark.parametrize("path", [lambda layer, x: layer(x), lambda layer, x: layer.with_weights(x)[0]],
                         ids=["fused", "with_weights"])
def test_a_changed_future_token_leaves_the_past_bit_equal(layer, path):
    x = stream()
    before = path(layer, x)
    for position in range(1, T):
        changed = x.clone()
        changed[:, position:] += 1e3
        after = path(layer, changed)
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.allclose(after[:, position], before[:, position])


def test_the_layer_has_the_right_gradient():
    layer = MultiHeadAttention(4, 2).double()
    x = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    parameters = dict(layer.named_parameters())
    assert torch.autograd.gradcheck(
        lambda *values: torch.func.functional_call(layer, dict(zip(parameters, values, strict=True)), (x.detach(),)),
        tuple(parameters.values()))


def test_one_fused_matrix_without_bias_and_one_projection(layer):
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "qkv.weight": (3 * D_MODEL, D_MODEL), "projection.weight": (D_MODEL, D_MODEL), "projection.bias": (D_MODEL,)}
    assert set(layer.state_dict()) == set(dict(layer.named_parameters()))         # no mask in it


@pytest.mark.parametrize("d_model, n_heads", [(16, 3), (16, 32), (5, 2)])
def test_heads_that_do_not_divide_the_channels_are_refused(d_model, n_heads):
    with pytest.raises(ValueError, match="n_heads must divide d_model"):
        MultiHeadAttention(d_model, n_heads)


# Rotary positions ----------------------------------------------------------------------------------------------------

def test_a_rotation_by_hand():
    turns = rotations(3, 4)[2]
    assert torch.allclose(turns[0], torch.tensor([math.cos(2), math.sin(2)]))
    assert torch.allclose(turns[1], torch.tensor([math.cos(0.02), math.sin(0.02)]))   # the second pair turns 100 times slower
    x = torch.tensor([[0.0] * 4, [1.0, 0.0, 0.0, 1.0]])
    wanted = torch.tensor([[0.0] * 4, [math.cos(1), math.sin(1), -math.sin(0.01), math.cos(0.01)]])
    assert torch.allclose(rotate(x, rotations(2, 4)), wanted, atol=1e-6)


def test_a_rotation_is_a_matrix_for_each_pair_and_changes_no_length():
    x, rotation = torch.randn(2, 3, 5, 8, dtype=torch.float64), rotations(5, 8).double()
    for t in range(5):
        for pair, (cos, sin) in enumerate(rotation[t].tolist()):
            turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
            wanted = x[..., t, 2 * pair:2 * pair + 2] @ turn.T
            assert torch.allclose(rotate(x, rotation)[..., t, 2 * pair:2 * pair + 2], wanted)
    assert torch.allclose(rotate(x, rotation).norm(dim=-1), x.norm(dim=-1))


def test_rotated_queries_and_keys_know_their_distance_alone():
    q, k = torch.randn(2, 1, 8)
    turned_q, turned_k = (rotate(x.expand(30, 8), rotations(30, 8)) for x in (q, k))
    products = turned_q @ turned_k.T
    assert torch.allclose(products[5, 3], products[25, 23], atol=1e-5)
    assert torch.allclose(products.diagonal(-4), products[4, 0].expand(26), atol=1e-4)
    assert not torch.allclose(products[5, 3], products[5, 2], atol=1e-2)


@given(pieces=st.lists(st.integers(1, T), min_size=1, max_size=T).filter(lambda sizes: sum(sizes) <= T))
@settings(max_examples=20, deadline=None)
def test_rotary_positions_act_in_both_paths_and_with_a_cache(pieces):
    torch.manual_seed(0)
    layer, x, length = MultiHeadAttention(D_MODEL, N_HEADS), stream(2, sum(pieces)), sum(pieces)
    rotation, cache, place, outs = rotations(length, D_MODEL // N_HEADS), KeyValueCache(T), 0, []
    q, k, v = layer.qkv(x).view(2, length, 3, N_HEADS, -1).permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(rotate(q, rotation), rotate(k, rotation), v, is_causal=True)
    wanted = layer.projection(out.transpose(1, 2).flatten(2))
    for piece in x.split(pieces, dim=1):
        outs.append(layer(piece, cache, rotation[place:place + piece.shape[1]]))
        place += piece.shape[1]
    assert torch.allclose(torch.cat(outs, dim=1), wanted, atol=1e-5)
    assert torch.allclose(layer(x, rotation=rotation), wanted, atol=1e-5)
    assert torch.allclose(layer.with_weights(x, rotation)[0], wanted, atol=1e-5)
    assert length < 3 or not torch.allclose(layer(x), wanted, atol=1e-4)


# The cache ----------------------------------------------------------------------------------------------------------

@given(pieces=st.lists(st.integers(1, T), min_size=1, max_size=T).filter(lambda sizes: sum(sizes) <= T), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_with_a_cache_any_split_gives_what_the_whole_gives(pieces, seed):
    torch.manual_seed(seed)
    layer, x, cache = MultiHeadAttention(D_MODEL, N_HEADS), stream(2, sum(pieces), seed), KeyValueCache(T)
    outs = [layer(piece, cache) for piece in x.split(pieces, dim=1)]
    assert torch.allclose(torch.cat(outs, dim=1), layer(x), atol=1e-5)
    assert cache.length == sum(pieces)


@pytest.mark.parametrize("capacity", [1, 3])
def test_a_cache_holds_exactly_its_capacity(layer, capacity):
    cache = KeyValueCache(capacity)
    layer(stream(length=capacity), cache)
    assert cache.length == cache.capacity == capacity


def test_a_cache_returns_all_that_it_was_given_in_order():
    pieces = torch.randn(2, 1, 2, 5, 3).split([2, 1, 2], dim=3)
    cache = KeyValueCache(6)
    for n in range(3):
        assert torch.equal(torch.stack(cache.append(*pieces[n])), torch.cat(pieces[:n + 1], dim=3))


# Dropout ------------------------------------------------------------------------------------------------------------

def test_in_eval_mode_dropout_changes_nothing(layer):
    x = stream()
    wanted = layer(x)
    layer.dropout = 0.9
    layer.eval()
    assert torch.equal(layer(x), wanted)
    assert torch.allclose(layer.with_weights(x)[0], wanted, atol=1e-6)


def test_in_training_dropout_zeroes_its_share_of_the_output_and_scales_the_rest(layer):
    x = stream(batch=64)
    with torch.no_grad():
        layer.projection.bias.fill_(1.0)               # no output is 0 by itself
    out = MultiHeadAttention.with_weights(layer, x)[0]
    layer.dropout = 0.25                               # with_weights has no dropout on the weights, only on the output
    dropped = layer.with_weights(x)[0]
    kept = dropped != 0
    assert 0.23 < 1 - kept.float().mean() < 0.27
    assert torch.allclose(dropped[kept], (out / 0.75)[kept], atol=1e-5)


def test_in_training_dropout_acts_on_the_weights_and_elsewhere_not(layer, monkeypatch):
    asked = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention",
                        lambda *args, dropout_p=0.0, **kwargs: (asked.append(dropout_p), fused(*args, **kwargs))[1])
    layer.dropout = 0.25
    layer.train()(stream())
    layer.eval()(stream())
    assert asked == [0.25, 0.0]


def test_dropout_of_the_weights_alone_makes_two_passes_differ(layer):
    x = stream()
    layer.dropout = 0.5
    monkey = torch.manual_seed(0)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(monkey.initial_seed())
    assert torch.equal(layer(x), first)                # and the seed decides
