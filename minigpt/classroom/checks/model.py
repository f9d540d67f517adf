"""Checks for 03_model: LayerNorm, feed-forward, the block, the whole model.

A student's module is given the weights of the package's, by name, as the notebook gives them too,
and the truth is computed from the same weights with torch's functions. Where the two differ, the
module is watched while it works: hooks note what goes into each part and what comes out, so that a
check can say that norm2 was fed the wrong thing.
"""

import random
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt import FeedForward, GPTConfig, GPTModel, TransformerBlock
from minigpt.classroom.checks.cases import laid_out, one_of
from minigpt.classroom.checks.framework import (
    Mistake,
    Student,
    accuse,
    check,
    difference,
    is_nan,
    look_at_gradients,
    same,
    shake,
    tensor,
)

# --------------------------------------------------------------------------------- check_layer_norm

EPS = 1e-5


@check("layer norm: mean 0 and variance 1 before weight and bias, equal to torch's own on 20 "
       "random inputs")
def check_layer_norm(student: Student) -> None:
    """Checks `fn(x: (..., C), weight: (C,), bias: (C,)) -> (..., C)`.

    Last axis, biased variance, eps 1e-5.
    """
    shapes = [(*random.sample((2, 3, 4), 2), random.randint(5, 8)) for _ in range(8)]
    shapes += [(4, 4, 4), (1, 1, 6), (5,), (3, 7), (2, 3, 4, 5), (2, 1), (2, 300), (1, 2, 1, 2, 3),
               (2, 3, 16), (6, 6)]
    for trial, shape in enumerate(shapes):
        C = shape[-1]
        x = torch.randn(shape) * 3 + one_of(-20, 2)
        if trial % 4 == 0:
            x = torch.randn(shape) * 0.003      # a variance like eps: its size and its place show
        if trial % 4 == 1:
            x.view(-1, C)[0] = 1.5                              # no variance at all
        x, weight, bias = (laid_out(part).requires_grad_(trial % 3 == 2)
                           for part in (x, torch.randn(C) + 1, torch.randn(C)))
        made = student(layer_norm_hint(x), x=x, weight=weight, bias=bias)
        answer = tensor(made, "Your result", shape, "(..., C), the shape of x,")
        right = F.layer_norm(x, (C,), weight, bias, EPS)
        with torch.no_grad():
            if not same(answer, right):
                raise layer_norm_mistake(answer, right, x, weight, bias)
        if x.requires_grad:
            names = {"x": x, "weight": weight, "bias": bias}
            given = {name: student.given[name] for name in names}
            look_at_gradients("Your result", made, right, given, names, exact=False)


def layer_norm_hint(x: Tensor) -> str:
    """What may help where a function fails on this x."""
    if x.dim() != 3:
        return ("x may have any number of axes, and is normalised over the last: mean(-1, "
                "keepdim=True) asks for no more than one.")
    return "Keep the axis that you average over: mean(-1, keepdim=True)."


def normalised(x: Tensor, axes=-1, eps: float = EPS, correction: int = 0,
               centre: bool = True) -> Tensor:
    """x normalised over `axes`, right or in one of the wrong ways."""
    mean = x.mean(axes, keepdim=True) if centre else 0.0
    variance = (x.var(axes, keepdim=True, correction=correction) if centre
                else (x * x).mean(axes, keepdim=True))
    return (x - mean) / (variance + eps) ** 0.5


def layer_norm_mistake(answer: Tensor, right: Tensor, x: Tensor, weight: Tensor,
                       bias: Tensor) -> Mistake:
    """Why these numbers are wrong."""
    if is_nan(answer) or bool(answer.isinf().any()):
        return Mistake("Where all numbers of a row are equal your result is NaN or infinite: the "
                       "variance is 0 there. Add eps = 1e-5 to it before the square root.")
    plain, C = normalised(x), x.shape[-1]
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
    deviation = variance.sqrt()
    other_axes = "Over the last axis, C: each position by itself, whatever stands beside it."
    suspects = {
        f"Your variance divides by C − 1 = {C - 1} (torch's default). LayerNorm divides by C = "
        f"{C}: var(-1, keepdim=True, correction=0).": normalised(x, correction=1) * weight + bias,
        "Your eps stands outside the root: (x − mean) / (std + eps). It is added to the variance, "
        "inside the root.": (x - mean) / (deviation + EPS) * weight + bias,
        "There is no eps in your root, or one too small to matter. It is 1e-5 here: √(variance + "
        "eps).": (x - mean) / deviation * weight + bias,
        "You divide by the variance; divide by its square root, the standard deviation.":
            (x - mean) / (variance + EPS) * weight + bias,
        "You don't subtract the mean.": x / (variance + EPS).sqrt() * weight + bias,
        "You don't subtract the mean, and divide by the root mean square. That is RMSNorm; "
        "LayerNorm centres first.": normalised(x, centre=False) * weight + bias,
        "You subtract the mean, and then nothing is divided by the standard deviation.":
            (x - mean) * weight + bias,
        f"You normalise over the first axis. {other_axes}": normalised(x, 0) * weight + bias,
        f"You normalise over everything at once. {other_axes}":
            normalised(x, tuple(range(x.dim()))) * weight + bias,
        "The weight is used by its size alone: it may be negative too.":
            plain * weight.abs() + bias,
        "Weight and bias are missing: multiply by weight, then add bias.": plain,
        "The bias is missing: add it at the end.": plain * weight,
        "The weight is missing: multiply by it before you add the bias.": plain + bias,
        "Weight and bias have changed places: multiply by weight, add bias.": plain * bias + weight,
        "You add the bias before you multiply by the weight: multiply first.":
            (plain + bias) * weight,
        "Weight and bias are applied to x before it is normalised: they come last.":
            normalised(x * weight + bias),
        "Your result has the wrong sign: x − mean, not mean − x.": -plain * weight + bias,
        "You use 1 + weight; the weight itself is meant.": plain * (1 + weight) + bias,
    }
    if x.dim() == 3:
        suspects |= {
            f"You normalise over the positions. {other_axes}": normalised(x, 1) * weight + bias,
            f"You normalise over positions and channels together. {other_axes}":
                normalised(x, (1, 2)) * weight + bias,
            f"You normalise over batch and positions together: that is batch norm. {other_axes}":
                normalised(x, (0, 1)) * weight + bias,
        }
    for eps in (1e-3, 1e-4, 1e-6, 1e-8, 1e-12):
        reason = f"Your eps is {eps:g}; here it is 1e-5, as in torch."
        suspects[reason] = normalised(x, eps=eps) * weight + bias
    accuse(answer, suspects)
    return difference(answer, right, "Your LayerNorm")


# ------------------------------------------------------------------------------- check_feed_forward

@check("feed-forward: widen to d_ff, GELU, back to d_model, each position by itself, on 8 random "
       "inputs")
def check_feed_forward(student: Student) -> None:
    """Checks `cls(d_model, d_ff)`, an nn.Module (B, T, C) -> (B, T, C).

    nn.Linear `expand`, GELU, nn.Linear `contract`.
    """
    for trial in range(8):
        d_model = one_of(1, 6, 8, 12)
        d_ff = d_model * 4 + random.randint(1, 9) if trial % 2 == 0 else one_of(d_model, 1, 3, 100)
        module = student.module(d_model=d_model, d_ff=d_ff)
        look_at_linears(student.name, module, d_model, d_ff)
        weights = shared_weights(student.name, module, FeedForward(d_model, d_ff))
        B, T = one_of((2, 5), (1, 1), (3, 3)) if trial else (1, 300)
        B, T, kind = (2, 5, "transposed") if trial == 1 else (B, T, None)
        x = laid_out(torch.randn(B, T, d_model) * one_of(2, 2, 40), kind).requires_grad_()
        for mode in (False, True):
            made = student.ask_module(module.train(mode), x)
            if isinstance(made, Tensor) and made.shape == (*x.shape[:-1], d_ff) != x.shape:
                raise Mistake(f"Your result is still d_ff = {d_ff} wide: the second Linear leads "
                              f"back to d_model = {d_model}.")
            answer = tensor(made, "Your result", tuple(x.shape), "(B, T, d_model)")
            exact, by_tanh = (right_feed_forward(weights, x, how) for how in ("none", "tanh"))
            right = min((exact, by_tanh),                       # GPT-2's approximation is as good
                        key=lambda one: float((answer - one).detach().abs().amax()))
            if not same(answer, right):
                steady(student, module, x, answer)
                raise feed_forward_mistake(answer, exact, x, weights)
            look_at_gradients("Your result", made, right,
                              {"x": student.given["x"]} | learned(module), {"x": x} | weights)


def right_feed_forward(weights: dict[str, Tensor], x: Tensor, approximate: str = "none") -> Tensor:
    """The truth: two Linear with a GELU between them."""
    hidden = F.linear(x, weights["expand.weight"], weights["expand.bias"])
    return F.linear(F.gelu(hidden, approximate=approximate), weights["contract.weight"],
                    weights["contract.bias"])


def learned(module: nn.Module) -> dict[str, Tensor]:
    """What a module learns, by name."""
    return dict(module.named_parameters(remove_duplicate=False))


def shared_weights(name: str, module: nn.Module, package: nn.Module) -> dict[str, Tensor]:
    """Random weights of the package's module, by name, which the student's gets too.

    They are loaded as the notebook does it.
    """
    shake(package)
    found, wanted = module.state_dict(), package.state_dict()
    missing, foreign = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing:
        raise Mistake(f"{name} has no {missing[0]}. The cells that follow load the package's "
                      "weights into it by name, so its parts need these names: "
                      f"{', '.join(sorted({key.rpartition('.')[0] for key in wanted}))}.")
    if foreign:
        raise Mistake(f"{name} also has {foreign[0]}, which the package's does not have: the cells "
                      "that follow load its weights by name, and there is nothing for that one. "
                      "Leave it out.")
    for key, value in wanted.items():
        if found[key].shape != value.shape:
            raise Mistake(f"{key} of {name} has shape {tuple(found[key].shape)}; right is "
                          f"{tuple(value.shape)} here: take the sizes from what __init__ is given.")
    module.load_state_dict(wanted)
    for key, value in module.state_dict().items():
        if not torch.equal(value, wanted[key]):
            raise Mistake(f"{name} can't hold the package's weights: {key} is one and the same "
                          "tensor as another part's. Give each part weights of its own.")
    return learned(package)


def look_at_linears(name: str, module: nn.Module, d_model: int, d_ff: int) -> None:
    """A student's feed-forward has its two maps, of the right sizes, where training finds them."""
    found = [part for part in module.modules() if isinstance(part, nn.Linear)]
    sizes = [(part.in_features, part.out_features) for part in found]
    if not list(module.parameters()):
        raise Mistake(f"{name} has no parameters that training could find. Put each nn.Linear in "
                      "an attribute of its own (self.expand = nn.Linear(…)); a plain list hides "
                      "them.")
    there_and_back = len(found) == 2 and sizes[0] == sizes[1][::-1]
    if there_and_back and d_model in sizes[0] and d_ff not in sizes[0]:
        raise Mistake(f"With d_ff = {d_ff} your hidden layer has {max(sizes[0])} numbers: use the "
                      "d_ff that you were given.")
    if found and sorted(sizes) != sorted([(d_model, d_ff), (d_ff, d_model)]):
        raise Mistake(f"{name} should have two nn.Linear, {d_model} -> {d_ff} and {d_ff} -> "
                      f"{d_model}; it has "
                      f"{', '.join(f'{before} -> {after}' for before, after in sizes)}.")
    for part in ("expand", "contract"):
        if not isinstance(getattr(module, part, None), nn.Linear):
            raise Mistake(f"{name} has no nn.Linear self.{part}. The cells that follow load the "
                          "package's weights by name, so the first is called expand and the second "
                          "contract.")
        if getattr(module, part).bias is None:
            raise Mistake(f"self.{part} has no bias, and the package's has one, which the cells "
                          "that follow load into it: nn.Linear(…) makes it by itself.")


def steady(student: Student, module: nn.Module, x: Tensor, answer: Tensor) -> None:
    """Wrong numbers are no surprise where another input gives them too, or the same gives others.

    The same input must give the same output, in eval mode and where no dropout was asked for.
    """
    if student.unmoved:
        raise Mistake(f"{student.name} gives one and the same result for two different inputs: it "
                      "keeps what it made of the first, or never looks at x.")
    again = student.ask(module, x=x).detach()
    if same(again, answer):
        return
    if module.training:
        raise Mistake("In training mode two calls on the same x give two results: something is "
                      "dropped at random, though the dropout that was asked for is 0.")
    raise Mistake("In eval mode two calls on the same x give two results: your dropout is on "
                  "outside training too. Use nn.Dropout, or F.dropout(…, training=self.training).")


def feed_forward_mistake(answer: Tensor, right: Tensor, x: Tensor,
                         weights: dict[str, Tensor]) -> Mistake:
    """Why these numbers are wrong."""
    with torch.no_grad():
        def expand(x: Tensor) -> Tensor:
            return F.linear(x, weights["expand.weight"], weights["expand.bias"])

        def contract(x: Tensor) -> Tensor:
            return F.linear(x, weights["contract.weight"], weights["contract.bias"])

        hidden = expand(x)
        shortcut = contract(hidden)
        accuse(answer, {
            "There is no GELU between the two Linear layers. Without something that bends, two "
            "matrices in a row are no more than one.": shortcut,
            "There is a ReLU between the two Linear layers; here it is GELU, which bends smoothly.":
                contract(F.relu(hidden)),
            "There is a SiLU between the two Linear layers; here it is GELU.":
                contract(F.silu(hidden)),
            "There is x · sigmoid(1.702 x) between the two Linear layers, a rough stand-in for "
            "GELU: use F.gelu.": contract(hidden * (1.702 * hidden).sigmoid()),
            "There is a tanh between the two Linear layers; here it is GELU.":
                contract(hidden.tanh()),
            "There is a sigmoid between the two Linear layers; here it is GELU.":
                contract(hidden.sigmoid()),
            "There is a leaky ReLU between the two Linear layers; here it is GELU.":
                contract(F.leaky_relu(hidden)),
            "There is an ELU between the two Linear layers; here it is GELU.":
                contract(F.elu(hidden)),
            "The GELU comes after the second Linear. It belongs in between, where the numbers are "
            "d_ff wide.": F.gelu(shortcut),
            "There is a second GELU, after the last Linear. What is added to the stream must be "
            "free to be negative.": F.gelu(right),
            "There are two GELUs in between, one after the other. One is enough.":
                contract(F.gelu(F.gelu(hidden))),
            "The GELU comes before the first Linear. It belongs in between.":
                contract(expand(F.gelu(x))),
            "x is added to your result. The residual connection belongs to the block, which adds "
            "it once.": x + right,
            "x is normalised first. The norm belongs to the block.":
                contract(F.gelu(expand(F.layer_norm(x, x.shape[-1:])))),
            "Softmax is no activation for a hidden layer: use GELU.": contract(hidden.softmax(-1)),
        })
    return difference(answer, right, "Your feed-forward")


# -------------------------------------------------------------------------------------- check_block

PARTS = ("norm1", "attention", "norm2", "feed_forward")


@check("block: x + attention(norm1(x)), then + feed_forward(norm2(that)), causal, on 8 random "
       "inputs")
def check_block(student: Student) -> None:
    """Checks `cls(config: GPTConfig)`, a pre-norm block, with parts named as in the package.

    They are `norm1`, `attention`, `norm2` and `feed_forward`.
    """
    for trial in range(8):
        d_ff, dropout = one_of(12, 20, 33), one_of(0.0, 0.3) if trial > 1 else 0.3
        width = one_of({}, {"d_model": 8, "n_heads": 1}, {"d_model": 6, "n_heads": 6})
        config = block_config(d_ff=d_ff, dropout=dropout, **width)
        block = student.module(config=config)
        parts(student.name, block, PARTS)
        weights = shared_weights(student.name, block, TransformerBlock(config))
        shape = one_of((2, 5), (1, 1), (3, 3), (1, 8)) if trial else (2, 5)
        shape = (1, 70) if trial == 7 else shape
        size = 0.005 if trial in (2, 4) else one_of(1, 1, 30)    # so small that a norm's eps shows
        kind = "transposed" if trial == 0 else None
        x = laid_out(torch.randn(*shape, config.d_model) * size, kind)
        x.requires_grad_(trial % 2 == 1)
        in_step(student, block, weights, x, right_block(weights, x, config.n_heads), "Your result",
                config, look_at_block)
    check_without_feed_forward(student)


def in_step(student: Student, module: nn.Module, weights: dict[str, Tensor], x: Tensor,
            right: Tensor, what: str, config: GPTConfig, look) -> None:
    """Whether the student's module gives what is right; `look` says why not.

    It is asked in eval mode, and in training mode where there is no dropout.
    """
    for mode in (False, True) if config.dropout == 0 else (False,):
        made = student.ask_module(module.train(mode), x)
        answer = tensor(made, what, tuple(right.shape),
                        "(B, T, vocab_size)" if what == "Your logits" else "(B, T, C)")
        with torch.no_grad():
            if not same(answer, right):
                steady(student, module, x, answer)
                look(answer, x, module)
                look_into_future(student, module, x, answer)
                still = f"Each part reads the right thing. Still, {what[0].lower()}{what[1:]}"
                raise difference(answer, right, still)
        leaves = {"x": x} if x.requires_grad else {}
        if not mode and (leaves or not x.is_floating_point()):
            given = {name: student.given[name] for name in leaves}
            look_at_gradients(what, made, right, given | learned(module), leaves | weights)


def right_block(weights: dict[str, Tensor], x: Tensor, n_heads: int) -> Tensor:
    """The truth about a block."""
    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    qkv = F.linear(norm("norm1", x), weights["attention.qkv.weight"])  # (B, T, 3 C)
    q, k, v = (part.unflatten(-1, (n_heads, -1)).transpose(1, 2) for part in qkv.chunk(3, -1))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    x = x + F.linear(mixed, weights["attention.projection.weight"],
                     weights["attention.projection.bias"])
    if "norm2.weight" not in weights:
        return x
    return x + right_feed_forward(of_part(weights, "feed_forward"), norm("norm2", x))


def of_part(weights: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """The weights of one part of a module, by the names that they have in it."""
    return {key.removeprefix(f"{part}."): value
            for key, value in weights.items() if key.startswith(f"{part}.")}


def block_config(**sizes) -> GPTConfig:
    """A small model, with dropout, which eval mode must switch off."""
    return GPTConfig(**{"vocab_size": 40, "context_length": 8, "d_model": 12, "n_heads": 3,
                        "n_layers": 2, "d_ff": 20, "dropout": 0.3} | sizes)


def parts(name: str, module: nn.Module, names) -> None:
    """Every part has to be there under its name, be a module, and be a part of its own."""
    for part in names:
        if not isinstance(getattr(module, part, None), nn.Module):
            raise Mistake(f"{name} has no part self.{part}. The check looks for "
                          f"{', '.join(names)}, each an nn.Module.")
    if getattr(module, "norm1", 1) is getattr(module, "norm2", 2):
        raise Mistake("norm1 and norm2 are one and the same module. What attention and "
                      "feed-forward need differs: give each a LayerNorm of its own.")


@contextmanager
def watched(modules: dict[str, nn.Module]):
    """Notes (input, output) of every call of each module: {name: [(input, output), …]}."""
    seen = {name: [] for name in modules}
    hooks = []
    for name, module in modules.items():
        def note(_module, inputs, named, output, name=name):
            given = [value for value in (*inputs, *named.values()) if isinstance(value, Tensor)]
            made = output[0] if isinstance(output, (tuple, list)) else output
            if given and isinstance(made, Tensor):
                seen[name].append((given[0].detach().clone(), made.detach().clone()))
        hooks.append(module.register_forward_hook(note, with_kwargs=True))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def look_at_block(answer: Tensor, x: Tensor, block: nn.Module) -> None:
    """Follows the stream through the block, part by part, and raises the first wrong turn."""
    with watched({name: getattr(block, name) for name in PARTS}) as seen:
        block(x)
    for name in ("attention", "feed_forward", "norm1", "norm2"):
        if not seen[name]:
            raise Mistake(never_used(name, seen))
    for name in PARTS:
        if len(seen[name]) > 1:
            raise Mistake(f"{name} is used {len(seen[name])} times in one pass; each part has its "
                          "turn once.")
    norm1_in, norm1_out = seen["norm1"][0]
    attention_in, attention_out = seen["attention"][0]
    norm2_in, norm2_out = seen["norm2"][0]
    feed_in, feed_out = seen["feed_forward"][0]
    stream = x + attention_out

    if same(norm1_in, attention_out) or same(norm1_in, stream):
        if same(attention_in, x):
            raise Mistake("norm1 comes after the attention (post-norm, as in the first "
                          "Transformer). Here the norm comes before: x + attention(norm1(x)), and "
                          "the stream itself is never normalised.")
        raise Mistake("The norms have changed places: norm2 stands before the attention, norm1 "
                      "before the feed-forward.")
    if not same(norm1_in, x):
        raise Mistake("norm1 should read x, the block's input, as it comes; yours reads something "
                      "else.")
    if same(attention_in, x):
        raise Mistake("The attention reads x as it is. It should read the normalised copy: "
                      "attention(norm1(x)).")
    if not same(attention_in, norm1_out):
        raise Mistake("The attention should read norm1(x), and yours reads something else.")
    accuse(norm2_in, {
        "The residual connection around the attention is missing: the feed-forward sees only what "
        "the attention made. x = x + attention(norm1(x)).": attention_out,
        "Your first residual adds to norm1(x) instead of x: the stream itself is never normalised.":
            norm1_out + attention_out,
        "The feed-forward works beside the attention, both on the block's input. Here it comes "
        "after: norm2 reads x + attention(norm1(x)).": x,
        "norm2 comes after the feed-forward (post-norm). Here the norm comes before: x + "
        "feed_forward(norm2(x)).": feed_out,
        "norm2 comes at the very end (post-norm). Here the norm comes before: x + "
        "feed_forward(norm2(x)).": stream + feed_out,
    } if not same(norm2_in, stream) else {})
    if not same(norm2_in, stream):
        raise Mistake("norm2 should read x + attention(norm1(x)), and yours reads something else.")
    if same(feed_in, stream):
        raise Mistake("The feed-forward reads the stream as it is, not normalised: it should read "
                      "norm2(x).")
    if not same(feed_in, norm2_out):
        raise Mistake("The feed-forward should read norm2(x), and yours reads something else.")
    right = stream + feed_out
    if same(answer, right):
        return
    accuse(answer, {
        "The residual connection around the feed-forward is missing: x = x + "
        "feed_forward(norm2(x)).": feed_out,
        "Your second residual adds to norm2(x) instead of x: the stream itself is never "
        "normalised.": norm2_out + feed_out,
        "Your second residual adds to the block's input, and what the attention made is lost.":
            x + feed_out,
        "What the feed-forward makes is thrown away: x = x + feed_forward(norm2(x)).": stream,
        "The block's input is added twice. Once, around the attention, it is already in the "
        "stream.": x + right,
        "There is a norm on the way out (norm2 once more?). The stream leaves the block as it is.":
            F.layer_norm(right, right.shape[-1:]),
    })


def never_used(name: str, seen: dict) -> str:
    """What to say of a part that had no turn."""
    if name == "norm2" and len(seen["norm1"]) == 2:
        return ("norm1 is used twice and norm2 never: the feed-forward has a norm of its own, "
                "norm2, which learns another scale.")
    if name == "norm1" and len(seen["norm2"]) == 2:
        return "norm2 is used twice and norm1 never: the attention has a norm of its own, norm1."
    if name.startswith("norm"):
        reader = "attention" if name == "norm1" else "feed_forward"
        return (f"{name} is never used: {reader} should read a normalised copy of the stream, "
                f"{reader}({name}(x)).")
    return f"self.{name} is never used: call it in forward."


def look_into_future(student: Student, module: nn.Module, x: Tensor, answer: Tensor) -> None:
    """Changes the last position: no earlier one may notice."""
    changed = x.detach().clone()
    last = changed[:, -1]
    changed[:, -1] = torch.randn_like(last) if x.is_floating_point() else (last + 1) % 7
    again = student.ask(module, x=changed).detach()
    if not same(again[:, :-1], answer[:, :-1]):
        raise Mistake("Changing the last position changes your output at earlier ones: the future "
                      "is visible. Is the causal mask in the attention?")


def check_without_feed_forward(student: Student) -> None:
    """d_ff = 0 leaves the feed-forward out.

    Only a block that means to (its feed_forward is None) is held to it.
    """
    config = block_config(d_ff=0)
    try:
        block = student.answer(config).eval()
    except Exception:                         # a block that knows no d_ff = 0 is a right answer too
        return
    if getattr(block, "feed_forward", block) is not None:
        return
    if getattr(block, "norm2", None) is not None:
        raise Mistake("With d_ff = 0 there is no feed-forward, and norm2 is still there, with "
                      "nothing to normalise for: make it None too.")
    weights = shared_weights(student.name, block, TransformerBlock(config))
    x = torch.randn(2, 4, config.d_model)
    answer = student.ask(block, "With d_ff = 0 there is no feed-forward. Skip the second half "
                                "where feed_forward is None.", x=x)
    if not same(tensor(answer, "Your result", (2, 4, config.d_model), "(B, T, C)"),
                right_block(weights, x, config.n_heads)):
        raise Mistake("With d_ff = 0 your block should give x + attention(norm1(x)), and it gives "
                      "something else.")


# ---------------------------------------------------------------------------------------- check_gpt

@check("gpt: embeddings, blocks in their order, final norm, head; causal, and the order of tokens "
       "matters")
def check_gpt(student: Student) -> None:
    """Checks `cls(config: GPTConfig)`, ids (B, T) int64 -> logits (B, T, V).

    With `token_embedding`, `position_embedding`, `blocks` (an nn.ModuleList), `norm` and `head`, as
    in GPTModel.
    """
    for n_layers in (2, 1, 3, 4):
        vocab_size, context = (300, 300) if n_layers == 1 else (one_of(9, 25), one_of(7, 12, 40))
        config = block_config(vocab_size=vocab_size, context_length=context,
                              n_layers=n_layers, dropout=0.3 if n_layers == 3 else 0.0)
        model = student.module(config=config)
        parts(student.name, model,
              ("token_embedding", "position_embedding", "blocks", "norm", "head"))
        look_at_sizes(model, config)
        weights = shared_weights(student.name, model, GPTModel(config))
        shapes = [(1, 1), (3, 3), (1, config.context_length)] if n_layers % 2 else []
        for B, T in ((1 if context == 300 else 2, context - random.randint(0, 3)), *shapes):
            ids = torch.randint(config.vocab_size, (B, T))
            ids = laid_out(ids, "transposed" if B > 1 else None)
            in_step(student, model, weights, ids, right_model(weights, ids, config), "Your logits",
                    config, look_at_model)


def right_model(weights: dict[str, Tensor], ids: Tensor, config: GPTConfig) -> Tensor:
    """The truth about a model."""
    positions = weights["position_embedding.weight"][:ids.shape[1]]
    x = F.embedding(ids, weights["token_embedding.weight"]) + positions
    for i in range(config.n_layers):
        x = right_block(of_part(weights, f"blocks.{i}"), x, config.n_heads)
    return F.linear(F.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"]),
                    weights["head.weight"])


def look_at_sizes(model: nn.Module, config: GPTConfig) -> None:
    """The parts must have the sizes that the configuration gives."""
    if len(model.blocks) != config.n_layers:
        raise Mistake(f"The configuration asks for n_layers = {config.n_layers} blocks, and there "
                      f"are {len(model.blocks)}.")
    if len({id(block) for block in model.blocks}) < len(model.blocks):
        raise Mistake("All blocks are one and the same module, so they share their weights. Make a "
                      "new one for each layer.")


def look_at_model(answer: Tensor, ids: Tensor, model: nn.Module) -> None:
    """Follows the stream through the model and raises the first wrong turn."""
    with watched({f"blocks[{i}]": block for i, block in enumerate(model.blocks)}
                 | {"norm": model.norm, "head": model.head}) as seen:
        model(ids)
    for i in range(len(model.blocks)):
        if not seen[f"blocks[{i}]"]:
            raise Mistake(f"blocks[{i}] is never used: x goes through every block in turn.")
    for name in ("norm", "head"):
        if not seen[name]:
            what = {"norm": "the stream grows from block to block, and the head should read a "
                            "normalised copy of it",
                    "head": "it turns d_model channels into vocab_size logits"}[name]
            raise Mistake(f"self.{name} is never used: {what}.")
    tokens = F.embedding(ids, model.token_embedding.weight).detach()
    table = model.position_embedding.weight.detach()
    positions = table[:ids.shape[1]]
    x = seen["blocks[0]"][0][0]
    if not same(x, tokens + positions):
        accuse(x, {
            "The positions are missing: without them the model cannot tell `dog bites man` from "
            "`man bites dog`. Add position_embedding to token_embedding.": tokens,
            "Your positions are looked up with the ids: position_embedding(ids). Look up 0, 1, …, "
            "T − 1.": tokens + table[ids % len(table)],
            "Your positions are off by one: they start at 1. The first position is 0.":
                tokens + table.roll(-1, 0)[:ids.shape[1]],
            "Every position gets the embedding of position 0.": tokens + positions[:1],
            "The embeddings are multiplied; add them.": tokens * positions,
        })
        raise Mistake("What enters the first block should be token_embedding(ids) + "
                      "position_embedding(0 … T − 1), and is something else.")
    for i in range(1, len(model.blocks)):
        if not same(seen[f"blocks[{i}]"][0][0], seen[f"blocks[{i - 1}]"][0][1]):
            raise Mistake(f"blocks[{i}] should read what blocks[{i - 1}] made, and reads something "
                          "else: x = block(x).")
    last = seen[f"blocks[{len(model.blocks) - 1}]"][0][1]
    if not same(seen["norm"][0][0], last):
        raise Mistake("The final norm should read what the last block made, and reads something "
                      "else.")
    if same(seen["head"][0][0], last):
        raise Mistake("The head reads the stream as it is: head(norm(x)), the final norm first.")
    if not same(seen["head"][0][0], seen["norm"][0][1]):
        raise Mistake("The head should read what the final norm made, and reads something else.")
    logits = seen["head"][0][1]
    if not same(answer, logits):
        accuse(answer, {
            "Your model returns probabilities. Return the logits: the loss and the sampling apply "
            "softmax themselves.": logits.softmax(-1),
            "Your model returns log-probabilities. Return the logits: the loss and the sampling "
            "apply softmax themselves.": logits.log_softmax(-1),
            "Your logits are divided by √d_model. That belongs to the scores of attention; here "
            "the head's output is returned as it is.": logits / model.norm.weight.shape[0] ** 0.5,
        })
        raise difference(answer, logits, "Your model should return what the head made, and that")
