"""Every widget for everybody: names, live regions, zoom, high contrast, small screens. In a real JupyterLab."""

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_code_cell, new_notebook

CELLS = {
    "imports": "import torch\nfrom minigpt import GPT\nfrom minigpt.classroom import *\ngpt = GPT.pretrained()",
    "choose": 'predict("02_attention/scale")',
    "type": 'predict("02_attention/average")',
    "hints": 'hints("02_attention/attention")',
    "talk": "talk(gpt)",
    "next": "next_token(gpt)",
    "attention": "attention_explorer(gpt)",
    "heads": "head_explorer(gpt)",
    "foreign": "attention_explorer(gpt, '源氏物語 🙂 नमस्ते')",
    "long": "head_explorer(gpt, 'It is a truth universally acknowledged, that a single man in possession of a good fortune')",
    "desk": "mixing_desk()",
    "query": "query_explorer()",
    "saturation": "saturation_explorer()",
    "cost": "cost_explorer()",
    "sizes": "size_explorer()",
    "norm": "norm_explorer()",
    "bytes": "byte_explorer()",
    "tokens": "token_explorer()",
    "merges": "merge_explorer()",
    "descent": "descent_explorer()",
    "schedule": "schedule_explorer()",
    "five": "sampling_explorer(['happy', 'sad', 'very'], torch.tensor([2., 1., 0.]))",
    "live": "live_training(gpt)",
    "source": "show_source(GPT.evaluate)",
    "coloured": 'coloured([b"She", b" was", b" glad"])',
    "heat": "heat_map(torch.eye(2), ['she', 'was'], ['she', 'was'], alt='she looks at she, was at was')",
    "score": "predictions()",
}
CARDS = [name for name in CELLS if name not in ("imports", "hints")]


@pytest.fixture
def gallery(lab, server):
    """All widgets, one below another."""
    cells = [new_code_cell(source, id=name) for name, source in CELLS.items()]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), server.notebooks / "gallery.ipynb")
    notebook = lab.open("gallery")
    notebook.run_all()
    notebook.until(lambda: notebook.page.get_by_role("slider").count() > 40, "the widgets are drawn")
    return notebook


def test_every_widget_is_for_everybody(gallery):
    """One opening of the notebook, since the widgets take a while: what each part asks of them stands below."""
    nothing_serious(gallery)
    every_slider_has_a_name(gallery)
    fits(gallery, 1280, 720)
    fits(gallery, 1024, 576)                # 1280 x 720 at a zoom of 125 %
    arrow_keys_move_the_slider_and_not_the_notebook(gallery)
    high_contrast(gallery)
    double_zoom(gallery)
    the_finished_text_is_announced_once(gallery)


def nothing_serious(notebook):
    notebook.page.evaluate("() => document.querySelectorAll('.jp-OutputArea-child').forEach(it => it.classList.add('audited'))")
    found = Axe().run(notebook.page, {"include": [[".audited"]]}).response["violations"]
    serious = {problem["id"]: [node["html"] for node in problem["nodes"]] for problem in found
               if problem["impact"] in ("serious", "critical")}
    assert not serious, serious


def every_slider_has_a_name(notebook):
    names = notebook.page.locator("input[type=range]").evaluate_all("them => them.map(it => it.labels[0]?.innerText.trim())")
    assert len(names) > 40 and all(names)


def fits(notebook, width, height):
    """A slider and all that it moves are on one screen."""
    notebook.page.set_viewport_size({"width": width, "height": height})
    notebook.page.wait_for_timeout(500)
    room = notebook.page.locator(".jp-WindowedPanel-outer").first.bounding_box()["height"]
    tall = {name: box["height"] for name in CARDS if (box := notebook.cell(name).output.bounding_box())["height"] > room}
    assert not tall, f"at {width} x {height} there is room for {room}: {tall}"
    wide = notebook.page.locator(".minigpt").evaluate_all("them => them.map(it => it.scrollWidth - it.clientWidth)")
    assert max(wide) <= 1, f"at {width} x {height} something is cut off on the right"


def arrow_keys_move_the_slider_and_not_the_notebook(notebook):
    merges = notebook.cell("merges").slider("merges")
    active = "() => document.querySelector('.jp-mod-active')?.dataset.cellId"
    merges.handle.focus()
    before, shown = notebook.page.evaluate(active), int(merges.readout())
    for key, moved in (("ArrowDown", -1), ("ArrowUp", 0), ("ArrowRight", 1)):
        merges.press(key)
        assert int(merges.readout()) == shown + moved
    assert notebook.page.evaluate(active) == before


def high_contrast(notebook):
    """In forced colours backgrounds vanish; bars, buttons and the focus are borders and outlines."""
    notebook.page.emulate_media(forced_colors="active")
    style = "(it, name) => getComputedStyle(it)[name]"
    bar = notebook.cell("next").output.locator(".minigpt-bar").first
    assert bar.evaluate(style, "borderTopWidth") == "20px" and bar.bounding_box()["width"] > 10
    button = notebook.cell("talk").button("Write")
    assert button.evaluate(style, "borderTopStyle") == "solid"
    slider = notebook.cell("merges").slider("merges")
    slider.press("ArrowRight")
    assert slider.handle.evaluate(style, "outlineStyle") == "solid"
    cell = notebook.cell("heads").output.locator("tbody td").first
    assert cell.evaluate(style, "backgroundColor") == "rgb(253, 231, 37)"       # the first token's 1.00, in viridis
    notebook.page.emulate_media(forced_colors="none")


def double_zoom(notebook):
    """At 200 % nothing is cut off: the borders of the boxes are inside of what holds them."""
    notebook.page.set_viewport_size({"width": 640, "height": 360})
    notebook.page.wait_for_timeout(500)
    cut = notebook.page.locator(".minigpt input, .minigpt select, .minigpt button").evaluate_all("""them => them.filter(it => {
        const box = it.getBoundingClientRect(), card = it.closest('.minigpt').getBoundingClientRect();
        return box.width && (box.left < card.left - 1 || box.right > card.right + 1);
    }).map(it => it.outerHTML)""")
    assert not cut
    notebook.page.set_viewport_size({"width": 1280, "height": 720})


def the_finished_text_is_announced_once(notebook):
    talk = notebook.cell("talk")
    notebook.page.evaluate("""cell => {
        const region = document.querySelector(`[data-cell-id=${cell}] [role=log]`);
        window.region = region;
        window.spoken = [];
        new MutationObserver(() => window.spoken.push(region.textContent))
            .observe(region, {childList: true, characterData: true, subtree: true});
    }""", "talk")
    talk.box("prompt").fill("She was")
    talk.box("prompt").press("Enter")
    expected = notebook.python("'She was' + gpt.generate('She was', 100, temperature=0.8, seed=1)")
    notebook.until(lambda: repr(talk.output.locator(".minigpt-written").text_content()) == expected, "it has written")
    notebook.until(lambda: notebook.page.evaluate("() => window.spoken.length") > 0, "it is spoken")
    assert [repr(text) for text in notebook.page.evaluate("() => window.spoken")] == [expected]
    assert notebook.page.evaluate("() => window.region.isConnected")
    assert talk.output.locator("[aria-live], [role=log], [role=status], [role=alert]").count() == 1
