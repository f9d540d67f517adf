"""The model: against torch's own encoder layer, first loss, causality, gradients, the cache, and what is in a checkpoint."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from minigpt import FeedForward, GPTConfig, GPTModel, TransformerBlock
from minigpt.model import evaluating, is_a_model

SMALL = {"vocab_size": 50, "context_length": 8, "d_model": 16, "n_heads": 4, "n_layers": 2, "d_ff": 24}


def make(seed=0, **changes):
    torch.manual_seed(seed)
    return GPTModel(GPTConfig(**SMALL | changes))


def make_varied(seed=0, **changes):
    """A model whose every weight is far from its start, so that no part of it does nothing."""
    model = make(seed, **changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3).add_(0.1)
    return model


def random_ids(batch=2, length=8, vocab_size=50, seed=0):
    return torch.randint(vocab_size, (batch, length), generator=torch.Generator().manual_seed(seed))


# The configuration --------------------------------------------------------------------------------------------------

def test_the_defaults_are_the_references():
    assert GPTConfig() == GPTConfig(vocab_size=256, context_length=32, d_model=256, n_heads=4, n_layers=1, d_ff=1024, dropout=0.0)


def test_a_configuration_does_not_change():
    with pytest.raises(AttributeError):
        GPTConfig().d_model = 5


@pytest.mark.parametrize("size", [{"vocab_size": 1}, {"context_length": 1}, {"d_model": 1, "n_heads": 1},
                                  {"d_ff": 0}, {"dropout": 0.99}, {"dropout": 0}, {"vocab_size": 1 << 20},
                                  {"context_length": 1 << 16}, {"d_model": 1 << 14, "n_heads": 1 << 14}, {"n_layers": 1000},
                                  {"d_ff": 1 << 16}])
def test_the_smallest_and_the_largest_sizes_are_allowed(size):
    GPTConfig(**size)


@pytest.mark.parametrize("size", [{"vocab_size": 1}, {"context_length": 1}, {"d_model": 1, "n_heads": 1},
                                  {"d_ff": 0}])
def test_the_smallest_models_work(size):
    model = make(**size)
    config = model.config
    T = config.context_length
    ids = torch.zeros(1, T, dtype=torch.int64)
    assert model(ids).shape == (1, T, config.vocab_size)
    assert model.attention_weights(ids).shape == (config.n_layers, 1, config.n_heads, T, T)


# The parts ----------------------------------------------------------------------------------------------------------

def test_the_feed_forward_is_two_linear_layers_with_a_gelu_between():
    layer, x = FeedForward(4, 6), torch.randn(2, 3, 4)
    hidden = x @ layer.expand.weight.T + layer.expand.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    assert torch.allclose(layer(x), hidden @ layer.contract.weight.T + layer.contract.bias, atol=1e-6)
    assert layer.expand.weight.shape == (6, 4)
    assert torch.allclose(layer(x[0, 0]), layer(x)[0, 0], atol=1e-6)          # each token by itself


def test_a_block_equals_torchs_own_encoder_layer_with_the_same_weights():
    torch.manual_seed(3)
    ours = TransformerBlock(GPTConfig(**SMALL))
    theirs = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, activation="gelu", norm_first=True, batch_first=True)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.5)
        copies = {theirs.self_attn.in_proj_weight: ours.attention.qkv.weight,
                  theirs.self_attn.out_proj.weight: ours.attention.projection.weight,
                  theirs.self_attn.out_proj.bias: ours.attention.projection.bias,
                  theirs.linear1.weight: ours.feed_forward.expand.weight, theirs.linear1.bias: ours.feed_forward.expand.bias,
                  theirs.linear2.weight: ours.feed_forward.contract.weight,
                  theirs.linear2.bias: ours.feed_forward.contract.bias,
                  theirs.norm1.weight: ours.norm1.weight, theirs.norm1.bias: ours.norm1.bias,
                  theirs.norm2.weight: ours.norm2.weight, theirs.norm2.bias: ours.norm2.bias}
        for copy, original in copies.items():
            copy.copy_(original)
        theirs.self_attn.in_proj_bias.zero_()
    x = torch.randn(2, 8, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(8)
    wanted = theirs(x, src_mask=mask, is_causal=True)
    assert torch.allclose(ours(x), wanted, atol=1e-5)
    out, weights = ours.with_weights(x)
    assert torch.allclose(out, wanted, atol=1e-5) and weights.shape == (2, 4, 8, 8)


def test_without_d_ff_a_block_has_no_feed_forward_and_no_orphan_norm():
    block = TransformerBlock(GPTConfig(**SMALL | {"d_ff": 0}))
    assert block.feed_forward is None and block.norm2 is None
    assert not any("norm2" in name or "feed_forward" in name for name in block.state_dict())
    x = torch.randn(1, 3, 16)
    assert torch.equal(block(x), x + block.attention(block.norm1(x)))


def test_a_block_has_the_right_gradient():
    block = TransformerBlock(GPTConfig(d_model=4, n_heads=2, d_ff=3)).double()
    assert torch.autograd.gradcheck(block, (torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True),))


def test_every_parameter_of_a_model_gets_a_gradient():
    model = make_varied()
    F.cross_entropy(model(random_ids()).flatten(0, 1), random_ids(seed=1).flatten()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


# The whole ----------------------------------------------------------------------------------------------------------

def test_the_logits_are_those_of_the_formula():
    model, ids = make_varied(), random_ids()
    x = model.token_embedding.weight[ids] + model.position_embedding.weight[torch.arange(8)]
    for block in model.blocks:
        x = block(x)
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    x = x * model.norm.weight + model.norm.bias
    assert torch.allclose(model(ids), x @ model.head.weight.T, atol=1e-4)


@pytest.mark.parametrize("vocab_size, context_length", [(50, 8), (256, 32), (1000, 16)])
def test_the_first_loss_is_nearly_ln_v(vocab_size, context_length):
    model = make(vocab_size=vocab_size, context_length=context_length)
    ids, targets = (random_ids(16, context_length, vocab_size, seed) for seed in (0, 1))
    loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
    assert abs(loss - math.log(vocab_size)) < 0.02


def test_the_weights_start_small_and_the_biases_at_zero():
    model = make(d_model=64, d_ff=64, vocab_size=256)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            assert 0.017 < module.weight.std() < 0.023
        if isinstance(module, nn.Linear) and module.bias is not None:
            assert not module.bias.any()


def test_equal_seeds_make_equal_models():
    assert all(torch.equal(a, b) for a, b in zip(make(5).parameters(), make(5).parameters(), strict=True))
    assert not torch.equal(make(5).head.weight, make(6).head.weight)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_changed_future_token_leaves_earlier_logits_bit_equal(positions):
    model, ids = make_varied(positions=positions), random_ids()
    before = model(ids)
    for position in range(1, 8):
        changed = ids.clone()
        changed[:, position:] = (changed[:, position:] + 1) % 50
        after = model(changed)
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.equal(after[:, position], before[:, position])


def test_the_same_token_at_another_place_has_other_logits():
    logits = make_varied()(torch.full((1, 8), 7))          # with learned positions: rotary ones tell distances alone
    assert all(not torch.allclose(logits[0, i], logits[0, j], atol=1e-3) for i in range(8) for j in range(i))


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_the_order_of_the_tokens_before_matters(positions):
    model, ids = make_varied(n_layers=1, positions=positions), torch.tensor([[1, 2, 3, 4, 5], [2, 1, 3, 4, 5]])
    assert not torch.allclose(*model(ids)[:, -1], atol=1e-3)


def test_rotary_positions_are_no_parameters_and_not_in_the_checkpoint():
    learned, rotary = make(), make(positions="rotary")
    assert learned.n_parameters - rotary.n_parameters == 8 * 16
    assert set(learned.state_dict()) - set(rotary.state_dict()) == {"position_embedding.weight"}


def test_rotary_positions_need_pairs_of_channels_in_each_head():
    for d_model, n_heads in (9, 3), (6, 2):
        with pytest.raises(ValueError, match="positions can be 'rotary' with an even number"):
            GPTConfig(d_model=d_model, n_heads=n_heads, positions="rotary")
    assert GPTConfig(d_model=12, n_heads=3, positions="rotary").d_model == 12


def test_sequences_of_a_batch_know_nothing_of_each_other():
    model, ids = make_varied(), random_ids(3)
    assert torch.allclose(model(ids)[1:2], model(ids[1:2]), atol=1e-5)


def test_one_batch_overfits():
    model, ids = make(), random_ids(4, 9)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(120):
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_the_attention_weights_of_every_layer_are_those_that_the_layer_uses(positions):
    model, ids = make_varied(positions=positions), random_ids()
    weights = model.attention_weights(ids)
    assert weights.shape == (2, 2, 4, 8, 8)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 2, 4, 8))
    x, rotation = model.token_embedding(ids), model.rotation
    if positions == "learned":
        x = x + model.position_embedding.weight[:8]
    for block, of_this_layer in zip(model.blocks, weights, strict=True):
        assert torch.allclose(block.attention.with_weights(block.norm1(x), rotation)[1], of_this_layer, atol=1e-5)
        x = block(x, rotation=rotation)
    assert torch.allclose(model.head(model.norm(x)), model(ids), atol=1e-4)


def test_n_parameters_counts_all_of_them():
    V, T, C, F_ = 50, 8, 16, 24
    block = 2 * C + (3 * C * C) + (C * C + C) + 2 * C + (C * F_ + F_) + (F_ * C + C)
    assert make().n_parameters == V * C + T * C + 2 * block + 2 * C + C * V


@pytest.mark.parametrize("changes", [{}, {"d_ff": 0}, {"positions": "rotary"}, {"tied": True},
                                     {"n_layers": 3, "d_ff": 5}], ids=str)
def test_the_parameters_are_counted_without_making_the_model(changes):
    model, counted = make(**changes), {}
    parts = {"token_embedding": "token embedding", "position_embedding": "position embedding", ".attention.": "attention",
             "feed_forward": "feed-forward", "norm": "norms", "head": "head"}
    for name, parameter in model.named_parameters():
        part = next(part for key, part in parts.items() if key in name)
        counted[part] = counted.get(part, 0) + parameter.numel()
    assert {part: n for part, n in model.config.parameter_counts().items() if n} == counted
    assert set(model.config.parameter_counts()) == set(parts.values())
    assert sum(counted.values()) == model.n_parameters


@pytest.mark.parametrize("changes", [{}, {"positions": "rotary"}, {"tied": True}], ids=str)
def test_a_checkpoint_holds_parameters_alone(changes):
    model = make(**changes)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("changes", [{}, {"positions": "rotary", "tied": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_computes_in_other_precisions_too(changes, dtype):
    model, ids = make(**changes).eval(), random_ids()
    exact = model(ids)
    logits = model.to(dtype)(ids)
    assert logits.dtype == dtype and torch.allclose(logits.float(), exact, atol=0.02)


def test_a_tied_head_is_the_token_embedding():
    tied, untied = make_varied(tied=True), make_varied()
    untied.load_state_dict(tied.state_dict() | {"head.weight": tied.token_embedding.weight})
    assert torch.equal(tied(random_ids()), untied(random_ids()))
    for model in (tied, untied):
        model(random_ids()).logsumexp(-1).sum().backward()
    both = untied.token_embedding.weight.grad + untied.head.weight.grad
    assert torch.allclose(tied.token_embedding.weight.grad, both, atol=1e-4), "it learns from both of its uses"


def test_int32_ids_are_as_good():
    model = make()
    assert torch.equal(model(random_ids().int()), model(random_ids()))


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (1, 0), (0, 3)])
def test_the_logits_have_the_shape_of_the_ids_and_one_more(shape):
    ids = torch.zeros(shape, dtype=torch.int64)
    assert make()(ids).shape == (*shape, 50)
    assert make().attention_weights(ids).shape == (2, shape[0], 4, shape[1], shape[1])


def test_dropout_acts_in_training_and_not_in_eval():
    model, ids = make_varied(dropout=0.5), random_ids()
    plain = make_varied()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(ids), plain(ids)) and torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
    feed_forward = FeedForward(4, 8, dropout=0.25)
    nn.init.ones_(feed_forward.contract.bias)
    share = (feed_forward(torch.zeros(1000, 4)) == 0).float().mean()
    assert 0.2 < share < 0.3


# The cache ----------------------------------------------------------------------------------------------------------

@given(pieces=st.lists(st.integers(1, 8), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) <= 8), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_with_a_cache_any_split_of_the_prompt_gives_the_logits_of_the_whole(pieces, seed):
    model, ids = make_varied(seed, positions=("learned", "rotary")[seed % 2]), random_ids(2, sum(pieces), seed=seed)
    cache = model.new_cache()
    logits = torch.cat([model(piece, cache) for piece in ids.split(pieces, dim=1)], dim=1)
    assert torch.allclose(logits, model(ids), atol=1e-4)


def test_a_new_cache_has_room_for_a_full_context_in_each_layer():
    cache = make(n_layers=3).new_cache()
    assert len(cache) == 3 and len({id(layer) for layer in cache}) == 3
    assert [(layer.capacity, layer.length) for layer in cache] == [(8, 0)] * 3


def test_what_the_cache_holds_counts_as_context():
    model = make()
    cache = model.new_cache()
    model(random_ids(1, 6), cache)
    with pytest.raises(ValueError, match="ids must fit the context of 8 tokens, not 9"):
        model(random_ids(1, 3), cache)
    model(random_ids(1, 2), cache)


def test_what_wraps_a_model_counts_as_a_model():
    class Compiled(nn.Module):                         # as torch.compile makes it, which takes seconds to import
        config = property(lambda self: self.original.config)

    compiled = Compiled()
    compiled.original = make()
    assert is_a_model("model", compiled) is compiled
    with pytest.raises(TypeError, match="model must be a GPTModel"):
        is_a_model("model", nn.Linear(2, 2))


@pytest.mark.parametrize("was_training", [True, False])
def test_a_model_is_in_eval_mode_for_a_while_and_then_as_it_was(was_training):
    model = make().train(was_training)
    with pytest.raises(KeyError):
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            raise KeyError
    assert all(module.training == was_training for module in model.modules())
