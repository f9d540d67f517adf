"""The sliders around training in 04: a step downhill, the rate's schedule, a token's draw."""

from collections.abc import Sequence

from minigpt import arguments
from minigpt.arguments import integer, number, takes
from minigpt.classroom.controls import chooser, log_slider, slider
from minigpt.classroom.doors import as_many, listed, tensor
from minigpt.classroom.playground import probability_bars, sampling_sliders, settings
from minigpt.classroom.plots import counted, lines
from minigpt.classroom.widgets import Explorer
from minigpt.presets import DECAYS
from minigpt.sampling import next_token_probs
from minigpt.training import learning_rate


@takes(rate=number())
def descent_explorer(rate: float = 0.1) -> Explorer:
    """Gradient descent on the bowl w², from w = 4: twenty steps, whose size follows the slider."""
    def draw(rate):
        path = [4.0]
        for _ in range(20):
            path.append(path[-1] - rate * 2 * path[-1])
        shown = [w for w in path if abs(w) < 9]
        bowl = [i / 10 for i in range(-50, 51)]
        verdict = descent_in_words(rate, abs(path[-1]))
        steps = ("20 steps" if len(shown) == len(path)
                 else f"the first {len(shown) - 1} of 20 steps")
        return lines(
            {"loss w²": (bowl, [w * w for w in bowl]), "20 steps": (shown, [w * w for w in shown])},
            x_label="w",
            y_label="loss",
            title=f"after 20 steps w = {path[-1]:.3g}: {verdict}",
            alt=f"A bowl, and {steps} in it at a learning rate of {rate:.2f}: "
            f"w ends at {path[-1]:.3g}; {verdict}.",
        )
    return Explorer(draw, {"rate": slider("learning rate", rate, 0.01, 1.05, 0.01)})


def descent_in_words(rate: float, left: float) -> str:
    """How 20 steps from 4 went; `left` is how far from the bottom they end. Each step multiplies w
    by 1 − 2 · rate: it changes sides over a rate of a half, and comes no nearer from 1 on.
    """
    if left > 4.01:
        return "it runs away"
    if left > 3.99:
        return "it swings from side to side and never settles"
    if left > 0.1:
        return f"it {'swings from side to side, and ' if rate > 0.5 else ''}is still on its way"
    return "it has arrived"


@takes(steps=integer(1), warmup=integer(0), peak=number(0, open_low=True), floor=number(0, 1))
def schedule_explorer(
    steps: int = 400, warmup: int = 40, peak: float = 0.01, floor: float = 0.1
) -> Explorer:
    """The rate of every step, by the package's own schedule; `floor` is a share of the peak."""
    def draw(steps, warmup, peak, floor, decay):
        rates = [
            learning_rate(step, steps, warmup, peak, floor * peak, decay) for step in range(steps)
        ]
        return lines(
            {"learning rate": (range(steps), rates)},
            x_label="step",
            y_label="learning rate",
            alt=schedule_in_words(rates, min(warmup, steps), decay),
        )
    return Explorer(draw, {"steps": slider("steps", steps, 50, 1000, 50),
                           "warmup": slider("warm-up steps", warmup, 0, 200),
                           "peak": log_slider("peak rate", peak, 1e-4, 0.1),
                           "floor": slider("floor (share of peak)", floor, 0.0, 1.0, 0.05),
                           "decay": chooser("decay", "cosine", DECAYS)})


def schedule_in_words(rates: Sequence[float], warmup: int, decay: str) -> str:
    """What the picture shows: the way up, if there is one, and the way down, if it goes down."""
    steps = counted(warmup, "step")
    up = f"climbs in a straight line to {max(rates):.2g} over {steps}" if warmup else ""
    down = ""
    if rates[-1] < max(rates):
        way = "half a cosine" if decay == "cosine" else "a straight line"
        down = (
            f"falls from {max(rates):.2g} along {way} to {rates[-1]:.2g} at step {len(rates) - 1}"
        )
    return f"The rate {', then '.join(filter(None, (up, down))) or f'stays at {rates[-1]:.2g}'}."


@takes(as_many("logits", "tokens"), tokens=listed("words", arguments.text, low=1),
       logits=tensor(1, "(V,)"))
def sampling_explorer(tokens: Sequence[str], logits) -> Explorer:
    """The bars of a few tokens with these logits (V,), as sampling's three knobs leave them."""
    def draw(**chosen):
        probabilities = next_token_probs(logits[None], **settings(**chosen))[0]
        order = logits.argsort(descending=True).tolist()
        return probability_bars(
            [tokens[i].encode() for i in order], [float(probabilities[i]) for i in order]
        )

    return Explorer(
        draw, sampling_sliders() | {"temperature": slider("temperature", 1.0, 0.0, 3.0, 0.05)}
    )
