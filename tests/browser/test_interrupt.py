"""The stop button while a cell trains: what was learned so far is kept."""

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

CELLS = {
    "make": "from minigpt import GPT\ngpt = GPT.from_text('the cat sat on the mat. ' * 99, 256, 'bytes', d_model=32, n_heads=2)",
    "train": "history = gpt.train(seconds=600)",
}


def test_the_stop_button_keeps_the_model_so_far_and_training_can_go_on(lab, server):
    cells = [new_code_cell(source) for source in CELLS.values()]
    for cell, name in zip(cells, CELLS, strict=True):
        cell.id = name
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), server.notebooks / "interrupt.ipynb")

    notebook = lab.open("interrupt")
    notebook.cell("make").run()
    train = notebook.cell("train")
    train.locator.locator(".jp-InputArea-prompt").first.click()
    notebook.page.keyboard.press("Shift+Enter")
    notebook.until(lambda: "loss=" in train.text(), "it trains")
    notebook.interrupt()
    notebook.until(lambda: "train" not in notebook.left(), "the cell has ended")
    assert not notebook.errors()
    steps = int(notebook.python("history.steps[-1]"))
    assert steps > 0 and notebook.python("history.interrupted") == "True"
    assert len(notebook.python("gpt.generate('the', 8)")) > 2
    assert notebook.python("gpt.train(steps=2, progress=False).interrupted") == "False"
