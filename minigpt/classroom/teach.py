"""The teacher's copies of the notebooks: as they are, with solutions and notes, but no outputs.

    python -m minigpt.classroom.teach              # writes teach/*.ipynb; another folder: name it

A class that sees the outputs before the questions has nothing to predict. So what the last lesson
has left of them is cleared when this runs before the next one; cells that the teacher has changed
stay changed.
"""

import functools
import sys

from minigpt.classroom import editions


def renewed(there, fresh):
    """A teacher's copy without outputs: a fresh one, unless the teacher has changed its cells."""
    return fresh if editions.as_written(there) else editions.without_outputs(there)


write_copies = functools.partial(editions.write_copies, "teach", editions.without_outputs, renewed)


def main() -> int:
    return editions.main(write_copies, "teach", "The teacher's copies")


if __name__ == "__main__":
    sys.exit(main())
