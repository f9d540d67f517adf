"""On a plane, and in every place that a class has: no network, odd paths, an old console, one thread or two.

`EVERYTHING` is the part of the suite that is run in each environment: import, train, save, load, go on, talk.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import TEXT, TINY

import minigpt

PACKAGE = Path(minigpt.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
# The wall: a server that a teacher starts, and a thread that only `join` does. tests/test_wall.py looks at both.
# And the ranks that train one model together, once torchrun or srun has started several.
NETWORKED = {PACKAGE / "classroom" / "wall" / f"{name}.py" for name in ("__main__", "member", "server")} | {PACKAGE / "ranks.py"}

NO_NETWORK = """
import sys

def no_network(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"):
        if not isinstance(arguments[-1], (str, bytes)) or event != "socket.connect":     # a path: a socket of this machine
            raise AssertionError(f"the network was asked for: {event} {arguments}")

sys.addaudithook(no_network)
"""

EVERYTHING = """
import sys
from pathlib import Path

from minigpt import GPT, Tokenizer
from minigpt.__main__ import main

# Names come from the command line, as they would: in the C locale a name with "é" in it can't be written as a string here.
text = Path(sys.argv[1])
model = text.with_suffix(".safetensors")
gpt = GPT.from_files([text], vocab_size=280, d_model=16, n_heads=2, n_layers=1, d_ff=32, context_length=8)
first = gpt.train(steps=3, batch_size=4, progress=False)
gpt.save(model)
loaded = GPT.load(model)
assert loaded.generate("é🙂", 20, seed=1) == gpt.generate("é🙂", 20, seed=1)
assert loaded.evaluate("é🙂") == gpt.evaluate("é🙂")
assert loaded.train(steps=2, batch_size=4, text=text.read_text(encoding="utf-8"), progress=False).steps == [1, 2]
gpt.tokenizer.save(text.with_suffix(".json"))
assert Tokenizer.load(text.with_suffix(".json")) == gpt.tokenizer
assert main(["train", str(text), "--out", str(model), "--steps", "3", "--save-every", "1", *sys.argv[2:]]) == 0
assert main(["sample", str(model), "--prompt", "é🙂漢", "--max-new-tokens", "5", "--seed", "1"]) == 0
assert main(["evaluate", str(model), str(text)]) == 0
assert main(["sample", str(text.with_suffix(".nothing"))]) == 2
print("everything went well")
"""


def everything(folder, before="", arguments=(), within=(), **environment):
    """Run it in a Python of its own, started by `within`; the text has a non-ASCII name and the line endings of Windows."""
    text = folder / "Größe é.txt"
    text.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    script = folder / "everything.py"
    script.write_text(before + EVERYTHING, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    result = subprocess.run([*within, sys.executable, *arguments, script, text, *TINY], capture_output=True, cwd=folder,
                            env=kept | environment)
    assert result.returncode == 0, result.stderr.decode("utf-8", "replace")
    assert b"everything went well" in result.stdout


ENVIRONMENTS = {
    "plain C locale, no UTF-8 mode": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "a console in cp1252": {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
    "a home that is not there, two threads": {"HOME": "/nonexistent", "USERPROFILE": "/nonexistent", "OMP_NUM_THREADS": "2"},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_everything_works_in(environment, tmp_path):
    if "LC_ALL" in environment and not sys.prefix.isascii():
        pytest.skip("in the locale C, PyTorch is not found in a folder named like this")
    everything(tmp_path, **{"OMP_NUM_THREADS": "1"} | environment)


def test_everything_works_without_a_network_and_with_every_warning_an_error(tmp_path):
    folder = tmp_path / "a folder with spaces, Größe 模型"
    folder.mkdir()
    everything(folder, NO_NETWORK, arguments=["-W", "error", "-W", "ignore::ImportWarning"])


def test_the_guard_against_the_network_bites():
    script = NO_NETWORK + "\nimport socket\nsocket.create_connection(('127.0.0.1', 9), 1)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 1 and "the network was asked for" in result.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="file modes are POSIX's")
def test_everything_works_where_home_and_repository_are_read_only(tmp_path):
    within = []
    if os.geteuid() == 0:                                           # root may write anywhere, unless that is taken away
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere, and there is no setpriv to take that away")
        within = ["setpriv", "--bounding-set=-dac_override"]
    home, repository = tmp_path / "home", tmp_path / "repository"
    home.mkdir()
    shutil.copytree(PACKAGE, repository / "minigpt", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (home, repository, *repository.rglob("*")):
        path.chmod(path.stat().st_mode & 0o555)
    before = f"""
import os, minigpt
assert minigpt.__file__.startswith({str(repository)!r})
assert not any(os.access(path, os.W_OK) for path in ({str(home)!r}, os.path.dirname(minigpt.__file__), minigpt.__file__))
"""
    everything(tmp_path, before, within=within, HOME=str(home), PYTHONPATH=str(repository))


@pytest.mark.parametrize("source", sorted({*SOURCES} - NETWORKED), ids=lambda source: str(source.relative_to(PACKAGE)))
def test_no_module_can_reach_the_network(source):
    """Neither by an import nor by an address in a string that something could fetch."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    imported = {name.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    if "socket" in imported:            # the marking's two ends: a file on this machine, and no address
        text = source.read_text(encoding="utf-8")
        assert source.parent.name == "marking" and text.count("socket.socket(") == text.count("socket.socket(socket.AF_UNIX)")
        imported.remove("socket")
    assert not imported & {"socket", "urllib", "http", "ftplib", "requests", "httpx", "aiohttp", "huggingface_hub", "urllib3"}
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    fetched = [string for string in strings if re.search(r"(src|href)\s*=\s*['\"]?(https?:)?//|url\(|@import|https?://", string)]
    assert [string for string in fetched if "http://www.w3.org/" not in string] == []         # the name of SVG, no address


# What runs a student's answers, in a process with limits, and the teacher's own test cells; no other does.
RUN_WHAT_THEY_READ = {PACKAGE / "marking" / "worker.py", PACKAGE / "marking" / "judge.py"}


def test_nothing_of_the_package_executes_what_it_reads():
    for source in set(SOURCES) - RUN_WHAT_THEY_READ:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.id if isinstance(called, ast.Name) else None
            assert name not in {"eval", "exec", "compile", "__import__"}, f"{source}:{node.lineno}"
            attribute = ast.unparse(called) if isinstance(called, ast.Attribute) else ""
            assert attribute not in {"torch.load", "pickle.load", "pickle.loads", "os.system"}, f"{source}:{node.lineno}"
