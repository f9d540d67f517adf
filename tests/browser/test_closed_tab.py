"""A tab that is closed while a model trains, and opened again: training went on, and the notebook shows it."""

import shutil


def test_a_closed_tab_loses_nothing_of_the_training_that_goes_on(lab, server):
    shutil.copy(server.notebooks / "04_training_and_sampling.ipynb", server.notebooks / "closed.ipynb")
    notebook = lab.open("closed")
    notebook.clear()                    # JupyterLab shows widgets again where it trusts all outputs, as after "run all"
    for cell_id in ("imports", "make-gpt", "live", "talk"):
        notebook.cell(cell_id).run()
    live = notebook.cell("live")
    live.slider("seconds").press("End")                                # more than the test needs
    live.button("Start").click()
    notebook.until(lambda: live.output.locator("polyline.training").count() == 1, "a curve is there")
    notebook.page.close()

    notebook = lab.open("closed")       # as it was stored: the panel is words, and comes back where its cell is run again
    notebook.clear()
    live = notebook.cell("live")
    for cell_id in ("talk", "live"):
        notebook.cell(cell_id).run()
    notebook.until(lambda: live.output.locator("polyline.training").count() == 1, "the curve of the training that goes on")
    assert live.button("Pause").is_enabled() and not live.button("Start").is_enabled()
    notebook.save()
    steps = int(notebook.python("len(live.history.steps)"))
    notebook.page.close()

    notebook = lab.open("closed")
    live, talk = notebook.cell("live"), notebook.cell("talk")
    notebook.until(lambda: int(notebook.python("len(live.history.steps)")) > steps + 3, "it trains on")
    notebook.until(lambda: "Training. On" in live.text() and live.output.locator("polyline.training").count() == 1,
                   "the curve is there again, once")
    assert live.slider("seconds").readout() == "600" and live.output.locator("button:visible").count() == 3
    live.screenshot("closed_tab")
    live.button("Pause").click()
    notebook.until(lambda: "Paused" in live.text() and live.button("Go on").is_enabled(), "it is paused")
    written = talk.text()
    talk.slider("new tokens").press("Home")
    talk.button("Write").click()
    notebook.until(lambda: talk.text() != written, "the half-trained model writes")
    live.button("Go on").click()
    notebook.until(lambda: "Training. On" in live.text(), "it goes on")
    live.button("Stop and keep").click()
    notebook.until(lambda: "Kept after step" in live.text() and live.button("Start").is_enabled(), "it is kept")
    notebook.until(lambda: notebook.python("live.running") == "False", "its thread has ended")
    assert not notebook.errors()
