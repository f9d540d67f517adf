"""02_attention in a real JupyterLab: everything runs, and every widget answers a student."""


def test_attention_runs_and_answers(lab):
    notebook = lab.open("02_attention")
    notebook.run_all()
    notebook.screenshot("02_attention", whole=True)

    question = notebook.cell("scale-predict")
    question.button("64").click()
    notebook.until(lambda: "Variances add" in question.text(), "a wrong choice is told why it tempts")
    question.button("8").click()
    notebook.until(lambda: "√64 = 8" in question.text(), "the right choice is confirmed")

    typed = notebook.cell("qkv-predict")
    typed.box().fill("1")
    typed.box().press("Enter")
    notebook.until(lambda: "Who asks gives the query" in typed.text(), "a wrong number is told why it tempts")

    desk = notebook.cell("softmax-desk")
    desk.slider("score of “she”").press("End")
    notebook.until(lambda: "0.96 of she" in desk.alt_texts()[0], "the mix follows a score")

    plane = notebook.cell("qkv-explore")
    plane.slider("query, channel 0").press("ArrowLeft", 4)
    plane.slider("query, channel 1").press("ArrowLeft", 2)
    notebook.until(lambda: "she 0.33, was 0.33, glad 0.33" in plane.alt_texts()[0], "a query of zeros has no preference")

    saturation = notebook.cell("scale-explore")
    saturation.slider("d").press("End")
    notebook.until(lambda: "At d = 512, without" in saturation.alt_texts()[0], "the picture follows d")
    saturation.checkbox("divide by √d").check()
    notebook.until(lambda: "At d = 512, with the division" in saturation.alt_texts()[0], "the division is switched on")
    saturation.screenshot("02_attention_saturation")

    heads = notebook.cell("sentence-explore")
    heads.box("text").fill("the same the same")
    notebook.until(lambda: "␣same" in heads.alt_texts()[0], "the map follows the typing")
    heads.slider("layer").press("Home")
    heads.slider("head").press("Home")
    heads.slider("head").press("ArrowRight")
    notebook.until(lambda: "layer 1, head 2" in heads.alt_texts()[0], "the map follows the head picker")
    heads.slider("layer").press("End")
    notebook.until(lambda: "layer 1" not in heads.alt_texts()[0], "the map follows the layer picker")
    before = heads.pictures()
    heads.slider("temperature").press("End")
    notebook.until(lambda: heads.pictures() != before, "the map follows the temperature")
    heads.checkbox("hide the future").uncheck()
    notebook.until(lambda: "The future is not hidden" in heads.alt_texts()[0], "the mask is switched off")
    heads.screenshot("02_attention_heads")

    cost = notebook.cell("cost-explore")
    cost.slider("C = d_model").press("Home")
    notebook.until(lambda: "at T = 128" in cost.alt_texts()[0], "the crossing follows the channels")

    recap = notebook.cell("recap-predictions")
    recap.run()
    notebook.until(lambda: all(word in recap.text() for word in ("scale", "64", "score")), "the table holds the first answers")
