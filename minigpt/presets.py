"""Named settings: how large a model, and how to train it. `GPT`'s defaults are the classroom's.

"reference" is the system that the series explains, at the size of its reference run. "classroom" reaches the same loss in
seconds; `benchmarks/README.md` lists what was tried on the way.
"""

from dataclasses import dataclass, replace

from minigpt.arguments import choice
from minigpt.training import Recipe


@dataclass(frozen=True)
class Preset:
    """`size`: the arguments of `GPT.from_text`; `budget`: steps or seconds, where none is given."""

    size: dict
    recipe: Recipe
    budget: dict


PRESETS = {
    "classroom": Preset(
        size={"vocab_size": 3072, "method": "bpe", "context_length": 64, "d_model": 192, "n_heads": 3, "n_layers": 2,
              "d_ff": 768, "dropout": 0.0, "positions": "rotary", "tied": True},
        recipe=Recipe(weight_decay=0.1, bfloat16=True),
        budget={"seconds": 60.0}),
    "reference": Preset(
        size={"vocab_size": 256, "method": "bytes", "context_length": 32, "d_model": 256, "n_heads": 4, "n_layers": 1,
              "d_ff": 1024, "dropout": 0.0, "positions": "learned", "tied": False},
        recipe=Recipe(batches="random", optimizer="adam", batch_size=64, learning_rate=1e-3, betas=(0.9, 0.99), warmup=100,
                      decay="cosine", floor=0.1),
        budget={"steps": 16_384}),
}


def preset(name: str) -> Preset:
    """The preset of that name. Raises ValueError, listing the names, when there is none."""
    return PRESETS[choice("preset", name, PRESETS)]


def recipe(name: str, batch_size: int | None = None, learning_rate: float | None = None,
           label_smoothing: float | None = None) -> Recipe:
    """A preset's recipe with the given values in place of its own; Muon's rate moves in proportion to the learning rate."""
    chosen = preset(name).recipe
    given = {"batch_size": batch_size, "learning_rate": learning_rate, "label_smoothing": label_smoothing}
    changed = replace(chosen, **{name: value for name, value in given.items() if value is not None})
    ratio = changed.learning_rate / chosen.learning_rate
    return replace(changed, muon_learning_rate=chosen.muon_learning_rate * ratio)
