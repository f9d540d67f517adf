"""Marks that mean something: how what was handed in of the nbgrader course is marked.

nbgrader runs a notebook as a whole and believes its test cells, which share a kernel with the
student's code. Here none of the student's code is run where the marks are made:

    cells.py      which cells an answer needs
    own_work.py   what is to be seen in their text: the package's answer, a copy, a trick
    worker.py     the process that runs them, and answers questions in plain values (messages.py)
    workers.py    this end of the line to it
    hidden/       fresh questions, and what is right for them
    judge.py      asks, compares, and says how many points and why
    nbgrader.py   the judge in nbgrader's place for executing a notebook; export.py: marks as CSV

What a student's process sends back earns points by its numbers alone. It can lie about nothing
else, and what it does to itself stays there. `docs/teaching/marking.md` says what is not stopped.
"""
