"""The shipped model as a web page, in a headless Chromium: how soon it is ready, how fast it writes, how soon a slider shows."""

import os
import tempfile
import time
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright

from benchmarks.measure import row
from minigpt import GPT

WRITE = """async () => {
    const began = performance.now();
    await minigpt.generate("It is a truth", {maxNewTokens: 400, seed: 1});
    return 400 / (performance.now() - began) * 1000;
}"""
DRAG = """() => Array.from({length: 20}, (_, i) => {
    const slider = document.getElementById("temperature"), began = performance.now();
    slider.value = i / 10;
    slider.dispatchEvent(new Event("input"));
    document.getElementById("bars").getBoundingClientRect();        // laid out, ready to be painted
    return performance.now() - began;
})"""


def rows() -> list[dict]:
    """Seconds until it is ready, of 2; tokens a second, of 150; milliseconds until the bars have moved, of 50."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "page.html"
        GPT.pretrained().save_page(path)
        browser = playwright.chromium.launch(executable_path=os.environ.get("MINIGPT_CHROMIUM"), args=["--no-sandbox"])
        ready, speeds, drags = [], [], []
        for _ in range(5):
            page, began = browser.new_page(), time.perf_counter()
            page.goto(path.as_uri())
            page.evaluate("minigpt.ready")
            ready.append(time.perf_counter() - began)
            speeds.append(page.evaluate(WRITE))
            drags += page.evaluate(DRAG)
            page.close()
        browser.close()
    return [row("the shipped model's page, from opening to ready, of 2 s allowed (s)", median(ready), 2, 1.0),
            row("tokens a second that it writes, against 150", median(speeds), 150, 1.0, at_least=True),
            row("from a slider's move to the bars', of 50 ms allowed (ms)", median(drags), 50, 1.0)]
