"""03_model in a real JupyterLab: everything runs, and every widget answers a student."""


def test_model_runs_and_answers(lab):
    notebook = lab.open("03_model")
    notebook.run_all()
    notebook.screenshot("03_model", whole=True)

    question = notebook.cell("position-predict")
    question.button("Yes").click()
    notebook.until(lambda: "Where would it see it?" in question.text(), "a wrong choice is told why it tempts")
    question.button("No").click()
    notebook.until(lambda: "Nothing says who came first" in question.text(), "the right choice is confirmed")

    typed = notebook.cell("norm-predict")
    typed.box().fill("0,6")
    typed.button("Answer").click()
    notebook.until(lambda: "You divided by the variance" in typed.text(), "a wrong number is told why it tempts")
    typed.box().fill("1.34")
    typed.box().press("Enter")
    notebook.until(lambda: "√5 = 1.34" in typed.text(), "the right number is confirmed")

    hint = notebook.cell("block-hints")
    hint.output.locator("summary").nth(0).click()
    assert "reads a normalised copy" in hint.text() and "Which norm" not in hint.text()

    norm = notebook.cell("norm-explorer")
    norm.slider("scale").press("End")
    notebook.until(lambda: "standard deviation 4.3" in norm.alt_texts()[0], "the picture follows the scale")
    norm.slider("shift").drag(1.0)
    notebook.until(lambda: "mean 7.7 " in norm.alt_texts()[0], "the picture follows the shift")
    norm.screenshot("03_model_norm")

    sizes = notebook.cell("size-explorer")
    sizes.slider("d_ff, in d_model").press("Home")
    notebook.until(lambda: "feed-forward with" not in sizes.alt_texts()[0], "without a feed-forward another part is largest")
    sizes.slider("vocabulary").press("End")
    notebook.until(lambda: "embedding with" in sizes.alt_texts()[0], "in a large vocabulary the embedding is")
    sizes.slider("layers").drag(1.0)
    expected = notebook.python("f'{GPTModel(GPTConfig(50257, 64, 192, 4, 12, 0)).n_parameters:,}'").strip("'")
    notebook.until(lambda: expected in sizes.alt_texts()[0], "the count is that of the model")
    assert "a step on this machine" in sizes.text()
    sizes.screenshot("03_model_sizes")

    assert "What each part adds" in notebook.cell("residual-picture").alt_texts()[0]
    assert "the loss falls from 4.3" in notebook.cell("overfit-picture").alt_texts()[0]
    said = notebook.cell("predictions")
    said.run()
    notebook.until(lambda: "order" in said.text() and "0,6" in said.text(), "the table holds the first answers")
