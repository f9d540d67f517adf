"""05_bug_hunt in a real JupyterLab: every bug shows itself, every crash is a printed line, every question answers."""


def test_bugs_show_themselves_and_questions_answer(lab):
    notebook = lab.open("05_bug_hunt")
    notebook.run_all()
    notebook.screenshot("05_bug_hunt", whole=True)

    # Each kind of crash is caught, and said in words.
    said = {"bug-1-code": "KeyError: 'é'", "bug-2-code": "IndexError: list index out of range",
            "bug-3-experiment": "['nan', 'nan']", **{f"bug-{number}-solution": "✓" for number in range(1, 13)}}
    notebook.until(lambda: all(words in notebook.cell(cell_id).text() for cell_id, words in said.items()), f"all say {said}")

    question = notebook.cell("bug-1-predict")
    question.button("é alone").click()
    notebook.until(lambda: "Not quite" in question.text() and "is there an f in" in question.text(),
                   "a wrong choice is told why it tempts")
    question.button("f and é").click()
    notebook.until(lambda: "Yes" in question.text() and "has no number" in question.text(), "the right choice is confirmed")
    question.screenshot("05_bug_hunt_question")

    typed = notebook.cell("bug-5-predict")
    typed.box().fill("3")
    typed.box().press("Enter")
    notebook.until(lambda: "about to see" in typed.text(), "a wrong number is told why it tempts")
    typed.box().fill("1")
    typed.button("Answer").click()
    notebook.until(lambda: "have the same gradient" in typed.text(), "the right number is confirmed")

    hint = notebook.cell("bug-10-hints")
    assert not hint.output.get_by_text("What must each row").is_visible()
    hint.output.get_by_text("Hint 1 of 4").click()
    notebook.until(lambda: hint.output.get_by_text("What must each row").is_visible(), "the first hint is open")
    assert not hint.output.get_by_text("Position 0 sees only itself").is_visible(), "the second hint waits"
    hint.output.get_by_text("Hint 2 of 4").click()
    notebook.until(lambda: hint.output.get_by_text("Position 0 sees only itself").is_visible(), "the second hint is open")

    told = notebook.cell("your-predictions")
    told.run()
    notebook.until(lambda: "é alone" in told.text() and "gradient" in told.text(), "the table holds the first answers")
