"""Checks for 02_attention: averages, the causal mask, attention, splitting into heads, all of it.

The truth is torch's own.
"""

import random
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt.classroom.checks.cases import laid_out, one_of, sizes
from minigpt.classroom.checks.framework import (
    TOLERANCE,
    Mistake,
    Student,
    accuse,
    article,
    check,
    difference,
    is_nan,
    look_at_gradients,
    look_at_rounding,
    pair,
    same,
    tensor,
)

# ------------------------------------------------------------------------------------ check_average

@check("average of the past: every position has the mean of itself and all before it, on 14 random "
       "inputs")
def check_average(student: Student) -> None:
    """Checks `fn(x: (T, C)) -> (T, C)`: row i is the mean of rows 0 to i."""
    for trial in range(14):
        T, C = (300, 3) if trial == 13 else sizes(trial, 2)     # counts that need more than 8 bits
        x = laid_out(torch.randn(T, C) + one_of(0, 3))
        sums, counts = x.cumsum(0), torch.arange(1, T + 1)[:, None]
        right = sums / counts
        answer = student("Positions lie along axis 0: x[:i + 1].mean(0), or x.cumsum(0), whose row "
                         "i is divided by i + 1: a column of counts, (T, 1): torch.arange(1, T + "
                         "1)[:, None].", x=x)
        answer = tensor(answer, "Your result", (T, C), "(T, C)", "float")
        if not same(answer, right):
            look_at_average(answer, x, sums, counts)
            raise difference(answer, right, "Your average")


def look_at_average(answer: Tensor, x: Tensor, sums: Tensor, counts: Tensor) -> None:
    """Raises the mistake in an average, where it is a known one."""
    T, C = x.shape
    if is_nan(answer[:1]):
        raise Mistake("Your first row is NaN, the mean of nothing: position 0 has itself. The "
                      "slice x[:i] leaves out row i, x[:i + 1] has it.")
    before = (sums - x) / (counts - 1).clamp(min=1)
    accuse(answer, {
        "Your rows are sums. Divide row i by how many rows it adds up: i + 1.": sums,
        "Every row of yours is the mean of all positions: the future is in it. Row i may use rows "
        "0 to i alone.": x.mean(0).expand_as(x),
        f"You divide every row by T = {T}. Row i adds up i + 1 rows, so divide it by i + 1.":
            sums / T,
        "Your rows leave out the present: row i is the mean of the rows before it. The slice "
        "x[:i] ends before row i, x[:i + 1] has it.": before,
        "Your rows average the future: row i should use rows 0 to i, and yours uses i to the last.":
            x.flip(0).cumsum(0).flip(0) / counts.flip(0),
        "You average over the channels of each position. Average over positions: the mean over "
        "axis 0.": x.mean(1, keepdim=True).expand_as(x),
        "You average along the channels. Positions lie along axis 0: cumsum(0), or x[:i + "
        "1].mean(0).": x.cumsum(1) / torch.arange(1, C + 1),
        "Your result is x itself: no row has seen another yet.": x,
        "You divide row i by i, one too few: it adds up i + 1 rows.":
            sums / (counts - 1).clamp(min=1),
        "You divide row i by i + 2, one too many: it adds up i + 1 rows.": sums / (counts + 1),
        "You average positions and channels together: each row is one number, C times. The mean "
        "is over axis 0, mean(0).": (sums.sum(1, keepdim=True) / (counts * C)).expand_as(x),
        "Your rows are running averages, half the row before and half the new one: they forget. "
        "All rows so far count alike.": halved(x),
    })
    if T == C:
        accuse(answer, {
            "You divide each column by 1, 2, 3, …, not each row. The counts belong in a column: "
            "torch.arange(1, T + 1)[:, None].": sums / counts.T})


def halved(x: Tensor) -> Tensor:
    """What comes of averaging each row with the result before it."""
    rows = [x[0]]
    for row in x[1:]:
        rows.append((rows[-1] + row) / 2)
    return torch.stack(rows)


# -------------------------------------------------------------------------------- check_causal_mask

@check("causal mask: the past and the present visible, the future hidden, for T = 1 to 260")
def check_causal_mask(student: Student) -> None:
    """Checks `fn(T) -> (T, T) bool tensor`, True where position i may look at position j.

    i is the row, j the column.
    """
    needs_9_bits, quick, start = 260, 0.02, 0.0
    small = random.sample(range(4, 10), 3)
    for T in (3, *small, 2, 1, one_of(*range(17, 40)), 3, needs_9_bits, 520, 1030):
        if T > 260 and time.process_time() - start > quick:     # a loop over all places, right too
            break
        start = time.process_time()
        answer, right = student(T=T), torch.ones(T, T).tril() > 0
        if isinstance(answer, Tensor) and answer.dtype != torch.bool:
            raise mask_of_numbers(answer)
        answer = tensor(answer, "Your mask", (T, T), "(T, T)", "bool")
        accuse(answer, {
            "Your mask is the wrong way round: it is True for the future and False for the past. "
            "Here True means `may look`.": ~right,
            "Your mask hides the present too: the diagonal must stay visible, since a position "
            "may look at itself.": right.tril(-1),
            "Your mask shows the future and hides the past: position 0 sees all, the last "
            "position only itself. Row i is who looks, column j what is looked at, so take the "
            "lower triangle.": right.T,
            "Your mask hides only the diagonal: a position may look at itself, and not at what "
            "comes after it.": ~torch.eye(T, dtype=torch.bool),
            "Your mask hides nothing: everything is True, and each position sees the future.":
                torch.ones_like(right),
            "Your mask hides everything: all is False, and softmax would have nothing to share "
            "out.": torch.zeros_like(right),
            "Your mask lets each position look one place into the future. Shift the triangle by "
            "one: the diagonal is the last that is visible.": torch.ones_like(right).tril(1),
            "Your mask shows each position nothing but itself: the past should be visible too.":
                torch.eye(T, dtype=torch.bool),
        } if not same(answer, right) else {})
        if not same(answer, right):
            i, j = (answer != right).nonzero()[0].tolist()
            verb = "may look" if right[i, j] else "may not look"
            raise Mistake(f"With T = {T}, position {i} {verb} at position {j}, and your mask says "
                          f"{bool(answer[i, j])}.")


def mask_of_numbers(answer: Tensor) -> Mistake:
    """Why a mask that is not bool won't do."""
    if answer.is_floating_point() and bool(answer.isinf().any()):
        return Mistake("Your mask holds 0 and -inf, made to be added to the scores. Return True "
                       "and False (True: may look); the scores come later.")
    return Mistake(f"Your mask holds numbers ({answer.dtype}); it should hold True and False. "
                   "`.bool()`, or torch.ones(T, T, dtype=torch.bool), makes it so.")


# -------------------------------------------------------------------------------- check_split_heads

@check("split heads: head h has channels h·d_head to (h+1)·d_head at every position, on 16 random "
       "inputs")
def check_split_heads(student: Student) -> None:
    """Checks `fn(x: (B, T, C), n_heads) -> (B, n_heads, T, C / n_heads)`.

    Each head is a block of channels.
    """
    for trial in range(16):
        B, T, n_heads, size = sizes(trial, 4)
        n_heads = 1 if trial == 15 else n_heads
        n_heads, size = {4: (2, 5), 8: (5, 2)}.get(trial, (n_heads, size))
        T = 300 if trial == 12 else T
        x = laid_out(torch.randn(B, T, n_heads * size)).requires_grad_(trial > 7)
        right = torch.stack([x[:, :, h * size:(h + 1) * size] for h in range(n_heads)], dim=1)
        result = answer = student("The sizes come from x: B, T, C = x.shape, and d_head = C // "
                                  "n_heads.", x=x, n_heads=n_heads)
        if isinstance(answer, (list, tuple)):
            raise Mistake(f"{student.name} returns {article(answer)} of {len(answer)}; put the "
                          "heads into one tensor of shape (B, n_heads, T, d_head).")
        if isinstance(answer, Tensor):
            shape = f"Your heads have shape {tuple(answer.shape)}"
            accuse(answer, {
                f"{shape}, which is (B, T, n_heads, d_head): the split is right. Swap axes 1 and "
                "2, so that each head is a batch of its own.": right.transpose(1, 2),
                f"{shape}: the heads stand before the batch. They belong behind it: (B, n_heads, "
                "T, d_head).": right.transpose(0, 1),
                f"{shape}: the last two axes are swapped. Positions come before channels: (B, "
                "n_heads, T, d_head).": right.transpose(2, 3),
            } if answer.shape != right.shape else {})
        answer = tensor(answer, "Your result", (B, n_heads, T, size), "(B, n_heads, T, d_head)")
        if same(answer, right) and x.requires_grad:
            look_at_gradients("Your split", result, right, {"x": student.given["x"]}, {"x": x})
        if not same(answer, right):
            by_position = x.reshape(B, T, size, n_heads)
            accuse(answer, {
                "Your shape is right, and the numbers are mixed up: reshaping straight to (B, "
                "n_heads, T, d_head) gives head 0 the first positions and not the first channels. "
                "Reshape to (B, T, n_heads, d_head) first, then transpose.":
                    x.reshape(B, n_heads, T, size),
                f"Your heads take one channel in {n_heads}, spread over all. Head h should have a "
                "block of neighbours: reshape to (B, T, n_heads, d_head), not to (B, T, d_head, "
                "n_heads).": by_position.permute(0, 3, 1, 2),
                "Your heads come in reverse order: head 0 has the last channels.": right.flip(1),
                "Your shape is right, and positions have become channels: you reshaped to (B, "
                "n_heads, d_head, T). Reshape to (B, T, n_heads, d_head) first, then transpose.":
                    x.reshape(B, n_heads, size, T).transpose(2, 3),
                "Your heads are right and have changed batches: B and n_heads are both axes of "
                "the same size here, and you swapped them.":
                    right.transpose(0, 1) if B == n_heads else right + 1,
                "Every head of yours has the same channels, the first. Move on by d_head from "
                "head to head.": right[:, :1].expand_as(right),
                "You swapped positions and channels before the split, and so split up something "
                "else: reshape first, then transpose.":
                    x.transpose(1, 2).reshape(B, n_heads, T, size),
            })
            raise difference(answer, right, "Your split")


# ---------------------------------------------------------------------------------- check_attention

@check("attention: rows sum to 1, the future is invisible, equal to torch's own on 26 random "
       "inputs")
def check_attention(student: Student) -> None:
    """Checks `fn(q, k, v, mask) -> (out, weights)`.

    q, k, v: (B, H, T, d_head); mask: (T, T) bool, True where a position may look; out like v;
    weights (B, H, T, T).
    """
    for trial in range(24):
        B, H, T = (1, 2, 4) if trial < 3 else sizes(trial, 3)
        d = 64 if trial < 3 else one_of(1, 2, 7, 16, T)
        mask = torch.ones(T, T, dtype=torch.bool).tril()
        if trial % 3 == 2:  # another mask: everyone sees itself and some
            mask = (torch.rand(T, T) < 0.5) | torch.eye(T, dtype=torch.bool)
        look_at_attention(student, torch.randn(3, B, H, T, d), mask, with_gradients=trial % 4 == 3,
                          causal=trial % 3 == 0)
    for shape in ((1, 2, 70, 3), (1, 1, 300, 2)):           # a text as long as a real one
        mask = torch.ones(shape[2], shape[2], dtype=torch.bool).tril()
        look_at_attention(student, torch.randn(3, *shape), mask)
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    row_signs = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]
    for sign in (1, -1, row_signs):        # every score about 16,000 or −16,000, or either by turns
        q = torch.full((1, 2, 4, 16), 64.0) * sign              # whole numbers, so that it is exact
        k = torch.full((1, 2, 4, 16), 64.0)
        k[..., 0] += torch.randint(2, (1, 2, 4))
        look_at_attention(student, torch.stack([q, k, torch.randn(q.shape)]), mask,
                          tolerance=5e-3)                       # 16,000 in float32 is not finer
    q, k = torch.full((2, 1, 2, 4, 16), 64.0)
    k[..., 1:, :] = 0.0                                         # the first key has it all
    look_at_attention(student, torch.stack([q, k, torch.randn(q.shape)]), mask)


def look_at_attention(student: Student, qkv: Tensor, mask: Tensor, with_gradients=False,
                      causal=False, tolerance: float = TOLERANCE) -> None:
    """One try, with queries, keys and values (3, B, H, T, d)."""
    _, B, H, T, d = qkv.shape
    q, k, v = (laid_out(part.clone()).requires_grad_(with_gradients) for part in qkv)
    result = student("`k.transpose(-2, -1)` turns over the last two axes, so that q @ kᵀ is (B, H, "
                     "T, T).",
                     q=q, k=k, v=v, mask=mask)
    given = {name: student.given[name] for name in ("q", "k", "v")}
    if isinstance(result, Tensor):
        raise Mistake(f"{student.name} returns one tensor. Return the output and the weights: "
                      "`return out, weights`.")
    made, made_weights = pair(result, student.name, "out, weights")
    shapes = getattr(made, "shape", None), getattr(made_weights, "shape", None)
    if T != d and shapes == ((B, H, T, T), (B, H, T, d)):
        raise Mistake(f"{student.name} returns the weights first. The output comes first: `return "
                      "out, weights`.")
    weights = tensor(made_weights, "Your weights", (B, H, T, T), "(B, H, T, T)")
    out = tensor(made, "Your output", (B, H, T, d), "(B, H, T, d_head)")
    with torch.no_grad():
        look_at_weights(weights, q, k, mask, tolerance)
        look_at_output(out, weights, q, k, v, mask, tolerance)
    if with_gradients:
        right = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        look_at_gradients("Your output", made, right, given, {"q": q, "k": k, "v": v})
    if causal and T > 1 and not with_gradients:
        look_into_future(student, out, q, k, v, mask)


def right_weights(q: Tensor, k: Tensor, mask: Tensor, scale: float = 1.0) -> Tensor:
    """softmax(q kᵀ / √d) over the visible keys, with the scores multiplied by `scale`."""
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / q.shape[-1] ** 0.5
    return torch.softmax(torch.where(mask, scale * scores, float("-inf")), dim=-1)


def look_at_weights(weights: Tensor, q: Tensor, k: Tensor, mask: Tensor,
                    tolerance: float) -> None:
    """Raises the mistake in the attention weights, if there is one."""
    right = right_weights(q, k, mask)
    if same(weights, right, tolerance):
        return
    d, T = q.shape[-1], q.shape[-2]
    scores = q @ k.transpose(-2, -1)
    large = float(scores.abs().max()) / d ** 0.5 > 80
    scaled = scores / d ** 0.5
    hidden = scaled.masked_fill(~mask, float("-inf"))
    if is_nan(weights):
        if large:
            raise Mistake(f"Where scores are large, {float(scores.abs().max()) / d ** 0.5:.0f} "
                          "here, your weights are NaN: exp of such a number is infinite. `softmax` "
                          "subtracts the largest score of the row first.")
        if bool(weights.isnan().all()):
            raise Mistake("All your weights are NaN. 0 times infinity is NaN: don't multiply a "
                          "mask by -inf, use masked_fill(~mask, -inf).")
        raise Mistake("Some rows of your weights are NaN: where everything is hidden there is "
                      "nothing to share out. True in the mask means `may look`, so hide where it "
                      "is False: masked_fill(~mask, -inf).")
    rows, columns = weights.sum(-1), weights.sum(-2)
    accuse(weights, {
        "Your weights are the bare scores: softmax has not been applied.":
            scaled.masked_fill(~mask, 0.0),
        "Your weights are the bare scores, with -inf for the future: softmax has not been applied.":
            hidden,
        "Your scores are divided by √d only after the softmax. Divide first: rows must share out "
        "exactly 1.": scores.masked_fill(~mask, float("-inf")).softmax(-1) / d ** 0.5,
        "Your weights are logarithms: use softmax, not log_softmax.": hidden.log_softmax(-1),
        "Your weights come from a sigmoid, each on its own. Softmax makes the keys of a row "
        "compete for a sum of 1.": hidden.sigmoid(),
    })
    if same(columns, torch.ones_like(columns)) and not same(rows, torch.ones_like(rows)):
        raise Mistake("Your columns sum to 1, not your rows (row 0 sums to "
                      f"{rows.flatten()[0]:.2f}). Each query shares its attention among the keys: "
                      "softmax over the last axis.")
    if not same(rows, torch.ones_like(rows)):
        look_at_rounding(weights, right, "Each of your weights")
        row = int((rows - 1).abs().amax((0, 1)).argmax())
        total = rows[..., row].flatten()[0]
        bad = f"Rows of your weights don't sum to 1 (row {row} sums to {total:.2f})."
        after = scaled.softmax(-1).masked_fill(~mask, 0.0)
        raise Mistake(f"{bad} You mask after the softmax, which throws away what the hidden keys "
                      "had got. Mask the scores before the softmax, so that it shares out 1 among "
                      "what is left."
                      if same(weights, after)
                      or same(weights, scores.softmax(-1).masked_fill(~mask, 0.0)) else
                      f"{bad} Softmax over the last axis, the keys, comes last of all.")
    leak = (weights * ~mask).amax()
    if leak > 1e-4 and large:
        raise Mistake(f"Where scores are large, {float(scores.abs().max()) / d ** 0.5:.0f} here, a "
                      f"hidden key gets {float(leak):.4f} of the attention: the number that hides "
                      "it is not low enough. Nothing is lower than -inf: masked_fill(~mask, "
                      "float('-inf')).")
    accuse(weights, {
        "The mask has the opposite effect: your weights are spread over what the mask hides. True "
        "means `may look`, so hide where it is False: masked_fill(~mask, -inf).":
            right_weights(q, k, ~mask).nan_to_num(1 / T),
        "The mask has no effect: hidden keys get their share too. Set their scores to -inf before "
        "the softmax.": scaled.softmax(-1),
        "Hidden scores are set to 0, and a score of 0 still gets a share: exp(0) is 1. Only -inf "
        "gets nothing.": scaled.masked_fill(~mask, 0.0).softmax(-1),
        "The mask is added to the scores as 0 and 1, which hides nothing. Set the hidden scores "
        "to -inf.": (scaled + mask).softmax(-1),
        "You use a causal mask of your own. Use the `mask` that you were given: it need not be "
        "causal.": right_weights(q, k, torch.ones_like(mask).tril()),
        "Your mask works, and it is the transposed one: rows are queries, columns are keys.":
            right_weights(q, k, mask.T),
    })
    if leak > 1e-4:
        raise Mistake(f"A hidden key gets {float(leak):.4f} of the attention where 0 is right. Set "
                      "the scores of hidden keys to -inf, so that softmax gives them nothing at "
                      "all.")
    accuse(weights, {
        f"Your weights are too sharp: at d = {d} the largest of the last row is "
        f"{float(weights[..., -1, :].max()):.2f} where {float(right[..., -1, :].max()):.2f} is "
        "right. Did you divide the scores by √d?": right_weights(q, k, mask, d ** 0.5),
        f"Your weights are too even: you divide by d = {d} where √d = {d ** 0.5:.1f} is right. "
        "The standard deviation of a sum of d products is √d.":
            right_weights(q, k, mask, d ** -0.5),
        "You multiply the scores by √d instead of dividing.": right_weights(q, k, mask, d),
        f"You divide by √T = √{T}, the number of positions. What makes scores large is the number "
        f"of products in each, d = {d}.": right_weights(q, k, mask, (d / T) ** 0.5),
        "You divide by √(H·d), the width of all heads together. A score is a sum over one head: d "
        f"= {d}.": right_weights(q, k, mask, q.shape[1] ** -0.5),
        "q and k have changed places: row i must be query i, so the scores are q @ kᵀ.":
            right_weights(k, q, mask),
        "You compare the queries with themselves: q @ qᵀ. The scores are q @ kᵀ.":
            right_weights(q, q, mask),
        "You compare the keys with themselves: k @ kᵀ. The scores are q @ kᵀ.":
            right_weights(k, k, mask),
        "The visible keys all get the same: your weights do not depend on q and k.":
            (mask / mask.sum(-1, keepdim=True)).expand_as(right),
        "Softmax is there twice. Once is enough: the second makes everything nearly even.":
            torch.softmax(torch.where(mask, right, float("-inf")), -1),
    })
    if divisor := fixed_divisor(weights, scores, mask):
        raise Mistake(f"Your scores are divided by {divisor:.3g}. At d = {d} right is √d = "
                      f"{d ** 0.5:.3g}: the divisor must come from the input, q.shape[-1] ** 0.5, "
                      "and not from one example.")
    raise difference(weights, right, "Rows sum to 1 and the mask holds, but a weight")


def fixed_divisor(weights: Tensor, scores: Tensor, mask: Tensor) -> float | None:
    """By what the scores have been divided instead of √d, if that is wrong with these weights."""
    logs = torch.where(mask, weights, 1.0).log()
    gaps, log_gaps = (torch.where(mask, values - values.diagonal(dim1=-2, dim2=-1)[..., None], 0.0)
                      for values in (scores, logs))    # against each query's own key, which it sees
    if not bool(log_gaps.isfinite().all()) or float(log_gaps.abs().max()) < 1e-3:
        return None
    place = log_gaps.abs().argmax()
    divisor = float(gaps.flatten()[place] / log_gaps.flatten()[place])
    wrong = torch.where(mask, scores / divisor, float("-inf")).softmax(-1)
    return divisor if divisor > 0 and same(weights, wrong, 1e-3) else None


def look_at_output(out: Tensor, weights: Tensor, q: Tensor, k: Tensor, v: Tensor,
                   mask: Tensor, tolerance: float) -> None:
    """Raises the mistake in the output, whose weights are right."""
    right = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if same(out, right, tolerance):
        return
    d = q.shape[-1]
    accuse(out, {
        "Your weights are right, and the output mixes the keys: it should mix the values, weights "
        "@ v.": weights @ k,
        "Your weights are right, and the output mixes the queries: it should mix the values, "
        "weights @ v.": weights @ q,
        "Your weights are right, and the output uses them transposed: weights @ v, not weightsᵀ @ "
        "v.": weights.transpose(-2, -1) @ v,
        "The weights you return are right, but the output was made with unmasked ones: the future "
        "leaks into it.": F.scaled_dot_product_attention(q, k, v),
        "The weights you return are right, but the output was made without the division by √d.":
            right_weights(q, k, mask, d ** 0.5) @ v,
        "Your output is the values themselves: mix them with the weights, weights @ v.": v,
        "Your output is divided by √d once more. Only the scores are divided.": right / d ** 0.5,
        "v has been added to your output. The residual connection belongs to the block, not here.":
            right + v,
    })
    raise difference(out, right, "Your weights are right, but your output")


def look_into_future(student: Student, out: Tensor, q: Tensor, k: Tensor, v: Tensor,
                     mask: Tensor) -> None:
    """Changes the last position: no earlier one may notice."""
    changed = [torch.cat([x[..., :-1, :], torch.randn_like(x[..., -1:, :])], dim=-2)
               for x in (q, k, v)]
    again = student(q=changed[0], k=changed[1], v=changed[2], mask=mask)[0]
    if not same(again[..., :-1, :], out[..., :-1, :]):
        raise Mistake("Changing the last position changes your output at earlier ones: the future "
                      "is visible. Nothing may be shared between positions but through the "
                      "weights.")


# --------------------------------------------------------------------------------- check_multi_head

@check("multi-head attention: heads apart, the future invisible, equal to torch's own on 18 random "
       "inputs")
def check_multi_head(student: Student) -> None:
    """Checks `fn(x: (B, T, C), qkv, projection, n_heads) -> (B, T, C)`, causal.

    qkv is a Linear from C to 3C (queries, then keys, then values), projection a Linear from C to C.
    """
    for trial in range(18):
        B, T, n_heads, d = (2, 5, *random.sample((2, 3, 5), 2)) if trial < 4 else sizes(trial, 4, 5)
        B, T, n_heads, d = {16: (2, 5, 2, 4), 17: (1, 70, 2, 4)}.get(trial, (B, T, n_heads, d))
        C = n_heads * d
        x = laid_out(torch.randn(B, T, C)).requires_grad_(trial % 4 == 3)
        qkv, projection = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C)
        nn.init.normal_(qkv.weight, std=(2 / C) ** 0.5)    # so that the scores are not all nearly 0
        if trial > 15:                      # every score about 128, or −128: a bare exp overflows
            x[..., 0] = 1.0
            with torch.no_grad():
                qkv.weight[:2 * C, 0] = 8.0
                qkv.weight[:C, 0] *= 33 - 2 * trial
        made = student("Write it in four lines: qkv, three times split into heads, attention, "
                       "merge.",
                       x=x, qkv=qkv, projection=projection, n_heads=n_heads)
        if isinstance(made, (tuple, list)):
            raise Mistake(f"{student.name} returns {article(made)} of {len(made)}. Return one "
                          "tensor, (B, T, C): attention returns the output and the weights, go on "
                          "with the output.")
        if isinstance(made, Tensor) and made.shape == (B, n_heads, T, d):
            raise Mistake("Your heads are still apart: (B, n_heads, T, d_head). Merge them into "
                          "(B, T, C), then apply the projection.")
        answer = tensor(made, "Your output", (B, T, C), "(B, T, C)")
        with torch.no_grad():
            look_at_multi_head(answer, x, qkv, projection, n_heads)
        learned = {"qkv.weight": qkv.weight, "projection.weight": projection.weight,
                   "projection.bias": projection.bias}
        if x.requires_grad:
            look_at_gradients("Your output", made, right_multi_head(x, qkv, projection, n_heads),
                              {"x": student.given["x"]} | learned, {"x": x} | learned)


def right_multi_head(x: Tensor, qkv: nn.Linear, projection: nn.Linear, n_heads: int) -> Tensor:
    """The truth: torch's own attention between the two layers."""
    q, k, v = (part.unflatten(-1, (n_heads, -1)).transpose(1, 2) for part in qkv(x).chunk(3, -1))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)     # (B, H, T, d_head)
    return projection(mixed.transpose(1, 2).flatten(2))


def look_at_multi_head(answer: Tensor, x: Tensor, qkv: nn.Linear, projection: nn.Linear,
                       n_heads: int) -> None:
    """Raises the mistake in the output of multi-head attention, if there is one."""
    def heads(y: Tensor) -> Tensor:
        return y.unflatten(-1, (n_heads, -1)).transpose(1, 2)

    def merged(y: Tensor) -> Tensor:
        return y.transpose(1, 2).flatten(2)

    q, k, v = (heads(part) for part in qkv(x).chunk(3, -1))  # three of (B, H, T, d_head)
    out = merged(F.scaled_dot_product_attention(q, k, v, is_causal=True))
    right = right_multi_head(x, qkv, projection, n_heads)
    if same(answer, right):
        return
    B, T, C = x.shape
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    whole = (part[:, None] for part in qkv(x).chunk(3, -1))     # three of (B, 1, T, C)
    one_head = F.scaled_dot_product_attention(*whole, is_causal=True)
    by_head = heads(qkv(x)).chunk(3, -1)                 # (H, 3, d_head) in place of (3, H, d_head)
    straight = [part.reshape(B, n_heads, T, -1) for part in qkv(x).chunk(3, -1)]
    accuse(answer, {
        "The projection is missing: your output is the merged heads, before the last matrix mixes "
        "them.": out,
        "There is no causal mask: every position sees the future.":
            projection(merged(F.scaled_dot_product_attention(q, k, v))),
        f"Your heads are not apart: this is one head of {C} channels. Split q, k and v into "
        f"{n_heads} heads before attention.": projection(one_head[:, 0]),
        "Your heads are right, and the merge mixes positions with heads: transpose back to (B, T, "
        "n_heads, d_head) before you reshape to (B, T, C).": projection(mixed.reshape(B, T, C)),
        "Your split mixes positions with channels: reshape to (B, T, n_heads, d_head) first, then "
        "transpose.": projection(merged(F.scaled_dot_product_attention(*straight, is_causal=True))),
        "q and k have changed places: the first third of qkv's output is the queries, then come "
        "the keys, then the values.":
            projection(merged(F.scaled_dot_product_attention(k, q, v, is_causal=True))),
        "The thirds of qkv's output are taken in reverse: the order is queries, keys, values.":
            projection(merged(F.scaled_dot_product_attention(v, k, q, is_causal=True))),
        "You split into heads before you cut into q, k and v. Cut the 3C channels into three "
        "first: `chunk(3, -1)`.":
            projection(merged(F.scaled_dot_product_attention(*by_head, is_causal=True))),
        "The scores are divided by √d_model. A score is a sum over one head: divide by √d_head.":
            projection(merged(
                F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=C ** -0.5))),
        "The scores are not divided by √d_head.":
            projection(merged(F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0))),
        "x has been added to your output. The residual connection belongs to the block, not here.":
            right + x,
        "The projection is used by its weight alone, and its bias is lost: call it, projection(…).":
            right - projection.bias,
        "The projection is used the wrong way round: a Linear computes x @ weight.T + bias. Call "
        "it, projection(…).": out @ projection.weight + projection.bias,
    })
    raise difference(answer, right, "Your output")
