"""`run.py teach` on a projector: one notebook, large, and nothing beside it or in front of it."""

import importlib.util
import json
from pathlib import Path

import pytest
from minigpt_browser_lab import PATIENCE, Server

ROOT = Path(__file__).parents[2]
specification = importlib.util.spec_from_file_location("minigpt_run", ROOT / "run.py")
run = importlib.util.module_from_spec(specification)
specification.loader.exec_module(run)


@pytest.fixture
def projector(tmp_path, browser):
    """JupyterLab's page for one notebook, with the settings that `teach` gives it."""
    server = Server(tmp_path)
    for names, settings in run.PROJECTOR.items():
        file = tmp_path.joinpath("settings", "@jupyterlab", *names).with_suffix(".jupyterlab-settings")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.set_default_timeout(3 * PATIENCE * 1000)
    page.goto(f"{server.address}/doc/tree/02_attention.ipynb?token={server.token}", wait_until="commit")
    page.locator(".jp-CodeCell .cm-line").first.wait_for()
    page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)")
    yield page
    page.close()
    server.stop()


def font_size(page, what):
    return page.locator(what).first.evaluate("node => getComputedStyle(node).fontSize")


def test_a_projector_shows_one_notebook_large_and_nothing_to_click_away(projector):
    projector.wait_for_function("() => getComputedStyle(document.querySelector('.cm-content')).fontSize === '18px'")
    assert font_size(projector, ".jp-MarkdownOutput p") == "18px"
    assert font_size(projector, ".jp-OutputArea-output pre") == "18px"
    for beside in ("#jp-left-stack", "#jp-right-stack", "#jp-main-statusbar", "#jp-main-dock-panel .lm-DockPanel-tabBar",
                   ".jp-Dialog", ".Toastify__toast"):
        assert not any(node.is_visible() for node in projector.locator(beside).all()), beside
