"""The model in numbers and pictures: what a size costs, where the parameters are, what each part adds. For 03_model."""

import time
from functools import cache
from statistics import median

import torch
from torch.nn import functional as F

from minigpt import GPT, GPTConfig, GPTModel
from minigpt.classroom.plots import BLACK, BLUE, RED, SMALLEST_FONT, Picture, bars, lines, new_figure
from minigpt.classroom.widgets import Explorer, option_slider, slider

PROBE = GPTConfig(vocab_size=512, context_length=64, d_model=128, n_heads=4, n_layers=2, d_ff=512)


def flops_per_token(config: GPTConfig) -> int:
    """Floating-point operations that training takes for one token: forward, and twice that backward.

    Two for each weight of a matrix (a multiplication and an addition), and two products of T by d_head in each head's
    attention. Embeddings are looked up and cost none. Source: Kaplan et al., "Scaling Laws for Neural Language Models"
    (2020), section 2.1.
    """
    C, T = config.d_model, config.context_length
    weights = config.n_layers * (4 * C * C + 2 * C * config.d_ff) + C * config.vocab_size
    return 3 * (2 * weights + config.n_layers * 2 * 2 * T * C)


def training_bytes(config: GPTConfig, batch_size: int) -> int:
    """Memory that training takes, about: weights, gradients, Adam's two averages, and the activations kept for backward."""
    tokens = batch_size * config.context_length
    a_token = config.n_layers * (14 * config.d_model + 2 * config.d_ff) + 2 * config.vocab_size
    return 4 * (4 * sum(config.parameter_counts().values()) + tokens * a_token)


@cache
def measured_rate() -> float:
    """This machine's floating-point operations per second in training, measured once on a small model."""
    with torch.random.fork_rng():
        model, ids = GPTModel(PROBE), torch.randint(PROBE.vocab_size, (8, PROBE.context_length))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
        times.append(time.perf_counter() - began)
    return flops_per_token(PROBE) * ids.numel() / median(times)


def size_explorer() -> Explorer:
    """Slide the sizes; see the parameters of each part, the work, the memory, and the time of a step on this machine."""
    def draw(vocab_size, d_model, n_layers, d_ff, context_length):
        config = GPTConfig(vocab_size, context_length, d_model, 4, n_layers, d_ff * d_model)
        counts, batch = config.parameter_counts(), 16
        picture = bars(list(counts), [n / 1e6 for n in counts.values()], value_label="million parameters",
                       alt=f"{sum(counts.values()):,} parameters; the largest part is "
                           f"{max(counts, key=counts.get)} with {max(counts.values()):,}.")
        work, memory = flops_per_token(config), training_bytes(config, batch)
        seconds = work * batch * context_length / measured_rate()
        return [f"<p><b>{sum(counts.values()) / 1e6:.2f} million parameters</b> · {work / 1e6:.1f} million operations a token · "
                f"{memory / 1e6:.0f} MB to train it with {batch} sequences a step · about {1000 * seconds:.0f} ms a step on "
                "this machine</p>", picture]

    return Explorer(draw, {"vocab_size": option_slider("vocabulary", 1024, (256, 512, 1024, 2048, 4096, 8192, 50257)),
                           "d_model": option_slider("d_model", 192, (32, 64, 128, 192, 256, 384, 512, 768)),
                           "n_layers": slider("layers", 2, 1, 12),
                           "d_ff": slider("d_ff, in d_model", 4, 0, 8),
                           "context_length": option_slider("context", 64, (16, 32, 64, 128, 256, 512, 1024))},
                    wait=0.1, still=still_sizes())


def still_sizes() -> Picture:
    """What stands in the stored page: no measured time in it, which would differ from machine to machine."""
    config = GPTConfig(1024, 64, 192, 4, 2, 768)
    counts = config.parameter_counts()
    return bars(list(counts), [n / 1e6 for n in counts.values()], value_label="million parameters",
                title=f"{sum(counts.values()) / 1e6:.2f} million parameters",
                alt=f"Where the {sum(counts.values()):,} parameters of a model with 2 layers and 192 channels are: most in the "
                    "feed-forward.")


def norm_explorer() -> Explorer:
    """Five channels of one token before and after LayerNorm, stretched and shifted."""
    token = torch.tensor([2.0, -1.0, 0.5, 3.0, 0.0])

    def draw(scale, shift):
        before = token * scale + shift
        after = F.layer_norm(before, (5,))
        figure, panels = new_figure(10, 3.6, columns=2, sharey=True)
        for axes, values, title, colour, hatch, limit in (
                (panels[0], before, "before", BLUE, "", 16), (panels[1], after, "after LayerNorm", RED, "///", 2.5)):
            drawn = axes.barh(range(5), values.tolist(), color=colour, hatch=hatch, edgecolor="white")
            axes.bar_label(drawn, fmt="{:.1f}", padding=4, fontsize=SMALLEST_FONT)
            axes.axvline(0, color=BLACK, linewidth=1)
            # The axes stand still while the sliders move: only so does one see what moves.
            axes.set(title=title, xlabel="value", xlim=(-limit, limit), ylim=(4.5, -0.5), yticks=range(5))
            axes.grid(False, axis="y")
        panels[0].set_ylabel("channel")
        return Picture(figure, f"Before, the five channels have mean {before.mean():.1f} and standard deviation "
                               f"{before.std(correction=0):.1f}. After, always 0 and 1.")
    return Explorer(draw, {"scale": slider("scale", 1.0, 0.1, 3.0, 0.1), "shift": slider("shift", 0.0, -5.0, 5.0, 0.5)})


def gelu_picture() -> Picture:
    """GELU beside ReLU."""
    x = torch.linspace(-4, 4, 161)
    return lines({"GELU": (x, F.gelu(x)), "ReLU": (x, F.relu(x))}, x_label="input", y_label="output",
                 alt="Both are the input itself for large inputs and 0 for very negative ones. ReLU has a corner at 0; GELU is "
                     "smooth, and dips a little below 0 on the left.")


def residual_norms(gpt: GPT, text: str) -> dict[str, float]:
    """How long the stream's vectors are at first, and how long what each part adds to it is: means over the tokens."""
    model = gpt.model.eval()
    ids = torch.tensor([gpt.tokenizer.encode(text)])
    norms = {}
    with torch.inference_mode():
        x, rotation = model._embed(ids)
        norms["embeddings"] = x.norm(dim=-1).mean().item()
        for i, block in enumerate(model.blocks, 1):
            added = block.attention(block.norm1(x), rotation=rotation)
            norms[f"attention {i}"] = added.norm(dim=-1).mean().item()
            x = x + added
            if block.feed_forward is not None:
                added = block.feed_forward(block.norm2(x))
                norms[f"feed-forward {i}"] = added.norm(dim=-1).mean().item()
                x = x + added
    return norms


def residual_picture(gpt: GPT, text: str) -> Picture:
    """The same as bars."""
    norms = residual_norms(gpt, text)
    return bars(list(norms), list(norms.values()), value_label="mean length of the vector that is added",
                alt="What each part adds to the stream: " + ", ".join(f"{name} {n:.1f}" for name, n in norms.items()) + ".")


def overfit_picture(losses: list[float], vocab_size: int) -> Picture:
    """The loss on one batch, seen again and again."""
    figure, axes = new_figure(8, 4)
    axes.plot(range(1, len(losses) + 1), losses)
    axes.axhline(torch.tensor(float(vocab_size)).log().item(), linestyle=":", color="#555555")
    axes.annotate("ln V", (len(losses) * 0.8, torch.tensor(float(vocab_size)).log().item()), xytext=(0, -20),
                  textcoords="offset points")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title="One batch, again and again")
    return Picture(figure, f"The loss begins at ln V and falls close to {losses[-1]:.1f}: the model knows the batch by heart.")
