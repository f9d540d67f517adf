"""04_training_and_sampling in a real JupyterLab: the class trains a model live, and talks with what there is."""

import re


def curve(cell) -> int:
    """How many points the growing curve has."""
    lines = cell.output.locator("polyline.training").all()
    return len(lines[0].get_attribute("points").split()) if lines else 0


def test_a_class_trains_pauses_goes_on_stops_and_talks(lab):
    notebook = lab.open("04_training_and_sampling")
    notebook.run_all(seconds=900)
    notebook.screenshot("04_all", whole=True)

    live = notebook.cell("live")
    live.chooser("text").select_option("shakespeare")
    live.slider("seconds").press("End")                                # more than the test needs
    live.button("Start").click()
    live.output.scroll_into_view_if_needed()
    notebook.until(lambda: curve(live) > 3, "a curve is there")
    before = curve(live)
    notebook.until(lambda: curve(live) > before + 3, "the curve grows")
    live.screenshot("04_training")

    live.button("Pause").click()
    notebook.until(lambda: "Paused" in live.text() and live.button("Go on").is_enabled(), "it is paused")
    paused = notebook.python("len(live.history.steps)")
    live.screenshot("04_paused")
    talk = notebook.cell("talk")
    written = talk.text()
    talk.slider("new tokens").press("Home")
    talk.button("Write").click()
    notebook.until(lambda: talk.text() != written, "the half-trained model writes")
    assert notebook.python("len(live.history.steps)") == paused, "no step was taken while it was paused"

    live.button("Go on").click()
    notebook.until(lambda: float(notebook.python("live.history.seconds")) > 12, "it goes on")
    live.button("Stop and keep").click()
    notebook.until(lambda: "Kept after step" in live.text(), "it is kept")
    live.screenshot("04_kept")
    notebook.until(lambda: notebook.python("live.running") == "False", "its thread has ended")

    talk.box("prompt").fill("KING:")
    talk.button("Write").click()
    notebook.until(lambda: "KING:" in talk.text(), "the class's model writes")
    talk.screenshot("04_talk")
    share = notebook.python("live.drawing_seconds / live.history.seconds")
    assert float(share) < 0.1, "pictures and samples are cheap, the first ones and the last ones of a short run included"


def test_a_file_that_is_not_there_is_named(lab):
    notebook = lab.open("04_training_and_sampling")
    for cell_id in ("imports", "make-gpt", "live"):
        notebook.cell(cell_id).run()
    live = notebook.cell("live")
    live.chooser("text").select_option("a file of your own")
    live.box("name of your file").fill("nothing.txt")
    live.button("Start").click()
    notebook.until(lambda: "there is no file nothing.txt" in live.text(), "the error says which file")


def test_the_small_examples_follow_their_sliders(lab):
    notebook = lab.open("04_training_and_sampling")
    for cell_id in ("imports", "step-explore", "schedule-explore", "five", "five-explore", "step-predict"):
        notebook.cell(cell_id).run()

    question = notebook.cell("step-predict")
    question.box().fill("3.9")
    question.button("Answer").click()
    notebook.until(lambda: "Not quite" in question.text() and "rate times the slope" in question.text(), "why it is wrong")
    question.box().fill("3.2")
    question.button("Answer").click()
    notebook.until(lambda: "Yes" in question.text(), "the right answer is praised")

    descent = notebook.cell("step-explore")
    descent.slider("learning rate").press("End")
    notebook.until(lambda: "runs away" in descent.alt_texts()[0], "at the largest rate it runs away")
    descent.screenshot("04_descent")

    schedule = notebook.cell("schedule-explore")
    before = schedule.alt_texts()
    schedule.slider("warm-up steps").press("Home")
    notebook.until(lambda: schedule.alt_texts() != before, "the schedule follows")
    schedule.screenshot("04_schedule")

    five = notebook.cell("five-explore")
    five.slider("top-k").press("Home")
    notebook.until(lambda: len(re.findall("0 \\(cut\\)", five.text())) == 4, "top-k = 1 leaves one bar")
    five.slider("temperature").press("Home")
    five.screenshot("04_five")
