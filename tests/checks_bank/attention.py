"""Answers to the exercises of 02_attention."""

import math

import numpy
import torch
from torch.nn import functional as F

from checks_bank.register import right, wrong
from minigpt import attention, causal_mask
from minigpt.classroom.checks import (
    check_attention,
    check_average,
    check_causal_mask,
    check_multi_head,
    check_split_heads,
)

# -------------------------------------------------------------------------------------------------------------- average

@right(check_average)
def average_by_slices(x):
    return torch.stack([x[:i + 1].mean(0) for i in range(len(x))])


@right(check_average)
def average_by_cumulative_sum(x):
    return x.cumsum(0) / torch.arange(1, len(x) + 1)[:, None]


@right(check_average)
def average_by_matrix(x):
    weights = torch.ones(len(x), len(x)).tril()
    return weights / weights.sum(1, keepdim=True) @ x


@right(check_average)
def average_by_softmax(x):
    T = len(x)
    return torch.zeros(T, T).masked_fill(~causal_mask(T), float("-inf")).softmax(-1) @ x


@wrong(check_average, "Your rows are sums")
def sums(x):
    return x.cumsum(0)


@wrong(check_average, "the future is in it")
def average_of_all(x):
    return x.mean(0).repeat(len(x), 1)


@wrong(check_average, "You divide every row by T")
def divided_by_all(x):
    return torch.ones(len(x), len(x)).tril() @ x / len(x)


@wrong(check_average, "the mean of nothing")
def without_the_present_row(x):
    return torch.stack([x[:i].mean(0) for i in range(len(x))])


@wrong(check_average, "leave out the present")
def without_the_present_row_and_nan(x):
    return torch.stack([x[:i].sum(0) / max(1, i) for i in range(len(x))])


@wrong(check_average, "average the future")
def average_of_the_future(x):
    return torch.stack([x[i:].mean(0) for i in range(len(x))])


@wrong(check_average, "average over the channels")
def average_of_channels(x):
    return x.mean(1, keepdim=True).repeat(1, x.shape[1])


@wrong(check_average, "has shape")
def average_of_one(x):
    return x.mean(0)


@wrong(check_average, "no row has seen another")
def nothing_averaged(x):
    return x.clone()


# ---------------------------------------------------------------------------------------------------------- causal mask

right(check_causal_mask)(causal_mask)


@right(check_causal_mask)
def by_comparison(T):
    positions = torch.arange(T)
    return positions[:, None] >= positions[None, :]


@right(check_causal_mask)
def by_loops(T):
    mask = torch.zeros(T, T, dtype=torch.bool)
    for i in range(T):
        mask[i, :i + 1] = True
    return mask


@right(check_causal_mask)
def not_the_upper_triangle(T):
    return ~torch.triu(torch.ones(T, T), diagonal=1).bool()


@right(check_causal_mask)
def by_numpy(T):
    return torch.from_numpy(numpy.tri(T, dtype=bool))


@wrong(check_causal_mask, "the wrong way round")
def inverted(T):
    return torch.ones(T, T, dtype=torch.bool).triu(1)


@wrong(check_causal_mask, "the diagonal must stay visible")
def without_the_present(T):
    return torch.ones(T, T, dtype=torch.bool).tril(-1)


@wrong(check_causal_mask, "take the lower triangle")
def upper_triangle(T):
    return torch.ones(T, T, dtype=torch.bool).triu()


@wrong(check_causal_mask, "made to be added")
def additive(T):
    return torch.full((T, T), float("-inf")).triu(1)


@wrong(check_causal_mask, "holds numbers")
def of_floats(T):
    return torch.tril(torch.ones(T, T))


@wrong(check_causal_mask, "holds numbers (torch.int64)")
def of_ints(T):
    return torch.tril(torch.ones(T, T, dtype=torch.int64))


@wrong(check_causal_mask, "hides nothing")
def all_true(T):
    return torch.ones(T, T, dtype=torch.bool)


@wrong(check_causal_mask, "hides everything")
def all_false(T):
    return torch.zeros(T, T, dtype=torch.bool)


@wrong(check_causal_mask, "one place into the future")
def one_too_far(T):
    return torch.ones(T, T, dtype=torch.bool).tril(1)


@wrong(check_causal_mask, "has shape (1, 1, 3, 3)")
def with_batch_axes(T):
    return torch.ones(1, 1, T, T, dtype=torch.bool).tril()


@wrong(check_causal_mask, "should be a tensor; what comes is a list")
def list_of_lists(T):
    return [[j <= i for j in range(T)] for i in range(T)]


@wrong(check_causal_mask, "may not look at position")
def at_most_of_size_three(T):
    mask = torch.ones(T, T, dtype=torch.bool).tril()
    mask[0, T - 1] = True
    return mask


# ---------------------------------------------------------------------------------------------------------- split heads


@right(check_split_heads)
def view_and_transpose(x, n_heads):
    B, T, C = x.shape
    return x.view(B, T, n_heads, C // n_heads).transpose(1, 2)


@right(check_split_heads)
def chunk_and_stack(x, n_heads):
    return torch.stack(x.chunk(n_heads, dim=-1), dim=1)


@right(check_split_heads)
def unflatten_and_permute(x, n_heads):
    return x.unflatten(-1, (n_heads, -1)).permute(0, 2, 1, 3).contiguous()


@wrong(check_split_heads, "the first positions and not the first channels")
def reshape_only(x, n_heads):
    B, T, C = x.shape
    return x.reshape(B, n_heads, T, C // n_heads)


@wrong(check_split_heads, "Swap axes 1 and 2")
def not_transposed(x, n_heads):
    B, T, C = x.shape
    return x.reshape(B, T, n_heads, C // n_heads)


@wrong(check_split_heads, "one channel in")
def interleaved(x, n_heads):
    B, T, C = x.shape
    return x.reshape(B, T, C // n_heads, n_heads).permute(0, 3, 1, 2)


@wrong(check_split_heads, "the last two axes are swapped")
def transposed_too_far(x, n_heads):
    B, T, C = x.shape
    return x.reshape(B, T, n_heads, C // n_heads).permute(0, 2, 3, 1)


@wrong(check_split_heads, "before the batch")
def heads_first(x, n_heads):
    return torch.stack(x.chunk(n_heads, dim=-1))


@wrong(check_split_heads, "put the heads into one tensor")
def a_list(x, n_heads):
    return list(x.chunk(n_heads, dim=-1))


@wrong(check_split_heads, "before the split")
def transposed_first(x, n_heads):
    B, T, C = x.shape
    return x.transpose(1, 2).reshape(B, n_heads, T, C // n_heads)


@wrong(check_split_heads, "positions have become channels")
def channels_before_positions(x, n_heads):
    B, T, C = x.shape
    return x.reshape(B, n_heads, C // n_heads, T).transpose(2, 3)


@wrong(check_split_heads, "reverse order")
def reversed_heads(x, n_heads):
    return torch.stack(x.chunk(n_heads, dim=-1)[::-1], dim=1)


@wrong(check_split_heads, "the same channels")
def first_head_again(x, n_heads):
    size = x.shape[-1] // n_heads
    return torch.stack([x[..., :size]] * n_heads, dim=1)


@wrong(check_split_heads, "stopped with TypeError")
def true_division(x, n_heads):
    B, T, C = x.shape
    return x.view(B, T, n_heads, C / n_heads).transpose(1, 2)


# ------------------------------------------------------------------------------------------------------------ attention

right(check_attention)(attention)


@right(check_attention)
def plain(q, k, v, mask):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return weights @ v, weights


@right(check_attention)
def additive_mask(q, k, v, mask):
    hidden = torch.zeros(mask.shape).masked_fill(mask == 0, -1e9)
    weights = F.softmax((q / q.shape[-1] ** 0.5) @ k.mT + hidden, dim=-1)
    return torch.matmul(weights, v), weights


@right(check_attention)
def mask_and_share_out_again(q, k, v, mask):
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) * q.shape[-1] ** -0.5
    powers = torch.exp(scores - scores.amax(-1, keepdim=True)) * mask
    weights = powers / powers.sum(-1, keepdim=True)
    return torch.einsum("bhqk,bhkd->bhqd", weights, v), weights


@right(check_attention)
def row_by_row(q, k, v, mask):
    B, H, T, d = q.shape
    weights, out = torch.zeros(B, H, T, T), torch.zeros_like(v)
    for b in range(B):
        for h in range(H):
            for i in range(T):
                seen = mask[i].nonzero()[:, 0]
                weights[b, h, i, seen] = torch.softmax(k[b, h, seen] @ q[b, h, i] / d ** 0.5, 0)
                out[b, h, i] = weights[b, h, i] @ v[b, h]
    return out, weights


@wrong(check_attention, "Did you divide the scores by √d?")
def without_scale(q, k, v, mask):
    weights = (q @ k.mT).masked_fill(~mask, float("-inf")).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "you divide by d = 64")
def divided_by_d(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1]).masked_fill(~mask, float("-inf")).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "multiply the scores by √d")
def multiplied(q, k, v, mask):
    weights = (q @ k.mT * q.shape[-1] ** 0.5).masked_fill(~mask, float("-inf")).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "the number of positions")
def scaled_by_positions(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-2] ** 0.5).masked_fill(~mask, float("-inf")).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "only after the softmax")
def scaled_after_softmax(q, k, v, mask):
    weights = (q @ k.mT).masked_fill(~mask, float("-inf")).softmax(-1) / q.shape[-1] ** 0.5
    return weights @ v, weights


@wrong(check_attention, "You mask after the softmax")
def masked_after_softmax(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * mask
    return weights @ v, weights


@wrong(check_attention, "Your columns sum to 1, not your rows")
def softmax_over_queries(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, float("-inf")).softmax(-2)
    return weights @ v, weights


@wrong(check_attention, "Softmax over the last axis")
def softmax_over_heads(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -1e9).softmax(0)
    return weights @ v, weights


@wrong(check_attention, "The mask has no effect")
def without_mask(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "where everything is hidden there is nothing to share out")
def mask_inverted(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(mask, float("-inf")).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "opposite effect")
def mask_inverted_with_a_large_number(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(mask, -1e30).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "0 times infinity")
def mask_times_infinity(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1] ** 0.5 + ~mask * float("-inf")).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "Hidden scores are set to 0")
def masked_with_zero(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, 0).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "The mask is added to the scores as 0 and 1")
def mask_added(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1] ** 0.5 + mask).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "A hidden key gets")
def masked_with_a_small_number(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -5).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "q and k have changed places")
def keys_ask(q, k, v, mask):
    return plain(k, q, v, mask)


@wrong(check_attention, "queries with themselves")
def queries_with_queries(q, k, v, mask):
    return plain(q, q, v, mask)


@wrong(check_attention, "softmax has not been applied")
def no_softmax(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, float("-inf"))
    return weights @ v, weights


@wrong(check_attention, "mixes the keys")
def keys_for_values(q, k, v, mask):
    weights = plain(q, k, v, mask)[1]
    return weights @ k, weights


@wrong(check_attention, "uses them transposed")
def weights_transposed(q, k, v, mask):
    weights = plain(q, k, v, mask)[1]
    return weights.mT @ v, weights


@wrong(check_attention, "made with unmasked ones")
def masked_for_show(q, k, v, mask):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return scores.softmax(-1) @ v, scores.masked_fill(~mask, float("-inf")).softmax(-1)


@wrong(check_attention, "returns one tensor")
def output_alone(q, k, v, mask):
    return plain(q, k, v, mask)[0]


@wrong(check_attention, "returns the weights first")
def wrong_order(q, k, v, mask):
    return plain(q, k, v, mask)[::-1]


@wrong(check_attention, "stopped with RuntimeError")
def not_transposed_keys(q, k, v, mask):
    weights = (q @ k / q.shape[-1] ** 0.5).masked_fill(~mask, float("-inf")).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "a causal mask of your own")
def its_own_mask(q, k, v, mask):
    return plain(q, k, v, torch.ones_like(mask).tril())


@wrong(check_attention, "the transposed one")
def mask_transposed(q, k, v, mask):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask.T, float("-inf")).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "changes its input q in place")
def scales_in_place(q, k, v, mask):
    q /= q.shape[-1] ** 0.5
    weights = (q @ k.mT).masked_fill(~mask, float("-inf")).softmax(-1)
    return weights @ v, weights


@wrong(check_attention, "do not depend on q and k")
def plain_average(q, k, v, mask):
    weights = (mask / mask.sum(-1, keepdim=True)).expand(*q.shape[:2], -1, -1)
    return weights @ v, weights


# ----------------------------------------------------------------------------------------------------------- multi-head

def heads_apart(x, n_heads):
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def causal(q, k, v):
    return attention(q, k, v, causal_mask(q.shape[-2]))[0]


@right(check_multi_head)
def multi_head_in_pieces(x, qkv, projection, n_heads):
    q, k, v = (heads_apart(part, n_heads) for part in qkv(x).chunk(3, -1))
    return projection(causal(q, k, v).transpose(1, 2).flatten(2))


@right(check_multi_head)
def multi_head_in_one_view(x, qkv, projection, n_heads):
    B, T, C = x.shape
    q, k, v = qkv(x).view(B, T, 3, n_heads, C // n_heads).permute(2, 0, 3, 1, 4)
    return projection(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C))


@right(check_multi_head)
def multi_head_by_a_loop(x, qkv, projection, n_heads):
    d = x.shape[-1] // n_heads
    q, k, v = qkv(x).split(x.shape[-1], -1)
    outs = [causal(*(part[..., h * d:(h + 1) * d] for part in (q, k, v))) for h in range(n_heads)]
    return projection(torch.cat(outs, -1))


@wrong(check_multi_head, "The projection is missing")
def without_projection(x, qkv, projection, n_heads):
    q, k, v = (heads_apart(part, n_heads) for part in qkv(x).chunk(3, -1))
    return causal(q, k, v).transpose(1, 2).flatten(2)


@wrong(check_multi_head, "There is no causal mask")
def multi_head_without_mask(x, qkv, projection, n_heads):
    q, k, v = (heads_apart(part, n_heads) for part in qkv(x).chunk(3, -1))
    return projection(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@wrong(check_multi_head, "Your heads are not apart")
def a_single_head(x, qkv, projection, n_heads):
    return projection(causal(*qkv(x).chunk(3, -1)))


@wrong(check_multi_head, "the merge mixes positions with heads")
def merged_without_transpose(x, qkv, projection, n_heads):
    q, k, v = (heads_apart(part, n_heads) for part in qkv(x).chunk(3, -1))
    return projection(causal(q, k, v).reshape(x.shape))


@wrong(check_multi_head, "Your split mixes positions with channels")
def split_without_transpose(x, qkv, projection, n_heads):
    B, T, C = x.shape
    q, k, v = (part.reshape(B, n_heads, T, C // n_heads) for part in qkv(x).chunk(3, -1))
    return projection(causal(q, k, v).transpose(1, 2).flatten(2))


@wrong(check_multi_head, "q and k have changed places")
def keys_first(x, qkv, projection, n_heads):
    k, q, v = (heads_apart(part, n_heads) for part in qkv(x).chunk(3, -1))
    return projection(causal(q, k, v).transpose(1, 2).flatten(2))


@wrong(check_multi_head, "taken in reverse")
def values_first(x, qkv, projection, n_heads):
    v, k, q = (heads_apart(part, n_heads) for part in qkv(x).chunk(3, -1))
    return projection(causal(q, k, v).transpose(1, 2).flatten(2))


@wrong(check_multi_head, "split into heads before you cut")
def heads_before_thirds(x, qkv, projection, n_heads):
    q, k, v = heads_apart(qkv(x), n_heads).chunk(3, -1)
    return projection(causal(q, k, v).transpose(1, 2).flatten(2))


@wrong(check_multi_head, "divided by √d_model")
def scaled_by_d_model(x, qkv, projection, n_heads):
    q, k, v = (heads_apart(part, n_heads) for part in qkv(x).chunk(3, -1))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=x.shape[-1] ** -0.5)
    return projection(out.transpose(1, 2).flatten(2))


@wrong(check_multi_head, "Your heads are still apart")
def never_merged(x, qkv, projection, n_heads):
    return causal(*(heads_apart(part, n_heads) for part in qkv(x).chunk(3, -1)))


@wrong(check_multi_head, "go on with the output")
def weights_too(x, qkv, projection, n_heads):
    q, k, v = (heads_apart(part, n_heads) for part in qkv(x).chunk(3, -1))
    return attention(q, k, v, causal_mask(x.shape[1]))


@wrong(check_multi_head, "The residual connection belongs to the block")
def with_residual(x, qkv, projection, n_heads):
    return x + multi_head_in_pieces(x, qkv, projection, n_heads)
