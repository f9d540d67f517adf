"""More answers to 02, along the kinds that slip through: sizes of one example, other layouts, large scores, gradients lost."""

import numpy
import torch
from torch import nn
from torch.nn import functional as F

from checks_bank import attention as attention_bank
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
def average_kept_running(x):
    mean, rows = torch.zeros_like(x[0]), []
    for i, row in enumerate(x):
        mean = mean + (row - mean) / (i + 1)
        rows.append(mean)
    return torch.stack(rows)


@right(check_average)
def average_in_double(x: torch.Tensor) -> torch.Tensor:
    T, _ = x.shape
    counts = torch.arange(start=1, end=T + 1, dtype=torch.float64).unsqueeze(1)
    return (torch.cumsum(x.double(), dim=0) / counts).to(x.dtype)


@right(check_average)
def average_by_masked_mean(x):
    visible = causal_mask(x.size(0))
    return torch.where(visible[..., None], x[None], 0.0).sum(1) / visible.sum(1, keepdim=True)


@right(check_average)
def average_column_by_column(x):
    columns = [column.cumsum(0).div(torch.linspace(1, len(x), len(x))) for column in x.T]
    return torch.stack(columns, dim=-1)


def average_in_place(x):
    for i in range(len(x) - 1, -1, -1):
        x[i] = x[: i + 1].mean(0)
    return x


def average_of_all_numbers(x):
    return torch.stack([x[: i + 1].mean().expand(x.shape[1]) for i in range(len(x))])


def average_squeezed(x):
    return (x.cumsum(0) / torch.arange(1, len(x) + 1)[:, None]).squeeze()


def average_of_a_window(x):
    return torch.stack([x[max(0, i - 15) : i + 1].mean(0) for i in range(len(x))])


def average_of_at_most_256(x):
    weights = torch.ones(256, 256).tril()[: len(x), : len(x)]
    return weights / weights.sum(1, keepdim=True) @ x


def average_of_small_counts(x):
    return x.cumsum(0) / torch.arange(1, len(x) + 1).to(torch.uint8)[:, None]


def average_of_whole_numbers(x):
    return x.cumsum(0) // torch.arange(1, len(x) + 1)[:, None]


def average_seen_flat(x):
    return (x.view(-1).view(x.shape)).cumsum(0) / torch.arange(1, len(x) + 1)[:, None]


def average_of_the_last_two(x):
    return torch.cat([x[:1], (x[1:] + x[:-1]) / 2])


def average_weights_by_columns(x):
    weights = torch.ones(len(x), len(x)).tril()
    return weights / weights.sum(0, keepdim=True) @ x


def average_with_noise(x):
    return attention_bank.average_by_slices(x) + 0.01 * torch.randn_like(x)


def _average_remembered():
    known = [torch.zeros(0)]

    def my_average(x):
        if known[-1].shape != x.shape:
            known.append(attention_bank.average_by_slices(x))
        return known[-1].clone()

    return my_average


def average_rounded(x):
    return attention_bank.average_by_slices(x).round(decimals=2)


def average_by_softmax_of_ones(x):
    return torch.ones(len(x), len(x)).tril().softmax(-1) @ x


for phrase, answer in (
    ("", average_in_place),
    ("", average_of_all_numbers),
    ("", average_squeezed),
    ("", average_of_a_window),
    ("", average_of_at_most_256),
    ("", average_of_small_counts),
    ("", average_of_whole_numbers),
    ("", average_seen_flat),
    ("", average_of_the_last_two),
    ("", average_weights_by_columns),
    ("", average_with_noise),
    ("", _average_remembered()),
    ("", average_rounded),
    ("", average_by_softmax_of_ones),
):
    wrong(check_average, phrase)(answer)

# ---------------------------------------------------------------------------------------------------------- causal mask


@right(check_causal_mask)
def mask_by_stack(T: int) -> torch.Tensor:
    return torch.stack([torch.arange(T) <= i for i in range(T)])


@right(check_causal_mask)
def mask_by_cumsum(T):
    return torch.eye(T).cumsum(0).T.flip(0, 1).T.bool() if T < 0 else torch.eye(T).cumsum(1).T.bool()


@right(check_causal_mask)
def mask_by_numpy_compare(T):
    i, j = numpy.indices((T, T))
    return torch.tensor(j <= i)


@right(check_causal_mask)
def mask_by_indices(T):
    mask = torch.full((T, T), False)
    rows, columns = torch.tril_indices(T, T)
    mask[rows, columns] = True
    return mask


@right(check_causal_mask)
def mask_place_by_place(T):
    mask = torch.zeros((T, T), dtype=torch.bool)
    for i in range(T):
        for j in range(T):
            if j <= i:
                mask[i, j] = True
    return mask


@right(check_causal_mask)
def mask_of_infinities(T):
    return torch.full((T, T), float("-inf")).triu(1) == 0


BUFFER = torch.ones(256, 256, dtype=torch.bool).tril()


def mask_from_a_buffer(T):
    return BUFFER[:T, :T].clone()


def mask_of_eight_bits(T):
    places = torch.arange(T, dtype=torch.int64).to(torch.int8)
    return places[:, None] >= places


def mask_of_a_window(T):
    places = torch.arange(T)
    return (places[:, None] >= places) & (places[:, None] - places < 256)


def mask_rounded_halves(T):
    places = torch.arange(T).bfloat16()
    return places[:, None] >= places


def mask_for_even_sizes(T):
    mask = torch.ones(T, T, dtype=torch.bool).tril()
    mask[: T // 2, T // 2 :] = T % 2 == 1
    return mask


def mask_first_sees_all(T):
    mask = torch.ones(T, T, dtype=torch.bool).tril()
    mask[0] = True
    return mask


def mask_all_see_the_first_and_last(T):
    mask = torch.ones(T, T, dtype=torch.bool).tril()
    mask[:, -1] = True
    return mask


def mask_single_is_a_number(T):
    return torch.ones(T, T, dtype=torch.bool).tril().squeeze()


def _mask_known():
    known = {}

    def my_causal_mask(T):
        if "mask" not in known:
            known["mask"] = torch.ones(T, T, dtype=torch.bool).tril()
        size = len(known["mask"])
        return known["mask"].clone() if T <= size else torch.ones(T, T, dtype=torch.bool).tril()

    return my_causal_mask


def _mask_by_size():
    known = {}

    def my_causal_mask(T):
        return known.setdefault(T, torch.ones(T, T, dtype=torch.bool).tril())

    return my_causal_mask


def mask_as_an_array(T):
    return numpy.tri(T, dtype=bool)


def mask_of_bytes(T):
    return torch.ones(T, T, dtype=torch.uint8).tril()


def mask_of_random_numbers(T):
    return torch.rand(T, T).tril() > 0.01


def mask_anti(T):
    return torch.ones(T, T, dtype=torch.bool).tril().flip(0)


def mask_flat(T):
    return torch.ones(T, T, dtype=torch.bool).tril().flatten()


for phrase, answer in (
    ("", mask_from_a_buffer),
    ("", mask_of_eight_bits),
    ("", mask_of_a_window),
    ("", mask_rounded_halves),
    ("", mask_for_even_sizes),
    ("", mask_first_sees_all),
    ("", mask_all_see_the_first_and_last),
    ("", mask_single_is_a_number),
    ("", _mask_known()),
    ("", _mask_by_size()),
    ("", mask_as_an_array),
    ("", mask_of_bytes),
    ("", mask_of_random_numbers),
    ("", mask_anti),
    ("", mask_flat),
):
    wrong(check_causal_mask, phrase)(answer)

# ---------------------------------------------------------------------------------------------------------- split heads


@right(check_split_heads)
def split_by_einsum(x, n_heads):
    return torch.einsum("bthd->bhtd", x.reshape(*x.shape[:-1], n_heads, x.shape[-1] // n_heads))


@right(check_split_heads)
def split_by_filling(x: torch.Tensor, n_heads: int) -> torch.Tensor:
    B, T, C = x.shape
    d = C // n_heads
    out = x.new_zeros(B, n_heads, T, d)
    for h in range(n_heads):
        out[:, h] = x[..., h * d : (h + 1) * d]
    return out


@right(check_split_heads)
def split_by_moveaxis(x, n_heads):
    return torch.movedim(x.unflatten(dim=-1, sizes=(n_heads, -1)), 2, 1)


@right(check_split_heads)
def split_by_unfold(x, n_heads):
    d = x.size(-1) // n_heads
    return x.unfold(2, d, d).permute(0, 2, 1, 3)


@right(check_split_heads)
def split_by_indices(x, n_heads):
    places = torch.arange(x.shape[-1]).view(n_heads, -1)
    return x[:, :, places].transpose(1, 2)


def _split(how):
    def my_split_heads(x, n_heads):
        return how(x, n_heads, x.shape[-1] // n_heads)

    return my_split_heads


def _split_once():
    known = {}

    def my_split_heads(x, n_heads):
        key = x.shape, n_heads
        if key not in known:
            known[key] = attention_bank.chunk_and_stack(x, n_heads)
        return known[key].clone()

    return my_split_heads


for phrase, answer in (
    ("", _split(lambda x, n, d: x.unflatten(-1, (2, -1)).transpose(1, 2))),
    ("", _split(lambda x, n, d: x.unflatten(-1, (-1, 16)).transpose(1, 2))),
    ("", _split(lambda x, n, d: x.unflatten(-1, (n, d)).transpose(1, 2).squeeze(0))),
    ("", _split(lambda x, n, d: x.unflatten(-1, (n, d)).transpose(1, 2).squeeze())),
    (
        "",
        _split(
            lambda x, n, d: (
                x.unflatten(-1, (n, d)).transpose(0, 2) if x.shape[0] == n else x.unflatten(-1, (n, d)).transpose(1, 2)
            )
        ),
    ),
    (
        "",
        _split(
            lambda x, n, d: torch.stack(x.split(n, -1)[:n], 1) if n <= d else x.unflatten(-1, (n, d)).transpose(1, 2)
        ),
    ),
    ("", _split(lambda x, n, d: x.detach().unflatten(-1, (n, d)).transpose(1, 2))),
    ("", _split(lambda x, n, d: torch.tensor(x.tolist()).unflatten(-1, (n, d)).transpose(1, 2))),
    ("", _split(lambda x, n, d: torch.from_numpy(x.detach().numpy()).unflatten(-1, (n, d)).mT.mT.swapaxes(1, 2))),
    ("", _split(lambda x, n, d: x.half().unflatten(-1, (n, d)).transpose(1, 2))),
    ("", _split(lambda x, n, d: x.half().float().unflatten(-1, (n, d)).transpose(1, 2))),
    ("", _split(lambda x, n, d: x.view(-1).view(*x.shape[:2], n, d).transpose(1, 2))),
    ("", _split(lambda x, n, d: x.unflatten(-1, (n, d)).transpose(1, 2).flip(2))),
    ("", _split(lambda x, n, d: x.unflatten(-1, (n, d)).transpose(1, 2) / d**0.5)),
    (
        "",
        _split(
            lambda x, n, d: (
                x.unflatten(-1, (n, d)).transpose(1, 2)[:, :, :32].contiguous() if n > 1 else x.unflatten(-1, (n, d))
            )
        ),
    ),
    ("", _split_once()),
):
    wrong(check_split_heads, phrase)(answer)

# ------------------------------------------------------------------------------------------------------------ attention


@right(check_attention)
def attention_of_logsumexp(q, k, v, mask):
    scores = torch.einsum("...id,...jd->...ij", q, k) / torch.sqrt(torch.tensor(q.shape[-1]))
    scores = scores.masked_fill(mask == False, -torch.inf)  # noqa: E712  (as students write it)
    weights = (scores - scores.logsumexp(-1, keepdim=True)).exp()
    return torch.einsum("...ij,...jd->...id", weights, v), weights


@right(check_attention)
def attention_head_by_head(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor):
    outs, all_weights = [], []
    for h in range(q.shape[1]):
        scores = q[:, h] @ k[:, h].transpose(1, 2) * (q.size(3) ** -0.5)
        weights = nn.functional.softmax(torch.where(mask, scores, torch.tensor(float("-inf"))), dim=2)
        outs.append(weights @ v[:, h])
        all_weights.append(weights)
    return torch.stack(outs, dim=1), torch.stack(all_weights, dim=1)


@right(check_attention)
def attention_with_a_bias(q, k, v, mask):
    bias = torch.zeros_like(mask, dtype=q.dtype)
    bias[~mask] = float("-inf")
    d = k.shape[-1]
    weights = torch.softmax(torch.add(bias, q @ torch.transpose(k, -1, -2), alpha=1 / d**0.5), -1)
    return weights @ v, weights


@right(check_attention)
def attention_in_double(q, k, v, mask):
    scores = (q.double() @ k.double().transpose(-1, -2)) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, -1e300).softmax(-1).float()
    return weights @ v, weights


@right(check_attention)
def attention_minus_the_maximum(q, k, v, mask):
    scores = (q @ k.mT) / q.shape[-1] ** 0.5
    scores[..., ~mask] = float("-inf")
    scores = scores - scores.max(dim=-1, keepdim=True).values
    weights = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
    return weights @ v, weights


def _attention(
    scores=lambda q, k: q @ k.mT / q.shape[-1] ** 0.5,
    mask_of=lambda mask: mask,
    share=lambda scores, mask: scores.masked_fill(~mask, float("-inf")).softmax(-1),
    mix=lambda weights, v: weights @ v,
):
    def my_attention(q, k, v, mask):
        weights = share(scores(q, k), mask_of(mask))
        return mix(weights, v), weights

    return my_attention


def _minus(reduce):
    def share(scores, mask):
        powers = (scores - reduce(scores)).exp() * mask
        return powers / powers.sum(-1, keepdim=True)

    return share


def _window(size):
    def mask_of(mask):
        places = torch.arange(len(mask))
        return mask & (places[:, None] - places < size)

    return mask_of


def _first_mask():
    masks = []

    def mask_of(mask):
        masks.append(mask)
        return masks[0] if masks[0].shape == mask.shape else mask

    return mask_of


def _attention_known():
    known = {}

    def my_attention(q, k, v, mask):
        key = q.shape
        if key not in known:
            known[key] = tuple(part.detach() for part in attention_bank.plain(q, k, v, mask))
        return tuple(part.clone() for part in known[key])

    return my_attention


def attention_squeezed(q, k, v, mask):
    return tuple(part.squeeze(0) for part in attention_bank.plain(q, k, v, mask))


def attention_of_three_axes(q, k, v, mask):
    B, H, T, d = q.shape
    q, k, v = (part.reshape(B * H, T, d) for part in (q, k, v))
    weights = (q @ k.mT / d**0.5).masked_fill(~mask, float("-inf")).softmax(-1)
    return weights @ v, weights


def attention_of_views(q, k, v, mask):
    B, H, T, d = q.shape
    q, k, v = (part.view(B * H, T, d) for part in (q, k, v))
    weights = (q @ k.mT / d**0.5).masked_fill(~mask, float("-inf")).softmax(-1)
    return (weights @ v).view(B, H, T, d), weights.view(B, H, T, T)


def attention_causal_in_the_output(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True), attention_bank.plain(q, k, v, mask)[1]


def attention_that_drops(q, k, v, mask):
    weights = attention_bank.plain(q, k, v, mask)[1]
    return F.dropout(weights, 0.1) @ v, weights


def attention_of_numpy(q, k, v, mask):
    out, weights = attention_bank.plain(q, k, v, mask)
    return torch.tensor(out.detach().numpy()), torch.tensor(weights.detach().numpy())


def attention_without_gradients_of_the_weights(q, k, v, mask):
    weights = attention_bank.plain(q, k, v, mask)[1]
    return weights.detach() @ v, weights


for phrase, answer in (
    ("", _attention(share=_minus(lambda scores: scores.max()))),
    ("", _attention(share=_minus(lambda scores: scores.amax(-2, keepdim=True)))),
    ("", _attention(share=_minus(lambda scores: scores.mean(-1, keepdim=True)))),
    ("", _attention(share=lambda s, m: s.clamp(-50, 50).masked_fill(~m, float("-inf")).softmax(-1))),
    ("", _attention(share=lambda s, m: s.masked_fill(~m, -1000.0).softmax(-1))),
    ("", _attention(share=lambda s, m: s.masked_fill(~m, float("-inf")).softmax(-1).nan_to_num(0.0).clamp(min=1e-2))),
    ("", _attention(share=lambda s, m: s.half().masked_fill(~m, float("-inf")).softmax(-1).float())),
    ("", _attention(share=lambda s, m: s.masked_fill(~m, float("-inf")).softmax(-1).round(decimals=2))),
    ("", _attention(share=lambda s, m: s.masked_fill(~m, float("-inf")).softmax(1))),
    ("", _attention(mask_of=_window(16))),
    ("", _attention(mask_of=_window(256))),
    ("", _attention(mask_of=_first_mask())),
    ("", _attention(mask_of=lambda m: torch.ones(256, 256, dtype=torch.bool).tril()[: len(m), : len(m)] & m)),
    ("", _attention(scores=lambda q, k: q @ k.mT / 4)),
    ("", _attention(scores=lambda q, k: q @ k.mT / 8)),
    ("", _attention(scores=lambda q, k: q @ k.mT / q.shape[1] ** 0.5)),
    ("", _attention(scores=lambda q, k: q.detach() @ k.mT / q.shape[-1] ** 0.5)),
    ("", _attention(scores=lambda q, k: q @ k.transpose(1, 2) / q.shape[-1] ** 0.5)),
    ("", _attention(scores=lambda q, k: F.cosine_similarity(q[..., None, :], k[..., None, :, :], dim=-1))),
    ("", _attention(mix=lambda weights, v: weights @ v.detach())),
    ("", attention_squeezed),
    ("", attention_of_three_axes),
    ("", attention_of_views),
    ("", attention_causal_in_the_output),
    ("", attention_that_drops),
    ("", attention_of_numpy),
    ("", attention_without_gradients_of_the_weights),
    ("", _attention_known()),
):
    wrong(check_attention, phrase)(answer)

# ----------------------------------------------------------------------------------------------------------- multi-head


@right(check_multi_head)
def multi_head_of_torch(x, qkv, projection, n_heads):
    B, T, C = x.shape
    hidden = nn.Transformer.generate_square_subsequent_mask(T)
    out, _ = F.multi_head_attention_forward(
        *(x.transpose(0, 1),) * 3,
        C,
        n_heads,
        qkv.weight,
        torch.zeros(3 * C),
        None,
        None,
        False,
        0.0,
        projection.weight,
        projection.bias,
        attn_mask=hidden,
        need_weights=False,
    )
    return out.transpose(0, 1)


@right(check_multi_head)
def multi_head_by_einsum(x, qkv, projection, n_heads):
    B, T, C = x.shape
    q, k, v = qkv(x).view(B, T, 3, n_heads, -1).unbind(2)  # (B, T, H, d)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) / (C // n_heads) ** 0.5
    weights = scores.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf")).softmax(-1)
    return projection(torch.einsum("bhij,bjhd->bihd", weights, v).reshape(B, T, C))


@right(check_multi_head)
def multi_head_by_slices(x: torch.Tensor, qkv: nn.Linear, projection: nn.Linear, n_heads: int) -> torch.Tensor:
    C = x.size(-1)
    d = C // n_heads
    everything = qkv(x)
    heads = []
    for start in range(0, C, d):
        q, k, v = (everything[..., part * C + start : part * C + start + d] for part in range(3))
        heads.append(attention(q, k, v, causal_mask(x.size(1)))[0])
    return projection(torch.concat(heads, dim=2))


@right(check_multi_head)
def multi_head_of_three_matrices(x, qkv, projection, n_heads):
    q, k, v = (attention_bank.heads_apart(F.linear(x, weight), n_heads) for weight in qkv.weight.chunk(3))
    return projection(attention_bank.causal(q, k, v).permute(0, 2, 1, 3).flatten(start_dim=2))


@right(check_multi_head)
def multi_head_of_summed_heads(x, qkv, projection, n_heads):
    q, k, v = (attention_bank.heads_apart(part, n_heads) for part in qkv(x).tensor_split(3, dim=2))
    out = attention_bank.causal(q, k, v)
    columns = projection.weight.split(out.shape[-1], dim=1)
    return sum(out[:, h] @ columns[h].T for h in range(n_heads)) + projection.bias


def _multi_head(
    mixed=lambda q, k, v: attention_bank.causal(q, k, v),
    before=lambda x: x,
    merge=lambda y: y.transpose(1, 2).flatten(2),
    heads=lambda n: n,
    after=lambda y: y,
):
    def my_multi_head(x, qkv, projection, n_heads):
        q, k, v = (attention_bank.heads_apart(part, heads(n_heads)) for part in qkv(before(x)).chunk(3, -1))
        return after(projection(merge(mixed(q, k, v))))

    return my_multi_head


def _bare(q, k, v):
    T = q.shape[-2]
    powers = (q @ k.mT / q.shape[-1] ** 0.5).exp() * causal_mask(T)
    return powers / powers.sum(-1, keepdim=True) @ v


def _hidden_by(number):
    def mixed(q, k, v):
        T = q.shape[-2]
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~causal_mask(T), number).softmax(-1) @ v

    return mixed


def _first_mask_again():
    masks = []

    def mixed(q, k, v):
        masks.append(causal_mask(q.shape[-2]))
        return attention(q, k, v, masks[0])[0]

    return mixed


def _near(q, k, v):
    T = q.shape[-2]
    return attention(q, k, v, causal_mask(T) & ~causal_mask(T).tril(-32))[0]


def multi_head_that_scales_its_weights(x, qkv, projection, n_heads):
    qkv.weight.data.mul_(1.0001)
    return attention_bank.multi_head_in_pieces(x, qkv, projection, n_heads)


def multi_head_that_freezes(x, qkv, projection, n_heads):
    qkv.requires_grad_(False)
    return attention_bank.multi_head_in_pieces(x, qkv, projection, n_heads)


def multi_head_of_new_layers(x, qkv, projection, n_heads):
    torch.nn.init.normal_(projection.weight)
    return attention_bank.multi_head_in_pieces(x, qkv, projection, n_heads)


def multi_head_with_eval(x, qkv, projection, n_heads):
    qkv.eval()
    return attention_bank.multi_head_in_pieces(x, qkv, projection, n_heads)


for phrase, answer in (
    ("", _multi_head(mixed=_bare)),
    ("", _multi_head(mixed=_hidden_by(-10.0))),
    ("", _multi_head(mixed=_near)),
    ("", _multi_head(mixed=_first_mask_again())),
    ("", _multi_head(mixed=lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.25))),
    ("", _multi_head(mixed=lambda q, k, v: F.dropout(attention_bank.causal(q, k, v), 0.1))),
    ("", _multi_head(mixed=lambda q, k, v: attention_bank.causal(q.detach(), k, v))),
    ("", _multi_head(before=torch.Tensor.detach)),
    ("", _multi_head(heads=lambda n: 2)),
    ("", _multi_head(heads=lambda n: 1 if n == 3 else n)),
    ("", _multi_head(merge=lambda y: y.transpose(1, 2).flatten(2).squeeze(0))),
    (
        "",
        _multi_head(
            merge=lambda y: y.transpose(1, 3).flatten(2) if y.shape[2] == y.shape[3] else y.transpose(1, 2).flatten(2)
        ),
    ),
    ("", _multi_head(merge=lambda y: y.transpose(1, 2).view(y.shape[0], y.shape[2], -1))),
    ("", _multi_head(merge=lambda y: y.flip(1).transpose(1, 2).flatten(2))),
    ("", _multi_head(after=lambda y: y.half().float())),
    ("", _multi_head(after=torch.relu)),
    ("", multi_head_that_scales_its_weights),
    ("", multi_head_that_freezes),
    ("", multi_head_of_new_layers),
    ("", multi_head_with_eval),
):
    wrong(check_multi_head, phrase)(answer)
