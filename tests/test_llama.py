"""The parts of a Llama: each against torch's own, the whole against an implementation that is not ours."""

import pytest
import torch
from torch.nn import functional as F

from minigpt import GPTModel
from minigpt.llama import GroupedHeads, LlamaBlock, LlamaConfig, LlamaModel, RMSNorm, SwiGLU
from minigpt.self_attention import rotations

CONFIG = LlamaConfig(vocab_size=50, context_length=64, d_model=48, n_heads=6, n_layers=3, d_ff=80, n_groups=2,
                     rotary_base=5000.0, norm_eps=1e-4)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = LlamaModel(CONFIG)
    for parameter in model.parameters():                # weights of a size at which every part makes a difference
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval().requires_grad_(False)


def test_rms_norm_is_torchs_own():
    norm, x = RMSNorm(8, eps=1e-3), torch.randn(2, 3, 8) * 0.01
    torch.nn.init.normal_(norm.weight)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (8,), norm.weight, 1e-3))


def test_rms_norm_squares_in_float32_whatever_comes():
    norm, x = RMSNorm(8), torch.full((1, 8), 300.0, dtype=torch.float16)       # 300² is more than float16 holds
    assert norm(x).dtype == torch.float32 and torch.allclose(norm(x), torch.ones(1, 8))
    assert torch.isfinite(norm.half()(x)).all()


def test_swiglu_is_its_formula():
    part, x = SwiGLU(6, 10), torch.randn(2, 3, 6)
    opened, passed = x @ part.gate.weight.T, x @ part.up.weight.T
    torch.testing.assert_close(part(x), (opened * opened.sigmoid() * passed) @ part.down.weight.T)


def test_grouped_heads_are_torchs_own_and_give_their_weights():
    part, x = GroupedHeads(CONFIG), torch.randn(2, 7, 48)
    rotation = rotations(7, 8)
    out, weights = part.with_weights(x, rotation)
    torch.testing.assert_close(part(x, rotation=rotation), out)
    assert weights.shape == (2, 6, 7, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 6, 7))
    assert (weights.triu(1) == 0).all()


def test_a_group_shares_its_keys_and_values():
    part, x = GroupedHeads(CONFIG), torch.randn(1, 5, 48)
    before = part.with_weights(x)[1]
    with torch.no_grad():
        part.qkv.weight[48 + 8:48 + 16] += 1.0          # the keys of group 1
    after = part.with_weights(x)[1]
    changed = (before != after).any(-1).any(-1)[0]      # (H,)
    assert changed.tolist() == [False] * 3 + [True] * 3


def test_the_forward_pass_is_the_one_of_the_notebooks():
    assert LlamaModel.forward is GPTModel.forward


def test_the_cache_changes_nothing_and_holds_the_groups_alone(model):
    ids = torch.randint(50, (2, 20))
    whole, cache = model(ids), model.new_cache()
    pieces = [model(piece, cache) for piece in ids.split((7, 1, 9, 3), dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)
    assert cache[0].keys.shape[1] == CONFIG.n_groups


def test_the_attention_weights_are_those_of_the_model(model):
    ids = torch.randint(50, (2, 9))
    assert model.attention_weights(ids).shape == (3, 2, 6, 9, 9)


def test_the_parameters_are_counted_without_making_them(model):
    counts = CONFIG.parameter_counts()
    assert sum(counts.values()) == model.n_parameters
    assert counts["norms"] == 7 * 48 and counts["head"] == counts["position embedding"] == 0


@pytest.mark.parametrize(("name", "value"), [("n_groups", 4), ("n_groups", 0), ("n_groups", 2.0), ("rotary_base", 0.5),
                                             ("rotary_base", "x"), ("norm_eps", -1.0), ("n_heads", 5)])
def test_a_size_that_cannot_be_is_refused_by_its_name(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        LlamaConfig(**{"d_model": 48, "n_heads": 6, "n_groups": 2, name: value})


def test_a_larger_base_turns_the_last_pair_more_slowly():
    small, large = (rotations(9, 8, base) for base in (100.0, 10_000.0))
    assert torch.equal(small[:, 0], large[:, 0])                     # the first pair turns by one radian a place
    assert (small[1:, -1, 1] > large[1:, -1, 1]).all()


def test_the_whole_is_transformers_llama(model):
    """With the same weights, in the order of channels that it wants: ours turns neighbours, it turns halves."""
    transformers = pytest.importorskip("transformers")
    theirs = reference(transformers, CONFIG, model.state_dict())
    ids = torch.randint(50, (2, 30))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)


def test_a_block_is_a_transformer_block_with_other_parts():
    block, x = LlamaBlock(CONFIG), torch.randn(1, 4, 48)
    middle = x + block.attention(block.norm1(x))
    torch.testing.assert_close(block(x), middle + block.feed_forward(block.norm2(middle)))


def reference(transformers, config: LlamaConfig, weights: dict):
    """transformers' own Llama with our `weights`."""
    H, G, C = config.n_heads, config.n_groups, config.d_model
    d_head = C // H

    def halves(rows, heads):                            # pairs (0, 1), (2, 3), … become (0, d/2), (1, d/2 + 1), …
        return rows.view(heads, d_head // 2, 2, C).transpose(1, 2).reshape(heads * d_head, C)

    theirs = {"model.embed_tokens.weight": weights["token_embedding.weight"], "model.norm.weight": weights["norm.weight"],
              "lm_head.weight": weights["token_embedding.weight"]}
    for i in range(config.n_layers):
        ours, name = f"blocks.{i}.", f"model.layers.{i}."
        q, k, v = weights[ours + "attention.qkv.weight"].split((H * d_head, G * d_head, G * d_head))
        theirs |= {name + "self_attn.q_proj.weight": halves(q, H), name + "self_attn.k_proj.weight": halves(k, G),
                   name + "self_attn.v_proj.weight": v,
                   name + "self_attn.o_proj.weight": weights[ours + "attention.projection.weight"],
                   name + "input_layernorm.weight": weights[ours + "norm1.weight"],
                   name + "post_attention_layernorm.weight": weights[ours + "norm2.weight"]}
        theirs |= {name + f"mlp.{part}_proj.weight": weights[ours + f"feed_forward.{part}.weight"]
                   for part in ("gate", "up", "down")}
    sizes = transformers.LlamaConfig(
        vocab_size=config.vocab_size, hidden_size=C, intermediate_size=config.d_ff, num_hidden_layers=config.n_layers,
        num_attention_heads=H, num_key_value_heads=G, max_position_embeddings=config.context_length,
        rms_norm_eps=config.norm_eps, rope_parameters={"rope_type": "default", "rope_theta": config.rotary_base},
        tie_word_embeddings=True, attn_implementation="eager")
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(sizes)
    model.load_state_dict(theirs, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(sizes)     # its numbers are no weights: made anew, off meta
    return model.eval()
