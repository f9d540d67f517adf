"""Checks for 06_real_model: RMSNorm, the gated feed-forward, shared heads, four bits a number."""

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt import attention, causal_mask
from minigpt.classroom.checks.framework import (
    Mistake,
    Student,
    accuse,
    check,
    difference,
    is_nan,
    same,
    tensor,
)

EPS = 1e-5


# ----------------------------------------------------------------------------------- check_rms_norm

@check("RMS norm: each token divided by its root mean square, then times the weight, right on 12 "
       "random inputs")
def check_rms_norm(student: Student) -> None:
    """Checks `fn(x: (B, T, C), weight: (C,)) -> (B, T, C)`: over the last axis, eps 1e-5."""
    for trial in range(12):
        if trial % 2 == 0:                      # each shape twice
            B, T, C = *random.sample((2, 3, 4), 2), random.randint(5, 8)
        x, weight = torch.randn(B, T, C) * 3 + 2, torch.randn(C) + 1
        if trial % 4 == 0:
            x[0, 0] = 0.0                       # a root of 0
        if trial % 4 == 1:
            x = torch.randn(B, T, C) * 0.003    # squares like eps: where it stands shows
        answer = student("Keep the axis that you average over: mean(-1, "
                         "keepdim=True).", x=x, weight=weight)
        answer = tensor(answer, "Your result", (B, T, C), "(B, T, C)")
        right = divided(x) * weight
        if not same(answer, right):
            raise rms_norm_mistake(answer, right, x, weight)


def divided(x: Tensor, axes=-1, eps: float = EPS) -> Tensor:
    """x divided by its root mean square over `axes`: the last one is right."""
    return x / (x.square().mean(axes, keepdim=True) + eps).sqrt()


def rms_norm_mistake(answer: Tensor, right: Tensor, x: Tensor, weight: Tensor) -> Mistake:
    """Why these numbers are wrong."""
    if is_nan(answer) or bool(answer.isinf().any()):
        return Mistake("Where all numbers of a token are 0 your result is NaN or infinite: its "
                       "root mean square is 0. Add eps = 1e-5 to the mean of the squares, inside "
                       "the root.")
    C, square = x.shape[-1], x.square().mean(-1, keepdim=True)
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    other_axes = "Over the last axis, C: each token by itself, whatever stands beside it."
    suspects = {
        "You subtract the mean first: that is LayerNorm. RMSNorm leaves the mean where it is and "
        "only divides.": F.layer_norm(x, (C,), eps=EPS) * weight,
        "You divide by the standard deviation, which is measured from the mean. RMSNorm takes the "
        "mean of the squares of x itself.": x / (variance + EPS).sqrt() * weight,
        "You subtract the mean, and then divide by the root mean square of x. RMSNorm only "
        "divides.": centred / (square + EPS).sqrt() * weight,
        f"You add the squares up. Take their mean: divide the sum by C = {C}.":
            x / (square * C + EPS).sqrt() * weight,
        f"Your mean of the squares divides by C − 1 = {C - 1}. There is no mean to make up for: "
        f"divide by C = {C}.": x / (square * C / (C - 1) + EPS).sqrt() * weight,
        "You divide by the mean of the squares; divide by its square root.":
            x / (square + EPS) * weight,
        "You multiply by the root mean square; divide by it.": x * (square + EPS).sqrt() * weight,
        "You divide by the mean of |x|. Square, take the mean, then the root.":
            x / (x.abs().mean(-1, keepdim=True) + EPS) * weight,
        "Your eps stands outside the root. It is added to the mean of the squares, inside the "
        "root.": x / (square.sqrt() + EPS) * weight,
        "There is no eps in your root, or one too small to matter. It is 1e-5 here: √(mean of "
        "squares + eps).": x / square.clamp(min=1e-30).sqrt() * weight,
        f"You take the mean over the positions. {other_axes}": divided(x, 1) * weight,
        f"You take the mean over the batch. {other_axes}": divided(x, 0) * weight,
        f"You take the mean over positions and channels together. {other_axes}":
            divided(x, (1, 2)) * weight,
        f"You take the mean over everything at once. {other_axes}": divided(x, (0, 1, 2)) * weight,
        "The weight is missing: multiply by it at the end, a number for each channel.": divided(x),
        "The weight is applied to x before it is normalised: it comes last.": divided(x * weight),
        "You add the weight; multiply by it.": divided(x) + weight,
        "You use 1 + weight; the weight itself is meant.": divided(x) * (1 + weight),
        "You multiply by the weight twice.": divided(x) * weight * weight,
        "Your result has the wrong sign.": -divided(x) * weight,
    }
    for eps in (1e-3, 1e-4, 1e-6, 1e-8, 1e-12):
        suspects[f"Your eps is {eps:g}; here it is 1e-5."] = divided(x, eps=eps) * weight
    accuse(answer, suspects)
    return difference(answer, right, "Your RMSNorm")


# ------------------------------------------------------------------------------------- check_swiglu

@check("SwiGLU: down(silu(gate(x)) * up(x)), each token by itself, without biases, on 6 random "
       "inputs")
def check_swiglu(student: Student) -> None:
    """Checks `cls(d_model, d_ff)`, an nn.Module (B, T, C) -> (B, T, C).

    It has three nn.Linear, `gate`, `up` and `down`.
    """
    for trial in range(6):
        if trial % 2 == 0:                      # each shape twice
            B, T, d_model = 2, random.randint(3, 5), random.choice((6, 8, 12))
            d_ff = d_model * 2 + random.randint(1, 9)
        module = student.module(d_model=d_model, d_ff=d_ff)
        gate, up, down = maps(student.name, module, d_model, d_ff)
        x = torch.randn(B, T, d_model) * 2
        answer = student.ask(module, x=x)
        if isinstance(answer, Tensor) and answer.shape == (B, T, d_ff):
            raise Mistake(f"Your result is still d_ff = {d_ff} wide: `down` leads back to d_model "
                          f"= {d_model}.")
        answer = tensor(answer, "Your result", (B, T, d_model), "(B, T, d_model)")
        opened, passed = gate(x).detach(), up(x).detach()
        right = down(F.silu(opened) * passed).detach()
        if not same(answer, right):
            raise swiglu_mistake(answer, right, x, opened, passed, down)


def maps(name: str, module: nn.Module, d_model: int, d_ff: int) -> list[nn.Linear]:
    """gate, up and down, once they are there, have the right sizes, and have no bias."""
    found = []
    for part in ("gate", "up", "down"):
        sizes = (d_ff, d_model) if part == "down" else (d_model, d_ff)
        linear = getattr(module, part, None)
        if not isinstance(linear, nn.Linear):
            raise Mistake(f"{name} has no part self.{part}. It has three maps, each an nn.Linear: "
                          "gate, up and down.")
        if (linear.in_features, linear.out_features) != sizes:
            raise Mistake(f"self.{part} leads from {linear.in_features} to {linear.out_features} "
                          f"channels; it should lead from {sizes[0]} to {sizes[1]}.")
        if linear.bias is not None:
            raise Mistake(f"self.{part} has a bias, and the model whose weights we load has none: "
                          "nn.Linear(…, bias=False).")
        found.append(linear)
    if found[0] is found[1]:
        raise Mistake("gate and up are one and the same module: each has weights of its own.")
    return found


def swiglu_mistake(answer, right, x, opened, passed, down) -> Mistake:
    """Why these numbers are wrong."""
    with torch.no_grad():
        accuse(answer, {
            "Gate and up have changed places: the SiLU bends the gate, and what goes up stays as "
            "it is.": down(opened * F.silu(passed)),
            "There is no SiLU: without it, gate times up only multiplies. F.silu bends the gate.":
                down(opened * passed),
            "The gate is bent by a sigmoid (the first GLU). Here it is SiLU, x · sigmoid(x).":
                down(opened.sigmoid() * passed),
            "The gate is bent by a GELU (GEGLU). Here it is SiLU.": down(F.gelu(opened) * passed),
            "The gate is bent by a ReLU (ReGLU). Here it is SiLU.": down(F.relu(opened) * passed),
            "The gate is bent by a tanh. Here it is SiLU.": down(opened.tanh() * passed),
            "Both ways are bent. Only the gate is.": down(F.silu(opened) * F.silu(passed)),
            "The SiLU comes after the product. It bends the gate alone, before it multiplies.":
                down(F.silu(opened * passed)),
            "The two are added. A gate multiplies: where it is 0, nothing passes.":
                down(F.silu(opened) + passed),
            "`up` is never used: what the gate lets through is missing.": down(F.silu(opened)),
            "The gate is never used: everything passes.": down(passed),
            "The gate is never used; what goes up is bent instead, as in an ordinary feed-forward.":
                down(F.silu(passed)),
            "x is added to your result. The residual connection belongs to the block, which adds "
            "it once.": x + right,
            "x is normalised first. The norm belongs to the block.":
                down(F.silu(opened / x.square().mean(-1, keepdim=True).add(EPS).sqrt())
                     * passed / x.square().mean(-1, keepdim=True).add(EPS).sqrt()),
            "There is another SiLU at the end. What is added to the stream must be free to be "
            "negative.": F.silu(right),
        })
    return difference(answer, right, "Your SwiGLU")


# ------------------------------------------------------------------------------ check_grouped_heads

@check("grouped heads: each group's keys and values serve its own query heads, right on 12 random "
       "inputs")
def check_grouped_heads(student: Student) -> None:
    """Checks `fn(q, k, v, mask) -> (B, H, T, d)`, with fewer heads of keys than of queries.

    q: (B, H, T, d); k, v: (B, G, T, d), where G divides H; mask: (T, T) bool.
    """
    for _ in range(12):
        G, n, T = random.randint(2, 3), random.randint(2, 4), random.randint(5, 7)
        d = random.choice((8, 10))
        B, H = 2, G * n
        q, k, v = torch.randn(B, H, T, d) * 2, torch.randn(B, G, T, d) * 2, torch.randn(B, G, T, d)
        mask = causal_mask(T)
        answer = student("Give the keys and values as many heads as the queries have, then use "
                         "attention(q, k, v, mask).",
                         q=q, k=k, v=v, mask=mask)
        if isinstance(answer, (tuple, list)) and len(answer) == 2:
            raise Mistake(f"{student.name} returns two things. minigpt.attention gives the output "
                          "and the weights; here only the output is wanted: out, _ = attention(…).")
        answer = tensor(answer, "Your output", (B, H, T, d), "(B, H, T, d)")
        right = in_groups(q, k, v, mask)
        if not same(answer, right):
            raise grouped_mistake(answer, right, q, k, v, mask)


def shared_out(heads: Tensor, H: int) -> Tensor:
    """(B, G, T, d) -> (B, H, T, d): each group's head, as often as it has query heads."""
    return heads.repeat_interleave(H // heads.shape[1], dim=1)


def in_groups(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The right answer: query heads 0 … n − 1 use group 0, the next n group 1, and so on."""
    return attention(q, shared_out(k, q.shape[1]), shared_out(v, q.shape[1]), mask)[0]


def grouped_mistake(answer, right, q, k, v, mask) -> Mistake:
    """Why these numbers are wrong."""
    H, G, d = q.shape[1], k.shape[1], q.shape[-1]
    n = H // G
    k_right, v_right = shared_out(k, H), shared_out(v, H)
    k_tiled, v_tiled = k.repeat(1, n, 1, 1), v.repeat(1, n, 1, 1)
    everything = torch.ones_like(mask)
    order = (f"Neighbours share: query heads 0 to {n - 1} belong to group 0, the next {n} to group "
             "1. ")
    by_hand = (q @ k_right.transpose(-2, -1) / d ** 0.5).masked_fill(~mask, float("-inf"))
    accuse(answer, {
        f"Your groups are dealt out like cards: head i uses group i mod {G}. {order}That is "
        "`repeat_interleave`, not `repeat`.": attention(q, k_tiled, v_tiled, mask)[0],
        f"Your keys go to the right heads and your values do not. {order}Both are shared out "
        "alike.": attention(q, k_right, v_tiled, mask)[0],
        f"Your values go to the right heads and your keys do not. {order}Both are shared out "
        "alike.": attention(q, k_tiled, v_right, mask)[0],
        f"All heads use the first group. There are {G} groups, and each serves its own heads.":
            attention(q, k[:, :1].expand_as(q), v[:, :1].expand_as(q), mask)[0],
        "All heads use the mean of the groups. Each group serves its own heads, and no other.":
            attention(q, k.mean(1, True).expand_as(q), v.mean(1, True).expand_as(q), mask)[0],
        "Your groups come in reverse order: the first query heads use the last group.":
            attention(q, k_right.flip(1), v_right.flip(1), mask)[0],
        "The mask is missing: your positions look into the future.":
            attention(q, k_right, v_right, everything)[0],
        "Your mask is turned around: every position looks at itself and at the future.":
            attention(q, k_right, v_right, mask.T)[0],
        f"The scores are not divided by √d (d = {d} channels of a head).":
            attention(q * d ** 0.5, k_right, v_right, mask)[0],
        f"The scores are divided by d = {d}; divide by its root.":
            attention(q / d ** 0.5, k_right, v_right, mask)[0],
        "Softmax runs over the wrong axis: each query shares its attention out among the keys, "
        "the last axis.": by_hand.softmax(-2).nan_to_num() @ v_right,
        "There is no softmax: the scores themselves weigh the values.":
            (q @ k_right.transpose(-2, -1) / d ** 0.5).masked_fill(~mask, 0.0) @ v_right,
        "The weights are taken of the values and not of the keys: q meets k.":
            attention(q, v_right, v_right, mask)[0],
        "The weights mix the keys; what is handed over are the values.":
            attention(q, k_right, k_right, mask)[0],
    })
    return difference(answer, right, "Your grouped attention")


# --------------------------------------------------------------------------------- check_dequantise

@check("dequantise: 16 bytes are 32 numbers again, low halves first, scale times count plus "
       "minimum")
def check_dequantise(student: Student) -> None:
    """Checks `fn(packed: (N, 16) uint8, scale: (N, 1), minimum: (N, 1)) -> (N, 32)`: Q4_1."""
    for _ in range(8):
        N = random.randint(2, 5)
        packed = torch.randint(256, (N, 16), dtype=torch.uint8)
        scale, minimum = torch.rand(N, 1) * 0.2 + 0.01, -torch.rand(N, 1) - 0.1
        answer = student("`packed & 15` are the low four bits of each byte, `packed >> 4` the high "
                         "ones.",
                         packed=packed, scale=scale, minimum=minimum)
        answer = tensor(answer, "Your result", (N, 32), "(N, 32)")
        low, high = (packed & 15).float(), (packed >> 4).float()
        right = torch.cat([low, high], -1) * scale + minimum
        if not same(answer, right):
            raise dequantise_mistake(answer, right, packed, low, high, scale, minimum)


def dequantise_mistake(answer, right, packed, low, high, scale, minimum) -> Mistake:
    """Why these numbers are wrong."""
    counts = torch.cat([low, high], -1)                            # (N, 32)
    alternating = torch.stack([low, high], -1).flatten(1)
    accuse(answer, {
        "Your numbers alternate, low and high half of byte 0, then of byte 1. Here all sixteen "
        "low halves come first, then all high ones: torch.cat, not torch.stack.":
            alternating * scale + minimum,
        "Your high halves alternate with the low ones, and come first. All sixteen low halves "
        "come first.": torch.stack([high, low], -1).flatten(1) * scale + minimum,
        "Your high halves come before the low ones. Byte 0 holds number 0 in its low half, and "
        "number 16 in its high one.": torch.cat([high, low], -1) * scale + minimum,
        "The minimum is missing: count · scale starts at 0, and the smallest number of a block is "
        "its minimum.": counts * scale,
        "You subtract the minimum; add it. It is negative already where the numbers are.":
            counts * scale - minimum,
        "Scale and minimum have changed places: count · scale + minimum.": counts * minimum + scale,
        "You add the minimum before you multiply by the scale: multiply the count first.":
            (counts + minimum) * scale,
        "You subtract 8 from each count. That is the format Q4_0, which has no minimum; here the "
        "minimum says where 0 is.": (counts - 8) * scale + minimum,
        "Your high halves are 16 times too large: shift them down by four bits, packed >> 4.":
            torch.cat([low, high * 16], -1) * scale + minimum,
        "You take the low halves twice. The high ones are packed >> 4.":
            torch.cat([low, low], -1) * scale + minimum,
        "You take the high halves twice. The low ones are packed & 15.":
            torch.cat([high, high], -1) * scale + minimum,
        "Your low halves are still whole bytes: keep their lowest four bits, packed & 15.":
            torch.cat([packed.float(), high], -1) * scale + minimum,
        "You divide by the scale; multiply by it.": counts / scale + minimum,
        "Scale and minimum are missing: these are the counts, 0 to 15.": counts,
        "Your low halves are the rest of a division by 15; there are 16 counts, 0 to 15.":
            torch.cat([(packed % 15).float(), high], -1) * scale + minimum,
    })
    return difference(answer, right, "Your result")
