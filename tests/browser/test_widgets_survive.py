"""00_play under people's hands: they drag while it writes, press again and again, paste whole books, restart the kernel."""

MOVES = 200
GROWTH = 20_000_000     # bytes that the kernel may take more after so many moves


def test_widgets_survive_people(lab):
    notebook = lab.open("00_play")
    notebook.run_all()
    drag_while_it_writes(notebook)
    press_again_and_again(notebook)
    paste_a_book(notebook)
    move_and_move(notebook)
    assert not notebook.errors()
    restart_the_kernel(notebook)


def drag_while_it_writes(notebook):
    talk, bars = notebook.cell("talk"), notebook.cell("next-token")
    log = talk.output.locator(".minigpt-written")
    talk.box("prompt").fill("She was")
    talk.slider("new tokens").press("End")
    expected = notebook.python("'She was' + gpt.generate('She was', 400, temperature=0.8, seed=1)")
    before = bars.text()
    talk.button("Write").click()
    for to in (0.9, 0.1, 0.6, 0.2, 0.8):
        bars.slider("temperature").drag(to, stops=8)
    notebook.until(lambda: repr(log.text_content()) == expected, "what was being written is whole, in spite of the dragging")
    notebook.until(lambda: bars.text() != before, "and the bars have followed")
    shown = bars.slider("temperature").readout()
    first = notebook.python(f"f'{{gpt.next_token_probs(\"It is a truth universally\", {shown})[1][0]:.3f}}'").strip("'")
    notebook.until(lambda: bars.output.locator("td:nth-child(2)").first.inner_text() == first, "the bars are those of the slider")


def press_again_and_again(notebook):
    cell = notebook.cell("talk")
    log = cell.output.locator(".minigpt-written")
    for _ in range(20):
        cell.button("Write").click()
    cell.slider("new tokens").press("Home")
    cell.box("prompt").fill("Emma")
    cell.button("Write").click()
    expected = notebook.python("'Emma' + gpt.generate('Emma', 10, temperature=0.8, seed=1)")
    notebook.until(lambda: repr(log.text_content()) == expected, "the last press has the last word")
    assert log.count() == 1 and cell.output.locator('[role="alert"]').count() == 0


def paste_a_book(notebook):
    cell = notebook.cell("talk")
    log = cell.output.locator(".minigpt-written")
    cell.box("prompt").fill("book " * 19_999 + "end.\u202e")
    cell.button("Write").click()
    notebook.until(lambda: "end.\u202e" in log.text_content() and not log.text_content().endswith("\u202e"),
                   "100,000 characters are continued")
    assert log.text_content().startswith("… ") and len(log.text_content()) < 2000
    cell.box("prompt").fill("She was")


def move_and_move(notebook):
    """Bars, attention maps (pictures) and the talk's sliders: 200 moves, after some to warm up."""
    bars, heads = notebook.cell("next-token").slider("temperature"), notebook.cell("attention").slider("head")

    def move(times: int) -> int:
        for i in range(times // 4):
            bars.press("ArrowRight" if i % 20 < 10 else "ArrowLeft", 2)
            heads.press("ArrowRight" if i % 2 else "ArrowLeft", 2)
        notebook.until(lambda: f"head {heads.readout()}." in notebook.cell("attention").alt_texts()[0], "the last move is drawn")
        return int(notebook.python("__import__('psutil').Process().memory_info().rss"))

    before = move(40)
    growth = move(MOVES) - before
    assert growth <= GROWTH, f"{MOVES} moves have cost {growth / 1e6:.1f} MB"


def restart_the_kernel(notebook):
    notebook.restart()
    notebook.run_all()
    cell = notebook.cell("talk")
    cell.slider("new tokens").press("Home")
    cell.box("prompt").fill("She was")
    cell.button("Write").click()
    expected = notebook.python("'She was' + gpt.generate('She was', 10, temperature=0.8, seed=1)")
    log = cell.output.locator(".minigpt-written")
    notebook.until(lambda: log.count() == 1 and repr(log.text_content()) == expected, "after a restart it writes again")
