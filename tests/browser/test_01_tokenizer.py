"""01_tokenizer in a real JupyterLab: everything runs, and every widget answers a student."""

import re


def test_tokenizer_runs_and_answers(lab):
    notebook = lab.open("01_tokenizer")
    notebook.run_all()
    notebook.screenshot("01_tokenizer", whole=True)

    question = notebook.cell("bytes-predict")
    question.button("2").click()
    notebook.until(lambda: "lives further out" in question.text(), "a wrong choice is told why it tempts")
    question.button("4").click()
    notebook.until(lambda: "🙂 takes 4" in question.text(), "the right choice is confirmed")

    hint = notebook.cell("merge-hints")
    assert "step over both" not in hint.text()
    hint.output.locator("summary").nth(0).click()
    assert "Walk along with an index" in hint.text() and "step over both" not in hint.text()
    hint.output.locator("summary").nth(1).click()
    assert "step over both" in hint.text()

    letters = notebook.cell("byte-explorer")
    letters.box("text").fill("a<é🙂")
    notebook.until(lambda: "4 characters, 8 bytes" in letters.text(), "the bytes follow the typing")
    assert "240 159 153 130" in letters.text() and "195 169" in letters.text()
    letters.screenshot("01_tokenizer_bytes")

    merges = notebook.cell("merge-explorer")
    merges.box("text").fill("the other the")
    merges.slider("merges").press("Home")
    notebook.until(lambda: "13 tokens" in merges.text(), "without merges every byte is a token")
    merges.slider("merges").press("ArrowRight")
    notebook.until(lambda: "merge 1:" in merges.text() and "become token 256" in merges.text(), "one merge at a time")
    merges.slider("merges").drag(1.0)
    notebook.until(lambda: "become token 655" in merges.text(), "the last merge")
    merges.screenshot("01_tokenizer_merges")

    tokens = notebook.cell("token-explorer")
    tokens.box("text").fill("<b>the</b> 🙂")
    notebook.until(lambda: "15 bytes" in tokens.text(), "the tokens follow the typing")
    assert tokens.output.locator("b", has_text=re.compile("^the$")).count() == 0, "what is typed stays text"
    tokens.chooser("method").select_option("bytes")
    notebook.until(lambda: "15 bytes, 15 tokens" in tokens.text(), "as bytes, each is a token")
    assert "⟨F0⟩" in tokens.text() and "240" in tokens.text()
    tokens.chooser("method").select_option("bpe")
    tokens.slider("vocabulary").press("Home")
    notebook.until(lambda: "15 bytes, 15 tokens" in tokens.text(), "256 tokens are the bytes")
    tokens.slider("vocabulary").press("End")
    notebook.until(lambda: "15 bytes, 15 tokens" not in tokens.text(), "a large vocabulary needs fewer tokens")
    tokens.chooser("method").select_option("substring")
    tokens.box("text").fill("the lady")
    notebook.until(lambda: "8 bytes, 3 tokens" in tokens.text(), "among substrings the space is a token of its own")
    tokens.screenshot("01_tokenizer_tokens")

    assert "Three curves of bytes per token" in notebook.cell("compare-picture").alt_texts()[0]
    said = notebook.cell("predictions")
    said.run()
    notebook.until(lambda: "emoji" in said.text(), "the table holds the first answers")
