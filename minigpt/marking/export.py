"""The marks as CSV files that a learning platform takes: `nbgrader export --exporter=…`.

    nbgrader export --exporter=minigpt.marking.export.Moodle --to=moodle.csv
    nbgrader export --exporter=minigpt.marking.export.Canvas --to=canvas.csv

One row a student, one column an assignment, as both expect it; nbgrader's own file has a row for
each of the two. The marks are nbgrader's, less its penalties for being late. A student who has
handed in nothing, or something that could not be marked, has an empty field, which an import leaves
as it is.
"""

import csv
import io
from pathlib import Path

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.plugins import ExportPlugin

from minigpt.files import write_atomically


class Table(ExportPlugin):
    """What both files share: which students and assignments, and their marks."""

    heads: list[str]            # of the columns before the marks

    def export(self, gradebook: Gradebook) -> None:
        """Writes the file that `--to` names, whole or not at all."""
        students = [student for student in gradebook.students
                    if not self.student or student.id in map(str, self.student)]
        assignments = [assignment for assignment in gradebook.assignments
                       if not self.assignment or assignment.name in map(str, self.assignment)]
        path = Path(self.to or f"{type(self).__name__.lower()}.csv").expanduser()
        table = io.StringIO(newline="")
        csv.writer(table).writerows(self.rows(gradebook, students, assignments))
        try:
            self.check_replaceable(path)
            write_atomically(path, table.getvalue().encode())
        except (OSError, ValueError) as error:
            raise SystemExit(f"The marks could not be written: {error}") from None
        self.log.info("%d students, %d assignments: %s", len(students), len(assignments), path)
        for assignment in assignments:
            for submission in assignment.submissions:
                if submission.needs_manual_grade:
                    self.log.warning("%s of %s is not marked, and its field left empty: what "
                                     "autograde said of it tells why.", assignment.name,
                                     submission.student.id)

    def check_replaceable(self, path: Path) -> None:
        """Raises ValueError, or OSError, where something else than earlier marks would be lost."""
        if path.is_file() and path.stat().st_size:
            with open(path, encoding="utf-8", errors="replace") as file:
                first = file.readline()
            if not first.startswith(",".join(self.heads)):
                raise ValueError(f"{path} is there and holds no such marks, and is left as it is: "
                                 "name another file with --to")

    def rows(self, gradebook: Gradebook, students, assignments):
        """The lines of the file, the heads first."""
        raise NotImplementedError


class Moodle(Table):
    """For Moodle's import of grades from a CSV file, where each column is assigned to an item.

    Students are found by their ID number, which is the name of their folder in `submitted/`, or
    their address. The maximum of an assignment stands in the head of its column.
    """

    heads = ["ID number", "Email address", "First name", "Last name"]

    def rows(self, gradebook: Gradebook, students, assignments):
        """The heads, then a line for each student."""
        yield [*self.heads, *(f"{assignment.name} (of {number(assignment.max_score)})"
                 for assignment in assignments)]
        for student in students:
            yield [student.id, student.email or "", student.first_name or "",
                   student.last_name or "",
                   *(points(gradebook, assignment, student) for assignment in assignments)]


class Canvas(Table):
    """For the import of Canvas' gradebook, in the form that it exports itself.

    The second line has the points possible. Students are found by their SIS login, which is the
    name of their folder in `submitted/`.
    """

    heads = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]

    def rows(self, gradebook: Gradebook, students, assignments):
        """The heads, the points possible, then a line for each student."""
        yield [*self.heads, *(assignment.name for assignment in assignments)]
        yield ["    Points Possible", "", "", "", "",
               *(number(assignment.max_score) for assignment in assignments)]
        for student in students:
            named = ", ".join(filter(None, (student.last_name, student.first_name)))
            yield [named or student.id, "", "", student.id, "",
                   *(points(gradebook, assignment, student) for assignment in assignments)]


def points(gradebook: Gradebook, assignment, student) -> str:
    """What a student has for an assignment; "" where nothing was handed in, or is marked."""
    try:
        submission = gradebook.find_submission(assignment.name, student.id)
    except MissingEntry:
        return ""
    if submission.needs_manual_grade:       # a file that is damaged, for one: nothing is no 0
        return ""
    return number(max(0.0, submission.score - submission.late_submission_penalty))


def number(value: float) -> str:
    """Without digits that say nothing."""
    return f"{value:g}"
