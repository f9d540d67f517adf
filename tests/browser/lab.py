"""A JupyterLab in a headless Chromium, and the few things that a student does in it, for the tests beside this file.

    def test_the_bars_follow_the_slider(lab):
        notebook = lab.open("02_attention")
        notebook.run_all()
        explorer = notebook.cell("scale-explore")
        before = explorer.alt_texts()
        explorer.slider("d").press("ArrowRight")
        notebook.until(lambda: explorer.alt_texts() != before, "the picture follows the slider")

`conftest.py` makes the `lab`. What runs here is what a class runs: its own server with its token on, on loopback, the
notebook's own kernel, mouse and keyboard. Nothing may be fetched from anywhere else, and no dialog may open: both fail
the test. Cells are found by their ids, controls by their labels.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import TimeoutError

ROOT = Path(__file__).parents[2]
SCREENSHOTS = Path(__file__).with_name("screenshots")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]
PATIENCE = 90           # seconds for anything that takes one: the machine may be busy with other tests
SETTINGS = {            # what a test needs to be sure of; the rest is as a student meets it
    "notebook-extension/tracker": {"windowingMode": "none"},       # cells off the screen are drawn too
    "docmanager-extension/plugin": {"autosave": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def chromium(playwright) -> str:
    """The Chromium to use. Raises FileNotFoundError with what to do where there is none: these tests never skip."""
    candidates = [os.environ.get("MINIGPT_CHROMIUM"), "/usr/bin/chromium", playwright.chromium.executable_path]
    for candidate in filter(None, candidates):
        if Path(candidate).exists():
            return candidate
    raise FileNotFoundError("the browser tests need Chromium: install it (`apt install chromium`, or "
                            "`playwright install chromium`), or put its path into MINIGPT_CHROMIUM")


class Server:
    """A JupyterLab of this interpreter on a copy of the notebooks, with settings and files of its own."""

    def __init__(self, folder: Path, theme: str = "JupyterLab Light"):
        self.folder = folder
        self.notebooks = folder / "notebooks"
        shutil.copytree(ROOT / "notebooks", self.notebooks, ignore=shutil.ignore_patterns(".*"))
        settings = {**SETTINGS, "apputils-extension/themes": {"theme": theme}}
        for name, values in settings.items():
            file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address, self.token = f"http://127.0.0.1:{port}", secrets.token_hex(16)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "OMP_WAIT_POLICY": "PASSIVE", "JUPYTER_NO_CONFIG": "1", "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
            **{f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")},
        }
        with open(folder / "server.log", "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
                 "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}", "--allow-root",
                 f"--ServerApp.root_dir={self.notebooks}", "--LabApp.expose_app_in_browser=True",
                 "--LabApp.extension_manager=readonly"],
                env=environment, cwd=folder, stdout=log, stderr=log)
        self.wait()

    def ask(self, path: str, method: str = "GET"):
        request = urllib.request.Request(f"{self.address}/api/{path}", method=method,
                                         headers={"Authorization": f"token {self.token}"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or "null")

    def wait(self) -> None:
        deadline = time.monotonic() + 2 * PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                return self.ask("status")
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise RuntimeError("JupyterLab did not start:\n" + (self.folder / "server.log").read_text()[-2000:])

    def end_kernels(self) -> None:
        for session in self.ask("sessions"):
            self.ask(f"sessions/{session['id']}", "DELETE")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Lab:
    """A fresh browser window on the server. `open` a notebook in it."""

    def __init__(self, server: Server, browser):
        self.server = server
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.context.set_default_timeout(PATIENCE * 1000)
        self.complaints: list[str] = []                 # what must not have happened by the end of the test
        self.opened = 0

    def open(self, name: str) -> "Notebook":
        """Opens `name` (without .ipynb) in a page of its own and waits for its kernel."""
        if not (self.server.notebooks / f"{name}.ipynb").exists():
            raise FileNotFoundError(f"no notebook {name}.ipynb in notebooks/")
        page = self.context.new_page()
        page.on("dialog", lambda dialog: (self.complaints.append(f"a dialog opened: {dialog.message}"),
                                          dialog.dismiss()))
        page.on("request", lambda request: self._watch(request.url))
        self.opened += 1
        page.goto(f"{self.server.address}/lab/workspaces/{self.opened}{secrets.token_hex(4)}/tree/{name}.ipynb"
                  f"?token={self.server.token}", wait_until="commit")
        notebook = Notebook(page, name)
        notebook.wait_until_ready()
        return notebook

    def _watch(self, url: str) -> None:
        if not url.startswith((self.server.address, self.server.address.replace("http", "ws"), "data:", "blob:")):
            self.complaints.append(f"asked for {url}")

    def close(self) -> None:
        self.context.close()
        self.server.end_kernels()


# The page's notebook. JupyterLab's "current widget" may be another one, or none, while the page is laid out.
PANEL = "[...(window.jupyterapp?.shell.widgets('main') ?? [])].find(widget => widget.context)"


class Notebook:
    """An open notebook. `page` is Playwright's page, for what is not here."""

    def __init__(self, page, name: str):
        self.page, self.name = page, name

    def wait_until_ready(self) -> None:
        self.until(lambda: self.page.evaluate(f"() => !!({PANEL}?.content.widgets?.length && "
                                              f"{PANEL}.sessionContext.session?.kernel)"), "the notebook is open")
        self.ask(f"""async () => {{
            await {PANEL}.context.ready; await {PANEL}.revealed; await {PANEL}.sessionContext.ready;
            await {PANEL}.sessionContext.session.kernel.info;
            window.jupyterapp.shell.collapseLeft();                 // room for the notebook
            for (const cell of {PANEL}.content.widgets) cell.node.dataset.cellId = cell.model.id;
        }}""", "the kernel is there")

    def run_all(self, seconds: float = 2 * PATIENCE, may_fail=()) -> None:
        """Run > Run All Cells, until the last is done. Raises AssertionError where a cell shows an error."""
        self.clear()
        self.page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.until(lambda: not self.left() or self.errors().keys() - set(may_fail), "all cells have run", seconds)
        errors = {cell: error for cell, error in self.errors().items() if cell not in may_fail}
        assert not errors, f"{self.name}: {errors}"

    def clear(self) -> None:
        """Edit > Clear Outputs of All Cells."""
        self.ask("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')", "the outputs are cleared")

    def save(self) -> None:
        """File > Save Notebook."""
        self.ask("() => window.jupyterapp.commands.execute('docmanager:save')", "the notebook is saved")

    def left(self) -> list[str]:
        """Ids of the cells that have not run: JupyterLab sets a cell's count when its last output is there.

        The kernel's status says less: it is idle between two cells, and whenever a widget has been served meanwhile.
        """
        return self.page.evaluate(f"""() => ({PANEL}?.content.widgets ?? []).filter(cell =>
            cell.model.type === 'code' && cell.model.sharedModel.source && !cell.model.executionCount
        ).map(cell => cell.model.id)""")

    def errors(self) -> dict[str, str]:
        """Cell id -> the error that it shows. A mistake that an exercise's check names counts as one."""
        return self.page.evaluate(f"""() => Object.fromEntries(({PANEL}?.content.widgets ?? []).flatMap(cell =>
            (cell.model.type === 'code' ? cell.model.outputs.toJSON() : [])
                .filter(output => output.output_type === 'error')
                .map(output => [cell.model.id, output.ename + ': ' + output.evalue])))""")

    def until(self, condition, what: str, seconds: float = PATIENCE) -> None:
        """Waits until `condition()` is true. Raises AssertionError with `what` should have come true, and how things stand.

        A cell that has run may be drawn a moment later: what the condition looks for in it need not be there yet.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except (IndexError, TimeoutError):
                pass
            assert time.monotonic() < deadline, (
                f"{self.name}: after {seconds:g} s it is not true that {what}. Kernel: {self.kernel_status()}; "
                f"errors: {self.errors()}; cells that have not run: {self.left()}")
            self.page.wait_for_timeout(50)

    def kernel_status(self) -> str:
        return self.page.evaluate(f"() => {PANEL}?.sessionContext.session?.kernel?.status")

    def ask(self, script: str, what: str, argument=None):
        """What the `script`, which may be asynchronous, returns in the page. Raises AssertionError with `what` as `until` does.

        Not `page.evaluate`, which waits for ever: a kernel that dies never answers.
        """
        try:
            return self.page.wait_for_function(f"async argument => [await ({script})(argument)]", arg=argument,
                                               timeout=PATIENCE * 1000).json_value()[0]
        except TimeoutError:
            raise AssertionError(f"{self.name}: after {PATIENCE} s it is not true that {what}. "
                                 f"Kernel: {self.kernel_status()}") from None

    def python(self, expression: str) -> str:
        """`repr` of an expression, evaluated in the notebook's kernel. Raises AssertionError where it fails."""
        answer = self.ask(f"""async expression => {{
            const future = {PANEL}.sessionContext.session.kernel.requestExecute(
                {{code: '', silent: true, user_expressions: {{it: expression}}}});
            return (await future.done).content.user_expressions.it;
        }}""", f"the kernel answers {expression}", expression)
        assert answer["status"] == "ok", f"{expression}: {answer.get('ename')}: {answer.get('evalue')}"
        return answer["data"]["text/plain"]

    def interrupt(self) -> None:
        self.ask(f"() => {PANEL}.sessionContext.session.kernel.interrupt()", "the kernel is interrupted")

    def restart(self) -> None:
        """Kernel > Restart Kernel, until the new one answers."""
        self.ask(f"""async () => {{
            const kernel = {PANEL}.sessionContext.session.kernel;
            await kernel.restart();
            await kernel.requestKernelInfo();
        }}""", "the kernel has restarted")

    def cell(self, cell_id: str) -> "Cell":
        return Cell(self, cell_id)

    def screenshot(self, name: str, whole: bool = False) -> Path:
        """Keeps a picture of the window, or of the `whole` notebook, as screenshots/NAME.png."""
        size = self.page.viewport_size
        if whole:
            self.page.set_viewport_size({**size, "height": 1000})
            height = self.page.evaluate("() => document.querySelector('.jp-WindowedPanel-outer').scrollHeight")
            self.page.set_viewport_size({**size, "height": min(16_000, height + 200)})
            self.page.evaluate("() => document.querySelector('.jp-WindowedPanel-outer').scrollTo(0, 0)")
            self.page.wait_for_timeout(500)
        path = SCREENSHOTS / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        self.page.screenshot(path=path)
        self.page.set_viewport_size(size)
        return path


class Cell:
    """A cell, and the controls that its output shows."""

    def __init__(self, notebook: Notebook, cell_id: str):
        self.notebook, self.page, self.cell_id = notebook, notebook.page, cell_id
        self.locator = self.page.locator(f'[data-cell-id="{cell_id}"]')
        self.output = self.locator.locator(".jp-Cell-outputWrapper")

    def run(self, seconds: float = PATIENCE) -> None:
        """Runs this cell alone, by Shift-Enter's command, until its last output is there."""
        self.page.evaluate(f"""id => {{
            const notebook = {PANEL}.content;
            notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.id === id);
            notebook.deselectAll();
            notebook.activeCell.model.clearExecution();
            void window.jupyterapp.commands.execute('notebook:run-cell-and-select-next');
        }}""", self.cell_id)
        self.notebook.until(lambda: self.cell_id not in self.notebook.left(), f"the cell {self.cell_id} has run", seconds)

    def text(self) -> str:
        """What the output says to a reader."""
        return "\n".join(self.output.locator(".jp-OutputArea-output").all_inner_texts())

    def before(self) -> str:
        """What the stylesheet puts before the card, such as that its kernel is gone."""
        return self.output.locator(".minigpt").first.evaluate("card => getComputedStyle(card, '::before').content")

    def alt_texts(self) -> list[str]:
        """What a screen reader says of each picture: of images, and of tables and drawings that are one."""
        return self.output.locator("img, [role=img]").evaluate_all(
            "pictures => pictures.map(picture => picture.getAttribute('alt') ?? picture.getAttribute('aria-label'))")

    def pictures(self) -> list[str]:
        """The pictures as the page holds them: two are equal where they look the same."""
        return self.output.locator("img, [role=img]").evaluate_all("pictures => pictures.map(picture => picture.outerHTML)")

    def slider(self, label: str) -> "Slider":
        return Slider(self.page, self.output.get_by_role("slider", name=label, exact=True).first)

    def box(self, label: str = ""):
        """The text box or area with that label (or the first one): `.fill("words")`, `.press("Enter")`."""
        boxes = self.output.locator(".minigpt-text-box input, textarea")
        if label:
            boxes = boxes.and_(self.output.get_by_label(label, exact=True))
        return boxes.first

    def labelled(self, kind: str, label: str):
        name = self.page.locator(".widget-label", has_text=re.compile(f"^\\s*{re.escape(label)}\\s*$"))
        return self.output.locator(kind, has=name).first

    def chooser(self, label: str):
        """The drop-down list with that label: `.select_option("words")`."""
        return self.labelled(".widget-dropdown", label).locator("select")

    def checkbox(self, label: str):
        """The check box with that label: `.check()`, `.uncheck()`."""
        return self.output.locator(".widget-checkbox", has_text=label).first.locator("input[type=checkbox]")

    def button(self, label: str):
        """The button that starts with that label: `.click()`."""
        return self.output.locator("button", has_text=re.compile(f"^[✓✗ ]*{re.escape(label)}")).first

    def screenshot(self, name: str) -> Path:
        path = SCREENSHOTS / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        self.locator.screenshot(path=path)
        return path


class Slider:
    """A slider and the number beside it. `handle` has the focus when it is moved by keys."""

    def __init__(self, page, handle):
        self.page, self.handle = page, handle
        self.number = handle.locator("xpath=ancestor::*[contains(@class, 'minigpt-slider')]").locator("> :last-child")

    def press(self, key: str = "ArrowRight", times: int = 1) -> None:
        """Presses a key (ArrowRight, ArrowLeft, Home, End, …) on the handle."""
        for _ in range(times):
            self.handle.press(key)

    def drag(self, to: float, stops: int = 10, release: bool = True) -> None:
        """Drags the handle with the mouse to a fraction (0 to 1) of the track, by way of `stops` places."""
        self.handle.scroll_into_view_if_needed()
        track = self.handle.bounding_box()
        share = self.handle.evaluate("it => (it.value - it.min) / (it.max - it.min)")
        y, thumb = track["y"] + track["height"] / 2, 16
        self.page.mouse.move(track["x"] + thumb / 2 + share * (track["width"] - thumb), y)
        self.page.mouse.down()
        self.page.mouse.move(track["x"] + to * track["width"], y, steps=stops)
        if release:
            self.page.mouse.up()

    def type(self, number: str) -> None:
        """Types into the number beside the slider, and Enter."""
        self.number.fill(number)
        self.number.press("Enter")

    def readout(self) -> str:
        return self.number.evaluate("it => it.value")
