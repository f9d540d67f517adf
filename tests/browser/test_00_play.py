"""00_play in a real JupyterLab: the model talks, and everything that can be moved, typed or pressed answers."""

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def bar_numbers(cell) -> list[str]:
    return cell.output.locator("td:nth-child(2)").all_inner_texts()


def test_play_runs_and_answers(lab):
    notebook = lab.open("00_play")
    notebook.run_all()
    notebook.screenshot("00_play", whole=True)

    question = notebook.cell("temperature-predict")
    question.button("Two different texts").click()
    notebook.until(lambda: "nothing is left to chance" in question.text(), "a wrong choice is told why it tempts")
    question.button("The same text twice").click()
    notebook.until(lambda: "the seed has nothing to decide" in question.text(), "the right choice is confirmed")
    follow_the_bars(notebook)
    write(notebook)
    follow_the_heads(notebook)

    said = notebook.cell("predictions")
    said.run()
    notebook.until(lambda: "Two different texts" in said.text(), "the table holds the first answers")


def follow_the_bars(notebook):
    cell = notebook.cell("next-token")
    notebook.until(lambda: len(bar_numbers(cell)) == 10, "there are ten bars")
    first = bar_numbers(cell)
    temperature = cell.slider("temperature")
    temperature.press("ArrowRight", 6)
    notebook.until(lambda: temperature.readout() == "1.10", "the arrow keys move the temperature")
    notebook.until(lambda: float(bar_numbers(cell)[0]) < float(first[0]), "the likeliest token loses with the temperature")
    hotter = bar_numbers(cell)
    temperature.drag(1.0)
    notebook.until(lambda: float(bar_numbers(cell)[0]) < float(hotter[0]), "dragging moves it too")
    temperature.press("Home")
    notebook.until(lambda: bar_numbers(cell) == ["1.000"] + 9 * ["0 (cut)"], "at 0 one token has it all")
    temperature.press("End")
    cell.slider("top-k").press("Home")
    cell.slider("top-k").press("ArrowRight")
    notebook.until(lambda: bar_numbers(cell).count("0 (cut)") == 8, "top-k 2 cuts all others")
    cell.slider("top-k").press("End")
    notebook.until(lambda: "0 (cut)" not in bar_numbers(cell), "nothing is cut any more")
    tokens = cell.output.locator("td:first-child").all_inner_texts()
    cell.box("prompt").fill("<b>é🙂")
    notebook.until(lambda: cell.output.locator("td:first-child").all_inner_texts() != tokens, "the bars follow the prompt")
    cell.box("prompt").fill("")
    notebook.until(lambda: len(bar_numbers(cell)) == 10, "an empty prompt has bars")
    cell.screenshot("00_play_bars")


def write(notebook):
    cell = notebook.cell("talk")
    log = cell.output.locator(".minigpt-written")
    cell.box("prompt").fill("<b>é🙂")
    before = log.inner_text()
    cell.slider("new tokens").press("End")
    lengths = set()
    cell.button("Write").click()
    notebook.until(lambda: log.inner_text() != before and log.inner_text().startswith("<b>é🙂"), "the prompt is shown as typed")

    def grows():
        lengths.add(len(log.inner_text()))
        return len(lengths) > 3
    notebook.until(grows, "the text streams in, piece by piece")

    cell.slider("new tokens").press("Home")
    cell.slider("temperature").press("Home")
    cell.box("prompt").fill("She was")
    for _ in range(20):
        cell.button("Write").click()
    expected = notebook.python("'She was' + gpt.generate('She was', 10, temperature=0, seed=1)")
    notebook.until(lambda: repr(log.text_content()) == expected, "the last of many presses writes the whole text")
    assert log.count() == 1

    cell.box("prompt").fill("")
    cell.box("prompt").press("Enter")
    expected = notebook.python("gpt.generate('', 10, temperature=0, seed=1)")
    notebook.until(lambda: repr(log.text_content()) == expected, "an empty prompt is answered")

    cell.box("prompt").fill(HOSTILE)
    cell.button("Write").click()
    notebook.until(lambda: log.text_content().startswith(HOSTILE), "HTML in a prompt is shown as text")
    assert log.locator("script, img").count() == 0
    cell.screenshot("00_play_talk")


def follow_the_heads(notebook):
    cell = notebook.cell("attention")
    cell.slider("layer").press("Home")
    cell.slider("head").press("Home")
    cell.slider("head").press("ArrowRight")
    notebook.until(lambda: "layer 1, head 2" in cell.alt_texts()[0], "the picture follows the head")
    before = cell.pictures()
    cell.slider("layer").press("ArrowRight")
    notebook.until(lambda: "layer 2, head 2" in cell.alt_texts()[0], "the picture follows the layer")
    assert cell.pictures() != before
    before = cell.alt_texts()
    cell.box("text").fill(HOSTILE + " é🙂")
    notebook.until(lambda: cell.alt_texts() != before, "the picture follows the text")
    assert cell.output.locator("script, img[onerror]").count() == 0
    cell.screenshot("00_play_attention")
