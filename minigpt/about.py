"""What is known of how a model came to be. A file of it keeps this, and its web page tells it."""

import json
import math
from dataclasses import asdict, dataclass

from minigpt.arguments import integer, number, takes
from minigpt.arguments import text as valid_text


def _name(name, value) -> str | None:
    return None if value is None else valid_text(name, value)


def _loss(name, value) -> float | None:
    """A loss that is no number, as of a training that went wrong, is none that is known."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return number(0, optional=True)(name, value)


@takes(text=_name, n_bytes=integer(1, optional=True), steps=integer(0, optional=True),
       held_out_loss=_loss, windows_read=integer(0, optional=True))
@dataclass
class About:
    """None is unknown. Raises TypeError or ValueError for what cannot be."""

    text: str | None = None                 # what it was trained on, by name
    n_bytes: int | None = None              # how much of that it was trained on
    steps: int | None = None
    held_out_loss: float | None = None      # nats per byte, on what it was not trained on
    windows_read: int | None = None         # of the text: where a next training reads on

    def with_text_of(self, n_bytes: int) -> "About":
        """This, trained on with a text of so many bytes: by its length it is the same, or one more.
        """
        if n_bytes == self.n_bytes:
            return self
        return About(n_bytes=(self.n_bytes or 0) + n_bytes, steps=self.steps)

    def to_json(self) -> str:
        """As text, for a file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "About":
        """What `to_json` wrote. TypeError or ValueError for what it cannot have written."""
        return cls(**json.loads(text))
