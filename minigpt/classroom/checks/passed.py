"""Which exercises are solved in this kernel: a student who skipped one can go on all the same."""

from minigpt.arguments import instance, takes

_passed: set[str] = set()


@takes(name=instance(str, "the name of a function or class, as a str,"))
def passed(name: str) -> bool:
    """Whether the function or class called `name` passed its check when it was last checked.

    A cell "skipped it?" takes the package's in place of one that has not, and never in place of a
    student's own:

        if not passed("my_attention"):
            my_attention = minigpt.attention
    """
    return name in _passed


def note(name: str, good: bool) -> None:
    """Writes down how a check of `name` ended."""
    (_passed.add if good else _passed.discard)(name)
