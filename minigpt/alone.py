"""What processes that train one model together would ask of each other, for one that is alone.

A training loop is written once. Where several processes would have to agree, it asks `ranks`; here
all answers are at hand: the whole batch is its own, the mean is what it has, and nobody waits. Who
is not interested in several processes can read `ranks.mean(loss)` as `loss`. `minigpt.ranks` has
the answers of many.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn

GRACE = 15          # seconds for the step under way, where a launcher has told all to end


class Alone:
    """One process: the whole batch is its own, and there is nobody to ask."""

    rank, size, is_first = 0, 1, True

    def own(self, items: Sequence) -> Sequence:
        """This rank's part of these, a stretch of them: every one is one rank's, and no other's."""
        start, stop = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[start:stop]

    def device(self, name: str) -> str:
        """The device that `name` is on this rank."""
        return name

    def network(self, model: nn.Module) -> nn.Module:
        """The model, in such a way that `backward` leaves the mean of all ranks' gradients."""
        return model

    def unsent(self, network: nn.Module):
        """In here gradients add up on each rank, and are not sent yet."""
        return nullcontext()

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over the ranks, as of their gradients."""
        return tensor

    def total(self, number: float) -> float:
        """The sum over the ranks."""
        return number

    def largest(self, number: float) -> float:
        """The largest of all ranks' numbers."""
        return number

    @contextmanager
    def together(self, in_turn: bool = False) -> Iterator[None]:
        """In here a rank takes the time that it needs, and all leave together.

        An error of one ends all: it is raised where it happened, and the others end in silence.
        `in_turn`: rank 0 goes first and the others when it is ready. Nothing in here may be asked
        of other ranks.
        """
        yield

    def check_alike(self, settings: dict[str, str]) -> None:
        """Raise ValueError, on every rank, unless all were started with the same settings."""

    def end_within(self, seconds: float) -> None:
        """Raise ConnectionError after so many seconds; 0 takes it back."""


ALONE = Alone()
