"""06_real_model in a real JupyterLab: the real model loads, its widgets follow, and it holds a conversation."""

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_the_real_model_runs_and_answers(lab):
    notebook = lab.open("06_real_model")
    notebook.run_all()
    notebook.screenshot("06_real_model", whole=True)

    bits = notebook.cell("bits-explore")
    bits.slider("bits a number").press("Home")
    notebook.until(lambda: "nats per byte" in bits.text() and "MB on disk" in bits.text(), "two bits have a loss and a size")
    before = bits.text()
    bits.slider("bits a number").press("End")
    notebook.until(lambda: bits.text() != before and "MB on disk" in bits.text(), "eight bits have another one")
    bits.screenshot("06_real_model_bits")

    looks = notebook.cell("look-explorer")
    looks.slider("layer").press("End")
    notebook.until(lambda: "layer 30" in looks.alt_texts()[0], "the picture follows the layer, to the thirtieth")
    talk_with_it(notebook)


def talk_with_it(notebook):
    cell = notebook.cell("chat-panel")
    log = cell.output.locator('[aria-label="the conversation"]')
    notebook.until(lambda: "The capital of France is Paris." in log.inner_text(), "the first answer is there")
    cell.slider("longest answer").press("Home")
    cell.box("you").fill(HOSTILE)
    cell.button("Send").click()
    notebook.until(lambda: HOSTILE in log.text_content(), "HTML in a message is shown as text")
    assert log.locator("script, img").count() == 0
    notebook.until(lambda: log.text_content().count("SmolLM2:") == 2 and not log.text_content().endswith("SmolLM2: "),
                   "an answer comes")

    cell.slider("longest answer").press("End")
    cell.box("you").fill("Tell me a long story.")
    cell.box("you").press("Enter")
    notebook.until(lambda: "long story." in log.text_content() and not log.text_content().endswith("SmolLM2: "),
                   "Enter sends too, and the answer begins")
    cell.button("Stop").click()
    cell.box("system message").fill("You are a pirate.")
    cell.button("Begin anew").click()
    notebook.until(lambda: log.inner_text().strip() == "…", "nothing is left of what was said")
    cell.screenshot("06_real_model_chat")
