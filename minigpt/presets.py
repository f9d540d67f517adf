"""How to train: a `Recipe`, and the presets, each a size of model with the recipe that suits it.

"reference" is the system that the series explains, at the size of its reference run. "classroom"
reaches the same loss in seconds; `benchmarks/README.md` lists what was tried on the way. `GPT`'s
defaults are the classroom's.
"""

from dataclasses import dataclass, replace

from minigpt.arguments import BATCH_SIZE, choice, flag, integer, number, shown, takes

BATCHES = ("random", "epochs")
OPTIMIZERS = ("adam", "muon")
DECAYS = ("cosine", "linear")


def _betas(name, value) -> tuple[float, float]:
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"{name} must be a tuple of two numbers, not {shown(value)}")
    return tuple(number(0, 0.99999)(name, beta) for beta in value)


@takes(batches=choice(BATCHES), optimizer=choice(OPTIMIZERS), batch_size=BATCH_SIZE,
       learning_rate=number(0, open_low=True), muon_learning_rate=number(0, open_low=True),
       betas=_betas, weight_decay=number(0), warmup=integer(0), decay=choice(DECAYS),
       floor=number(0, 1), label_smoothing=number(0, 0.99), clip=number(0, open_low=True),
       bfloat16=flag, accumulate=integer(1))
@dataclass(frozen=True)
class Recipe:
    """How to train, whatever the model and the text.

    Rates are peaks: the schedule warms up to them, and decays.

    batches: "random" windows of the text, or "epochs", in each of which no window comes twice;
    optimizer: "adam" (AdamW) for every weight, or "muon" for the blocks' matrices and AdamW for the
    rest; batch_size: windows a step; learning_rate, betas, weight_decay: AdamW's (Muon takes the
    same decay); muon_learning_rate: Muon's; warmup: steps, at most a fifth of the run; decay:
    "cosine" or "linear"; floor: the last step's rate as a share of the peak; label_smoothing: the
    share of each target that is spread over all tokens (Szegedy et al., "Rethinking the Inception
    Architecture", 2016); clip: the largest norm of the gradient; bfloat16: matrix products in 16
    bits, on processors that are faster at it (weights and all else stay float32); accumulate: in
    how many parts a batch is read, one after the other, where it is too large for memory (the
    gradients add up to the whole batch's; dropout draws other numbers).
    """

    batches: str = "epochs"
    optimizer: str = "muon"
    batch_size: int = 16
    learning_rate: float = 0.02
    muon_learning_rate: float = 0.03
    betas: tuple[float, float] = (0.8, 0.95)
    weight_decay: float = 0.0
    warmup: int = 10
    decay: str = "linear"
    floor: float = 0.0
    label_smoothing: float = 0.0
    clip: float = 1.0
    bfloat16: bool = False
    accumulate: int = 1


@dataclass(frozen=True)
class Preset:
    """`size`: the arguments of `GPT.from_text`; `budget`: steps or seconds, where none is given."""

    size: dict
    recipe: Recipe
    budget: dict


PRESETS = {
    "classroom": Preset(
        size={"vocab_size": 3072, "method": "bpe", "context_length": 64, "d_model": 192,
              "n_heads": 3, "n_layers": 2, "d_ff": 768, "dropout": 0.0, "positions": "rotary",
              "tied": True},
        recipe=Recipe(weight_decay=0.1, bfloat16=True),
        budget={"seconds": 60.0}),
    "reference": Preset(
        size={"vocab_size": 256, "method": "bytes", "context_length": 32, "d_model": 256,
              "n_heads": 4, "n_layers": 1, "d_ff": 1024, "dropout": 0.0, "positions": "learned",
              "tied": False},
        recipe=Recipe(batches="random", optimizer="adam", batch_size=64, learning_rate=1e-3,
                      betas=(0.9, 0.99), warmup=100, decay="cosine", floor=0.1),
        budget={"steps": 16_384}),
}


def preset(name: str) -> Preset:
    """The preset of that name. Raises ValueError, listing the names, when there is none."""
    return PRESETS[choice(PRESETS)("preset", name)]


def recipe(name: str, batch_size: int | None = None, learning_rate: float | None = None,
           label_smoothing: float | None = None, accumulate: int | None = None) -> Recipe:
    """A preset's recipe, the given values in place of its own.

    Muon's rate moves in proportion to the learning rate.
    """
    usual = preset(name).recipe
    given = {"batch_size": batch_size, "learning_rate": learning_rate,
             "label_smoothing": label_smoothing, "accumulate": accumulate}
    given = {entry: value for entry, value in given.items() if value is not None}
    changed = replace(usual, **given)
    ratio = changed.learning_rate / usual.learning_rate
    return replace(changed, muon_learning_rate=usual.muon_learning_rate * ratio)
