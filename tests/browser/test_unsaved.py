"""A copy that was only opened is not marked as changed."""

from pathlib import Path

import pytest

from minigpt.classroom import student, teach

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.parametrize("edition", [student, teach], ids=["student", "teach"])
def test_a_copy_that_was_only_opened_is_not_marked_unsaved(lab, server, edition):
    edition.write_copies(NOTEBOOKS, server.notebooks / "copies")
    notebook = lab.open("copies/02_attention")
    notebook.page.wait_for_timeout(3000)                # what JupyterLab adds by itself it adds by then
    assert not notebook.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.model.dirty")
