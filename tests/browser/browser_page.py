"""A page of a model in a headless Chromium: opened as a file, with every way to a network watched and none taken."""

import json
from pathlib import Path


class Opened:
    """A page in a window of its own. `page` is Playwright's page, `complaints` is what must not have happened."""

    def __init__(self, browser, path: Path, ready: bool = True, **options):
        self.context = browser.new_context(offline=True, **options)
        self.context.set_default_timeout(90_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self._watch(request.url, path))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        if ready:
            self.page.on("console", lambda message: self.complaints.append(f"the console says {message.text}"))
            self.page.on("pageerror", lambda error: self.complaints.append(f"an error: {error}"))
        self.page.goto(path.as_uri())
        if ready:
            self.page.evaluate("minigpt.ready")

    def _watch(self, url: str, path: Path) -> None:
        if url != path.as_uri() and not url.startswith("data:"):
            self.complaints.append(f"asked for {url}")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.close()
        assert error[0] or not self.complaints, self.complaints

    def call(self, script: str, argument=None):
        """What a function of the page returns; text travels as JSON, so that no character is lost on its way."""
        return json.loads(self.page.evaluate(f"async given => JSON.stringify(await ({script})(JSON.parse(given)))",
                                             json.dumps(argument)))

    def encode(self, texts: list[str]) -> list[list[int]]:
        return self.call("texts => texts.map(minigpt.encode)", texts)

    def logits(self, ids: list[int]) -> list[float]:
        return self.call("minigpt.logits", ids)

    def generate(self, prompt: str, **settings) -> str:
        return self.call("([prompt, settings]) => minigpt.generate(prompt, settings)", [prompt, settings])
